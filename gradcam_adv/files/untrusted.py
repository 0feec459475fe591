"""Models and weights from anybody: what is looked at before Keras opens a file.

Keras' safe mode refuses code in a file, and was got round several times. So a file also has to
consist of what Keras itself writes for its own layers, and nothing else: an attack that is not
known yet mostly needs something that is not in these lists.
"""

from __future__ import annotations

import io
import json
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import h5py

# What Keras writes into a .keras file; vocabularies of lookup layers lie among the assets.
CONFIG, WEIGHTS = "config.json", "model.weights.h5"
_MEMBERS = {CONFIG, WEIGHTS, "metadata.json"}
# A description of a model is some 100 kB; InceptionResNetV2's is 1 MB.
_CONFIG_BYTES = 64_000_000
# Weights hardly shrink, and are stored as they are; a bomb grows by 1000 from next to nothing.
_EXPANSION, _SMALL = 20, 1_000_000

# Modules that Keras names for its own classes in a model's description.
_MODULES = {
    *("keras", "keras.constraints", "keras.dtype_policies", "keras.initializers", "keras.layers"),
    *("keras.losses", "keras.metrics", "keras.optimizers", "keras.optimizers.schedules"),
    *("keras.quantizers", "keras.random", "keras.regularizers", "keras.src.models.functional"),
}
_MODULES_BELOW = ("keras.src.applications.", "keras.src.ops.")
# Modules with functions that stand for an activation, a loss and the like.
_FUNCTIONS = {
    *("builtins", "keras.activations", "keras.constraints", "keras.initializers"),
    *("keras.losses", "keras.metrics", "keras.regularizers"),
}
# Values, which Keras writes like classes.
_VALUES = {
    *("__keras_tensor__", "__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__slice__"),
}
_CODE = "which is Python code that opening the file would run"
_REFUSED = {
    "__lambda__": f"a lambda function, {_CODE}",
    "Lambda": f"a Lambda layer, {_CODE}",
    "TorchModuleWrapper": "a TorchModuleWrapper layer, which is a pickle that may run any code",
    "TFSMLayer": "a TFSMLayer, which opens another file with a graph of its own",
    "JaxLayer": f"a JaxLayer, {_CODE}",
    "FlaxLayer": f"a FlaxLayer, {_CODE}",
}
_REMEDY = "build it anew from Keras' own layers or operations"


class _Refused(ValueError):
    """The message is the reason alone."""


