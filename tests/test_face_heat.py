"""Where on a face heatmaps are, by hand; and their correlation, against NumPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gradcam_adv.data import faces
from gradcam_adv.metrics import correlation, face_heat

shapes = st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 7))
pairs = shapes.flatmap(
    lambda shape: hnp.arrays(
        np.float64, (2, *shape), elements=st.sampled_from([0.0, 0.1, 0.3, 0.5, 1.0])
    )
)

# Four columns; the face is the two in the middle, from the second row to the last; its eyes are
# between the second row and the third.
MAP = np.array(
    [
        [0.0, 0.2, 0.0, 0.0],
        [0.1, 1.0, 0.6, 0.0],
        [0.0, 0.3, 0.1, 0.1],
        [0.0, 0.1, 0.1, 0.4],
    ]
)
FACE = (0.25, 0.25, 0.75, 1.0, 0.5)


def test_the_heat_on_background_and_forehead_by_hand():
    background, forehead = face_heat([MAP], [FACE])
    assert background.item() == pytest.approx(0.8 / 3.0)
    assert forehead.item() == pytest.approx(1.6 / 2 - 0.6 / 4)


def test_a_pixel_is_where_its_centre_is():
    # Centres are at 1/8, 3/8, 5/8 and 7/8; the end on the right and below does not belong.
    background, _ = face_heat([MAP], [(0.376, 0, 0.875, 1, 0.5)])
    assert background.item() == pytest.approx(1 - 0.8 / 3.0)
    background, _ = face_heat([MAP], [(0.375, 0, 0.876, 1, 0.5)])
    assert background.item() == pytest.approx(0.1 / 3.0)


@pytest.mark.parametrize("size", [(4, 4), (224, 224)])
def test_several_maps_of_an_image_share_its_face(size):
    chance = np.random.default_rng(0)
    maps = chance.random((3, 2, *size), dtype=np.float32)
    places = np.array([FACE, (0, 0, 0.5, 0.5, 0.25), (0.5, 0, 1, 1, 0.25)])
    together = face_heat(maps, places)
    assert [part.shape for part in together] == [(3, 2), (3, 2)]
    for i, place in enumerate(places):
        for j in range(2):
            alone = face_heat(maps[i : i + 1, j], place[None])
            np.testing.assert_allclose([part[i, j] for part in together], np.ravel(alone))


def test_what_is_not_known_is_nan():
    nowhere, whole, empty = (np.nan,) * 5, (0, 0, 1, 1, 0.5), np.zeros((4, 4))
    above = (*FACE[:4], 0.1)  # eyes above the face: it has no forehead
    beside = (-0.2, 0, 1.2, 1, 0.5)  # a box that is wider than the photo
    background, forehead = face_heat(
        [MAP, MAP, empty, MAP, MAP], [nowhere, whole, FACE, above, beside]
    )
    assert np.isnan(background).tolist() == [True, True, True, False, True]
    assert np.isnan(forehead).tolist() == [True, False, True, True, False]


@given(pairs)
def test_the_background_is_a_share(pair):
    places = np.tile(FACE, (pair.shape[1], 1))
    background, _ = face_heat(pair[0], places)
    known = background[np.isfinite(background)]
    assert ((known >= 0) & (known <= 1)).all()


@pytest.mark.parametrize(
    ("maps", "places", "message"),
    [
        (np.zeros((2, 4, 4)), np.zeros((1, 5)), r"faces of shape \(N, 5\).*\(2, 4, 4\), \(1, 5\)"),
        (np.zeros((4, 4)), np.zeros((4, 5)), r"heatmaps of shape \(N, \.\.\., H, W\)"),
        (np.full((1, 4, 4), 1.5), np.zeros((1, 5)), r"in \[0, 1\]. Received: from 0 to 1.5"),
    ],
)
def test_face_heat_refuses(maps, places, message):
    with pytest.raises(ValueError, match=message):
        face_heat(maps, places)


def test_the_place_of_the_face_in_a_crop():
    # A margin of half a face on each side: the face is the middle half.
    place = faces.place_in_crop(0.5)
    assert list(place.values()) == pytest.approx([0.25, 0.25, 0.75, 0.75, 0.48])
    assert faces.place_in_crop(0.0)["eyes"] == faces.EYE_HEIGHT


@given(pairs)
def test_the_correlation_is_numpys(pair):
    found = correlation(*pair)
    for value, first, second in zip(found, *pair, strict=True):
        if np.ptp(first) == 0 or np.ptp(second) == 0:
            assert np.isnan(value)
        else:
            expected = np.corrcoef(first.ravel(), second.ravel())[0, 1]
            assert value == pytest.approx(expected, abs=1e-9)


@given(pairs)
def test_an_inverted_map_has_the_opposite_correlation(pair):
    np.testing.assert_allclose(correlation(pair[0], 1 - pair[1]), -correlation(*pair), atol=1e-9)


@pytest.mark.parametrize("shapes", [((1, 2, 2), (2, 2, 2)), ((4,), (4,)), ((0, 4), (0, 4))])
def test_correlation_refuses(shapes):
    with pytest.raises(ValueError, match=r"two arrays of heatmaps, \(\.\.\., H, W\)\. Received: "):
        correlation(*map(np.zeros, shapes))
