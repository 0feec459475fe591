"""Measures of how unlike two heatmaps are: by hand, against other libraries, and in their place."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import scipy.optimize
import scipy.stats
import skimage.feature
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from gradcam_adv import dissimilarity, metrics
from gradcam_adv.explain import resize
from gradcam_adv.metrics import MEASURES

OTHERS = [name for name in MEASURES if name != "nissim"]
# Those for which an empty map has nothing in common with any other.
BOUNDED = [name for name in OTHERS if name != "spearman"]


def pairs(count: int = 5, side: int = 14) -> np.ndarray:
    """Two batches of smooth maps with zeros, as Grad-CAM gives them."""
    coarse = np.maximum(np.random.default_rng(0).normal(size=(2, count, 4, 4)), 0)
    return resize(coarse / coarse.max(), side).astype(np.float64)


@pytest.mark.parametrize("name", MEASURES)
def test_of_a_map_and_itself_it_is_zero_and_it_is_the_same_both_ways(name):
    first, second = pairs()
    measure = MEASURES[name]
    np.testing.assert_allclose(measure(first, first), 0, atol=1e-12)
    there, back = measure(first, second), measure(second, first)
    np.testing.assert_allclose(there, back, atol=1e-9)
    assert there.shape == (5,)
    assert there.dtype == np.float64
    assert (there > 0.01).all()


@settings(max_examples=40, deadline=None)
@given(
    maps=arrays.arrays(np.float32, (2, 1, 8, 9), elements=st.floats(0, 1, width=32)),
    name=st.sampled_from(OTHERS),
)
def test_it_is_within_its_range(maps, name):
    value = MEASURES[name](*maps).item()
    assert 0 <= value <= 1 + 1e-9
    assert MEASURES[name](maps[0], maps[0]).item() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("name", OTHERS)
def test_a_pair_counts_for_itself_whatever_the_axes(name):
    first, second = pairs(6)
    every = MEASURES[name](first, second)
    np.testing.assert_allclose([MEASURES[name](a, b) for a, b in zip(first, second, strict=True)],
                               every, atol=1e-12)  # fmt: skip
    two = (maps.reshape(2, 3, 14, 14) for maps in (first, second))
    np.testing.assert_allclose(MEASURES[name](*two), every.reshape(2, 3), atol=1e-12)


@pytest.mark.parametrize("name", BOUNDED)
def test_empty_maps(name):
    first, _ = pairs(1, 15)
    empty = np.zeros_like(first)
    assert MEASURES[name](empty, empty).item() == 0
    # Of an empty map every pixel is hottest by a fifth; without edges the descriptor is 0.
    expected = {"top": 0.8, "hog": np.sqrt(0.5)}.get(name, 1)
    assert MEASURES[name](first, empty).item() == pytest.approx(expected)
    assert MEASURES[name](empty, first).item() == pytest.approx(expected)


def test_maps_of_one_value_have_no_order():
    first, _ = pairs(1)
    even = np.full_like(first, 0.5)
    assert metrics.spearman(first, even).item() == metrics.spearman(even, first).item() == 0.5
    assert metrics.spearman(even, 0 * even).item() == 0


def test_spearman_is_scipys():
    first, second = pairs()
    expected = [(1 - scipy.stats.spearmanr(a.ravel(), b.ravel()).statistic) / 2
                for a, b in zip(first, second, strict=True)]  # fmt: skip
    np.testing.assert_allclose(metrics.spearman(first, second), expected)
    assert metrics.spearman(first, 1 - first) == pytest.approx(1)


def test_the_hottest_fifth_by_hand():
    first = np.arange(10).reshape(1, 2, 5) / 10
    second = first.copy()
    second[0, 1, 4] = 0  # the hottest pixel is cold now, and the third takes its place
    assert metrics.top(first, second).item() == pytest.approx(0.5)
    assert metrics.top(first, 1 - first).item() == 1
    # Two of four equal pixels are in the fifth, so each by half; one of them is in the other's.
    tied = np.zeros((1, 2, 5))
    tied[0, 0, :4] = 1
    other = np.zeros((1, 2, 5))
    other[0, 0, 0] = other[0, 1, 0] = 1
    assert metrics.top(tied, other).item() == pytest.approx(1 - 0.5 / 2)


def test_the_hottest_fifth_of_maps_without_ties():
    first, second = np.random.default_rng(0).random((2, 4, 10, 10))
    hottest = [np.argsort(maps.reshape(4, -1))[:, -20:] for maps in (first, second)]
    expected = [1 - len(set(a) & set(b)) / 20 for a, b in zip(*hottest, strict=True)]
    np.testing.assert_allclose(metrics.top(first, second), expected)


def test_regions_by_hand():
    # Two pixels and three, of which two are the same.
    first = np.array([[1.0, 0.5, 0.4, 0.0]])
    second = np.array([[0.5, 0.5, 0.5, 0.0]])
    assert metrics.region_distance(first, second) == pytest.approx(1 / 3)


def test_jensen_shannon_is_the_entropy_of_the_mean_less_the_mean_entropy():
    first, second = pairs()
    p, q = (maps.reshape(5, -1) / maps.sum(axis=(1, 2))[:, None] for maps in (first, second))
    entropies = [scipy.stats.entropy(x, base=2, axis=1) for x in ((p + q) / 2, p, q)]
    expected = entropies[0] - (entropies[1] + entropies[2]) / 2
    np.testing.assert_allclose(metrics.jensen_shannon(first, second), expected)


def test_heat_in_a_row_is_carried_as_in_one_dimension():
    first, second = np.random.default_rng(0).random((2, 3, 1, 6))
    expected = [scipy.stats.wasserstein_distance(range(6), range(6), a, b) / np.hypot(1, 6)
                for a, b in zip(first[:, 0], second[:, 0], strict=True)]  # fmt: skip
    np.testing.assert_allclose(metrics.earth_mover(first, second), expected, atol=1e-9)


def test_heat_is_carried_as_linear_programming_says():
    first, second = pairs(2, 28)
    heat = [maps.reshape(2, 7, 4, 7, 4).sum(axis=(2, 4)).reshape(2, 49) for maps in (first, second)]
    places = 4 * np.stack(np.meshgrid(range(7), range(7), indexing="ij"), -1).reshape(49, 2)
    costs = np.linalg.norm(places[:, None] - places[None], axis=-1).ravel()
    ones = np.eye(49)
    sums = np.vstack([np.kron(ones, np.ones(49)), np.kron(np.ones(49), ones)])
    for p, q, found in zip(*heat, metrics.earth_mover(first, second), strict=True):
        flow = scipy.optimize.linprog(costs, A_eq=sums, b_eq=[*p / p.sum(), *q / q.sum()])
        assert found == pytest.approx(flow.fun / np.hypot(28, 28), abs=1e-6)


def test_heat_carried_over_a_known_way():
    first, second = np.zeros((2, 1, 15, 15))
    first[0, 0, 0] = second[0, 14, 0] = 1
    # 15 rows are six cells of two and one of three; their middles are 12.5 apart.
    middles = 1.0, 13.5
    expected = (middles[1] - middles[0]) / np.hypot(15, 15)
    assert metrics.earth_mover(first, second).item() == pytest.approx(expected)


def test_hog_is_of_scikit_images_descriptors():
    first, second = pairs(3, 28)
    both = [np.stack([skimage.feature.hog(one, 9, (4, 4), (2, 2)) for one in maps])
            for maps in (first, second)]  # fmt: skip
    a, b = (found / np.linalg.norm(found, axis=1, keepdims=True) for found in both)
    expected = np.sqrt((2 - 2 * (a * b).sum(axis=1)) / 2)
    np.testing.assert_allclose(metrics.hog(first, second), expected)


@pytest.mark.parametrize("name", OTHERS)
def test_wrong_input_is_refused(name):
    first, _ = pairs(1)
    with pytest.raises(ValueError, match=r"two arrays of heatmaps, .* Received: \(1, 14, 14\)"):
        MEASURES[name](first, first[0])
    with pytest.raises(ValueError, match=r"values in \[0, 1\]. Received: from 0 to 2"):
        MEASURES[name](first, np.full_like(first, 2))


def test_hog_needs_seven_cells():
    with pytest.raises(ValueError, match="7 x 7 or more for hog. Received: 6 x 9"):
        metrics.hog(np.ones((1, 6, 9)), np.ones((1, 6, 9)))


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    layers = [
        keras.Input((16, 16, 3)),
        keras.layers.Conv2D(4, 3, name="conv"),
        keras.layers.Flatten(),
        keras.layers.Dense(3),
    ]
    return keras.Sequential(layers)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).random((6, 16, 16, 3)).astype(np.float32)


@pytest.mark.parametrize("name", ["spearman", "hog"])
def test_a_measure_stands_in_the_place_of_nissim(model, images, name):
    seen = []

    def own(first, second):
        seen.append(first.shape)
        return MEASURES[name](first, second)

    by_name, by_function, nissim = (
        dissimilarity(model, images, [0, 1, 2] * 2, epsilons=[0.05, 0.1], measure=measure)
        for measure in (name, own, "nissim")
    )
    for table in ("nissim", "mod", "vid", "controls", "gain", "half_shift"):
        found = getattr(by_name, table)
        assert found.equals(getattr(by_function, table))
        assert list(found) == list(getattr(nissim, table))
    # Heatmaps are compared at the size of the input.
    assert {shape[1:] for shape in seen} == {(16, 16)}
    assert not np.allclose(by_name.mod["mod"], nissim.mod["mod"])
    assert (by_name.mod[["mod_noise", "unrelated"]] != nissim.mod[["mod_noise", "unrelated"]]).all(
        axis=None
    )


def test_nissim_by_any_name_is_the_default(model, images):
    default, named, function = (
        dissimilarity(model, images, epsilons=[0.1], controls=False, **given)
        for given in ({}, {"measure": "nissim"}, {"measure": metrics.nissim})
    )
    assert default.nissim.equals(named.nissim)
    assert default.nissim.equals(function.nissim)


@pytest.mark.parametrize(
    ("measure", "message"),
    [
        ("ssim", "Expected measure as one of nissim, spearman, .* Received: 'ssim'"),
        (lambda a, b: np.zeros(1), r"6 numbers, one per pair .* Received: shape \(1,\)"),
        (lambda a, b: -np.ones(len(a)), r"measure with values in \[0, 1\]. Received: from -1 to"),
        (lambda a, b: np.full(len(a), np.nan), r"values in \[0, 1\]. Received: from nan"),
    ],
)
def test_a_measure_that_cannot_be_used(model, images, measure, message):
    with pytest.raises(ValueError, match=message):
        dissimilarity(model, images, epsilons=[0.1], controls=False, measure=measure)
