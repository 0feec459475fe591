"""The stages in their order: what each hangs on, which are done already, run the rest."""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import pandas as pd

from gradcam_adv import (
    artifacts,
    backbones,
    batches,
    datasets,
    metrics,
    report,
    scoring,
    stages,
    tables,
    weights,
)
from gradcam_adv.setting import Setting, predictions, versions
from gradcam_adv.study import Study

STAGES = ("data", "train", "attack", "evaluate", "explain", "score", "report")

# Raised when a stage's result changes for the same inputs, so that old results count as stale.
STAGE_VERSIONS = {
    "data": 1,
    "train": 1,
    "attack": 1,
    "evaluate": 1,
    "explain": 1,
    "score": 1,
    "report": 1,
}


@dataclass(frozen=True)
class Task:
    """One stage of one network, or of all.

    Attributes:
        name: such as "attack/vgg16", "data".
        fingerprint: of everything that its result depends on.
        folder: of its files; it follows from name and fingerprint, so a result is never mixed
            with that of other inputs, and comes back to use when the inputs come back.
        make: writes the files and returns them.
        needs: names of the tasks whose files it reads.
    """

    name: str
    fingerprint: str
    folder: Path
    make: Callable[[Path], list[Path]]
    needs: tuple[str, ...]

    @property
    def stage(self) -> str:
        return self.name.split("/")[0]

    def manifest(self) -> dict[str, Any] | None:
        """What was recorded when the task was done; None when it never was."""
        path = self.folder / artifacts.MANIFEST
        try:
            manifest = artifacts.read_json(path)
        except (FileNotFoundError, ValueError):  # a damaged manifest records nothing
            return None
        return manifest if {"files", "needs", "seconds"} <= manifest.keys() else None

    def result(self) -> str | None:
        """Hash of the contents of the task's files; None unless done and all files untouched."""
        manifest = self.manifest()
        if manifest is None or not artifacts.files_intact(manifest["files"], self.folder):
            return None
        return artifacts.fingerprint(
            {name: facts["sha256"] for name, facts in manifest["files"].items()}
        )

    def discard(self, keep_intact: bool) -> None:
        """Delete the files of a result that no longer holds, so that none is taken for whole.

        ``keep_intact`` spares those that are still as they were made.
        """
        for name, facts in (self.manifest() or {"files": {}})["files"].items():
            if not (keep_intact and artifacts.files_intact({name: facts}, self.folder)):
                Path(os.path.normpath(self.folder / name)).unlink(missing_ok=True)
        (self.folder / artifacts.MANIFEST).unlink(missing_ok=True)


