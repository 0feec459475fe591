"""Run the tasks of a study that are not done yet, and record what was done."""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import click
import pandas as pd

from gradcam_adv import (
    artifacts,
    backbones,
    batches,
    metrics,
    outcomes,
    readings,
    report,
    scoring,
    sources,
    variations,
    weights,
)
from gradcam_adv.setting import Setting, versions
from gradcam_adv.study import Arm, Study
from gradcam_adv.tasks import STAGES, Graph, Task, make_task

Maker = Callable[[Path], list[Path]]


@dataclass(frozen=True)
class Branch:
    """A study, or a variation of it, with its own models, in the run's folder.

    Attributes:
        study: what to do.
        settings: by arm, what its stages share.
        tasks: by name, in the order in which they run.
    """

    study: Study
    settings: dict[Arm, Setting]
    tasks: dict[str, Task]

    @property
    def arms(self) -> dict[Arm, Setting]:
        """The settings of the study's own arms."""
        return {arm: self.settings[arm] for arm in self.study.arms}


class Pipeline:
    """The tasks of one study and its variations in one run's folder.

    What can be wrong with a study's photos, weights and layers is looked at before any work.

    Attributes:
        settings: by arm, what the stages of the study itself share.
    """

    def __init__(
        self, study: Study, folder: Path, models: Path, *, allow_left_out: bool = False
    ) -> None:
        """
        Args:
            study: what to do.
            folder: of the run.
            models: for the ``.keras`` files, a folder an arm.
            allow_left_out: go on however many photos can't be used.
        """
        self.study = study
        self.folder = folder
        self.models = models
        self.listing = sources.list_photos(
            study.photos, classes=study.classes, min_photos=study.min_photos, seed=study.seed
        )
        self.weights = weights.resolve(study.weights, study.networks)
        self._allow_left_out = allow_left_out
        self._own = self._branch(study, layers=True)
        self.settings = self._own.settings
        self._seeds = {seed: self._branch(own) for seed, own in variations.of_seeds(study).items()}
        self._started = False

    def _branch(self, study: Study, *, layers: bool = False) -> Branch:
        models = variations.models_folder(self.models, self.study, study)
        settings: dict[Arm, Setting] = {
            arm: Setting(study, arm, models / arm, self.listing, self.weights, {}, {})
            for arm in get_args(Arm)
        }
        graph = Graph(
            study, settings, self.folder, allow_left_out=self._allow_left_out, layers=layers
        )
        return Branch(study, settings, graph.tasks)

    def _tasks(self, until: str) -> list[Task]:
        """The tasks of the study up to a stage, without the report; once scored, of its seeds."""
        last = STAGES.index(until)
        own = [t for t in self._own.tasks.values() if STAGES.index(t.stage) <= last]
        if not self._seeds or last < STAGES.index("score"):
            return own
        seeds = [t for branch in self._seeds.values() for t in branch.tasks.values()]
        return [*{task.folder: task for task in (*own, *seeds)}.values(), self._seeds_task()]

    def _summarized(
        self, name: str, branches: dict[str, Branch], make: Maker, **choices: Any
    ) -> Task:
        """A task over whole branches, which hangs on what they predict and score."""
        earlier = {
            f"{which}: {task.name}": task
            for which, branch in branches.items()
            for task in branch.tasks.values()
            if task.name.endswith(("evaluate/summary", "score/summary"))
        }
        inputs = choices | {name: task.fingerprint for name, task in earlier.items()}
        return make_task(self.folder, name, "score", inputs, make, earlier.values())

    def _seeds_task(self) -> Task:
        branches = {self.study.seeds[0]: self._own, **self._seeds}
        by_seed = {seed: branch.arms for seed, branch in branches.items()}
        return self._summarized(
            "seeds",
            {f"seed {seed}": branch for seed, branch in branches.items()},
            lambda folder: outcomes.write_seeds(by_seed, folder),
            order=self.study.seeds,
            heatmap_size=self.study.readings.heatmap_size,
        )

    def _readings(self) -> tuple[list[Task], Task]:
        """The tasks of all readings, and the one over them; the study itself must be done."""
        native_fits = scoring.native_fits(self._own.arms.values())
        branches = {readings.DEFAULT: self._own} | {
            name: self._branch(own)
            for name, own in variations.of_readings(self.study, native_fits=native_fits).items()
        }
        tasks = {task.folder: task for b in branches.values() for task in b.tasks.values()}
        by_name = {name: branch.arms for name, branch in branches.items()}
        over = self._summarized(
            "readings", branches, lambda folder: outcomes.write_readings(by_name, folder)
        )
        return list(tasks.values()), over

    def _report_task(self) -> Task:
        """The report, with the seeds where there are several and the readings where done."""
        tasks = list(self._tasks("score"))
        _, over = self._readings()
        extra = {task.name: task for task in tasks if task.name == "seeds"}
        if self._is_done(over):
            extra["readings"] = over
        inputs: dict[str, Any] = {
            task.name: task.fingerprint
            for task in self._own.tasks.values()
            if task.name.endswith("/summary")
        } | {name: task.fingerprint for name, task in extra.items()}
        # Names, and people not chosen: the report tells of them, and nothing else hangs on them.
        people = self.listing.identities.to_numpy().tolist()
        inputs |= {"study": asdict(self.study), "identities": people}
        return make_task(
            self.folder,
            "report",
            "report",
            inputs,
            lambda folder: self._report({name: task.folder for name, task in extra.items()}),
            (*tasks, over),
        )

    def _report(self, extra: dict[str, Path]) -> list[Path]:
        data = self.settings["plain"].folders["data"]
        files = report.write(self._own.arms, data, self.folder, self.seconds(), extra)
        # A report of other arms or of an earlier version would lie among this one's tables.
        for manifest in self.folder.glob(f"report/*/{artifacts.MANIFEST}"):
            for name in _files_named_in(manifest):
                path = Path(os.path.normpath(manifest.parent / name))
                if path not in files and path.is_relative_to(self.folder):
                    path.unlink(missing_ok=True)
        return files

    def seconds(self) -> pd.DataFrame:
        """How long each task took when it was done: columns arm, stage, task, seconds."""
        rows = []
        for task in self._own.tasks.values():
            manifest = task.manifest()
            if manifest is not None:
                arm, key = task.name.split("/", 1)
                rows.append((arm, task.stage, key, manifest["seconds"]))
        return pd.DataFrame(rows, columns=["arm", "stage", "task", "seconds"])

    def run(self, until: str = "report", *, all_readings: bool = False) -> None:
        """Run every task up to the stage ``until`` that isn't done yet.

        Args:
            until: one of STAGES.
            all_readings: read the paper in other ways as well, before the report.
        """
        started = time.perf_counter()
        tasks = self._tasks(until)
        self._check_networks({task.stage for task in tasks if not self._is_done(task)})
        worked = self._do_all(tasks)
        if all_readings:
            others, over = self._readings()
            worked = self._do_all([*others, over]) or worked
        if until == "report":
            worked = self._do_all([self._report_task()]) or worked
        self._write_manifest()
        if worked:
            click.echo(f"{self.study.name}: {time.perf_counter() - started:.0f} s in all")
        else:
            click.echo(f"{self.study.name}: nothing to do, every stage up to {until} is done")

    def _do_all(self, tasks: list[Task]) -> bool:
        """Do the tasks that aren't done; whether there was one."""
        worked = False
        for task in tasks:
            # Asked for each in turn: a task done anew may have come out otherwise than before.
            if self._is_done(task):
                continue
            worked = True
            if task.networks:
                self._start()
            task.discard(keep_intact=self._needs_unchanged(task))
            began = time.perf_counter()
            try:
                files = task.make(task.folder)
            except BaseException:
                _record_unfinished(task)
                raise
            seconds = time.perf_counter() - began
            self._record(task, files, seconds)
            _forget_networks()
            click.echo(f"{task.name}: {seconds:.1f} s")
        return worked

    def _is_done(self, task: Task) -> bool:
        """Whether a task's files are as they were made, out of what its needs hold now."""
        return task.result() is not None and self._needs_unchanged(task)

    def _needs_unchanged(self, task: Task) -> bool:
        manifest = task.manifest()
        return manifest is not None and manifest["needs"] == self._results_needed(task)

    def _results_needed(self, task: Task) -> dict[str, str | None]:
        return {str(need.folder.relative_to(self.folder)): need.result() for need in task.needs}

    def _check_networks(self, stages_to_do: set[str]) -> None:
        """Look at what only a built network can tell, where a study leaves the defaults.

        Raises:
            ValueError: a weights file that isn't the network's, or as :func:`_check_layers`.
        """
        if "train" in stages_to_do:
            for network, chosen in self.weights.items():
                if chosen.origin == "file":
                    self._start()
                    backbones.build(network, self.study.image_size, chosen)
                    _forget_networks()
        native = self.study.readings.heatmap_size == "native"
        if "explain" in stages_to_do and (native or self.study.layers != "all"):
            self._start()
            _check_layers(self.study)

    def results(self, stage: str) -> list[Path]:
        """What a user wants to look at after ``stage``."""
        if stage == "report":
            return [self.folder / "report.md", self.folder / "report.html"]
        paths: list[Path] = []
        for arm in self.study.arms:
            if stage == "train":
                paths.append(self.models / arm)
            elif stage in ("attack", "explain"):
                paths.append(self.folder / arm / stage)
            else:
                key = stage if stage == "data" else f"{stage}/summary"
                paths += sorted(self.settings[arm].folders[key].glob("*.csv"))
        return paths

    def _start(self) -> None:
        """Bring up TensorFlow, once, before the first network."""
        if self._started:
            return
        self._started = True
        from gradcam_adv import gradients

        gradients.configure(self._threads())
        notes: dict[str, list[str]] = {}
        for network, chosen in self.weights.items():
            if chosen.note:
                notes.setdefault(chosen.note, []).append(network)
        for note, networks in notes.items():
            click.echo(
                f"warning: RANDOM WEIGHTS for {', '.join(networks)}: ImageNet's are {note}. "
                "Give a directory of weights files by --weights DIR.",
                err=True,
            )

    def _threads(self) -> int:
        return self.study.threads or batches.cores()

    def _record(self, task: Task, files: list[Path], seconds: float) -> None:
        artifacts.write_json(
            task.folder / artifacts.MANIFEST,
            {
                "task": task.name,
                "fingerprint": task.fingerprint,
                "seconds": round(seconds, 3),
                "threads": self._threads(),
                "batch_size": self.study.batch_size,
                "versions": versions(),
                "needs": self._results_needed(task),
                "files": artifacts.describe_files(files, task.folder),
            },
        )

    def _write_manifest(self) -> None:
        """Record what the run is of; each task's own manifest says how its files were made."""
        scored = all(self._is_done(task) for task in self._tasks("score"))
        report = [self._report_task()] if scored else []
        artifacts.write_json(
            self.folder / artifacts.MANIFEST,
            {
                "study": asdict(self.study),
                "weights": {
                    name: {"origin": chosen.origin, "sha256": chosen.sha256}
                    for name, chosen in self.weights.items()
                },
                "photos": str(self.listing.root),
                "models": str(self.models),
                "threads": self._threads(),
                "batch_size": self.study.batch_size,
                "versions": versions(),
                "tasks": {
                    task.name: str(task.folder.relative_to(self.folder))
                    for task in (*self._own.tasks.values(), *report)
                    if task.manifest() is not None
                },
            },
        )


