"""Places of attention: of which calls of a graph a heatmap can be made, and why not of others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import keras
from keras.src.layers.preprocessing.data_layer import DataLayer

from gradcam_adv.graph.call import Call
from gradcam_adv.graph.tokens import Grid, Grids, grid_of, with_read_patches

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


@dataclass(frozen=True)
class Places:
    """Of which calls a heatmap can be made.

    Attributes:
        reasons: by the ids of calls that have no heatmap, why; those that are missing are places.
        grids: by the ids of tensors (N, tokens, C), which of their tokens are a grid of patches.
    """

    reasons: Mapping[int, str]
    grids: Grids


def places(pixels: keras.KerasTensor, calls: Sequence[Call], output: keras.KerasTensor) -> Places:
    """Find the places of attention.

    A place is a layer, or an operation like one, with one output (N, H, W, C), or (N, tokens, C)
    with tokens that are a grid of patches, on which the model's ``output`` depends. Its positions
    are those of the image. So it does not lie behind global pooling, whatever its shape: at 1 x 1
    each heatmap would be 1.
    """
    of_pixels = pixels_among(pixels, calls)
    needed = {id(output)}
    for call in reversed(calls):
        if any(id(tensor) in needed for tensor in call.outputs):
            needed.update(map(id, call.inputs))
    with_positions, grids = _positions(pixels, calls)
    read = with_read_patches(calls, output, grids)
    reasons = {}
    for call in calls:
        if len(call.shape) == 3 and id(call.output) in with_positions - grids.keys():
            reasons[id(call)] = f"whose {call.shape[1]} positions are not found to be a grid"
        elif len(call.shape) != 4 and id(call.output) not in grids:
            reasons[id(call)] = f"whose output of shape {call.shape} is not (N, H, W, C)"
        elif id(call.output) not in with_positions and call.inputs:
            positions = f"{call.shape[1]} x {call.shape[2]} positions"
            reasons[id(call)] = f"whose {positions} are none of the image, as behind global pooling"
        elif id(call.output) in of_pixels or not call.inputs:
            reasons[id(call)] = "which only prepares the pixels"
        elif len(call.outputs) > 1:
            reasons[id(call)] = f"which has {len(call.outputs)} outputs"
        elif id(call.output) not in needed:
            reasons[id(call)] = "on which the output does not depend"
        elif id(call.output) in grids.keys() - read:
            reasons[id(call)] = "of which only other tokens than the patches' are read"
        elif not _is_layer(call) and type(call.operation).__name__ not in _LIKE_LAYERS:
            reasons[id(call)] = "an operation that is neither a sum nor an activation"
    return Places(reasons, grids)


def _positions(
    pixels: keras.KerasTensor, calls: Sequence[Call]
) -> tuple[set[int], dict[int, Grid]]:
    """The ids of tensors with positions of the image; and, of sequences, the grids."""
    found = {id(pixels)}
    grids: dict[int, Grid] = {}
    for call in calls:
        sources = [tensor for tensor in call.inputs if id(tensor) in found]
        for output in call.outputs if sources else ():
            shape = tuple(output.shape)
            if len(shape) < 3 or set(shape[1:-1]) == {1}:
                continue
            if len(shape) == 3 and (grid := grid_of(call, output, sources, grids)):
                grids[id(output)] = grid
            # Tokens become a map again at the size of their grid. Other shapes of four axes are
            # those of heads or channels.
            sizes = {
                grids[id(source)].size if id(source) in grids else shape[1:3] for source in sources
            }
            if len(shape) != 4 or shape[1:3] in sizes:
                found.add(id(output))
    return found, grids


def _is_layer(call: Call) -> bool:
    return isinstance(call.operation, keras.layers.Layer)
