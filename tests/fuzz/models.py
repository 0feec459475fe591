"""Random descriptions of models, and mutated HDF5: nothing is accepted that should not be.

    python tests/fuzz/models.py --trees 100000 --files 20000 --seed 1

prints two lines, and ends with status 1 after a fault. ``tree(number)`` and ``mutated(number)``
make the case of a fault again.
"""

import argparse
import inspect
import io
import json
import multiprocessing
import resource
import signal
import sys
import tempfile
from pathlib import Path

import h5py
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from gradcam_adv.untrusted import checks

# What calls functions, opens files or runs other code when a model is made of it.
GADGETS = {
    *("Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer", "FeatureSpace"),
    *("AssociativeScan", "Cond", "ForiLoop", "JVP", "Map", "Scan", "Switch", "VectorizedMap"),
    *("WhileLoop", "MeanMetricWrapper", "Distiller", "CustomGradient", "ExportArchive"),
}
# Where functions of tensors are defined.
HARMLESS = ("keras.src.activations.", "keras.src.losses.", "keras.src.metrics.")
VALUES = ("relu", 3, None, 0.5, [1, 2], "x", True, "float32", "../x", [[1]], {"a": 1})
# Files of a process, its limits, its record of how far it is, and what it reads as Keras does.
BATCH, SECONDS, MEMORY, STATE = 2000, 5, 4 << 30, "state.json"
PLACES = ("", "layers/dense", "layers/b", "more/1")


def resolved(kind, module, name):
    """What Keras opens under this name; None if it refuses it."""
    from keras.src.saving import serialization_lib

    config = {"module": module, "class_name": name, "config": name}
    try:
        return serialization_lib._retrieve_class_or_fn(name, None, module, kind, config, {})
    except Exception:  # of many types
        return None


def is_plain(kind, module, name):
    """Whether something that is accepted is a class without gadgets, or a function of tensors."""
    symbol = resolved(kind, module, name)
    if kind == "function":
        return inspect.isfunction(symbol) and symbol.__module__.startswith(HARMLESS)
    return inspect.isclass(symbol) and hasattr(symbol, "from_config") and name not in GADGETS


def vocabulary():
    """Modules and names to compose: those that are known, and all others of Keras."""
    from keras.src import api_export

    paths = list(api_export.REGISTERED_NAMES_TO_OBJS)
    kinds = checks._KNOWN["class"], checks._KNOWN["function"]
    known = [(module, name) for kind in kinds for module in kind for name in kind[module]]
    other = [tuple(path.rsplit(".", 1)) for path in paths]
    dotted = [("keras", path.removeprefix("keras.")) for path in paths]
    gadgets = [("keras.src.ops.core", name) for name in sorted(GADGETS)]
    return known, [*other, *dotted, *gadgets, ("os", "system"), ("builtins", "exec"), (None, "a")]


def tree(number, words):
    """A description of nested parts, most of them known, some not."""
    random = np.random.default_rng(number)

    def part(depth):
        if depth == 0 or random.random() < 0.4:
            return VALUES[random.integers(len(VALUES))]
        pairs = words[int(random.random() < 0.1)]
        module, name = pairs[random.integers(len(pairs))]
        keys = ("units", "layer", "activation", "layers", "function", "cell", "args")
        inner = {keys[random.integers(len(keys))]: part(depth - 1) for _ in range(3)}
        if random.random() < 0.2:
            return {"class_name": "function", "module": module, "config": name}
        return {"class_name": name, "module": module, "config": inner, "registered_name": None}

    return {"class_name": "Sequential", "module": "keras", "config": {"layers": [part(4)]}}


def trees(numbers):
    """Faults among the trees of these numbers, a line for each; and how many were accepted."""
    words, found, accepted = vocabulary(), [], 0
    for number in numbers:
        described = tree(number, words)
        try:
            if checks._description(json.dumps(described).encode())["unknown"]:
                continue
        except checks.Refused:
            continue
        except Exception as error:
            found.append(f"tree {number}: {error!r}")
            continue
        accepted += 1
        for part in checks._objects(described):
            if "class_name" in part:
                is_function = part["class_name"] == "function"
                name = part["config"] if is_function else part["class_name"]
                kind = "function" if is_function else "class"
                if not is_plain(kind, part["module"], name):
                    found.append(f"tree {number}: {part['module']} {name}")
    return found, accepted


