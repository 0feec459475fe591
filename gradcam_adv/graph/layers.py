"""Finding layers of a flat graph by name, index or group."""

from __future__ import annotations

import difflib
import itertools
from collections import Counter
from collections.abc import Sequence

import keras
import numpy as np

from gradcam_adv.graph import GROUPS, Layers
from gradcam_adv.graph.call import Call
from gradcam_adv.graph.flat import FlatGraph, flatten
from gradcam_adv.graph.tokens import mixed


def layer_names(model: keras.Model | FlatGraph) -> list[str]:
    """Paths of the layers that have a heatmap, in the order of the graph.

    "base/conv1" is layer conv1 of the nested model base; "conv#2" is the second call of a shared
    layer. ``model`` is any classifier that :func:`gradcam_adv.flatten` takes.
    """
    return [layer.path for layer in flatten(model).layers]


def find(graph: FlatGraph, layers: Layers) -> list[Call]:
    """The layers meant by a group, a path, an index, or a list of these.

    - "all": every layer that has a heatmap.
    - "conv": convolutions of every kind.
    - "blocks": the ends of blocks, see :func:`block_ends`.
    - "last": the last layer that is neither pooling nor padding, the usual layer of Grad-CAM.

    Raises:
        ValueError: a layer that the graph does not have; the message lists the nearest names.
    """
    if isinstance(layers, str | int | np.integer):
        layers = [layers]
    if not isinstance(layers, Sequence) or any(
        isinstance(layer, bool) or not isinstance(layer, str | int | np.integer) for layer in layers
    ):
        raise ValueError(f"Expected layers as names or indices. Received: {layers!r}")
    if len(layers) == 0:
        raise ValueError("Expected at least one layer. Received: none")
    # A layer named twice counts once.
    found = {call.path: call for layer in layers for call in _find_one(graph, layer)}
    return list(found.values())


def _find_one(graph: FlatGraph, layer: str | int) -> list[Call]:
    by_path = {call.path: call for call in graph.layers}
    if layer in by_path:
        return [by_path[str(layer)]]
    if isinstance(layer, int | np.integer) and -len(by_path) <= layer < len(by_path):
        return [graph.layers[layer]]
    if layer in GROUPS and (found := group(graph, str(layer))):
        return found
    if reason := next((graph.places.reasons[id(c)] for c in graph.calls if c.path == layer), ""):
        raise ValueError(f"Expected a layer that has a heatmap. Received: {layer!r}, {reason}")
    near = difflib.get_close_matches(str(layer), by_path, n=3, cutoff=0.3)
    raise ValueError(
        f"Expected a layer of the model with an output of shape (N, H, W, C), its index from "
        f"{-len(by_path)} to {len(by_path) - 1}, or one of {', '.join(GROUPS)}. "
        f"Received: {layer!r}. Nearest: {', '.join(near) or 'none'}."
    )


_CONVOLUTIONS = (
    keras.layers.Conv2D,
    keras.layers.Conv2DTranspose,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv2D,
)
_NEVER_LAST = (
    *(keras.layers.AveragePooling2D, keras.layers.MaxPooling2D),
    keras.layers.ZeroPadding2D,
)


def group(graph: FlatGraph, name: str) -> list[Call]:
    """The layers of one of GROUPS; maybe none."""
    if name == "all":
        return list(graph.layers)
    if name == "conv":
        return [call for call in graph.layers if isinstance(call.operation, _CONVOLUTIONS)]
    if name == "blocks":
        return block_ends(graph)
    return [call for call in graph.layers if not isinstance(call.operation, _NEVER_LAST)][-1:]


def readers(graph: FlatGraph) -> Counter[int]:
    """By a tensor's id, how often it is read."""
    return Counter(id(tensor) for call in graph.calls for tensor in call.inputs)


def block_ends(graph: FlatGraph) -> list[Call]:
    """Where blocks end: on the trunk, before a fork or before the maps become smaller.

    The trunk is the layers that every path from the pixels to the logits goes through. In a chain
    without forks (VGG16) blocks end at the last layer of each map size; in residual and inception
    networks at the end of each block. A block of a transformer has two forks, one of them for its
    attention; so tokens end a block where they are mixed next. The last layer of the trunk is
    always among them.
    """
    # By a tensor's id, the last call that reads it.
    last_reader = {id(t): i for i, call in enumerate(graph.calls) for t in call.inputs}
    has_map = {id(call.output) for call in graph.layers}
    trunk = []  # by number
    reach = last_reader.get(id(graph.input), 0)  # the last call that reads something made so far
    for i, call in enumerate(graph.calls):
        padding = isinstance(call.operation, keras.layers.ZeroPadding2D)
        if reach <= i and id(call.output) in has_map and not padding:
            trunk.append(i)
        reach = max(reach, *(last_reader.get(id(tensor), 0) for tensor in call.outputs))
    read = readers(graph)
    grids = graph.places.grids

    def ends(number: int, following: int) -> bool:
        call, after = graph.calls[number].output, graph.calls[following].output
        smaller = _is_smaller(graph, graph.calls[following], graph.calls[number])
        if id(call) in grids and id(after) in grids:
            return smaller or mixed(graph.calls[number + 1 : following + 1], call, after, grids)
        return smaller or read[id(call)] > 1

    numbers = [i for i, following in itertools.pairwise(trunk) if ends(i, following)]
    return [graph.calls[i] for i in (*numbers, *trunk[-1:])]


def _is_smaller(graph: FlatGraph, call: Call, before: Call) -> bool:
    pairs = zip(graph.map_shape(call)[:2], graph.map_shape(before)[:2], strict=True)
    return any(a is not None and b is not None and a < b for a, b in pairs)
