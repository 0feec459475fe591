"""Checks of model and weights files that may come from anybody, before Keras opens them.

Keras' safe mode refuses code in a file, but it was bypassed several times. So these checks accept
only what Keras writes for its own layers. Most attacks, also unknown ones, need something that is
not in the lists below.
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

# The files in a .keras archive. Vocabularies of lookup layers are in the folder assets.
CONFIG, WEIGHTS = "config.json", "model.weights.h5"
_MEMBERS = {CONFIG, WEIGHTS, "metadata.json"}
# The largest description of a model that is read. Most have about 100 kB, InceptionResNetV2's 1 MB.
_CONFIG_BYTES = 64_000_000
# How much data may grow when it is unpacked, if it has more than _SMALL bytes. Keras stores weights
# uncompressed, and they hardly shrink; a bomb grows by a factor of 1000.
_EXPANSION, _SMALL = 20, 1_000_000

# The modules of Keras' classes, as the description of a model names them.
_MODULES = {
    *("keras", "keras.constraints", "keras.dtype_policies", "keras.initializers", "keras.layers"),
    *("keras.losses", "keras.metrics", "keras.optimizers", "keras.optimizers.schedules"),
    *("keras.quantizers", "keras.random", "keras.regularizers", "keras.src.models.functional"),
}
_MODULES_BELOW = ("keras.src.applications.", "keras.src.ops.")
# The modules of functions for activations, losses and so on.
_FUNCTIONS = {
    *("builtins", "keras.activations", "keras.constraints", "keras.initializers"),
    *("keras.losses", "keras.metrics", "keras.regularizers"),
}
# Values that Keras writes as if they were classes.
_VALUES = {
    *("__keras_tensor__", "__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__slice__"),
}
_CODE = "which is Python code that opening the file would run"
_REFUSED = {
    "__lambda__": f"a lambda function, {_CODE}",
    "Lambda": f"a Lambda layer, {_CODE}",
    "TorchModuleWrapper": "a TorchModuleWrapper layer, which is a pickle that may run any code",
    "TFSMLayer": "a TFSMLayer, which opens another file with another graph",
    "JaxLayer": f"a JaxLayer, {_CODE}",
    "FlaxLayer": f"a FlaxLayer, {_CODE}",
}
_REMEDY = "build the model again from Keras layers or operations"


class _Refused(ValueError):
    """A file is refused. The message holds only the reason, without the path."""


def check_model(path: Path) -> None:
    """Check that a ``.keras`` file holds only what Keras writes for its own layers.

    ValueError for a damaged archive or description, a decompression bomb, a file name that Keras
    does not write, such as one outside the archive, weights with links, or a class or function that
    is not part of Keras, runs code or opens files. Keras is not imported.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(archive, path.stat().st_size)
            _check_config(archive.read(CONFIG))
            _check_hdf5(io.BytesIO(archive.read(WEIGHTS)))
    except _Refused as error:
        why = str(error)
    except Exception as error:  # zipfile raises errors of many types for damaged archives
        why = f"a damaged archive: {error}"
    else:
        return
    raise ValueError(
        f"Expected a .keras model file that Keras opens in safe mode. Received: {path}: {why}"
    )


def check_weights(path: Path, title: str) -> None:
    """Check that an HDF5 file holds weights and nothing else; ``title`` names the network.

    ValueError if it does not exist, is not HDF5, is truncated, holds a whole model, or has links to
    other files. Whether the weights fit the network is not checked here. Keras is not imported.
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
            raise _Refused(f"an archive that holds {_shown(name)}, which Keras never writes")
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
    # compile_config may hold anything, because Keras does not read it: compile=False.
    for part in _objects(config | {"compile_config": None}):
        if "class_name" in part:
            _check_class(part)
        if isinstance(part.get("vocabulary"), str):
            raise _Refused(
                f"a lookup layer that reads the file {_shown(part['vocabulary'])}; "
                "give the layer a list of words instead"
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
    elif (
        name not in _VALUES
        and not _is_of_keras(module)
        and not _is_registered(part.get("registered_name", name))
    ):
        raise _Refused(
            f"a class {_shown(name)} of {_shown(module)}, which is not part of Keras and whose "
            f"code is not in the file; {_REMEDY}"
        )


def _is_of_keras(module: object) -> bool:
    return isinstance(module, str) and (module in _MODULES or module.startswith(_MODULES_BELOW))


def _is_registered(name: object) -> bool:
    """Whether the program has registered a class or function with Keras under this name."""
    keras = sys.modules.get("keras")
    return (
        keras is not None
        and isinstance(name, str)
        and keras.saving.get_registered_object(name) is not None
    )


def _check_hdf5(file: IO[bytes], weights_only: bool = False) -> None:
    """Refuse HDF5 files with links, data in other files, or data like that of a bomb."""
    try:
        with h5py.File(file, "r") as content:
            if weights_only and ("model_config" in content.attrs or "model_weights" in content):
                raise _Refused(
                    "a whole model, but only its weights are allowed, because the rest may hold "
                    'code; where it was made, model.save_weights("x.weights.h5") writes them'
                )
            for group in _groups(content):
                for name in group:
                    _check_entry(group, name)
    except _Refused:
        raise
    except Exception as error:  # h5py raises errors of many types for damaged files
        raise _Refused(f"damaged or no HDF5: {error}") from None


def _groups(content: h5py.Group) -> Iterator[h5py.Group]:
    """All groups, each once, even if hard links form a circle."""
    waiting, seen = [content], set()
    while waiting:
        group = waiting.pop()
        address = h5py.h5o.get_info(group.id).addr
        if address in seen:
            continue
        seen.add(address)
        yield group  # the caller checks its links before they are followed
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
    """Text from a file for a message: on one line, short, without control characters."""
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
