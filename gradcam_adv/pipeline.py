"""Run the tasks of a study that are not done yet, and record what was done."""

from __future__ import annotations

import gc
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import get_args

import click
import pandas as pd

from gradcam_adv import artifacts, backbones, batches, metrics, report, sources, weights
from gradcam_adv.setting import Setting, versions
from gradcam_adv.study import Arm, Study
from gradcam_adv.tasks import STAGES, Graph, Task


class Pipeline:
    """The tasks of one study in one run's folder.

    What can be wrong with a study's photos, weights and layers is looked at before any work.

    Attributes:
        settings: by arm, what its stages share.
        tasks: by name, in the order in which they run.
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
        self.settings: dict[Arm, Setting] = {
            arm: Setting(study, arm, models / arm, self.listing, self.weights, {}, {})
            for arm in get_args(Arm)
        }
        self.tasks = Graph(
            study, self.settings, folder, self._report, allow_left_out=allow_left_out
        ).tasks
        self._started = False

    def _report(self, folder: Path) -> list[Path]:
        chosen = {arm: self.settings[arm] for arm in self.study.arms}
        data = self.settings["plain"].folders["data"]
        files = report.write(chosen, data, self.folder, self.seconds())
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
        for task in self.tasks.values():
            manifest = task.manifest()
            if manifest is not None and task.stage != "report":
                arm, key = task.name.split("/", 1)
                rows.append((arm, task.stage, key, manifest["seconds"]))
        return pd.DataFrame(rows, columns=["arm", "stage", "task", "seconds"])

    def run(self, until: str = "report") -> None:
        """Run every task up to the stage ``until`` that isn't done yet."""
        started = time.perf_counter()
        last = STAGES.index(until)
        wanted = [task for task in self.tasks.values() if STAGES.index(task.stage) <= last]
        todo = [task for task in wanted if not self._is_done(task)]
        if not todo:
            click.echo(f"{self.study.name}: nothing to do, every stage up to {until} is done")
        self._check_networks({task.stage for task in todo})
        for task in wanted:
            # Asked again for each: a task done anew may have come out otherwise than before.
            if self._is_done(task):
                continue
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
        self._write_manifest()
        if todo:
            click.echo(f"{self.study.name}: {time.perf_counter() - started:.0f} s in all")

    def _is_done(self, task: Task) -> bool:
        """Whether a task's files are as they were made, out of what its needs hold now."""
        return task.result() is not None and self._needs_unchanged(task)

    def _needs_unchanged(self, task: Task) -> bool:
        manifest = task.manifest()
        return manifest is not None and manifest["needs"] == self._results_needed(task)

    def _results_needed(self, task: Task) -> dict[str, str | None]:
        return {name: self.tasks[name].result() for name in task.needs}

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
                    for task in self.tasks.values()
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
