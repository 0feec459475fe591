"""Effects and their tests against SciPy, scikit-learn and statsmodels, and too little data."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import statsmodels.formula.api
from sklearn.metrics import roc_auc_score
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from gradcam_adv import statistics
from gradcam_adv.paper import effects


def test_mcnemar_is_that_of_statsmodels():
    for pair in ((10, 2), (0, 7)):
        expected = mcnemar([[0, pair[0]], [pair[1], 0]], exact=True).pvalue
        assert statistics.mcnemar_p(*pair) == pytest.approx(expected)
    assert statistics.mcnemar_p(3, 3) == 1
    assert statistics.mcnemar_p(0, 0) == 1


def test_holm_by_hand_leaves_out_missing_values():
    np.testing.assert_allclose(
        statistics.holm([0.01, 0.04, np.nan, 0.03]), [0.03, 0.06, np.nan, 0.06]
    )
    assert np.isnan(statistics.holm([np.nan])).all()


def test_holm_is_that_of_statsmodels():
    p = np.random.default_rng(0).random(12) ** 4
    np.testing.assert_allclose(statistics.holm(p), multipletests(p, method="holm")[1])
    assert statistics.holm([]).shape == (0,)


def test_mean_and_interval_are_those_of_the_tables():
    chance = np.random.default_rng(0)
    values, people = chance.normal(0.3, 1, 90), chance.integers(0, 30, 90)
    effect = effects.clustered_mean(values, people, margin=0.1)
    assert effect.value == pytest.approx(values.mean())
    assert (effect.low, effect.high) == statistics.mean(values, people).interval()
    assert (effect.count, effect.identities) == (90, len(np.unique(people)))
    few = effects.clustered_mean([-0.9, 0.1, 0.9], [0, 1, 2], margin=0.1, most=1)
    assert (few.low, few.high) == (-1, 1)  # what a difference of shares can be
    answers = np.sign(values)
    change = statistics.change_interval(answers, people)
    of_answers = effects.clustered_mean(answers, people, margin=0.1, answers=True)
    shares = effects.paired_shares(answers > 0, answers < 0, people, margin=0.1)
    assert (of_answers.low, of_answers.high) == (shares.low, shares.high) == change


def test_p_is_that_of_flipping_signs_of_identities_not_of_photos():
    # Seven people, all above 0: 2 of the 128 ways to flip are as far from 0.
    values, people = np.repeat([1.0, 2, 3, 4, 5, 6, 7], 50), np.repeat(np.arange(7), 50)
    effect = effects.clustered_mean(values, people, margin=0.1)
    assert effect.p == pytest.approx(2 / 128, abs=0.004)
    exact = scipy.stats.permutation_test(
        (np.arange(1.0, 7), np.zeros(6)),
        lambda a, b, axis: (a - b).mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
    )
    six = effects.clustered_mean(np.arange(1.0, 7), np.arange(6), margin=0.1)
    assert six.p == pytest.approx(exact.pvalue, abs=0.008)


def test_p_of_no_effect_is_rarely_small_when_people_differ():
    chance = np.random.default_rng(0)
    people = np.repeat(np.arange(12), 10)
    small = sum(
        effects.clustered_mean(chance.normal(0, 1, 12)[people], people, margin=1, seed=i).p < 0.05
        for i in range(100)
    )
    # With photos resampled one by one more than half would be.
    assert small <= 12


def test_an_effect_that_is_clearly_below_the_margin():
    values = np.random.default_rng(0).normal(0, 0.01, 200)
    effect = effects.clustered_mean(values, np.arange(200), margin=0.01)
    assert effect.p > 0.05 > effect.p_short
    assert effects.clustered_mean(values + 0.01, np.arange(200), margin=0.01).p_short > 0.05


@pytest.mark.parametrize(("photos", "short"), [(40, False), (400, True)])
def test_few_photos_without_a_change_do_not_show_that_changes_are_rare(photos, short):
    effect = effects.paired_shares(np.ones(photos), np.ones(photos), np.arange(photos), margin=0.02)
    assert effect.p == 1
    assert effect.p_short == pytest.approx(min(2 * 0.98**photos, 1))
    assert (effect.p_short < 0.05) == short


def test_paired_shares_count_people_not_photos():
    before = np.ones(40)
    after = np.r_[np.zeros(20), np.ones(20)]
    one_each = effects.paired_shares(before, after, np.arange(40), margin=0.02)
    assert one_each.value == 0.5
    assert one_each.p < 0.001
    # The same numbers, but all photos that turned wrong are of one person.
    people = np.r_[np.zeros(20), np.arange(1, 21)]
    of_one = effects.paired_shares(before, after, people, margin=0.02)
    assert of_one.value == 0.5
    assert of_one.p > 0.5
    # McNemar's p if it is the larger one: all five photos differ.
    five = effects.paired_shares(np.ones(5), np.zeros(5), np.arange(5), margin=0.02)
    assert five.p >= 2 / 2**5


def test_an_opposite_difference_of_shares_is_below_the_margin():
    before, after = np.r_[np.zeros(60), np.ones(30)], np.r_[np.ones(60), np.zeros(30)]
    effect = effects.paired_shares(before, after, np.arange(90), margin=0.02)
    assert effect.value < 0
    assert effect.p_short < 0.05


def test_auc_is_that_of_scikit_learn_within_each_stratum():
    chance = np.random.default_rng(0)
    stratum, people = chance.integers(0, 3, 300), chance.integers(0, 40, 300)
    failed = chance.random(300) < (0.2 + 0.3 * (stratum == 2))
    # Rounded, so that some are equal, and far apart between strata.
    scores = np.round(chance.normal(0, 1, 300) + failed, 1) + 10 * stratum
    effect = effects.clustered_auc(scores, failed, stratum, people, margin=0.05)
    parts = [(failed[stratum == s], scores[stratum == s]) for s in range(3)]
    pairs = [int(f.sum() * (~f).sum()) for f, _ in parts]
    expected = np.average([roc_auc_score(f, s) for f, s in parts], weights=pairs)
    assert effect.value + 0.5 == pytest.approx(expected)
    assert effect.low < effect.value < effect.high
    assert effect.p < 0.001
    flipped = effects.clustered_auc(-scores, failed, stratum, people, margin=0.05)
    assert flipped.value == pytest.approx(-effect.value)
    assert flipped.p_short < 0.05


def test_the_interval_of_auc_is_that_of_resampled_people():
    # By hand: scikit-learn's AUC, each photo weighted by how often its person is drawn.
    chance = np.random.default_rng(1)
    people, failed = np.repeat(np.arange(10), 6), chance.random(60) < 0.4
    scores = chance.normal(0, 1, 60) + 0.5 * failed + chance.normal(0, 1, 10)[people]
    effect = effects.clustered_auc(scores, failed, np.zeros(60), people, margin=0.05)
    drawn = [
        roc_auc_score(failed, scores, sample_weight=np.bincount(draw, minlength=10)[people])
        for draw in chance.integers(0, 10, (1000, 10))
    ]
    low, high = np.quantile(drawn, (0.025, 0.975)) - 0.5
    assert (effect.low, effect.high) == pytest.approx((low, high), abs=0.03)


def test_scores_that_are_all_the_same_say_nothing_of_failure():
    people, failed = np.repeat(np.arange(20), 10), np.arange(200) % 2 == 0
    stratum = np.arange(200) // 100
    # Two levels, each with one score for all photos: with an empty heatmap NISSIM is always 0.
    same = effects.clustered_auc(0.3 * stratum, failed, stratum, people, margin=0.05)
    assert np.isnan([same.value, same.low, same.high]).all()
    assert (same.p, same.p_short) == (1, 1)
    # Scores that differ, but not with failure: these do speak against it.
    scores = np.random.default_rng(0).normal(size=100).repeat(2)
    none = effects.clustered_auc(scores, failed, stratum, people, margin=0.05)
    assert none.value == pytest.approx(0)
    assert none.p > 0.05 > none.p_short
    # One score that differs is enough to be tested, though it says little.
    one = effects.clustered_auc(np.arange(200) == 0, failed, stratum, people, margin=0.05)
    assert 0 < one.value < 0.01


def test_auc_that_hangs_on_one_person_is_not_known():
    # All that fail are of one person; without that person there is nothing to compare.
    people = np.repeat(np.arange(6), 10)
    effect = effects.clustered_auc(people == 0, people == 0, np.zeros(60), people, margin=0.05)
    assert effect.value == 0.5
    assert (effect.low, effect.high) == pytest.approx((-0.5, 0.5), abs=1e-3)
    assert effect.p > 0.05


@pytest.mark.parametrize("failing", [0, 5, 60])
def test_auc_of_too_few_outcomes_is_not_tested(failing):
    failed = np.arange(60) < failing
    effect = effects.clustered_auc(failed, failed, np.zeros(60), np.arange(60), margin=0.05)
    assert (effect.p, effect.p_short) == (1, 1)
    assert np.isnan(effect.value) == (failing in (0, 60))


def test_matched_difference_is_least_squares_with_a_constant_for_each_tenth():
    chance = np.random.default_rng(0)
    matched, people = chance.normal(0, 1, 600), chance.integers(0, 50, 600)
    treated = chance.random(600) < scipy.stats.norm.cdf(matched)
    failed = chance.random(600) < np.clip(0.3 + 0.2 * matched + 0.15 * treated, 0, 1)
    effect = effects.matched_difference(failed, treated, matched, people, margin=0.02)
    table = pd.DataFrame(
        {"failed": failed * 1.0, "treated": treated * 1.0, "tenth": pd.qcut(matched, 10, False)}
    )
    fitted = statsmodels.formula.api.ols("failed ~ treated + C(tenth)", table).fit()
    assert effect.value == pytest.approx(fitted.params["treated"])
    clustered = fitted.get_robustcov_results("cluster", groups=people)
    low, high = clustered.conf_int()[list(fitted.params.index).index("treated")]
    assert (effect.low, effect.high) == pytest.approx((low, high), abs=0.02)
    # The plain difference of shares is larger, since the treated have larger values of matched.
    assert effect.value < failed[treated].mean() - failed[~treated].mean() - 0.05


def test_without_a_matched_photo_the_difference_is_not_known():
    treated = np.arange(100) < 50
    apart = np.where(treated, 1000.0, 0.0) + np.arange(100)
    effect = effects.matched_difference(treated, treated, apart, np.arange(100), margin=0.02)
    assert np.isnan(effect.value)
    assert (effect.p, effect.p_short) == (1, 1)


def test_rayleighs_p_with_one_photo_per_person_is_near_its_formula():
    angles = np.random.default_rng(2).vonmises(0.5, 0.35, 80)
    effect = effects.common_direction(angles, np.arange(80), margin=0.2)
    length = np.abs(np.exp(1j * angles).mean())
    assert effect.value == pytest.approx(length)
    assert effect.p == pytest.approx(np.exp(-80 * length**2), abs=0.02)


def test_directions_of_one_person_are_not_independent():
    # Four people; all photos of one person go the same way. Counted by photos, p would be tiny.
    people = np.repeat(np.arange(4), 100)
    angles = np.array([0.0, 0.6, 1.5, -2.0])[people]
    effect = effects.common_direction(angles, people, margin=0.2)
    assert np.exp(-400 * effect.value**2) < 1e-6
    assert effect.p > 0.1


def test_undefined_directions_are_left_out():
    effect = effects.common_direction([0.1, np.nan, 0.1], ["a", "b", "c"], margin=0.2)
    assert effect.value == pytest.approx(1)
    assert (effect.count, effect.identities) == (2, 2)


def test_directions_count_only_beyond_those_of_a_control():
    chance = np.random.default_rng(0)
    angles, people = chance.normal(1.0, 0.5, 80), np.arange(80)
    options = {"margin": 0.2, "seed": 0}
    alone = effects.common_direction(angles, people, **options)
    none = chance.uniform(-np.pi, np.pi, 80)
    # A control that points elsewhere, but together, is as predictable.
    for control, told in ((none, True), (chance.normal(-2.0, 0.5, 80), False)):
        effect = effects.common_direction(angles, people, control=control, **options)
        assert (effect.value, effect.p_short) == (alone.value, alone.p_short)
        assert (effect.p < 0.001) == told
        assert effect.p >= alone.p
    nothing_moved = np.full(80, np.nan)
    assert effects.common_direction(angles, people, control=nothing_moved, **options).p < 0.001


def test_the_correlation_of_means_is_numpys():
    chance = np.random.default_rng(0)
    level = np.array([0.1, 0.3, 0.2, 0.5, 0.4, 0.7])
    first = level[:, None] + chance.normal(0, 0.02, (6, 40))
    second = level[[0, 2, 1, 3, 5, 4]][:, None] + chance.normal(0, 0.02, (6, 40))
    people = np.repeat(np.arange(20), 2)
    every = effects.correlation_of_means(first, second, np.zeros(6), people, margin=0.1)
    means = np.stack([first.mean(axis=1), second.mean(axis=1)])
    assert every.value == pytest.approx(np.corrcoef(means)[0, 1])
    assert every.p < 0.001
    assert (every.count, every.identities) == (40, 20)
    assert every.low < every.value < every.high <= 1
    # With the means of 0 to 2 and of 3 to 5 taken off.
    within = effects.correlation_of_means(first, second, [1, 1, 1, 2, 2, 2], people, margin=0.1)
    off = means.reshape(2, 2, 3) - means.reshape(2, 2, 3).mean(axis=-1, keepdims=True)
    assert within.value == pytest.approx(np.corrcoef(off.reshape(2, 6))[0, 1])


def test_means_that_differ_by_chance_have_no_correlation():
    chance = np.random.default_rng(1)
    p = []
    for _ in range(100):
        first, second = chance.normal(0.3, 0.1, (2, 8, 30))
        options = {"strata": np.zeros(8), "identities": np.arange(30), "margin": 0.1}
        p.append(effects.correlation_of_means(first, second, **options).p)
    assert np.mean(np.array(p) < 0.05) <= 0.1


def test_equal_means_have_no_correlation():
    first, second = np.ones((4, 10)), np.random.default_rng(0).random((4, 10))
    effect = effects.correlation_of_means(first, second, np.zeros(4), np.arange(10), margin=0.1)
    assert np.isnan(effect.value)
    assert (effect.p, effect.p_short) == (1, 1)


@pytest.mark.parametrize("people", [[], ["a"], ["a", "a", "a"]])
def test_with_no_person_or_one_there_is_no_test_and_no_error(people):
    values = np.ones(len(people))
    for effect in (
        effects.clustered_mean(values, people, margin=0.1),
        effects.paired_shares(values, 0 * values, people, margin=0.1),
        effects.clustered_auc(values, values > 0, values, people, margin=0.1),
        effects.matched_difference(values > 0, values > 0, values, people, margin=0.1),
        effects.common_direction(values, people, margin=0.1),
        effects.common_direction(values, people, margin=0.1, control=values),
        effects.of_estimate(statistics.mean(values, people), len(people), margin=0.1),
    ):
        assert (effect.p, effect.p_short) == (1, 1)
        assert np.isnan([effect.low, effect.high]).all()
        assert (effect.count, effect.identities) == (len(people), len(set(people)))