def seeds():
    """Good HDF5 files with all that such a file may be made of."""
    kinds = []
    for how in ({}, {"libver": "latest"}, {"track_order": True}):
        buffer = io.BytesIO()
        with h5py.File(buffer, "w", **how) as file:
            file["layers/dense/vars/0"] = np.ones((4, 2), np.float32)
            file.create_dataset("layers/b/vars/0", (50,), "f2", chunks=(10,), compression="gzip")
            file["names"] = ["a", "bc"]
            file.attrs["layer_names"] = ["dense", "b"]
            for i in range(20):  # many links make a dense group
                file.create_group(f"more/{i}")
        kinds.append(buffer.getvalue())
    return kinds


SEEDS = seeds()


def mutated(number):
    random = np.random.default_rng(number)
    content = bytearray(SEEDS[random.integers(len(SEEDS))])
    for _ in range(random.integers(1, 6)):
        place = int(random.integers(len(content)))
        if random.random() < 0.8:
            length = (1, 1, 2, 4, 8)[random.integers(5)]
            content[place : place + length] = random.bytes(length)
        else:
            del content[max(8, place) :]
    return bytes(content)


def files(numbers, folder):
    """Look at mutated HDF5, and read what is accepted as Keras does. A file says how far it is."""
    from keras.src.saving.saving_lib import H5IOStore

    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    path, state = Path(folder, "a.weights.h5"), Path(folder, STATE)
    accepted, found = 0, []
    for number in numbers:
        path.write_bytes(mutated(number))
        state.write_text(json.dumps([number, "looks", accepted, found]))
        signal.setitimer(signal.ITIMER_PROF, SECONDS)  # of processor time; kills this process
        try:
            if "refused" in checks.look("weights", path):
                continue
            accepted += 1
            state.write_text(json.dumps([number, "opens", accepted, found]))
            store = H5IOStore(path)
            for place in PLACES:
                entry = store.get(place)
                names = entry.keys()
                [entry[name] for name in names]
            store.close()
        except (OSError, ValueError, KeyError, TypeError, RuntimeError):
            pass  # in use, one line
        except Exception as error:
            found.append(f"file {number}: {error!r}")
    signal.setitimer(signal.ITIMER_PROF, 0)
    state.write_text(json.dumps([number, "ends", accepted, found]))


def hdf5(numbers):
    """Faults among mutated HDF5 files; how many are accepted; and how many kill who looks.

    That is a refusal in use, where each file has a process of its own. What kills who opens the
    file after that is a fault.
    """
    found, accepted, killed = [], 0, 0
    spawn = multiprocessing.get_context("spawn")
    while numbers:
        with tempfile.TemporaryDirectory() as folder:
            child = spawn.Process(target=files, args=(numbers[:BATCH], folder))
            child.start()
            child.join()
            number, what, opened, faults = json.loads(Path(folder, STATE).read_text())
        if child.exitcode > 0:
            raise RuntimeError(f"file {number}: Python ended with status {child.exitcode}")
        accepted += opened
        found += faults
        killed += what == "looks"
        if what == "opens":
            found.append(f"file {number}: signal {-child.exitcode} while it was opened")
        numbers = numbers[numbers.index(number) + 1 :]
    return found, accepted, killed


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trees", type=int, default=10_000)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    first = arguments.seed * 10_000_000
    faults, accepted = trees(range(first, first + arguments.trees))
    print(f"descriptions: {arguments.trees:,} trees, {accepted:,} accepted, {len(faults)} faults")
    more, accepted, killed = hdf5(range(first, first + arguments.files))
    faults += more
    print(f"HDF5: {arguments.files:,} files, {accepted:,} accepted, {killed:,} killed the child,",
          f"{len(more)} faults")  # fmt: skip
    print(*faults, sep="\n", end="\n" * bool(faults), file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
