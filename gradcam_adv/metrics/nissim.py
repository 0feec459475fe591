"""NISSIM: how dissimilar two heatmaps are (equation 1 of the paper)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter

from gradcam_adv import threads, validation

# SSIM's window and constants (Wang et al. 2004), as in scikit-image, for values in [0, 1].
WINDOW = 7
_C1 = 0.01**2
_C2 = 0.03**2
# How many pixels are compared at a time: as many as fit into a processor's cache.
_PIECE = 2**15


def nissim(clean: npt.ArrayLike, perturbed: npt.ArrayLike) -> np.ndarray:
    """Normalized inverted SSIM of each pair of heatmaps: 0 for equal ones, towards 1 for others.

    ``NISSIM = (1 - SSIM) / 2``, equation 1. SSIM is that of
    ``skimage.metrics.structural_similarity`` with a uniform window of 7 and ``data_range=1``.

    Args:
        clean: heatmaps, (..., H, W) with H and W at least 7, values in [0, 1].
        perturbed: heatmaps of the same shape.

    Returns:
        float64 (...), values in [0, 1].

    Raises:
        ValueError: the shapes differ or are smaller than the window, or values leave [0, 1].

    Example:
        >>> import numpy as np
        >>> heatmap = np.eye(8)
        >>> float(nissim(heatmap, heatmap)), round(float(nissim(heatmap, 1 - heatmap)), 3)
        (0.0, 0.648)
    """
    a = _checked(clean, "clean")
    b = _checked(perturbed, "perturbed")
    if a.shape != b.shape:
        raise ValueError(
            f"Expected clean and perturbed heatmaps of one shape. Received: {a.shape}, {b.shape}"
        )
    # In pieces, each in a thread: NumPy and SciPy leave the interpreter for the sums.
    pairs = a.reshape(-1, *a.shape[-2:]), b.reshape(-1, *b.shape[-2:])
    step = max(1, _PIECE // (a.shape[-2] * a.shape[-1]))
    pieces = (slice(start, start + step) for start in range(0, len(pairs[0]), step))
    ssims = threads.map_in_threads(lambda piece: _ssim(pairs[0][piece], pairs[1][piece]), pieces)
    ssim = np.concatenate([*ssims, np.empty(0)]).reshape(a.shape[:-2])
    # Rounding can put SSIM a few 1e-16 outside [-1, 1].
    return np.clip((1 - ssim) / 2, 0.0, 1.0)


def _ssim(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """SSIM of each pair of maps (N, H, W), float64 (N,).

    The mean, over all windows that lie inside the maps, of ::

        (2 m_a m_b + C1) (2 covariance + C2) / ((m_a² + m_b² + C1) (variance_a + variance_b + C2))
    """
    a, b = a.astype(np.float64), b.astype(np.float64)

    def local_mean(x: np.ndarray) -> np.ndarray:
        return uniform_filter(x, size=(1, WINDOW, WINDOW))

    # SSIM needs only the sum of the two variances.
    unbiased = WINDOW**2 / (WINDOW**2 - 1)
    mean_a, mean_b = local_mean(a), local_mean(b)
    both_squared = mean_a * mean_a + mean_b * mean_b
    variances = unbiased * (local_mean(a * a + b * b) - both_squared)
    product = mean_a * mean_b
    covariance = unbiased * (local_mean(a * b) - product)
    above = (2 * product + _C1) * (2 * covariance + _C2)
    similarity = above / ((both_squared + _C1) * (variances + _C2))
    edge = (WINDOW - 1) // 2
    return similarity[..., edge:-edge, edge:-edge].mean(axis=(-2, -1), dtype=np.float64)


def _checked(maps: npt.ArrayLike, name: str) -> np.ndarray:
    array = np.asarray(maps)
    if array.ndim < 2 or min(array.shape[-2:]) < WINDOW:
        raise ValueError(
            f"Expected {name} heatmaps of shape (..., H, W), H and W at least {WINDOW} "
            f"(the SSIM window). Received: shape {array.shape}"
        )
    validation.check_range(array, f"{name} heatmaps")
    return array
