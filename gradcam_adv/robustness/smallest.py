"""The smallest epsilon at which each prediction flips, and how far heatmaps have moved there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pandas as pd

from gradcam_adv import metrics, validation
from gradcam_adv.attacks.fgsm import FGSM
from gradcam_adv.attacks.perturbations import Attack, perturb
from gradcam_adv.batching import batch_size_for, progress_bar
from gradcam_adv.explain.gradcam import GradCAM
from gradcam_adv.graph import Layers
from gradcam_adv.graph.flat import FlatGraph, flatten
from gradcam_adv.graph.predictor import Predictor
from gradcam_adv.robustness import given

# Tried in this order, each twice the one before; the smallest one is 1/40 of a grey level.
LEVELS = tuple(1e-4 * 2.0**power for power in range(13))

# From the places of some images in a batch, and an epsilon for each, to these images attacked.
Attacked = Callable[[np.ndarray, np.ndarray], np.ndarray]


def smallest_epsilons(
    model: keras.Model | FlatGraph,
    images: npt.ArrayLike | Any,
    labels: npt.ArrayLike | None = None,
    *,
    attack: Attack | None = None,
    levels: Sequence[float] = LEVELS,
    precision: float = 0.01,
    layers: Layers = "last",
    batch_size: int | None = None,
    verbose: int | str = "auto",
) -> pd.DataFrame:
    """For each image the smallest epsilon at which it is predicted as another class.

    The levels are tried from the smallest on, until the prediction flips. Between the last two
    levels the epsilon is halved in, until it is known to ``precision``. An attack need not get
    stronger with epsilon, so the prediction may flip back at a larger one. FGSM takes one gradient
    for all of that, and other attacks all of their steps for each epsilon.

    Args:
        model: any classifier that :func:`gradcam_adv.flatten` takes.
        images: as for :func:`gradcam_adv.dissimilarity`.
        labels: int, (N,), the classes to move away from; None for the predicted ones.
        attack: such as ``PGD(model, steps=10)``; None for ``FGSM(model)``. No targeted one.
        levels: epsilons above 0, at most 1.
        precision: the largest part by which the epsilon found may be above the smallest one.
        layers: as for :class:`gradcam_adv.GradCAM`.
        batch_size: as for :class:`gradcam_adv.GradCAM`.
        verbose: "auto" (a bar where there is a terminal), 0 or 1, as in Keras.

    Returns:
        One row per image and layer: image (its number), layer, label, predicted_clean, predicted
        (at epsilon), epsilon (infinite if no level flips it, 0 if the clean image is not predicted
        as its label), below (the largest epsilon tried below it), and NISSIM of the heatmap with
        the clean one: nissim_below (just before the flip), nissim (just after it), nissim_held
        (just after it, for the class predicted for the clean image). NaN where there is no flip.

    Raises:
        ValueError: a model, images, labels, levels or a precision that can't be used.

    Example:
        >>> import keras, numpy as np
        >>> parts = [
        ...     keras.Input((8, 8, 3)),
        ...     keras.layers.Conv2D(4, 3, name="conv"),
        ...     keras.layers.Flatten(),
        ...     keras.layers.Dense(2),
        ... ]
        >>> images = np.random.default_rng(0).random((4, 8, 8, 3))
        >>> found = smallest_epsilons(keras.Sequential(parts), images)
        >>> bool((found["below"] < found["epsilon"]).all())
        True
    """
    graph = flatten(model)
    rising = validation.check_epsilons(levels)
    if not 0 < precision < 1:
        raise ValueError(f"Expected a precision between 0 and 1. Received: {precision!r}")
    if getattr(attack, "targeted", False):
        raise ValueError("Expected an attack that is not targeted. Received: a targeted one")
    size = batch_size_for(batch_size, graph.input.shape)
    attack = FGSM(graph, batch_size=size) if attack is None else attack
    explain = GradCAM(graph, layers, batch_size=size)
    predict = Predictor(graph.classifier, size)
    pixels, labels = given.read(images, labels)
    count = len(pixels)
    chosen = None
    if labels is not None:
        chosen = validation.check_labels(labels, count, graph.classes, "labels")
    parts = []
    with progress_bar("smallest epsilons", count, size, verbose) as bar:
        for start in range(0, count, size):
            numbers = np.arange(start, min(start + size, count))
            batch = validation.check_images(graph.input.shape, pixels[start : start + size])
            with validation.naming(numbers.tolist()):
                clean = predict(batch).argmax(axis=1)
                targets = clean if chosen is None else chosen[numbers]
                attacked = _attacked(attack, batch, targets)
                epsilon, below, predicted = _search(
                    *(lambda at: predict(at).argmax(axis=1), attacked, clean, targets),
                    *(rising, precision),
                )
                about = {"image": numbers, "label": targets, "predicted_clean": clean}
                about |= {"predicted": predicted, "epsilon": epsilon, "below": below}
                moved = _moved(explain, batch, attacked, clean, epsilon, below)
            parts += [pd.DataFrame(about | {"layer": layer} | of) for layer, of in moved.items()]
            bar.update(len(numbers))
    first = ["image", "layer", "label", "predicted_clean", "predicted", "epsilon", "below"]
    found = pd.concat(parts).sort_values("image", kind="stable", ignore_index=True)
    return found[[*first, "nissim_below", "nissim", "nissim_held"]]


def _attacked(attack: Attack, images: np.ndarray, labels: np.ndarray) -> Attacked:
    once = attack(images, labels, [1.0]) if isinstance(attack, FGSM) else None

    def attacked(places: np.ndarray, epsilons: np.ndarray) -> np.ndarray:
        if once is not None:
            sizes = epsilons[:, None, None, None].astype(np.float32)
            return perturb(images[places], sizes * once.signs[places])
        found = np.empty((len(places), *images.shape[1:]), np.float32)
        for epsilon in np.unique(epsilons):
            same = epsilons == epsilon
            chosen, size = images[places[same]], float(epsilon)
            found[same] = perturb(chosen, attack(chosen, labels[places[same]], [size])[size])
        return found

    return attacked


def _search(
    predict: Callable[[np.ndarray], np.ndarray],
    attacked: Attacked,
    clean: np.ndarray,
    labels: np.ndarray,
    levels: Sequence[float],
    precision: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The smallest epsilon of each image, the largest tried below it, and the prediction there."""
    right = clean == labels
    epsilon = np.where(right, np.inf, 0.0)
    below = np.zeros(len(labels))
    predicted = clean.copy()

    def try_at(places: np.ndarray, sizes: np.ndarray) -> None:
        found = predict(attacked(places, sizes))
        flips = found != labels[places]
        epsilon[places[flips]], predicted[places[flips]] = sizes[flips], found[flips]
        below[places[~flips]] = sizes[~flips]

    for level in levels:
        open_ = np.flatnonzero(np.isinf(epsilon))
        if len(open_):
            try_at(open_, np.full(len(open_), level))
    while True:
        wide = right & np.isfinite(epsilon) & (epsilon > (1 + precision) * below)
        # Below the smallest level there is no ratio; half of it is near enough to 0.
        wide &= (below > 0) | (epsilon > levels[0] / 2)
        places = np.flatnonzero(wide)
        if not len(places):
            return epsilon, below, predicted
        lower = np.maximum(below[places], levels[0] / 4)
        try_at(places, np.sqrt(lower * epsilon[places]))


def _moved(
    explain: GradCAM,
    images: np.ndarray,
    attacked: Attacked,
    clean: np.ndarray,
    epsilon: np.ndarray,
    below: np.ndarray,
) -> dict[str, dict[str, np.ndarray]]:
    """By layer, NISSIM with the clean heatmap, by column (n,); NaN where nothing flips."""
    columns = ("nissim_below", "nissim", "nissim_held")
    found = {
        layer: {name: np.full(len(clean), np.nan) for name in columns} for layer in explain.layers
    }
    places = np.flatnonzero(np.isfinite(epsilon) & (epsilon > 0))
    if not len(places):
        return found
    before = explain(images[places], clean[places], verbose=0)
    just_below, just_above = (attacked(places, sizes[places]) for sizes in (below, epsilon))
    for name, pictures, classes in (
        ("nissim_below", just_below, clean[places]),
        ("nissim", just_above, None),
        ("nissim_held", just_above, clean[places]),
    ):
        after = explain(pictures, classes, verbose=0)
        for layer in explain.layers:
            shift = metrics.nissim(before[layer], after[layer], images.shape[1:3])
            found[layer][name][places] = shift
    return found