def _record_unfinished(task: Task) -> None:
    """Name the files of a task that did not come to its end, so that :func:`clean` finds them."""
    files = [path for path in task.folder.rglob("*") if path.is_file()]
    if files:
        names = dict.fromkeys(str(path.relative_to(task.folder)) for path in files)
        artifacts.write_json(task.folder / artifacts.MANIFEST, {"task": task.name, "files": names})


def _check_layers(study: Study) -> None:
    """ValueError for layers that a network doesn't have or whose maps are too small to compare."""
    from gradcam_adv import classifiers, networks

    native = study.readings.heatmap_size == "native"
    for network in study.networks:
        backbone = backbones.find(network)
        base = backbones.build(network, study.image_size, weights.Weights("random"))
        networks.flatten(classifiers.features(base)).find(study.layers_of(network))
        height, width = base.get_layer(backbone.last_activation).output.shape[1:3]
        if native and min(height, width) < metrics.WINDOW:
            raise ValueError(
                f"Expected heatmaps of at least {metrics.WINDOW} x {metrics.WINDOW} for "
                f"readings.heatmap_size = 'native'. Received: {height} x {width} at "
                f"{backbone.last_activation} of {backbone.title} with image_size = "
                f"{study.image_size}"
            )
        _forget_networks()


def _forget_networks() -> None:
    """Give back what Keras keeps of graphs and names, or five networks pile up in memory."""
    if "keras" in sys.modules:
        sys.modules["keras"].utils.clear_session()
        gc.collect()


def clean(folder: Path, models: Path) -> int:
    """Delete the files that manifests below a run's folder name; how many there were.

    Files elsewhere than in the run's and the models' folders are never touched, whatever a
    manifest says, and folders only go when nothing else is left in them.
    """
    places = (folder.resolve(), models.resolve())
    named = set()
    for manifest in sorted(folder.rglob(artifacts.MANIFEST)):
        named.add(manifest.resolve())
        named.update((manifest.parent / name).resolve() for name in _files_named_in(manifest))
    removed = 0
    for path in named:
        if path.is_file() and any(path.is_relative_to(place) for place in places):
            path.unlink()
            removed += 1
    for place in places:
        for directory in sorted(place.rglob("*"), reverse=True):
            if directory.is_dir() and not any(directory.iterdir()):
                directory.rmdir()
        if place.is_dir() and not any(place.iterdir()):
            place.rmdir()
    return removed


def _files_named_in(manifest: Path) -> list[str]:
    try:
        return list(artifacts.read_json(manifest).get("files", {}))
    except ValueError:  # a damaged manifest names nothing
        return []
