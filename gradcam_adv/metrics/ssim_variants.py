"""NISSIM by other forms of SSIM: a range of 2, a Gaussian window, pictures in colours."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from gradcam_adv import threads
from gradcam_adv.metrics.nissim import WINDOW, nissim

Ssim = Literal["uniform", "range 2", "gaussian"]
# The side of each form's window.
WINDOWS: dict[Ssim, int] = {"uniform": WINDOW, "range 2": WINDOW, "gaussian": 11}


def nissim_variant(
    clean: npt.ArrayLike,
    perturbed: npt.ArrayLike,
    ssim: Ssim = "uniform",
    *,
    colours: bool = False,
) -> np.ndarray:
    """NISSIM, equation 1, by another form of scikit-image's SSIM.

    Args:
        clean: heatmaps (..., H, W), or pictures (..., H, W, 3), values in [0, 1]; no side is
            smaller than the window of ``ssim``.
        perturbed: of the same shape.
        ssim: "uniform", a window of 7; "range 2", the same with ``data_range=2``; or "gaussian", a
            window of 11 with sigma 1.5, the one of Wang et al. 2004.
        colours: whether they are pictures. SSIM is then the mean over the channels.

    Returns:
        float64 (...), values in [0, 1].

    Raises:
        ValueError: the shapes differ, are smaller than the window, or values leave [0, 1].

    Example:
        >>> import numpy as np
        >>> heatmap = np.eye(16)
        >>> round(float(nissim_variant(heatmap, 1 - heatmap, "range 2")), 3)
        0.581
    """
    first, second = np.asarray(clean), np.asarray(perturbed)
    if colours:
        first, second = (np.moveaxis(pictures, -1, 0) for pictures in (first, second))
        return np.asarray(nissim_variant(first, second, ssim).mean(axis=0))
    if ssim != "gaussian":
        return nissim(first, second, data_range=2.0 if ssim == "range 2" else 1.0)
    window = WINDOWS[ssim]
    shape = first.shape[-2:]
    if first.shape != second.shape or len(shape) < 2 or min(shape) < window:
        raise ValueError(
            f"Expected clean and perturbed heatmaps of one shape, {window} x {window} (the SSIM "
            f"window) or more. Received: {first.shape}, {second.shape}"
        )
    pairs = zip(first.reshape(-1, *shape), second.reshape(-1, *shape), strict=True)
    found = np.array(list(threads.map_in_threads(_of_gaussian, pairs)))
    return np.clip((1 - found) / 2, 0.0, 1.0).reshape(first.shape[:-2])


def _of_gaussian(pair: tuple[np.ndarray, np.ndarray]) -> float:
    from skimage.metrics import structural_similarity

    first, second = (heatmap.astype(np.float64) for heatmap in pair)
    ssim = structural_similarity(
        first,
        second,
        data_range=1.0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    return float(ssim)
