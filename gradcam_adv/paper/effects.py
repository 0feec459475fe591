"""Effects that a claim is judged by: an estimate, its interval, and two tests; over identities.

Photos of one person resemble each other, so whole people are drawn again and again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import scipy.stats

from gradcam_adv import statistics

# Of the tests: enough for a p of 0.0002, which Holm's correction leaves room to multiply.
FLIPS = 9999
# With fewer photos of one outcome than this nothing is said on what goes with the outcome.
SCARCE = 10
# Photos of a similar shift are those of one tenth of all.
STRATA = 10
# Numbers held at a time while identities are resampled.
_BATCH = 5_000_000

# From how often each identity counts, shape (..., identities), to an estimate, shape (...).
Statistic = Callable[[np.ndarray], np.ndarray]
Alternative = Literal["two-sided", "less"]


@dataclass(frozen=True)
class Effect:
    """How far something is from none.

    Attributes:
        value: the estimate, 0 being none; NaN where there is nothing to estimate it from.
        low: end of its 95 % bootstrap interval over identities; NaN with fewer than two.
        high: the other end.
        p: two-sided, of there being none; 1 where there is too little to test.
        p_short: of its being at least the margin below which an effect counts as none, doubled
            so that both tests weigh the same; 1 where there is too little to test.
        count: of the values that it was estimated from.
        identities: of the people on those photos.
    """

    value: float
    low: float
    high: float
    p: float
    p_short: float
    count: int
    identities: int


def clustered_mean(
    values: npt.ArrayLike,
    identities: npt.ArrayLike,
    *,
    margin: float,
    seed: int = 0,
    answers: bool = False,
) -> Effect:
    """The mean of one number a photo.

    Args:
        values: shape (N,); NaN is left out.
        identities: who is on each photo, shape (N,).
        margin: above 0.
        seed: of resampling.
        answers: the values come of right and wrong answers, in [-1, 1], and are 0 for photos
            where nothing changed. Few photos without a change say little of how rare it is, so
            ``p_short`` then is the exact binomial one where that is larger.
    """
    array = np.asarray(values, dtype=np.float64)
    known = np.isfinite(array)
    array = array[known]
    group, count = _groups(np.asarray(identities)[known])
    sums = np.bincount(group, weights=array, minlength=count)
    photos = np.bincount(group, minlength=count)

    def mean(weights: np.ndarray) -> np.ndarray:
        return _ratio(weights @ sums, weights @ photos, 0.0)

    def p_of(null: float, alternative: Alternative) -> float:
        return _sign_flip_p(sums - null * photos, alternative, seed)

    effect = _over_identities(mean, p_of, len(array), count, margin, seed)
    return _unless_rare(effect, array, margin) if answers else effect


def paired_shares(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    identities: npt.ArrayLike,
    *,
    margin: float,
    seed: int = 0,
) -> Effect:
    """By how much one accuracy exceeds another on the same photos.

    ``p`` is McNemar's exact one or that of the identities, whichever is larger: McNemar's takes
    photos of one person for independent.

    Args:
        first: 0 or 1 for each photo, shape (N,).
        second: the same under the other condition.
        identities: who is on each photo, shape (N,).
        margin: above 0.
        seed: of resampling.
    """
    more = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    effect = clustered_mean(more, identities, margin=margin, seed=seed)
    p = statistics.mcnemar_p(int((more > 0).sum()), int((more < 0).sum()))
    return _unless_rare(replace(effect, p=max(effect.p, p)), more, margin)


def clustered_auc(
    scores: npt.ArrayLike,
    failed: npt.ArrayLike,
    strata: npt.ArrayLike,
    identities: npt.ArrayLike,
    *,
    margin: float,
    seed: int = 0,
) -> Effect:
    """AUC less 0.5: how often a failed photo's score is above that of one that did not fail.

    Only photos of one stratum are held against each other, and every such pair counts the same.

    Args:
        scores: one number a photo, shape (N,).
        failed: whether it failed, bool (N,).
        strata: such as the level of attack, shape (N,).
        identities: who is on each photo, shape (N,).
        margin: above 0.
        seed: of resampling.
    """
    values, outcome = np.asarray(scores, dtype=np.float64), np.asarray(failed, dtype=bool)
    group, count = _groups(identities)
    levels, level = np.unique(np.asarray(strata), return_inverse=True)
    above, pairs = np.zeros((count, count)), np.zeros((count, count))
    for stratum in range(len(levels)):
        bad, good = outcome & (level == stratum), ~outcome & (level == stratum)
        above += _pairs_above(values[bad], group[bad], values[good], group[good], count)
        pairs += np.outer(
            np.bincount(group[bad], minlength=count), np.bincount(group[good], minlength=count)
        )

    def auc(weights: np.ndarray) -> np.ndarray:
        def total(matrix: np.ndarray) -> np.ndarray:
            return ((weights @ matrix) * weights).sum(axis=-1)

        return _ratio(total(above), total(pairs), 0.5) - 0.5

    p_of = _jackknife(auc, count)
    effect = _over_identities(auc, p_of, len(values), count, margin, seed)
    if not pairs.any():
        return replace(effect, value=np.nan, low=np.nan, high=np.nan, p=1.0, p_short=1.0)
    return _unless_scarce(effect, outcome)


def matched_difference(
    failed: npt.ArrayLike,
    treated: npt.ArrayLike,
    matched: npt.ArrayLike,
    identities: npt.ArrayLike,
    *,
    margin: float,
    seed: int = 0,
) -> Effect:
    """By how much the treated fail more often than the others of the same tenth of ``matched``.

    The difference of the shares within each tenth, weighted as least squares with a constant for
    each tenth would weigh it.

    Args:
        failed: bool (N,).
        treated: bool (N,).
        matched: what both shall be alike in, shape (N,).
        identities: who is on each photo, shape (N,).
        margin: above 0.
        seed: of resampling.
    """
    outcome, chosen = np.asarray(failed, dtype=bool), np.asarray(treated, dtype=bool)
    group, count = _groups(identities)
    ranks = scipy.stats.rankdata(matched, "min") - 1
    tenth = (STRATA * ranks // max(len(outcome), 1)).astype(int)
    cell = group * STRATA + tenth

    def counted(rows: np.ndarray) -> np.ndarray:
        return np.bincount(cell[rows], minlength=count * STRATA).reshape(count, STRATA)

    of_treated, of_others = counted(chosen), counted(~chosen)
    bad_treated, bad_others = counted(chosen & outcome), counted(~chosen & outcome)

    def difference(weights: np.ndarray) -> np.ndarray:
        n, m = weights @ of_treated, weights @ of_others
        # (bad/n - bad/m) times n m / (n + m), which is defined where n or m is 0, too.
        lead = (weights @ bad_treated) * m - (weights @ bad_others) * n
        both = _ratio(n * m, n + m, 0.0).sum(axis=-1)
        return _ratio(_ratio(lead, n + m, 0.0).sum(axis=-1), both, 0.0)

    p_of = _jackknife(difference, count)
    effect = _over_identities(difference, p_of, len(outcome), count, margin, seed)
    if not (of_treated.sum(axis=0) * of_others.sum(axis=0)).any():
        return replace(effect, value=np.nan, low=np.nan, high=np.nan, p=1.0, p_short=1.0)
    return _unless_scarce(effect, outcome)


def common_direction(
    directions: npt.ArrayLike, identities: npt.ArrayLike, *, margin: float, seed: int = 0
) -> Effect:
    """Whether directions have one in common: the length of the mean of their unit vectors.

    0 is none, 1 is all the same. ``p`` is that of Rayleigh's test with whole identities turned at
    random, so that photos of one person may go the same way by that person's doing.

    Args:
        directions: radians, shape (N,); NaN, where nothing moved, is left out.
        identities: who is on each photo, shape (N,).
        margin: between 0 and 1.
        seed: of resampling.
    """
    angles = np.asarray(directions, dtype=np.float64)
    known = np.isfinite(angles)
    angles = angles[known]
    group, count = _groups(np.asarray(identities)[known])
    x = np.bincount(group, weights=np.cos(angles), minlength=count)
    y = np.bincount(group, weights=np.sin(angles), minlength=count)
    photos = np.bincount(group, minlength=count)

    def length(weights: np.ndarray) -> np.ndarray:
        return _ratio(np.hypot(weights @ x, weights @ y), weights @ photos, 0.0)

    if not len(angles):
        return Effect(np.nan, np.nan, np.nan, 1.0, 1.0, 0, 0)
    value = float(length(np.ones(count)))
    if count < 2:
        return Effect(value, np.nan, np.nan, 1.0, 1.0, len(angles), count)
    low, high, draws = _bootstrap(length, count, seed)
    rng = np.random.default_rng(seed)
    own = np.hypot(x, y)
    rayleigh = scipy.stats.monte_carlo_test(
        np.arctan2(y, x),
        lambda size: rng.uniform(-np.pi, np.pi, size),
        lambda turned, axis: np.abs((own * np.exp(1j * turned)).sum(axis=axis)),
        vectorized=True,
        n_resamples=FLIPS,
        batch=_batch(count),
        alternative="greater",
    )
    # Resampled lengths are on average too long, so this errs towards a common direction.
    short = (1 + int((draws >= margin).sum())) / (1 + len(draws))
    return Effect(value, low, high, float(rayleigh.pvalue), min(2 * short, 1.0), len(angles), count)


def _groups(identities: npt.ArrayLike) -> tuple[np.ndarray, int]:
    names, group = np.unique(np.asarray(identities), return_inverse=True)
    return group, len(names)


def _ratio(above: np.ndarray, below: np.ndarray, otherwise: float) -> np.ndarray:
    full = np.full(np.broadcast_shapes(np.shape(above), np.shape(below)), otherwise)
    return np.divide(above, below, out=full, where=np.asarray(below) > 0)


def _pairs_above(
    high: np.ndarray, high_group: np.ndarray, low: np.ndarray, low_group: np.ndarray, count: int
) -> np.ndarray:
    """How many pairs have ``high`` above ``low``, ties half, by the groups of both."""
    above = np.zeros((count, count))
    for group in np.unique(low_group):
        ordered = np.sort(low[low_group == group])
        places = [np.searchsorted(ordered, high, side) for side in ("left", "right")]
        above[:, group] = np.bincount(high_group, weights=sum(places) / 2, minlength=count)
    return above


def _unless_rare(effect: Effect, values: np.ndarray, margin: float) -> Effect:
    """With ``p_short`` no smaller than that few photos with a value above 0 can show."""
    if not len(values):
        return effect
    # The mean is at most the share of such photos, of which the binomial test is exact.
    rare = scipy.stats.binomtest(int((values > 0).sum()), len(values), margin, "less").pvalue
    opposite = effect.p if effect.value < 0 else 1.0
    return replace(effect, p_short=max(effect.p_short, min(2 * rare, opposite)))


def _unless_scarce(effect: Effect, outcome: np.ndarray) -> Effect:
    if min(outcome.sum(), (~outcome).sum()) < SCARCE:
        return replace(effect, p=1.0, p_short=1.0)
    return effect


def _over_identities(
    statistic: Statistic,
    p_of: Callable[[float, Alternative], float],
    count: int,
    identities: int,
    margin: float,
    seed: int,
) -> Effect:
    """An effect with its interval by bootstrap; ``p_of`` tests whether it is a given value."""
    if not count:
        return Effect(np.nan, np.nan, np.nan, 1.0, 1.0, 0, 0)
    value = float(statistic(np.ones(identities)))
    if identities < 2:
        return Effect(value, np.nan, np.nan, 1.0, 1.0, count, identities)
    low, high, _ = _bootstrap(statistic, identities, seed)
    p_short = min(2 * p_of(margin, "less"), 1.0)
    return Effect(value, low, high, p_of(0.0, "two-sided"), p_short, count, identities)


def _jackknife(statistic: Statistic, identities: int) -> Callable[[float, Alternative], float]:
    """Student's t with the standard error found by leaving out one identity after the other.

    p is no smaller than that of so few people all going one way by chance.
    """

    def p_of(null: float, alternative: Alternative) -> float:
        left_out = statistic(1 - np.eye(identities))
        error = (identities - 1) * left_out.std(ddof=1) / np.sqrt(identities)
        beyond = float(statistic(np.ones(identities))) - null
        t = beyond / error if error > 0 else np.copysign(np.inf, beyond) if beyond else 0.0
        one_sided = float(scipy.stats.t.sf(-t if alternative == "less" else abs(t), identities - 1))
        one_sided = max(one_sided, 0.5**identities)
        return one_sided if alternative == "less" else min(2 * one_sided, 1.0)

    return p_of


def _bootstrap(statistic: Statistic, identities: int, seed: int) -> tuple[float, float, np.ndarray]:
    """The ends of the 95 % percentile interval, and the estimate of every draw of identities."""
    result = scipy.stats.bootstrap(
        (np.arange(identities),),
        lambda drawn, axis: statistic(_times_drawn(drawn)),
        vectorized=True,
        n_resamples=statistics.RESAMPLES,
        batch=_batch(identities),
        confidence_level=statistics.CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    interval = result.confidence_interval
    return float(interval.low), float(interval.high), result.bootstrap_distribution


def _times_drawn(drawn: np.ndarray) -> np.ndarray:
    """How often each of n is among n drawn ones, (..., n)."""
    count = drawn.shape[-1]
    rows = drawn.reshape(-1, count)
    places = rows + count * np.arange(len(rows))[:, None]
    times = np.bincount(places.ravel(), minlength=rows.size)
    return times.reshape(drawn.shape).astype(np.float64)


def _sign_flip_p(values: np.ndarray, alternative: Alternative, seed: int) -> float:
    """p of numbers, one an identity, whose signs are a matter of chance having such a sum.

    With few identities there are few ways to flip signs: p is at best 2 / 2^identities.
    """
    rng = np.random.default_rng(seed)
    result = scipy.stats.monte_carlo_test(
        np.ones(len(values)),
        lambda size: rng.choice((-1.0, 1.0), size),
        lambda signs, axis: signs @ values,
        vectorized=True,
        n_resamples=FLIPS,
        batch=_batch(len(values)),
        alternative=alternative,
    )
    return float(result.pvalue)


def _batch(identities: int) -> int:
    return max(1, _BATCH // identities)
