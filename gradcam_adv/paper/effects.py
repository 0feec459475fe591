"""Effects that a claim is judged by: an estimate, its interval, and two tests; over identities.

Photos of one person resemble each other, so whole people are left out or flipped.

The functions take one value per photo, shape (N,), and ``identities``, who is on each photo. An
effect below ``margin``, which is above 0, counts as none. ``seed`` is that of the flips.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.stats

from gradcam_adv import statistics

# Of the tests: enough for a p of 0.0002, which Holm's correction leaves room to multiply.
FLIPS = 9999
# With fewer photos of one outcome than this nothing is said on what goes with the outcome.
SCARCE = 10
# Photos of a similar shift are those of one tenth of all.
STRATA = 10
# Means that differ by less than this are equal.
_NOTHING = 1e-9
# Numbers held at a time while signs are flipped and people left out.
_BATCH = 5_000_000

# From how often each identity counts, shape (..., identities), to an estimate, shape (...).
Statistic = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Effect:
    """How far something is from none.

    Attributes:
        value: the estimate, 0 being none; NaN if there is nothing to estimate it from.
        count: of the values that it was estimated from.
        identities: of the people on those photos.
        low: end of its 95 % interval over identities; NaN with fewer than two.
        high: the other end.
        p: two-sided, of there being none; 1 if there is too little to test.
        p_short: of its being at least the margin, doubled so that both tests weigh the same; 1 if
            there is too little to test.
    """

    value: float
    count: int
    identities: int
    low: float = np.nan
    high: float = np.nan
    p: float = 1.0
    p_short: float = 1.0


def clustered_mean(
    values: npt.ArrayLike,
    identities: npt.ArrayLike,
    *,
    margin: float,
    seed: int = 0,
    answers: bool = False,
    most: float = np.inf,
) -> Effect:
    """The mean of ``values``, which lie between ``-most`` and ``most``; NaN is left out.

    With ``answers`` the values come from right and wrong answers, in [-1, 1], and are 0 for photos
    where nothing changed. A few photos without a change do not show that changes are rare, so
    ``p_short`` then is the exact binomial one if that is larger.
    """
    known, group, count = _known(values, identities)
    mean = statistics.mean(known, group)
    if count < 2:
        return Effect(mean.value, len(known), count)
    sums = np.bincount(group, weights=known, minlength=count)
    photos = np.bincount(group, minlength=count)
    p = _sign_flip_p(sums, "two-sided", seed)
    short = min(2 * _sign_flip_p(sums - margin * photos, "less", seed), 1.0)
    ends = statistics.change_interval(known, group) if answers else mean.interval(-most, most)
    effect = Effect(mean.value, len(known), count, *ends, p, short)
    return _unless_rare(effect, known, margin) if answers else effect


def paired_shares(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    identities: npt.ArrayLike,
    *,
    margin: float,
    seed: int = 0,
) -> Effect:
    """By how much one accuracy exceeds another on the same photos; each photo is 0 or 1 in both.

    ``p`` is McNemar's exact one or that of the identities, whichever is larger: McNemar's takes
    photos of one person for independent.
    """
    more = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    effect = clustered_mean(more, identities, margin=margin, seed=seed, answers=True)
    p = statistics.mcnemar_p(int((more > 0).sum()), int((more < 0).sum()))
    return _unless_rare(replace(effect, p=max(effect.p, p)), more, margin)


def clustered_auc(
    scores: npt.ArrayLike,
    failed: npt.ArrayLike,
    strata: npt.ArrayLike,
    identities: npt.ArrayLike,
    *,
    margin: float,
) -> Effect:
    """AUC less 0.5: how often a failed photo's score is above that of one that did not fail.

    Only photos of one stratum, such as the level of attack, are held against each other, and every
    such pair counts the same. Scores that are all the same say nothing: then the effect is NaN.
    """
    values, outcome = np.asarray(scores, dtype=np.float64), np.asarray(failed, dtype=bool)
    group, count = _groups(identities)
    above, pairs = np.zeros((count, count)), np.zeros((count, count))
    informative = False
    for stratum in np.unique(strata):
        own = np.asarray(strata) == stratum
        bad, good = own & outcome, own & ~outcome
        above += _pairs_above(values[bad], group[bad], values[good], group[good], count)
        pairs += np.outer(*(np.bincount(group[rows], minlength=count) for rows in (bad, good)))
        informative |= bool(bad.any() and good.any() and np.ptp(values[own]) > 0)

    def auc(weights: np.ndarray) -> np.ndarray:
        higher, all_pairs = (((weights @ m) * weights).sum(axis=-1) for m in (above, pairs))
        return _ratio(higher, all_pairs, otherwise=0.5) - 0.5

    def ends(estimate: statistics.Estimate) -> statistics.Ends:
        # The AUC itself is a share.
        share = replace(estimate, value=estimate.value + 0.5)
        low, high = statistics.share_interval(share)
        return low - 0.5, high - 0.5

    return _of_outcome(auc, ends, outcome, informative, count, margin)


def matched_difference(
    failed: npt.ArrayLike,
    treated: npt.ArrayLike,
    matched: npt.ArrayLike,
    identities: npt.ArrayLike,
    *,
    margin: float,
) -> Effect:
    """By how much the treated fail more often than the others of the same tenth of ``matched``.

    The difference of the shares within each tenth, weighted as least squares with a constant for
    each tenth would weigh it.
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
        # (bad/n - bad/m) times n m / (n + m), which is defined if n or m is 0, too.
        lead = (weights @ bad_treated) * m - (weights @ bad_others) * n
        both = _ratio(n * m, n + m).sum(axis=-1)
        return _ratio(_ratio(lead, n + m).sum(axis=-1), both)

    comparable = bool((of_treated.sum(axis=0) * of_others.sum(axis=0)).any())
    ends = statistics.Estimate.interval
    return _of_outcome(difference, ends, outcome, comparable, count, margin)


