"""MTCNN on real photos, and the alignment of synthetic photos whose answer is known."""

import dataclasses

import numpy as np
import pytest
from conftest import read_photo
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gradcam_adv.data import faces, sources

SIZE = 100


@pytest.fixture(scope="module")
def orl() -> list[Image.Image]:
    """The first photo of each of ten people."""
    listing = sources.list_photos("orl", classes=None, min_photos=3, seed=0)
    first = listing.files.groupby("identity")["photo"].first().iloc[:10]
    return [read_photo(listing.root / photo)[0] for photo in first]


@pytest.fixture(scope="module")
def detector() -> faces.Detector:
    return faces.Detector()


def eyes(face: faces.Face, photo: Image.Image) -> np.ndarray:
    shares = [(face.left_eye_x, face.left_eye_y), (face.right_eye_x, face.right_eye_y)]
    return np.array(shares) * photo.size


def test_faces_of_real_photos_are_found(detector, orl):
    found = detector([faces.for_detection(photo) for photo in orl])
    for photo, face in zip(orl, found, strict=True):
        assert face.faces == 1
        left, right = eyes(face, photo)
        assert 20 < right[0] - left[0] < 50  # of a photo 92 pixels wide
        assert abs(right[1] - left[1]) < 12
        assert face.confidence > 0.8


def test_a_face_is_found_in_the_same_place_alone_and_in_a_batch(detector, orl):
    """The batch has photos of several sizes, which MTCNN would pad in its own way."""
    sizes = [(92 + 8 * i, 112 + 10 * i) for i in range(10)]
    mixed = [photo.resize(size) for photo, size in zip(orl, sizes, strict=True)]
    together = detector([faces.for_detection(photo) for photo in mixed])
    for photo, face in zip(mixed, together, strict=True):
        (alone,) = detector([faces.for_detection(photo)])
        assert np.abs(eyes(alone, photo) - eyes(face, photo)).max() < 0.04 * photo.width


def test_a_photo_without_a_face_gives_none(detector, orl):
    noise = np.random.default_rng(0).integers(0, 256, (112, 92, 3), np.uint8)
    images = [noise, np.asarray(orl[0]), np.zeros((9, 300, 3), np.uint8), np.asarray(orl[1])]
    found = detector(images)
    assert [face is None for face in found] == [True, False, True, False]
    assert detector([noise]) == [None]
    assert detector([]) == []


def test_a_photo_without_a_face_does_not_change_the_faces_of_others(detector, orl):
    """MTCNN's own padding would take the offsets of another photo here."""
    noise = np.random.default_rng(0).integers(0, 256, (48, 40, 3), np.uint8)
    none, face, other = detector([noise, *(faces.for_detection(photo) for photo in orl[:2])])
    assert none is None
    for found, photo in ((face, orl[0]), (other, orl[1])):
        (alone,) = detector([faces.for_detection(photo)])
        assert np.abs(eyes(found, photo) - eyes(alone, photo)).max() < 4


def test_a_large_photo_is_shrunk_and_its_face_found_in_the_same_place(detector, orl):
    large = orl[0].resize((1840, 2240))
    image = faces.for_detection(large)
    assert max(image.shape) == faces.DETECTION_SIDE
    small, big = detector([faces.for_detection(orl[0]), image])
    np.testing.assert_allclose(eyes(big, orl[0]), eyes(small, orl[0]), atol=4)


def test_of_several_faces_the_large_one_near_the_middle_counts(detector, orl):
    canvas = Image.new("RGB", (500, 300))
    canvas.paste(orl[0], (0, 0))
    canvas.paste(orl[1].resize((184, 224)), (150, 40))
    canvas.paste(orl[2], (400, 180))
    (face,) = detector([faces.for_detection(canvas)])
    assert face.faces == 3
    assert 150 < eyes(face, canvas)[0][0] < 334
    # Of equal faces the one in the middle counts, whatever MTCNN's confidence.
    row = np.zeros((2, 16))
    row[:, 1:5] = [(0, 0, 40, 40), (30, 30, 40, 40)]
    row[:, 5] = [1, 0.8]
    assert faces._main_face(row, 100, 100).confidence == 0.8


