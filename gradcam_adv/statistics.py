"""Intervals and tests that stand beside the numbers: Wilson, bootstrap, McNemar, Holm."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import scipy.stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

CONFIDENCE = 0.95
SIGNIFICANCE = 0.05
RESAMPLES = 2000


def wilson_interval(right: int, total: int) -> tuple[float, float]:
    """95 % Wilson interval of an accuracy, each end in [0, 1].

    Raises:
        ValueError: ``total`` is not positive, or ``right`` is not between 0 and ``total``.
    """
    if not 0 <= right <= total or total < 1:
        raise ValueError(f"Expected 0 <= right <= total, total >= 1. Received: {right}, {total}")
    interval = scipy.stats.binomtest(right, total).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def bootstrap_mean_interval(
    values: npt.ArrayLike, identities: npt.ArrayLike, seed: int = 0
) -> tuple[float, float]:
    """95 % percentile interval of the mean, by resampling whole identities.

    Photos of one person resemble each other, so the person is what is drawn again, not the photo.

    Args:
        values: one number a photo, shape (N,).
        identities: who is on each photo, shape (N,).
        seed: of the resampling.

    Returns:
        The two ends; both NaN with fewer than two identities, where nothing can be resampled.
    """
    values = np.asarray(values, dtype=np.float64)
    names, group = np.unique(np.asarray(identities), return_inverse=True)
    if len(names) < 2:
        return float("nan"), float("nan")
    sums = np.bincount(group, weights=values)
    counts = np.bincount(group).astype(np.float64)
    result = scipy.stats.bootstrap(
        (sums, counts),
        lambda s, c, axis: s.sum(axis=axis) / c.sum(axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def mcnemar_p(only_first: int, only_second: int) -> float:
    """McNemar's exact two-sided p, from the photos that only one of two conditions has right."""
    return min(float(mcnemar([[0, only_first], [only_second, 0]], exact=True).pvalue), 1.0)


def holm(p_values: Sequence[float]) -> np.ndarray:
    """p corrected after Holm for how many there are; NaN, no test, stays and is not counted."""
    p = np.asarray(p_values, dtype=np.float64)
    corrected = np.full(p.shape, np.nan)
    tested = ~np.isnan(p)
    if tested.any():
        corrected[tested] = multipletests(p[tested], SIGNIFICANCE, "holm")[1]
    return corrected
