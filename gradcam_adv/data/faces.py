"""The face that counts in a photo: MTCNN finds it, a similarity transform on the eyes aligns it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from skimage import transform

from gradcam_adv import batching as batches

# MTCNN looks at photos shrunk to this many pixels on the longer side: it finds faces of 20 pixels
# and more, so of 4 % of that side, and a phone's photo takes no longer than a small one.
DETECTION_SIDE = 512
# MTCNN's smallest window is 12 pixels and its smallest face 20; below that it has no scale to try.
SMALLEST_SIDE = 24
# One call for so many photos: most of a call for one photo is spent outside of the convolutions.
BATCH = 16
# Where the eyes come to lie in a face without margin, in units of its side: their distance and
# their height from above. Face recognition's usual 112-pixel templates have about these.
EYE_DISTANCE = 0.32
EYE_HEIGHT = 0.46
# Seen from the side the eyes come close together. Below this share of the box's height, which nine
# of ten faces are above (measured on 320 LFW photos), the box says how large the face is.
EYES_TO_BOX = 0.3


@dataclass(frozen=True)
class Face:
    """The face that counts in one photo, in shares of the photo's width and height.

    Attributes:
        left, top, width, height: of its box.
        left_eye_x, left_eye_y, right_eye_x, right_eye_y: left and right as one sees the photo.
        confidence: of MTCNN, 0 to 1.
        faces: how many it found in the photo.
    """

    left: float
    top: float
    width: float
    height: float
    left_eye_x: float
    left_eye_y: float
    right_eye_x: float
    right_eye_y: float
    confidence: float
    faces: int


def for_detection(photo: Image.Image) -> np.ndarray:
    """An RGB photo as the detector takes it: uint8 (h, w, 3), at most DETECTION_SIDE a side."""
    small = photo.copy()
    small.thumbnail((DETECTION_SIDE, DETECTION_SIDE), Image.Resampling.BILINEAR)
    return np.asarray(small)


class Detector:
    """MTCNN, loaded once, called with some photos at a time."""

    def __init__(self) -> None:
        from mtcnn import MTCNN

        self._mtcnn = MTCNN()
        self._found = batches.Batches(lambda size: self._rows, BATCH)

    def __call__(self, images: Sequence[np.ndarray]) -> list[Face | None]:
        """The face that counts in each photo; None where MTCNN finds none.

        Of several faces it is the one with the largest area less twice the squared distance of
        its middle from the photo's: the large face in the middle, not the bystander.

        Args:
            images: of :func:`for_detection`.

        Raises:
            NotFiniteError: a face whose place is NaN or infinite.
        """
        found: list[Face | None] = [None] * len(images)
        large = [i for i, image in enumerate(images) if min(image.shape[:2]) >= SMALLEST_SIDE]
        # Photos of one size go together: what is filled up is searched as well.
        large.sort(key=lambda i: images[i].shape)
        photos = np.empty(len(large), object)
        for number, i in enumerate(large):
            photos[number] = images[i]
        for chosen, rows in self._found(np.array(large, int), photos):
            for number, i in enumerate(large[chosen]):
                own = rows[rows[:, 0] == number]
                if len(own):
                    batches.check_finite(own[np.newaxis], "places of faces", i)
                    found[i] = _that_counts(own, *images[i].shape[:2])
        return found

    def _rows(self, numbers: np.ndarray, images: np.ndarray) -> np.ndarray:
        """What MTCNN finds in one batch, less what only fills it up.

        Returns:
            Rows of photo, box (left, top, width, height), confidence, and the x, then the y of
            left eye, right eye, nose and the corners of the mouth.
        """
        own = images[: len(set(numbers))]
        return self._mtcnn.detect_faces(
            _of_one_size(list(own)), output_type="numpy", fit_to_image=False
        )


def _of_one_size(images: list[np.ndarray]) -> list[np.ndarray]:
    """Images filled up with black on the right and below, so that places in them stay the same.

    MTCNN would fill them up around the middle, and takes the offsets for those of other images
    where one among them has no face.
    """
    height, width = np.max([image.shape[:2] for image in images], axis=0)
    return [
        np.pad(image, ((0, height - image.shape[0]), (0, width - image.shape[1]), (0, 0)))
        for image in images
    ]


def _that_counts(rows: np.ndarray, height: int, width: int) -> Face:
    boxes = rows[:, 1:5]
    offsets = boxes[:, :2] + boxes[:, 2:] / 2 - (width / 2, height / 2)
    row = rows[np.argmax(boxes[:, 2] * boxes[:, 3] - 2 * (offsets**2).sum(axis=1))].tolist()
    return Face(
        left=row[1] / width,
        top=row[2] / height,
        width=row[3] / width,
        height=row[4] / height,
        left_eye_x=row[6] / width,
        left_eye_y=row[11] / height,
        right_eye_x=row[7] / width,
        right_eye_y=row[12] / height,
        confidence=row[5],
        faces=len(rows),
    )


def align(photo: Image.Image, face: Face, size: int, margin: float) -> np.ndarray:
    """The face upright in a square, its eyes level and in one place in every crop.

    A similarity transform (turn, scale, shift) on the eyes. What lies outside of the photo is
    black.

    Args:
        photo: RGB.
        face: of the photo, from :class:`Detector`.
        size: side of the crop in pixels.
        margin: around the face on each side, in units of the face.

    Returns:
        uint8 (size, size, 3).
    """
    eyes = np.array([(face.left_eye_x, face.left_eye_y), (face.right_eye_x, face.right_eye_y)])
    wanted_distance = size * EYE_DISTANCE / (1 + 2 * margin)
    wanted_height = size * (EYE_HEIGHT + margin) / (1 + 2 * margin)

    scale = wanted_distance / _eye_distance(photo, face, eyes)
    if scale < 1:
        # Shrunk first, antialiased: a transform takes single pixels, and would pick few of many.
        photo = photo.resize(
            (max(1, round(photo.width * scale)), max(1, round(photo.height * scale))),
            Image.Resampling.BILINEAR,
        )
    left, right = eyes * photo.size
    middle, distance = (left + right) / 2, _eye_distance(photo, face, eyes)
    # Cut to twice what the crop can show: a transform takes the whole photo as 64-bit floats.
    reach = 1.5 * size * distance / wanted_distance
    corner = np.maximum(middle - reach, 0).astype(int)
    end = np.maximum(np.minimum(middle + reach, photo.size).astype(int), corner + 1)
    part = photo.crop((*corner, *end))
    turn = transform.SimilarityTransform(
        scale=wanted_distance / distance, rotation=-np.arctan2(*(right - left)[::-1])
    )
    # skimage knows pixels by their middles, MTCNN and Pillow by their corners.
    seen, wanted = middle - corner - 0.5, np.array([size / 2, wanted_height]) - 0.5
    shift = transform.SimilarityTransform(translation=wanted - turn(seen)[0])
    similarity = turn + shift
    crop = transform.warp(np.asarray(part), similarity.inverse, output_shape=(size, size), order=1)
    return np.rint(crop * 255).astype(np.uint8)


def _eye_distance(photo: Image.Image, face: Face, eyes: np.ndarray) -> float:
    """How far apart the eyes are, or were if the face looked into the camera, in pixels."""
    left, right = eyes * photo.size
    return max(float(np.linalg.norm(right - left)), EYES_TO_BOX * face.height * photo.height)
