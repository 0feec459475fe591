"""The tasks of a study: what each one makes, what that depends on, and where it lies."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gradcam_adv import arms, artifacts, scoring, stages
from gradcam_adv.setting import Setting
from gradcam_adv.study import Arm, Study

STAGES = ("data", "train", "attack", "evaluate", "explain", "score", "report")

# Raised when a result changes for the same inputs, so that old results count as stale.
VERSIONS = {
    "data": 2,
    "faces": 1,
    "train": 1,
    "attack": 1,
    "evaluate": 3,
    "explain": 4,
    "score": 3,
    "report": 5,
}


@dataclass(frozen=True)
class Task:
    """One stage of one network in one arm, or what comes before or after all networks.

    Attributes:
        name: such as "plain/attack/vgg16", "report".
        stage: one of STAGES.
        fingerprint: of everything that its result depends on.
        folder: of its files; it follows from name and fingerprint, so a result is never mixed
            with that of other inputs, and comes back to use when the inputs come back.
        make: writes the files and returns them.
        needs: names of the tasks whose files it reads.
        networks: whether it runs one, MTCNN included.
    """

    name: str
    stage: str
    fingerprint: str
    folder: Path
    make: Callable[[Path], list[Path]]
    needs: tuple[str, ...]
    networks: bool

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


class Graph:
    """All tasks of a study in an order in which they can be done; fills the settings' folders."""

    def __init__(
        self,
        study: Study,
        settings: dict[Arm, Setting],
        folder: Path,
        report: Callable[[Path], list[Path]],
        *,
        allow_left_out: bool,
    ) -> None:
        self._study = study
        self._settings = settings
        self._folder = folder
        self._allow_left_out = allow_left_out
        self._fingerprints: dict[str, str] = {}
        self.tasks = {task.name: task for task in self._tasks(report)}

    def _tasks(self, report: Callable[[Path], list[Path]]) -> Iterator[Task]:
        plain, aligned = self._settings["plain"], self._settings["aligned"]
        yield self._data(plain)
        if "aligned" in self._study.arms:
            yield self._faces(plain)
            yield self._crops(plain, aligned)
        for arm in self._study.arms:
            yield from self._of_networks(self._settings[arm])
        inputs: dict[str, Any] = {
            f"{arm}/{stage}": self._settings[arm].fingerprints[f"{stage}/summary"]
            for arm in self._study.arms
            for stage in ("evaluate", "score")
        }
        # Names, and people not chosen: the report tells of them, and nothing else hangs on them.
        people = plain.listing.identities.to_numpy().tolist()
        inputs = {"study": asdict(self._study), "identities": people, **inputs}
        yield self._task("report", "report", inputs, report)

    def _task(
        self,
        name: str,
        stage: str,
        inputs: dict[str, Any],
        make: Callable[[Path], list[Path]],
        *,
        networks: bool = False,
    ) -> Task:
        needs = tuple(n for n, print_ in self._fingerprints.items() if print_ in inputs.values())
        kind = name.split("/")[1] if "/" in name else name
        fingerprint = artifacts.fingerprint({"task": name, "version": VERSIONS[kind], **inputs})
        self._fingerprints[name] = fingerprint
        folder = self._folder / name / fingerprint[:12]
        return Task(name, stage, fingerprint, folder, make, needs, networks)

    def _of_arm(
        self,
        setting: Setting,
        key: str,
        stage: str,
        inputs: dict[str, Any],
        make: Callable[[Path], list[Path]],
        *,
        networks: bool = False,
    ) -> Task:
        task = self._task(f"{setting.arm}/{key}", stage, inputs, make, networks=networks)
        setting.folders[key] = task.folder
        setting.fingerprints[key] = task.fingerprint
        return task

    def _data(self, plain: Setting) -> Task:
        study = self._study
        inputs = {
            "files": plain.listing.files.to_numpy().tolist(),
            "stray": plain.listing.stray,
            "classes": study.classes,
            "min_photos": study.min_photos,
            "max_photos": study.max_photos,
            "split": study.split,
            "seed": study.seed,
        }
        return self._of_arm(
            plain, "data", "data", inputs, lambda f: arms.data(plain, f, self._allow_left_out)
        )

    def _faces(self, plain: Setting) -> Task:
        inputs = {"data": plain.fingerprints["data"], "detector": arms.DETECTOR}
        return self._of_arm(
            plain, "faces", "data", inputs, lambda f: arms.detect(plain, f), networks=True
        )

    def _crops(self, plain: Setting, aligned: Setting) -> Task:
        study = self._study
        inputs = {
            "data": plain.fingerprints["data"],
            "faces": plain.fingerprints["faces"],
            "image_size": study.image_size,
            "margin": study.margin,
        }
        return self._of_arm(
            aligned, "data", "data", inputs, lambda f: arms.crop(plain, f, self._allow_left_out)
        )

    def _of_networks(self, setting: Setting) -> Iterator[Task]:
        study, done = self._study, setting.fingerprints
        readings = study.readings
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
            "score": lambda network: {
                "evaluate": done[f"evaluate/{network}"],
                "explain": done[f"explain/{network}"],
            },
        }
        for stage, inputs_of in inputs.items():
            for network in study.networks:
                yield self._of_arm(
                    setting,
                    f"{stage}/{network}",
                    stage,
                    inputs_of(network),
                    _maker(setting, stage, network),
                    networks=True,
                )
            if stage == "evaluate":
                yield self._summary(setting, stage, stages.summarize, {})
            if stage == "score":
                choice = {"vid_levels": readings.vid_levels}
                yield self._summary(setting, stage, scoring.summarize, choice)

    def _summary(
        self,
        setting: Setting,
        stage: str,
        make: Callable[[Setting, Path], list[Path]],
        choice: dict[str, Any],
    ) -> Task:
        prints = {n: setting.fingerprints[f"{stage}/{n}"] for n in self._study.networks}
        inputs = prints | {"seed": self._study.seed} | choice
        return self._of_arm(
            setting, f"{stage}/summary", stage, inputs, lambda folder: make(setting, folder)
        )


def _maker(setting: Setting, stage: str, network: str) -> Callable[[Path], list[Path]]:
    by_network = {
        "train": stages.train,
        "attack": stages.attack,
        "evaluate": stages.evaluate,
        "explain": stages.explain,
        "score": scoring.score,
    }
    return lambda folder: by_network[stage](setting, folder, network)
