"""MOD and VID: two numbers for a whole model (equations 2 to 4 of the paper)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def mod(nissim_values: npt.ArrayLike) -> float:
    """Mean observed dissimilarity of one attacked set: the mean NISSIM, equation 2.

    Args:
        nissim_values: of each image, (N,), values in [0, 1].

    Raises:
        ValueError: no values, or values outside [0, 1].

    Example:
        >>> round(mod([0.25, 0.5]), 4)
        0.375
    """
    return float(_checked(nissim_values, ndim=1).mean())


def vid(nissim_values: npt.ArrayLike) -> float:
    """Variation in dissimilarity over the epsilons: the mean over images of :func:`deviations`.

    Args:
        nissim_values: by epsilon and image, (epsilons, N), values in [0, 1].

    Raises:
        ValueError: not two dimensions, no values, or values outside [0, 1].

    Example:
        >>> round(vid([[0.25, 0.5], [0.5, 0.5]]), 4)
        0.0625
    """
    return float(deviations(nissim_values).mean())


def deviations(nissim_values: npt.ArrayLike) -> np.ndarray:
    """By image, the standard deviation of NISSIM over the epsilons, float64 (N,).

    With n epsilons and NISSIM d::

        m_i = 1/n sum_epsilon d_i,epsilon                         (3)
        deviation_i = sqrt(1/n sum_epsilon (d_i,epsilon - m_i)²)  (4)

    The paper's divisor "epsilon" is read as the number of epsilons. Argument and errors are those
    of :func:`vid`.
    """
    return _checked(nissim_values, ndim=2).std(axis=0)


def _checked(values: npt.ArrayLike, ndim: int) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    shape = {1: "(N,)", 2: "(epsilons, N)"}[ndim]
    if array.ndim != ndim or array.size == 0:
        raise ValueError(
            f"Expected NISSIM values of shape {shape}, not empty. Received: shape {array.shape}"
        )
    if not np.all((array >= 0) & (array <= 1)):
        raise ValueError(
            f"Expected NISSIM values in [0, 1]. Received: from {array.min()} to {array.max()}"
        )
    return array
