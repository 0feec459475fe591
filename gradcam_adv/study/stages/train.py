"""Training: a dense head on the base's features, and the whole classifier as a ``.keras`` file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np
import pandas as pd

from gradcam_adv import machine, validation
from gradcam_adv.data.datasets import SPLITS
from gradcam_adv.files import read, write
from gradcam_adv.files.checkpoints import Checkpoint
from gradcam_adv.models import classifiers
from gradcam_adv.models.backbones import BACKBONES
from gradcam_adv.runs.engines import Engine
from gradcam_adv.runs.records import Names
from gradcam_adv.runs.tasks import not_an_input
from gradcam_adv.study.config import Arm, Precision
from gradcam_adv.study.stages.features import Features
from gradcam_adv.study.stages.network_task import NetworkTask

if TYPE_CHECKING:
    import keras

# In a folder of their arm; models of another seed or reading have a folder above it.
_MODEL = rf"([^/]+/)?({'|'.join(get_args(Arm))})/({'|'.join(BACKBONES)})\.(keras|json)"


@dataclass(frozen=True, eq=False, kw_only=True)
class Train(NetworkTask):
    """The trained classifier, and ``history.csv`` of its training.

    With folds there is a head for each: ``head-<fold>.npz`` and ``history-<fold>.csv``. The saved
    classifier has the first one.

    Attributes:
        seed: of the head's training.
        models: folder of the arm's ``.keras`` files.
        study: name of the study, which stands beside the model.
    """

    kind = stage = "train"
    names = Names(r"history(-\d+)?\.csv|(checkpoint|head-\d+)\.npz", models=_MODEL)

    features: Features
    epochs: int
    seed: int
    models: Path = not_an_input()
    study: str = not_an_input()

    @property
    def effort(self) -> float:
        return 1 + 6e-4 * self.epochs * len(self.photos.table) * len(self.photos.splits())

    @property
    def outside(self) -> Path:
        return self.models / f"{self.network}.keras"

    def model(self, precision: Precision = "float32", fold: int | None = None) -> keras.Model:
        """The classifier from pixels to logits, with the head of a fold if there are folds.

        Raises:
            ValueError: the file is gone, damaged, or a model of other people.
        """
        model = classifiers.load_model(self.outside)
        facts = read.json(self.outside.with_suffix(".json"))
        classifiers.check_classes(model, facts, self.photos.identities)
        if fold is not None:
            with read.arrays(self._files(fold)[1]) as head:
                classifiers.set_head(model, head)
        return model if precision == "float32" else classifiers.in_precision(model, precision)

    def make(self, engine: Engine) -> list[Path]:
        from gradcam_adv.graph.predictor import Predictor

        table, batch_size = self.photos.table, self.features.batch_size
        features = self.features.slices()
        length = len(features[0])
        names = [table["photo"].iloc[i * length :].tolist() for i in range(len(features))]
        for part, of_part in zip(features, names, strict=True):
            with validation.naming(of_part, self.network):
                validation.check_finite(part, "features")
        labels = table["label"].to_numpy()
        files, heads = [], []
        accuracy = {name: {"right": 0, "photos": 0} for name in SPLITS}
        for fold, split in self.photos.splits().items():
            head = classifiers.dense_head(
                features[0].shape[1], len(self.photos.identities), self.seed
            )
            files += self._fit(head, features, labels, fold, split)
            parts = []
            logits_of = Predictor(head, batch_size)
            for part, of_part in zip(features, names, strict=True):
                with validation.naming(of_part, f"the head of {self.network}"):
                    parts.append(logits_of(part))
            logits = np.concatenate(parts)
            right = logits.argmax(axis=1) == labels
            for name, rows in split.items():
                accuracy[name]["right"] += int(right[rows].sum())
                accuracy[name]["photos"] += len(rows)
            heads.append((head, logits))

        head, head_logits = heads[0]
        model = classifiers.assemble(self.features.extractor(), head)
        first = table.iloc[:batch_size]  # one batch tells
        with validation.naming(first["photo"].tolist(), self.network):
            logits = Predictor(model, batch_size)(self.photos.pixels(first))
        _check_same(logits, head_logits[: len(first)], self.network)
        classifiers.save_model(model, self.outside, self._facts(accuracy))
        # Only now: until here an interruption would have the head trained again.
        self._checkpoint.unlink(missing_ok=True)
        return [*files, self.outside, self.outside.with_suffix(".json")]

    @property
    def _checkpoint(self) -> Path:
        return self.folder / "checkpoint.npz"

    def _files(self, fold: int | None) -> list[Path]:
        """The history of a fold, and its head; without folds the head is in the model alone."""
        if fold is None:
            return [self.folder / "history.csv"]
        return [self.folder / f"history-{fold}.csv", self.folder / f"head-{fold}.npz"]

    def _fit(
        self,
        head: keras.Model,
        features: list[np.ndarray],
        labels: np.ndarray,
        fold: int | None,
        split: dict[str, np.ndarray],
    ) -> list[Path]:
        """Train a head in place, or take it from its file; its files."""
        from gradcam_adv.models import training

        files = self._files(fold)
        if fold is not None and all(map(write.is_whole, files)):
            with read.arrays(files[1]) as arrays:
                classifiers.set_head(head, arrays)
            return files
        untrained = sorted({*range(len(self.photos.identities))} - {*labels[split["train"]]})
        if untrained:
            people = ", ".join(self.photos.identities[label] for label in untrained)
            raise ValueError(
                f"Expected photos of every identity to train on. Received: none of {people}, "
                f"outside folds {fold} and the next"
            )
        history = training.train_head(
            head,
            features,
            labels,
            split["train"],
            split["validation"],
            epochs=self.epochs,
            seed=self.seed,
            checkpoint=Checkpoint(self._checkpoint),
            verbose="auto",
        )
        _check_losses(history, self.network)
        write.table(files[0], history)
        if fold is not None:
            write.arrays(files[1], classifiers.head_weights(head))
            # The next head is another training.
            self._checkpoint.unlink(missing_ok=True)
        return files

    def _facts(self, accuracy: dict[str, dict[str, int]]) -> dict[str, object]:
        """What stands beside the model as JSON."""
        weights = self.features.weights
        return {
            "network": self.network,
            "arm": self.arm,
            "classes": self.photos.identities,
            "image_size": self.photos.image_size,
            "weights": {
                "origin": weights.origin,
                "file": weights.path.name if weights.path else None,
                "sha256": weights.sha256,
                "note": weights.note,
            },
            "study": self.study,
            "seed": self.seed,
            "fingerprint": self.fingerprint,
            "versions": machine.versions(),
            "accuracy": accuracy,
        }


def _check_losses(history: pd.DataFrame, network: str) -> None:
    """ValueError naming the first epoch whose loss is NaN or infinite."""
    finite = np.isfinite(history[["loss", "val_loss"]].to_numpy()).all(axis=1)
    if not finite.all():
        row = history.iloc[int(np.argmin(finite))]
        raise ValueError(
            f"Expected finite losses of the head of {network}. Received: loss {row['loss']:g}, "
            f"val_loss {row['val_loss']:g} in epoch {row['epoch']:g}"
        )


def _check_same(logits: np.ndarray, head_logits: np.ndarray, network: str) -> None:
    """ValueError if the assembled classifier does not give the logits of its head."""
    scale = max(1.0, float(np.abs(head_logits).max()))
    difference = float(np.abs(logits - head_logits).max()) / scale
    if not difference <= 1e-4:  # NaN fails this, too
        raise ValueError(
            f"Expected the assembled {network} to give the head's logits within 1e-4 of their "
            f"scale. Received: a difference of {difference:.1e}"
        )
