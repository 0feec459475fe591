"""The correlation of two heatmaps: below 0, one is high where the other is low."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def correlation(first: npt.ArrayLike, second: npt.ArrayLike) -> np.ndarray:
    """Pearson's correlation of the pixels of two heatmaps.

    Args:
        first: heatmaps, (..., H, W).
        second: heatmaps of the same shape.

    Returns:
        float64 (...), from -1, inverted, to 1; NaN where a heatmap has one value everywhere.

    Raises:
        ValueError: the shapes differ or are no heatmaps'.

    Example:
        >>> correlation([[[0.0, 1.0]], [[0.0, 1.0]]], [[[0.0, 0.5]], [[1.0, 0.0]]]).tolist()
        [1.0, -1.0]
    """
    a, b = np.asarray(first), np.asarray(second)
    if a.shape != b.shape or a.ndim < 2 or 0 in a.shape[-2:]:
        raise ValueError(
            f"Expected two arrays of heatmaps, (..., H, W). Received: {a.shape}, {b.shape}"
        )
    a, b = (maps.reshape(*maps.shape[:-2], -1) for maps in (a, b))
    # The mean of equal values may be off by their last digit, so this does not look at squares.
    varied = (np.ptp(a, axis=-1) > 0) & (np.ptp(b, axis=-1) > 0)
    a, b = (maps - maps.mean(axis=-1, keepdims=True, dtype=np.float64) for maps in (a, b))
    products, of_a, of_b = (np.einsum("...i,...i", x, y) for x, y in ((a, b), (a, a), (b, b)))
    size = np.sqrt(of_a * of_b)
    value = np.divide(products, size, out=np.full(size.shape, np.nan), where=varied)
    return np.clip(value, -1, 1)
