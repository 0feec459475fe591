"""Other measures than NISSIM of how unlike two heatmaps are: larger for less alike ones.

Each takes two batches of heatmaps, (..., h, w), values in [0, 1], and gives float64 (...) from 0,
for equal maps, to 1. An empty map, which is zero everywhere, has 1 with all others, unless said
otherwise.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import scipy.spatial.distance
import scipy.stats

from gradcam_adv import threads, validation
from gradcam_adv.metrics.correlation import correlation
from gradcam_adv.metrics.nissim import nissim
from gradcam_adv.metrics.regions import region

Measure = Callable[[npt.ArrayLike, npt.ArrayLike], np.ndarray]
"""Two batches of heatmaps, (N, h, w), to their dissimilarity, (N,), from 0 to 1."""

# Share of the pixels that count as the hottest.
HOTTEST = 0.2
# Sides of the grid on which heat is carried, and of that of the histograms of gradients.
CELLS = 7


def spearman(first: npt.ArrayLike, second: npt.ArrayLike) -> np.ndarray:
    """Half of 1 less Spearman's correlation of the pixels: 1/2 without any, 1 if it is -1.

    So it is inverted and normalized as SSIM is in NISSIM. A map with one value everywhere has no
    order; two of these have 0, one with another map has 1/2.

    Raises:
        ValueError: the shapes differ or are no heatmaps', or values leave [0, 1].

    Example:
        >>> spearman([[0.1, 0.2, 0.9]], [[0.0, 0.1, 0.2]]).item()
        0.0
    """
    a, b = _checked(first, second)
    ranks = [scipy.stats.rankdata(_flat(maps), axis=-1).reshape(maps.shape) for maps in (a, b)]
    flat = [np.ptp(_flat(maps), axis=-1) == 0 for maps in (a, b)]
    return np.where(flat[0] & flat[1], 0.0, (1 - np.nan_to_num(correlation(*ranks))) / 2)


def top(first: npt.ArrayLike, second: npt.ArrayLike) -> np.ndarray:
    """Share of the hottest fifth of the pixels that is not in the other map's.

    Of pixels with one value of which some are in the fifth each is in it by the same part. So of an
    empty map every pixel is in it by a fifth.

    Raises:
        ValueError: as for :func:`spearman`.

    Example:
        >>> top([[1.0, 0.9, 0.3, 0.2, 0.1]], [[0.9, 1.0, 0.3, 0.2, 0.1]]).item()
        1.0
    """
    parts = [_in_hottest(_flat(maps)) for maps in _checked(first, second)]
    found: np.ndarray = 1 - np.minimum(*parts).sum(axis=-1) / parts[0].sum(axis=-1)
    return np.clip(found, 0, 1)


def _in_hottest(pixels: np.ndarray) -> np.ndarray:
    """By how much each pixel is among the hottest fifth, (..., n), 0 to 1."""
    count = HOTTEST * pixels.shape[-1]
    last = int(np.ceil(count)) - 1  # of the fifth, from the hottest one down
    limit = -np.partition(-pixels, last, axis=-1)[..., [last]]
    above, at = pixels > limit, pixels == limit
    rest = count - above.sum(axis=-1, keepdims=True)
    return above + at * rest / at.sum(axis=-1, keepdims=True)


def region_distance(first: npt.ArrayLike, second: npt.ArrayLike) -> np.ndarray:
    """1 less the intersection of two regions by their union.

    The region is that of :func:`gradcam_adv.metrics.region`, from half the maximum.

    Raises:
        ValueError: as for :func:`spearman`.

    Example:
        >>> region_distance([[1.0, 0.6, 0.0]], [[0.0, 0.6, 1.0]]).round(6).item()
        0.666667
    """
    a, b = (_flat(region(maps)) for maps in _checked(first, second))
    union = (a | b).sum(axis=-1)
    found: np.ndarray = 1 - (a & b).sum(axis=-1) / np.maximum(union, 1)
    return np.where(union == 0, 0.0, found)


def jensen_shannon(first: npt.ArrayLike, second: npt.ArrayLike) -> np.ndarray:
    """Jensen-Shannon divergence of the heat over the pixels, in bits.

    Raises:
        ValueError: as for :func:`spearman`.

    Example:
        >>> jensen_shannon([[1.0, 0.0]], [[0.0, 0.5]]).item()
        1.0
    """
    a, b = (_flat(maps) for maps in _checked(first, second))

    def of_some(p: np.ndarray, q: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            root = scipy.spatial.distance.jensenshannon(p, q, base=2, axis=-1)
        # Rounding may put the divergence of equal maps just below 0, which has no root.
        return np.nan_to_num(root) ** 2

    return _where_hot(of_some, a, b)


def earth_mover(first: npt.ArrayLike, second: npt.ArrayLike) -> np.ndarray:
    """The least mean distance over which heat has to be carried, in diagonals.

    Both maps have all of their heat, 1, in a grid of at most 7 x 7 cells. A pair takes about 10 ms.

    Raises:
        ValueError: as for :func:`spearman`.

    Example:
        >>> earth_mover([[1.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 1.0]]).round(6).item()
        0.5
    """
    a, b = _checked(first, second)
    height, width = a.shape[-2:]
    rows, columns = (_cells(side) for side in (height, width))
    sides = (rows, height), (columns, width)
    middles = [at + np.diff(np.append(at, side)) / 2 for at, side in sides]  # of the cells
    places = np.stack(np.meshgrid(*middles, indexing="ij"), axis=-1).reshape(-1, 2)
    diagonal = np.hypot(height, width)

    def of_pair(pair: tuple[np.ndarray, np.ndarray]) -> float:
        # Rounding may put the distance of equal maps just below 0.
        return max(scipy.stats.wasserstein_distance_nd(places, places, *pair), 0.0) / diagonal

    def of_some(p: np.ndarray, q: np.ndarray) -> np.ndarray:
        pairs = zip(p, q, strict=True)
        return np.array(list(threads.map_in_threads(of_pair, pairs)), np.float64)

    heat = [
        np.add.reduceat(np.add.reduceat(maps, rows, axis=-2), columns, axis=-1) for maps in (a, b)
    ]
    return _where_hot(of_some, *(_flat(cells) for cells in heat))


def hog(first: npt.ArrayLike, second: npt.ArrayLike) -> np.ndarray:
    """Distance of the histograms of oriented gradients, by the largest possible.

    Those of ``skimage.feature.hog``: nine directions, 7 x 7 cells, blocks of 2 x 2 cells. The
    descriptors have length 1, and no negative part, so the largest distance is the root of 2. A map
    without edges has the descriptor 0.

    Raises:
        ValueError: as for :func:`spearman`; or maps smaller than 7 x 7.

    Example:
        >>> import numpy as np
        >>> stripes = np.tile([0.0, 0.0, 1.0, 1.0], (16, 4))
        >>> hog(stripes, stripes).item(), round(hog(stripes, stripes.T).item(), 3)
        (0.0, 1.0)
    """
    import skimage.feature

    a, b = _checked(first, second)
    height, width = a.shape[-2:]
    if min(height, width) < CELLS:
        raise ValueError(
            f"Expected heatmaps of {CELLS} x {CELLS} or more for hog. Received: {height} x {width}"
        )

    def descriptor(heatmap: np.ndarray) -> np.ndarray:
        cell = height // CELLS, width // CELLS
        found: np.ndarray = skimage.feature.hog(heatmap, 9, cell, (2, 2))
        length = np.linalg.norm(found)
        return found / length if length else found

    def of_pair(pair: tuple[np.ndarray, np.ndarray]) -> float:
        one, other = map(descriptor, pair)
        return float(np.linalg.norm(one - other) / np.sqrt(2))

    pairs = zip(*(maps.reshape(-1, height, width) for maps in (a, b)), strict=True)
    found = list(threads.map_in_threads(of_pair, pairs))
    return np.array(found, np.float64).reshape(a.shape[:-2])


MEASURES: dict[str, Measure] = {
    "nissim": nissim,
    "spearman": spearman,
    "top": top,
    "region": region_distance,
    "jensen_shannon": jensen_shannon,
    "earth_mover": earth_mover,
    "hog": hog,
}
"""The measures by name."""


def _cells(side: int) -> np.ndarray:
    """The first pixel of each cell."""
    count = min(side, CELLS)
    return np.arange(count) * side // count


def _checked(first: npt.ArrayLike, second: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if a.shape != b.shape or a.ndim < 2 or 0 in a.shape[-2:]:
        raise ValueError(
            f"Expected two arrays of heatmaps, (..., h, w). Received: {a.shape}, {b.shape}"
        )
    for maps in (a, b):
        validation.check_range(maps, "heatmaps")
    return a, b


def _flat(maps: np.ndarray) -> np.ndarray:
    return maps.reshape(*maps.shape[:-2], -1)


def _where_hot(
    of_some: Callable[[np.ndarray, np.ndarray], np.ndarray], a: np.ndarray, b: np.ndarray
) -> np.ndarray:
    """``of_some`` (n, pixels) where both maps have heat; 0 where neither has, 1 where one has."""
    hot = [maps.any(axis=-1) for maps in (a, b)]
    found = np.where(hot[0] == hot[1], 0.0, 1.0)
    both = hot[0] & hot[1]
    if both.any():
        found[both] = of_some(a[both], b[both])
    return found
