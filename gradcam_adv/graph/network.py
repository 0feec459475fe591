"""Any Keras classifier as one flat graph: every layer in it has an address, its end is logits."""

from __future__ import annotations

import contextlib
import difflib
import functools
import gc
import itertools
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcam_adv.graph import logits as ends

if TYPE_CHECKING:
    import keras

Layers = str | int | Sequence[str | int]
GROUPS = ("all", "conv", "blocks", "last")


@dataclass(frozen=True)
class Step:
    """One call of a layer or operation in the flat graph.

    Attributes:
        path: the layer's name; inside of a nested model with that model's name before it, as in
            "resnet50/conv1_conv"; at a further call of a shared layer with its number behind it,
            as in "conv#2".
        operation: the layer, or an operation of ``keras.ops``.
        arguments: what it is called with, by place and by name.
        outputs: what it gives.
    """

    path: str
    operation: Any
    arguments: tuple[tuple[Any, ...], dict[str, Any]]
    outputs: tuple[keras.KerasTensor, ...]

    @functools.cached_property
    def inputs(self) -> tuple[keras.KerasTensor, ...]:
        """Tensors that it is called on."""
        import keras

        given = keras.tree.flatten(self.arguments)
        return tuple(tensor for tensor in given if isinstance(tensor, keras.KerasTensor))

    @property
    def output(self) -> keras.KerasTensor:
        """What it gives; of several tensors the last."""
        return self.outputs[-1]

    @property
    def shape(self) -> tuple[int | None, ...]:
        return tuple(self.output.shape)


