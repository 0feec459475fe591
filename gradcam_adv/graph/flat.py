"""A model made flat: the calls of all its layers, of nested models too, down to the logits."""

from __future__ import annotations

import contextlib
import functools
import operator
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from gradcam_adv.batching import errors_of_models
from gradcam_adv.graph import logits
from gradcam_adv.graph.call import Call
from gradcam_adv.graph.kept import kept
from gradcam_adv.graph.pixels import GIVEN, RANGES, Pixels, from_unit, told
from gradcam_adv.graph.places import Places, places
from gradcam_adv.validation import check_choice


@dataclass(frozen=True)
class FlatGraph:
    """A classifier as one flat graph. It shares the weights of the model it was made from.

    Attributes:
        input: images (None, H, W, C), values in [0, 1].
        pixels: those that the model takes; the first of ``calls`` makes them.
        calls: in an order in which they can be made.
        output: of the model: logits, or what its end makes of them.
        logits: (None, classes). Behind a dense layer with a softmax they come from a copy of its
            weights, whose call stands at the end; so flatten again after training.
        independent: whether each class is a label of its own, yes or no, and not one of several.
        copies: such layers, each with its copy.
        of_pairs: whether classes 2 j and 2 j + 1 say "different from image j" and "the same", as of
            :func:`gradcam_adv.verifier`.
    """

    input: keras.KerasTensor
    pixels: Pixels
    calls: tuple[Call, ...]
    output: keras.KerasTensor
    logits: keras.KerasTensor
    independent: bool = False
    copies: tuple[tuple[keras.layers.Layer, keras.layers.Layer], ...] = ()
    of_pairs: bool = False

    @property
    def classes(self) -> int:
        return int(self.logits.shape[-1])

    @functools.cached_property
    def layers(self) -> tuple[Call, ...]:
        """The calls that have a heatmap, in the order of the graph; see ``graph.places``."""
        return tuple(call for call in self.calls if id(call) not in self.places.reasons)

    @functools.cached_property
    def places(self) -> Places:
        """Why the other calls have none, and which tokens of a sequence are a grid."""
        return places(self.input, self.calls, self.output)

    def as_map(self, layer: Call, values: Any) -> Any:
        """Values of the shape of a layer's output as (N, h, w, C); of tokens, those of the grid."""
        grid = self.places.grids.get(id(layer.output))
        return values if grid is None else grid.of(values)

    def map_shape(self, layer: Call) -> tuple[int | None, ...]:
        """(h, w, C) of :meth:`as_map`."""
        grid = self.places.grids.get(id(layer.output))
        return layer.shape[1:] if grid is None else (*grid.size, layer.shape[-1])

    @functools.cached_property
    def classifier(self) -> keras.Model:
        """The model from images in [0, 1] to the logits; one model, so it is compiled once."""
        return keras.Model(self.input, self.logits)

    def predicted(self, logits: np.ndarray, explained: np.ndarray) -> np.ndarray:
        """The class of the highest logit, int (n,); of pairs, of the two of the class explained."""
        if not self.of_pairs:
            return logits.argmax(axis=1)
        two = explained[:, None] // 2 * 2 + np.arange(2)
        return two[:, 0] + np.take_along_axis(logits, two, axis=1).argmax(axis=1)

    def title(self, predicted: int) -> str:
        """A class in words."""
        return ("different", "same")[predicted % 2] if self.of_pairs else f"class {predicted}"

    @functools.cached_property
    def compiled(self) -> dict[Hashable, Any]:
        """What was compiled for this graph, by what it depends on; see ``graph.kept``."""
        return {}


class _Graphs:
    """The graphs of a model, by the arguments of :func:`flatten`, each with what it was made of.

    They are an attribute of the model, and end with it; from a dictionary elsewhere they would hold
    it. Keras saves attributes that are layers or dictionaries, and so not this one.
    """

    ATTRIBUTE = "_graphs_of_gradcam_adv"

    def __init__(self) -> None:
        self.made: dict[Hashable, tuple[FlatGraph, list[Any]]] = {}


