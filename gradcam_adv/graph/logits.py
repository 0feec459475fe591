"""The end of a classifier: the logits that a softmax is taken of, or a refusal."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import keras

    from gradcam_adv.graph.network import Step

# Operations of keras.ops whose gradient fades where the network is sure.
_SATURATING = ("HardSigmoid", "HardTanh", "LogSigmoid", "Sigmoid", "SoftSign", "Softsign", "Tanh")


def logits(
    steps: list[Step], output: keras.KerasTensor, pixels: keras.KerasTensor
) -> keras.KerasTensor:
    """What every softmax at the end is taken of, or the output itself where there is none.

    A dense layer with a softmax is called anew without it, on a copy of its weights.

    Args:
        steps: of the flat graph; the call of such a copy is added.
        output: of the model.
        pixels: its input.

    Raises:
        ValueError: an end whose gradients fade and whose logits can't be had.
    """
    import keras

    made_by = {id(step.output): step for step in steps}
    end = output
    while (step := made_by.get(id(end))) is not None:
        before = _before_softmax(step, steps)
        if before is None:
            if not isinstance(step.operation, keras.layers.Dense):
                _refuse_probabilities(step, keras.Model(pixels, end))
            break
        end = before
    return end


def _before_softmax(step: Step, steps: list[Step]) -> keras.KerasTensor | None:
    """What the step's softmax is taken of; None where it has none."""
    import keras

    operation = step.operation
    kind = type(operation).__name__
    if isinstance(operation, keras.layers.Softmax) or kind in ("Softmax", "LogSoftmax"):
        if getattr(operation, "axis", -1) not in (-1, 1):
            raise _wrong(step, f"a softmax over axis {operation.axis}")
        return step.inputs[0]
    if not isinstance(operation, keras.layers.Layer) and kind in _SATURATING:
        raise _wrong(step, f"activation {kind.lower()!r}")
    activation: Any = getattr(operation, "activation", keras.activations.linear)
    if activation is keras.activations.linear:
        return None
    softmaxes = (
        keras.activations.softmax,
        keras.activations.log_softmax,
        keras.ops.softmax,
        keras.ops.log_softmax,
    )
    if activation not in softmaxes:
        name = getattr(activation, "__name__", type(activation).__name__)
        raise _wrong(step, f"activation {name!r}")
    if isinstance(operation, keras.layers.Activation):
        return step.inputs[0]
    linear = type(operation).from_config(operation.get_config() | {"activation": None})
    before = linear(step.inputs[0])
    linear.set_weights(operation.get_weights())
    steps.append(dataclasses.replace(step, operation=linear, outputs=(before,)))
    return before


def _wrong(step: Step, received: str) -> ValueError:
    return ValueError(
        "Expected a model that ends in logits or a softmax of them over the classes. "
        f"Received: {received} at {step.path!r}"
    )


def _refuse_probabilities(step: Step, model: keras.Model) -> None:
    """ValueError when a model whose end can't be seen into gives rows of one sum, none negative."""
    shape = [2, *(64 if size is None else size for size in model.input_shape[1:])]
    images = np.random.default_rng(0).random(shape, np.float32)
    given = np.asarray(model.predict_on_batch(images), np.float64)
    sums = given.sum(axis=-1)
    if (given >= 0).all() and sums[0] > 0 and np.allclose(sums, sums[0], rtol=1e-3):
        raise ValueError(
            "Expected a model that ends in logits, or in a softmax of Keras' own that can be left "
            f"out. Received: probabilities out of {step.path!r}, a "
            f"{type(step.operation).__name__}; their gradients vanish where the model is sure"
        )
