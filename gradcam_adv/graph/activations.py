"""One forward pass from images to the outputs of chosen layers and the logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras

from gradcam_adv import backends
from gradcam_adv.graph.call import Call
from gradcam_adv.graph.flat import FlatGraph


def forward_pass(
    graph: FlatGraph, layers: Sequence[Call], batch_size: int
) -> Callable[..., tuple[list[Any], Any]]:
    """A function from images to the outputs of ``layers`` and the logits, in inference mode.

    Where the backend needs them (:func:`gradcam_adv.backends.needs_taps`), it also takes taps,
    tensors that are added to those outputs. Memory for a batch is asked for at once.
    """
    outputs = [*(layer.output for layer in layers), graph.logits]
    model = keras.Model(graph.input, outputs)
    backends.reserve(model, batch_size)
    tapped = _tapped(graph, layers) if backends.needs_taps() else None

    def run(images: Any, taps: Sequence[Any] = ()) -> tuple[list[Any], Any]:
        if taps and tapped is not None:
            *activations, logits = tapped([images, *taps], training=False)
        else:
            *activations, logits = model(images, training=False)
        return activations, logits

    return run


def _tapped(graph: FlatGraph, layers: Sequence[Call]) -> keras.Model:
    """The calls of the graph once more, with an input added to the output of each of ``layers``."""
    # Names of their own: those that Keras would choose may be names of the model's layers.
    taps = {
        id(layer.output): keras.Input(
            batch_shape=layer.shape, dtype=layer.output.dtype, name=f"tap_{number}_of_layers"
        )
        for number, layer in enumerate(layers)
    }
    made = {id(graph.input): graph.input}
    for call in graph.calls:
        args, kwargs = keras.tree.map_structure(
            lambda given: made.get(id(given), given), call.arguments
        )
        outputs = keras.tree.flatten(call.operation(*args, **kwargs))
        for tensor, output in zip(call.outputs, outputs, strict=True):
            if (tap := taps.get(id(tensor))) is not None:
                added = keras.layers.Add(name=f"with_{tap.name}", dtype=tap.dtype)
                output = added([output, tap])
            made[id(tensor)] = output
    outputs = [made[id(tensor)] for tensor in (*(c.output for c in layers), graph.logits)]
    return keras.Model([graph.input, *taps.values()], outputs)
