"""The evaluation: what a network predicts under every attack, and the last heatmap of that pass."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from gradcam_adv import metrics, validation
from gradcam_adv.attacks import Perturbations, SignPerturbations, perturb
from gradcam_adv.attacks.names import TITLES
from gradcam_adv.attacks.noise import random_signs
from gradcam_adv.data.photos import as_stored, perturbation_as_stored
from gradcam_adv.explain.explainer import PREDICTED
from gradcam_adv.files import read, write
from gradcam_adv.models import backbones, classifiers
from gradcam_adv.runs.engines import WriteSlice, slice_name
from gradcam_adv.runs.records import Names
from gradcam_adv.runs.tasks import later
from gradcam_adv.study import answers
from gradcam_adv.study.attacks import (
    BLACK_BOX,
    MIRRORED,
    NOISE,
    OTHER_PHOTO,
    WHITE_BOX,
    condition_key,
    draw_of,
    named_under,
    of_study,
    with_alias,
)
from gradcam_adv.study.columns import read_parts
from gradcam_adv.study.photos import Photos, by_fold, in_one
from gradcam_adv.study.settings import Precision
from gradcam_adv.study.stages.attack import Attack
from gradcam_adv.study.stages.network_task import NetworkTask, SlicedTask, SummaryTask
from gradcam_adv.study.stages.train import Train

if TYPE_CHECKING:
    import keras

# The classes that every last heatmap is made for, in this order: the one predicted for the image
# itself, the one predicted for the clean photo, and the true one; and their columns of predictions.
CLASS_OF = {"predicted": "predicted", "clean": "predicted_clean", "true": "label"}
TARGETS = tuple(CLASS_OF)
# How many test photos the spectrum of the signs is taken of, spread evenly.
SPECTRUM_PHOTOS = 100


@dataclass(frozen=True, eq=False, kw_only=True)
class Evaluate(NetworkTask, SlicedTask):
    """Predictions under every attack and epsilon, and heatmaps of the last layer.

    The last heatmap only needs a second look at the head, so it costs next to nothing where the
    prediction is computed anyway. Slice by slice: ``<slice>.csv``, one row per photo, attack and
    epsilon, and ``last-<slice>.npz``, by condition float32 (n, TARGETS, h, w).

    Attributes:
        attacks: by name, where each attack is made; random signs need none.
        epsilons: by the name of an attack, the epsilons it is evaluated at.
        alias: whether the black-box rows stand for the white-box attack as well.
        perturbed_set: the format in which test sets are stored and read again.
        stored_perturbation: how the perturbation is stored before it is added.
        clean: the clean photos that attacked ones are compared with, if these are made of others.
        explained_score: which output of the network the heatmaps explain.
        seed: of the first draw of random signs; further draws have the next ones.
    """

    kind = stage = "evaluate"
    file = "last-{}.npz"
    names = Names(r"\d{7}\.csv|last-\d{7}\.npz")
    reads_pixels = True

    train: Train
    attacks: Mapping[str, Attack]
    epsilons: Mapping[str, tuple[float, ...]]
    alias: bool
    epsilon_unit: Literal["pixel", "network"]
    perturbed_set: Literal["float32", "png", "jpeg"]
    seed: int
    precision: Precision
    stored_perturbation: Literal["exact", "png", "jpeg"] = later("exact")
    clean: Photos | None = later(None)
    explained_score: Literal["logit", "hidden"] = later("logit")

    @property
    def effort(self) -> float:
        conditions = 1 + sum(map(len, self.epsilons.values()))
        return self.seconds(conditions * len(self.photos.test))

    @property
    def last_layer(self) -> str:
        return backbones.find(self.network).last_activation

    @property
    def levels(self) -> tuple[float, ...]:
        """The study's own epsilons; at the others only the gain is measured."""
        return self.epsilons[BLACK_BOX]

    def own_attack(self, epsilon: float) -> str:
        """The name of the attack made on the network itself, under which its maps are filed."""
        return BLACK_BOX if self.alias and epsilon in self.levels else WHITE_BOX

    def predictions(self) -> pd.DataFrame:
        """What was predicted: one row per test photo, attack and epsilon."""
        # Files that a killed process was writing begin with a dot.
        return read_parts(sorted(self.folder.glob("[0-9]*.csv")))

    def last_maps(self, name: str) -> Any:
        """The last heatmaps of a slice by condition, as a context."""
        return read.arrays(self.path(name))

    def last_map(self, row: int, attack: str, epsilon: float, target: str) -> np.ndarray:
        """The last heatmap, (h, w), of the test photo in ``row`` under one condition."""
        start = self.start_of(row)
        with self.last_maps(slice_name(start)) as maps:
            found: np.ndarray = maps[condition_key(attack, epsilon)]
        return found[row - start, TARGETS.index(target)]

    def all_last_maps(self, condition: str) -> np.ndarray:
        """The last heatmaps of all test photos under a condition, (N, TARGETS, h, w)."""
        maps = []
        for path in self.paths():
            with read.arrays(path) as arrays:
                maps.append(arrays[condition])
        return np.concatenate(maps)

    def stored(self, images: np.ndarray) -> np.ndarray:
        """Images as they are read again from the format in which test sets are stored."""
        return as_stored(images, self.perturbed_set)

    def size(self, epsilon: float) -> float:
        """An epsilon as a change of pixels."""
        preprocessing = self.train.features.preprocessing
        return epsilon * backbones.epsilon_unit(self.network, self.epsilon_unit, preprocessing)

    def perturbations(
        self, attack: str, rows: pd.DataFrame, row: int, epsilons: Sequence[float]
    ) -> Perturbations:
        """What an attack adds to ``rows``, which begin at ``row`` of the test set.

        By the size in pixels of each epsilon above 0.
        """
        sizes = [self.size(epsilon) for epsilon in epsilons if epsilon]
        if draw := draw_of(attack):
            shape, seed = (self.photos.image_size, self.photos.image_size, 3), self.seed + draw - 1
            signs = np.stack([random_signs(shape, seed, sha256) for sha256 in rows["sha256"]])
            return SignPerturbations(signs, sizes)
        made = self.attacks[attack].perturbations(self._places(attack, rows, row), sizes)
        if attack == MIRRORED:
            return {size: added[:, :, ::-1] for size, added in made.items()}
        return made

    def zero_gradient(self, attack: str, rows: pd.DataFrame, row: int) -> np.ndarray | float:
        """The share of exact zeros in the gradient that an attack follows, for each photo."""
        if draw_of(attack):
            return 0.0
        return self.attacks[attack].zero_gradient(self._places(attack, rows, row))

    def _places(self, attack: str, rows: pd.DataFrame, row: int) -> list[int]:
        """The test photos whose perturbations ``rows`` get."""
        places = range(row, row + len(rows))
        return list(map(self.of_another, places) if attack == OTHER_PHOTO else places)

    def of_another(self, row: int) -> int:
        """A test photo of another person than the one in ``row``, half of the set away."""
        people = self.photos.test["identity"].to_numpy()
        order = np.roll(np.arange(len(people)), -(row + len(people) // 2))
        return int(order[people[order] != people[row]][0])

    def attacked(
        self, exact: np.ndarray, perturbations: Perturbations, epsilon: float
    ) -> np.ndarray:
        """The photos that the network gets at an epsilon, from exact ones."""
        size = self.size(epsilon)
        added = perturbation_as_stored(perturbations[size], size, self.stored_perturbation)
        return self.stored(perturb(exact, added))

    def images(
        self, rows: pd.DataFrame, row: int, exact: np.ndarray, attack: str, epsilon: float
    ) -> np.ndarray:
        """What the network gets of ``rows``, which begin at ``row``; clean photos at epsilon 0."""
        if not epsilon:
            return self.stored(self.clean.pixels(rows) if self.clean else exact)
        return self.attacked(exact, self.perturbations(attack, rows, row, [epsilon]), epsilon)

    def files(self, name: str, rows: pd.DataFrame) -> list[Path]:
        return [self.path(name), self.folder / f"{name}.csv"]

    def begin(self) -> WriteSlice:
        from gradcam_adv.explain.gradcam import GradCAM

        batch_size = self.train.features.batch_size

        @functools.lru_cache(1)
        def prepared(fold: int | None) -> tuple[GradCAM, Callable[[np.ndarray], np.ndarray]]:
            model, logits_of = self.explained_model(fold)
            return GradCAM(model, self.last_layer, batch_size=batch_size), logits_of

        def write_slice(name: str, rows: pd.DataFrame, pixels: np.ndarray) -> None:
            parts = [
                self._evaluated(
                    *prepared(fold), int(name) + part.start, rows.iloc[part], pixels[part]
                )
                for fold, part in by_fold(rows)
            ]
            maps_file, table_file = self.files(name, rows)
            write.arrays(maps_file, in_one([maps for _, maps in parts]))
            write.table(table_file, pd.concat([table for table, _ in parts], ignore_index=True))

        return write_slice

    def explained_model(
        self, fold: int | None
    ) -> tuple[keras.Model, Callable[[np.ndarray], np.ndarray]]:
        """The model whose outputs heatmaps explain, and a function from these to logits.

        ``fold`` is that of the test photos, if there are folds.
        """
        model = self.train.model(self.precision, fold)
        if self.explained_score == "logit":
            return model, lambda outputs: outputs
        return classifiers.without_logits(model)

    def _evaluated(
        self,
        explain: Any,
        logits_of: Callable[[np.ndarray], np.ndarray],
        row: int,
        rows: pd.DataFrame,
        exact: np.ndarray,
    ) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
        clean = self.images(rows, row, exact, "clean", 0.0)
        maps: dict[str, np.ndarray] = {}
        # A true class has no hidden unit.
        true = rows["label"].to_numpy() if self.explained_score == "logit" else PREDICTED

        def seen(images: np.ndarray, condition: str, clean: Any) -> tuple[np.ndarray, np.ndarray]:
            """The classes predicted, and the largest outputs; ``maps`` gets the heatmaps.

            ``clean``: the largest outputs for the clean photos.
            """
            itself = np.full(len(rows), PREDICTED)
            wanted = np.stack(np.broadcast_arrays(itself, clean, true), axis=1)
            with validation.naming(named_under(condition, rows), self.network):
                by_layer, outputs = explain.maps_and_logits(images, wanted)
            (maps[condition],) = by_layer.values()
            return logits_of(outputs).argmax(axis=1), outputs.argmax(axis=1)

        # On a clean photo the class predicted for it and for the clean photo are one.
        predicted_clean, largest_clean = seen(clean, "clean", PREDICTED)
        parts = []
        for attack, epsilons in self.epsilons.items():
            added = self.perturbations(attack, rows, row, epsilons)
            zero_gradient = self.zero_gradient(attack, rows, row)
            for epsilon in epsilons:
                images, predicted = clean, predicted_clean
                if epsilon:
                    images = self.attacked(exact, added, epsilon)
                    key = condition_key(attack, epsilon)
                    predicted, _ = seen(images, key, largest_clean)
                parts.append(
                    rows[["photo", "identity", "label"]].assign(
                        network=self.network,
                        attack=attack,
                        epsilon=epsilon,
                        predicted_clean=predicted_clean,
                        predicted=predicted,
                        psnr=metrics.psnr(clean, images),
                        zero_gradient=zero_gradient,
                    )
                )
        table = pd.concat(parts, ignore_index=True)
        return with_alias(table) if self.alias else table, maps


@dataclass(frozen=True, eq=False, kw_only=True)
class Transfer(Evaluate):
    """The same under attacks made on other networks, once all of them are attacked."""

    kind = "transfer"

    @property
    def levels(self) -> tuple[float, ...]:
        return next(iter(self.epsilons.values()))


@dataclass(frozen=True, eq=False, kw_only=True)
class Further(Transfer):
    """The same under one of the study's further attacks."""

    kind = "further"

    attack: str

    @property
    def name(self) -> str:
        return f"{super().name}-{self.attack}"

    @property
    def title(self) -> str:
        return f"evaluate {self.network} under {TITLES[self.attack]}, {self.arm}"


@dataclass(frozen=True, eq=False, kw_only=True)
class SummarizeEvaluation(SummaryTask):
    """Accuracy, PSNR, zero gradients and spectrum of the attack, over all networks of an arm."""

    kind = stage = "evaluate"
    version = 4
    names = Names(r"(predictions|accuracy|psnr|spectrum|zero_gradients)\.csv")

    # Each network's own evaluation, and those under transferred and further attacks, if any.
    networks: Mapping[str, tuple[Evaluate, ...]]

    def summarize(self) -> dict[str, pd.DataFrame]:
        every = itertools.chain.from_iterable(self.networks.values())
        parts = [of_study(task.predictions(), task.levels) for task in every]
        predicted = pd.concat(parts, ignore_index=True)
        return {
            "predictions": predicted,
            "accuracy": answers.accuracy(predicted),
            "psnr": answers.psnr(predicted),
            "spectrum": answers.spectrum(_spectrum(own) for own, *_ in self.networks.values()),
            "zero_gradients": answers.zero_gradients(predicted),
        }


def _spectrum(evaluate: Evaluate) -> pd.DataFrame:
    """The share of low frequencies for some photos: one row per attack and photo.

    Of the perturbations at the study's largest epsilon; signs have the same share at every one.
    """
    test = evaluate.photos.test
    rows = evaluate.photos.spread(SPECTRUM_PHOTOS)
    photos = test[["photo", "identity"]].iloc[rows]
    parts = []
    for attack in (WHITE_BOX, NOISE):
        if attack not in evaluate.epsilons:  # as in variations of a study
            continue
        largest = evaluate.levels[-1:]
        made = (evaluate.perturbations(attack, test.iloc[[r]], r, largest).values() for r in rows)
        shares = [metrics.low_frequency_share(_in_units(added)).item() for (added,) in made]
        about = {"network": evaluate.network, "attack": attack}
        parts.append(photos.assign(**about, low_frequency=shares))
    return pd.concat(parts, ignore_index=True)


def _in_units(perturbations: np.ndarray) -> np.ndarray:
    """Perturbations as shares of their largest value: signs, where they are of one size."""
    return perturbations / max(np.abs(perturbations).max(), np.finfo(np.float32).tiny)
