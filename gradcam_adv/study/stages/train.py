"""Training: a dense head, on features or with layers of its base, and the whole ``.keras`` file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pandas as pd

from gradcam_adv import machine, validation
from gradcam_adv.data.datasets import SPLITS
from gradcam_adv.files import read, write
from gradcam_adv.files.checkpoints import Checkpoint
from gradcam_adv.models import backbones, classifiers
from gradcam_adv.models.backbones import BACKBONES
from gradcam_adv.runs.engines import Engine
from gradcam_adv.runs.records import Names
from gradcam_adv.runs.tasks import later, not_an_input
from gradcam_adv.study.settings import Arm, Precision, Trainable
from gradcam_adv.study.stages.features import Features
from gradcam_adv.study.stages.network_task import NetworkTask, open_model
from gradcam_adv.training.methods import checked

if TYPE_CHECKING:
    import keras

# In a folder of their arm; models of another seed or reading have a folder above it.
_MODEL = rf"([^/]+/)?({'|'.join(get_args(Arm))})/({'|'.join(BACKBONES)})(@[\w.+-]+)?\.(keras|json)"


@dataclass(frozen=True, eq=False, kw_only=True)
class Train(NetworkTask):
    """The trained classifier, and ``history.csv`` of its training.

    With folds there is a head for each: ``head-<fold>.npz`` and ``history-<fold>.csv``. The saved
    classifier has the first one.

    Attributes:
        seed: of the head's training.
        learning_rate: None for the usual one.
        models: folder of the arm's ``.keras`` files.
        study: name of the study, which stands beside the model.
    """

    kind = stage = "train"
    names = Names(r"history(-\d+)?\.csv|(checkpoint|head-\d+)\.npz", models=_MODEL)

    features: Features
    epochs: int
    seed: int
    learning_rate: float | None = later(None)
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
        head = None if fold is None else self._files(fold)[1]
        model = open_model(self.outside, precision, head)
        facts = read.json(self.outside.with_suffix(".json"))
        classifiers.check_classes(model, facts, self.photos.identities)
        return model

    def make(self, engine: Engine) -> list[Path]:
        from gradcam_adv.graph.predictor import Predictor

        table = self.photos.table
        features = self.features.slices()
        length = len(features[0])
        names = [table["photo"].iloc[i * length :].tolist() for i in range(len(features))]
        for part, of_part in zip(features, names, strict=True):
            with validation.naming(of_part, self.network):
                validation.check_finite(part, "features")
        labels = table["label"].to_numpy()
        extractor = self.features.extractor()
        files, heads = [], []
        accuracy = {name: {"right": 0, "photos": 0} for name in SPLITS}
        for fold, split in self.photos.splits().items():
            head = classifiers.dense_head(
                features[0].shape[1], len(self.photos.identities), self.seed
            )
            files += self._fit(extractor, head, features, labels, fold, split)
            logits = self._logits(extractor, head, features, names)
            right = logits.argmax(axis=1) == labels
            for name, rows in split.items():
                accuracy[name]["right"] += int(right[rows].sum())
                accuracy[name]["photos"] += len(rows)
            heads.append((head, logits))

        head, head_logits = heads[0]
        model = classifiers.assemble(extractor, head)
        batch_size = self.features.batch_size
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
        extractor: keras.Model,
        head: keras.Model,
        features: list[np.ndarray],
        labels: np.ndarray,
        fold: int | None,
        split: dict[str, np.ndarray],
    ) -> list[Path]:
        """Train a head in place, or take it from its file; its files."""
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
        history = self._train(extractor, head, features, labels, split)
        _check_losses(history, self.network)
        write.table(files[0], history)
        if fold is not None:
            write.arrays(files[1], classifiers.head_weights(head))
            # The next head is another training.
            self._checkpoint.unlink(missing_ok=True)
        return files

    def _train(
        self,
        extractor: keras.Model,
        head: keras.Model,
        features: list[np.ndarray],
        labels: np.ndarray,
        split: dict[str, np.ndarray],
    ) -> pd.DataFrame:
        """Train the head in place; the history."""
        from gradcam_adv.models import training

        return training.train_head(
            head,
            features,
            labels,
            split["train"],
            split["validation"],
            epochs=self.epochs,
            seed=self.seed,
            learning_rate=self.learning_rate,
            checkpoint=Checkpoint(self._checkpoint),
            verbose="auto",
        )

    def _logits(
        self,
        extractor: keras.Model,
        head: keras.Model,
        features: list[np.ndarray],
        names: list[list[str]],
    ) -> np.ndarray:
        """Of every photo, by the head."""
        from gradcam_adv.graph.predictor import Predictor

        logits_of = Predictor(head, self.features.batch_size)
        parts = []
        for part, of_part in zip(features, names, strict=True):
            with validation.naming(of_part, f"the head of {self.network}"):
                parts.append(logits_of(part))
        return np.concatenate(parts)

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


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainNetwork(Train):
    """A classifier trained from photos: against attacks, or with layers of its base.

    Its features are those of the base as it is before the training. They scale what the head gets.

    Attributes:
        trainable: what is trained, one of :data:`gradcam_adv.models.training.TRAINABLE`.
        against: settings of the adversarial training; None for clean photos.
    """

    trainable: Trainable
    against: Mapping[str, Any] | None

    @property
    def effort(self) -> float:
        # A pass forward and back costs about three forward.
        gradients = 1 if self.against is None else 1 + checked(**self.against).steps
        return self.seconds(3 * gradients * self.epochs * len(self.photos.table))

    def _train(
        self,
        extractor: keras.Model,
        head: keras.Model,
        features: list[np.ndarray],
        labels: np.ndarray,
        split: dict[str, np.ndarray],
    ) -> pd.DataFrame:
        from gradcam_adv.models import training

        layer = backbones.find(self.network).last_activation
        return training.train_network(
            extractor,
            head,
            lambda rows: self.photos.pixels(self.photos.table.iloc[rows]),
            labels,
            split["train"],
            split["validation"],
            scale=training.feature_scale(features, split["train"]),
            trainable=self.trainable,
            against=None if self.against is None else {**self.against, "layer": layer},
            epochs=self.epochs,
            seed=self.seed,
            learning_rate=self.learning_rate,
            checkpoint=Checkpoint(self._checkpoint),
            verbose="auto",
        )

    def _logits(
        self,
        extractor: keras.Model,
        head: keras.Model,
        features: list[np.ndarray],
        names: list[list[str]],
    ) -> np.ndarray:
        """Of every photo, by the classifier, since the features are no longer those of its base."""
        from gradcam_adv.graph.predictor import Predictor

        logits_of = Predictor(classifiers.assemble(extractor, head), self.features.batch_size)
        parts, length = [], len(features[0])
        for number, of_part in enumerate(names):
            rows = self.photos.table.iloc[number * length : (number + 1) * length]
            with validation.naming(of_part, self.network):
                parts.append(logits_of(self.photos.pixels(rows)))
        return np.concatenate(parts)


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
