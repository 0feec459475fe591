"""What a model makes of clean images: how many are right, and what other pixels would change."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

import numpy as np

from gradcam_adv.graph.flat import FlatGraph
from gradcam_adv.graph.pixels import RANGES
from gradcam_adv.graph.predictor import Predictor
from gradcam_adv.validation import NotFiniteError

logger = logging.getLogger(__name__)


def accuracy(graph: FlatGraph, predicted: np.ndarray, labels: np.ndarray) -> float:
    """The share of images that are predicted right; a warning is logged if it is near chance.

    Near is two standard errors above one by the number of classes, or less.
    """
    share = float((predicted == labels).mean())
    chance = 1 / graph.classes
    if share <= chance + 2 * math.sqrt(chance * (1 - chance) / len(labels)):
        logger.warning(
            "Warning: %.0f %% of the clean images are predicted right, near chance (%.0f %%). "
            "See whether the model takes these pixels (%s) and whether the labels are its classes",
            *(100 * share, 100 * chance, graph.pixels),
        )
    return share


def warn_of_other_pixels(
    flat: Callable[[str], FlatGraph], images: np.ndarray, labels: np.ndarray | None
) -> None:
    """Log what the predictions suggest of the pixels that a model takes, if its layers don't tell.

    A model that gets pixels of a wrong range often predicts one class for all images. So the range
    is suggested that gives at least twice as many classes as each other, or, with labels, a tenth
    more of the images right.

    Args:
        flat: the model, flattened for one of RANGES.
        images: float32 (n, H, W, C) in [0, 1].
        labels: int (n,), the classes of the images, if they are known.
    """
    seen: dict[str, float] = {}
    for pixels in RANGES:
        try:
            logits = Predictor(flat(pixels).classifier, len(images))(images)
        except NotFiniteError:  # such pixels are surely not meant
            seen[pixels] = 0
            continue
        predicted = logits.argmax(axis=1)
        right = None if labels is None else (predicted == labels).mean()
        seen[pixels] = len(np.unique(predicted)) if right is None else float(right)
    (best, most), (_, second), _ = sorted(seen.items(), key=lambda item: -item[1])
    clear = most >= 2 * second if labels is None else most >= second + 0.1
    if clear and best == "0..1":
        return
    found = ", ".join(
        f"{value:g} with {pixels}" if labels is None else f"{value:.0%} with {pixels}"
        for pixels, value in seen.items()
    )
    what = "number of classes predicted for" if labels is None else "share right of"
    suggests = f"which suggests {best}" if clear else "which decides nothing"
    logger.warning(
        "Warning: the model's first layers do not tell which pixels it takes; 0..1 is assumed, "
        "--pixels (pixels=) says otherwise. The %s %d images: %s, %s",
        *(what, len(images), found, suggests),
    )
