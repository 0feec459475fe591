"""Confidence intervals and tests over people: jackknife, Wilson, bootstrap, Holm.

Photos of one person resemble each other, so people are what counts: a number is computed again
without each person (:class:`Estimate`), and how much it changes says how well it is known. All
intervals are 95 % ones.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.stats

CONFIDENCE = 0.95
SIGNIFICANCE = 0.05
RESAMPLES = 2000

# The two ends of an interval; both NaN if there is none.
Ends = tuple[float, float]
_NONE: Ends = float("nan"), float("nan")
# An error below this is rounding.
_NOTHING = 1e-9
_NO_PAIRS = pd.Series(dtype=np.float64, index=pd.MultiIndex.from_arrays([[], []]))


@dataclass(frozen=True)
class Estimate:
    """A number, and what it is without each person: the jackknife (Efron and Stein 1981).

    Attributes:
        value: the number.
        without: by person, the number without all photos of that person; if it is of pairs, without
            all pairs that the person is in.
        without_two: by two people, the number without the pairs of these two; empty for photos.
    """

    value: float
    without: pd.Series
    without_two: pd.Series = field(default_factory=lambda: _NO_PAIRS)

    @property
    def people(self) -> int:
        """Their number."""
        return len(self.without)

    @cached_property
    def error(self) -> float:
        """The standard error; NaN with fewer than two people, or three if it is of pairs.

        A pair is left out with either of its people. So what is peculiar to the pairs of two people
        counts twice, and is subtracted once (Aronow, Samii and Assenova 2015).
        """
        without = self.without.to_numpy()
        if self.people < 2 or not np.isfinite(without).all():
            return float("nan")
        by_one = (self.people - 1) * without.var()
        by_two = ((self.without_two.to_numpy() - self.value) ** 2).sum()
        return float(np.sqrt(max(by_one - by_two, by_two)))

    def interval(self, least: float = -np.inf, greatest: float = np.inf) -> Ends:
        """The ends by Student's t, corrected for skewness (Hall 1992).

        Both are kept to what the number can be, from ``least`` to ``greatest``.
        """
        if np.isnan(self.error):
            return _NONE
        without = self.without.to_numpy()
        moves = without.mean() - without
        squares = (moves**2).sum()
        skewness = (moves**3).sum() / squares**1.5 if squares else 0.0

        def corrected(quantile: float) -> float:
            if abs(skewness) < 1e-6:
                return quantile
            cube = 1 + skewness * (quantile - skewness / 6)
            return float(3 / skewness * (np.cbrt(cube) - 1))

        t = t_quantile(self.people)
        steps = self.error * np.array([corrected(t), corrected(-t)])
        low, high = np.clip(self.value - steps, least, greatest)
        return float(low), float(high)

    def __sub__(self, other: Estimate) -> Estimate:
        """The difference of two numbers of the same people, or partly the same."""
        return self._with(other, operator.sub, self.value - other.value)

    def __truediv__(self, other: Estimate) -> Estimate:
        """The ratio of two numbers of the same people, or partly the same."""
        ratio = float(np.divide(self.value, other.value)) if other.value else float("nan")
        return self._with(other, operator.truediv, ratio)

    def _with(self, other: Estimate, of: Callable[..., Any], value: float) -> Estimate:
        def joined(first: pd.Series, second: pd.Series) -> pd.Series:
            people = first.index.union(second.index)
            own = first.reindex(people, fill_value=self.value)
            result: pd.Series = of(own, second.reindex(people, fill_value=other.value))
            return result

        return Estimate(
            value,
            joined(self.without, other.without),
            joined(self.without_two, other.without_two),
        )


def mean(
    values: npt.ArrayLike, identities: npt.ArrayLike, others: npt.ArrayLike | None = None
) -> Estimate:
    """The mean of ``values``, with NaN for none.

    Args:
        values: one number per photo, or per pair of photos, (N,).
        identities: who is on each photo, or on the first photo of each pair, (N,).
        others: of pairs, who is on the second photo, (N,).
    """
    x, first = np.asarray(values, dtype=np.float64), np.asarray(identities)
    both = np.concatenate([first, first if others is None else np.asarray(others)])
    names, place = np.unique(both, return_inverse=True)
    one, other = np.sort(place.reshape(2, -1), axis=0)
    apart = one != other  # pairs of two people

    def without(*groups: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        """The mean without each group, from which group each of some values is in."""
        place, own = (np.concatenate(part) for part in zip(*groups, strict=True))
        with np.errstate(invalid="ignore"):  # a group may have all values
            return np.asarray(
                (x.sum() - np.bincount(place, own)) / (len(x) - np.bincount(place)), np.float64
            )

    value = float(x.mean()) if len(x) else float("nan")
    by_person = pd.Series(without((one, x), (other[apart], x[apart])), index=names)
    if not apart.any():
        return Estimate(value, by_person)
    two, couple = np.unique(len(names) * one[apart] + other[apart], return_inverse=True)
    index = pd.MultiIndex.from_arrays([names[two // len(names)], names[two % len(names)]])
    return Estimate(value, by_person, pd.Series(without((couple, x[apart])), index=index))


def share_interval(share: Estimate) -> Ends:
    """Wilson's interval of a share, such as accuracy; each end in [0, 1].

    It counts as many independent photos as would have the share's error (Korn and Graubard 1998).
    If all photos agree there is no error to see, and it counts people.
    """
    return _wilson(share, _size(share, otherwise=share.people))


def change_interval(changes: npt.ArrayLike, identities: npt.ArrayLike) -> Ends:
    """The interval of a mean change of answers on the same photos.

    It is that of the answers that rose less those that fell, as two shares. So it has a width also
    if no answer changed.

    Args:
        changes: one number per photo, (N,), in [-1, 1]: 1 for an answer that became right, -1 for
            one that became wrong, 0 for the others; or means of such numbers.
        identities: who is on each photo, (N,).
    """
    x = np.asarray(changes, dtype=np.float64)
    rise, fall = (mean(np.maximum(part, 0), identities) for part in (x, -x))
    rise_ends, fall_ends = _two_shares(rise, fall)
    correlation = _correlation(rise, fall, mean(x, identities))
    return difference_interval((rise.value, rise_ends), (fall.value, fall_ends), correlation)


def share_ratio(
    above: npt.ArrayLike, below: npt.ArrayLike, identities: npt.ArrayLike
) -> tuple[float, Ends]:
    """The ratio of two accuracies on the same photos, and its interval; NaN if ``below`` is 0.

    Of the photos right below, a share is right above as well; others may be right above only. The
    interval is that of the sum of these two.

    Args:
        above: 1 for each photo that is right, else 0, (N,).
        below: the same of the accuracy that it is divided by.
        identities: who is on each photo, (N,).
    """
    a, b = np.asarray(above, dtype=np.float64), np.asarray(below, dtype=np.float64)
    if not b.any():
        return float("nan"), _NONE
    right, right_above = mean(b, identities), mean(a, identities)
    kept = mean(a * b, identities) / right
    new = mean(a > b, identities)
    gained, among_either = new / right, new / mean(np.maximum(a, b), identities)
    kept_ends, of_either = _two_shares(kept, among_either)
    low, high = (end / max(1 - end, _NOTHING) for end in of_either)
    ratio = right_above / right
    return ratio.value, difference_interval(
        (kept.value, kept_ends), (-gained.value, (-high, -low)), _correlation(kept, gained, ratio)
    )


def _two_shares(first: Estimate, second: Estimate) -> tuple[Ends, Ends]:
    """Wilson's intervals of two shares; if all photos agree on one, it counts as the other does."""
    people = first.people
    sizes = (
        _size(share, otherwise=_size(other, otherwise=people))
        for share, other in ((first, second), (second, first))
    )
    one, two = map(_wilson, (first, second), sizes)
    return one, two


