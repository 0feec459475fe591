"""The images that a user names, those of a folder or of pairs, decoded when they are used."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from PIL import Image

from gradcam_adv import threads
from gradcam_adv.data import image_files, photos
from gradcam_adv.data.pairs import PairList
from gradcam_adv.files import read, text
from gradcam_adv.graph.flat import FlatGraph, flatten

# File systems allow names of 255 bytes, and a file has a longer name while it is written.
NAME_BYTES = 220


@dataclass(frozen=True)
class Images:
    """Images of a folder or a list, decoded when they are used, float32 (n, H, W, C) in [0, 1]."""

    paths: list[Path]
    names: list[str]  # paths below the folder; of a list, what the pairs are called
    shape: tuple[int, int, int]  # (H, W, C) of the model

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, rows: slice) -> np.ndarray:
        with photos.quiet():
            return np.stack(list(threads.map_in_threads(self._pixels, self.paths[rows])))

    def _pixels(self, path: Path) -> np.ndarray:
        height, width, channels = self.shape
        with photos.known(path) as image:
            small = image.resize((width, height), Image.Resampling.BILINEAR)
        if channels == 1:
            small = small.convert("L")
        return np.asarray(small, np.float32).reshape(self.shape) / 255


def images_of(folder: Path, model: keras.Model | FlatGraph) -> tuple[Images, pd.DataFrame]:
    """The images below a folder that can be read, and a table (image, reason) of the others.

    Links to folders are followed; a folder to which several lead is read once.

    ValueError without a folder or an image that can be read, or for a model without a fixed image
    size or with other than 1 or 3 channels.
    """
    shape = _shape(flatten(model))
    if not folder.is_dir():
        raise ValueError(f"Expected a folder of images. Received: {folder}, which is no folder")
    found: list[Path] = []
    for place, inside, names in read.walk(folder, seen=set()):
        inside[:] = [name for name in inside if not name.startswith(".")]
        paths = (Path(place, name) for name in names if not name.startswith("."))
        found += filter(image_files.may_be_photo, paths)
    found.sort()
    with photos.quiet():
        reasons = list(threads.map_in_threads(_reason, found))
    names = [path.relative_to(folder).as_posix() for path in found]
    table = pd.DataFrame({"path": found, "image": names, "reason": reasons})
    usable = table["reason"] == ""
    if not usable.any():
        raise ValueError(
            f"Expected images that can be read in {folder}. Received: none"
            + (f" of {len(found)}, the first: {names[0]}: {reasons[0]}" if found else "")
        )
    images = Images(table["path"][usable].tolist(), table["image"][usable].tolist(), shape)
    excluded = table.loc[~usable, ["image", "reason"]].reset_index(drop=True)
    return images, excluded.assign(image=excluded["image"].map(text.escaped))


def _shape(graph: FlatGraph) -> tuple[int, int, int]:
    """(H, W, C) of the images of a model."""
    shape = tuple(graph.input.shape[1:])
    if None in shape or shape[-1] not in (1, 3):
        raise ValueError(
            "Expected a model of images of one size (--size chooses one of several), with 1 or 3 "
            f"channels. Received: {shape}"
        )
    return shape


def images_of_pairs(listed: PairList, graph: FlatGraph) -> tuple[Images, Images]:
    """The images and the others of pairs, each pair named by its number and its files.

    ValueError if one can't be read.
    """
    every = sorted({*listed.images, *listed.others})
    with photos.quiet():
        reasons = zip(every, threads.map_in_threads(_reason, every), strict=True)
        if unusable := [f"{path}: {reason}" for path, reason in reasons if reason]:
            raise ValueError(
                f"Expected pairs of images that can be read. Received: {len(unusable)} that can "
                f"not, the first: {unusable[0]}"
            )
    names = []
    for number, (path, other) in enumerate(zip(listed.images, listed.others, strict=True), 1):
        name = f"{number:0{len(str(len(listed.same)))}} {path.stem} {other.stem}"
        names.append(name.encode()[:NAME_BYTES].decode(errors="ignore"))
    shape = _shape(graph)
    return Images(listed.images, names, shape), Images(listed.others, names, shape)


def _reason(path: Path) -> str:
    """Why an image can't be used, by its contents or its name; results are named after it."""
    if any(unicodedata.category(c) in ("Cc", "Cs") for c in str(path)):
        return "control characters or no UTF-8 in its name or a folder's"
    if len(path.name.encode()) > NAME_BYTES:
        return f"a name of more than {NAME_BYTES} bytes"
    try:
        with photos.opened(path):
            pass
    except ValueError as error:
        return str(error)
    return ""
