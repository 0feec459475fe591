"""Keras' backends: what differs between TensorFlow, PyTorch and JAX, one file each.

They differentiate, compile, choose threads and list GPUs. No other module of the package asks
which backend runs, except where a library needs TensorFlow (MTCNN, tf-keras-vis).
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import math
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcam_adv import machine

if TYPE_CHECKING:
    import keras

# From images, and taps where the backend needs them, to tensors, scores, and anything else.
Forward = Callable[..., tuple[list[Any], list[Any], Any]]
# From tensors, the gradients by them and the rest of a forward pass to a value, and anything else.
Value = Callable[[list[Any], list[Any], Any], tuple[Any, Any]]


@functools.cache
def _backend() -> Any:
    import keras

    name = keras.backend.backend()
    if name not in machine.TITLES:
        raise ImportError(
            f"Expected Keras' backend as one of {', '.join(machine.TITLES)} (KERAS_BACKEND; unset "
            f"it for tensorflow). Received: {name!r}"
        )
    return importlib.import_module(f"gradcam_adv.backends.{name}")


def differentiate(forward: Forward, images: Any) -> tuple[list[Any], list[list[Any]], Any]:
    """Gradients of scores by tensors on the way to them.

    Args:
        forward: takes the images, and returns the tensors, the scores, each (N,), and anything
            else. Where :func:`needs_taps` it also takes a list of taps: it adds them to the
            tensors, in their order.
        images: (N, H, W, C).

    Returns:
        The tensors; for each score its gradients by them (None for a tensor that the score does
        not depend on); and the rest of what ``forward`` returned.
    """
    return _backend().differentiate(forward, images)


def differentiate_twice(
    forward: Forward, value: Value, images: Any, sharpness: float | None = None
) -> tuple[Any, Any]:
    """The gradient by the pixels of a value that is made of gradients itself, as a heatmap is.

    Only what lies between the tensors and the scores is differentiated twice. The derivative of
    ReLU is a step from 0 to 1, so its second derivative is 0 nearly everywhere, and says nothing of
    units that are about to switch. With a sharpness b it is that of softplus, ``log(1 + exp(b x)) /
    b``, in its place: ``b s (1 - s)`` with ``s = sigmoid(b x)``. Outputs and first derivatives stay
    those of ReLU. x is in units of its standard deviation over an
    image.

    Args:
        forward: as of :func:`differentiate`, without taps.
        value: from the tensors, the gradients of the sum of all scores by them, and the rest of
            what ``forward`` returned, to a value, (N,), and anything else.
        images: (N, H, W, C).
        sharpness: b; None for ReLU's own second derivative, 0.

    Returns:
        The gradient by the images, None if the value does not depend on them; and the rest of what
        ``value`` returned.

    Raises:
        ValueError: the backend is not TensorFlow.
    """
    import keras

    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "Expected Keras on TensorFlow for second derivatives (KERAS_BACKEND=tensorflow). "
            f"Received: {keras.backend.backend()}"
        )
    return _backend().differentiate_twice(forward, value, images, sharpness)


def needs_taps() -> bool:
    """Whether the backend differentiates functions by their arguments only.

    JAX does; there a tensor on the way needs an argument that is added to it (a tap).
    """
    return _backend().NEEDS_TAPS


def compiled(
    function: Callable[..., Any], *takes: tuple[tuple[int | None, ...], str]
) -> Callable[..., Any]:
    """A function of tensors as a function of NumPy arrays, compiled for one signature.

    ``takes`` holds shape and dtype of each argument. The function's result may be nested.
    """
    return _backend().compiled(function, *takes)


def kept_random() -> contextlib.AbstractContextManager[None]:
    """Give back the backend's global generator as it was. Dropout on PyTorch draws from it."""
    return _backend().kept_random()


def configure(threads: int) -> None:
    """Fix what a result depends on: the number of threads, the order of sums, Keras' settings.

    Call it before the backend's first computation. A GPU then computes in true float32 instead of
    its faster TF32. For Keras' settings see :func:`set_keras`.

    Raises:
        ValueError: TensorFlow or JAX has already started with another number of threads.
    """
    set_keras()
    _backend().configure(threads)


def set_keras() -> None:
    """Give Keras' global settings the values that they have without keras.json and variables.

    Otherwise results depend on what other programs need, and KERAS_MAX_EPOCHS cuts a training off.
    For a program of our own: importing the library changes no setting of anybody's.
    """
    import keras

    # MTCNN and tf-keras-vis take tf.keras, which TF_USE_LEGACY_KERAS would make another Keras.
    os.environ.pop("TF_USE_LEGACY_KERAS", None)
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_image_data_format("channels_last")
    keras.config.set_max_epochs(None)
    keras.config.set_max_steps_per_epoch(None)


def gpus() -> list[str]:
    """Names of the GPUs that the backend runs networks on."""
    return _backend().gpus()


# For what oneDNN, threads and Python ask the system for, beside the backend's own pool.
_BESIDE_POOL = 512 * 2**20


def reserve(model: keras.Model, batch_size: int) -> None:
    """Make the backend ask the system for the memory of one batch, before the batch is computed.

    During a computation it is too late: if the system then refuses memory (``ulimit -v``, no
    overcommitment), oneDNN's convolutions end the process by a segmentation fault. The amount is
    1.25 times the size of all outputs of the model; with their gradients they need 0.3 to 1.15
    times that (measured). A GPU's pool does not need this.

    Raises:
        Exception: there is not that much; see :func:`gradcam_adv.batching.out_of_memory`.
    """
    import keras

    if gpus():
        return
    outputs = keras.tree.flatten([layer.output for layer in model.operations])
    shapes = [tensor.shape[1:] for tensor in outputs]
    known = sum(math.prod(shape) for shape in shapes if None not in shape)
    beside = np.empty(_BESIDE_POOL, np.uint8)  # so that the pool does not take everything
    _backend().ask_for(int(1.25 * 4 * known * batch_size))
    del beside


def clear_session() -> None:
    """Free the graphs and names that Keras keeps; otherwise five networks pile up in memory."""
    if "keras" in sys.modules:
        sys.modules["keras"].utils.clear_session(free_memory=True)
