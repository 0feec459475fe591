"""Finding and aligning faces in batches, against one call of MTCNN per photo."""

from __future__ import annotations

import numpy as np
from PIL import Image

from benchmarks import timing
from benchmarks.processes import Row
from gradcam_adv.data import faces, photos, sources
from gradcam_adv.runs.engines import SLICE
from gradcam_adv.threads import map_in_threads

PHOTOS = 96
IMAGE_SIZE = 224
MARGIN = 0.1
RUNS = 5


def against_naive_loop(side: str) -> Row:
    """Crops of ORL photos in memory, resized to ``side`` pixels; both sides align them."""
    listing = sources.list_photos("orl", classes=None, min_photos=3, seed=0)
    every = listing.files["photo"].iloc[:: len(listing.files) // PHOTOS][:PHOTOS]
    size = (int(side), int(side))
    images = []
    for photo in every:
        with photos.known(listing.root / photo) as image:
            images.append(image.resize(size))
    detector = faces.Detector()

    def crop(photo: Image.Image, face: faces.Face | None) -> np.ndarray | None:
        return None if face is None else faces.align(photo, face, IMAGE_SIZE, MARGIN)

    def ours() -> None:
        for start in range(0, PHOTOS, SLICE):
            part = images[start : start + SLICE]
            found = detector(list(map_in_threads(faces.for_detection, part)))
            list(map_in_threads(lambda pair: crop(*pair), zip(part, found, strict=True)))

    def naive() -> None:
        for photo in images:
            (face,) = detector([faces.for_detection(photo)])
            crop(photo, face)

    first = timing.seconds(ours)
    naive()
    what = f"find and align the faces of {PHOTOS} photos of {side} px / one call of MTCNN per photo"
    return timing.compare(what, ours, naive, RUNS, "2", first=first)
