"""The checks of a model or weights file, run as a program of its own that may crash.

Only what Keras writes for its own layers is accepted: the classes in ``known.json`` and numbers
in HDF5. Keras is not imported. What it needs of the machine is limited.
"""

from __future__ import annotations

import json
import resource
import shutil
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

# Memory in bytes and processor time in seconds that this program may take; more is a refusal.
MEMORY, SECONDS = 400_000_000, 30
# The files in a .keras archive. Vocabularies of lookup layers are in the folder assets.
CONFIG, WEIGHTS = "config.json", "model.weights.h5"
_MEMBERS = {CONFIG, WEIGHTS, "metadata.json"}
_MOST_MEMBERS = 1000
# The largest description of a model that is read. InceptionResNetV2's has 1 MB.
_CONFIG_BYTES = 8_000_000
# How much data may grow when it is unpacked, if it has more than _SMALL bytes. Keras stores weights
# uncompressed, and they hardly shrink; a bomb grows by a factor of 1000.
_EXPANSION, _SMALL = 20, 1_000_000
# Datasets are read in pieces of about this many bytes.
_PIECE = 16_000_000

_KNOWN = json.loads(Path(__file__).with_name("known.json").read_text())
_CLASSES = {(module, name) for module, names in _KNOWN["classes"].items() for name in names}
_FUNCTIONS = {(module, name) for module, names in _KNOWN["functions"].items() for name in names}
# Values that Keras writes as if they were classes.
_VALUES = {
    *("__keras_tensor__", "__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__slice__"),
}
# A constant of texts would take the length of its longest text for each of them.
_NUMBERS = {"bfloat16"} | {n for n, kind in np.sctypeDict.items() if np.dtype(kind).kind in "biuf"}
_CODE = "which is Python code that opening the file would run"
_WHY = {
    "__lambda__": f"a lambda function, {_CODE}",
    "Lambda": f"a Lambda layer, {_CODE}",
    "TorchModuleWrapper": "a TorchModuleWrapper layer, which is a pickle that may run any code",
    "TFSMLayer": "a TFSMLayer, which opens another file with another graph",
    "JaxLayer": f"a JaxLayer, {_CODE}",
    "FlaxLayer": f"a FlaxLayer, {_CODE}",
}
_REMEDY = "build the model again from Keras layers or operations"


class Refused(ValueError):
    """A file is refused. The message holds only the reason, without the path."""


