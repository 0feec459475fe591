"""Places of attention: of which calls of a graph a heatmap can be made, and why not of others."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras.src.layers.preprocessing.data_layer import DataLayer

from gradcam_adv.graph.call import Call

# Layers that prepare pixels while nothing else has been done to them. Keras' data layers rescale,
# resize, crop and augment.
_PREPARING = (
    *(DataLayer, keras.layers.InputLayer, keras.layers.Reshape, keras.layers.Identity),
    *(keras.layers.GaussianNoise, keras.layers.GaussianDropout, keras.layers.Dropout),
    keras.layers.SpatialDropout2D,
)
# Operations of keras.ops that do at each position what a layer does: sums and activations.
_LIKE_LAYERS = {
    *("Add", "Average", "Concatenate", "Divide", "Maximum", "Minimum", "Multiply", "Subtract"),
    *("Celu", "Elu", "Gelu", "HardSigmoid", "HardSilu", "HardTanh", "LeakyRelu", "Relu", "Relu6"),
    *("Selu", "Sigmoid", "Silu", "Softplus", "Softsign", "Tanh", "TrueDivide"),
}


def pixels_among(pixels: keras.KerasTensor, calls: Sequence[Call]) -> set[int]:
    """The ids of tensors that are still pixels: the input, and what only prepares it.

    That is what Keras' layers for preparing images make of pixels, and operations such as
    ``x / 255``.
    """
    found = {id(pixels)}
    for call in calls:
        prepares = isinstance(call.operation, _PREPARING) or not _is_layer(call)
        if prepares and call.inputs and all(id(tensor) in found for tensor in call.inputs):
            found.update(map(id, call.outputs))
    return found


def no_places(
    pixels: keras.KerasTensor, calls: Sequence[Call], output: keras.KerasTensor
) -> dict[int, str]:
    """By the ids of calls that have no heatmap, why; those that are missing are places.

    A place of attention is a layer, or an operation like one, with one output (N, H, W, C) on
    which the model's ``output`` depends. Its positions are those of the image. So it does not lie
    behind global pooling, whatever its shape: at 1 x 1 each heatmap would be 1.
    """
    of_pixels = pixels_among(pixels, calls)
    needed = {id(output)}
    for call in reversed(calls):
        if any(id(tensor) in needed for tensor in call.outputs):
            needed.update(map(id, call.inputs))
    with_positions = {id(pixels)}
    reasons = {}
    for call in calls:
        has_positions = any(id(tensor) in with_positions for tensor in call.inputs)
        # Also a sequence of tokens, which may become a grid again.
        if has_positions and len(call.shape) > 2 and set(call.shape[1:-1]) != {1}:
            with_positions.update(map(id, call.outputs))
        if len(call.shape) != 4:
            reasons[id(call)] = f"whose output of shape {call.shape} is not (N, H, W, C)"
        elif id(call.output) not in with_positions and call.inputs:
            positions = f"{call.shape[1]} x {call.shape[2]} positions"
            reasons[id(call)] = f"whose {positions} are none of the image, behind global pooling"
        elif id(call.output) in of_pixels or not call.inputs:
            reasons[id(call)] = "which only prepares the pixels"
        elif len(call.outputs) > 1:
            reasons[id(call)] = f"which has {len(call.outputs)} outputs"
        elif id(call.output) not in needed:
            reasons[id(call)] = "on which the output does not depend"
        elif not _is_layer(call) and type(call.operation).__name__ not in _LIKE_LAYERS:
            reasons[id(call)] = "an operation that is neither a sum nor an activation"
    return reasons


def _is_layer(call: Call) -> bool:
    return isinstance(call.operation, keras.layers.Layer)
