"""A model made flat: the calls of all its layers, of nested models too, down to the logits."""

from __future__ import annotations

import contextlib
import functools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras

from gradcam_adv.graph import logits
from gradcam_adv.graph.call import Call

# Layers that only prepare the pixels: no heatmap is made of them.
_PREPARING = (keras.layers.InputLayer, keras.layers.Rescaling, keras.layers.Normalization)


@dataclass(frozen=True)
class FlatGraph:
    """A classifier as one flat graph. It shares the weights of the model it was made from.

    Attributes:
        input: of the model, (None, H, W, C).
        calls: in an order in which they can be made.
        output: of the model: logits, or their softmax.
        logits: (None, classes). Behind a dense layer with a softmax they come from a copy of its
            weights, whose call stands at the end; so flatten again after training.
    """

    input: keras.KerasTensor
    calls: tuple[Call, ...]
    output: keras.KerasTensor
    logits: keras.KerasTensor

    @property
    def classes(self) -> int:
        return int(self.logits.shape[-1])

    @functools.cached_property
    def layers(self) -> tuple[Call, ...]:
        """The calls of layers that have a heatmap, in the order of the graph.

        Those with one output (N, H, W, C) that the logits depend on, except the input and layers
        that only prepare the pixels.
        """
        needed = {id(self.output)}
        found = []
        for call in reversed(self.calls):
            if any(id(tensor) in needed for tensor in call.outputs):
                needed.update(map(id, call.inputs))
                # With several outputs, nobody can say which one a heatmap would be of.
                is_layer = isinstance(call.operation, keras.layers.Layer) and len(call.outputs) == 1
                if is_layer and len(call.shape) == 4 and not isinstance(call.operation, _PREPARING):
                    found.append(call)
        return tuple(reversed(found))

    @functools.cached_property
    def classifier(self) -> keras.Model:
        """The model from the pixels to the logits; one model, so it is compiled once."""
        return keras.Model(self.input, self.logits)


def flatten(model: keras.Model | FlatGraph, output: str | None = None) -> FlatGraph:
    """Flatten a classifier and its nested models, down to the logits.

    A softmax at the end is left out, so gradients are those of logits: gradients of probabilities
    fade to zero when the network is sure.

    Args:
        model: functional or Sequential, with one input (N, H, W, C), channels last. A FlatGraph is
            returned as it is.
        output: of several outputs, the name of the layer that gives the logits; None for the only
            one.

    Raises:
        ValueError: another kind of model, several inputs, an input that is not of floats, several
            outputs of which none is chosen, channels first, or an end of which the logits are not
            known.

    Example:
        >>> import keras
        >>> model = keras.Sequential(
        ...     [
        ...         keras.Input((8, 8, 3)),
        ...         keras.layers.Conv2D(4, 3, name="conv"),
        ...         keras.layers.Flatten(),
        ...         keras.layers.Dense(2, activation="softmax"),
        ...     ]
        ... )
        >>> [layer.path for layer in flatten(model).layers]
        ['conv']
    """
    if isinstance(model, FlatGraph):
        return model
    if not _has_graph(model):
        raise ValueError(
            "Expected a functional model, or a Sequential one that is built. "
            f"Received: {type(model).__name__} {getattr(model, 'name', '')!r}; a Sequential is "
            "built by an Input or its first call, a subclassed model has no graph: build it from "
            "keras.Input and layers"
        )
    if len(model.inputs) != 1 or len(model.inputs[0].shape) != 4:
        shapes = [tuple(tensor.shape) for tensor in model.inputs]
        raise ValueError(f"Expected a model of one input (N, H, W, C). Received: inputs {shapes}")
    if not keras.backend.is_float_dtype(model.inputs[0].dtype):
        raise ValueError(
            "Expected a model of images as floats in [0, 1]. "
            f"Received: an input of dtype {model.inputs[0].dtype}"
        )
    calls: list[Call] = []
    outputs = _walk(model, model.inputs, "", calls)
    for call in calls:
        if getattr(call.operation, "data_format", None) == "channels_first":
            raise ValueError(
                "Expected a model with channels last, (N, H, W, C). Received: channels first at "
                f"{call.path!r}; convert it, since heatmaps are sums over the last axis"
            )
    chosen = _chosen(calls, outputs, output)
    found = logits.behind(calls, chosen, model.inputs[0])
    if len(found.shape) != 2 or found.shape[-1] is None or found.shape[-1] < 2:
        raise ValueError(
            "Expected logits of shape (N, classes), two classes or more. "
            f"Received: {tuple(found.shape)}"
        )
    return FlatGraph(model.inputs[0], tuple(calls), chosen, found)


def _has_graph(model: object) -> bool:
    """Whether this is a model made of a graph of layers."""
    kinds = _functional() | keras.Sequential
    return isinstance(model, kinds) and bool(getattr(model, "inputs", None))


@functools.cache
def _functional() -> type[keras.Model]:
    """The class of functional models, which Keras does not export."""
    return type(keras.Model(*[keras.Input((1,))] * 2))


class _ReachedOutputs(Exception):
    """All outputs are reached; Keras need not finish the clone that it is making."""


def _walk(
    model: keras.Model, inputs: Sequence[keras.KerasTensor], prefix: str, calls: list[Call]
) -> list[keras.KerasTensor]:
    """Call every layer of ``model`` on ``inputs``, those of nested models too; return its outputs.

    Keras' own ``clone_model`` goes through the graph. The layers are not cloned, so they share
    their weights. Marker layers behind the outputs say which tensors those are.
    """
    markers = [keras.layers.Identity() for _ in model.outputs]
    marked = [marker(tensor) for marker, tensor in zip(markers, model.outputs, strict=True)]
    ends: dict[int, keras.KerasTensor] = {}
    counts: Counter[str] = Counter()

    def call(operation: Any, *args: Any, **kwargs: Any) -> Any:
        if operation in markers:
            ends[markers.index(operation)] = args[0]
            if len(ends) == len(markers):
                raise _ReachedOutputs
            return args[0]
        counts[operation.name] += 1
        again = f"#{counts[operation.name]}" if counts[operation.name] > 1 else ""
        path = f"{prefix}{operation.name}{again}"
        if _has_graph(operation):
            tensors = [t for t in keras.tree.flatten([args, kwargs]) if hasattr(t, "shape")]
            outputs = _walk(operation, tensors, f"{path}/", calls)
            return keras.tree.pack_sequence_as(operation.output, outputs)
        output = operation(*args, **kwargs)
        calls.append(Call(path, operation, (args, kwargs), tuple(keras.tree.flatten(output))))
        return output

    with contextlib.suppress(_ReachedOutputs):
        keras.models.clone_model(
            keras.Model(model.inputs, marked),
            input_tensors=list(inputs),
            clone_function=lambda layer: layer,
            call_function=call,
        )
    return [ends[i] for i in range(len(markers))]


def _chosen(
    calls: list[Call], outputs: list[keras.KerasTensor], name: str | None
) -> keras.KerasTensor:
    """The output that is to be explained."""
    made_by = {id(call.output): call.path for call in calls}
    names = [made_by.get(id(tensor), "the input") for tensor in outputs]
    if name is None and len(outputs) == 1:
        return outputs[0]
    if name not in names:
        raise ValueError(
            f"Expected output as one of {', '.join(names)}, the model's outputs "
            f"(flatten(model, output={names[0]!r}) chooses). Received: {name!r}"
        )
    return outputs[names.index(name)]