def common_direction(
    directions: npt.ArrayLike,
    identities: npt.ArrayLike,
    *,
    margin: float,
    seed: int = 0,
    control: npt.ArrayLike | None = None,
) -> Effect:
    """Whether directions have one in common: the length of the mean of their unit vectors.

    ``directions`` are in radians; NaN, where nothing moved, is left out. 0 is none, 1 is all the
    same. ``p`` is that of Rayleigh's test with whole identities turned at random, so that photos of
    one person may go the same way by that person's doing. With ``control``, directions on the same
    photos, it is no smaller than p of the control's mean being as long.
    """
    angles, group, count = _known(directions, identities)
    if not count:
        return Effect(np.nan, 0, 0)
    x, y, _ = _sums(angles, group, count)
    estimate = _without_each(_length(angles, group, count), count)
    if count < 2:
        return Effect(estimate.value, len(angles), count)
    rng = np.random.default_rng(seed)
    lengths = np.hypot(x, y)
    rayleigh = scipy.stats.monte_carlo_test(
        np.arctan2(y, x),
        lambda size: rng.uniform(-np.pi, np.pi, size),
        lambda turned, axis: np.abs((lengths * np.exp(1j * turned)).sum(axis=axis)),
        vectorized=True,
        n_resamples=FLIPS,
        batch=_batch(count),
        alternative="greater",
    )
    p = float(rayleigh.pvalue)
    if control is not None:
        everyone = _groups(identities)
        own, other = (_length(angles, *everyone) for angles in (directions, control))
        longer = _without_each(lambda weights: own(weights) - other(weights), everyone[1])
        p = max(p, min(2 * _p_above(longer.value, longer.error, longer.people), 1.0))
    # The length is on average too great, so this errs towards a common direction.
    short = min(2 * _p_above(margin - estimate.value, estimate.error, count), 1.0)
    return Effect(estimate.value, len(angles), count, *length_interval(estimate), p, short)


def correlation_of_means(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    strata: npt.ArrayLike,
    identities: npt.ArrayLike,
    *,
    margin: float,
) -> Effect:
    """Whether two numbers go together over conditions: Pearson's correlation of their means.

    Not that of ranks, which jump from one value to another, so that no error can be given.

    Args:
        first: of each condition and photo, (conditions, N).
        second: the same of the other number.
        strata: of each condition, (conditions,): what differs between strata is taken off.
        identities: who is on each photo, (N,).
        margin: below which the correlation counts as none.
    """
    group, count = _groups(identities)
    values = np.stack([first, second]).astype(np.float64)
    sums = np.stack([np.bincount(group, row, count) for row in values.reshape(-1, len(group))])
    photos = np.bincount(group, minlength=count)
    same = np.asarray(strata)[:, None] == np.asarray(strata)
    centred = np.eye(len(same)) - same / same.sum(axis=1)

    def correlation(weights: np.ndarray) -> np.ndarray:
        means = _ratio(weights @ sums.T, (weights @ photos)[..., None])
        x, y = (part @ centred for part in np.split(means, 2, axis=-1))
        return _ratio((x * y).sum(axis=-1), np.sqrt((x**2).sum(axis=-1) * (y**2).sum(axis=-1)))

    means = values.mean(axis=-1) @ centred
    if not count or (np.abs(means) < _NOTHING).all(axis=-1).any():
        return Effect(np.nan, len(group), count)
    return of_estimate(_without_each(correlation, count), len(group), margin=margin)


