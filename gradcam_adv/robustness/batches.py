"""Images, clean, attacked and under the controls, with their heatmaps, batch by batch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np
import numpy.typing as npt

from gradcam_adv import metrics, validation
from gradcam_adv.attacks.noise import RandomSigns
from gradcam_adv.attacks.perturbations import Attack, perturb
from gradcam_adv.explain.explainer import (
    PREDICTED,
    Explainer,
    ExplainsWithLogits,
    Targets,
    classes_and_score,
)
from gradcam_adv.graph.flat import FlatGraph, flatten
from gradcam_adv.graph.predictor import Predictor

# How many images of the whole set are candidates for the control "unrelated"; their clean heatmaps
# are kept.
CANDIDATES = 64


@dataclass(frozen=True)
class Explained:
    """Some images at one epsilon, which is 0 for clean images."""

    epsilon: float
    pixels: np.ndarray  # float32 (n, H, W, C) in [0, 1]
    logits: np.ndarray  # float32 (n, classes)
    predicted: np.ndarray  # int (n,)
    heatmaps: dict[str, np.ndarray]  # by layer, float32 (n, h, w) in [0, 1]


@dataclass(frozen=True)
class Batch:
    """Some images, clean and attacked; the last three are empty without controls."""

    numbers: np.ndarray  # of the images in the set, int (n,)
    labels: np.ndarray  # the classes attacked, int (n,)
    clean: Explained
    attacked: list[Explained]
    noise: list[Explained]  # under random signs at these and further epsilons
    mirrored: list[Explained]  # under the attack's perturbation, mirrored left to right
    # For each image the clean heatmaps, by layer (pairs, h, w), of images of other classes.
    unrelated: list[dict[str, np.ndarray]]


def attacked_batches(
    model: keras.Model | FlatGraph,
    images: Any,
    labels: npt.ArrayLike | None,
    *,
    epsilons: Sequence[float],
    attack: Attack,
    explainer: Explainer,
    targets: Targets | Literal["clean"],
    controls: bool,
    noise_epsilons: Sequence[float] = (),
    batch_size: int,
) -> Iterator[Batch]:
    """Attack and explain images batch by batch; for the arguments see :func:`dissimilarity`."""
    graph = flatten(model)
    count = len(images)
    if count == 0:
        raise ValueError("Expected at least one image. Received: none")
    given = None
    if labels is not None:
        given = validation.check_labels(labels, count, graph.classes, "labels").astype(np.int64)
    elif getattr(attack, "targeted", False):
        raise ValueError(
            "Expected labels, the classes to move to, with a targeted attack. Received: none"
        )
    rising = validation.check_epsilons(epsilons)
    of_clean = isinstance(targets, str) and targets == "clean"
    wanted, score = classes_and_score(None if of_clean else targets, count, graph)
    predict = Predictor(graph.classifier, batch_size)

    def explain(epsilon: float, pixels: np.ndarray, classes: np.ndarray) -> Explained:
        if isinstance(explainer, ExplainsWithLogits):
            maps, logits = explainer.maps_and_logits(pixels, classes[:, None], score)
            predicted = graph.predicted(logits, classes)
            heatmaps = {name: values[:, 0] for name, values in maps.items()}
        else:
            logits = predict(pixels)
            predicted = graph.predicted(logits, classes)
            explained = np.where(classes == PREDICTED, predicted, classes)
            heatmaps = explainer(pixels, score or explained)
        return Explained(epsilon, pixels, logits, predicted, _checked(heatmaps, len(pixels)))

    def explain_clean(numbers: np.ndarray) -> Explained:
        if (np.diff(numbers) == 1).all():
            read = images[numbers[0] : numbers[-1] + 1]
        else:
            read = np.concatenate([images[number : number + 1] for number in numbers])
        pixels = validation.check_images(graph.input.shape, np.asarray(read))
        with validation.naming(numbers.tolist()):
            return explain(0.0, pixels, wanted[numbers, 0])

    if controls:
        noise_levels = validation.check_epsilons([*rising, *noise_epsilons])
        # Chosen by their content, so that the order of the images does not matter.
        starts = range(0, count, batch_size)
        read = (np.asarray(images[start : start + batch_size]) for start in starts)
        keys = [_key(image) for batch in read for image in batch]
        chosen = np.argsort(keys, kind="stable")[:CANDIDATES]
        candidates = explain_clean(chosen)
        classes_of_candidates = candidates.predicted if given is None else given[chosen]
    for start in range(0, count, batch_size):
        numbers = np.arange(start, min(start + batch_size, count))
        clean = explain_clean(numbers)
        attacked_labels = clean.predicted if given is None else given[numbers]
        classes = clean.predicted if of_clean else wanted[numbers, 0]
        pixels = clean.pixels
        noise: list[Explained] = []
        mirrored: list[Explained] = []
        unrelated: list[dict[str, np.ndarray]] = []
        with validation.naming(numbers.tolist()):
            added = attack(pixels, attacked_labels, rising)
            attacked = [explain(e, perturb(pixels, added[e]), classes) for e in rising]
            if controls:
                random = RandomSigns()(pixels, None, noise_levels)
                noise = [explain(e, perturb(pixels, random[e]), classes) for e in noise_levels]
                for e in rising:
                    turned = np.asarray(added[e])[:, :, ::-1]
                    mirrored.append(explain(e, perturb(pixels, turned), classes))
                for number, label in zip(numbers, attacked_labels, strict=True):
                    pairs = metrics.UnrelatedPairs(classes_of_candidates, seed=keys[number])
                    others = pairs.draw(label)
                    of_others = {name: maps[others] for name, maps in candidates.heatmaps.items()}
                    unrelated.append(of_others)
            yield Batch(numbers, attacked_labels, clean, attacked, noise, mirrored, unrelated)


def _key(image: np.ndarray) -> int:
    """A number that depends on an image's content alone."""
    return int(hashlib.sha256(image.tobytes()).hexdigest()[:16], 16)


def _checked(heatmaps: Any, count: int) -> dict[str, np.ndarray]:
    """What an explainer gave, as arrays; ValueError unless it is heatmaps by layer."""
    if not isinstance(heatmaps, dict) or not heatmaps:
        raise ValueError(
            "Expected an explainer to give a dict of heatmaps by layer. "
            f"Received: {type(heatmaps).__name__}"
        )
    arrays = {name: np.asarray(maps) for name, maps in heatmaps.items()}
    for name, maps in arrays.items():
        if maps.ndim != 3 or len(maps) != count:
            raise ValueError(
                f"Expected an explainer to give {count} heatmaps (N, h, w) for {count} images. "
                f"Received: shape {maps.shape} of layer {name!r}"
            )
        validation.check_range(maps, f"heatmaps of layer {name!r}")
    return arrays
