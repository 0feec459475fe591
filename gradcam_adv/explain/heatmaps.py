"""Heatmaps out of weighted sums, and at another size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gradcam_adv.bilinear import between


def normalize(weighted_sums: np.ndarray) -> np.ndarray:
    """ReLU, then each map (..., h, w) divided by its own maximum; an empty map stays zero.

    Example:
        >>> import numpy as np
        >>> normalize(np.array([[-1.0, 2.0, 4.0]])).tolist()
        [[0.0, 0.5, 1.0]]
    """
    maps = np.maximum(weighted_sums, 0)
    highest = maps.max(axis=(-2, -1), keepdims=True)
    return np.divide(maps, highest, out=np.zeros_like(maps), where=highest > 0)


def is_empty(maps: np.ndarray) -> np.ndarray:
    """Whether each map (..., h, w) is zero everywhere: no position speaks for the class."""
    return np.asarray((maps == 0).all(axis=(-2, -1)))


def resize(maps: np.ndarray, size: int | Sequence[int]) -> np.ndarray:
    """Heatmaps (..., h, w) at another size, bilinear.

    Args:
        maps: values in [0, 1].
        size: a side, or (height, width).

    Returns:
        float32 (..., height, width), values in [0, 1].

    Example:
        >>> import numpy as np
        >>> resize(np.array([[0.0, 1.0]]), (1, 4)).tolist()
        [[0.0, 0.25, 0.75, 1.0]]
    """
    height, width = (size, size) if isinstance(size, int) else size
    resized = maps.astype(np.float32)
    for axis, length in ((-1, width), (-2, height)):
        first, second, share = between(maps.shape[axis], length)
        shares = share.astype(np.float32).reshape(-1, *[1] * (-1 - axis))
        start, end = resized.take(first, axis), resized.take(second, axis)
        end -= start
        end *= shares
        resized = np.add(start, end, out=end)
    # Interpolation between values up to 1 may round to just above 1.
    return np.clip(resized, 0, 1, out=resized)
