"""Heatmaps compared at a size, by NISSIM or another measure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from gradcam_adv import metrics, validation
from gradcam_adv.explain.heatmaps import resize
from gradcam_adv.metrics.measures import MEASURES, Measure

Comparison = Callable[[np.ndarray, np.ndarray, "int | Sequence[int] | None"], np.ndarray]
"""Two batches of heatmaps (..., h, w), and a size or None, to their dissimilarity (...)."""


def comparison(measure: str | Measure) -> Comparison:
    """A measure by name, or of one's own, that enlarges heatmaps to the size first.

    Raises:
        ValueError: a name that no measure has. What it returns raises it if a measure of one's own
            does not give a number in [0, 1] for each pair.
    """
    if isinstance(measure, str):
        validation.check_choice("measure", measure, list(MEASURES))
    if measure in ("nissim", metrics.nissim):
        return metrics.nissim  # which enlarges them within, and faster
    function = MEASURES[measure] if isinstance(measure, str) else measure

    def compare(
        first: np.ndarray, second: np.ndarray, size: int | Sequence[int] | None
    ) -> np.ndarray:
        if size is not None:
            first, second = resize(first, size), resize(second, size)
        flat = [maps.reshape(-1, *maps.shape[-2:]) for maps in (first, second)]
        values = np.asarray(function(*flat), np.float64)
        if values.shape != flat[0].shape[:1]:
            raise ValueError(
                f"Expected a measure to give {len(flat[0])} numbers, one per pair of heatmaps. "
                f"Received: shape {values.shape}"
            )
        validation.check_range(values, "a measure")
        return values.reshape(first.shape[:-2])

    return compare