def flatten(
    model: keras.Model | FlatGraph,
    output: str | None = None,
    *,
    pixels: str | None = None,
    size: Sequence[int] | None = None,
    one_logit: bool | None = None,
) -> FlatGraph:
    """Flatten a classifier and its nested models, from images in [0, 1] to the logits.

    If the model takes other pixels, they are made of those in [0, 1] first, so an epsilon is always
    a fraction of the range. A softmax or sigmoid at the end is left out, so gradients are those of
    logits: gradients of probabilities fade to zero when the network is sure. The logit z of a
    single sigmoid becomes the logits ``[-z / 2, z / 2]`` of two classes.

    The graph is kept while the model lives, with what is compiled for it; so a second call is
    quick. It is made again if a layer, a variable, an activation or the loss is another one. Values
    of weights may change: they are shared, and copies of them are set again here.

    Args:
        model: functional or Sequential, with one input (N, H, W, C), channels last. A FlatGraph is
            returned as it is.
        output: of several outputs, the name of the layer that gives the logits; None for the only
            one.
        pixels: which the model takes, "0..1", "0..255" or "-1..1"; None for those that its first
            layers tell (see ``graph.pixels``), else 0..1, or 0..255 for an input of whole numbers.
        size: height and width of the images, for a model that takes several sizes.
        one_logit: whether a single unit without a sigmoid is the logit of one; None for whether the
            model was compiled with a binary cross-entropy of logits. It may be a regression.

    Raises:
        ValueError: another kind of model, several inputs, an input of neither floats nor whole
            numbers, several outputs of which none is chosen, channels first, or an end of which the
            logits are not known.

    Example:
        >>> import keras
        >>> model = keras.Sequential(
        ...     [
        ...         keras.Input((8, 8, 3)),
        ...         keras.layers.Rescaling(1 / 255),
        ...         keras.layers.Conv2D(4, 3, name="conv"),
        ...         keras.layers.Flatten(),
        ...         keras.layers.Dense(2, activation="softmax"),
        ...     ]
        ... )
        >>> graph = flatten(model)
        >>> [layer.path for layer in graph.layers], graph.pixels.range
        (['conv'], '0..255')
    """
    if isinstance(model, FlatGraph):
        return model
    _check_has_graph(model)
    graphs = vars(model).setdefault(_Graphs.ATTRIBUTE, _Graphs()).made
    key = repr((output, pixels, size, one_logit))
    if key in graphs:
        graph, made_of = graphs[key]
        now = _made_of(model, graph.calls)
        if len(now) != len(made_of) or not all(map(operator.is_, now, made_of)):
            del graphs[key]
        else:
            for layer, copy in graph.copies:
                copy.set_weights(layer.get_weights())

    def make() -> tuple[FlatGraph, list[Any]]:
        graph = _flattened(model, output, pixels, size, one_logit)
        return graph, _made_of(model, graph.calls)

    return kept(graphs, key, make)[0]


def _flattened(
    model: keras.Model,
    output: str | None,
    pixels: str | None,
    size: Sequence[int] | None,
    one_logit: bool | None,
) -> FlatGraph:
    graph = without_end(model, output, pixels=pixels, size=size)
    if one_logit is None:
        one_logit = _compiled_for_one_logit(model)
    calls = list(graph.calls)
    end = logits.behind(calls, graph.output, graph.input, one_logit=one_logit)
    layers = {call.path: call.operation for call in graph.calls}
    added = calls[len(graph.calls) :]
    copies = tuple((layers[c.path], c.operation) for c in added if c.path in layers)
    return replace(
        graph,
        calls=tuple(calls),
        logits=end.tensor,
        independent=end.independent,
        copies=copies,
    )


def without_end(
    model: keras.Model,
    output: str | None,
    *,
    pixels: str | None,
    size: Sequence[int] | None,
) -> FlatGraph:
    """As :func:`flatten`, with the model's output, whatever it is, in the place of the logits."""
    if pixels is not None:
        check_choice("pixels", pixels, list(RANGES))
    _check_has_graph(model)
    if len(model.inputs) != 1 or len(model.inputs[0].shape) != 4:
        shapes = [tuple(tensor.shape) for tensor in model.inputs]
        of_two = "; to compare two images, give the part that both share, with --pairs"
        raise ValueError(
            f"Expected a model of one input (N, H, W, C). Received: inputs {shapes}"
            + of_two * (len(shapes) == 2 and shapes[0] == shapes[1])
        )
    image = _image(model.inputs[0], size)
    calls: list[Call] = []
    outputs = _walk(model, [image], "", calls)
    if pixels is not None:
        found = Pixels(pixels, GIVEN)
    elif not keras.backend.is_float_dtype(model.inputs[0].dtype):
        found = Pixels("0..255", f"since its input is of {model.inputs[0].dtype}")
    else:
        found = told(image, calls)
    if found.range != "0..1":
        image = keras.Input(image.shape[1:], dtype="float32")
        calls = [from_unit(image, found.range)]
        outputs = _walk(model, [calls[0].output], "", calls)
    for call in calls:
        if getattr(call.operation, "data_format", None) == "channels_first":
            raise ValueError(
                "Expected a model with channels last, (N, H, W, C). Received: channels first at "
                f"{call.path!r}; convert it, since heatmaps are sums over the last axis"
            )
    if image.dtype != model.inputs[0].dtype:
        _check_cast(model, keras.Model(image, outputs), found)
    chosen = _chosen(calls, outputs, output)
    return FlatGraph(image, found, tuple(calls), chosen, chosen)


