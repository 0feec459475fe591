"""Grad-CAM in float16: scores are scaled, so that gradients neither fade to zero nor overflow."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

Sums = tuple[list[np.ndarray], np.ndarray]


def at_a_scale(
    compiled: Callable[[np.ndarray, np.ndarray, np.float32], Sums], dtypes: Iterable[str]
) -> Callable[[np.ndarray, np.ndarray], Sums]:
    """The function of images, classes and a scale of the scores, at the first scale that does.

    Gradients of early layers in float16 would fade to zero, so scores are scaled up; by less if the
    sums then overflow. The function itself divides by the scale again. ``dtypes`` are those of the
    layers; without float16 among them the scale is 1.
    """
    scales = (1024.0, 32.0, 1.0, 1 / 32) if "float16" in dtypes else (1.0,)

    def run(images: np.ndarray, classes: np.ndarray) -> Sums:
        for scale in scales:
            maps, logits = compiled(images, classes.astype(np.int32), np.float32(scale))
            if scale == scales[-1] or all(np.isfinite(values).all() for values in maps):
                break
        return maps, logits

    return run
