"""The photos of one arm: their table, and their pixels."""

from __future__ import annotations

import functools
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gradcam_adv.data import photos
from gradcam_adv.files import read
from gradcam_adv.runs.tasks import Task, not_an_input
from gradcam_adv.study.columns import read_table
from gradcam_adv.study.config import Arm


@dataclass(frozen=True, kw_only=True)
class Photos:
    """The photos of one arm, as the stages after "data" read them.

    Attributes:
        arm: "plain", photos as they are, or "aligned", crops of their faces.
        data: the task that wrote the table of photos, and for the aligned arm the crops.
        root: folder that photos are named relative to.
        image_size: side of the square images in pixels.
    """

    arm: Arm
    data: Task
    root: Path = not_an_input()
    image_size: int

    @functools.cached_property
    def table(self) -> pd.DataFrame:
        """All photos: columns photo, identity, label, split, sha256 and more."""
        return read_table(self.data.folder / "photos.csv")

    @functools.cached_property
    def test(self) -> pd.DataFrame:
        """The photos of the test set, in the order of the table."""
        return self.table[self.table["split"] == "test"].reset_index(drop=True)

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
        return photos.decode_all([self.root / photo for photo in rows["photo"]], self.image_size)

    def _crops(self, rows: pd.DataFrame) -> np.ndarray:
        files = {name: read.array(self.data.folder / name) for name in rows["crops"].unique()}
        crops = [files[name][i] for name, i in zip(rows["crops"], rows["crop"], strict=True)]
        return np.stack(crops).astype(np.float32) / 255
