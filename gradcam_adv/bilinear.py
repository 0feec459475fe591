"""Bilinear resizing: between which pixels of an axis each pixel of the resized axis lies."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Between(NamedTuple):
    """Each pixel of a resized axis is ``values[first] + share * (values[second] - values[first])``.

    Attributes:
        first, second: int64 (size,), neighbours on the axis as it was.
        share: float64 (size,), in [0, 1).
    """

    first: np.ndarray
    second: np.ndarray
    share: np.ndarray


def between(length: int, size: int) -> Between:
    """For an axis of ``length`` pixels at another ``size``.

    Centres of pixels lie on each other as in ``keras.ops.image.resize``; beyond the outermost
    centres values go on as they are. At its own size every pixel is itself, exactly.

    Example:
        >>> between(2, 4).share.tolist()
        [0.0, 0.25, 0.75, 0.0]
    """
    place = np.clip((np.arange(size) + 0.5) * (length / size) - 0.5, 0, length - 1)
    first = place.astype(np.int64)
    return Between(first, np.minimum(first + 1, length - 1), place - first)
