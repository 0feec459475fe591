"""The spectrum of a perturbation: how much of its energy is at low spatial frequencies."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

# Cycles per pixel; the highest frequency is 1/2.
LOW = 1 / 8


def low_frequency_share(perturbations: npt.ArrayLike) -> np.ndarray:
    """Share of each perturbation's energy at frequencies of at most 1/8 in both directions.

    With F, the Fourier transform over rows and columns, and frequencies f in cycles per pixel::

        share = sum over |f_row|, |f_column| <= 1/8 of |F|^2 / sum of |F|^2

    Of white noise it is the share of these frequencies among all, about 1/16.

    Args:
        perturbations: of one size, such as signs, (N, H, W, C).

    Returns:
        float64 (N,), from 0 to 1; NaN for a perturbation that is 0 everywhere.

    Raises:
        ValueError: another shape.

    Example:
        >>> import numpy as np
        >>> even = np.ones((1, 16, 16, 3))
        >>> stripes = np.broadcast_to((-1.0) ** np.arange(16)[:, None], even.shape)
        >>> low_frequency_share(np.concatenate([even, stripes])).tolist()
        [1.0, 0.0]
    """
    array = np.asarray(perturbations, dtype=np.float64)
    if array.ndim != 4:
        raise ValueError(
            f"Expected perturbations of shape (N, H, W, C). Received: shape {array.shape}"
        )
    energy = (np.abs(np.fft.fft2(array, axes=(1, 2))) ** 2).sum(axis=-1)
    rows, columns = (np.abs(np.fft.fftfreq(side)) <= LOW for side in array.shape[1:3])
    with np.errstate(invalid="ignore"):
        share: np.ndarray = energy[:, rows][:, :, columns].sum(axis=(1, 2)) / energy.sum(
            axis=(1, 2)
        )
    return share
