"""The attack: what is added to every test photo, made on one network."""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from gradcam_adv import validation
from gradcam_adv.attacks import Perturbations, ScaledPerturbations, SignPerturbations
from gradcam_adv.attacks.names import TITLES
from gradcam_adv.files import read, write
from gradcam_adv.runs.engines import WriteSlice
from gradcam_adv.runs.records import Names
from gradcam_adv.study.photos import by_fold, in_one
from gradcam_adv.study.settings import Precision
from gradcam_adv.study.stages.network_task import NetworkTask, SlicedTask
from gradcam_adv.study.stages.train import Train

# What an attack makes of pixels and labels, by the name of the array.
_Make = Callable[[np.ndarray, np.ndarray], dict[str, np.ndarray]]


@dataclass(frozen=True, eq=False, kw_only=True)
class Attack(NetworkTask, SlicedTask):
    """One attack on one network, for every network that gets it; one file per slice."""

    kind = stage = "attack"
    names = Names(r"\d{7}\.np[yz]")
    reads_pixels = True

    train: Train
    attacked_label: Literal["true", "predicted", "next"]
    precision: Precision

    @abc.abstractmethod
    def perturbations(self, places: Sequence[int], sizes: Sequence[float]) -> Perturbations:
        """Of the test photos at these places, by size in pixels: float32 (n, H, W, 3)."""

    @abc.abstractmethod
    def zero_gradient(self, places: Sequence[int]) -> np.ndarray:
        """The share of exact zeros in the gradient at each of these clean photos, (n,)."""

    @abc.abstractmethod
    def _prepared(self, model: Any, batch_size: int) -> _Make:
        """The attack on a model, ready to be made."""

    @abc.abstractmethod
    def _write(self, path: Path, arrays: Mapping[str, np.ndarray]) -> None:
        """Write the arrays of a slice."""

    def begin(self) -> WriteSlice:
        from gradcam_adv.graph.predictor import Predictor

        batch_size = self.train.features.batch_size

        @functools.lru_cache(1)
        def prepared(fold: int | None) -> tuple[_Make, Callable[[np.ndarray], np.ndarray]]:
            model = self.train.model(self.precision, fold)
            return self._prepared(model, batch_size), Predictor(model, batch_size)

        def write_slice(name: str, rows: pd.DataFrame, pixels: np.ndarray) -> None:
            parts = []
            for fold, part in by_fold(rows):
                make, logits_of = prepared(fold)
                labels = rows["label"].to_numpy()[part]
                with validation.naming(rows["photo"].tolist()[part], self.network):
                    if self.attacked_label == "predicted":
                        labels = logits_of(pixels[part]).argmax(axis=1)
                    elif self.attacked_label == "next":
                        labels = (labels + 1) % len(self.photos.identities)
                    parts.append(make(pixels[part], labels))
            self._write(self.path(name), in_one(parts))

        return write_slice

    def _gathered(self, places: Sequence[int], load: Callable[[Path], np.ndarray]) -> np.ndarray:
        """What ``load`` finds in the files of the slices, for the test photos at these places."""
        paths = self.paths()
        starts = [int(path.stem) for path in paths]
        of = np.searchsorted(starts, places, side="right") - 1
        loaded = {i: load(paths[i]) for i in np.unique(of)}
        return np.stack([loaded[i][place - starts[i]] for i, place in zip(of, places, strict=True)])


@dataclass(frozen=True, eq=False, kw_only=True)
class SignAttack(Attack):
    """FGSM: int8 signs (n, H, W, 3). One gradient serves every epsilon."""

    file = "{}.npy"

    @property
    def effort(self) -> float:
        return self.seconds(3 * len(self.photos.test))

    def perturbations(self, places: Sequence[int], sizes: Sequence[float]) -> Perturbations:
        return SignPerturbations(self._signs(places), sizes)

    def zero_gradient(self, places: Sequence[int]) -> np.ndarray:
        return np.asarray((self._signs(places) == 0).mean(axis=(1, 2, 3)))

    def _signs(self, places: Sequence[int]) -> np.ndarray:
        return self._gathered(places, read.array)

    def _prepared(self, model: Any, batch_size: int) -> _Make:
        from gradcam_adv.attacks.fgsm import FGSM

        fgsm = FGSM(model, batch_size=batch_size)
        return lambda pixels, labels: {"signs": fgsm.signs(pixels, labels)}

    def _write(self, path: Path, arrays: Mapping[str, np.ndarray]) -> None:
        write.array(path, arrays["signs"])


@dataclass(frozen=True, eq=False, kw_only=True)
class ScaledAttack(Attack):
    """Any other attack, made for each size: int8 with a scale for each photo and size.

    For each size the arrays "steps <size>" and "scales <size>" of
    :class:`gradcam_adv.attacks.ScaledPerturbations`; and "zero_gradient", float64 (n,).

    Attributes:
        attack: its name.
        settings: all of them, by name.
        unit: the factor from epsilon to a change of pixels.
        epsilons: at which it is made.
    """

    file = "{}.npz"

    attack: str
    settings: Mapping[str, Any]
    unit: float
    epsilons: tuple[float, ...]

    @property
    def name(self) -> str:
        unit = "" if self.unit == 1 else f"-{self.unit:.3g}"
        return f"{super().name}-{self.attack}{unit}"

    @property
    def title(self) -> str:
        return f"{TITLES[self.attack]} on {self.network}, {self.arm}"

    @property
    def effort(self) -> float:
        gradients = self.settings.get("steps", 1) * self.settings.get("restarts", 1)
        passes = 3 * gradients + self.settings.get("queries", 0)
        return self.seconds(passes * len(self.epsilons) * len(self.photos.test))

    @property
    def sizes(self) -> list[float]:
        """The sizes in pixels at which it is made."""
        return [epsilon * self.unit for epsilon in self.epsilons]

    def perturbations(self, places: Sequence[int], sizes: Sequence[float]) -> Perturbations:
        steps, scales = (
            np.stack([self._gathered(places, _array(_named(kind, size))) for size in sizes])
            for kind in ("steps", "scales")
        )
        return ScaledPerturbations(steps, scales, sizes)

    def zero_gradient(self, places: Sequence[int]) -> np.ndarray:
        return self._gathered(places, _array("zero_gradient"))

    def _write(self, path: Path, arrays: Mapping[str, np.ndarray]) -> None:
        write.arrays(path, arrays)

    def _prepared(self, model: Any, batch_size: int) -> _Make:
        from gradcam_adv.attacks import names
        from gradcam_adv.attacks.gradients import MarginGradient
        from gradcam_adv.graph.flat import flatten

        attack: Any = names.make(self.attack, model, batch_size=batch_size, **self.settings)
        gradient_of = MarginGradient(flatten(model), batch_size)

        def make(pixels: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
            gradient, _ = gradient_of(pixels, labels)
            arrays = {"zero_gradient": (gradient == 0).mean(axis=(1, 2, 3))}
            for size in self.sizes:  # one at a time, which bounds the memory
                made = ScaledPerturbations.of(attack(pixels, labels, [size], verbose=0))
                arrays[_named("steps", size)] = made.steps[0]
                arrays[_named("scales", size)] = made.scales[0]
            return arrays

        return make


def _named(kind: str, size: float) -> str:
    return f"{kind} {float(size)!r}"  # NumPy writes its own numbers in another way


def _array(name: str) -> Callable[[Path], np.ndarray]:
    """Reads one array of a file."""

    def load(path: Path) -> np.ndarray:
        with read.arrays(path) as arrays:
            found: np.ndarray = arrays[name]
        return found

    return load