def _size(share: Estimate, *, otherwise: float) -> float:
    """How many independent photos have the error of the share."""
    if share.error < _NOTHING:
        return otherwise
    return max(share.value * (1 - share.value), _NOTHING) / share.error**2


def _wilson(share: Estimate, size: float) -> Ends:
    p, weight = share.value, t_quantile(share.people) ** 2 / size
    middle = p + weight / 2
    half = np.sqrt(weight * p * (1 - p) + (weight / 2) ** 2)
    low, high = np.clip(np.array([middle - half, middle + half]) / (1 + weight), 0, 1)
    return float(low), float(high)


def _correlation(first: Estimate, second: Estimate, together: Estimate) -> float:
    """Of two numbers, from the error of their difference; if of their sum, of first and -second."""
    both = 2 * first.error * second.error
    return (first.error**2 + second.error**2 - together.error**2) / both if both else 0.0


def difference_interval(
    first: tuple[float, Ends], second: tuple[float, Ends], correlation: float = 0.0
) -> Ends:
    """The interval of ``first`` less ``second`` (Newcombe 1998; Zou and Donner 2008).

    Args:
        first: a number and its interval.
        second: another one.
        correlation: of the two; 0 if they are of different people.
    """
    (a, (a_low, a_high)), (b, (b_low, b_high)) = first, second

    def joined(x: float, y: float) -> float:
        return float(np.sqrt(max(x**2 + y**2 - 2 * correlation * x * y, 0.0)))

    return a - b - joined(a - a_low, b_high - b), a - b + joined(a_high - a, b - b_low)


