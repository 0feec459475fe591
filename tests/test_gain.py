"""The gain: hand-worked curves of noise, bounds, and intervals that cover the truth."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import interp1d
from scipy.optimize import isotonic_regression

from gradcam_adv.metrics import gain, half_shift, size_reaching
from gradcam_adv.metrics.gain import _isotonic

SIZES = [0.01, 0.02, 0.04]


def one_image(*values):
    """A dissimilarity per epsilon, of one image."""
    return np.array(values)[:, None]


def random_images(count=30):
    """Dissimilarities under one attack, (1, N), and under three sizes of noise, (3, N)."""
    chance = np.random.default_rng(0)
    return chance.random((1, count)), chance.random((3, count)) + np.array([[0.0], [0.2], [0.4]])


def test_a_linear_curve_by_hand():
    # NISSIM is 10 times the size of the noise, so 0.15 is worth 0.015, three times 0.005.
    found = gain(one_image(0.15, 0.3), [0.005, 0.02], one_image(0.1, 0.2, 0.4), SIZES)
    np.testing.assert_allclose(found.equivalent, [0.015, 0.03])
    np.testing.assert_allclose(found.gain, [3, 1.5])


def test_below_the_smallest_noise_the_curve_is_a_line_from_zero():
    found = gain(one_image(0.05), [0.001], one_image(0.1, 0.2, 0.4), SIZES)
    np.testing.assert_allclose(found.gain, [5])


def test_an_attack_equal_to_noise_has_a_gain_of_one():
    _, noise = random_images()
    found = gain(noise, SIZES, noise, SIZES)
    np.testing.assert_allclose([found.gain, found.low, found.high], 1)


def test_an_attack_above_the_curve_has_no_finite_gain():
    found = gain(one_image(0.41), [0.01], one_image(0.1, 0.2, 0.4), SIZES)
    assert np.isposinf(found.equivalent) and np.isposinf(found.gain)
    assert gain(one_image(0.4), [0.01], one_image(0.1, 0.2, 0.4), SIZES).gain == pytest.approx(4)


def test_a_curve_that_falls_is_made_to_rise():
    # 0.3 and 0.1 become their mean, 0.2, at both sizes; the least size that reaches it counts.
    found = size_reaching([0.1, 0.2, 0.3], SIZES, [0.3, 0.1, 0.4])
    np.testing.assert_allclose(found, [0.005, 0.01, 0.03])


@given(st.lists(st.lists(st.floats(0, 1), min_size=5, max_size=5), min_size=1, max_size=4))
def test_the_curve_is_scipy_s_isotonic_regression(rows):
    expected = [isotonic_regression(row).x for row in rows]
    np.testing.assert_allclose(_isotonic(np.array(rows)), expected, atol=1e-12)


def test_nothing_moved_needs_no_noise():
    assert size_reaching([0.0], SIZES, [0.0, 0.1, 0.2]) == 0
    assert gain(one_image(0.0), [0.1], one_image(0.1, 0.2, 0.4), SIZES).gain == 0


@given(st.lists(st.floats(0.001, 0.2), min_size=3, max_size=3), st.floats(0, 1))
def test_on_a_rising_curve_it_is_the_inverse_of_interpolation(steps, share):
    means = np.cumsum(steps)
    target = share * means[-1]
    curve = interp1d([0, *SIZES], [0, *means], fill_value="extrapolate")  # but for rounding
    assert curve(size_reaching([target], SIZES, means)) == pytest.approx([target], abs=1e-9)


def test_the_unit_of_the_dissimilarity_does_not_matter():
    attack, noise = random_images()
    first, second = (gain(s * attack, [0.01], s * noise, SIZES) for s in (1, 7))
    for name, values in vars(first).items():
        np.testing.assert_allclose(values, getattr(second, name))


def test_groups_of_one_image_are_the_default_and_one_group_has_no_interval():
    attack, noise = random_images()
    alone = gain(attack, [0.01], noise, SIZES)
    named = gain(attack, [0.01], noise, SIZES, np.arange(30))
    assert (alone.low, alone.high) == (named.low, named.high)
    one = gain(attack, [0.01], noise, SIZES, ["ann"] * 30)
    assert one.gain == alone.gain and np.isnan(one.low) and np.isnan(one.high)


def test_the_same_image_twice_in_a_group_tells_nothing_new():
    attack, noise = random_images()
    once = gain(attack, [0.01], noise, SIZES, np.arange(30))
    twice = gain(attack.repeat(2, 1), [0.01], noise.repeat(2, 1), SIZES, np.arange(30).repeat(2))
    for name, values in vars(once).items():
        np.testing.assert_allclose(values, getattr(twice, name))


def simulated(run, people=40):
    """40 people with 1 to 4 images each; all conditions of an image share the person's level.

    Returns the people, and a function from a size to the dissimilarity of each image.
    """
    chance = np.random.default_rng(run)
    groups = np.repeat(np.arange(people), chance.integers(1, 5, people))
    level = chance.lognormal(0, 0.4, people)[groups]
    return groups, lambda size: size * level * chance.lognormal(0, 0.3, len(level))


def test_the_interval_covers_the_true_gain():
    hits, runs, truth = 0, 300, 3.0
    for run in range(runs):
        groups, measured = simulated(run)
        noise = np.stack([measured(size) for size in SIZES])
        attack = measured(truth * 0.01)[None]
        found = gain(attack, [0.01], noise, SIZES, groups, seed=run)
        hits += found.low[0] <= truth <= found.high[0]
    assert 0.93 <= hits / runs <= 0.97


def test_the_half_shift_by_hand():
    # Unrelated images are 0.4 apart. The attack gives 20 times its epsilon, noise 5 times.
    attack, noise = one_image(0.1, 0.4), one_image(0.05, 0.1, 0.3)
    found = half_shift(attack, [0.005, 0.02], noise, [0.01, 0.02, 0.06], [0.4])
    np.testing.assert_allclose([found.attack[0], found.noise[0]], [0.01, 0.04])
    assert found.ratio[0] == pytest.approx(4)
    assert np.isnan([found.attack[1:], found.noise[1:], found.ratio[1:]]).all()  # of one image


def test_the_half_shift_of_what_moves_too_little_is_infinite():
    found = half_shift(one_image(0.19), [0.1], one_image(0.2), [0.1], [0.4])
    assert (found.attack[0], found.noise[0], found.ratio[0]) == (np.inf, 0.1, 0)
    neither = half_shift(one_image(0.19), [0.1], one_image(0.1), [0.1], [0.4])
    assert np.isinf([neither.attack[0], neither.noise[0]]).all() and np.isnan(neither.ratio[0])


def test_the_half_shift_of_an_attack_equal_to_noise_has_a_ratio_of_one_in_every_draw():
    _, noise = random_images()
    found = half_shift(noise, SIZES, noise, SIZES, np.full(30, 0.8))
    np.testing.assert_allclose(found.ratio, 1)
    np.testing.assert_array_equal(found.attack, found.noise)
    assert found.attack[1] < found.attack[0] < found.attack[2]


def test_the_half_shift_s_interval_covers_the_truth():
    """The same photos are drawn for the curves and for the unrelated ones."""
    runs, hits = 600, np.zeros(3)
    for run in range(runs):
        groups, measured = simulated(run)
        noise = np.stack([measured(size) for size in SIZES])
        attack = np.stack([measured(3 * size) for size in SIZES])
        found = half_shift(attack, SIZES, noise, SIZES, measured(0.04), groups, seed=run)
        for at, truth in enumerate((0.02 / 3, 0.02, 3.0)):
            _, low, high = (found.attack, found.noise, found.ratio)[at]
            hits[at] += low <= truth <= high
    assert ((hits / runs >= 0.93) & (hits / runs <= 0.97)).all(), hits / runs


GOOD = {
    "attack": np.full((1, 4), 0.2),
    "epsilons": [0.01],
    "noise": np.full((3, 4), 0.1),
    "noise_epsilons": SIZES,
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attack": np.ones(4)}, r"attack of shape \(epsilons, N\).*Received: shapes \(4,\)"),
        ({"epsilons": [0.1, 0.2]}, r"one row for each of epsilons. Received: .*\(1, 4\) and \(2,"),
        ({"noise": np.ones((3, 5))}, "of the same images. Received: 4 and 5 "),
        ({"noise": np.full((3, 4), -0.1)}, "noise of 0 or more. Received: least -0.1"),
        ({"attack": np.full((1, 4), np.nan)}, "attack of 0 or more"),
        ({"noise_epsilons": [0.02, 0.01, 0.03]}, "noise_epsilons above 0, each greater"),
        ({"epsilons": [0.0]}, "epsilons above 0"),
        ({"groups": [0, 1]}, r"groups of shape \(4,\). Received: shape \(2,\)"),
    ],
)
def test_refuses(change, message):
    with pytest.raises(ValueError, match=message):
        gain(**GOOD | change)
    with pytest.raises(ValueError, match=message):
        half_shift(**GOOD | {"unrelated": np.full(4, 0.2)} | change)


@pytest.mark.parametrize(
    ("unrelated", "message"),
    [
        (np.full(5, 0.2), "of the same images. Received: 4 and 4 and 5 images"),
        ([0.1, 0.1, -0.1, 0.1], "unrelated of 0 or more. Received: least -0.1"),
    ],
)
def test_the_half_shift_refuses(unrelated, message):
    with pytest.raises(ValueError, match=message):
        half_shift(**GOOD, unrelated=unrelated)
