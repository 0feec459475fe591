"""The tasks of a study: what each one makes, what that depends on, and where it lies."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from gradcam_adv.files import artifacts
from gradcam_adv.runs import records
from gradcam_adv.runs.engines import LOCAL, Engine
from gradcam_adv.runs.records import Record
from gradcam_adv.study.config import Arm, Study
from gradcam_adv.study.setting import Setting, levels_of, makers_of
from gradcam_adv.study.stages import explain as explaining
from gradcam_adv.study.stages import networks as stages
from gradcam_adv.study.stages import photos as arms
from gradcam_adv.study.stages import score as scoring

STAGES = ("data", "train", "attack", "evaluate", "explain", "score", "report")

# Raised when a result changes for the same inputs, so that old results count as stale.
VERSIONS = {
    "data": 3,
    "faces": 1,
    "features": 1,
    "train": 2,
    "attack": 2,
    "evaluate": 4,
    "explain": 5,
    "score": 5,
    "layers": 2,
    "seeds": 1,
    "readings": 2,
    "report": 9,
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
        needs: the tasks whose files it reads.
        networks: whether it runs one, MTCNN included.
        inputs: what the fingerprint is of, by name.
        model: the file that must be among its own, for models don't lie in its folder.
    """

    name: str
    stage: str
    fingerprint: str
    folder: Path
    make: Callable[[Path], list[Path]]
    needs: tuple[Task, ...]
    networks: bool
    inputs: dict[str, Any]
    model: Path | None = None

    def record(self) -> Record | None:
        """What was recorded when the task was done; None when it never was."""
        return records.manifest(self.folder)

    def result(self) -> str | None:
        """Hash of the contents of the task's files; None unless done and all files untouched."""
        record = self.record()
        if record is None or not artifacts.files_intact(record.files, self.folder):
            return None
        # What is a variation's model in one study is another's own, which has it elsewhere.
        if self.model is not None and self._name_of(self.model) not in record.files:
            return None
        return artifacts.fingerprint(
            {name: facts["sha256"] for name, facts in record.files.items()}
        )

    def about(self) -> dict[str, Any]:
        """What a record says of the task itself; long inputs by their hash."""
        model = {} if self.model is None else {"model": self._name_of(self.model)}
        inputs = {name: _short(value) for name, value in self.inputs.items()}
        return {"task": self.name, "fingerprint": self.fingerprint, "inputs": inputs, **model}

    def _name_of(self, path: Path) -> str:
        return os.path.relpath(path, self.folder)


def _short(value: Any) -> Any:
    text = json.dumps(value, ensure_ascii=False)
    return value if len(text) <= 1000 else f"sha256 {artifacts.fingerprint({'value': value})}"


def make_task(
    folder: Path,
    name: str,
    stage: str,
    inputs: dict[str, Any],
    make: Callable[[Path], list[Path]],
    earlier: Iterable[Task],
    *,
    networks: bool = False,
    model: Path | None = None,
) -> Task:
    """A task of the run in ``folder``; of the ``earlier`` ones it needs those among its inputs."""
    needs = tuple(task for task in earlier if task.fingerprint in inputs.values())
    kind = name.split("/")[1] if "/" in name else name
    inputs = {"version": VERSIONS[kind], **inputs}
    fingerprint = artifacts.fingerprint({"task": name, **inputs})
    place = folder / name / fingerprint[:12]
    return Task(name, stage, fingerprint, place, make, needs, networks, inputs, model)


