"""Train a dense head on cached features, keeping the weights that validate best."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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

    It is trained on standardized features (mean 0, deviation 1 over the training photos), since
    the scales of different bases' features are orders of magnitude apart; in the end that scaling
    is folded into the first dense layer, so that the head takes the features as they are.

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
    mean, deviation = _scale(features, train)

    def batch(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = np.stack([features[i // length][i % length] for i in rows])
        return (found - mean) / deviation, labels[rows]

    def shuffled_forever() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        # A PyDataset shuffled at each epoch's end races against Keras reading ahead; a generator
        # gives one order, whoever reads ahead.
        order = np.random.default_rng(seed)
        while True:
            rows = order.permutation(train)
            for start in range(0, len(rows), BATCH):
                yield batch(rows[start : start + BATCH])

    class Validation(keras.utils.PyDataset):
        def __len__(self) -> int:
            return -(-len(validation) // BATCH)

        def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
            return batch(validation[index * BATCH : (index + 1) * BATCH])

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
            shuffled_forever(),
            steps_per_epoch=-(-len(train) // BATCH),
            shuffle=False,  # the generator does it
            validation_data=Validation(),
            epochs=epochs,
            callbacks=[best, keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: bar.update())],
            verbose=0,
        )
    _fold_scale(head, mean, deviation)
    table = pd.DataFrame(history.history)
    table.insert(0, "epoch", np.arange(1, len(table) + 1))
    return table


def _scale(features: Sequence[np.ndarray], train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of each feature over the training photos, a slice at a time."""
    length = len(features[0])

    def training_rows() -> Iterator[np.ndarray]:
        for i, part in enumerate(features):
            yield np.asarray(part[train[train // length == i] % length], np.float64)

    mean = sum(rows.sum(axis=0) for rows in training_rows()) / len(train)
    deviation = np.sqrt(sum(((r - mean) ** 2).sum(axis=0) for r in training_rows()) / len(train))
    # A feature that only varies by rounding says nothing, and dividing by that would blow it up.
    varies = deviation > 1e-5 * np.abs(mean)
    return mean.astype(np.float32), np.where(varies, deviation, 1).astype(np.float32)


def _fold_scale(head: keras.Model, mean: np.ndarray, deviation: np.ndarray) -> None:
    hidden = head.get_layer("hidden")
    kernel, bias = hidden.get_weights()
    kernel = kernel / deviation[:, np.newaxis]
    hidden.set_weights([kernel, bias - mean @ kernel])
