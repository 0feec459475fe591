"""Train a dense head on cached features, keeping the weights that validate best."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    import keras

LEARNING_RATE = 1e-3
BATCH = 32


def train_head(
    head: keras.Model,
    features: Sequence[np.ndarray],
    labels: np.ndarray,
    train: np.ndarray,
    validation: np.ndarray,
    *,
    epochs: int,
    seed: int,
    progress: bool = False,
) -> pd.DataFrame:
    """Train ``head`` in place with Adam and cross-entropy; end with its best validation weights.

    Args:
        head: from :func:`gradcam_adv.classifiers.dense_head`.
        features: slices of the cached features in order, each float32 (n, F), all but the last
            of one length; memory-mapped ones are read a batch at a time.
        labels: int, (N,), N photos over all slices.
        train: indices of the training photos.
        validation: indices of the validation photos.
        epochs: how many times to go through the training photos.
        seed: of the order of the photos.
        progress: draw a bar, an update an epoch.

    Returns:
        One row an epoch: epoch, accuracy, loss, val_accuracy, val_loss. Of epochs with equal
        validation accuracy the first one's weights are kept.
    """
    import keras
    from tqdm import tqdm

    length = len(features[0])

    class Photos(keras.utils.PyDataset):
        """Batches gathered from the slices, shuffled anew each epoch when ``order`` is given."""

        def __init__(self, indices: np.ndarray, order: np.random.Generator | None) -> None:
            super().__init__()
            self.indices = indices
            self.order = order
            self.on_epoch_end()

        def __len__(self) -> int:
            return -(-len(self.indices) // BATCH)

        def __getitem__(self, batch: int) -> tuple[np.ndarray, np.ndarray]:
            chosen = self.indices[batch * BATCH : (batch + 1) * BATCH]
            rows = [features[i // length][i % length] for i in chosen]
            return np.stack(rows), labels[chosen]

        def on_epoch_end(self) -> None:
            if self.order is not None:
                self.indices = self.order.permutation(self.indices)

    head.compile(
        optimizer=keras.optimizers.Adam(LEARNING_RATE),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=False,
    )
    best = keras.callbacks.EarlyStopping(
        monitor="val_accuracy", mode="max", patience=epochs, restore_best_weights=True
    )
    with tqdm(total=epochs, desc="head", unit="epoch", disable=None if progress else True) as bar:
        history = head.fit(
            Photos(train, np.random.default_rng(seed)),
            validation_data=Photos(validation, None),
            epochs=epochs,
            callbacks=[best, keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: bar.update())],
            verbose=0,
        )
    table = pd.DataFrame(history.history)
    table.insert(0, "epoch", np.arange(1, len(table) + 1))
    return table
