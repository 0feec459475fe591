"""A backbone and a dense head as one flat graph from pixels to logits; save and load it."""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gradcam_adv.files import artifacts, untrusted

if TYPE_CHECKING:
    import keras

HIDDEN_UNITS = 512
DROPOUT = 0.5
# What stands where Keras writes down the time of saving: the first that a zip archive can.
_NO_DATE = (1980, 1, 1, 0, 0, 0)
_NO_DATE_SAVED = "1980-01-01@00:00:00"

_SAVE = 'where the network was made, model.save("x.keras") writes one'
# Other formats by the end of the name, and what to do instead.
_INSTEAD = (
    ((".h5", ".hdf5"), f": an .h5 file of a whole model may run code when it is opened; {_SAVE}"),
    ((".pkl", ".pickle", ".joblib"), f": a pickle runs any code when it is opened; {_SAVE}"),
    (
        (".pt", ".pth", ".ckpt", ".bin", ".safetensors"),
        ": a network of PyTorch's has to be built anew in Keras, and its weights set",
    ),
    ((".pb", ".tflite", ".onnx"), f": a compiled graph has no layers to explain; {_SAVE}"),
)


def features(base: keras.Model, pooling: Literal["average", "flatten"] = "average") -> keras.Model:
    """The frozen base with what stands between it and the dense layers: the head's input.

    Returns:
        Model from pixels (N, H, W, 3) to features (N, F).
    """
    import keras

    layer = (
        keras.layers.GlobalAveragePooling2D(name="pooling")
        if pooling == "average"
        else keras.layers.Flatten(name="pooling")
    )
    return keras.Model(base.inputs, layer(base.output))


def dense_head(feature_count: int, classes: int, seed: int) -> keras.Model:
    """Dense 512 ReLU, dropout and the layer ``logits``, from features (N, F) to (N, classes)."""
    import keras

    seeds = keras.random.SeedGenerator(seed)
    inputs = keras.Input((feature_count,), name="features")
    hidden = keras.layers.Dense(
        HIDDEN_UNITS,
        activation="relu",
        kernel_initializer=keras.initializers.GlorotUniform(seed=seeds),
        name="hidden",
    )(inputs)
    dropped = keras.layers.Dropout(DROPOUT, seed=seed, name="dropout")(hidden)
    logits = keras.layers.Dense(
        classes, kernel_initializer=keras.initializers.GlorotUniform(seed=seeds), name="logits"
    )(dropped)
    return keras.Model(inputs, logits, name="head")


def assemble(extractor: keras.Model, head: keras.Model) -> keras.Model:
    """The classifier from pixels to logits, one flat graph, with copies of the head's weights."""
    import keras

    x = extractor.output
    for layer in head.layers[1:]:
        copy = type(layer).from_config(_unseeded(layer.get_config()))
        x = copy(x)
        copy.set_weights(layer.get_weights())
    return keras.Model(extractor.inputs, x)


def _unseeded(config: dict[str, Any]) -> dict[str, Any]:
    # The weights are set right after, and a saved SeedGenerator only makes the file harder to read.
    if "kernel_initializer" in config:
        config["kernel_initializer"] = "glorot_uniform"
    return config


def save(model: keras.Model, path: Path, facts: dict[str, Any]) -> None:
    """Write ``path`` (.keras) and, beside it, what is known of the model as JSON.

    The same model gives the same bytes, so what was made with it still holds after it was deleted
    and trained anew.
    """
    with artifacts.whole_file(path) as temporary:
        model.save(temporary)
        _normalize(temporary)
    artifacts.write_json(path.with_suffix(".json"), facts)