class Graph:
    """The tasks of a study's arms in an order in which they can be done.

    It fills the settings' folders. Two graphs in one folder share the tasks of equal inputs.

    Attributes:
        tasks: by name.
    """

    def __init__(
        self,
        study: Study,
        settings: dict[Arm, Setting],
        folder: Path,
        *,
        allow_left_out: bool,
        layers: bool,
        engine: Engine = LOCAL,
    ) -> None:
        """
        Args:
            study: what to do.
            settings: by arm, what its stages share.
            folder: of the run.
            allow_left_out: go on however many photos can't be used.
            layers: also explain and score the example photos, layer by layer.
            engine: does the slices. It is no part of what a result depends on.
        """
        self._study = study
        self._settings = settings
        self._folder = folder
        self._allow_left_out = allow_left_out
        self._layers = layers
        self._engine = engine
        self.tasks: dict[str, Task] = {}
        self._add_all()

    def _add_all(self) -> None:
        plain, aligned = self._settings["plain"], self._settings["aligned"]
        self._data(plain)
        if "aligned" in self._study.arms:
            self._faces(plain)
            self._crops(plain, aligned)
        for arm in self._study.arms:
            self._of_networks(self._settings[arm])

    def _of_arm(
        self,
        setting: Setting,
        key: str,
        stage: str,
        inputs: dict[str, Any],
        make: Callable[[Path], list[Path]],
        *,
        networks: bool = False,
        model: Path | None = None,
    ) -> None:
        earlier = self.tasks.values()
        name = f"{setting.arm}/{key}"
        task = make_task(
            self._folder, name, stage, inputs, make, earlier, networks=networks, model=model
        )
        setting.folders[key] = task.folder
        setting.fingerprints[key] = task.fingerprint
        self.tasks[name] = task

    def _data(self, plain: Setting) -> None:
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
        make = partial(arms.data, plain, allow_left_out=self._allow_left_out, engine=self._engine)
        self._of_arm(plain, "data", "data", inputs, make)

    def _faces(self, plain: Setting) -> None:
        inputs = {"data": plain.fingerprints["data"], "detector": arms.DETECTOR}
        make = partial(arms.detect, plain, engine=self._engine)
        self._of_arm(plain, "faces", "data", inputs, make, networks=True)

    def _crops(self, plain: Setting, aligned: Setting) -> None:
        study = self._study
        inputs = {
            "data": plain.fingerprints["data"],
            "faces": plain.fingerprints["faces"],
            "image_size": study.image_size,
            "margin": study.margin,
        }
        make = partial(arms.crop, plain, allow_left_out=self._allow_left_out, engine=self._engine)
        self._of_arm(aligned, "data", "data", inputs, make)

    def _of_networks(self, setting: Setting) -> None:
        self._each(setting, "features", "train", self._features)
        self._each(setting, "train", "train", self._train)
        self._each(setting, "attack", "attack", self._attack)
        self._each(setting, "evaluate", "evaluate", self._evaluate)
        self._summary(setting, "evaluate", "evaluate", stages.summarize, {})
        if self._layers:
            self._each(setting, "explain", "explain", self._explain)
        self._each(setting, "score", "score", self._score)
        vid_levels = {"vid_levels": self._study.readings.vid_levels}
        self._summary(setting, "score", "score", scoring.summarize, vid_levels)
        if self._layers:
            self._each(setting, "layers", "score", self._score_layers)
            self._summary(setting, "layers", "score", scoring.summarize_layers, {})

    def _features(self, setting: Setting, network: str) -> dict[str, Any]:
        study, weights = self._study, setting.weights[network]
        return {
            "data": setting.fingerprints["data"],
            "weights": [weights.origin, weights.sha256],
            "image_size": study.image_size,
            "preprocessing": study.readings.preprocessing,
            "pooling": study.readings.pooling,
            "batch_size": study.batch_size,
            "seed": study.seed,
        }

    def _train(self, setting: Setting, network: str) -> dict[str, Any]:
        return {
            "features": setting.fingerprints[f"features/{network}"],
            "epochs": self._study.epochs,
            "seed": self._study.seeds[0],
        }

    def _attack(self, setting: Setting, network: str) -> dict[str, Any]:
        return {
            "train": setting.fingerprints[f"train/{network}"],
            "attacked_label": self._study.readings.attacked_label,
            **_precision(self._study),
        }

    def _evaluate(self, setting: Setting, network: str) -> dict[str, Any]:
        study, readings = self._study, self._study.readings
        made = [f"attack/{maker}" for maker in makers_of(study, network)]
        # Of the source's black-box rows it writes the white-box ones as well, at no other level.
        alias = {"white_box": True} if "white-box" in study.attacks else {}
        return {
            "train": setting.fingerprints[f"train/{network}"],
            **{key: setting.fingerprints[key] for key in made},
            **(alias if network == study.source else {}),
            "levels": levels_of(study, network),
            "epsilon_unit": readings.epsilon_unit,
            "perturbed_set": readings.perturbed_set,
            "seed": study.seed,
            **_precision(study),
        }

    def _explain(self, setting: Setting, network: str) -> dict[str, Any]:
        study = self._study
        return {
            "evaluate": setting.fingerprints[f"evaluate/{network}"],
            "explained_class": study.readings.explained_class,
            "layers": study.layers_of(network),
            "examples": study.examples,
        }

    def _score(self, setting: Setting, network: str) -> dict[str, Any]:
        return {
            "evaluate": setting.fingerprints[f"evaluate/{network}"],
            "explained_class": self._study.readings.explained_class,
        }

    def _score_layers(self, setting: Setting, network: str) -> dict[str, Any]:
        return {"explain": setting.fingerprints[f"explain/{network}"]}

    def _each(
        self,
        setting: Setting,
        kind: str,
        stage: str,
        inputs_of: Callable[[Setting, str], dict[str, Any]],
    ) -> None:
        """One task a network; attacks only on those whose signs somebody gets."""
        study = self._study
        for network in study.networks:
            if kind == "attack" and not any(network in makers_of(study, n) for n in study.networks):
                continue
            self._of_arm(
                setting,
                f"{kind}/{network}",
                stage,
                inputs_of(setting, network),
                self._maker(setting, kind, network),
                networks=True,
                model=setting.models / f"{network}.keras" if kind == "train" else None,
            )

    def _summary(
        self,
        setting: Setting,
        kind: str,
        stage: str,
        make: Callable[[Setting, Path], list[Path]],
        choice: dict[str, Any],
    ) -> None:
        """One task over all networks."""
        prints = {n: setting.fingerprints[f"{kind}/{n}"] for n in self._study.networks}
        inputs = prints | {"seed": self._study.seed} | choice
        self._of_arm(
            setting, f"{kind}/summary", stage, inputs, lambda folder: make(setting, folder)
        )

    def _maker(self, setting: Setting, kind: str, network: str) -> Callable[[Path], list[Path]]:
        if kind == "train":  # of all features at once
            return lambda folder: stages.train(setting, folder, network)
        return lambda folder: _SLICED[kind](setting, folder, network, self._engine)


def _precision(study: Study) -> dict[str, Any]:
    """An input of what networks compute but in training; none in float32, as in older runs."""
    return {} if study.precision == "float32" else {"precision": study.precision}


_SLICED = {
    "features": stages.features,
    "attack": stages.attack,
    "evaluate": stages.evaluate,
    "explain": explaining.explain,
    "score": scoring.score,
    "layers": scoring.layers,
}
