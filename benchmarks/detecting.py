"""Finding and aligning faces some at a time, against one call of MTCNN a photo."""

from __future__ import annotations

import numpy as np
from PIL import Image

from benchmarks import timing
from gradcam_adv import threads
from gradcam_adv.data import faces, photos, sources
from gradcam_adv.study import setting

PHOTOS = 96
IMAGE_SIZE = 224
MARGIN = 0.1
RUNS = 5


def against_naive_loop(side: str) -> dict[str, str | int]:
    """Crops of ORL photos in memory, enlarged to ``side`` pixels; the loop aligns them alike."""
    listing = sources.list_photos("orl", classes=None, min_photos=3, seed=0)
    every = listing.files["photo"].iloc[:: len(listing.files) // PHOTOS][:PHOTOS]
    size = (int(side), int(side))
    images = [photos.read(listing.root / photo)[0].resize(size) for photo in every]
    detector = faces.Detector()

    def crop(photo: Image.Image, face: faces.Face | None) -> np.ndarray | None:
        return None if face is None else faces.align(photo, face, IMAGE_SIZE, MARGIN)

    def ours() -> None:
        for start in range(0, PHOTOS, setting.SLICE):
            part = images[start : start + setting.SLICE]
            found = detector(list(threads.ordered(faces.for_detection, part)))
            list(threads.ordered(lambda pair: crop(*pair), zip(part, found, strict=True)))

    def naive() -> None:
        for photo in images:
            (face,) = detector([faces.for_detection(photo)])
            crop(photo, face)

    first = timing.seconds(ours)
    naive()
    seconds, peer = timing.paired(ours, naive, RUNS)
    what = f"find and align the faces of {PHOTOS} photos of {side} px / one call of MTCNN a photo"
    row = timing.row(what, seconds, peer, "2", faster=True)
    return row | {"first call (s)": f"{first:.3g}"}
