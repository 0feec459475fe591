"""Shifts of regions by hand and under flips, and centroids against SciPy and scikit-image."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import center_of_mass
from skimage.measure import centroid as skimage_centroid

from gradcam_adv.metrics import centroid, region, region_shift

shapes = st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 7))
# Few values, so that regions of several pixels, whole maps and empty ones come up often.
pairs = shapes.flatmap(
    lambda shape: hnp.arrays(
        np.float64, (2, *shape), elements=st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.6, 1.0])
    )
)


def square(top: int, left: int, side: int = 2, shape: tuple[int, int] = (10, 10)) -> np.ndarray:
    heatmap = np.zeros(shape)
    heatmap[top : top + side, left : left + side] = 1
    return heatmap


def test_the_region_is_half_the_maximum_of_each_map():
    maps = np.array([[[1.0, 0.5], [0.49, 0]], [[0.2, 0.1], [0.09, 0.3]]])
    expected = [[[True, True], [False, False]], [[True, False], [False, True]]]
    np.testing.assert_array_equal(region(maps), expected)


def test_an_empty_map_has_no_region_but_the_smallest_number_has_one():
    assert not region(np.zeros((3, 3))).any()
    tiny = np.zeros((3, 3))
    tiny[1, 2] = 5e-324
    assert np.argwhere(region(tiny)).tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ("top", "left", "length", "direction"),
    [
        (4, 7, 0.3, 0),  # right
        (2, 4, 0.2, np.pi / 2),  # up
        (4, 0, 0.4, np.pi),  # left
        (8, 4, 0.4, -np.pi / 2),  # down
        (1, 7, 0.3 * np.sqrt(2), np.pi / 4),  # up and right
    ],
)
def test_a_square_that_moves_away(top, left, length, direction):
    result = region_shift(square(4, 4), square(top, left))
    assert result.lost == result.gained == result.area_ratio == 1
    assert result.moved == pytest.approx(length)
    assert result.direction == pytest.approx(direction)


def test_a_square_that_moves_by_half_of_itself():
    result = region_shift(square(4, 4), square(4, 5))
    assert (result.lost, result.gained, result.area_ratio) == (0.5, 0.5, 1)
    assert result.moved == pytest.approx(0.1)


def test_a_square_that_grows_around_its_middle_moves_nowhere():
    result = region_shift(square(4, 4), square(3, 3, side=4))
    assert (result.lost, result.gained, result.area_ratio) == (0, 0.75, 4)
    assert result.moved == 0
    assert np.isnan(result.direction)


def test_a_square_that_grows_to_one_side():
    grown = square(4, 4)
    grown[4:6, 6:10] = 1  # columns 4-5 become 4-9: their middle goes from 4.5 to 6.5
    result = region_shift(square(4, 4), grown)
    assert (result.lost, result.area_ratio, result.direction) == (0, 3, 0)
    assert result.gained == pytest.approx(2 / 3)
    assert result.moved == pytest.approx(0.2)


def test_values_within_the_region_do_not_move_it():
    uneven = square(4, 4)
    uneven[4, 4] = 0.5
    result = region_shift(square(4, 4), uneven)
    assert (result.lost, result.gained, result.moved) == (0, 0, 0)


def test_distances_count_in_sides_of_the_map_and_directions_in_pixels():
    shape = (5, 20)
    result = region_shift(square(3, 4, 1, shape), square(1, 6, 1, shape))
    assert result.moved == pytest.approx(np.hypot(2 / 5, 2 / 20))
    assert result.direction == pytest.approx(np.pi / 4)


def test_all_is_nan_where_one_map_is_empty_but_not_for_the_rest_of_the_batch():
    full, empty = square(4, 4), np.zeros((10, 10))
    result = region_shift([full, empty, empty, full], [empty, full, empty, full])
    for field in dataclasses.fields(result):
        values = getattr(result, field.name)
        assert np.isnan(values[:3]).all(), field.name
        assert np.isnan(values[3]) == (field.name == "direction"), field.name


def test_takes_any_leading_dimensions():
    a, b = np.random.default_rng(0).random((2, 2, 3, 7, 9))
    whole, single = region_shift(a, b), region_shift(a[1, 2], b[1, 2])
    for field in dataclasses.fields(whole):
        values = getattr(whole, field.name)
        assert values.shape == (2, 3)
        assert values[1, 2] == getattr(single, field.name)


@given(pairs)
def test_centroids_are_those_of_scipy_and_scikit_image(pair):
    regions = region(pair[0])
    for own, found in zip(regions, centroid(regions), strict=True):
        if own.any():
            np.testing.assert_allclose(found, center_of_mass(own), atol=1e-12)
            np.testing.assert_allclose(found, skimage_centroid(own), atol=1e-12)
        else:
            assert np.isnan(found).all()


@given(pairs)
def test_swapping_the_maps_swaps_lost_and_gained_and_reverses_the_direction(pair):
    forward, backward = region_shift(*pair), region_shift(*pair[::-1])
    np.testing.assert_array_equal(forward.lost, backward.gained)
    np.testing.assert_array_equal(forward.gained, backward.lost)
    np.testing.assert_allclose(forward.area_ratio, 1 / backward.area_ratio)
    np.testing.assert_array_equal(forward.moved, backward.moved)
    direction = np.exp(1j * forward.direction)
    np.testing.assert_allclose(direction, -np.exp(1j * backward.direction), atol=1e-9)


@given(pairs)
def test_shares_and_distances_stay_within_their_bounds(pair):
    result = region_shift(*pair)
    known = pair.any(axis=(-2, -1)).all(axis=0)
    for name, highest in (("lost", 1), ("gained", 1), ("moved", np.sqrt(2))):
        values = getattr(result, name)
        np.testing.assert_array_equal(np.isnan(values), ~known)
        assert (values[known] >= 0).all()
        assert (values[known] <= highest).all()
    # The pixels that both regions share, as a share of the clean one, counted in either map.
    common = 1 - result.lost[known]
    np.testing.assert_allclose(common, result.area_ratio[known] * (1 - result.gained[known]))


@given(pairs)
def test_flips_mirror_the_direction_and_change_nothing_else(pair):
    plain = region_shift(*pair)
    for axis, mirrored in ((-1, np.pi - plain.direction), (-2, -plain.direction)):
        flipped = region_shift(*np.flip(pair, axis))
        np.testing.assert_array_equal(flipped.lost, plain.lost)
        np.testing.assert_array_equal(flipped.gained, plain.gained)
        np.testing.assert_allclose(flipped.moved, plain.moved, atol=1e-12)
        turned = np.exp(1j * flipped.direction)
        np.testing.assert_allclose(turned, np.exp(1j * mirrored), atol=1e-9)


@given(pairs)
def test_a_fainter_copy_of_a_map_has_the_same_region(pair):
    faint = pair[0] / 4
    result = region_shift(pair[0], faint)
    known = pair[0].any(axis=(-2, -1))
    assert (result.lost[known] == 0).all()
    assert (result.gained[known] == 0).all()
    assert (result.moved[known] == 0).all()
    assert np.isnan(result.direction).all()


@pytest.mark.parametrize(
    ("clean", "perturbed", "message"),
    [
        (np.zeros((1, 4, 4)), np.zeros((2, 4, 4)), r"one shape. Received: \(1, 4, 4\), \(2, 4, 4"),
        (np.zeros(4), np.zeros(4), r"shape \(\.\.\., H, W\). Received: shape \(4,\)"),
        (np.zeros((0, 4)), np.zeros((0, 4)), r"\(\.\.\., H, W\). Received: shape \(0, 4\)"),
        (np.zeros((4, 4)), np.full((4, 4), 1.5), r"in \[0, 1\]. Received: from 0 to 1.5"),
        (np.full((4, 4), -0.5), np.zeros((4, 4)), r"in \[0, 1\]. Received: from -0.5"),
        (np.full((4, 4), np.nan), np.zeros((4, 4)), r"values in \[0, 1\]"),
    ],
)
def test_refuses(clean, perturbed, message):
    with pytest.raises(ValueError, match=message):
        region_shift(clean, perturbed)
