"""The region of attention of a heatmap, and how it shifts: lost, gained, and where its middle went.

In NumPy. NISSIM says that two heatmaps differ; here is in which way.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gradcam_adv import batching as batches


@dataclass(frozen=True)
class Shift:
    """How each region differs from that of the clean map; every array float64 of shape (...).

    All five are NaN where one of the two maps is empty.

    Attributes:
        lost: share of the clean region that is not in the perturbed one, 0 to 1.
        gained: share of the perturbed region that is not in the clean one, 0 to 1.
        area_ratio: area of the perturbed region over that of the clean one, above 0.
        moved: length of the way of the centroid, each axis in shares of its own side; 0 up to
            just below sqrt(2), from corner to corner.
        direction: of that way as seen in the picture, in radians, counter-clockwise from the
            right (up is +pi/2), in (-pi, pi]; NaN where the centroid stayed.
    """

    lost: np.ndarray
    gained: np.ndarray
    area_ratio: np.ndarray
    moved: np.ndarray
    direction: np.ndarray


def region(maps: npt.ArrayLike) -> np.ndarray:
    """Where a heatmap is at least half its own maximum; an empty map has no region.

    Args:
        maps: heatmaps, shape (..., H, W), values in [0, 1].

    Returns:
        bool array of the same shape.

    Raises:
        ValueError: not maps, or values outside [0, 1].
    """
    array = np.asarray(maps)
    if array.ndim < 2 or 0 in array.shape[-2:]:
        raise ValueError(f"Expected heatmaps of shape (..., H, W). Received: shape {array.shape}")
    batches.check_range(array, "heatmaps")
    # Twice the map, for half of the smallest number there is would be 0.
    return (2 * array >= array.max(axis=(-2, -1), keepdims=True)) & (array > 0)


def centroid(regions: npt.ArrayLike) -> np.ndarray:
    """Mean row and column of each region; its pixels all weigh the same.

    Unweighted, so that it speaks of the same set of pixels as the shares lost and gained: where
    the region stays, so does its centroid, whatever the values within.

    Args:
        regions: bool, shape (..., H, W).

    Returns:
        float64 array of shape (..., 2), row and column counted from the middle of the first
        pixel; NaN for an empty region.
    """
    array = np.asarray(regions, dtype=bool)
    by_row, by_column = np.count_nonzero(array, axis=-1), np.count_nonzero(array, axis=-2)
    sums = np.stack([counts @ np.arange(counts.shape[-1]) for counts in (by_row, by_column)], -1)
    return _share(sums, by_row.sum(axis=-1)[..., None])


def shift(clean: npt.ArrayLike, perturbed: npt.ArrayLike) -> Shift:
    """How the region of attention of each map shifts under an attack.

    The region of a map is where it is at least half its own maximum (:func:`region`), its middle
    the unweighted centroid of that region (:func:`centroid`).

    Args:
        clean: heatmaps, shape (..., H, W), values in [0, 1].
        perturbed: heatmaps of the same shape.

    Raises:
        ValueError: the shapes differ, aren't those of maps, or values leave [0, 1].
    """
    before, after = region(clean), region(perturbed)
    if before.shape != after.shape:
        raise ValueError(
            "Expected clean and perturbed heatmaps of one shape. "
            f"Received: {before.shape}, {after.shape}"
        )
    areas = [np.count_nonzero(pixels, axis=(-2, -1)) for pixels in (before, after, before & after)]
    area_before, area_after, common = areas
    known = (area_before > 0) & (area_after > 0)
    # Sums of whole numbers: equal centroids come out as equal, and a way of 0 as exactly 0.
    rows, columns = np.moveaxis(centroid(after) - centroid(before), -1, 0)
    moved = np.hypot(rows / before.shape[-2], columns / before.shape[-1])
    # Rows are counted downwards. A minus sign would make a row of 0 one of -0, and pi -pi.
    direction = np.arctan2(0 - rows, columns)
    return Shift(
        lost=_share(area_before - common, np.where(known, area_before, 0)),
        gained=_share(area_after - common, np.where(known, area_after, 0)),
        area_ratio=_share(area_after, np.where(known, area_before, 0)),
        moved=moved,
        direction=np.where(moved > 0, direction, np.nan),
    )


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """``part / whole``, NaN where ``whole`` is 0."""
    part, whole = np.broadcast_arrays(part, whole)
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