class Pipeline:
    """The tasks of one study in one run's folder.

    What can be wrong with a study's photos, weights and layers is looked at before any work.
    """

    def __init__(self, study: Study, folder: Path, models: Path) -> None:
        self.study = study
        self.folder = folder
        self._started = False
        self.setting = Setting(
            study=study,
            models=models,
            listing=datasets.list_photos(study.photos),
            weights=weights.resolve(study.weights, study.networks),
            folders={},
            fingerprints={},
        )
        self.tasks = {task.name: task for task in self._tasks()}

    def _task(self, name: str, inputs: dict[str, Any], make: Callable[[Path], list[Path]]) -> Task:
        done = self.setting.fingerprints
        needs = tuple(needed for needed, print_ in done.items() if print_ in inputs.values())
        version = STAGE_VERSIONS[name.split("/")[0]]
        fingerprint = artifacts.fingerprint({"task": name, "version": version, **inputs})
        folder = self.folder / name / fingerprint[:12]
        self.setting.folders[name] = folder
        self.setting.fingerprints[name] = fingerprint
        return Task(name, fingerprint, folder, make, needs)

    def _tasks(self) -> Iterator[Task]:
        study, setting, done = self.study, self.setting, self.setting.fingerprints
        readings = study.readings
        files = setting.listing.files
        yield self._task(
            "data",
            {
                "files": files.to_numpy().tolist(),
                "identities": study.identities,
                "maximum_photos": study.maximum_photos,
                "split": study.split,
                "image_size": study.image_size,
                "seed": study.seed,
            },
            lambda folder: stages.data(setting, folder),
        )
        inputs: dict[str, Callable[[str], dict[str, Any]]] = {
            "train": lambda network: {
                "data": done["data"],
                "weights": [setting.weights[network].origin, setting.weights[network].sha256],
                "image_size": study.image_size,
                "preprocessing": readings.preprocessing,
                "perturbed_set": readings.perturbed_set,
                "pooling": readings.pooling,
                "epochs": study.epochs,
                "batch_size": study.batch_size,
                "seed": study.seed,
            },
            "attack": lambda network: {
                "train": done[f"train/{network}"],
                "attacked_label": readings.attacked_label,
            },
            "evaluate": lambda network: {
                "attack": done[f"attack/{network}"],
                "source": done[f"attack/{study.source}"],
                "is_source": network == study.source,
                "epsilons": study.epsilons,
                "epsilon_unit": readings.epsilon_unit,
                "seed": study.seed,
            },
            "explain": lambda network: {
                "evaluate": done[f"evaluate/{network}"],
                "explained_class": readings.explained_class,
                "layers": study.layers_of(network),
                "examples": study.examples,
            },
            "score": lambda network: {"explain": done[f"explain/{network}"]},
        }
        for stage, inputs_of in inputs.items():
            for network in study.networks:
                yield self._task(
                    f"{stage}/{network}", inputs_of(network), self._maker(stage, network)
                )
            if stage == "evaluate":
                yield self._summary("evaluate", self._summarize_predictions, {})
            if stage == "score":
                choice = {"vid_levels": readings.vid_levels}
                yield self._summary("score", self._summarize_nissim, choice)
        yield self._task(
            "report",
            {
                "study": asdict(study),
                "evaluate": done["evaluate/summary"],
                "score": done["score/summary"],
            },
            self._report,
        )

    def _maker(self, stage: str, network: str) -> Callable[[Path], list[Path]]:
        by_network = {
            "train": stages.train,
            "attack": stages.attack,
            "evaluate": stages.evaluate,
            "explain": stages.explain,
            "score": scoring.score,
        }
        return lambda folder: by_network[stage](self.setting, folder, network)

    def _summary(
        self, stage: str, make: Callable[[Path], list[Path]], choice: dict[str, Any]
    ) -> Task:
        prints = {n: self.setting.fingerprints[f"{stage}/{n}"] for n in self.study.networks}
        return self._task(f"{stage}/summary", prints | {"seed": self.study.seed} | choice, make)

    def _summarize_predictions(self, folder: Path) -> list[Path]:
        predicted = pd.concat(
            [predictions(self.setting, network) for network in self.study.networks],
            ignore_index=True,
        )
        return _write_tables(
            folder,
            predictions=predicted,
            accuracy=tables.accuracy(predicted),
            psnr=tables.psnr(predicted),
            zero_gradients=tables.zero_gradients(predicted),
        )

    def _summarize_nissim(self, folder: Path) -> list[Path]:
        def scored(pattern: str) -> pd.DataFrame:
            parts = [
                artifacts.read_table(path)
                for network in self.study.networks
                for path in sorted(self.setting.folders[f"score/{network}"].glob(pattern))
            ]
            return pd.concat(parts, ignore_index=True)

        nissim, ceiling = scored("nissim-*.csv"), scored("ceiling.csv")
        with_zero = self.study.readings.vid_levels == "all"
        return _write_tables(
            folder,
            nissim=nissim,
            ceiling=ceiling,
            layers=scored("layers.csv"),
            mod=tables.mod(nissim, ceiling, self.study.seed),
            vid=tables.vid(nissim, self.study.seed, with_zero=with_zero),
        )

    def _report(self, folder: Path) -> list[Path]:
        return report.write(self.setting, self.folder, self.seconds())

    def seconds(self) -> pd.Series[float]:
        """How long each stage took when it was done, by stage."""
        by_stage = dict.fromkeys(STAGES, 0.0)
        for task in self.tasks.values():
            by_stage[task.stage] += (task.manifest() or {"seconds": 0.0})["seconds"]
        return pd.Series(by_stage, name="seconds").drop("report")

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
            if task.stage not in ("data", "report"):
                self._start()
            task.discard(keep_intact=self._needs_unchanged(task))
            began = time.perf_counter()
            files = task.make(task.folder)
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
            for network, chosen in self.setting.weights.items():
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
        if stage == "train":
            return [self.setting.models]
        if stage in ("attack", "explain"):
            return [self.folder / stage]
        if stage == "report":
            return [self.folder / "report.md"]
        task = self.tasks[stage if stage == "data" else f"{stage}/summary"]
        return sorted(task.folder.glob("*.csv"))

    def _start(self) -> None:
        """Bring up TensorFlow, once, before the first network."""
        if self._started:
            return
        self._started = True
        from gradcam_adv import gradients

        gradients.configure(self._threads())
        notes: dict[str, list[str]] = {}
        for network, chosen in self.setting.weights.items():
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
                    for name, chosen in self.setting.weights.items()
                },
                "photos": str(self.setting.listing.root),
                "models": str(self.setting.models),
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


def _check_layers(study: Study) -> None:
    """ValueError for layers that a network doesn't have or whose maps are too small to compare."""
    from gradcam_adv import gradcam

    native = study.readings.heatmap_size == "native"
    for network in study.networks:
        backbone = backbones.find(network)
        base = backbones.build(network, study.image_size, weights.Weights("random"))
        gradcam.find_layers(base, study.layers_of(network))
        height, width = base.get_layer(backbone.last_activation).output.shape[1:3]
        if native and min(height, width) < metrics.WINDOW:
            raise ValueError(
                f"Expected heatmaps of at least {metrics.WINDOW} x {metrics.WINDOW} for "
                f"readings.heatmap_size = 'native'. Received: {height} x {width} at "
                f"{backbone.last_activation} of {backbone.title} with image_size = "
                f"{study.image_size}"
            )
        _forget_networks()


def _write_tables(folder: Path, **by_name: pd.DataFrame) -> list[Path]:
    for name, table in by_name.items():
        artifacts.write_table(folder / f"{name}.csv", table)
    return [folder / f"{name}.csv" for name in by_name]


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
