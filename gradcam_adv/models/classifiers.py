"""Classifiers, a backbone and a dense head in one flat graph: building, saving and loading."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from gradcam_adv import untrusted
from gradcam_adv.files import write

if TYPE_CHECKING:
    import keras

HIDDEN_UNITS = 512
DROPOUT = 0.5
# Stands for the time of saving, so that files do not depend on it. It is the first date that a zip
# archive can hold.
_NO_DATE = (1980, 1, 1, 0, 0, 0)
_NO_DATE_SAVED = "1980-01-01@00:00:00"

# A file must store the weights of its model, up to a factor of 2 and this many bytes.
_SMALL = 1_000_000
# The largest output of a layer per image. VGG16 has 3 million at 224 px, 67 million at 1024 px.
_MOST_VALUES = 2**28

_WRITE = 'model.save("x.keras") writes one'
_SAVE = f"where the network was made, {_WRITE}"
_TRUST = (
    'if you trust it, convert it by keras.models.load_model("x.h5", compile=False).save("x.keras")'
)
# Other formats by the suffix, and what to do instead.
_INSTEAD = (
    ((".h5", ".hdf5"), f": an .h5 file of a whole model may run code when it is opened; {_TRUST}"),
    ((".pkl", ".pickle", ".joblib"), f": a pickle runs any code when it is opened; {_SAVE}"),
    (
        (".pt", ".pth", ".ckpt", ".bin", ".safetensors"),
        ": build the PyTorch network again in Keras and set its weights",
    ),
    ((".pb", ".tflite", ".onnx"), f": a compiled graph has no layers to explain; {_SAVE}"),
)


def features(base: keras.Model, pooling: Literal["average", "flatten"] = "average") -> keras.Model:
    """A model from pixels (N, H, W, 3) to features (N, F): a base with a pooling layer after it.

    The base gives feature maps (N, h, w, C). "average" takes the mean of each map, so F = C; with
    "flatten", F = h * w * C.
    """
    import keras

    kinds = {"average": keras.layers.GlobalAveragePooling2D, "flatten": keras.layers.Flatten}
    return keras.Model(base.inputs, kinds[pooling](name="pooling")(base.output))


def dense_head(feature_count: int, classes: int, seed: int) -> keras.Model:
    """A model from features (N, F) to logits: 512 ReLU units, dropout of 0.5, and the logits."""
    import keras

    seeds = keras.random.SeedGenerator(seed)

    def dense(units: int, name: str, activation: str | None = None) -> keras.layers.Dense:
        initializer = keras.initializers.GlorotUniform(seed=seeds)
        return keras.layers.Dense(units, activation, kernel_initializer=initializer, name=name)

    features = keras.Input((feature_count,), name="features")
    hidden = dense(HIDDEN_UNITS, "hidden", "relu")(features)
    dropped = keras.layers.Dropout(DROPOUT, seed=seed, name="dropout")(hidden)
    return keras.Model(features, dense(classes, "logits")(dropped), name="head")


def assemble(extractor: keras.Model, head: keras.Model) -> keras.Model:
    """A classifier from pixels to logits: the layers of an extractor, and copies of a head's."""
    import keras

    x = extractor.output
    for layer in head.layers[1:]:
        config = layer.get_config()
        if "kernel_initializer" in config:
            # Its seed has no use, because the weights are set below.
            config["kernel_initializer"] = "glorot_uniform"
        copy = type(layer).from_config(config)
        x = copy(x)
        copy.set_weights(layer.get_weights())
    return keras.Model(extractor.inputs, x)


# The layers of a head that have weights.
_OF_HEAD = ("hidden", "logits")


def head_weights(model: keras.Model) -> dict[str, np.ndarray]:
    """The weights of a head, or of the head of a classifier, by layer and number."""
    return {
        f"{name} {i}": values
        for name in _OF_HEAD
        for i, values in enumerate(model.get_layer(name).get_weights())
    }


def set_head(model: keras.Model, weights: Mapping[str, np.ndarray]) -> None:
    """Put the result of :func:`head_weights` into a head, or into a classifier."""
    for name in _OF_HEAD:
        model.get_layer(name).set_weights([weights[f"{name} {i}"] for i in range(2)])


