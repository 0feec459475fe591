"""NISSIM and PSNR against scikit-image, MOD and VID by hand, and pairs of unrelated images."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from gradcam_adv.metrics import UnrelatedPairs, deviations, mod, nissim, psnr, vid

maps = hnp.arrays(
    np.float64, st.tuples(st.integers(1, 3), st.just(9), st.just(11)), elements=st.floats(0, 1)
)


@pytest.mark.parametrize("shape", [(7, 7), (8, 13), (40, 40)])
def test_nissim_equals_scikit_image(shape):
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 6, *shape))
    b[3] = 0.9 * a[3]
    b[4] = 0
    expected = [
        (1 - structural_similarity(x, y, data_range=1)) / 2 for x, y in zip(a, b, strict=True)
    ]
    np.testing.assert_allclose(nissim(a, b), expected, rtol=0, atol=1e-12)


def test_nissim_takes_any_leading_dimensions():
    a, b = np.random.default_rng(0).random((2, 2, 3, 7, 9))
    assert nissim(a, b).shape == (2, 3)
    assert nissim(a, b)[1, 2] == nissim(a[1, 2], b[1, 2])


def test_nissim_of_many_maps_is_that_of_each_pair():
    """They are compared in pieces; the borders of the first pieces are among those checked."""
    a, b = np.random.default_rng(0).random((2, 3001, 7, 7))
    whole = nissim(a, b)
    assert whole.shape == (3001,)
    for first in (0, 667, 668, 669, 1336, 1337, 1338, 3000):
        assert whole[first] == nissim(a[first], b[first])


@given(maps, st.randoms(use_true_random=False))
def test_nissim_is_symmetric_bounded_and_zero_on_equal_maps(a, random):
    b = np.array([random.random() for _ in range(a.size)]).reshape(a.shape)
    forward, backward = nissim(a, b), nissim(b, a)
    np.testing.assert_allclose(forward, backward, rtol=0, atol=1e-12)
    assert (forward >= 0).all()
    assert (forward <= 1).all()
    np.testing.assert_allclose(nissim(a, a), 0, atol=1e-12)


def test_nissim_of_two_empty_maps_is_zero():
    assert nissim(np.zeros((7, 7)), np.zeros((7, 7))) == 0


@pytest.mark.parametrize(
    ("shape", "perturbed", "message"),
    [
        ((2, 5, 5), np.zeros((2, 5, 5)), r"at least 7 .*Received: shape \(2, 5, 5\)"),
        ((1, 7, 7), np.zeros((2, 7, 7)), r"one shape. Received: \(1, 7, 7\), \(2, 7, 7\)"),
        ((7, 7), np.full((7, 7), 1.5), r"perturbed heatmaps with values in \[0, 1\].* to 1.5"),
        ((7, 7), np.full((7, 7), -0.1), r"values in \[0, 1\]. Received: from -0.1"),
        ((7, 7), np.full((7, 7), np.nan), r"values in \[0, 1\]"),
    ],
)
def test_nissim_refuses(shape, perturbed, message):
    with pytest.raises(ValueError, match=message):
        nissim(np.zeros(shape), perturbed)


def test_mod_by_hand():
    assert mod([0.1, 0.2, 0.6]) == pytest.approx(0.3)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.randoms(use_true_random=False))
def test_mod_does_not_depend_on_the_order(values, random):
    shuffled = random.sample(values, len(values))
    assert mod(shuffled) == pytest.approx(mod(values))


def test_deviations_and_vid_by_hand():
    # Image 1: mean 0.2, differences -0.1 and 0.1, so 0.1; image 2: constant; image 3: 0.3.
    values = [[0.1, 0.5, 0.0], [0.3, 0.5, 0.6]]
    np.testing.assert_allclose(deviations(values), [0.1, 0, 0.3], atol=1e-12)
    assert vid(values) == pytest.approx((0.1 + 0 + 0.3) / 3)


def test_vid_divides_by_the_number_of_epsilons():
    # Of a population: sqrt((0.1² + 0 + 0.1²) / 3); that of a sample would divide by 2.
    assert vid([[0.1], [0.2], [0.3]]) == pytest.approx(np.sqrt(0.02 / 3))


@pytest.mark.parametrize(
    ("function", "values", "message"),
    [
        (mod, [], r"shape \(N,\), not empty. Received: shape \(0,\)"),
        (mod, [[0.1]], r"shape \(N,\), not empty. Received: shape \(1, 1\)"),
        (mod, [0.1, 1.2], r"in \[0, 1\]. Received: from 0.1 to 1.2"),
        (vid, [0.1, 0.2], r"shape \(epsilons, N\), not empty. Received: shape \(2,\)"),
        (vid, [[np.nan]], r"in \[0, 1\]"),
        (deviations, [[]], r"shape \(epsilons, N\), not empty. Received: shape \(1, 0\)"),
    ],
)
def test_mod_and_vid_refuse(function, values, message):
    with pytest.raises(ValueError, match=message):
        function(values)


def test_psnr_equals_scikit_image_and_is_infinite_for_equal_images():
    a, b = np.random.default_rng(0).random((2, 3, 9, 8, 3))
    b[1] = a[1]
    values = psnr(a, b)
    for i in (0, 2):
        expected = peak_signal_noise_ratio(a[i], b[i], data_range=1)
        assert values[i] == pytest.approx(expected, abs=1e-12)
    assert values[1] == np.inf


def test_psnr_of_a_uniform_perturbation():
    a = np.full((1, 4, 4, 3), 0.5)
    assert psnr(a, a + 0.1)[0] == pytest.approx(20)


@pytest.mark.parametrize(
    ("clean", "perturbed", "message"),
    [
        (np.zeros((1, 4, 4, 3)), np.zeros((1, 5, 4, 3)), r"one shape .*Received: \(1, 4, 4, 3\),"),
        (np.zeros((4, 4, 3)), np.zeros((4, 4, 3)), r"\(N, H, W, C\). Received: \(4, 4, 3\),"),
        (
            np.zeros((1, 4, 4, 3)),
            np.zeros((1, 4, 4, 3), np.uint8),
            "perturbed images as floats in .* Received: dtype uint8",
        ),
    ],
)
def test_psnr_refuses(clean, perturbed, message):
    with pytest.raises(ValueError, match=message):
        psnr(clean, perturbed)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.integers(0, 3), st.integers(0, 99))
def test_unrelated_images_are_of_other_classes_five_where_there_are_five(classes, own, seed):
    drawn = UnrelatedPairs(classes, seed).draw(own)
    others = [i for i, label in enumerate(classes) if label != own]
    assert set(drawn) <= set(others)
    assert len(drawn) == len(set(drawn)) == min(5, len(others))


def test_unrelated_images_follow_from_the_seed_and_take_every_one_in_time():
    names = np.repeat(["ann", "bob", "cem"], 10)
    first, same, other = (UnrelatedPairs(names, seed) for seed in (0, 0, 1))
    drawn = [first.draw("ann").tolist() for _ in range(50)]
    assert drawn == [same.draw("ann").tolist() for _ in range(50)]
    assert drawn != [other.draw("ann").tolist() for _ in range(50)]
    assert set().union(*drawn) == set(range(10, 30))
