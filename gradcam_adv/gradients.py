"""All automatic differentiation: the gradient of a loss by the pixels, of a score by the layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from gradcam_adv import batches

if TYPE_CHECKING:
    from gradcam_adv.networks import Network, Step

if keras.backend.backend() != "tensorflow":
    raise ImportError(
        "Expected Keras' tensorflow backend (unset KERAS_BACKEND, or set it to 'tensorflow'). "
        f"Received: {keras.backend.backend()!r}"
    )

# In the place of a class: the one that the model predicts for the image being explained.
PREDICTED = -1

LossGradient = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
# From logits, (N, classes), to scores, (N,).
Score = Callable[[Any], Any]
WeightedSums = Callable[[np.ndarray, np.ndarray], tuple[list[np.ndarray], np.ndarray]]


def configure(threads: int) -> None:
    """Fix what the last digits of a result hang on: the thread count and the order of sums.

    Has to come before TensorFlow's first computation; afterwards it can't be changed.

    Raises:
        ValueError: TensorFlow already runs with another number of threads.
    """
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    except RuntimeError:
        running = tf.config.threading.get_intra_op_parallelism_threads() or batches.cores()
        if running != threads:
            raise ValueError(
                f"Expected TensorFlow to run with {threads} threads. Received: it has already "
                f"started with {running} threads in this process"
            ) from None
    tf.config.experimental.enable_op_determinism()


def gpus() -> list[str]:
    """The GPUs that TensorFlow will run networks on, by name."""
    devices = tf.config.list_physical_devices("GPU")
    details = map(tf.config.experimental.get_device_details, devices)
    return [found.get("device_name", "unnamed") for found in details]


# Beside TensorFlow's own pool: what oneDNN, threads and Python ask the system for.
_BESIDE_POOL = 512 * 2**20


def reserve(model: keras.Model, batch_size: int) -> None:
    """Have TensorFlow's pool ask the system for the memory of a batch before it is computed.

    Within a computation it is too late: where the system refuses memory there (``ulimit -v``, no
    overcommitment), oneDNN's convolutions end the process by a segmentation fault. What is asked
    for is 1.25 times all outputs of the model: measured, those and their gradients need 0.3 to
    1.15 times that. It stays untouched, so costs nothing until it is used. A GPU's own pool needs
    no such help.

    Raises:
        MemoryError, tf.errors.ResourceExhaustedError: the system has not so much.
    """
    if tf.config.list_logical_devices("GPU"):
        return
    tensors = [tensor for layer in model.operations for tensor in tf.nest.flatten(layer.output)]
    shapes = [tensor.shape[1:] for tensor in tensors]
    known = sum(math.prod(shape) for shape in shapes if None not in shape)
    beside = np.empty(_BESIDE_POOL, np.uint8)  # so that the pool does not take all there is
    size = int(1.25 * 4 * known * batch_size)
    tf.raw_ops.Empty(shape=(size // 2**20 + 1, 2**20), dtype=tf.uint8, init=False)
    del beside


def loss_gradient(model: keras.Model, batch_size: int) -> LossGradient:
    """Compile the gradient of the attack's loss by the pixels, up to a positive factor a photo.

    The loss J of FGSM is the cross-entropy. With z the logits and y the label it equals
    ``softplus(logsumexp(z without z_y) - z_y)``, and softplus only rises. So J and the margin
    inside have gradients of the same sign everywhere, but the margin's does not fade to zero in
    float32 when the network is sure, as J's does.

    Args:
        model: from pixels to logits, (N, C) with C at least 2.
        batch_size: the one batch shape it is compiled for.

    Returns:
        Function of images, float32 (batch_size, H, W, 3), and labels, int (batch_size,), giving
        the margin's gradient, float32, of the shape of the images, and the logits, float32
        (batch_size, C).
    """
    shape = (batch_size, *model.input_shape[1:])
    reserve(model, batch_size)

    @tf.function(
        input_signature=[tf.TensorSpec(shape, tf.float32), tf.TensorSpec((batch_size,), tf.int32)],
        autograph=False,
    )
    def gradient(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(images)
            logits = tf.cast(model(images, training=False), tf.float32)
            is_label = tf.one_hot(labels, logits.shape[-1], on_value=True, off_value=False)
            others = tf.where(is_label, logits.dtype.min, logits)
            label_logit = tf.gather(logits, labels, batch_dims=1)
            margin = tf.reduce_logsumexp(others, axis=-1) - label_logit
        return tape.gradient(margin, images), logits

    def numpy_gradient(images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        by_pixels, logits = gradient(images, labels.astype(np.int32))
        return by_pixels.numpy(), logits.numpy()

    return numpy_gradient


def gradcam_sums(
    network: Network, places: Sequence[Step], batch_size: int, targets: int | Score = 1
) -> WeightedSums:
    """Compile Grad-CAM's weighted sums of many layers: one forward pass, one backward a target.

    For a layer's activations A, (H, W, C), and a class's logit s, the weights are the means of
    ds/dA over H and W, and the weighted sum is that of A over C: Selvaraju et al.'s equations 1
    and 2 before the ReLU.

    A layer read by nothing but a batch normalization ``B = g A + t``, with g and t a channel,
    needs no pass over its own values: its weights are ``w_A = g w_B``, so its weighted sum is
    ``sum w_A A = sum w_B (B - t)``, that of B less one number a photo. Sums cost the reading of
    memory, and so a third of a residual network's activations are neither read nor kept.

    Args:
        network: whose input is (None, H, W, C).
        places: of the network.
        batch_size: the one batch shape it is compiled for.
        targets: how many classes are explained for each photo; or a function that gives the
            scores, (batch_size,), of the logits, (batch_size, classes), in ``keras.ops``.

    Returns:
        Function of images, float32 (batch_size, H, W, C), and classes, int (batch_size, targets)
        or PREDICTED, giving a list of float32 (batch_size, targets, h, w), one a place, and the
        logits, float32 (batch_size, classes). The classes do not matter to a function of the
        logits.

    Raises:
        ValueError: the scores do not depend on one of the places, or have another shape.
    """
    shape = (batch_size, *network.input.shape[1:])
    count = targets if isinstance(targets, int) else 1
    normalized = network.normalized()
    read = [normalized.get(place.path, place) for place in places]
    unique = {step.path: step for step in read}
    extractor = network.extractor(list(unique.values()))
    reserve(extractor, batch_size)
    # Half-precision gradients of early layers would fade to zero: scaled up on their way there, by
    # less where they then overflow.
    half = any(tensor.dtype == "float16" for tensor in extractor.outputs)
    scales = (1024.0, 32.0, 1.0, 1 / 32) if half else (1.0,)

    def scores_of(logits: tf.Tensor, classes: tf.Tensor) -> list[tf.Tensor]:
        if not isinstance(targets, int):
            scores = targets(logits)
            came = type(scores).__name__
            if tf.is_tensor(scores):
                came = f"shape {tuple(scores.shape)}, {scores.dtype.name}"
            if came != f"shape ({batch_size},), float32":
                raise ValueError(
                    "Expected targets to give one score, float32, for each image of a batch: "
                    f"shape ({batch_size},). Received: {came}"
                )
            return [scores]
        predicted = tf.argmax(logits, axis=-1, output_type=tf.int32)[:, tf.newaxis]
        explained = tf.where(classes == PREDICTED, predicted, classes)
        return tf.unstack(tf.gather(logits, explained, batch_dims=1), axis=1)

    @tf.function(
        input_signature=[
            tf.TensorSpec(shape, tf.float32),
            tf.TensorSpec((batch_size, count), tf.int32),
            tf.TensorSpec((), tf.float32),
        ],
        autograph=False,
    )
    def sums(
        images: tf.Tensor, classes: tf.Tensor, scale: tf.Tensor
    ) -> tuple[list[tf.Tensor], tf.Tensor]:
        with tf.GradientTape(persistent=count > 1, watch_accessed_variables=False) as tape:
            tape.watch(images)
            *activations, logits = extractor(images, training=False)
            logits = tf.cast(logits, tf.float32)
            scores = [score * scale for score in scores_of(logits, classes)]
        by_score = [tape.gradient(score, activations) for score in scores]
        weights, maps = {}, {}
        for path, values, *gradients in zip(unique, activations, *by_score, strict=True):
            if any(gradient is None for gradient in gradients):
                raise ValueError(
                    f"Expected layers that the scores depend on. Received: {path}, which they don't"
                )
            means = [_mean_over_positions(gradient) / scale for gradient in gradients]
            weights[path] = tf.stack(means, axis=1)
            maps[path] = _weighted_sum(weights[path], values)
        by_place = []
        for place, step in zip(places, read, strict=True):
            by_place.append(maps[step.path])
            if step is not place:
                t = step.operation(tf.zeros((1, 1, 1, place.shape[-1])), training=False)
                by_place[-1] -= _weighted_sum(weights[step.path], tf.repeat(t, batch_size, axis=0))
        return by_place, logits

    def numpy_sums(images: np.ndarray, classes: np.ndarray) -> tuple[list[np.ndarray], Any]:
        for scale in scales:
            maps, logits = sums(images, classes.astype(np.int32), scale)
            as_arrays = [layer.numpy() for layer in maps]
            if len(scales) == 1 or all(np.isfinite(layer).all() for layer in as_arrays):
                break
        return as_arrays, logits.numpy()

    return numpy_sums


# Both reductions as products of matrices: TensorFlow reads memory faster in these on a CPU than in
# its own reduce_mean and einsum, and reading is what they cost.


def _mean_over_positions(values: tf.Tensor) -> tf.Tensor:
    """(N, H, W, C) to float32 (N, C)."""
    flat = _flat(values)
    total = tf.matmul(tf.ones_like(flat[..., :1]), flat, transpose_a=True)
    return total[:, 0] / tf.cast(tf.shape(flat)[1], tf.float32)


def _weighted_sum(weights: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Weights (N, targets, C) and values (N, H, W, C) to float32 (N, targets, H, W)."""
    flat = tf.matmul(weights, _flat(values), transpose_b=True)
    shape = tf.shape(values)
    return tf.reshape(flat, (shape[0], tf.shape(weights)[1], shape[1], shape[2]))


def _flat(values: tf.Tensor) -> tf.Tensor:
    """(N, H, W, C) to float32 (N, H * W, C)."""
    flat = tf.reshape(values, (tf.shape(values)[0], -1, values.shape[-1]))
    return tf.cast(flat, tf.float32)
