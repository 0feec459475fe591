"""Train a dense head on a frozen base's features, keeping the weights that validate best."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from gradcam_adv import batching as batches
from gradcam_adv.explain import gradcam
from gradcam_adv.models import classifiers

if TYPE_CHECKING:
    import keras

    from gradcam_adv.runs.checkpoints import Checkpoint

LEARNING_RATE = 1e-3
BATCH = 32
METRICS = ("accuracy", "loss", "val_accuracy", "val_loss")


def train(
    base: keras.Model,
    images: npt.ArrayLike,
    labels: npt.ArrayLike,
    *,
    train: npt.ArrayLike,
    validation: npt.ArrayLike,
    epochs: int,
    seed: int,
    pooling: Literal["average", "flatten"] = "average",
) -> tuple[keras.Model, pd.DataFrame]:
    """Put a dense head on a base and train it: a classifier from pixels to logits.

    The base stays as it is, so its features are computed once for all epochs. The head is the
    study's: 512 ReLU units, dropout, logits; see :func:`train_head`.

    Args:
        base: from :func:`gradcam_adv.models.build`, or any model from pixels in [0, 1] to feature
            maps (N, h, w, C).
        images: float, (N, H, W, 3), values in [0, 1].
        labels: int, (N,), by image its class; every class from 0 to the largest has an image to
            train on.
        train: indices of the images to train on.
        validation: indices of the images that choose the epoch whose weights are kept.
        epochs: how many times to go through the images to train on.
        seed: of the head's first weights, its dropout and the order of the images.
        pooling: what stands between base and head.

    Returns:
        The classifier, one flat graph that shares the base's layers, and the history of
        :func:`train_head`, a row an epoch.

    Raises:
        ValueError: a base, images, labels or indices that don't go together, or features that
            aren't finite.
    """
    # A Sequential that was never called has no outputs, and neither has what is no model.
    shapes = [tuple(tensor.shape) for tensor in getattr(base, "outputs", None) or ()]
    if len(shapes) != 1 or len(shapes[0]) != 4 or None in shapes[0][1:]:
        received = ", ".join(map(str, shapes)) or "none"
        raise ValueError(
            "Expected a base from images of one size to feature maps (N, h, w, C). "
            f"Received: outputs {received}"
        )
    if pooling not in ("average", "flatten"):
        raise ValueError(f"Expected pooling as 'average' or 'flatten'. Received: {pooling!r}")
    if not isinstance(epochs, int) or epochs < 1:
        raise ValueError(f"Expected epochs as a whole number, 1 or more. Received: {epochs!r}")
    pixels = batches.check_images(base.inputs[0].shape, images)
    given = np.asarray(labels)
    classes = int(given.max(initial=0)) + 1 if np.issubdtype(given.dtype, np.integer) else 1
    numbers = batches.check_labels(given, len(pixels), classes, "labels")
    rows = _indices("train", train, len(pixels))
    others = _indices("validation", validation, len(pixels))
    if both := np.intersect1d(rows, others).size:
        raise ValueError(f"Expected train and validation apart. Received: {both} images in both")
    seen = np.unique(numbers[rows])
    if len(seen) < classes:
        unseen = int(np.flatnonzero(np.append(seen, -1) != np.arange(len(seen) + 1))[0])
        raise ValueError(
            f"Expected an image to train on of every class, 0 to {classes - 1}. "
            f"Received: none of {unseen}"
        )
    extractor = classifiers.features(base, pooling)
    features = gradcam.Predictor(extractor, batches.BATCH_SIZE, "features")(pixels)
    head = classifiers.dense_head(features.shape[1], classes, seed)
    history = train_head(head, [features], numbers, rows, others, epochs=epochs, seed=seed)
    return classifiers.assemble(extractor, head), history


def _indices(name: str, given: npt.ArrayLike, count: int) -> np.ndarray:
    array = np.asarray(given)
    if array.ndim != 1 or array.size == 0 or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(
            f"Expected {name} as indices of images, not empty. "
            f"Received: shape {array.shape}, dtype {array.dtype}"
        )
    if array.min() < 0 or array.max() >= count:
        raise ValueError(
            f"Expected {name} as indices below {count}, the number of images. "
            f"Received: from {array.min()} to {array.max()}"
        )
    return array


def train_head(
    head: keras.Model,
    features: Sequence[np.ndarray],
    labels: np.ndarray,
    train: np.ndarray,
    validation: np.ndarray,
    *,
    epochs: int,
    seed: int,
    checkpoint: Checkpoint | None = None,
    progress: bool = False,
) -> pd.DataFrame:
    """Train ``head`` in place with Adam and cross-entropy; end with its best validation weights.

    It is trained on standardized features (mean 0, deviation 1 over the training photos), since
    the scales of different bases' features are orders of magnitude apart; in the end that scaling
    is folded into the first dense layer, so that the head takes the features as they are.

    Args:
        head: from :func:`gradcam_adv.models.classifiers.dense_head`.
        features: slices of the cached features in order, each float32 (n, F), all but the last
            of one length; memory-mapped ones are read a batch at a time.
        labels: int, (N,), N photos over all slices.
        train: indices of the training photos.
        validation: indices of the validation photos.
        epochs: how many times to go through the training photos.
        seed: of the order of the photos.
        checkpoint: of this very training; it goes on at the epoch where that was interrupted, and
            comes out the same to the last bit, on a machine and threads as before.
        progress: draw a bar, an update an epoch.

    Returns:
        One row an epoch: epoch, accuracy, loss, val_accuracy, val_loss. Of epochs with equal
        validation accuracy the first one's weights are kept.

    Raises:
        ValueError: a checkpoint that is damaged or another training's.
    """
    import keras
    from tqdm import tqdm

    length = len(features[0])
    mean, deviation = _scale(features, train)

    def batch(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = np.stack([features[i // length][i % length] for i in rows])
        return (found - mean) / deviation, labels[rows]

    def shuffled_forever(epochs_done: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        # A PyDataset shuffled at each epoch's end races against Keras reading ahead; a generator
        # gives one order, whoever reads ahead.
        order = np.random.default_rng(seed)
        for _ in range(epochs_done):
            order.permutation(train)
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
    course = _Course(head, checkpoint)
    done = len(course.history)

    with tqdm(
        total=epochs, initial=done, desc="head", unit="epoch", disable=None if progress else True
    ) as bar:

        def end_epoch(_: int, logs: dict[str, float]) -> None:
            course.end_epoch(logs)
            bar.update()

        if done < epochs:
            head.fit(
                shuffled_forever(done),
                steps_per_epoch=-(-len(train) // BATCH),
                shuffle=False,  # the generator does it
                validation_data=Validation(),
                initial_epoch=done,
                epochs=epochs,
                callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=end_epoch)],
                verbose=0,
            )
    head.set_weights(course.best)
    _fold_scale(head, mean, deviation)
    table = pd.DataFrame(course.history, columns=METRICS)
    table.insert(0, "epoch", np.arange(1, len(table) + 1))
    return table


class _Course:
    """A training up to the end of an epoch: all that its further course hangs on.

    Attributes:
        history: a row an epoch so far, of METRICS.
        best: the head's weights after the epoch that validated best; before any, as they are.
    """

    def __init__(self, head: keras.Model, checkpoint: Checkpoint | None) -> None:
        """``head`` is compiled; it is put back to where the checkpoint left it."""
        head.optimizer.build(head.trainable_variables)
        self._head = head
        self._checkpoint = checkpoint
        # The head's include the state of Dropout's seed generator, Adam's its moments and steps.
        self._variables = [*head.variables, *head.optimizer.variables]
        self.history: list[list[float]] = []
        self.best: list[np.ndarray] = head.get_weights()
        arrays = checkpoint.read(self._state().keys()) if checkpoint else {}
        if arrays:
            self.history = arrays["history"].tolist()
            self.best = [arrays[f"best {i}"] for i in range(len(self.best))]
            for i, variable in enumerate(self._variables):
                variable.assign(arrays[f"variable {i}"])

    def _state(self) -> dict[str, np.ndarray]:
        return {
            "history": np.array(self.history),
            **{f"best {i}": weights for i, weights in enumerate(self.best)},
            **{f"variable {i}": variable.numpy() for i, variable in enumerate(self._variables)},
        }

    def end_epoch(self, logs: dict[str, float]) -> None:
        column = METRICS.index("val_accuracy")
        if all(logs["val_accuracy"] > row[column] for row in self.history):
            self.best = self._head.get_weights()
        self.history.append([logs[metric] for metric in METRICS])
        if self._checkpoint:
            self._checkpoint.write(self._state)


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