def dots(left: np.ndarray, right: np.ndarray, size: tuple[int, int]) -> Image.Image:
    """Black, with a red blob where the left eye is and a green one where the right is."""
    y, x = np.mgrid[: size[1], : size[0]] + 0.5
    pixels = np.zeros((size[1], size[0], 3))
    for channel, (eye_x, eye_y) in enumerate((left, right)):
        pixels[..., channel] = 255 * np.exp(-((x - eye_x) ** 2 + (y - eye_y) ** 2) / 18)
    return Image.fromarray(np.rint(pixels).astype(np.uint8))


def face_of(left, right, photo: Image.Image, height: float) -> faces.Face:
    w, h = photo.size
    return faces.Face(
        0, 0, 0, height / h, left[0] / w, left[1] / h, right[0] / w, right[1] / h, 1, 1
    )


def middle(blob: np.ndarray) -> tuple[float, float]:
    y, x = np.mgrid[: blob.shape[0], : blob.shape[1]] + 0.5
    weights = blob.astype(float) ** 2
    return (x * weights).sum() / weights.sum(), (y * weights).sum() / weights.sum()


@settings(max_examples=40, deadline=None)
@given(
    angle=st.floats(-40, 40),
    distance=st.floats(24, 110),
    x=st.floats(120, 180),
    y=st.floats(130, 170),
    margin=st.floats(0, 0.5),
)
def test_eyes_are_level_and_at_their_places_in_the_crop(angle, distance, x, y, margin):
    half = distance / 2 * np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
    left, right = np.array([x, y]) - half, np.array([x, y]) + half
    photo = dots(left, right, (300, 300))
    crop = faces.align(photo, face_of(left, right, photo, height=0), SIZE, margin)
    apart = SIZE * faces.EYE_DISTANCE / (1 + 2 * margin)
    height = SIZE * (faces.EYE_HEIGHT + margin) / (1 + 2 * margin)
    np.testing.assert_allclose(middle(crop[..., 0]), ((SIZE - apart) / 2, height), atol=0.6)
    np.testing.assert_allclose(middle(crop[..., 1]), ((SIZE + apart) / 2, height), atol=0.6)


def test_the_size_of_a_face_seen_from_the_side_comes_from_its_box():
    left, right = np.array([148.0, 150.0]), np.array([152.0, 150.0])
    photo = dots(left, right, (300, 300))
    by_box = faces.align(photo, face_of(left, right, photo, height=100), SIZE, 0)
    apart = np.array([-0.5, 0.5]) * faces.EYES_TO_BOX * 100
    frontal = face_of((150 + apart[0], 150), (150 + apart[1], 150), photo, height=0)
    np.testing.assert_array_equal(by_box, faces.align(photo, frontal, SIZE, 0))


def test_a_face_with_both_eyes_in_one_point_can_be_aligned():
    photo = dots((150, 150), (150, 150), (300, 300))
    crop = faces.align(photo, face_of((150, 150), (150, 150), photo, height=90), SIZE, 0.1)
    assert crop.any()


def test_outside_the_photo_the_crop_is_black():
    photo = Image.new("RGB", (60, 60), (200, 150, 100))
    crop = faces.align(photo, face_of((20, 10), (40, 10), photo, height=0), SIZE, 0.2)
    assert crop.dtype == np.uint8
    assert crop.shape == (SIZE, SIZE, 3)
    assert (crop[0] == 0).all()
    assert (crop[SIZE // 2 + 10, SIZE // 2] == (200, 150, 100)).all()


def test_a_large_face_is_shrunk_with_antialiasing():
    stripes = np.tile(np.array([0, 255], np.uint8), (800, 400))
    photo = Image.fromarray(np.repeat(stripes[..., None], 3, axis=2))
    crop = faces.align(photo, face_of((250, 400), (550, 400), photo, height=0), SIZE, 0)
    assert np.abs(crop[20:80, 20:80].astype(int) - 127).max() < 12


def test_the_crop_does_not_depend_on_the_size_of_the_photo(orl, detector):
    (face,) = detector([faces.for_detection(orl[3])])
    small = faces.align(orl[3], face, SIZE, 0.1)
    large = faces.align(orl[3].resize((460, 560), Image.Resampling.BICUBIC), face, SIZE, 0.1)
    assert np.abs(small.astype(int) - large).mean() < 4
    turned = dataclasses.replace(face, left_eye_y=face.left_eye_y + 0.1)
    assert np.abs(small.astype(int) - faces.align(orl[3], turned, SIZE, 0.1)).mean() > 8
