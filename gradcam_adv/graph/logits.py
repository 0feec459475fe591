"""The end of a classifier: the logits before its softmax, or a refusal."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np

from gradcam_adv.batching import errors_of_models
from gradcam_adv.graph.call import Call

_SOFTMAXES = (
    *(keras.activations.softmax, keras.activations.log_softmax),
    *(keras.ops.softmax, keras.ops.log_softmax),
)
# Operations of keras.ops whose gradient fades where the network is sure.
_SATURATING = ("HardSigmoid", "HardTanh", "LogSigmoid", "Sigmoid", "SoftSign", "Softsign", "Tanh")


def behind(
    calls: list[Call], output: keras.KerasTensor, pixels: keras.KerasTensor
) -> keras.KerasTensor:
    """The logits behind an output: the input of its softmax, or itself if it has none.

    A dense layer with a softmax is called again without it, on a copy of its weights. That call is
    added to ``calls``, those of the flat graph. ``pixels`` is the model's input. It is a ValueError
    if the output is no logits, and the logits behind it are not known.
    """
    made_by = {id(call.output): call for call in calls}
    end = output
    while (call := made_by.get(id(end))) is not None:
        before = _before_softmax(call, calls)
        if before is None:
            if not isinstance(call.operation, keras.layers.Dense):
                _refuse_probabilities(call, keras.Model(pixels, end))
            break
        end = before
    return end


def _before_softmax(call: Call, calls: list[Call]) -> keras.KerasTensor | None:
    """What the call takes a softmax of; None if it takes none."""
    operation = call.operation
    kind = type(operation).__name__
    if isinstance(operation, keras.layers.Softmax) or kind in ("Softmax", "LogSoftmax"):
        if getattr(operation, "axis", -1) not in (-1, 1):
            raise _wrong(call, f"a softmax over axis {operation.axis}")
        return call.inputs[0]
    if not isinstance(operation, keras.layers.Layer) and kind in _SATURATING:
        raise _wrong(call, f"activation {kind.lower()!r}")
    activation: Any = getattr(operation, "activation", keras.activations.linear)
    if activation is keras.activations.linear:
        return None
    if activation not in _SOFTMAXES:
        name = getattr(activation, "__name__", type(activation).__name__)
        raise _wrong(call, f"activation {name!r}")
    if isinstance(operation, keras.layers.Activation):
        return call.inputs[0]
    linear = type(operation).from_config(operation.get_config() | {"activation": None})
    before = linear(call.inputs[0])
    linear.set_weights(operation.get_weights())
    calls.append(dataclasses.replace(call, operation=linear, outputs=(before,)))
    return before


def _wrong(call: Call, received: str) -> ValueError:
    return ValueError(
        "Expected a model that ends in logits or a softmax of them over the classes. "
        f"Received: {received} at {call.path!r}"
    )


def _refuse_probabilities(call: Call, model: keras.Model) -> None:
    """ValueError if an unknown last operation gives rows of equal sum and no negative values."""
    shape = [2, *(64 if size is None else size for size in model.input_shape[1:])]
    images = np.random.default_rng(0).random(shape, np.float32)
    with errors_of_models():
        given = np.asarray(model.predict_on_batch(images), np.float64)
    sums = given.sum(axis=-1)
    if (given >= 0).all() and sums[0] > 0 and np.allclose(sums, sums[0], rtol=1e-3):
        raise ValueError(
            "Expected a model that ends in logits, or in a softmax of Keras' own that can be left "
            f"out. Received: probabilities from {call.path!r}, a "
            f"{type(call.operation).__name__}; their gradients vanish where the model is sure"
        )
