"""TensorFlow: ``tf.GradientTape``, ``tf.function``, threads and GPUs. The reference backend."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from gradcam_adv import machine

if TYPE_CHECKING:
    from gradcam_adv.backends import Forward, Value

NEEDS_TAPS = False


def configure(threads: int) -> None:
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    except RuntimeError:
        running = tf.config.threading.get_intra_op_parallelism_threads() or machine.cores()
        if running != threads:
            raise ValueError(
                f"Expected TensorFlow to run with {threads} threads. Received: it has already "
                f"started with {running} threads in this process"
            ) from None
    tf.config.experimental.enable_op_determinism()
    tf.config.experimental.enable_tensor_float_32_execution(False)


def gpus() -> list[str]:
    devices = tf.config.list_physical_devices("GPU")
    details = map(tf.config.experimental.get_device_details, devices)
    return [found.get("device_name", "unnamed") for found in details]


def ask_for(size: int) -> None:
    """Let the pool get ``size`` bytes from the system, unless it has them already."""
    tf.raw_ops.Empty(shape=(size // 2**20 + 1, 2**20), dtype=tf.uint8, init=False)


kept_random = contextlib.nullcontext  # Keras' layers have generators of their own


def compiled(
    function: Callable[..., Any], *takes: tuple[tuple[int | None, ...], str]
) -> Callable[..., Any]:
    signature = [tf.TensorSpec(shape, dtype) for shape, dtype in takes]
    graph = tf.function(function, input_signature=signature, autograph=False)

    def call(*arrays: Any) -> Any:
        # The one graph of the signature, called as such: tf.function itself would warn that several
        # networks in a row trace the same function.
        of_types = (tf.cast(array, dtype) for array, (_, dtype) in zip(arrays, takes, strict=True))
        given = graph.get_concrete_function()(*of_types)
        return tf.nest.map_structure(lambda tensor: tensor.numpy(), given)

    return call


def differentiate(forward: Forward, images: Any) -> tuple[list[Any], list[list[Any]], Any]:
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
        tape.watch(images)
        tensors, scores, rest = forward(images)
    # A tape never frees a graph in which two tensors have the same gradient, as addends have.
    several_in_a_graph = len(tensors) > 1 and not tf.executing_eagerly()
    gradient = tf.gradients if several_in_a_graph else tape.gradient
    return tensors, [gradient(score, tensors) for score in scores], rest


def differentiate_twice(
    forward: Forward, value: Value, images: Any, sharpness: float | None
) -> tuple[Any, Any]:
    # Gradients are those of the graph that is being compiled, since tapes take no other gradient of
    # an operation.
    graph = tf.compat.v1.get_default_graph()
    smooth = contextlib.nullcontext()
    if sharpness is not None:
        smooth = graph.gradient_override_map(
            {"Relu": _smooth(sharpness, None), "Relu6": _smooth(sharpness, 6.0)}
        )
    with smooth:
        tensors, scores, rest = forward(images)
        values, given = value(tensors, tf.gradients(scores, tensors), rest)
        (by_images,) = tf.gradients(values, images)
    return by_images, given


@functools.cache
def _smooth(sharpness: float, highest: float | None) -> str:
    """The name of a gradient of ReLU, up to ``highest``, whose own gradient is that of softplus."""
    name = f"ReluOfSharpness{sharpness!r}UpTo{highest!r}"

    @tf.custom_gradient
    def step(x: Any, b: Any) -> tuple[Any, Callable[[Any], Any]]:
        s = tf.sigmoid(b * x)
        return tf.cast(x > 0, x.dtype), lambda by_step: (by_step * b * s * (1 - s), None)

    @tf.RegisterGradient(name)
    def gradient(operation: Any, by_output: Any) -> Any:
        (x,) = operation.inputs
        of_image = tf.range(1, tf.rank(x))
        b = sharpness / (tf.math.reduce_std(x, of_image, keepdims=True) + 1e-12)
        slope = step(x, b)
        return by_output * (slope if highest is None else slope - step(x - highest, b))

    return name