def model(path: Path, folder: Path) -> dict[str, Any]:
    """Check a ``.keras`` file, and say what it holds; Refused if it is refused.

    Its weights are unpacked into ``folder``. The result has ``layers`` (a count by class),
    ``inputs`` (shapes), ``unknown`` (of each class or function that is not Keras' own: why it is
    refused, and the name under which a program may have registered it) and those of
    :func:`weights`.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(archive, path.stat().st_size)
            found = _description(archive.read(CONFIG))
            unpacked = folder / WEIGHTS
            with archive.open(WEIGHTS) as packed, unpacked.open("wb") as file:
                shutil.copyfileobj(packed, file, _PIECE)
    except Refused:
        raise
    except Exception as error:  # zipfile raises errors of many types for damaged archives
        raise Refused(f"a damaged archive: {error}") from None
    return found | weights(unpacked)


def weights(path: Path) -> dict[str, Any]:
    """Check an HDF5 file: ``arrays``, how many it holds, and ``bytes``, their size in memory.

    Refused for links, numbers in other files, a bomb, what can't be read, and whole models.
    """
    sizes = []
    try:
        with h5py.File(path, "r") as content:
            if "model_config" in content.attrs or "model_weights" in content:
                raise Refused(
                    "a whole model, but only its weights are allowed, because the rest may hold "
                    'code; where it was made, model.save_weights("x.weights.h5") writes them'
                )
            for entry in _entries(content):
                dict(entry.attrs)  # Keras reads them
                if isinstance(entry, h5py.Dataset):
                    sizes.append(_read(entry))
    except (Refused, MemoryError):
        raise
    except Exception as error:  # h5py raises errors of many types for damaged files
        raise Refused(f"damaged or no HDF5: {error}") from None
    return {"arrays": len(sizes), "bytes": sum(sizes)}


def _entries(content: h5py.Group) -> Iterator[h5py.Group | h5py.Dataset]:
    """All groups and datasets, each once, even if hard links form a circle."""
    waiting, seen = [content], set()
    while waiting:
        entry = waiting.pop()
        address = h5py.h5o.get_info(entry.id).addr
        if address in seen:
            continue
        seen.add(address)
        yield entry
        if isinstance(entry, h5py.Group):
            for name in entry:
                if not isinstance(entry.get(name, getlink=True), h5py.HardLink):
                    shown = _shown(f"{entry.name}/{name}")
                    raise Refused(f"weights with a link at {shown} that may lead to another file")
                waiting.append(entry[name])


def _read(entry: h5py.Dataset) -> int:
    """The bytes of a dataset in memory. It is read once, in pieces, to see that it can be."""
    shown = _shown(entry.name)
    if entry.external or entry.is_virtual:
        raise Refused(f"weights whose numbers at {shown} are in another file")
    stored = entry.id.get_storage_size()
    if entry.nbytes > max(_SMALL, _EXPANSION * stored):
        raise Refused(
            f"weights that grow at {shown} from {stored:,} to {entry.nbytes:,} bytes, as a bomb "
            "does"
        )
    rows = entry.shape[0] if entry.shape else 1
    step = max(1, _PIECE * rows // max(1, entry.nbytes))
    for start in range(0, rows, step):
        entry[start : start + step] if entry.shape else entry[()]
    return int(entry.nbytes)


def _check_members(archive: zipfile.ZipFile, size: int) -> None:
    members = archive.infolist()
    names = Counter(member.filename for member in members)
    if len(members) > _MOST_MEMBERS:
        raise Refused(f"an archive of {len(members):,} files")
    for name in names:
        inside = name.startswith("assets/") and ".." not in name.split("/") and "\\" not in name
        if name not in _MEMBERS and not inside:
            raise Refused(f"an archive that holds {_shown(name)}, which Keras never writes")
    for name in (CONFIG, WEIGHTS):
        if names[name] != 1:
            raise Refused(f"an archive with {names[name]} files {name}, not one")
    if sum(member.compress_size for member in members) > size:
        raise Refused("an archive whose files overlap, as those of a bomb do")
    for member in members:
        if member.file_size > max(_SMALL, _EXPANSION * member.compress_size):
            raise Refused(
                f"an archive in which {_shown(member.filename)} grows from "
                f"{member.compress_size:,} to {member.file_size:,} bytes, as a bomb does"
            )
    if archive.getinfo(CONFIG).file_size > _CONFIG_BYTES:
        raise Refused(f"a {CONFIG} of more than {_CONFIG_BYTES:,} bytes")


def _description(content: bytes) -> dict[str, Any]:
    """Check the description of a model: classes, functions, names, and constants."""
    try:
        config = json.loads(content)
    except RecursionError:
        raise Refused(f"a {CONFIG} nested too deep") from None
    except ValueError as error:
        raise Refused(f"a {CONFIG} that is no JSON: {error}") from None
    if not isinstance(config, dict) or "class_name" not in config:
        raise Refused(f"a {CONFIG} that describes no model")
    # compile_config may hold anything, because Keras does not read it: compile=False.
    parts = list(_objects(config | {"compile_config": None}))
    unknown = [part for part in map(_unknown, parts) if part]
    for part in parts:
        _check_part(part)
    classes = [part for part in parts if "module" in part and "class_name" in part]
    return {
        "layers": Counter(c["class_name"] for c in classes if c["module"] == "keras.layers"),
        "inputs": [
            c["config"].get("batch_shape")
            for c in classes
            if c["class_name"] == "InputLayer" and isinstance(c.get("config"), dict)
        ],
        "unknown": unknown,
    }


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


def _unknown(part: dict[str, Any]) -> list[str] | None:
    """Why a class or function may not be used, and the name a program may have given it."""
    if "class_name" not in part:
        return None
    name, module = part["class_name"], part.get("module")
    if not isinstance(name, str):
        raise Refused(f"a class called {_shown(name)}")
    if name in _WHY:
        raise Refused(f"{_WHY[name]}; {_REMEDY}")
    if name in _VALUES:
        return None
    is_function = name == "function"
    called = part.get("config") if is_function else name
    known = _FUNCTIONS if is_function else _CLASSES
    if isinstance(module, str) and isinstance(called, str) and (module, called) in known:
        return None
    registered = called if is_function else part.get("registered_name") or name
    said = f"{_shown(called)} of {_shown(module)}, which is"
    if is_function:
        why = f"a function {said} not one of Keras' activations and the like"
    else:
        why = f"a class {said} not part of Keras and whose code is not in the file"
    return [f"{why}; {_REMEDY}", registered if isinstance(registered, str) else ""]


def _check_part(part: dict[str, Any]) -> None:
    """Check what an object of the description holds beside its class."""
    if isinstance(part.get("vocabulary"), str):
        raise Refused(
            f"a lookup layer that reads the file {_shown(part['vocabulary'])}; "
            "give the layer a list of words instead"
        )
    name = part.get("name")
    if isinstance(name, str) and (
        not name.isprintable() or len(name) > 200 or "/" in name or "\\" in name or name[:2] == ".."
    ):
        raise Refused(f"a layer with the name {_shown(name)}, which can't be the name of a file")
    config = part.get("config")
    if part.get("class_name") in ("__numpy__", "__tensor__"):
        dtype = config.get("dtype") if isinstance(config, dict) else None
        if not isinstance(dtype, str) or dtype not in _NUMBERS:
            raise Refused(f"a constant of type {_shown(dtype)}, which is not one of numbers")
    for node in part.get("inbound_nodes") or ():
        # Keras would calculate with constants at once, instead of adding an operation to the graph.
        if not any(p.get("class_name") == "__keras_tensor__" for p in _objects(node)):
            raise Refused("an operation on constants alone")


def _shown(value: object) -> str:
    """Text from a file for a message: on one line, short, without control characters."""
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _limit(size: int) -> None:
    """Limit memory, processor time, and the size of files written; not all systems obey."""
    for what, most in (
        (resource.RLIMIT_DATA, MEMORY),
        (resource.RLIMIT_CPU, SECONDS),
        (resource.RLIMIT_FSIZE, _EXPANSION * size + _SMALL),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(what)
        resource.setrlimit(
            what, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard)
        )


def main() -> None:
    """Print the result of a check, or the reason of a refusal, as JSON."""
    kind, path, folder = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    _limit(path.stat().st_size)
    try:
        found = model(path, folder) if kind == "model" else weights(path)
    except Refused as error:
        found = {"refused": str(error)}
    except (MemoryError, RecursionError):
        found = {"refused": f"a file that takes more than {MEMORY:,} bytes of memory to look at"}
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