def median_interval(values: npt.ArrayLike, identities: npt.ArrayLike) -> Ends:
    """The interval of a median, of one number per photo, (N,) (Woodruff 1952).

    Its ends are the quantiles at the ends of the share of photos up to the median.
    """
    x = np.asarray(values, dtype=np.float64)
    ends = share_interval(mean(x <= np.median(x), identities)) if len(x) else _NONE
    if np.isnan(ends).any():
        return _NONE
    low, high = np.quantile(x, ends)
    return float(low), float(high)


def t_quantile(count: int) -> float:
    """Of Student's t with ``count - 1`` degrees of freedom, for both ends of an interval."""
    return float(scipy.stats.t.ppf((1 + CONFIDENCE) / 2, count - 1))


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


def percentile_interval(draws: npt.ArrayLike, groups: int) -> tuple[np.ndarray, np.ndarray]:
    """The two ends of the percentile interval of each column of (draws, columns).

    Means of ``groups`` groups vary too little from draw to draw, so the interval is expanded to the
    width of Student's t (Hesterberg 2015). Draws may be infinite, so the ends are draws themselves.
    NaN without any draw.
    """
    draws = np.asarray(draws)
    if len(draws) == 0:
        low, high = np.full((2, *draws.shape[1:]), np.nan)
        return low, high
    tail = scipy.stats.norm.sf(np.sqrt(groups / (groups - 1)) * t_quantile(groups))
    low = np.quantile(draws, tail, axis=0, method="lower")
    return low, np.quantile(draws, 1 - tail, axis=0, method="higher")


def t_mean_interval(values: npt.ArrayLike) -> Ends:
    """The interval of the mean by Student's t, of independent values.

    Args:
        values: (N,).

    Returns:
        The two ends; both NaN for a single value, or if all are equal: these say nothing about how
        much others would differ.
    """
    values = np.asarray(values, dtype=np.float64)
    if len(values) < 2 or np.ptp(values) == 0:
        return _NONE
    half = t_quantile(len(values)) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


def mcnemar_p(only_first: int, only_second: int) -> float:
    """McNemar's exact two-sided p, from the numbers of photos right under one condition only.

    It is that of as many heads in throws of a coin; 1 without such photos.
    """
    differing = only_first + only_second
    return float(scipy.stats.binomtest(only_first, differing).pvalue) if differing else 1.0


def holm(p_values: Sequence[float]) -> np.ndarray:
    """p values corrected by Holm's method for their number; NaN stays and is not counted.

    The smallest of n is multiplied by n, the next by n - 1 and so on; the order stays.
    """
    corrected = np.asarray(p_values, dtype=np.float64).copy()
    order = np.argsort(corrected)[: np.count_nonzero(~np.isnan(corrected))]  # NaN comes last
    multiplied = corrected[order] * np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(multiplied), 1)
    return corrected


def least_p(values: npt.ArrayLike, draws: npt.ArrayLike, groups: int) -> np.ndarray:
    """Of several values: p against each being the least, corrected for their number.

    Those with a p of 0.05 or more are the model confidence set (Hansen, Lunde and Nason 2011): the
    least is among them in 95 % of cases. The value that is clearest above the mean is left out, as
    long as there is one; whether it is clear says the largest of all values in the draws. Of values
    that are the same in every draw all stay or none.

    Args:
        values: (K,).
        draws: of a bootstrap of whole groups, paired, around the values, (draws, K).
        groups: their number. As in :func:`percentile_interval` the draws vary too little.

    Returns:
        float64 (K,); NaN without any draw.

    Example:
        >>> draws = np.random.default_rng(0).normal([0.0, 0.1, 9.0], 1, (2000, 3))
        >>> (least_p([0.0, 0.1, 9.0], draws, 100) >= 0.05).tolist()
        [True, True, False]
    """
    own, centred = np.asarray(values, np.float64), np.asarray(draws, np.float64)
    if len(centred) == 0:
        return np.full(len(own), np.nan)
    centred = centred - centred.mean(axis=0)
    stretch = np.sqrt(groups / (groups - 1)) * t_quantile(groups)
    stretch /= scipy.stats.norm.ppf((1 + CONFIDENCE) / 2)
    p, largest, left = np.ones(len(own)), 0.0, np.arange(len(own))
    while len(left) > 1:
        above = own[left] - own[left].mean()
        apart = centred[:, left] - centred[:, left].mean(axis=1, keepdims=True)
        errors = np.maximum(apart.std(axis=0), _NOTHING)
        clearest = (above / errors).max()
        by_chance = (apart / errors).max(axis=1) * stretch
        largest = max(largest, float((by_chance >= clearest).mean()))
        out = above / errors >= clearest - 1e-6  # values that are the same go together
        p[left[out]] = largest
        if out.all():
            break
        left = left[~out]
    return p