def without_logits(
    model: keras.Model,
) -> tuple[keras.Model, Callable[[np.ndarray], np.ndarray]]:
    """A classifier that stops before its logits, and a function from its outputs to these.

    The classifier is one of :func:`assemble`; the outputs, float32 (N, 512), are the units of its
    hidden layer. A dense layer passes them on, since explainers refuse a model that ends in ReLU.
    """
    import keras

    last = model.layers[-1]
    kernel, bias = (weights.astype(np.float32) for weights in last.get_weights())
    same = keras.layers.Dense(len(kernel), use_bias=False, dtype=last.dtype_policy, name="units")
    outputs = same(last.input)
    same.set_weights([np.eye(len(kernel))])
    return keras.Model(model.inputs, outputs), lambda units: units @ kernel + bias


def save_model(model: keras.Model, path: Path, facts: dict[str, Any]) -> None:
    """Save a model, and facts about it as JSON beside it.

    The same model gives the same bytes. So results made with a model stay valid after it is
    deleted and trained again.

    Args:
        model: any Keras model.
        path: of the ``.keras`` file; the facts get the suffix ``.json`` instead.
        facts: values that JSON can hold.
    """
    with write.whole_file(path) as temporary:
        model.save(temporary)
        _normalize(temporary)
    write.json(path.with_suffix(".json"), facts)


def _normalize(path: Path) -> None:
    """Remove times and memory addresses from a ``.keras`` archive."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    numbers: dict[int, int] = {}

    def renumber(entry: dict[str, Any]) -> dict[str, Any]:
        """Shared objects are identified by their addresses; number them 1, 2, ... instead."""
        if "shared_object_id" in entry:
            address = entry["shared_object_id"]
            entry["shared_object_id"] = numbers.setdefault(address, len(numbers) + 1)
        return entry

    config = json.loads(members["config.json"], object_hook=renumber)
    metadata = json.loads(members["metadata.json"]) | {"date_saved": _NO_DATE_SAVED}
    members["config.json"] = json.dumps(config).encode()
    members["metadata.json"] = json.dumps(metadata).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name, _NO_DATE), content)


def load_model(path: Path | str) -> keras.Model:
    """Open a saved classifier in Keras' safe mode.

    The file may contain only layers of Keras, and classes that the program has registered with
    Keras; see :mod:`gradcam_adv.untrusted`. The model is not compiled; its ``loss`` is set only if
    that is a binary cross-entropy of logits, which says what a single unit at its end means.

    Raises:
        ValueError: the file is missing, is not a ``.keras`` file, holds something that could run
            code, or Keras can't open it.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "head.keras")
        ...     save_model(dense_head(4, classes=3, seed=0), path, {"classes": ["a", "b", "c"]})
        ...     model = load_model(path)
        >>> model.output_shape
        (None, 3)
    """
    path = Path(path)
    problem = ""
    if path.is_dir():
        problem = f"a folder; where a SavedModel's network was made, {_WRITE}"
    elif not path.is_file():
        problem = "no file"
    elif path.suffix != ".keras" or not zipfile.is_zipfile(path):
        instead = next((how for suffixes, how in _INSTEAD if path.suffix.lower() in suffixes), "")
        problem = f"not in that format{instead}"
    if problem:
        raise ValueError(f"Expected a .keras model file. Received: {path}, which is {problem}")
    try:
        with untrusted.checked(path, "model") as (copy, contents):
            model = _open(copy, contents)
    except ValueError as error:
        raise ValueError(
            f"Expected a .keras model file that Keras opens in safe mode. Received: {path}: {error}"
        ) from error
    import keras

    if not isinstance(model, keras.Model):
        raise ValueError(
            f"Expected a .keras model file. Received: {path}, which holds a {type(model).__name__}"
        )
    return model


def _open(path: Path, contents: untrusted.Contents) -> Any:
    """What Keras makes of a model file; ValueError if it can't or if it would be too large."""
    import keras
    from keras.src.saving.serialization_lib import SafeModeScope

    def plan() -> None:
        """Build the model without memory for its weights, and check how much it would take."""
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"), object_hook=_without_training)
        with SafeModeScope(True), keras.StatelessScope(initialize_variables=False):
            planned = keras.saving.deserialize_keras_object(config)
            if isinstance(planned, keras.Model) and planned.built:
                _check_size(planned, contents.bytes)

    try:
        # Classes of the user's may need values while they are built.
        if not contents.registered:
            # Keras counts names and lists variables by thread, so nothing of the plan is left here.
            with ThreadPoolExecutor(1) as thread:
                thread.submit(plan).result()
        # If the program has called keras.config.enable_unsafe_deserialization(), Keras ignores
        # safe_mode=True. The scope is not ignored.
        with SafeModeScope(True):
            model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises errors of many types for a damaged archive
        # Its message lists several errors, of which the last is the reason.
        why = str(error).rpartition("Exception encountered: ")[2].strip().split("\n")[0]
        raise ValueError(why) from error
    with zipfile.ZipFile(path) as archive:
        trained = json.loads(archive.read("config.json")).get("compile_config") or {}
    if _is_of_one_logit(trained.get("loss")):
        model.loss = keras.losses.BinaryCrossentropy(from_logits=True)
    return model


