"""All automatic differentiation: the gradient of a loss by the pixels, of a score by the layers.

What is computed stands here, in ``keras.ops``. What only a backend can do (differentiate, compile,
choose threads, tell of GPUs) is in ``tensorflow``, ``torch`` and ``jax`` beside this; no other module
of the package knows which of them is at work.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from gradcam_adv import machine

if TYPE_CHECKING:
    from gradcam_adv.graph.network import Network, Step

if keras.backend.backend() not in machine.TITLES:
    raise ImportError(
        f"Expected Keras' backend as one of {', '.join(machine.TITLES)} (KERAS_BACKEND; unset it "
        f"for tensorflow). Received: {keras.backend.backend()!r}"
    )
_backend: Any = importlib.import_module(f"gradcam_adv.backends.{keras.backend.backend()}")

# In the place of a class: the one that the model predicts for the image being explained.
PREDICTED = -1

LossGradient = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
# From logits, (N, classes), to scores, (N,).
Score = Callable[[Any], Any]
WeightedSums = Callable[[np.ndarray, np.ndarray], tuple[list[np.ndarray], np.ndarray]]


def configure(threads: int) -> None:
    """Fix what the last digits of a result hang on: the thread count and the order of sums.

    Has to come before the backend's first computation; TensorFlow and JAX can't be changed
    afterwards, and JAX can't be asked what it has been started with by others.
    A GPU then computes in float32 proper, not in its faster TF32.

    Raises:
        ValueError: TensorFlow already runs with another number of threads, or JAX was told so.
    """
    _backend.configure(threads)


def gpus() -> list[str]:
    """The GPUs that the backend will run networks on, by name."""
    found: list[str] = _backend.gpus()
    return found


# Beside the backend's own pool: what oneDNN, threads and Python ask the system for.
_BESIDE_POOL = 512 * 2**20


def reserve(model: keras.Model, batch_size: int) -> None:
    """Have the backend ask the system for the memory of a batch before it is computed.

    Within a computation it is too late: where the system refuses memory there (``ulimit -v``, no
    overcommitment), oneDNN's convolutions end the process by a segmentation fault. What is asked
    for is 1.25 times all outputs of the model: measured, those and their gradients need 0.3 to
    1.15 times that. It stays untouched, so costs nothing until it is used. A GPU's own pool needs
    no such help.

    Raises:
        Exception: the system has not so much; :func:`gradcam_adv.batching.out_of_memory` knows it.
    """
    if gpus():
        return
    tensors = [tensor for layer in model.operations for tensor in keras.tree.flatten(layer.output)]
    shapes = [tensor.shape[1:] for tensor in tensors]
    known = sum(math.prod(shape) for shape in shapes if None not in shape)
    beside = np.empty(_BESIDE_POOL, np.uint8)  # so that the pool does not take all there is
    _backend.ask_for(int(1.25 * 4 * known * batch_size))
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

    def gradient(images: Any, labels: Any) -> tuple[Any, Any]:
        def margin(images: Any, taps: Sequence[Any] = ()) -> tuple[list[Any], list[Any], Any]:
            images = sum(taps, images)
            logits = keras.ops.cast(model(images, training=False), "float32")
            classes = keras.ops.arange(logits.shape[-1], dtype="int32")
            is_label = keras.ops.equal(labels[:, None], classes)
            others = keras.ops.where(is_label, np.finfo(np.float32).min, logits)
            label_logit = keras.ops.sum(keras.ops.where(is_label, logits, 0.0), axis=-1)
            return [images], [keras.ops.logsumexp(others, axis=-1) - label_logit], logits

        _, [[by_pixels]], logits = _backend.differentiate(margin, images)
        return by_pixels, logits

    compiled = _backend.compiled(gradient, (shape, "float32"), ((batch_size,), "int32"))

    def numpy_gradient(images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        by_pixels, logits = compiled(images, labels.astype(np.int32))
        return by_pixels, logits

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
    tapped: Any = network.tapped(list(unique.values())) if _backend.NEEDS_TAPS else None
    reserve(extractor, batch_size)
    # Half-precision gradients of early layers would fade to zero: scaled up on their way there, by
    # less where they then overflow.
    half = any(tensor.dtype == "float16" for tensor in extractor.outputs)
    scales = (1024.0, 32.0, 1.0, 1 / 32) if half else (1.0,)

    def scores_of(logits: Any, classes: Any) -> list[Any]:
        if not isinstance(targets, int):
            scores = targets(logits)
            came = type(scores).__name__
            if keras.ops.is_tensor(scores):
                dtype = keras.backend.standardize_dtype(scores.dtype)
                came = f"shape {tuple(scores.shape)}, {dtype}"
            if came != f"shape ({batch_size},), float32":
                raise ValueError(
                    "Expected targets to give one score, float32, for each image of a batch: "
                    f"shape ({batch_size},). Received: {came}"
                )
            return [scores]
        predicted = keras.ops.cast(keras.ops.argmax(logits, axis=-1), "int32")[:, None]
        explained = keras.ops.where(classes == PREDICTED, predicted, classes)
        scores = keras.ops.take_along_axis(logits, explained, axis=1)
        return [scores[:, i] for i in range(count)]

    def sums(images: Any, classes: Any, scale: Any) -> tuple[list[Any], Any]:
        def explained(images: Any, taps: Sequence[Any] = ()) -> tuple[list[Any], list[Any], Any]:
            model, given = (tapped, [images, *taps]) if taps else (extractor, images)
            *activations, logits = model(given, training=False)
            logits = keras.ops.cast(logits, "float32")
            return activations, [score * scale for score in scores_of(logits, classes)], logits

        activations, by_score, logits = _backend.differentiate(explained, images)
        weights, maps = {}, {}
        for path, values, *gradients in zip(unique, activations, *by_score, strict=True):
            if any(gradient is None for gradient in gradients):
                raise ValueError(
                    f"Expected layers that the scores depend on. Received: {path}, which they don't"
                )
            means = [_mean_over_positions(gradient) / scale for gradient in gradients]
            weights[path] = keras.ops.stack(means, axis=1)
            maps[path] = _weighted_sum(weights[path], values)
        by_place = []
        for place, step in zip(places, read, strict=True):
            by_place.append(maps[step.path])
            if step is not place:
                zeros = keras.ops.zeros((1, 1, 1, place.shape[-1]))
                t = keras.ops.repeat(step.operation(zeros, training=False), batch_size, axis=0)
                by_place[-1] = by_place[-1] - _weighted_sum(weights[step.path], t)
        return by_place, logits

    compiled = _backend.compiled(
        sums, (shape, "float32"), ((batch_size, count), "int32"), ((), "float32")
    )

    def numpy_sums(images: np.ndarray, classes: np.ndarray) -> tuple[list[np.ndarray], Any]:
        for scale in scales:
            maps, logits = compiled(images, classes.astype(np.int32), np.float32(scale))
            if len(scales) == 1 or all(np.isfinite(layer).all() for layer in maps):
                break
        return maps, logits

    return numpy_sums


# Both reductions as products of matrices: TensorFlow reads memory faster in these on a CPU than in
# its own reduce_mean and einsum, and reading is what they cost.


def _mean_over_positions(values: Any) -> Any:
    """(N, H, W, C) to float32 (N, C)."""
    flat = _flat(values)
    positions = keras.ops.shape(flat)[1]
    total = keras.ops.matmul(_transposed(keras.ops.ones_like(flat[..., :1])), flat)
    return total[:, 0] / keras.ops.cast(positions, "float32")


def _weighted_sum(weights: Any, values: Any) -> Any:
    """Weights (N, targets, C) and values (N, H, W, C) to float32 (N, targets, H, W)."""
    flat = keras.ops.matmul(weights, _transposed(_flat(values)))
    count, height, width, _ = keras.ops.shape(values)
    return keras.ops.reshape(flat, (count, weights.shape[1], height, width))


def _transposed(matrices: Any) -> Any:
    """(N, A, B) to (N, B, A); the product of matrices that follows takes it for a flag."""
    return keras.ops.transpose(matrices, (0, 2, 1))


def _flat(values: Any) -> Any:
    """(N, H, W, C) to float32 (N, H * W, C)."""
    count, *_, channels = keras.ops.shape(values)
    return keras.ops.cast(keras.ops.reshape(values, (count, -1, channels)), "float32")
