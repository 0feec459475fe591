"""The photos of one arm: their table, and their pixels."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gradcam_adv.data import photos
from gradcam_adv.data.datasets import SPLITS
from gradcam_adv.files import read
from gradcam_adv.runs.tasks import Task, later, not_an_input
from gradcam_adv.study.columns import read_table
from gradcam_adv.study.settings import Arm


@dataclass(frozen=True, kw_only=True)
class Photos:
    """The photos of one arm, as the stages after "data" read them.

    Attributes:
        arm: "plain", photos as they are, or "aligned", crops of their faces.
        data: the task that wrote the table of photos, and for the aligned arm the crops.
        root: folder that photos are named relative to.
        image_size: side of the square images in pixels.
        resizing: how they are made that large.
    """

    arm: Arm
    data: Task
    root: Path = not_an_input()
    image_size: int
    resizing: photos.Resizing = later("bilinear")

    @functools.cached_property
    def table(self) -> pd.DataFrame:
        """All photos: columns photo, identity, label, split, sha256 and more; fold, if any."""
        return read_table(self.data.folder / "photos.csv")

    @functools.cached_property
    def test(self) -> pd.DataFrame:
        """The photos of the test set, in the order of the table; with folds all, fold by fold."""
        if "fold" in self.table:
            return self.table.sort_values("fold", kind="stable", ignore_index=True)
        return self.table[self.table["split"] == "test"].reset_index(drop=True)

    def splits(self) -> dict[int | None, dict[str, np.ndarray]]:
        """By fold, the rows of the table to train on, to validate and to test; None for no folds.

        The fold is tested, and the next one validates.
        """
        if "fold" not in self.table:
            return {None: {name: np.flatnonzero(self.table["split"] == name) for name in SPLITS}}
        fold = self.table["fold"].to_numpy()
        count = fold.max() + 1
        return {
            tested: dict(zip(SPLITS, _rows(fold, tested, (tested + 1) % count), strict=True))
            for tested in range(count)
        }

    def spread(self, count: int) -> np.ndarray:
        """Positions of at most ``count`` test photos, spread evenly over the test set."""
        count = min(count, len(self.test))
        return np.linspace(0, len(self.test) - 1, count).round().astype(int)

    @functools.cached_property
    def identities(self) -> list[str]:
        """The people, in the order of the labels."""
        return sorted(self.table["identity"].unique())

    def __getstate__(self) -> dict[str, Any]:
        """The fields alone: a worker reads the tables itself."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def are_chosen(self) -> bool:
        """Whether there is a table yet."""
        return (self.data.folder / "photos.csv").is_file()

    def pixels(self, rows: pd.DataFrame) -> np.ndarray:
        """The photos of ``rows``, float32 (n, image_size, image_size, 3) in [0, 1]."""
        if self.arm == "aligned":
            return self._crops(rows)
        paths = [self.root / photo for photo in rows["photo"]]
        return photos.decode_all(paths, self.image_size, self.resizing)

    def _crops(self, rows: pd.DataFrame) -> np.ndarray:
        files = {name: read.array(self.data.folder / name) for name in rows["crops"].unique()}
        crops = [files[name][i] for name, i in zip(rows["crops"], rows["crop"], strict=True)]
        return np.stack(crops).astype(np.float32) / 255


def _rows(fold: np.ndarray, tested: int, validating: int) -> tuple[np.ndarray, ...]:
    """The rows of the other folds, of the one that validates, and of the one that is tested."""
    is_other = (fold != tested) & (fold != validating)
    return tuple(map(np.flatnonzero, (is_other, fold == validating, fold == tested)))


def by_fold(rows: pd.DataFrame) -> Iterator[tuple[int | None, slice]]:
    """The parts of some test photos that one head is for, with its fold; None without folds."""
    if "fold" not in rows:
        yield None, slice(0, len(rows))
        return
    folds = rows["fold"].to_numpy()
    starts = np.flatnonzero(np.diff(folds, prepend=-1))
    for start, end in itertools.pairwise([*starts, len(rows)]):
        yield int(folds[start]), slice(int(start), int(end))


def in_one(parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The arrays of the parts of :func:`by_fold`, by name, one below the other."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
