"""Intervals by hand and against other sources, and how often they cover a known truth."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from gradcam_adv import statistics
from gradcam_adv.paper import effects
from gradcam_adv.study import shifts

# Student's t for one and two degrees of freedom, from a printed table.
T_OF_TWO, T_OF_THREE = 12.706, 4.303


def test_the_mean_without_each_person_by_hand():
    # The mean is 0.4; it is (0.5 + 0.7) / 2 without a, and 0.2 without b.
    estimate = statistics.mean([0.1, 0.3, 0.5, 0.7], ["a", "a", "b", "b"])
    assert estimate.value == pytest.approx(0.4)
    assert estimate.without.to_dict() == pytest.approx({"a": 0.6, "b": 0.2})
    assert len(estimate.without_two) == 0
    # People's means are 0.2 and 0.6; as of two numbers, the error is their deviation by root 2.
    assert estimate.error == pytest.approx(np.std([0.2, 0.6], ddof=1) / np.sqrt(2))
    ends = 0.4 - 0.2 * T_OF_TWO, 0.4 + 0.2 * T_OF_TWO
    assert estimate.interval() == pytest.approx(ends, abs=1e-3)
    assert estimate.interval(0, 1) == (0, 1)


def test_with_a_photo_each_the_error_is_the_usual_one():
    values = np.random.default_rng(0).normal(0.3, 0.1, 400)
    estimate = statistics.mean(values, np.arange(400))
    assert estimate.error == pytest.approx(scipy.stats.sem(values))
    ends = scipy.stats.t.interval(0.95, 399, values.mean(), scipy.stats.sem(values))
    assert estimate.interval() == pytest.approx(ends, rel=1e-2)


def test_photos_of_one_person_are_not_independent():
    # Ten people, each with 40 equal photos: there are ten independent values, not 400.
    by_person = np.random.default_rng(0).normal(0.3, 0.1, 10)
    repeated = statistics.mean(np.repeat(by_person, 40), np.repeat(np.arange(10), 40))
    assert repeated.error == pytest.approx(scipy.stats.sem(by_person))


def test_the_ends_are_corrected_for_skewness_as_by_hall():
    # From 0, 0, 0, 4: mean 1, error 1, sum of cubes 24 over the sum of squares 12, to the 3/2.
    low, high = statistics.mean([0, 0, 0, 4], list("abcd")).interval()
    skewness, t = 24 / 12**1.5, 3.182
    for end, quantile in ((low, t), (high, -t)):
        # Hall's cubic transformation of t, which is to be near normal.
        x = 1 - end
        changed = x + skewness * x**2 / 3 + skewness**2 * x**3 / 27 + skewness / 6
        assert changed == pytest.approx(quantile, abs=1e-3)
    # Turned round, the interval is as well.
    turned = statistics.mean([0, 0, 0, -4], list("abcd")).interval()
    assert turned == pytest.approx((-high, -low))


def test_the_mean_of_pairs_without_each_person_by_hand():
    # Four pairs of four people: ab 0.2, ab 0.4, bc 0.6, cd 0.8. The mean is 0.5.
    estimate = statistics.mean([0.2, 0.4, 0.6, 0.8], list("abbd"), list("bacc"))
    # b is in three pairs and on either side of them; without b there is only cd.
    assert estimate.without.to_dict() == pytest.approx({"a": 0.7, "b": 0.8, "c": 0.3, "d": 0.4})
    assert estimate.without_two.to_dict() == pytest.approx(
        {("a", "b"): 0.7, ("b", "c"): 1.4 / 3, ("c", "d"): 0.4}
    )
    # 3/4 of the sum of 0.15, 0.25, 0.25, 0.15 squared, less 0.2, 0.1 / 3 and 0.1 squared.
    by_two = 0.2**2 + (0.1 / 3) ** 2 + 0.1**2
    assert estimate.error == pytest.approx(np.sqrt(0.75 * 0.17 - by_two))


def test_the_error_of_pairs_has_both_people_in_it():
    # Each pair's number is the sum of its people's. So the mean is twice that of the people.
    of_person = np.array([0.1, 0.2, 0.4, 0.8, 0.5, 0.7])
    one, other = np.array(list(itertools.combinations(range(6), 2))).T
    estimate = statistics.mean(of_person[one] + of_person[other], one, other)
    assert estimate.value == pytest.approx(2 * of_person.mean())
    # Without one of six people the mean of the others' pairs is twice the mean of the five.
    alone = statistics.mean(of_person, np.arange(6))
    np.testing.assert_allclose(estimate.without, 2 * alone.without)
    # Which of a pair is called the first does not matter, nor how often a pair is given.
    twice = np.tile(of_person[one] + of_person[other], 2)
    turned = statistics.mean(twice, [*other, *one], [*one, *other])
    assert turned.error == pytest.approx(estimate.error)
    # As if each pair were of its first person alone, the error is smaller.
    assert statistics.mean(of_person[one] + of_person[other], one).error < estimate.error


def test_what_is_peculiar_to_pairs_does_not_count_twice():
    # Numbers of pairs that have nothing to do with the people: the error is that of all pairs.
    one, other = np.array(list(itertools.combinations(range(40), 2))).T
    errors = [
        (statistics.mean(values, one, other).error, scipy.stats.sem(values))
        for values in np.random.default_rng(0).normal(size=(20, len(one)))
    ]
    ours, usual = np.mean(errors, axis=0)
    assert ours == pytest.approx(usual, rel=0.15)


def test_a_ratio_leaves_out_the_same_person_above_and_below():
    shift, noise = ([0.2, 0.4, 0.9], list("abc")), ([0.1, 0.2, 0.3], list("abc"))
    ratio = statistics.mean(*noise) / statistics.mean(*shift)
    assert ratio.value == pytest.approx(0.6 / 1.5)
    assert ratio.without.to_dict() == pytest.approx({"a": 0.5 / 1.3, "b": 0.4 / 1.1, "c": 0.5})
    same = statistics.mean(*shift) / statistics.mean(*shift)
    assert (same.value, same.error) == (1, 0)


def test_a_difference_leaves_out_the_same_person_on_both_sides():
    first = statistics.mean([1.0, 3.0], ["a", "b"])
    second = statistics.mean([0.5, 1.0, 3.0], ["a", "b", "c"])
    gap = first - second
    assert gap.value == pytest.approx(2 - 1.5)
    assert gap.without.to_dict() == pytest.approx({"a": 3 - 2, "b": 1 - 1.75, "c": 2 - 0.75})


def test_a_ratio_of_photos_to_pairs_by_hand():
    photos = statistics.mean([0.2, 0.4, 0.6], list("abc"))
    pairs = statistics.mean([0.5, 0.7, 0.9], list("abc"), list("bca"))
    ratio = photos / pairs
    assert ratio.value == pytest.approx(0.4 / 0.7)
    # Without a: photos 0.4 and 0.6, and the pair bc.
    assert ratio.without["a"] == pytest.approx(0.5 / 0.7)
    # Without the pair ab the photos are all there.
    assert ratio.without_two["a", "b"] == pytest.approx(0.4 / 0.8)
    nothing = statistics.mean([0, 0], ["a", "b"])
    assert np.isnan([(photos / nothing).value, *(photos / nothing).interval()]).all()


def test_fewer_than_two_people_or_three_of_pairs_have_no_interval():
    one = statistics.mean([0.1, 0.2], ["a", "a"])
    two = statistics.mean([0.1, 0.2], ["a", "b"], ["b", "a"])
    none = statistics.mean([], [])
    for estimate in (one, two, none):
        assert np.isnan([*estimate.interval(), *estimate.interval(0, 1)]).all()
    assert np.isnan(statistics.share_interval(one)).all()
    assert np.isnan(statistics.change_interval([1, 0], ["a", "a"])).all()
    assert np.isnan(statistics.median_interval([1, 2], ["a", "a"])).all()
    assert np.isnan(statistics.median_interval([], [])).all()
    assert np.isnan(statistics.share_ratio([1, 0], [1, 1], ["a", "a"])[1]).all()
    assert one.value == pytest.approx(0.15) and np.isnan(none.value)


def test_the_share_of_independent_photos_has_wilsons_interval():
    right = np.arange(263) < 81
    low, high = statistics.share_interval(statistics.mean(right, np.arange(263)))
    # Newcombe 1998, table I: 81 of 263. Here t takes the place of 1.96, and 262 that of 263.
    assert (low, high) == pytest.approx((0.2553, 0.3662), abs=1e-3)


@pytest.mark.parametrize("answer", [0, 1])
def test_a_share_of_answers_that_all_agree_counts_people(answer):
    # 40 people with 4 photos each. Wilson: the missing share is t^2 / (40 + t^2), with t = 2.0227.
    share = statistics.mean(np.full(160, answer), np.repeat(np.arange(40), 4))
    missing = 2.0227**2 / (40 + 2.0227**2)
    expected = (1 - missing, 1) if answer else (0, missing)
    assert statistics.share_interval(share) == pytest.approx(expected, abs=1e-5)


def test_a_share_counts_as_many_photos_as_would_have_its_error():
    # If all photos of each person agree, it is the interval of the people.
    right = np.arange(30) < 21
    people = statistics.share_interval(statistics.mean(right, np.arange(30)))
    photos = statistics.mean(np.repeat(right, 5), np.repeat(np.arange(30), 5))
    assert statistics.share_interval(photos) == pytest.approx(people)


def test_a_change_of_answers_is_near_the_normal_interval_if_many_change():
    changes = np.repeat([1, -1, 0], [300, 200, 500])
    low, high = statistics.change_interval(changes, np.arange(1000))
    half = 1.96 * scipy.stats.sem(changes)
    assert (low, high) == pytest.approx((0.1 - half, 0.1 + half), abs=0.002)
    turned = statistics.change_interval(-changes, np.arange(1000))
    assert turned == pytest.approx((-high, -low))


def test_answers_that_do_not_change_may_change_on_others():
    low, high = statistics.change_interval(np.zeros(40), np.arange(40))
    assert -low == high == pytest.approx(2.0227**2 / (40 + 2.0227**2), abs=1e-5)


def test_the_difference_of_two_samples_as_published():
    # Newcombe 1998, part 2, example a: 56/70 less 48/80, by his method 10.
    shares = [(56 / 70, (0.6918, 0.8774)), (48 / 80, (0.4905, 0.7007))]
    found = statistics.difference_interval(*shares)
    assert found == pytest.approx((0.0524, 0.3339), abs=2e-3)


def test_the_ratio_of_two_accuracies_by_hand():
    people = np.arange(40)
    right, clean = (np.arange(40) < count for count in (18, 36))
    ratio, (low, high) = statistics.share_ratio(right, clean, people)
    assert ratio == 0.5
    # Of 36 photos right when clean, half: Wilson's interval of 18 of 36 is 0.345 to 0.655, or with
    # t 0.340 to 0.660. As 0 of 36, at most 0.102 of the photos become right, 0.114 of the others.
    assert low == pytest.approx(0.340, abs=0.003)
    assert high == pytest.approx(0.5 + np.hypot(0.160, 0.114), abs=0.005)
    none, (low, high) = statistics.share_ratio(np.zeros(40), clean, people)
    assert none == low == 0
    assert high == pytest.approx(np.hypot(0.0928, 0.0928 / (1 - 0.0928)), abs=1e-3)
    same, (low, high) = statistics.share_ratio(clean, clean, people)
    assert low < same == 1 < high
    unknown, ends = statistics.share_ratio(right, np.zeros(40), people)
    assert np.isnan([unknown, *ends]).all()


def test_the_interval_of_the_median_is_between_order_statistics():
    # 101 values: Wilson's interval of one half is 0.405 to 0.595, the 41st and the 61st of them.
    low, high = statistics.median_interval(np.arange(101.0), np.arange(101))
    assert (low, high) == pytest.approx((41, 60), abs=1)


def test_the_t_interval_of_three_numbers_by_hand():
    half = T_OF_THREE / np.sqrt(3)  # mean 2, sample deviation 1
    assert statistics.t_mean_interval([3, 1, 2]) == pytest.approx((2 - half, 2 + half), abs=1e-3)


def test_one_value_or_equal_ones_have_no_t_interval():
    assert np.isnan(statistics.t_mean_interval([0.3])).all()
    assert np.isnan(statistics.t_mean_interval([0.25, 0.25])).all()


# How often an interval has the truth in it, for each type in use; that of the gain: test_gain.py.

RUNS = 2000


def people_of(chance, people):
    """Who is on each photo: 2 to 6 of each."""
    return np.repeat(np.arange(people), chance.integers(2, 7, people))


def nissim(chance, people):
    """NISSIM of photos of ``people``, skewed and in [0, 1], and who is on them; the mean is 0.2."""
    who = people_of(chance, people)
    level = chance.beta(1, 4, people)[who]
    return chance.beta(4 * level + 0.01, 4 * (1 - level) + 0.04), who


def answers(chance, who, share, alike):
    """Answers of which ``share`` are right; ``alike`` is the correlation within a person."""
    spread = (1 - alike) / alike
    level = chance.beta(share * spread, (1 - share) * spread, who.max() + 1)
    return (chance.random(len(who)) < level[who]).astype(float)


def pairs(chance, people, of_person, of_pair):
    """Numbers of the pairs of 4 photos of each person with 5 others, and both people."""
    who = np.repeat(np.arange(people), 4)
    first = np.repeat(np.arange(len(who)), 5)
    steps = 4 * np.array([chance.permutation(people - 1)[:5] + 1 for _ in who]).ravel()
    second = (first + steps) % len(who)
    of_photo = of_person[who] + 0.03 * chance.normal(size=len(who))
    values = of_photo[first] + of_photo[second] + of_pair * chance.normal(size=len(first))
    return values, who[first], who[second]


def mean_of_nissim(chance, people):
    return statistics.mean(*nissim(chance, people)).interval(0, 1), 0.2


def mean_difference(chance, people):
    who = people_of(chance, people)
    values = 0.05 * chance.normal(size=people)[who] + 0.1 * chance.normal(size=len(who))
    return statistics.mean(values + 0.03, who).interval(), 0.03


def deviation_of_mod(*mods):
    def run(chance, people):
        # A person's photos shift alike, by more or less.
        who = people_of(chance, people)
        scale = chance.uniform(0.5, 1.5, people)[who] * chance.uniform(0.5, 1.5, len(who))
        values = np.array(mods) * scale[:, None] + chance.uniform(-0.02, 0.02, (len(who), 4))
        epsilons = [0.01, 0.05, 0.075, 0.1]
        table = pd.DataFrame(values, columns=epsilons).assign(identity=who)
        rows = table.melt("identity", var_name="epsilon", value_name="nissim")
        found = shifts.deviation_of_mod(rows, epsilons)
        return shifts.deviation_interval(found, 4), np.std(mods)

    return run


def correlation(chance, people):
    # Eight conditions, in which a number and a share go together.
    means, shares = np.linspace(0.1, 0.4, 8), np.array([0.3, 0.1, 0.4, 0.2, 0.6, 0.5, 0.8, 0.4])
    who = people_of(chance, people)
    level = 0.05 * chance.normal(size=people)[who]
    first = means[:, None] + level + 0.08 * chance.normal(size=(8, len(who)))
    second = chance.random(len(who)) < shares[:, None]
    effect = effects.correlation_of_means(first, second, np.zeros(8), who, margin=0.1)
    return (effect.low, effect.high), np.corrcoef(means, shares)[0, 1]


def pairs_of_differing_people(chance, people):
    of_person = 0.05 * (chance.exponential(size=people) - 1)
    return statistics.mean(*pairs(chance, people, of_person, 0.05)).interval(), 0


def pairs_that_differ_by_themselves(chance, people):
    return statistics.mean(*pairs(chance, people, np.zeros(people), 0.2)).interval(), 0


def ratio_to_noise(chance, people):
    who = people_of(chance, people)
    level = chance.beta(2, 5, people)[who]
    shift, noise = (level * chance.uniform(0.2, 1.8, len(who)) for _ in range(2))
    return (statistics.mean(0.4 * noise, who) / statistics.mean(shift, who)).interval(0), 0.4


def ratio_to_unrelated(chance, people):
    level = chance.beta(2, 5, people)
    who = np.repeat(np.arange(people), 4)
    shift = statistics.mean(0.9 * level[who] * chance.uniform(0.2, 1.8, len(who)), who)
    return (shift / statistics.mean(*pairs(chance, people, level / 2, 0.1))).interval(0), 0.9


def share(right, alike):
    def run(chance, people):
        who = people_of(chance, people)
        return statistics.share_interval(
            statistics.mean(answers(chance, who, right, alike), who)
        ), right

    return run


def share_over_seeds(chance, people):
    who = people_of(chance, people)
    level = chance.beta(4, 1, people)[who]
    seeds = chance.random((3, len(who))) < level
    return statistics.share_interval(statistics.mean(seeds.mean(axis=0), who)), 0.8


def change(right, left):
    def run(chance, people):
        who = people_of(chance, people)
        before, kept = (answers(chance, who, p, 0.1) for p in (right, left))
        return statistics.change_interval(before * kept - before, who), right * left - right

    return run


def change_both_ways(chance, people):
    who = people_of(chance, people)
    before, after = (answers(chance, who, p, 0.2) for p in (0.8, 0.6))
    return statistics.change_interval(after - before, who), -0.2


def ratio_of_shares(left, back):
    def run(chance, people):
        who = people_of(chance, people)
        clean, kept, turned = (answers(chance, who, p, 0.15) for p in (0.8, left, back))
        attacked = np.where(clean == 1, kept, turned)
        return statistics.share_ratio(attacked, clean, who)[1], left + back * 0.2 / 0.8

    return run


def difference_of_means(chance, people):
    both = [statistics.mean(*nissim(chance, count)) for count in (people, 40)]
    return statistics.difference_interval(*[(one.value, one.interval()) for one in both]), 0


def difference_of_shares(chance, people):
    both = []
    for right in (0.9, 0.7):
        who = people_of(chance, people)
        one = statistics.mean(answers(chance, who, right, 0.2), who)
        both.append((one.value, statistics.share_interval(one)))
    return statistics.difference_interval(*both), 0.2


def median(chance, people):
    who = people_of(chance, people)
    values = np.exp(0.5 * chance.normal(size=people)[who] + 0.5 * chance.normal(size=len(who)))
    return statistics.median_interval(values, who), 1


def seeds_of_training(chance, people):
    return statistics.t_mean_interval(0.6 + 0.05 * chance.normal(size=3)), 0.6


def auc(chance, people):
    # Scores of failed photos are one standard deviation higher: AUC = Phi(1 / sqrt 2).
    who = people_of(chance, people)
    failed = chance.random(len(who)) < 0.4
    level = 0.5 * chance.normal(size=people)[who]
    scores = level + np.sqrt(0.75) * chance.normal(size=len(who)) + failed
    effect = effects.clustered_auc(scores, failed, np.zeros(len(who)), who, margin=0.05)
    return (effect.low, effect.high), scipy.stats.norm.cdf(np.sqrt(0.5)) - 0.5


def matched(chance, people):
    who = people_of(chance, people).repeat(2)
    treated = np.arange(len(who)) % 2 == 0
    level = chance.beta(4, 6, people)[who]
    failed = chance.random(len(who)) < 0.8 * level + 0.1 * treated
    shift = level + 0.1 * chance.normal(size=len(who))
    effect = effects.matched_difference(failed, treated, shift, who, margin=0.02)
    return (effect.low, effect.high), 0.1


def direction(spread):
    def run(chance, people):
        who = people_of(chance, people)
        angles = spread * (chance.normal(size=people)[who] + chance.normal(size=len(who)))
        steps = np.exp(1j * angles)
        of_people = np.bincount(who, steps.real) + 1j * np.bincount(who, steps.imag)
        left = (steps.sum() - of_people) / (len(who) - np.bincount(who))
        length = statistics.Estimate(abs(steps.mean()), pd.Series(np.abs(left)))
        # Both turns shorten the mean by exp(-spread^2 / 2).
        return effects.length_interval(length), np.exp(-(spread**2))

    return run


@pytest.mark.parametrize(
    "interval",
    [
        mean_of_nissim,
        mean_difference,
        deviation_of_mod(0.1, 0.2, 0.25, 0.3),
        correlation,
        pairs_of_differing_people,
        pairs_that_differ_by_themselves,
        ratio_to_noise,
        ratio_to_unrelated,
        share(0.5, 0.2),
        share(0.9, 0.2),
        share_over_seeds,
        change(0.9, 0.6),
        change_both_ways,
        difference_of_means,
        difference_of_shares,
        median,
        seeds_of_training,
        auc,
        matched,
        ratio_of_shares(0.6, 0.1),
        ratio_of_shares(0.95, 0.2),
        direction(0.7),
        direction(0.9),
    ],
)
def test_intervals_cover_the_truth_95_times_in_100(interval):
    assert 0.93 <= covered(interval) <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize(
    "interval",
    [
        share(0.98, 0.3),
        share(0.02, 0.1),
        change(0.95, 0.99),
        ratio_of_shares(0.05, 0.02),
        ratio_of_shares(0.99, 0.01),
        direction(1.2),
        direction(5.0),
        deviation_of_mod(0.3, 0.3, 0.3, 0.3),
    ],
)
def test_where_there_is_little_to_see_intervals_are_rather_too_wide(interval):
    assert covered(interval) >= 0.93


def covered(interval):
    """How often the interval has the truth in it, with 40 to 50 people."""
    hits = 0
    for run in range(RUNS):
        (low, high), truth = interval(np.random.default_rng(run), 40 + run % 11)
        hits += low <= truth <= high
    return hits / RUNS


def test_p_of_the_least_of_two_is_that_of_their_difference():
    many = 10**9  # groups, so that nothing is stretched
    chance = np.random.default_rng(0).normal(size=(20000, 2))
    for first in (1.0, 2.5, 4.0):
        # The difference has the variance 2; two-sided, since either may be the least.
        expected = 2 * scipy.stats.norm.sf(first / np.sqrt(2))
        found = statistics.least_p([first, 0.0], chance, many)
        assert found[1] == 1
        assert found[0] == pytest.approx(expected, abs=0.01)


def test_with_few_groups_p_of_the_least_is_larger():
    chance = np.random.default_rng(0).normal(size=(20000, 2))
    few, many = (statistics.least_p([2.5, 0.0], chance, groups)[0] for groups in (5, 10**9))
    assert few > 1.5 * many


def test_p_of_a_value_is_at_least_that_of_those_left_out_before():
    # The first is known badly. Without it the second is clearly above the third.
    draws = np.random.default_rng(0).normal(size=(2000, 3)) * [3, 0.01, 0.01]
    first, second, third = statistics.least_p([3.0, 0.1, 0.0], draws, 100)
    assert third == 1
    assert second == first > 0.2


def test_values_that_are_the_same_in_every_draw_stay_together():
    chance = np.random.default_rng(0).normal(size=(2000, 1))
    other = np.random.default_rng(1).normal(size=(2000, 1))
    draws = np.hstack([chance, chance, other])
    near = statistics.least_p([0.1, 0.1, 0.0], draws, 100)
    far = statistics.least_p([9.0, 9.0, 0.0], draws, 100)
    assert near[0] == near[1] > 0.9
    assert far.tolist() == [0, 0, 1]
    # Apart in every draw by the same, however little that is.
    surely = statistics.least_p([0.0, 0.01], np.hstack([chance, 0.01 + chance]), 100)
    assert surely.tolist() == [1, 0]
    assert (statistics.least_p([0.2, 0.2], np.hstack([chance, chance]), 100) == 1).all()
    assert np.isnan(statistics.least_p([0.1, 0.2], np.empty((0, 2)), 1)).all()


def test_the_set_of_the_least_leaves_none_of_equal_values_out_too_often():
    """In at most 5 of 100 cases one of five with equal true values is left out."""
    cases, people = 150, 45
    kept = 0
    for seed in range(cases):
        values = np.random.default_rng(seed).normal(size=(5, people))
        draws = statistics.resampled_means(values, np.arange(people), seed)
        kept += (statistics.least_p(values.mean(axis=1), draws, people) >= 0.05).all()
    assert 0.91 <= kept / cases <= 0.99
