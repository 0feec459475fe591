"""The end of a classifier: the logits behind its softmax or sigmoid, or a refusal."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal

import keras
import numpy as np

from gradcam_adv.batching import errors_of_models
from gradcam_adv.graph.call import Call

# What a step does to each row of values; "" for anything else.
Step = Literal["", "nothing", "softmax", "sigmoid"]

# Operations of keras.ops whose gradient fades where the network is sure.
_FADING = ("HardSigmoid", "HardTanh", "LogSigmoid", "SoftSign", "Softsign", "Tanh")
_SOFTMAXES = ("Softmax", "LogSoftmax")
_NORMALIZING = (
    *(keras.layers.BatchNormalization, keras.layers.LayerNormalization),
    keras.layers.UnitNormalization,
)
_POOLING = (keras.layers.GlobalAveragePooling2D, keras.layers.GlobalMaxPooling2D)


@dataclasses.dataclass(frozen=True)
class Logits:
    """The logits of a classifier.

    Attributes:
        tensor: (None, classes).
        independent: whether each is the logit of a label of its own, as behind several sigmoids.
    """

    tensor: keras.KerasTensor
    independent: bool


def behind(
    calls: list[Call], output: keras.KerasTensor, pixels: keras.KerasTensor, *, one_logit: bool
) -> Logits:
    """The logits behind an output: the input of its softmax or sigmoids, or itself without any.

    Steps that change no value, such as a Flatten or Dropout, are looked through. The logit z of a
    single sigmoid becomes the two logits ``[-z / 2, z / 2]``, whose softmax is that sigmoid. A
    dense layer with an activation is called again without it, on a copy of its weights. Such calls
    are added to ``calls``, those of the flat graph.

    Args:
        calls: of the flat graph.
        output: of the model.
        pixels: its input.
        one_logit: whether a single output without a sigmoid is the logit of one.

    Raises:
        ValueError: the output is no logits, and the logits behind it are not known.
    """
    made_by = {id(call.output): call for call in calls}
    steps: list[Step] = []
    reshaping: list[Call] = []  # between the logits and the output
    end = output
    while "sigmoid" not in steps and (call := made_by.get(id(end))) is not None:
        step, before = _step(call, calls)
        if step == "":
            if not isinstance(call.operation, keras.layers.Dense):
                _refuse_unknown(call, keras.Model(pixels, end), raw=set(steps) <= {"nothing"})
            break
        if step == "sigmoid" and "softmax" in steps:
            raise _wrong(call, "a softmax of sigmoids")
        if step == "nothing" and call.shape != tuple(before.shape):
            reshaping.append(call)
        steps.append(step)
        end = before
    if set(steps) <= {"nothing"}:
        end = output
    else:
        for call in reversed(reshaping):
            end = _call(calls, call.operation, end, f"{call.path}#logits")
    count = end.shape[-1]
    if len(end.shape) != 2 or count is None:
        raise ValueError(f"Expected logits of shape (N, classes). Received: {tuple(end.shape)}")
    if count > 1:
        return Logits(end, independent="sigmoid" in steps)
    if "softmax" in steps or not (one_logit or "sigmoid" in steps):
        regression = "may be a regression; one_logit=True (--one-logit) says that it is a logit"
        raise ValueError(
            "Expected logits of shape (N, classes), two classes or more, or a sigmoid. Received: "
            f"{tuple(end.shape)}, one unit, which "
            + ("is always 1 behind its softmax" if "softmax" in steps else regression)
        )
    two = keras.layers.Dense(
        2, use_bias=False, kernel_initializer="zeros", dtype="float32", name="two_logits_of_one"
    )
    both = _call(calls, two, end, two.name)
    two.set_weights([np.array([[-0.5, 0.5]], np.float32)])
    return Logits(both, independent=False)


def _call(calls: list[Call], layer: Any, given: keras.KerasTensor, path: str) -> Any:
    """Call a layer once more, and add that to the calls."""
    output = layer(given)
    calls.append(Call(path, layer, ((given,), {}), (output,)))
    return output


def _step(call: Call, calls: list[Call]) -> tuple[Step, keras.KerasTensor]:
    """What a call does at the end of a model, and the tensor that it does it to."""
    operation = call.operation
    if len(call.inputs) != 1:
        return "", call.output
    given = call.inputs[0]
    activation = getattr(operation, "activation", None)
    if activation is not None and getattr(operation, "weights", []):
        step = _does(activation, call.shape)
        if step == "":
            raise _wrong(call, f"activation {_name(activation)!r}")
        if step == "nothing":
            return "", call.output
        config = operation.get_config()
        # Its weights are copied below. Other initializers would draw from Python's own generator.
        zeros = {name: "zeros" for name in config if name.endswith("_initializer")}
        linear = type(operation).from_config(config | zeros | {"activation": None})
        before = _call(calls, linear, given, call.path)
        linear.set_weights(operation.get_weights())
        return step, before
    before, after = (math.prod(_sizes(shape)) for shape in (tuple(given.shape), call.shape))
    if getattr(operation, "weights", []) or before != after:
        return "", call.output

    def run(values: np.ndarray) -> Any:
        args, kwargs = keras.tree.map_structure(
            lambda one: values if one is given else one, call.arguments
        )
        return operation(*args, **kwargs)

    step = _does(run, tuple(given.shape))
    kind = type(operation).__name__
    if step == "" and kind in _SOFTMAXES:
        raise _wrong(call, f"a softmax over axis {operation.axis}")
    if step == "" and (kind in _FADING or activation is not None):
        name = kind.lower() if activation is None else _name(activation)
        raise _wrong(call, f"activation {name!r}")
    return step, given


def _sizes(shape: tuple[int | None, ...]) -> list[int]:
    """Of two items of that shape, (None, ...)."""
    return [2, *(8 if size is None else size for size in shape[1:])]


def _does(function: Callable[[Any], Any], shape: tuple[int | None, ...]) -> Step:
    """What a function does to values of a shape, found by trying it.

    So it does not matter whose softmax it is: Keras', TensorFlow's or a user's own.
    """
    values = np.random.default_rng(0).normal(size=_sizes(shape)).astype(np.float32)
    try:
        given = keras.ops.convert_to_numpy(function(keras.ops.convert_to_tensor(values)))
    except Exception:  # whatever a user's function may raise
        return ""
    if given.size != values.size:
        return ""
    given = given.astype(np.float64).reshape(values.shape)
    powers = np.exp(values.astype(np.float64))
    softmax = powers / powers.sum(axis=-1, keepdims=True)
    expected: dict[Step, list[np.ndarray]] = {
        "nothing": [values],
        "softmax": [softmax, np.log(softmax)],
        "sigmoid": [powers / (1 + powers)],
    }
    for step, results in expected.items():
        # Half precision has three digits.
        if any(np.allclose(given, result, rtol=5e-3, atol=1e-6) for result in results):
            return step
    return ""


def _name(activation: Any) -> str:
    return getattr(activation, "__name__", type(activation).__name__)


def _wrong(call: Call, received: str) -> ValueError:
    return ValueError(
        "Expected a model that ends in logits, or in a softmax or sigmoid of them. "
        f"Received: {received} at {call.path!r}"
    )


def _refuse_unknown(call: Call, model: keras.Model, *, raw: bool) -> None:
    """ValueError if an unknown last operation gives probabilities, or the features of an embedder.

    Features have length 1, or, as the ``raw`` output of the model, are normalized in another way
    or are means over maps behind a ReLU.
    """
    given = outputs_of_noise(model)
    kind = f"from {call.path!r}, a {type(call.operation).__name__}"
    if are_probabilities(given):
        raise ValueError(
            "Expected a model that ends in logits, or in a softmax of them alone that can be left "
            f"out. Received: probabilities {kind}; their gradients vanish where the model is sure"
        )
    what = ""
    if isinstance(call.operation, _NORMALIZING) or np.allclose(
        np.linalg.norm(given, axis=-1), 1, rtol=1e-3
    ):
        what = "normalized features"
    elif isinstance(call.operation, _POOLING):
        maps = outputs_of_noise(keras.Model(model.inputs, call.inputs))
        what = "pooled features" if (maps >= 0).all() else ""
    if raw and what:
        raise ValueError(
            f"Expected a classifier, one logit per class. Received: {what} {kind}, as of an "
            "embedding network, which has no classes; --pairs compares its images two by two, in "
            "Python verifier(model, others)"
        )


def outputs_of_noise(model: keras.Model) -> np.ndarray:
    """What a model makes of two images of noise, float64."""
    shape = [2, *(64 if size is None else size for size in model.input_shape[1:])]
    images = np.random.default_rng(0).random(shape, np.float32)
    with errors_of_models():
        return np.asarray(model.predict_on_batch(images), np.float64)


def are_probabilities(outputs: np.ndarray) -> bool:
    """Whether these are rows of equal sum without negative values."""
    sums = outputs.sum(axis=-1)
    equal = np.allclose(sums, sums.flat[0], rtol=1e-3)
    return bool((outputs >= 0).all() and sums.flat[0] and equal)
