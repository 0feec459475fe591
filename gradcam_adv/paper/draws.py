"""Accuracy and MOD of each reading in bootstrap draws of people, the same draws for all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from gradcam_adv import statistics
from gradcam_adv.paper.evidence import Run
from gradcam_adv.study.attacks import BLACK_BOX
from gradcam_adv.study.settings import Arm


@dataclass(frozen=True)
class Photos:
    """One arm of a run under the black-box attack.

    Attributes:
        right: 1 for a right answer, else 0.
        nissim: of the heatmaps.

    Both have one row per photo, with index identity and photo, and columns network and epsilon.
    """

    right: pd.DataFrame
    nissim: pd.DataFrame

    @property
    def people(self) -> pd.Index:
        return self.right.index.get_level_values("identity")


Cells = Mapping[tuple[str, float], np.ndarray]
"""By network and epsilon, a number as measured and then in each draw of people, (1 + draws,)."""


@dataclass(frozen=True)
class Draws:
    """The means of one arm. With fewer than two people there is no draw.

    Attributes:
        ratio: of the accuracy to the clean one; infinite or NaN if no clean photo is right.
        mod: mean NISSIM.
    """

    ratio: Cells
    mod: Cells


def photos_of(run: Run) -> dict[Arm, Photos]:
    """By arm, what a run measured under the black-box attack."""
    return {
        arm: Photos(run.right_answers(arm), run.measured(arm, BLACK_BOX, "nissim"))
        for arm in run.arms
    }


def draw(
    by_reading: Mapping[str, Mapping[Arm, Photos]], seed: int
) -> tuple[dict[str, dict[Arm, Draws]], int]:
    """By reading and arm, draws of whole people, and their number.

    Only people with photos in every arm of every reading count.
    """
    every = [photos for arms in by_reading.values() for photos in arms.values()]
    common = set.intersection(*(set(photos.people) for photos in every))

    def means(table: pd.DataFrame) -> dict[tuple[str, float], np.ndarray]:
        rows = table[table.index.get_level_values("identity").isin(common)]
        values = rows.to_numpy(np.float64).T
        # Equal names and seed give equal draws.
        names = rows.index.get_level_values("identity")
        drawn = statistics.resampled_means(values, names, seed).T
        cells = zip(
            *(rows.columns.get_level_values(n) for n in ("network", "epsilon")), strict=True
        )
        return dict(zip(cells, np.hstack([values.mean(axis=1)[:, None], drawn]), strict=True))

    def of_photos(photos: Photos) -> Draws:
        right = means(photos.right)
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = {cell: share / right[cell[0], 0.0] for cell, share in right.items()}
        return Draws(ratio, means(photos.nissim))

    drawn = {
        reading: {arm: of_photos(photos) for arm, photos in arms.items()}
        for reading, arms in by_reading.items()
    }
    return drawn, len(common)