def check_model(path: Path) -> None:
    """Refuse a ``.keras`` file of other things than Keras writes for its own layers; no import.

    Args:
        path: of an existing zip archive.

    Raises:
        ValueError: one line on what is wrong: a damaged archive or description, a bomb, a name
            that leads elsewhere, weights with links, or a class or function that is not Keras' own,
            that runs code or that opens files.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(archive, path.stat().st_size)
            _check_config(archive.read(CONFIG))
            _check_hdf5(io.BytesIO(archive.read(WEIGHTS)))
    except _Refused as error:
        why = str(error)
    except Exception as error:  # zipfile raises nearly anything on damaged archives
        why = f"a damaged archive: {error}"
    else:
        return
    raise ValueError(
        f"Expected a .keras model file that Keras opens in safe mode. Received: {path}: {why}"
    )


def check_weights(path: Path, title: str) -> None:
    """Refuse an HDF5 file that is more, or less, than the weights of a network; no import.

    Args:
        path: of the file.
        title: of the network, for the message.

    Raises:
        ValueError: no such file, no HDF5, truncated, a whole model, or one that leads to others.
    """
    try:
        with path.open("rb") as file:
            _check_hdf5(file, weights_only=True)
    except _Refused as error:
        why = str(error)
    except OSError as error:
        why = str(error.strerror)
    else:
        return
    raise ValueError(f"Expected weights of {title} without top. Received: {path}: {why}")


def _check_members(archive: zipfile.ZipFile, size: int) -> None:
    members = archive.infolist()
    names = [member.filename for member in members]
    for name in names:
        inside = name.startswith("assets/") and ".." not in name.split("/") and "\\" not in name
        if name not in _MEMBERS and not inside:
            raise _Refused(f"an archive that holds {_shown(name)}, which Keras writes in none")
    for name in (CONFIG, WEIGHTS):
        if names.count(name) != 1:
            raise _Refused(f"an archive with {names.count(name)} files {name}, not one")
    if sum(member.compress_size for member in members) > size:
        raise _Refused("an archive whose files overlap, as those of a bomb do")
    for member in members:
        if member.file_size > max(_SMALL, _EXPANSION * member.compress_size):
            raise _Refused(
                f"an archive in which {_shown(member.filename)} grows from "
                f"{member.compress_size:,} to {member.file_size:,} bytes, as a bomb does"
            )
    if archive.getinfo(CONFIG).file_size > _CONFIG_BYTES:
        raise _Refused(f"a {CONFIG} of more than {_CONFIG_BYTES:,} bytes")


def _check_config(content: bytes) -> None:
    try:
        config = json.loads(content)
    except RecursionError:
        raise _Refused(f"a {CONFIG} nested too deep") from None
    except ValueError as error:
        raise _Refused(f"a {CONFIG} that is no JSON: {error}") from None
    if not isinstance(config, dict) or "class_name" not in config:
        raise _Refused(f"a {CONFIG} that describes no model")
    # How it is to be trained may name anything: it is passed over in opening.
    for part in _objects(config | {"compile_config": None}):
        if "class_name" in part:
            _check_class(part)
        if isinstance(part.get("vocabulary"), str):
            raise _Refused(
                f"a lookup layer that reads the file {_shown(part['vocabulary'])}; "
                "give the layer its words themselves"
            )


def _objects(content: object) -> Iterator[dict[str, Any]]:
    """All JSON objects in ``content``, at any depth."""
    waiting = [content]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            yield part
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part


def _check_class(part: dict[str, Any]) -> None:
    name, module = part["class_name"], part.get("module")
    if not isinstance(name, str):
        raise _Refused(f"a class called {_shown(name)}")
    if name in _REFUSED:
        raise _Refused(f"{_REFUSED[name]}; {_REMEDY}")
    if name == "function":
        called = part.get("config")
        if module not in _FUNCTIONS and not _is_registered(called):
            raise _Refused(
                f"a function {_shown(called)} of {_shown(module)}, which is not one of Keras' "
                f"activations and the like; {_REMEDY}"
            )
    elif name not in _VALUES and not _is_own(module) and not _is_registered(_key(part)):
        raise _Refused(
            f"a class {_shown(name)} of {_shown(module)}, which is not Keras' own and whose code "
            f"is not in the file; {_REMEDY}"
        )


def _is_own(module: object) -> bool:
    return isinstance(module, str) and (module in _MODULES or module.startswith(_MODULES_BELOW))


def _key(part: dict[str, Any]) -> object:
    return part.get("registered_name", part["class_name"])


def _is_registered(name: object) -> bool:
    """Whether the caller's own program has given Keras a class or function of this name."""
    keras = sys.modules.get("keras")
    return (
        keras is not None
        and isinstance(name, str)
        and keras.saving.get_registered_object(name) is not None
    )


def _check_hdf5(file: IO[bytes], weights_only: bool = False) -> None:
    """Refuse HDF5 with links, data in other files, or more data than there can be."""
    try:
        with h5py.File(file, "r") as content:
            if weights_only and ("model_config" in content.attrs or "model_weights" in content):
                raise _Refused(
                    "a whole model, of which only the weights are wanted, for the rest may hold "
                    'code; where it was made, model.save_weights("x.weights.h5") writes them'
                )
            for group in _groups(content):
                for name in group:
                    _check_entry(group, name)
    except _Refused:
        raise
    except Exception as error:  # h5py raises nearly anything on damaged files
        raise _Refused(f"damaged or no HDF5: {error}") from None


def _groups(content: h5py.Group) -> Iterator[h5py.Group]:
    """All groups, each once, though hard links may lead round in a circle."""
    waiting, seen = [content], set()
    while waiting:
        group = waiting.pop()
        address = h5py.h5o.get_info(group.id).addr
        if address in seen:
            continue
        seen.add(address)
        yield group  # whose links are looked at before any is followed
        waiting += [entry for entry in group.values() if isinstance(entry, h5py.Group)]


def _check_entry(group: h5py.Group, name: str) -> None:
    shown = _shown(f"{group.name}/{name}")
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise _Refused(f"weights with a link at {shown} that may lead to another file")
    entry = group[name]
    if not isinstance(entry, h5py.Dataset):
        return
    if entry.external or entry.is_virtual:
        raise _Refused(f"weights whose numbers at {shown} are in another file")
    stored = entry.id.get_storage_size()
    if entry.nbytes > max(_SMALL, _EXPANSION * stored):
        raise _Refused(
            f"weights that grow at {shown} from {stored:,} to {entry.nbytes:,} bytes, as a bomb "
            "does"
        )


def _shown(value: object) -> str:
    """What a file says, for a message: on one line, not long, without control characters."""
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
