"""Intervals and tests beside the numbers: Wilson, bootstrap, Student's t, McNemar, Holm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.stats

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

    Photos of one person resemble each other, so people are resampled and not photos.

    Args:
        values: one number per photo, (N,).
        identities: who is on each photo, (N,).
        seed: of the resampling.

    Returns:
        The two ends; both NaN with fewer than two identities.
    """
    result = _resampled_mean(values, identities, np.random.default_rng(seed))
    if result is None:
        return float("nan"), float("nan")
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def bootstrap_difference_interval(
    first: tuple[npt.ArrayLike, npt.ArrayLike],
    second: tuple[npt.ArrayLike, npt.ArrayLike],
    seed: int = 0,
) -> tuple[float, float]:
    """95 % percentile interval of the mean of ``second`` less that of ``first``.

    The two have no photos in common, so the identities of each are drawn independently.

    Args:
        first: one number per photo, (N,), and who is on each, (N,).
        second: the same of the other photos, (M,).
        seed: of the resampling.

    Returns:
        The two ends; both NaN if one of the two has fewer than two identities.
    """
    chances = np.random.default_rng(seed).spawn(2)
    results = [
        _resampled_mean(*sample, chance)
        for sample, chance in zip((first, second), chances, strict=True)
    ]
    if results[0] is None or results[1] is None:
        return float("nan"), float("nan")
    differences = results[1].bootstrap_distribution - results[0].bootstrap_distribution
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(differences, [tail, 1 - tail])
    return float(low), float(high)


def _resampled_mean(
    values: npt.ArrayLike, identities: npt.ArrayLike, chance: np.random.Generator
) -> Any:
    """SciPy's bootstrap of the mean over whole identities; None with fewer than two."""
    values = np.asarray(values, dtype=np.float64)
    names, group = np.unique(np.asarray(identities), return_inverse=True)
    if len(names) < 2:
        return None
    sums = np.bincount(group, weights=values)
    counts = np.bincount(group).astype(np.float64)
    return scipy.stats.bootstrap(
        (sums, counts),
        lambda s, c, axis: s.sum(axis=axis) / c.sum(axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=chance,
    )


def resampled_means(values: npt.ArrayLike, groups: npt.ArrayLike, seed: int) -> np.ndarray:
    """Means of several rows under one resampling of whole groups: (RESAMPLES, rows).

    For numbers that are made of several means, such as a ratio: all means of a draw are over the
    same images.

    Args:
        values: one number per row and image, (rows, N).
        groups: what each image belongs to, (N,).
        seed: of the resampling.

    Returns:
        Without any draw, (0, rows), if there are fewer than two groups.
    """
    values = np.asarray(values, dtype=np.float64)
    names, group = np.unique(np.asarray(groups), return_inverse=True)
    if len(names) < 2:
        return np.empty((0, len(values)))
    sums = np.stack([np.bincount(group, weights=row) for row in values])
    chance = np.random.default_rng(seed)
    # How often each group is in each draw.
    times = chance.multinomial(len(names), np.full(len(names), 1 / len(names)), RESAMPLES)
    return (times @ sums.T) / (times @ np.bincount(group))[:, None]


def percentile_interval(draws: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """The two ends of the 95 % percentile interval of each column of (draws, columns).

    Draws may be infinite, so the ends are draws themselves. NaN without any draw.
    """
    draws = np.asarray(draws)
    if len(draws) == 0:
        low, high = np.full((2, *draws.shape[1:]), np.nan)
        return low, high
    tail = (1 - CONFIDENCE) / 2
    low = np.quantile(draws, tail, axis=0, method="lower")
    return low, np.quantile(draws, 1 - tail, axis=0, method="higher")


def t_mean_interval(values: npt.ArrayLike) -> tuple[float, float]:
    """95 % interval of the mean by Student's t, of independent values.

    Args:
        values: (N,).

    Returns:
        The two ends; both NaN for a single value, both the mean if all values are equal.
    """
    values = np.asarray(values, dtype=np.float64)
    if len(values) < 2:
        return float("nan"), float("nan")
    # Not stats.t.interval, which gives NaN for an interval without width.
    quantile = scipy.stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)
    half = quantile * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


def mcnemar_p(only_first: int, only_second: int) -> float:
    """McNemar's exact two-sided p, from the numbers of photos right under one condition only."""
    from statsmodels.stats.contingency_tables import mcnemar

    return min(float(mcnemar([[0, only_first], [only_second, 0]], exact=True).pvalue), 1.0)


def holm(p_values: Sequence[float]) -> np.ndarray:
    """p values corrected by Holm's method for their number; NaN stays and is not counted."""
    from statsmodels.stats.multitest import multipletests

    p = np.asarray(p_values, dtype=np.float64)
    corrected = np.full(p.shape, np.nan)
    tested = ~np.isnan(p)
    if tested.any():
        corrected[tested] = multipletests(p[tested], SIGNIFICANCE, "holm")[1]
    return corrected
