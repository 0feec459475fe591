"""NISSIM and PSNR against scikit-image, MOD and VID by hand, and pairs of unrelated images."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from skimage.transform import resize as enlarged_by_scikit_image

from gradcam_adv.metrics import UnrelatedPairs, deviations, mod, nissim, psnr, vid

maps = hnp.arrays(
    np.float64, st.tuples(st.integers(1, 3), st.just(9), st.just(11)), elements=st.floats(0, 1)
)


def unlike(shape):
    """Six pairs of maps; some are alike, empty or one single value."""
    a, b = np.random.default_rng(0).random((2, 6, *shape))
    b[3] = 0.9 * a[3]
    b[4] = 0
    a[5] = 0.3
    return a, b


def by_scikit_image(a, b):
    return [(1 - structural_similarity(x, y, data_range=1)) / 2 for x, y in zip(a, b, strict=True)]


@pytest.mark.parametrize("shape", [(7, 7), (8, 13), (40, 40)])
def test_nissim_equals_scikit_image(shape):
    a, b = unlike(shape)
    np.testing.assert_allclose(nissim(a, b), by_scikit_image(a, b), rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", [(1, 1), (2, 9), (5, 3), (7, 7), (24, 14)])
@pytest.mark.parametrize("size", [(9, 9), (48, 31), (8, 14)])
def test_nissim_of_enlarged_maps_equals_scikit_image(shape, size):
    a, b = unlike(shape)
    larger = [
        [enlarged_by_scikit_image(m, size, order=1, mode="edge", anti_aliasing=False) for m in maps]
        for maps in (a, b)
    ]
    np.testing.assert_allclose(nissim(a, b, size), by_scikit_image(*larger), rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [None, 24, (31, 8)])
def test_nissim_of_a_pair_depends_on_nothing_else(size):
    """Not on the pairs beside it, their order, the threads, or how the numbers are stored."""
    a, b = np.random.default_rng(0).random((2, 400, 9, 11), np.float32)
    once = nissim(a, b, size)
    order = np.random.default_rng(1).permutation(len(a))
    np.testing.assert_array_equal(nissim(a[order], b[order], size), once[order])
    for i in (0, 7, 399):
        assert nissim(a[i], b[i], size) == once[i]
    stored = [np.asfortranarray(maps.astype(np.float64)) for maps in (a, b)]
    np.testing.assert_array_equal(nissim(*stored, size), once)
    for maps in stored:
        maps.flags.writeable = False
    np.testing.assert_array_equal(nissim(*stored, size), once)
    np.testing.assert_array_equal(nissim(np.broadcast_to(a[0], b.shape), b, size)[0], once[0])


def test_nissim_leaves_the_heatmaps_as_they_are():
    a, b = np.random.default_rng(0).random((2, 3, 8, 9))
    before = a.copy(), b.copy()
    nissim(a, b)
    nissim(a, b, 16)
    np.testing.assert_array_equal((a, b), before)


def test_nissim_takes_any_leading_dimensions():
    a, b = np.random.default_rng(0).random((2, 2, 3, 7, 9))
    assert nissim(a, b).shape == (2, 3)
    assert nissim(a, b)[1, 2] == nissim(a[1, 2], b[1, 2])


def test_nissim_of_many_maps_is_that_of_each_pair():
    """They are compared in pieces; the borders of the first pieces are among those checked."""
    a, b = np.random.default_rng(0).random((2, 6001, 7, 7))
    whole = nissim(a, b)
    assert whole.shape == (6001,)
    for first in (0, 2673, 2674, 2675, 5347, 5348, 5349, 6000):
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
        ((2, 5, 7), np.zeros((2, 5, 7)), r"compared at 7 x 7 .* or more. Received: 5 x 7"),
        ((7,), np.zeros(7), r"shape \(..., h, w\). Received: shape \(7,\)"),
        ((2, 0, 7), np.zeros((2, 0, 7)), r"shape \(..., h, w\). Received: shape \(2, 0, 7\)"),
        ((1, 7, 7), np.zeros((2, 7, 7)), r"one shape. Received: \(1, 7, 7\), \(2, 7, 7\)"),
        ((7, 7), np.full((7, 7), 1.5), r"perturbed heatmaps with values in \[0, 1\].* to 1.5"),
        ((7, 7), np.full((7, 7), -0.1), r"values in \[0, 1\]. Received: from -0.1"),
        ((7, 7), np.full((7, 7), np.nan), r"values in \[0, 1\]"),
    ],
)
def test_nissim_refuses(shape, perturbed, message):
    with pytest.raises(ValueError, match=message):
        nissim(np.zeros(shape), perturbed)


def test_nissim_refuses_a_size_below_the_window():
    with pytest.raises(ValueError, match=r"or more. Received: 224 x 6"):
        nissim(np.zeros((9, 9)), np.zeros((9, 9)), (224, 6))


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