def _is_of_one_logit(loss: object) -> bool:
    """Whether this describes a binary cross-entropy of logits. Keras does not read it."""
    names = ("BinaryCrossentropy", "BinaryFocalCrossentropy")
    if not isinstance(loss, dict) or loss.get("class_name") not in names:
        return False
    config = loss.get("config")
    return isinstance(config, dict) and config.get("from_logits") is True


def _without_training(part: dict[str, Any]) -> dict[str, Any]:
    return part | {"compile_config": None} if "compile_config" in part else part


def _check_size(planned: keras.Model, stored: int) -> None:
    """ValueError if a model needs much more memory than its file stores."""
    import keras

    needed = sum(math.prod(v.shape) * np.dtype(v.dtype).itemsize for v in planned.variables)
    if needed > 2 * stored + _SMALL:
        raise ValueError(
            f"layers whose weights take {needed:,} bytes, of which the file stores {stored:,}"
        )
    for layer in _operations(planned):
        for output in keras.tree.flatten(layer.output):
            values = math.prod(size or 1 for size in output.shape[1:])
            if values > _MOST_VALUES:
                raise ValueError(
                    f"a layer {layer.name!r} with {values:,} numbers per image, more than "
                    f"{_MOST_VALUES:,}"
                )


def _operations(model: keras.Model) -> Iterator[keras.Operation]:
    """The layers and operations of a model and of the models in it."""
    import keras

    for operation in getattr(model, "operations", model.layers):
        if isinstance(operation, keras.Model):
            yield from _operations(operation)
        else:
            yield operation


def in_precision(model: keras.Model, precision: str) -> keras.Model:
    """A copy of a flat network that computes in another precision, a Keras dtype policy."""
    import keras

    def other(operation: Any) -> Any:
        # Operations of keras.ops compute in the precision of their input.
        policy = {"dtype": precision} if isinstance(operation, keras.layers.Layer) else {}
        return type(operation).from_config(operation.get_config() | policy)

    copy = keras.models.clone_model(model, clone_function=other)
    copy.set_weights(model.get_weights())
    return copy


def check_classes(model: keras.Model, facts: dict[str, Any], identities: Sequence[str]) -> None:
    """ValueError unless a model, or the ``facts`` beside it, has other classes than the photos."""
    classes = facts.get("classes")
    classes = classes if isinstance(classes, list) else []
    if classes != list(identities):
        raise ValueError(
            f"Expected a model whose classes are the {len(identities)} identities of the photos "
            f"({', '.join(list(identities)[:3])}, ...). Received: one with {len(classes)} classes "
            f"({', '.join(map(str, classes[:3]))}, ...)"
        )
    # A Sequential that was never called has no outputs.
    outputs = model.outputs[0].shape[-1] if getattr(model, "outputs", None) else None
    if outputs != len(identities):
        raise ValueError(
            f"Expected a model with {len(identities)} logits, one per class. Received: {outputs}"
        )