@dataclass(frozen=True)
class Network:
    """A classifier made flat, sharing the weights of the model it was made of.

    Attributes:
        input: the model's input, (None, H, W, C).
        steps: all calls in an order in which they can be made; at the end that which gives the
            logits, where it is none of the model's own.
        output: what the model gives, logits or their softmax.
        logits: (None, classes). Behind a dense layer with a softmax they are of a copy of its
            weights, so flatten anew after training.
    """

    input: keras.KerasTensor
    steps: tuple[Step, ...]
    output: keras.KerasTensor
    logits: keras.KerasTensor

    @property
    def classes(self) -> int:
        return int(self.logits.shape[-1])

    @functools.cached_property
    def places(self) -> tuple[Step, ...]:
        """The steps that have a heatmap, in the order of the graph.

        Layers with an output of (N, H, W, C) but for the input, what only prepares the pixels,
        and what the logits don't depend on.
        """
        import keras

        unexplained = (keras.layers.InputLayer, keras.layers.Rescaling, keras.layers.Normalization)
        needed = {id(self.output)}
        places = []
        for step in reversed(self.steps):
            if any(id(tensor) in needed for tensor in step.outputs):
                needed.update(map(id, step.inputs))
                # Of several outputs no one can say which a heatmap would be of.
                layer = isinstance(step.operation, keras.layers.Layer) and len(step.outputs) == 1
                if layer and not isinstance(step.operation, unexplained) and len(step.shape) == 4:
                    places.append(step)
        return tuple(reversed(places))

    def find(self, layers: Layers) -> list[Step]:
        """The places meant by one of GROUPS, a path, an index, or several of these.

        - "all": every place.
        - "conv": convolutions of every kind.
        - "blocks": the ends of blocks, see :meth:`block_ends`.
        - "last": the last place that is no pooling, the usual layer of Grad-CAM.

        Raises:
            ValueError: what the network doesn't have, with the nearest names.
        """
        if isinstance(layers, str | int | np.integer):
            layers = [layers]
        if not isinstance(layers, Sequence) or any(
            isinstance(layer, bool) or not isinstance(layer, str | int | np.integer)
            for layer in layers
        ):
            raise ValueError(f"Expected layers as names or indices. Received: {layers!r}")
        if len(layers) == 0:
            raise ValueError("Expected at least one layer. Received: none")
        # A layer named twice is still one layer.
        found = {step.path: step for layer in layers for step in self._find_one(layer)}
        return list(found.values())

    def _find_one(self, layer: str | int) -> list[Step]:
        by_path = {step.path: step for step in self.places}
        if layer in by_path:
            return [by_path[str(layer)]]
        if isinstance(layer, int | np.integer) and -len(by_path) <= layer < len(by_path):
            return [self.places[layer]]
        if layer in GROUPS:
            found = self._group(str(layer))
            if found:
                return found
        near = difflib.get_close_matches(str(layer), by_path, n=3, cutoff=0.3)
        raise ValueError(
            f"Expected a layer of the model with an output of shape (N, H, W, C), its index from "
            f"{-len(by_path)} to {len(by_path) - 1}, or one of {', '.join(GROUPS)}. "
            f"Received: {layer!r}. Nearest: {', '.join(near) or 'none'}."
        )

    def _group(self, group: str) -> list[Step]:
        import keras

        if group == "all":
            return list(self.places)
        if group == "blocks":
            return self.block_ends()
        kinds = {
            "conv": (
                keras.layers.Conv2D,
                keras.layers.Conv2DTranspose,
                keras.layers.DepthwiseConv2D,
                keras.layers.SeparableConv2D,
            ),
            "last": (keras.layers.AveragePooling2D, keras.layers.MaxPooling2D),
        }[group]
        if group == "conv":
            return [step for step in self.places if isinstance(step.operation, kinds)]
        return [step for step in self.places if not isinstance(step.operation, kinds)][-1:]

    def _readers(self) -> Counter[int]:
        """How often each tensor is read, by its id."""
        return Counter(id(tensor) for step in self.steps for tensor in step.inputs)

    def normalized(self) -> dict[str, Step]:
        """By a place's path, the batch normalization of channels that alone reads the place.

        Those in full precision: in half of it a normalized value has lost digits of the place's.
        """
        import keras

        readers = self._readers()
        made_by = {id(place.output): place.path for place in self.places}
        return {
            made_by[id(step.inputs[0])]: step
            for step in self.places
            # Not one of a user's own kind, which may do something else.
            if type(step.operation) is keras.layers.BatchNormalization
            and step.operation.axis in (-1, 3)
            and step.output.dtype == "float32"
            and _keeps_digits(step.operation)
            and len(step.inputs) == 1
            and readers[id(step.inputs[0])] == 1
            and id(step.inputs[0]) in made_by
        }

    def block_ends(self) -> list[Step]:
        """Where blocks end: on the trunk, before a fork or before the maps become smaller.

        The trunk are the places that every way from the pixels to the logits leads through. Of a
        chain without forks (VGG16) these are the last layers of each size of map; of residual and
        inception networks the ends of their blocks; and the last place of the trunk is among them.
        """
        import keras

        number = {id(tensor): i for i, step in enumerate(self.steps) for tensor in step.outputs}
        readers = self._readers()
        reach = 0  # the furthest step that reads something made so far
        furthest = [0] * len(self.steps)
        for i, step in enumerate(self.steps):
            for tensor in step.inputs:
                if id(tensor) in number:
                    made = number[id(tensor)]
                    furthest[made] = max(furthest[made], i)
        places = {id(step.output) for step in self.places}
        trunk = []
        for i, step in enumerate(self.steps):
            if reach <= i and id(step.output) in places:
                trunk.append(step)
            reach = max(reach, furthest[i])
        trunk = [s for s in trunk if not isinstance(s.operation, keras.layers.ZeroPadding2D)]

        def smaller(step: Step, following: Step) -> bool:
            pairs = zip(step.shape[1:3], following.shape[1:3], strict=True)
            return any(a is not None and b is not None and b < a for a, b in pairs)

        ends = [
            step
            for step, following in itertools.pairwise(trunk)
            if readers[id(step.output)] > 1 or smaller(step, following)
        ]
        return ends + trunk[-1:]

    def classifier(self) -> keras.Model:
        """The model from the pixels to the logits."""
        import keras

        return keras.Model(self.input, self.logits)

    def extractor(self, places: Sequence[Step]) -> keras.Model:
        """The model from the pixels to a list of the places' outputs, the logits at its end."""
        import keras

        return keras.Model(self.input, [*(place.output for place in places), self.logits])

    def tapped(self, places: Sequence[Step]) -> keras.Model:
        """The extractor with taps: further inputs, which are added to the places' outputs.

        For backends that differentiate by a function's inputs alone: at taps of zeros the gradient
        by a tap is the one by the place's output, and all outputs are as without taps.
        """
        import keras

        # Names of their own, for those that Keras would give may be those of the model's layers.
        taps = {
            id(place.output): keras.Input(
                batch_shape=place.shape, dtype=place.output.dtype, name=f"tap_{number}_of_places"
            )
            for number, place in enumerate(places)
        }
        made = {id(self.input): self.input}
        for step in self.steps:
            args, kwargs = keras.tree.map_structure(
                lambda given: made.get(id(given), given), step.arguments
            )
            outputs = keras.tree.flatten(step.operation(*args, **kwargs))
            for tensor, output in zip(step.outputs, outputs, strict=True):
                if (tap := taps.get(id(tensor))) is not None:
                    added = keras.layers.Add(name=f"with_{tap.name}", dtype=tap.dtype)
                    output = added([output, tap])
                made[id(tensor)] = output
        outputs = [made[id(tensor)] for tensor in (*(p.output for p in places), self.logits)]
        return keras.Model([self.input, *taps.values()], outputs)


def _keeps_digits(normalization: keras.layers.BatchNormalization) -> bool:
    """Whether what is normalized can be had back from its result, beside the offset of that.

    The result of a layer with mean 0 and its variance is of the size of the scale; an offset a
    hundred times that leaves five of float32's seven digits.
    """
    import keras

    own = normalization
    mean, variance = (
        keras.ops.convert_to_numpy(values) for values in (own.moving_mean, own.moving_variance)
    )
    scale = keras.ops.convert_to_numpy(own.gamma) if own.scale else np.ones_like(mean)
    offset = keras.ops.convert_to_numpy(own.beta) if own.center else np.zeros_like(mean)
    gain = scale / np.sqrt(variance + own.epsilon)
    size = np.abs(gain) * np.sqrt(variance)
    return bool(np.abs(offset - mean * gain).max() <= 100 * size.max())


