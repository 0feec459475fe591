"""PSNR: how visible a perturbation is."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gradcam_adv import validation


def psnr(clean: npt.ArrayLike, perturbed: npt.ArrayLike) -> np.ndarray:
    """Peak signal-to-noise ratio of each image in dB: ``-10 log10(mean squared difference)``.

    Args:
        clean: images, (N, H, W, C), values in [0, 1].
        perturbed: images of the same shape.

    Returns:
        float64 (N,); infinite where the two are equal.

    Raises:
        ValueError: the shapes differ, or values that are no floats in [0, 1].

    Example:
        >>> import numpy as np
        >>> psnr(np.zeros((1, 2, 2, 3)), np.full((1, 2, 2, 3), 0.1)).round(6).tolist()
        [20.0]
    """
    a, b = np.asarray(clean), np.asarray(perturbed)
    if a.shape != b.shape or a.ndim != 4:
        raise ValueError(
            "Expected clean and perturbed images of one shape (N, H, W, C). "
            f"Received: {a.shape}, {b.shape}"
        )
    validation.check_pixels(a, "clean images")
    validation.check_pixels(b, "perturbed images")
    error = ((a.astype(np.float64) - b) ** 2).mean(axis=(1, 2, 3))
    with np.errstate(divide="ignore"):
        return -10 * np.log10(error)
