"""Grad-CAM of a layer without reading its output: from the batch normalization behind it.

All that Grad-CAM costs beyond one gradient is reading activations and gradients from memory. At
inference a batch normalization is ``B = g A + t``, channel by channel. If nothing else reads A,
then with weights alpha_A and alpha_B (equation 1 of Grad-CAM) ``alpha_A = g alpha_B``, so the
weighted sum of A (equation 2) is ::

    sum_k alpha_A A = sum_k alpha_B (B - t),

the sum of B less one number per image. That spares a third of a residual or inception network, in
time and in memory. The result differs by rounding only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from gradcam_adv.graph.call import Call
from gradcam_adv.graph.flat import FlatGraph
from gradcam_adv.graph.layers import readers


class Folding:
    """Which layers to read (``read``, each once), and how to get back to those asked for."""

    def __init__(self, graph: FlatGraph, layers: Sequence[Call]) -> None:
        behind = _normalizations(graph)
        self._pairs = [(layer, behind.get(layer.path, layer)) for layer in layers]
        self.read = list({read.path: read for _, read in self._pairs}.values())

    def unfold(self, weights: Sequence[Any], sums: Sequence[Any], weighted_sum: Any) -> list[Any]:
        """The weighted sums of the layers asked for.

        From the weights, (N, targets, C), and the sums, (N, targets, h, w), of each layer read.
        ``weighted_sum`` is equation 2, a function of weights and activations (N, h, w, C).
        """
        by_path = {read.path: pair for read, *pair in zip(self.read, weights, sums, strict=True)}
        unfolded = []
        for layer, read in self._pairs:
            alpha, total = by_path[read.path]
            if read is not layer:
                zeros = keras.ops.zeros((1, 1, 1, layer.shape[-1]))
                t = read.operation(zeros, training=False)
                of_each = keras.ops.broadcast_to(t, (alpha.shape[0], *t.shape[1:]))
                total = total - weighted_sum(alpha, of_each)
            unfolded.append(total)
        return unfolded


def _normalizations(graph: FlatGraph) -> Mapping[str, Call]:
    """By a layer's path, the batch normalization behind it that allows folding.

    It is Keras' own layer over the channels of a map, the only reader, and in float32: in half
    precision a normalized value has lost digits of the value before.
    """
    read = readers(graph)
    made_by = {id(layer.output): layer.path for layer in graph.layers}
    return {
        made_by[id(call.inputs[0])]: call
        for call in graph.layers
        # Not a user's subclass, which may compute something else.
        if type(call.operation) is keras.layers.BatchNormalization
        and len(call.shape) == 4
        and call.operation.axis in (-1, 3)
        and call.output.dtype == "float32"
        and _keeps_digits(call.operation)
        and len(call.inputs) == 1
        and read[id(call.inputs[0])] == 1
        and id(call.inputs[0]) in made_by
    }


def _keeps_digits(layer: keras.layers.BatchNormalization) -> bool:
    """Whether B - t still has enough digits.

    B has the size of the scale; an offset of a hundred times that leaves five of float32's seven
    digits.
    """
    mean, variance = (
        keras.ops.convert_to_numpy(values) for values in (layer.moving_mean, layer.moving_variance)
    )
    scale = keras.ops.convert_to_numpy(layer.gamma) if layer.scale else np.ones_like(mean)
    offset = keras.ops.convert_to_numpy(layer.beta) if layer.center else np.zeros_like(mean)
    gain = scale / np.sqrt(variance + layer.epsilon)
    size = np.abs(gain) * np.sqrt(variance)
    return bool(np.abs(offset - mean * gain).max() <= 100 * size.max())