def flatten(model: keras.Model | Network, output: str | None = None) -> Network:
    """Walk through a model and its nested models, down to the logits.

    A softmax at the end is left out, so that gradients are those of logits: probabilities have
    none once the network is sure.

    Args:
        model: functional or Sequential, of one input (N, H, W, C), channels last; or what this
            function made of one already.
        output: of several outputs the layer that gives the logits; None for the only one.

    Raises:
        ValueError: another kind of model; several inputs; several outputs and none chosen;
            channels first; an end whose logits can't be had.
    """
    if isinstance(model, Network):
        return model
    if not _is_graph(model):
        raise ValueError(
            "Expected a functional model, or a Sequential one that is built. "
            f"Received: {type(model).__name__} {getattr(model, 'name', '')!r}; a Sequential is "
            "built by an Input or its first call, a subclassed model has no graph: build it from "
            "keras.Input and layers"
        )
    if len(model.inputs) != 1 or len(model.inputs[0].shape) != 4:
        shapes = [tuple(tensor.shape) for tensor in model.inputs]
        raise ValueError(f"Expected a model of one input (N, H, W, C). Received: inputs {shapes}")
    steps: list[Step] = []
    outputs = _walk(model, model.inputs, "", steps)
    for step in steps:
        if getattr(step.operation, "data_format", None) == "channels_first":
            raise ValueError(
                "Expected a model with channels last, (N, H, W, C). Received: channels first at "
                f"{step.path!r}; convert it, since heatmaps are means over the last axis"
            )
    chosen = _chosen(steps, outputs, output)
    logits = ends.logits(steps, chosen, model.inputs[0])
    if len(logits.shape) != 2 or logits.shape[-1] is None or logits.shape[-1] < 2:
        raise ValueError(
            "Expected logits of shape (N, classes), two classes or more. "
            f"Received: {tuple(logits.shape)}"
        )
    return Network(model.inputs[0], tuple(steps), chosen, logits)


def _is_graph(model: object) -> bool:
    """Whether a layer is a model made of a graph of layers, which can be walked through."""
    import keras

    functional = type(keras.Model(*[keras.Input((1,))] * 2))
    return isinstance(model, functional | keras.Sequential) and bool(getattr(model, "inputs", None))


class _WalkedError(Exception):
    """Every output is reached. The clone that Keras would then make of the walk is not wanted."""


def _walk(
    model: keras.Model, inputs: Sequence[keras.KerasTensor], prefix: str, steps: list[Step]
) -> list[keras.KerasTensor]:
    """Call every layer of ``model`` on ``inputs``, those of nested models too; its outputs.

    Keras' own cloning goes through the graph; the layers stay what they are, so their weights are
    shared. Markers behind the outputs tell where they have come to.
    """
    import keras

    markers = [keras.layers.Identity() for _ in model.outputs]
    marked = [marker(tensor) for marker, tensor in zip(markers, model.outputs, strict=True)]
    ends: dict[int, keras.KerasTensor] = {}
    calls: Counter[str] = Counter()

    def call(operation: Any, *args: Any, **kwargs: Any) -> Any:
        if operation in markers:
            ends[markers.index(operation)] = args[0]
            if len(ends) == len(markers):
                raise _WalkedError
            return args[0]
        calls[operation.name] += 1
        again = f"#{calls[operation.name]}" if calls[operation.name] > 1 else ""
        path = f"{prefix}{operation.name}{again}"
        if _is_graph(operation):
            tensors = [t for t in keras.tree.flatten([args, kwargs]) if hasattr(t, "shape")]
            outputs = _walk(operation, tensors, f"{path}/", steps)
            return keras.tree.pack_sequence_as(operation.output, outputs)
        output = operation(*args, **kwargs)
        steps.append(Step(path, operation, (args, kwargs), tuple(keras.tree.flatten(output))))
        return output

    with contextlib.suppress(_WalkedError):
        keras.models.clone_model(
            keras.Model(model.inputs, marked),
            input_tensors=list(inputs),
            clone_function=lambda layer: layer,
            call_function=call,
        )
    return [ends[i] for i in range(len(markers))]


def _chosen(
    steps: list[Step], outputs: list[keras.KerasTensor], name: str | None
) -> keras.KerasTensor:
    """The output of the model that is to be explained."""
    made_by = {id(step.output): step.path for step in steps}
    names = [made_by.get(id(tensor), "the input") for tensor in outputs]
    if name is None:
        if len(outputs) == 1:
            return outputs[0]
        raise ValueError(
            f"Expected output as one of {', '.join(names)}, the model's outputs "
            f"(flatten(model, output={names[0]!r}) chooses). Received: None"
        )
    if name not in names:
        raise ValueError(f"Expected output as one of {', '.join(names)}. Received: {name!r}")
    return outputs[names.index(name)]


def forget() -> None:
    """Give back what Keras keeps of graphs and names, or five networks pile up in memory."""
    if "keras" in sys.modules:
        sys.modules["keras"].utils.clear_session()
        gc.collect()