def of_estimate(estimate: statistics.Estimate, count: int, *, margin: float) -> Effect:
    """The effect that an estimate from ``count`` photos is, tested by Student's t."""
    effect = Effect(estimate.value, count, estimate.people, *estimate.interval())
    return _by_t(effect, estimate.error, margin) if estimate.people > 1 else effect


def _sums(
    angles: npt.ArrayLike, group: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """By group, the sum of the unit vectors, x and y, and their number; without NaN."""
    array = np.asarray(angles, dtype=np.float64)
    known = np.isfinite(array)
    weights = np.cos(array[known]), np.sin(array[known]), np.ones(known.sum())
    x, y, number = (np.bincount(group[known], one, minlength=count) for one in weights)
    return x, y, number


def _length(angles: npt.ArrayLike, group: np.ndarray, count: int) -> Statistic:
    """The length of the mean of unit vectors, 0 without any."""
    x, y, number = _sums(angles, group, count)
    return lambda weights: _ratio(np.hypot(weights @ x, weights @ y), weights @ number)


def _groups(identities: npt.ArrayLike) -> tuple[np.ndarray, int]:
    names, group = np.unique(np.asarray(identities), return_inverse=True)
    return group, len(names)


def _known(values: npt.ArrayLike, identities: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray, int]:
    """The values that are not NaN, the groups of their identities, and the number of groups."""
    array = np.asarray(values, dtype=np.float64)
    known = np.isfinite(array)
    return array[known], *_groups(np.asarray(identities)[known])


def _ratio(above: np.ndarray, below: np.ndarray, otherwise: float = 0.0) -> np.ndarray:
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


def _without_each(statistic: Statistic, identities: int) -> statistics.Estimate:
    everyone = np.arange(identities)
    step = _batch(identities)
    parts = (everyone[start : start + step] for start in range(0, identities, step))
    without = [statistic((everyone != part[:, None]).astype(np.float64)) for part in parts]
    value = float(statistic(np.ones(identities)))
    return statistics.Estimate(value, pd.Series(np.concatenate(without)))


def _p_above(difference: float, error: float, people: int) -> float:
    """p by Student's t of a number with this error being off by ``difference`` or more."""
    t = difference / max(error, np.finfo(np.float64).tiny)
    # No smaller than p of so few people all going one way by chance.
    return max(float(scipy.stats.t.sf(t, people - 1)), 0.5**people)


def _by_t(effect: Effect, error: float, margin: float) -> Effect:
    """The effect with both p, by Student's t."""
    differences = abs(effect.value), margin - effect.value
    p, short = (min(2 * _p_above(d, error, effect.identities), 1.0) for d in differences)
    return replace(effect, p=p, p_short=short)


def length_interval(length: statistics.Estimate) -> statistics.Ends:
    """The interval of the length of a mean direction; from 0 if random directions have such a one.

    Their length has a Rayleigh distribution, so it is never 0.
    """
    low, high = length.interval(0, 1)
    random = length.error * scipy.stats.rayleigh.ppf(statistics.CONFIDENCE)
    return 0.0 if length.value < random else low, high


def _of_outcome(
    statistic: Statistic,
    ends: Callable[[statistics.Estimate], statistics.Ends],
    outcome: np.ndarray,
    comparable: bool,
    identities: int,
    margin: float,
) -> Effect:
    """An effect on failures, tested by Student's t with the jackknife error over identities.

    NaN if nothing is ``comparable``. ``outcome`` says whether each photo failed.
    """
    if not comparable:
        return Effect(np.nan, len(outcome), identities)
    estimate = _without_each(statistic, identities)
    if identities < 2:
        return Effect(estimate.value, len(outcome), identities)
    effect = Effect(estimate.value, len(outcome), identities, *ends(estimate))
    enough = min(outcome.sum(), (~outcome).sum()) >= SCARCE
    return _by_t(effect, estimate.error, margin) if enough else effect


def _sign_flip_p(values: np.ndarray, alternative: Literal["two-sided", "less"], seed: int) -> float:
    """p of numbers, one per identity, whose signs are a matter of chance having such a sum.

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
