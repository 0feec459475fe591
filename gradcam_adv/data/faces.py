"""The main face of a photo: found with MTCNN, and aligned by the eyes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from PIL import Image
from skimage import transform
from skimage.util import img_as_float

from gradcam_adv import validation
from gradcam_adv.batching import PaddedBatches
from gradcam_adv.data.photos import RESIZING, Resizing

# Before detection, photos are shrunk to this many pixels on the longer side. MTCNN finds faces of
# 20 pixels or more, which is 4 % of that side. A large photo then takes no longer than a small one.
DETECTION_SIDE = 512
# MTCNN's smallest window is 12 pixels and its smallest face 20. Below 24 pixels it has no scale to
# try.
SMALLEST_SIDE = 24
# Photos per call. A call for one photo spends most of its time outside the convolutions.
BATCH = 16
# Where the eyes are in a crop without margin, in units of its side: the distance between them, and
# their distance from the top. The usual 112-pixel templates of face recognition have about these.
EYE_DISTANCE = 0.32
EYE_HEIGHT = 0.46
# In a face seen from the side, the eyes are close together. If their distance is below this share
# of the height of the box, the box gives the size of the face. 90 % of faces are above it (measured
# on 320 LFW photos).
EYES_TO_BOX = 0.3


@dataclass(frozen=True)
class Face:
    """The main face of one photo: its box and its eyes, in shares of the photo's width and height.

    Left and right are those of the viewer.
    """

    left: float
    top: float
    width: float
    height: float
    left_eye_x: float
    left_eye_y: float
    right_eye_x: float
    right_eye_y: float
    confidence: float  # of MTCNN, 0 to 1
    faces: int  # how many MTCNN found in the photo


def places(found: pd.DataFrame) -> pd.DataFrame:
    """Where faces and their eyes are, from columns as the attributes of :class:`Face`.

    Columns left, top, right, bottom, eyes (the height of the middle between the eyes), in shares
    of the photo's width and height; NaN without a face.
    """
    return pd.DataFrame(
        {
            "left": found["left"],
            "top": found["top"],
            "right": found["left"] + found["width"],
            "bottom": found["top"] + found["height"],
            "eyes": (found["left_eye_y"] + found["right_eye_y"]) / 2,
        }
    )


def place_in_crop(margin: float) -> dict[str, float]:
    """Where the face is in every crop of :func:`align`, as a row of :func:`places`."""
    side = 1 + 2 * margin
    near, far = margin / side, (1 + margin) / side
    eyes = (EYE_HEIGHT + margin) / side
    return {"left": near, "top": near, "right": far, "bottom": far, "eyes": eyes}


def for_detection(photo: Image.Image) -> np.ndarray:
    """An RGB photo as :class:`Detector` takes it: uint8 (h, w, 3), sides at most DETECTION_SIDE."""
    small = photo.copy()
    small.thumbnail((DETECTION_SIDE, DETECTION_SIDE), Image.Resampling.BILINEAR)
    return np.asarray(small)


class Detector:
    """MTCNN, loaded once and called with several photos at a time."""

    def __init__(self) -> None:
        from mtcnn import MTCNN

        self._mtcnn = MTCNN()
        self._found = PaddedBatches(lambda size: self._rows, BATCH)

    def __call__(self, images: Sequence[np.ndarray]) -> list[Face | None]:
        """The main face of each photo from :func:`for_detection`; None if MTCNN finds none.

        Of several faces, it is the one with the highest value of area minus twice the squared
        distance between its centre and the centre of the photo. This prefers a large face in the
        middle. The position of a face that is NaN or infinite is a NotFiniteError.
        """
        found: list[Face | None] = [None] * len(images)
        # Photos of similar size share a batch, because MTCNN searches the padding as well.
        by_shape = sorted(range(len(images)), key=lambda i: images[i].shape)
        large = [i for i in by_shape if min(images[i].shape[:2]) >= SMALLEST_SIDE]
        photos = np.fromiter((images[i] for i in large), object, len(large))
        for chosen, rows in self._found(np.array(large, int), photos):
            for number, i in enumerate(large[chosen]):
                of_photo = rows[rows[:, 0] == number]
                if len(of_photo):
                    validation.check_finite(of_photo[np.newaxis], "places of faces", i)
                    found[i] = _main_face(of_photo, *images[i].shape[:2])
        return found

    def _rows(self, numbers: np.ndarray, images: np.ndarray) -> np.ndarray:
        """The faces that MTCNN finds in one batch, without the repeated images at its end.

        float (faces, 16): the number of the photo in the batch, the box (left, top, width, height),
        the confidence, and the five x and then the five y of left eye, right eye, nose and the two
        corners of the mouth.
        """
        different = images[: len(set(numbers))]
        # Padded with black on the right and at the bottom, so that positions stay the same. MTCNN
        # would pad around the middle, and would use the offsets of the wrong images if one image
        # of the batch has no face.
        height, width = np.max([image.shape[:2] for image in different], axis=0)
        padded = [
            np.pad(image, ((0, height - image.shape[0]), (0, width - image.shape[1]), (0, 0)))
            for image in different
        ]
        return self._mtcnn.detect_faces(padded, output_type="numpy", fit_to_image=False)


def _main_face(rows: np.ndarray, height: int, width: int) -> Face:
    """The main face of a photo of this size, out of the rows of its faces."""
    boxes = rows[:, 1:5]
    offsets = boxes[:, :2] + boxes[:, 2:] / 2 - (width / 2, height / 2)
    row = rows[np.argmax(boxes[:, 2] * boxes[:, 3] - 2 * (offsets**2).sum(axis=1))].tolist()
    left, right = (row[6] / width, row[11] / height), (row[7] / width, row[12] / height)
    box = row[1] / width, row[2] / height, row[3] / width, row[4] / height
    return Face(*box, *left, *right, confidence=row[5], faces=len(rows))


def align(
    photo: Image.Image, face: Face, size: int, margin: float, resizing: Resizing = "bilinear"
) -> np.ndarray:
    """Cut out a face as an upright square, with the eyes level and at the same place in every crop.

    A similarity transform (rotation, scale, translation) maps the eyes to their place. Pixels
    outside the photo are black. ``margin`` is that on each side of the face, in units of the face;
    ``resizing`` is "bilinear" or "nearest". The result is uint8 (size, size, 3).
    """
    eyes = np.array([(face.left_eye_x, face.left_eye_y), (face.right_eye_x, face.right_eye_y)])
    wanted_distance = size * EYE_DISTANCE / (1 + 2 * margin)
    wanted_height = size * (EYE_HEIGHT + margin) / (1 + 2 * margin)

    scale = wanted_distance / _eye_distance(photo, face, eyes)
    if scale < 1:
        # Shrink with antialiasing first: the transform would use only a few of the many pixels.
        smaller = (max(1, round(photo.width * scale)), max(1, round(photo.height * scale)))
        photo = photo.resize(smaller, RESIZING[resizing])
    left, right = eyes * photo.size
    middle, distance = (left + right) / 2, _eye_distance(photo, face, eyes)
    # Cut out twice what the crop can show: the transform turns its whole input into 64-bit floats.
    reach = 1.5 * size * distance / wanted_distance
    corner = np.maximum(middle - reach, 0).astype(int)
    end = np.maximum(np.minimum(middle + reach, photo.size).astype(int), corner + 1)
    part = photo.crop((*corner, *end))
    turn = transform.SimilarityTransform(
        scale=wanted_distance / distance, rotation=-np.arctan2(*(right - left)[::-1])
    )
    # The origin is the centre of the first pixel in skimage, and its corner in MTCNN and Pillow.
    seen, wanted = middle - corner - 0.5, np.array([size / 2, wanted_height]) - 0.5
    shift = transform.SimilarityTransform(translation=wanted - turn(seen)[0])
    similarity = turn + shift
    order = 1 if resizing == "bilinear" else 0
    crop = transform.warp(
        img_as_float(np.asarray(part)), similarity.inverse, output_shape=(size, size), order=order
    )
    return np.rint(crop * 255).astype(np.uint8)


def _eye_distance(photo: Image.Image, face: Face, eyes: np.ndarray) -> float:
    """The distance between the eyes in pixels, as if the face looked into the camera."""
    left, right = eyes * photo.size
    return max(float(np.linalg.norm(right - left)), EYES_TO_BOX * face.height * photo.height)
