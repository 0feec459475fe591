"""The region of attention of a heatmap, and how it shifts: what it loses and gains, where it goes.

NISSIM says that two heatmaps differ; this says in which way.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gradcam_adv import validation


@dataclass(frozen=True)
class RegionShift:
    """How each region differs from that of the clean heatmap; float64 arrays of shape (...).

    All are NaN where one of the two heatmaps is empty.

    Attributes:
        lost: share of the clean region that is not in the perturbed one, 0 to 1.
        gained: share of the perturbed region that is not in the clean one, 0 to 1.
        area_ratio: area of the perturbed region divided by that of the clean one, above 0.
        moved: distance between the centroids, each axis as a share of the map's side; from 0 to
            just below sqrt(2), corner to corner.
        direction: of that move as seen in the picture, in radians, counter-clockwise from the
            right (up is +pi/2), in (-pi, pi]; NaN where the centroid stayed.
    """

    lost: np.ndarray
    gained: np.ndarray
    area_ratio: np.ndarray
    moved: np.ndarray
    direction: np.ndarray


def region(maps: npt.ArrayLike) -> np.ndarray:
    """Where a heatmap is at least half its own maximum; an empty heatmap has no region.

    From heatmaps, (..., H, W), values in [0, 1], to bool of the same shape.

    Raises:
        ValueError: another shape, or values outside [0, 1].

    Example:
        >>> region([[0.0, 0.4, 0.5, 1.0]]).tolist()
        [[False, False, True, True]]
    """
    array = np.asarray(maps)
    if array.ndim < 2 or 0 in array.shape[-2:]:
        raise ValueError(f"Expected heatmaps of shape (..., H, W). Received: shape {array.shape}")
    validation.check_range(array, "heatmaps")
    # Twice the map: half of the smallest positive number would be 0.
    return (2 * array >= array.max(axis=(-2, -1), keepdims=True)) & (array > 0)


def centroid(regions: npt.ArrayLike) -> np.ndarray:
    """Mean row and column of each region, bool (..., H, W); all its pixels weigh the same.

    So while the region stays, its centroid stays, whatever the values within.

    Returns:
        float64 (..., 2), row and column counted from the middle of the first pixel; NaN for an
        empty region.
    """
    array = np.asarray(regions, dtype=bool)
    by_row, by_column = np.count_nonzero(array, axis=-1), np.count_nonzero(array, axis=-2)
    sums = np.stack([counts @ np.arange(counts.shape[-1]) for counts in (by_row, by_column)], -1)
    return _share(sums, by_row.sum(axis=-1)[..., None])


def region_shift(clean: npt.ArrayLike, perturbed: npt.ArrayLike) -> RegionShift:
    """How the region of attention of each heatmap shifts under an attack.

    Args:
        clean: heatmaps, (..., H, W), values in [0, 1].
        perturbed: heatmaps of the same shape.

    Raises:
        ValueError: the shapes differ or are no heatmaps', or values leave [0, 1].

    Example:
        >>> moved = region_shift([[[0.0, 1.0, 0.0, 0.0]]], [[[0.0, 0.0, 1.0, 0.0]]])
        >>> moved.lost.item(), moved.moved.item(), moved.direction.item()
        (1.0, 0.25, 0.0)
    """
    before, after = region(clean), region(perturbed)
    if before.shape != after.shape:
        raise ValueError(
            "Expected clean and perturbed heatmaps of one shape. "
            f"Received: {before.shape}, {after.shape}"
        )
    areas = [np.count_nonzero(pixels, axis=(-2, -1)) for pixels in (before, after, before & after)]
    area_before, area_after, common = areas
    # Sums of whole numbers, so equal centroids are exactly equal.
    rows, columns = np.moveaxis(centroid(after) - centroid(before), -1, 0)
    moved = np.hypot(rows / before.shape[-2], columns / before.shape[-1])
    # Rows are counted downwards. Not -rows, which would turn 0 into -0 and pi into -pi.
    direction = np.arctan2(0 - rows, columns)
    # Without one of the two regions, nothing is known: a share of nothing is NaN.
    known = (area_before > 0) & (area_after > 0)
    return RegionShift(
        lost=_share(area_before - common, area_before * known),
        gained=_share(area_after - common, area_after * known),
        area_ratio=_share(area_after, area_before * known),
        moved=moved,
        direction=np.where(moved > 0, direction, np.nan),
    )


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """``part / whole``, NaN where ``whole`` is 0."""
    part, whole = np.broadcast_arrays(part, whole)
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
