"""Training a dense head on the features of a frozen base, or the layers of the base with it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from tqdm import tqdm

from gradcam_adv.batching import BATCH_SIZE
from gradcam_adv.files.checkpoints import Checkpoint
from gradcam_adv.graph.predictor import Predictor
from gradcam_adv.models import classifiers
from gradcam_adv.validation import check_choice, check_images, check_labels

if TYPE_CHECKING:
    import keras

# How much of a network is trained, with the usual learning rate.
TRAINABLE = {"head": 1e-3, "last block": 1e-4, "all": 1e-4}
LEARNING_RATE = TRAINABLE["head"]
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
    trainable: str = "head",
    learning_rate: float | None = None,
    against: Mapping[str, Any] | None = None,
) -> tuple[keras.Model, pd.DataFrame]:
    """Put a dense head on a base and train it: a classifier from pixels to logits.

    The head has 512 ReLU units, dropout and logits, as in a study. If it alone is trained, on clean
    images, the base does not change, so its features are computed only once.

    Args:
        base: from :func:`gradcam_adv.models.build`, or any model from pixels in [0, 1] to feature
            maps (N, h, w, C).
        images: float (N, H, W, 3), values in [0, 1].
        labels: int (N,), the class of each image; every class from 0 to the largest needs an
            image to train on.
        train: indices of the images to train on.
        validation: indices of the images that choose the epoch whose weights are kept.
        epochs: how many times to go through the training images.
        seed: of the head's first weights, its dropout and the order of the images.
        pooling: between the base and the head: "average" or "flatten".
        trainable: "head", with it the "last block" of the base, or "all" layers. The base is
            trained in place, without its batch normalization.
        learning_rate: None for 0.001 for the head alone, and 0.0001 for more.
        against: settings of :class:`gradcam_adv.training.AdversarialTraining`, such as
            ``{"method": "pgd", "epsilon": 0.02}``; None to train on clean images.

    Returns:
        The classifier, one flat graph that shares the layers of the base; and one row per epoch:
        epoch, accuracy, loss, val_accuracy, val_loss.

    Raises:
        ValueError: the base, images, labels or indices do not fit each other.
        NotFiniteError: features that are NaN or infinite.

    Example:
        >>> import keras
        >>> pixels = keras.Input((8, 8, 3))
        >>> base = keras.Model(pixels, keras.layers.AveragePooling2D(4)(pixels))
        >>> model, history = train(
        ...     base,
        ...     np.random.default_rng(0).random((6, 8, 8, 3)),
        ...     [0, 1, 0, 1, 0, 1],
        ...     train=[0, 1, 2, 3],
        ...     validation=[4, 5],
        ...     epochs=2,
        ...     seed=0,
        ... )
        >>> model.output_shape, history["epoch"].tolist()
        ((None, 2), [1, 2])
    """
    # A Sequential that was never called has no outputs. Nor has an object that is not a model.
    shapes = [tuple(tensor.shape) for tensor in getattr(base, "outputs", None) or ()]
    if len(shapes) != 1 or len(shapes[0]) != 4 or None in shapes[0][1:]:
        received = ", ".join(map(str, shapes)) or "none"
        raise ValueError(
            "Expected a base from images of one size to feature maps (N, h, w, C). "
            f"Received: outputs {received}"
        )
    check_choice("pooling", pooling, ("average", "flatten"))
    check_choice("trainable", trainable, list(TRAINABLE))
    if not isinstance(epochs, int) or epochs < 1:
        raise ValueError(f"Expected epochs as a whole number, 1 or more. Received: {epochs!r}")
    pixels = check_images(base.inputs[0].shape, images)
    given = np.asarray(labels)
    classes = int(given.max(initial=0)) + 1 if np.issubdtype(given.dtype, np.integer) else 1
    numbers = check_labels(given, len(pixels), classes, "labels")
    rows = _indices("train", train, len(pixels))
    others = _indices("validation", validation, len(pixels))
    if both := np.intersect1d(rows, others).size:
        raise ValueError(f"Expected train and validation apart. Received: {both} images in both")
    unseen = np.setdiff1d(np.arange(classes), numbers[rows])
    if unseen.size:
        raise ValueError(
            f"Expected an image to train on of every class, 0 to {classes - 1}. "
            f"Received: none of {unseen[0]}"
        )
    extractor = classifiers.features(base, pooling)
    features = Predictor(extractor, BATCH_SIZE, "features")(pixels)
    head = classifiers.dense_head(features.shape[1], classes, seed)
    if trainable == "head" and against is None:
        history = train_head(
            head,
            [features],
            numbers,
            rows,
            others,
            epochs=epochs,
            seed=seed,
            learning_rate=learning_rate,
        )
    else:
        history = train_network(
            extractor,
            head,
            pixels.__getitem__,
            numbers,
            rows,
            others,
            scale=feature_scale([features], rows),
            trainable=trainable,
            learning_rate=learning_rate,
            against=against,
            epochs=epochs,
            seed=seed,
        )
    return classifiers.assemble(extractor, head), history


def _indices(name: str, given: npt.ArrayLike, count: int) -> np.ndarray:
    """``given`` as an array; ValueError unless they are indices of ``count`` images."""
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
    learning_rate: float | None = None,
    checkpoint: Checkpoint | None = None,
    verbose: int | str = 0,
) -> pd.DataFrame:
    """Train a head in place with Adam and cross-entropy; one row per epoch, as of :func:`train`.

    It keeps the weights of the first epoch with the highest validation accuracy. A learning rate of
    None is 0.001.

    The head is trained on standardized features (mean 0 and standard deviation 1 over the training
    photos), because the scales of the features of different bases differ by orders of magnitude.
    At the end the scaling is folded into the first dense layer. So the trained head takes features
    that are not standardized.

    An interrupted training continues after the last epoch in its checkpoint. The result is equal to
    the last bit, on the same machine and with the same number of threads.

    ``features`` are slices in order, each float32 (n, F), all but the last of one length.
    Memory-mapped slices are read one batch at a time.
    """
    import keras

    length = len(features[0])
    mean, deviation = feature_scale(features, train)

    def batch(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = np.stack([features[i // length][i % length] for i in rows])
        return (found - mean) / deviation, labels[rows]

    head.compile(
        optimizer=keras.optimizers.Adam(learning_rate or LEARNING_RATE),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=False,
    )
    history = _fit(
        head, batch, train, validation, epochs, seed, checkpoint, verbose=verbose, what="head"
    )
    _fold(head, mean, deviation)
    return history


def train_network(
    extractor: keras.Model,
    head: keras.Model,
    pixels: Callable[[np.ndarray], np.ndarray],
    labels: np.ndarray,
    train: np.ndarray,
    validation: np.ndarray,
    *,
    scale: tuple[np.ndarray, np.ndarray],
    trainable: str,
    learning_rate: float | None,
    against: Mapping[str, Any] | None,
    epochs: int,
    seed: int,
    checkpoint: Checkpoint | None = None,
    verbose: int | str = 0,
) -> pd.DataFrame:
    """Train a head and layers of its base in place, from photos; otherwise as :func:`train_head`.

    Batch normalization stays as it is, statistics and scales: those of batches as small as these
    would spoil it, and the network that is attacked in a step is then the one that is trained.

    Args:
        extractor: from pixels to features (N, F), such as a result of
            :func:`gradcam_adv.models.classifiers.features`.
        head: from features to logits.
        pixels: from indices of photos to their pixels, (n, H, W, 3) in [0, 1].
        labels: int (N,).
        train: indices of the photos to train on.
        validation: indices of the photos that choose the epoch whose weights are kept.
        scale: mean and standard deviation by which features are standardized, as of
            :func:`feature_scale`, before the training.
        trainable: one of TRAINABLE: the head alone; with it the last block of the base that
            has weights, of those that ``layers = "blocks"`` finds; or all layers.
        learning_rate: of Adam; None for that of TRAINABLE.
        against: settings of :class:`gradcam_adv.training.AdversarialTraining`, whose validation is
            under attack; None to train on clean photos.
        epochs: how many times to go through the training photos.
        seed: of the order of the photos and of random starts.
        checkpoint: of an interrupted training.
        verbose: as in Keras.
    """
    import keras

    from gradcam_adv.training import AdversarialTraining

    mean, deviation = scale
    standardize = keras.layers.Normalization(
        mean=mean, variance=np.square(deviation), name="standardize"
    )
    model = keras.Model(extractor.inputs, head(standardize(extractor.output)))
    _choose_trainable(model, extractor, trainable)
    settings: dict[str, Any] = {
        "optimizer": keras.optimizers.Adam(learning_rate or TRAINABLE[trainable]),
        "metrics": ["accuracy"],
        "jit_compile": False,
    }
    if against is None:
        fitted = model
        settings["loss"] = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    else:
        fitted = AdversarialTraining(model, **against, seed=seed)
    fitted.compile(**settings)

    def batch(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return pixels(rows), labels[rows]

    history = _fit(
        fitted, batch, train, validation, epochs, seed, checkpoint, verbose=verbose, what="network"
    )
    _fold(head, mean, deviation)
    return history


def _choose_trainable(model: keras.Model, extractor: keras.Model, trainable: str) -> None:
    """Let the chosen layers of the base be trained, and no batch normalization."""
    import keras

    from gradcam_adv.graph.flat import flatten
    from gradcam_adv.graph.layers import block_ends

    graph = flatten(model)
    calls = graph.calls
    first = len(calls)
    if trainable == "last block":
        # The last block of VGG16 is a pooling layer, which has nothing to train.
        base = {id(layer) for layer in extractor.layers if layer.weights}
        last = max((i for i, call in enumerate(calls) if id(call.operation) in base), default=0)
        ends = [calls.index(call) for call in block_ends(graph)]
        first = max((end + 1 for end in ends if end < last), default=0)
    elif trainable == "all":
        first = 0
    chosen = {id(call.operation) for call in calls[first:]}
    for layer in extractor.layers:
        fixed = isinstance(layer, keras.layers.BatchNormalization)
        layer.trainable = id(layer) in chosen and not fixed


def _fold(head: keras.Model, mean: np.ndarray, deviation: np.ndarray) -> None:
    """Fold the scaling of standardized features into the first dense layer of a head."""
    hidden_layer = head.get_layer("hidden")
    kernel, bias = hidden_layer.get_weights()
    kernel = kernel / deviation[:, np.newaxis]
    hidden_layer.set_weights([kernel, bias - mean @ kernel])


def _fit(
    model: keras.Model,
    batch: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    train: np.ndarray,
    validation: np.ndarray,
    epochs: int,
    seed: int,
    checkpoint: Checkpoint | None,
    *,
    verbose: int | str,
    what: str,
) -> pd.DataFrame:
    """Train a compiled model in place; one row per epoch. ``batch`` gives inputs and labels.

    It keeps the weights of the first epoch with the highest validation accuracy.
    """
    import keras

    for limited, limit in (
        ("epochs", keras.config.max_epochs()),
        ("steps of an epoch", keras.config.max_steps_per_epoch()),
    ):
        if limit:
            raise ValueError(
                f"Expected no limit on {limited} in Keras (KERAS_MAX_EPOCHS, "
                f"KERAS_MAX_STEPS_PER_EPOCH). Received: {limit}"
            )

    def shuffled_forever() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        # Keras reads ahead. A PyDataset that is shuffled at the end of each epoch could be shuffled
        # too late; a generator always gives the same order.
        order = np.random.default_rng(seed)
        for epoch in itertools.count():
            rows = order.permutation(train)
            if epoch < done:  # before the interruption
                continue
            for start in range(0, len(rows), BATCH):
                yield batch(rows[start : start + BATCH])

    class Validation(keras.utils.PyDataset):
        def __len__(self) -> int:
            return -(-len(validation) // BATCH)

        def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
            return batch(validation[index * BATCH : (index + 1) * BATCH])

    progress = _Progress(model, checkpoint)
    done = len(progress.history)

    no_bar = None if verbose == "auto" else not verbose
    with tqdm(total=epochs, initial=done, desc=what, unit="epoch", disable=no_bar) as bar:

        def end_epoch(_: int, logs: dict[str, float]) -> None:
            progress.end_epoch(logs)
            bar.update()

        if done < epochs:
            model.fit(
                shuffled_forever(),
                steps_per_epoch=-(-len(train) // BATCH),
                shuffle=False,  # the generator shuffles
                validation_data=Validation(),
                initial_epoch=done,
                epochs=epochs,
                callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=end_epoch)],
                verbose=0,
            )
    model.set_weights(progress.best)
    table = pd.DataFrame(progress.history, columns=METRICS)
    table.insert(0, "epoch", np.arange(1, len(table) + 1))
    return table


class _Progress:
    """Everything that the next epochs depend on. From a checkpoint, it is put into the model."""

    def __init__(self, model: keras.Model, checkpoint: Checkpoint | None) -> None:
        model.optimizer.build(model.trainable_variables)
        self._model = model
        self._checkpoint = checkpoint
        # With the state of seed generators, and Adam's moments and step count.
        self._variables = [*model.variables, *model.optimizer.variables]
        self.history: list[list[float]] = []  # METRICS per finished epoch
        self.best: list[np.ndarray] = model.get_weights()  # after the best epoch
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
        """Record the metrics of an epoch, and its weights if it is the best; save the state."""
        column = METRICS.index("val_accuracy")
        if all(logs["val_accuracy"] > row[column] for row in self.history):
            self.best = self._model.get_weights()
        self.history.append([logs[metric] for metric in METRICS])
        if self._checkpoint:
            self._checkpoint.write(self._state)


def feature_scale(
    features: Sequence[np.ndarray], train: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each feature over the training photos, each float32 (F,)."""
    length = len(features[0])

    def training_rows() -> Iterator[np.ndarray]:
        for i, part in enumerate(features):
            yield np.asarray(part[train[train // length == i] % length], np.float64)

    mean = sum(rows.sum(axis=0) for rows in training_rows()) / len(train)
    deviation = np.sqrt(sum(((r - mean) ** 2).sum(axis=0) for r in training_rows()) / len(train))
    # If a feature varies only by rounding, it says nothing, and a division would enlarge it.
    varies = deviation > 1e-5 * np.abs(mean)
    return mean.astype(np.float32), np.where(varies, deviation, 1).astype(np.float32)
