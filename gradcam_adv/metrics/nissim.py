"""NISSIM: how dissimilar two heatmaps are (equation 1 of the paper)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from gradcam_adv import threads, validation
from gradcam_adv.bilinear import Between, between

# SSIM's window and the roots of its constants (Wang et al. 2004), as in scikit-image, for values in
# [0, 1].
WINDOW = 7
_K1 = 0.01
_K2 = 0.03
# How many pixels a thread compares at a time.
_PIECE = 2**17


def nissim(
    clean: npt.ArrayLike,
    perturbed: npt.ArrayLike,
    size: int | Sequence[int] | None = None,
    *,
    data_range: float = 1.0,
) -> np.ndarray:
    """Normalized inverted SSIM of each pair of heatmaps: 0 for equal ones, towards 1 for others.

    ``NISSIM = (1 - SSIM) / 2``, equation 1. SSIM is that of
    ``skimage.metrics.structural_similarity`` with a uniform window of 7 and ``data_range=1``.
    The first call of a process compiles it, in about a second.

    Args:
        clean: heatmaps, (..., h, w), values in [0, 1].
        perturbed: heatmaps of the same shape.
        size: a side, or (height, width), at which they are compared, enlarged bilinearly; None for
            their own. At least 7 each way.
        data_range: as of scikit-image, which had 2 for floats before 0.20. The constants grow with
            its square.

    Returns:
        float64 (...), values in [0, 1]. That of a pair depends on this pair alone, to the last bit.

    Raises:
        ValueError: the shapes differ, are compared at less than the window, or values leave [0, 1].

    Example:
        >>> import numpy as np
        >>> heatmap = np.eye(8)
        >>> float(nissim(heatmap, heatmap)), round(float(nissim(heatmap, 1 - heatmap)), 3)
        (0.0, 0.648)
        >>> round(float(nissim(heatmap, 1 - heatmap, size=224)), 3)
        0.572
    """
    a, b = _checked(clean, "clean"), _checked(perturbed, "perturbed")
    if a.shape != b.shape:
        raise ValueError(
            f"Expected clean and perturbed heatmaps of one shape. Received: {a.shape}, {b.shape}"
        )
    shape = a.shape[-2:]
    height, width = shape if size is None else (size, size) if isinstance(size, int) else size
    if min(height, width) < WINDOW:
        raise ValueError(
            f"Expected heatmaps compared at {WINDOW} x {WINDOW} (the SSIM window) or more. "
            f"Received: {height} x {width}"
        )
    axes = between(shape[0], height), between(shape[1], width)
    ssim = _compiled()
    constants = (_K1 * data_range) ** 2, (_K2 * data_range) ** 2
    pairs = a.reshape(-1, *shape), b.reshape(-1, *shape)
    step = max(1, _PIECE // (height * width))
    pieces = (slice(start, start + step) for start in range(0, len(pairs[0]), step))

    def of_piece(piece: slice) -> np.ndarray:
        both = (np.array(maps[piece], np.float64, order="C") for maps in pairs)
        return ssim(*both, *axes, *constants)

    # The compiled function leaves the interpreter, so there is a piece in each core.
    found = np.concatenate([*threads.map_in_threads(of_piece, pieces), np.empty(0)])
    # Rounding can put SSIM a few 1e-16 outside [-1, 1].
    return np.clip((1 - found) / 2, 0.0, 1.0).reshape(a.shape[:-2])


def _checked(maps: npt.ArrayLike, name: str) -> np.ndarray:
    array = np.asarray(maps)
    if array.ndim < 2 or min(array.shape[-2:]) < 1:
        raise ValueError(
            f"Expected {name} heatmaps of shape (..., h, w). Received: shape {array.shape}"
        )
    validation.check_range(array, f"{name} heatmaps")
    return array


def _ssim(
    a: np.ndarray, b: np.ndarray, rows: Between, columns: Between, c1: float, c2: float
) -> np.ndarray:
    """SSIM of each pair of maps (N, h, w), resized by ``rows`` and ``columns``; float64 (N,).

    The mean, over all windows that lie inside the maps, of ::

        (2 m_a m_b + C1) (2 covariance + C2) / ((m_a² + m_b² + C1) (variance_a + variance_b + C2))

    One row of the resized maps at a time; only the last rows of a window are kept. Loops over x add
    nothing up along x, so the processor does several x at once and no order of sums changes.
    """
    top, bottom, down = rows
    left, right, across = columns
    height, width = len(down), len(across)
    windows = width - WINDOW + 1
    share_of_one = 1 / WINDOW**2
    unbiased = WINDOW**2 / (WINDOW**2 - 1)
    wide_a, wide_b = np.empty((a.shape[1], width)), np.empty((a.shape[1], width))
    # For each row of a window a, b, a² + b² (SSIM needs only the sum of the two variances), a b.
    kept = np.empty((WINDOW, 4, width))
    column = np.empty(width)
    means = np.empty((4, windows))
    similarity = np.empty(windows)
    result = np.empty(len(a))
    for pair in range(len(a)):
        if a.shape[2] == width:
            wide_a, wide_b = a[pair], b[pair]
        else:
            for y in range(a.shape[1]):
                for x in range(width):
                    a_left, b_left = a[pair, y, left[x]], b[pair, y, left[x]]
                    wide_a[y, x] = a_left + across[x] * (a[pair, y, right[x]] - a_left)
                    wide_b[y, x] = b_left + across[x] * (b[pair, y, right[x]] - b_left)
        for x in range(windows):
            similarity[x] = 0.0
        for y in range(height):
            above, below, share = top[y], bottom[y], down[y]
            row = kept[y % WINDOW]
            for x in range(width):
                a_here = wide_a[above, x] + share * (wide_a[below, x] - wide_a[above, x])
                b_here = wide_b[above, x] + share * (wide_b[below, x] - wide_b[above, x])
                row[0, x] = a_here
                row[1, x] = b_here
                row[2, x] = a_here * a_here + b_here * b_here
                row[3, x] = a_here * b_here
            if y < WINDOW - 1:
                continue
            for i in range(4):
                for x in range(width):
                    total = 0.0
                    for k in range(WINDOW):
                        total += kept[k, i, x]
                    column[x] = total
                for x in range(windows):
                    total = 0.0
                    for k in range(WINDOW):
                        total += column[x + k]
                    means[i, x] = share_of_one * total
            for x in range(windows):
                a_mean, b_mean = means[0, x], means[1, x]
                both_squared = a_mean * a_mean + b_mean * b_mean
                product = a_mean * b_mean
                variances = unbiased * (means[2, x] - both_squared)
                covariance = unbiased * (means[3, x] - product)
                over = (2 * product + c1) * (2 * covariance + c2)
                similarity[x] += over / ((both_squared + c1) * (variances + c2))
        total = 0.0
        for x in range(windows):
            total += similarity[x]
        result[pair] = total / (windows * (height - WINDOW + 1))
    return result


@functools.cache
def _compiled() -> Callable[..., np.ndarray]:
    import numba

    return numba.njit(nogil=True, error_model="numpy")(_ssim)