def _normalize(path: Path) -> None:
    """Write a ``.keras`` archive anew without the times and memory addresses in it."""
    # A file without a name: nothing is left of it, however this ends.
    with tempfile.TemporaryFile(dir=path.parent) as copy:
        with zipfile.ZipFile(path) as saved, zipfile.ZipFile(copy, "w") as normal:
            for name in saved.namelist():
                entry = zipfile.ZipInfo(name, _NO_DATE)
                if name == "metadata.json":
                    metadata = json.loads(saved.read(name)) | {"date_saved": _NO_DATE_SAVED}
                    normal.writestr(entry, json.dumps(metadata))
                elif name == "config.json":
                    normal.writestr(entry, _renumber(saved.read(name)))
                else:
                    with saved.open(name) as source, normal.open(entry, "w") as target:
                        shutil.copyfileobj(source, target)
        copy.seek(0)
        with path.open("wb") as file:
            shutil.copyfileobj(copy, file)


def _renumber(config: bytes) -> str:
    """Objects that layers share are told apart by addresses in memory; count them instead."""
    numbers: dict[int, int] = {}

    def count(entry: dict[str, Any]) -> dict[str, Any]:
        if "shared_object_id" in entry:
            address = entry["shared_object_id"]
            entry["shared_object_id"] = numbers.setdefault(address, len(numbers) + 1)
        return entry

    return json.dumps(json.loads(config, object_hook=count))


def load(path: Path | str) -> keras.Model:
    """Open a saved classifier in Keras' safe mode.

    The file has to be made of Keras' own layers, or of classes that the caller's program itself
    has registered with Keras; see :mod:`gradcam_adv.files.untrusted`.

    Raises:
        ValueError: the file is missing, no ``.keras`` file, holds what could run code, or Keras
            won't open it.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(
            f"Expected a .keras model file. Received: {path}, which is a folder; where a "
            'SavedModel\'s network was made, model.save("x.keras") writes it as such a file'
        )
    if not path.is_file():
        raise ValueError(f"Expected a .keras model file. Received: {path}, which is no file")
    if path.suffix != ".keras" or not zipfile.is_zipfile(path):
        instead = next((how for suffixes, how in _INSTEAD if path.suffix.lower() in suffixes), "")
        raise ValueError(
            f"Expected a .keras model file. Received: {path}, which is not in that format{instead}"
        )
    untrusted.check_model(path)
    import keras
    from keras.src.saving.serialization_lib import SafeModeScope

    try:
        # A program that called keras.config.enable_unsafe_deserialization() has thereby turned
        # the argument off; the scope holds here all the same.
        with SafeModeScope(True):
            model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises many kinds for a damaged archive
        # The last error of those that it tells of is the reason.
        why = str(error).rpartition("Exception encountered: ")[2].strip().split("\n")[0]
        raise ValueError(
            f"Expected a .keras model file that Keras opens in safe mode. Received: {path}: {why}"
        ) from error
    if not isinstance(model, keras.Model):
        raise ValueError(
            f"Expected a .keras model file. Received: {path}, which holds a {type(model).__name__}"
        )
    return model


def in_precision(model: keras.Model, precision: str) -> keras.Model:
    """The same network computing in another precision, on copies of its weights.

    Args:
        model: functional, flat.
        precision: a dtype policy of Keras', such as "mixed_float16"; weights stay float32 in it.
    """
    import keras

    def other(operation: Any) -> Any:
        # Operations of keras.ops compute in what they are given.
        policy = {"dtype": precision} if isinstance(operation, keras.layers.Layer) else {}
        return type(operation).from_config(operation.get_config() | policy)

    copy = keras.models.clone_model(model, clone_function=other)
    copy.set_weights(model.get_weights())
    return copy


def check_classes(model: keras.Model, facts: dict[str, Any], identities: Sequence[str]) -> None:
    """ValueError when a model's classes are not the identities of the photos."""
    classes = facts.get("classes")
    if classes != list(identities):
        received = len(classes) if isinstance(classes, list) else classes
        raise ValueError(
            f"Expected a model whose classes are the {len(identities)} identities of the photos "
            f"({', '.join(list(identities)[:3])}, ...). Received: one with {received} classes "
            f"({', '.join(map(str, (classes or [])[:3]))}, ...)"
        )
    outputs = model.output_shape[-1]
    if outputs != len(identities):
        raise ValueError(
            f"Expected a model with {len(identities)} logits, one a class. Received: {outputs}"
        )
