"""The features of every photo: what the frozen base gives, computed once for all epochs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from tqdm import tqdm

from gradcam_adv import backends, batching, validation
from gradcam_adv.files import read, write
from gradcam_adv.files.checkpoints import Checkpoint
from gradcam_adv.models import bases, classifiers
from gradcam_adv.models.weights import Weights
from gradcam_adv.runs.engines import Engine, WriteSlice
from gradcam_adv.runs.records import Names
from gradcam_adv.runs.tasks import counted_as
from gradcam_adv.study.photos import Photos
from gradcam_adv.study.stages.network_task import NetworkTask, SlicedTask, close_model

if TYPE_CHECKING:
    import keras

# With statistics of smaller batches the features of deep random networks are nearly useless.
CALIBRATION_BATCH = 64


@dataclass(frozen=True, eq=False, kw_only=True)
class Features(NetworkTask, SlicedTask):
    """Features of every photo, one file per slice, and the statistics of a random base.

    Attributes:
        weights: of the base.
        seed: of random weights, and of the order in which photos calibrate them.
    """

    kind = "features"
    stage = "train"
    file = "features-{}.npy"
    names = Names(r"features-\d{7}\.npy|(batch-norm|checkpoint)\.npz")
    reads_pixels = True

    photos: Photos
    weights: Weights = counted_as(lambda weights: [weights.origin, weights.sha256])
    preprocessing: Literal["own", "unit", "tf"]
    pooling: Literal["average", "flatten"]
    batch_size: int
    seed: int

    @property
    def effort(self) -> float:
        passes = 3 if self.weights.origin == "random" else 1  # a random base is calibrated
        return self.seconds(passes * len(self.photos.table))

    def photos_to_do(self) -> pd.DataFrame:
        return self.photos.table

    def files_beside(self) -> list[Path]:
        return [self._statistics] if self.weights.origin == "random" else []

    def make(self, engine: Engine) -> list[Path]:
        close_model()  # of the network before, whose memory this one needs
        if self.weights.origin == "random":
            checkpoint = self.folder / "checkpoint.npz"
            if not write.is_whole(self._statistics):
                base = self._built()
                self._calibrate(base, Checkpoint(checkpoint))
                write.arrays(self._statistics, bases.batch_norm_statistics(base))
                del base
                backends.clear_session()  # or the layers of the next base get other names
            checkpoint.unlink(missing_ok=True)
        return self.files_beside() + super().make(engine)

    def extractor(self) -> keras.Model:
        """The frozen base, a random one with its statistics, and the pooling behind it."""
        base = self._built()
        if self.weights.origin == "random":
            with read.arrays(self._statistics) as statistics:
                bases.set_batch_norm_statistics(base, statistics)
        return classifiers.features(base, self.pooling)

    def slices(self) -> list[np.ndarray]:
        """The features, memory-mapped, float32 (n, F) per slice of the table of photos."""
        return [read.array(path) for path in self.paths()]

    @property
    def _statistics(self) -> Path:
        return self.folder / "batch-norm.npz"

    def begin(self) -> WriteSlice:
        from gradcam_adv.graph.predictor import Predictor

        features_of = Predictor(self.extractor(), self.batch_size, "features")

        def write_slice(name: str, rows: pd.DataFrame, pixels: np.ndarray) -> None:
            with validation.naming(rows["photo"].tolist(), self.network):
                found = features_of(pixels)
            write.array(self.path(name), found)

        return write_slice

    def _built(self) -> keras.Model:
        return bases.build(
            self.network,
            self.photos.image_size,
            self.weights,
            preprocessing=self.preprocessing,
            seed=self.seed,
        )

    def _calibrate(self, base: keras.Model, checkpoint: Checkpoint) -> None:
        """Give a random base the batch-norm statistics of the training photos."""
        table = self.photos.table
        rows = table[table["split"] == "train"].reset_index(drop=True)
        shuffled = rows.iloc[np.random.default_rng(self.seed).permutation(len(rows))]
        # A smaller last batch is left out: it would weigh as much as the others.
        whole = max(len(rows) - len(rows) % CALIBRATION_BATCH, 1)
        starts = range(0, whole, CALIBRATION_BATCH)

        def state(done: int) -> dict[str, np.ndarray]:
            return {"batches": np.array(done), **bases.batch_norm_statistics(base)}

        arrays = checkpoint.read(state(0).keys())
        done = int(arrays.pop("batches")) if arrays else 0
        if done:
            bases.set_batch_norm_statistics(base, arrays)
        bar = tqdm(
            starts[done:],
            f"batch norm {self.network}",
            total=len(starts),
            initial=done,
            unit="batch",
            disable=None,
        )
        batches = (
            self.photos.pixels(shuffled.iloc[start : start + CALIBRATION_BATCH]) for start in bar
        )
        try:
            bases.calibrate_batch_norm(
                base,
                batches,
                done=done,
                after_batch=lambda seen: checkpoint.write(lambda: state(seen)),
            )
        except Exception as error:
            if not batching.out_of_memory(error):
                raise
            raise MemoryError(
                f"Expected enough memory for the statistics of {self.network} over "
                f"{CALIBRATION_BATCH} photos at a time; smaller batches would make useless ones. "
                f"Received: out of memory with image_size = {self.photos.image_size}; lower it, or "
                "give weights"
            ) from error
