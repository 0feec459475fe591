"""The checks of a model or weights file, run as a program of its own that may crash.

Only what Keras writes for its own layers is accepted: the classes in ``known.json`` and numbers
in HDF5. Keras is not imported. What it needs of the machine is limited.
"""

from __future__ import annotations

import json
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

# Memory in bytes and processor time in seconds that this program may take; more is a refusal. For
# each _PER_SECOND bytes of a file it is a second more.
MEMORY, SECONDS, _PER_SECOND = 400_000_000, 5, 50_000_000
# The files in a .keras archive. Vocabularies of lookup layers are in the folder assets.
CONFIG, WEIGHTS = "config.json", "model.weights.h5"
_MEMBERS = {CONFIG, WEIGHTS, "metadata.json"}
_MOST_MEMBERS = 1000
# The largest description of a model that is read, and how many classes and functions that are not
# Keras' own it may name. NASNetLarge's has 1 MB.
_CONFIG_BYTES, _MOST_UNKNOWN = 4_000_000, 100
# The largest table that a lookup layer may make for unknown words. Keras has 1 place by default.
_MOST_OOV = 1000
# How much data may grow when it is unpacked, if it has more than _SMALL bytes. Keras stores weights
# uncompressed, and they hardly shrink; a bomb grows by a factor of 1000.
_EXPANSION, _SMALL = 20, 1_000_000
# Datasets are read in pieces of about this many bytes.
_PIECE = 16_000_000

# Names by module, by kind.
_KNOWN = json.loads(Path(__file__).with_name("known.json").read_text())
# Values that Keras writes as if they were classes.
_CONSTANTS = ("__numpy__", "__tensor__")
_VALUES = (*_CONSTANTS, "__keras_tensor__", "__bytes__", "__ellipsis__", "__slice__")
# A constant of texts would take the length of its longest text for each of them.
_NUMBERS = {"bfloat16"} | {n for n, kind in np.sctypeDict.items() if np.dtype(kind).kind in "biuf"}
_CODE = "which is Python code that opening the file would run"
_WHY = {name: f"a {name} layer, {_CODE}" for name in ("Lambda", "JaxLayer", "FlaxLayer")} | {
    "__lambda__": f"a lambda function, {_CODE}",
    "TorchModuleWrapper": "a TorchModuleWrapper layer, which is a pickle that may run any code",
    "TFSMLayer": "a TFSMLayer, which opens another file with another graph",
}
_KERAS_2 = (
    "a functional model of Keras 2, whose format Keras 3 does not read; if you trust the file, "
    'convert it: with Keras 2 (the package tf_keras), load_model("x.keras").save("x.h5"), then '
    'with Keras 3, load_model("x.h5", compile=False).save("y.keras")'
)
_REMEDY = "build the model again from Keras layers or operations"


class Refused(ValueError):
    """A file is refused. The message holds only the reason, without the path."""


def look(kind: str, path: Path) -> dict[str, Any]:
    """What a file holds; ``refused`` alone, with the reason, if it is refused.

    Of each kind there are ``arrays``, the number of its weights, and ``bytes``, their size in
    memory. A model also has ``layers`` (a count by class), ``inputs`` (shapes) and ``unknown`` (why
    each class or function that is not Keras' own is refused, by the name under which a program may
    have registered it).

    Args:
        kind: "model" for a ``.keras`` file, "weights" for HDF5.
        path: of a file that nobody changes. Weights in a model are unpacked beside it meanwhile.
    """
    try:
        return _model(path) if kind == "model" else _weights(path)
    except Refused as error:
        return {"refused": str(error)}
    except MemoryError:
        return {"refused": f"a file that takes more than {MEMORY:,} bytes of memory to look at"}
    except Exception as error:  # zipfile and h5py raise errors of many types for damaged files
        what = "a damaged archive" if kind == "model" else "damaged or no HDF5"
        return {"refused": f"{what}: {error}"}