def _made_of(model: keras.Model, calls: Sequence[Call]) -> list[Any]:
    """Objects that are others if a graph has to be made again.

    Compiled functions see new values of weights, so these are not among them. Two exceptions: on
    JAX new values are new arrays, and a Normalization that is adapted gets new constants.
    """
    operations = [call.operation for call in calls]
    normalizations = [o for o in operations if isinstance(o, keras.layers.Normalization)]
    return [
        *model.outputs,
        getattr(model, "loss", None),
        *(variable.value for variable in model.variables),
        *(getattr(operation, "activation", None) for operation in operations),
        *(value for layer in normalizations for value in (layer.mean, layer.variance)),
    ]


def _image(given: keras.KerasTensor, size: Sequence[int] | None) -> keras.KerasTensor:
    """The model's input; a new one if it has to be of floats or of a fixed size."""
    shape = tuple(given.shape)
    if size is not None:
        height, width = size
        sizes = zip(shape[1:3], (height, width), strict=True)
        if any(own not in (None, wanted) for own, wanted in sizes):
            raise ValueError(
                f"Expected size as the model's, {shape[1]} x {shape[2]}. "
                f"Received: {height} x {width}"
            )
        shape = (shape[0], height, width, shape[3])
    if keras.backend.is_float_dtype(given.dtype):
        return given if shape == tuple(given.shape) else keras.Input(shape[1:], dtype=given.dtype)
    if not keras.backend.is_int_dtype(given.dtype):
        raise ValueError(
            "Expected a model of images as floats or whole numbers. "
            f"Received: an input of dtype {given.dtype}"
        )
    return keras.Input(shape[1:], dtype="float32")


def _check_cast(model: keras.Model, ours: keras.Model, pixels: Pixels) -> None:
    """ValueError unless a model of whole numbers gives the same for them as floats."""
    low, high = RANGES[pixels.range]
    shape = [2, *(64 if size is None else size for size in ours.input_shape[1:])]
    whole = np.random.default_rng(0).integers(int(low), int(high) + 1, shape)
    unit = ((whole - low) / (high - low)).astype(np.float32)
    with errors_of_models(TypeError):
        expected = model.predict_on_batch(whole.astype(model.inputs[0].dtype))
        given = ours.predict_on_batch(unit)
    pairs = zip(keras.tree.flatten(expected), keras.tree.flatten(given), strict=True)
    if not all(np.allclose(a, b, rtol=1e-2, atol=1e-4) for a, b in pairs):
        raise ValueError(
            f"Expected a model that gives the same for pixels of {model.inputs[0].dtype} and for "
            "the same numbers as floats, which have a gradient. Received: other outputs"
        )


def _compiled_for_one_logit(model: keras.Model) -> bool:
    losses = keras.tree.flatten(getattr(model, "loss", None))
    kinds = (keras.losses.BinaryCrossentropy, keras.losses.BinaryFocalCrossentropy)
    return any(isinstance(loss, kinds) and loss.from_logits for loss in losses)


def _check_has_graph(model: keras.Model) -> None:
    if not _has_graph(model):
        raise ValueError(
            "Expected a functional model, or a Sequential one that is built. "
            f"Received: {type(model).__name__} {getattr(model, 'name', '')!r}; a Sequential is "
            "built by an Input or its first call, a subclassed model has no graph: build it from "
            "keras.Input and layers"
        )


def _has_graph(model: object) -> bool:
    """Whether this is a model made of a graph of layers."""
    kinds = _functional() | keras.Sequential
    return isinstance(model, kinds) and bool(getattr(model, "inputs", None))


@functools.cache
def _functional() -> type[keras.Model]:
    """The class of functional models, which Keras does not export."""
    # With names of its own, or those that Keras counts would depend on when this was first called.
    return type(keras.Model(*[keras.Input((1,), name="input")] * 2, name="functional_model"))


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
