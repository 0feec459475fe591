"""The attack: the FGSM signs of every test photo on one network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from gradcam_adv import validation
from gradcam_adv.files import read, write
from gradcam_adv.runs.engines import WriteSlice, slice_name
from gradcam_adv.runs.records import Names
from gradcam_adv.study.config import Precision
from gradcam_adv.study.stages.network_task import NetworkTask, SlicedTask
from gradcam_adv.study.stages.train import Train


@dataclass(frozen=True, eq=False, kw_only=True)
class Attack(NetworkTask, SlicedTask):
    """Signs of the attack on one network: int8 (n, H, W, 3), one file per slice.

    One gradient serves every epsilon, and every network that gets this attack.
    """

    kind = stage = "attack"
    file = "{}.npy"
    names = Names(r"\d{7}\.npy")
    reads_pixels = True

    train: Train
    attacked_label: Literal["true", "predicted"]
    precision: Precision

    @property
    def effort(self) -> float:
        return self.seconds(3 * len(self.photos.test))

    def signs(self, row: int, count: int) -> np.ndarray:
        """The signs of ``count`` test photos of one slice, beginning with ``row`` of the table."""
        start = self.start_of(row)
        signs = read.array(self.path(slice_name(start)))
        return signs[row - start : row - start + count]

    def begin(self) -> WriteSlice:
        from gradcam_adv.attacks.fgsm import FGSM
        from gradcam_adv.graph.predictor import Predictor

        model, batch_size = self.train.model(self.precision), self.train.features.batch_size
        fgsm = FGSM(model, batch_size=batch_size)
        logits_of = Predictor(model, batch_size)

        def write_slice(name: str, rows: pd.DataFrame, pixels: np.ndarray) -> None:
            labels = rows["label"].to_numpy()
            with validation.naming(rows["photo"].tolist(), self.network):
                if self.attacked_label == "predicted":
                    labels = logits_of(pixels).argmax(axis=1)
                signs = fgsm.signs(pixels, labels)
            write.array(self.path(name), signs)

        return write_slice