def _model(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory(dir=path.parent) as folder:
        _check_members(archive.infolist(), path.stat().st_size)
        found = _description(archive.read(CONFIG))
        return found | _weights(Path(archive.extract(WEIGHTS, folder)))


def _weights(path: Path) -> dict[str, int]:
    """Refused for links, numbers in other files, a bomb, and whole models.

    Keras refuses some of this too, but only where it looks, and bombs from 4 GB on.
    """
    sizes = []

    def look_at(_: str, entry: h5py.HLObject) -> None:
        dict(entry.attrs)  # Keras reads them
        if isinstance(entry, h5py.Dataset):
            sizes.append(_read(entry))
        elif isinstance(entry, h5py.Group):
            _check_links(entry)

    with h5py.File(path, "r") as content:
        if "model_config" in content.attrs or "model_weights" in content:
            raise Refused(
                "a whole model, but only its weights are allowed, because the rest may hold code; "
                'where it was made, model.save_weights("x.weights.h5") writes them'
            )
        look_at("/", content)
        content.visititems(look_at)  # each once, even if hard links form a circle; no other links
    return {"arrays": len(sizes), "bytes": sum(sizes)}


def _check_links(group: h5py.Group) -> None:
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            link = _shown(f"{group.name}/{name}")
            raise Refused(f"weights with a link at {link} that may lead to another file")


def _read(entry: h5py.Dataset) -> int:
    """The bytes of a dataset in memory. It is read once, in pieces, to see that it can be."""
    if entry.external or entry.is_virtual:
        raise Refused(f"weights whose numbers at {_shown(entry.name)} are in another file")
    _check_growth(entry.name, entry.id.get_storage_size(), entry.nbytes)
    rows = entry.shape[0] if entry.shape else 1
    step = max(1, _PIECE * rows // max(1, entry.nbytes))
    for start in range(0, rows, step):
        entry[start : start + step] if entry.shape else entry[()]
    return int(entry.nbytes)


def _check_growth(name: str, stored: int, size: int) -> None:
    if size > max(_SMALL, _EXPANSION * stored):
        raise Refused(
            f"{_shown(name)}, which grows from {stored:,} to {size:,} bytes, as a bomb does"
        )


def _check_members(members: list[zipfile.ZipInfo], size: int) -> None:
    if len(members) > _MOST_MEMBERS:
        raise Refused(f"an archive of {len(members):,} files")
    for member in members:
        name = member.filename
        inside = name.startswith("assets/") and ".." not in name.split("/") and "\\" not in name
        if name not in _MEMBERS and not inside:
            raise Refused(f"an archive that holds {_shown(name)}, which Keras never writes")
        _check_growth(name, member.compress_size, member.file_size)
        if name == CONFIG and member.file_size > _CONFIG_BYTES:
            raise Refused(f"a {CONFIG} of more than {_CONFIG_BYTES:,} bytes")
    for name in (CONFIG, WEIGHTS):
        if (count := sum(member.filename == name for member in members)) != 1:
            raise Refused(f"an archive with {count} files {name}, not one")
    if sum(member.compress_size for member in members) > size:
        raise Refused("an archive whose files overlap, as those of a bomb do")


def _description(content: bytes) -> dict[str, Any]:
    """Check the description of a model: classes, functions, names, and constants."""
    try:
        config = json.loads(content)
    except (RecursionError, ValueError) as error:
        raise Refused(f"a {CONFIG} that is no JSON, or nested too deep: {error}") from None
    if not isinstance(config, dict) or "class_name" not in config:
        raise Refused(f"a {CONFIG} that describes no model")
    # compile_config may hold anything, because Keras does not read it: compile=False.
    parts = list(_objects(config | {"compile_config": None}))
    unknown = dict(found for part in parts if (found := _unknown(part)))
    if len(unknown) > _MOST_UNKNOWN:
        raise Refused(f"{len(unknown):,} classes or functions that are not part of Keras")
    for part in parts:
        _check_part(part)
    classes = [part for part in parts if "class_name" in part]
    return {
        "layers": Counter(c["class_name"] for c in classes if c.get("module") == "keras.layers"),
        "inputs": [
            c["config"].get("batch_shape") for c in classes if c["class_name"] == "InputLayer"
        ],
        "unknown": unknown,
    }


def _objects(content: object, without: str = "") -> Iterator[dict[str, Any]]:
    """All JSON objects in ``content``, at any depth, but those under the key ``without``."""
    waiting = [content]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            yield part
            waiting += (value for key, value in part.items() if key != without)
        elif isinstance(part, list):
            waiting += part


def _unknown(part: dict[str, Any]) -> tuple[str, str] | None:
    """The name a program may have given a class or function, and why it may not be used."""
    if "class_name" not in part:
        return None
    name, module = part["class_name"], part.get("module")
    if not isinstance(name, str):
        raise Refused(f"a class called {_shown(name)}")
    if name in _WHY:
        raise Refused(f"{_WHY[name]}; {_REMEDY}")
    if name in _VALUES:
        return None
    if name == "function":
        kind, called, registered = "function", part.get("config"), part.get("config")
        strange = "not one of Keras' activations and the like"
    else:
        kind, called, registered = "class", name, part.get("registered_name", name)
        strange = "not part of Keras and whose code is not in the file"
    if isinstance(module, str) and called in _KNOWN[kind].get(module, ()):
        return None
    if isinstance(module, str) and module.endswith(".engine.functional"):
        raise Refused(_KERAS_2)
    why = f"a {kind} {_shown(called)} of {_shown(module)}, which is {strange}; {_REMEDY}"
    return registered if isinstance(registered, str) else "", why


def _check_part(part: dict[str, Any]) -> None:
    """Check what an object of the description holds beside its class."""
    words, name = part.get("vocabulary"), part.get("name")
    if isinstance(words, str):
        raise Refused(
            f"a lookup layer that reads the file {_shown(words)}; give it a list of words instead"
        )
    if isinstance(part.get("num_oov_indices"), int) and part["num_oov_indices"] > _MOST_OOV:
        raise Refused(f"a lookup layer with a table of {part['num_oov_indices']:,} unknown words")
    if isinstance(name, str) and (
        not name.isprintable() or len(name) > 200 or "/" in name or "\\" in name or name[:2] == ".."
    ):
        raise Refused(f"a layer with the name {_shown(name)}, which can't be the name of a file")
    if part.get("class_name") in _CONSTANTS and (dtype := part["config"]["dtype"]) not in _NUMBERS:
        raise Refused(f"a constant of type {_shown(dtype)}, which is not one of numbers")
    for node in part.get("inbound_nodes") or ():
        # Keras would calculate with constants at once, instead of adding an operation to the graph.
        inside = _objects(node, without="inbound_nodes")  # so that nothing is looked at twice
        if not any(p.get("class_name") == "__keras_tensor__" for p in inside):
            raise Refused("an operation on constants alone")


def _shown(value: object) -> str:
    """Text from a file for a message: on one line, short, without control characters."""
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _limit(size: int) -> None:
    """Limit memory, processor time, and the size of files written; not all systems obey."""
    import resource  # which Windows lacks; the rest of this module can be imported there

    for what, most in (
        (resource.RLIMIT_DATA, MEMORY),
        (resource.RLIMIT_CPU, SECONDS + size // _PER_SECOND),
        (resource.RLIMIT_FSIZE, _EXPANSION * size + _SMALL),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(what)  # the machine's own limit may be lower
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (least, least))


def main() -> None:
    """Print the result of a check, or the reason of a refusal, as JSON."""
    kind, path = sys.argv[1], Path(sys.argv[2])
    _limit(path.stat().st_size)
    json.dump(look(kind, path), sys.stdout)


if __name__ == "__main__":
    main()
