"""NISSIM, MOD and VID (the paper's equations 1-4) and PSNR, in NumPy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter

from gradcam_adv import batching as batches
from gradcam_adv import threads

# Window and constants of Wang et al. 2004 as scikit-image has them, for maps in [0, 1].
WINDOW = 7
_C1 = 0.01**2
_C2 = 0.03**2
# Pixels of a piece of a batch.
_PIECE = 2**15


def nissim(clean: npt.ArrayLike, perturbed: npt.ArrayLike) -> np.ndarray:
    """Normalized inverted SSIM of each pair of heatmaps: 0 the same, towards 1 dissimilar.

    ``NISSIM = (1 - SSIM) / 2``, the paper's equation 1. SSIM is that of
    ``skimage.metrics.structural_similarity`` with a uniform window of 7 and ``data_range=1``,
    for a whole batch at once.

    Args:
        clean: heatmaps, shape (..., H, W) with H and W at least 7, values in [0, 1].
        perturbed: heatmaps of the same shape.

    Returns:
        float64 array of shape (...), values in [0, 1].

    Raises:
        ValueError: the shapes differ, are smaller than the window, or values leave [0, 1].
    """
    a = _heatmaps(clean, "clean")
    b = _heatmaps(perturbed, "perturbed")
    if a.shape != b.shape:
        raise ValueError(
            f"Expected clean and perturbed heatmaps of one shape. Received: {a.shape}, {b.shape}"
        )

    # In pieces that fit into the processor's cache, each in a thread: NumPy and SciPy leave the
    # interpreter for the sums.
    pairs = a.reshape(-1, *a.shape[-2:]), b.reshape(-1, *b.shape[-2:])
    step = max(1, _PIECE // (a.shape[-2] * a.shape[-1]))
    pieces = (slice(start, start + step) for start in range(0, len(pairs[0]), step))
    values = threads.ordered(lambda piece: _nissim(pairs[0][piece], pairs[1][piece]), pieces)
    return np.concatenate([*values, np.empty(0)]).reshape(a.shape[:-2])


def _nissim(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """:func:`nissim` of checked heatmaps, (N, H, W), in float64."""
    a, b = a.astype(np.float64), b.astype(np.float64)

    def local_mean(x: np.ndarray) -> np.ndarray:
        return uniform_filter(x, size=(1, WINDOW, WINDOW))

    # Of the two variances SSIM only needs the sum: one mean of squares less to take.
    unbiased = WINDOW**2 / (WINDOW**2 - 1)
    mean_a, mean_b = local_mean(a), local_mean(b)
    both_squared = mean_a * mean_a + mean_b * mean_b
    variances = unbiased * (local_mean(a * a + b * b) - both_squared)
    product = mean_a * mean_b
    covariance = unbiased * (local_mean(a * b) - product)
    similarity = ((2 * product + _C1) * (2 * covariance + _C2)) / (
        (both_squared + _C1) * (variances + _C2)
    )
    # Windows that reach over the edge don't count.
    edge = (WINDOW - 1) // 2
    ssim = similarity[..., edge:-edge, edge:-edge].mean(axis=(-2, -1), dtype=np.float64)
    # Rounding can put SSIM a few 1e-16 outside [-1, 1].
    return np.clip((1 - ssim) / 2, 0.0, 1.0)


def _heatmaps(maps: npt.ArrayLike, name: str) -> np.ndarray:
    array = np.asarray(maps)
    if array.ndim < 2 or min(array.shape[-2:]) < WINDOW:
        raise ValueError(
            f"Expected {name} heatmaps of shape (..., H, W), H and W at least {WINDOW} "
            f"(the SSIM window). Received: shape {array.shape}"
        )
    batches.check_range(array, f"{name} heatmaps")
    return array


def mod(nissim_values: npt.ArrayLike) -> float:
    """Mean observed dissimilarity of one perturbed set: the mean NISSIM, equation 2.

    Args:
        nissim_values: NISSIM of each photo, shape (N,), values in [0, 1].

    Raises:
        ValueError: no values, or values outside [0, 1].
    """
    return float(_nissim_values(nissim_values, ndim=1).mean())


def vid(nissim_values: npt.ArrayLike) -> float:
    """Variation in dissimilarity over the levels of attack, equations 3 and 4.

    For each photo the population standard deviation of its NISSIM over the levels, then the mean
    over the photos. The paper's count 'epsilon' is read as the number of levels given.

    Args:
        nissim_values: NISSIM by level and photo, shape (levels, N), values in [0, 1].

    Raises:
        ValueError: not two dimensions, no values, or values outside [0, 1].
    """
    return float(_nissim_values(nissim_values, ndim=2).std(axis=0).mean())


def _nissim_values(values: npt.ArrayLike, ndim: int) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    shape = {1: "(N,)", 2: "(levels, N)"}[ndim]
    if array.ndim != ndim or array.size == 0:
        raise ValueError(
            f"Expected NISSIM values of shape {shape}, not empty. Received: shape {array.shape}"
        )
    if not np.all((array >= 0) & (array <= 1)):
        raise ValueError(
            f"Expected NISSIM values in [0, 1]. Received: from {array.min()} to {array.max()}"
        )
    return array


def psnr(clean: npt.ArrayLike, perturbed: npt.ArrayLike) -> np.ndarray:
    """Peak signal-to-noise ratio of each photo in dB; infinite where the two are equal.

    Args:
        clean: photos, shape (N, H, W, C), values in [0, 1].
        perturbed: photos of the same shape.

    Returns:
        float64 array of shape (N,).

    Raises:
        ValueError: the shapes differ, or values that are no floats in [0, 1].
    """
    a, b = np.asarray(clean), np.asarray(perturbed)
    if a.shape != b.shape or a.ndim != 4:
        raise ValueError(
            "Expected clean and perturbed photos of one shape (N, H, W, C). "
            f"Received: {a.shape}, {b.shape}"
        )
    batches.check_pixels(a, "clean photos")
    batches.check_pixels(b, "perturbed photos")
    error = ((a.astype(np.float64) - b) ** 2).mean(axis=(1, 2, 3))
    with np.errstate(divide="ignore"):
        return -10 * np.log10(error)
