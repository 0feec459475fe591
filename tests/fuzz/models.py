"""Random descriptions of models, and mutated HDF5: nothing is accepted that should not be.

    python tests/fuzz/models.py --count 100000 --seed 1

prints two lines, and ends with status 1 after a fault. ``tree(number)`` and ``mutated(number)``
make the case of a fault again.
"""

import argparse
import concurrent.futures
import inspect
import io
import json
import multiprocessing
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
BATCH = 2000


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


def files(numbers):
    """The same for mutated HDF5."""
    found, accepted = [], 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.h5")
        for number in numbers:
            path.write_bytes(mutated(number))
            signal.alarm(5)  # kills this process if reading takes forever
            try:
                accepted += "refused" not in checks.look("weights", path)
            except Exception as error:
                found.append(f"file {number}: {error!r}")
        signal.alarm(0)
    return found, accepted


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    first = arguments.seed * 10_000_000
    faults, accepted = trees(range(first, first + arguments.count))
    print(f"descriptions: {arguments.count:,} trees, {accepted:,} accepted, {len(faults)} faults")
    opened = crashes = 0
    waiting = [range(n, min(n + BATCH, first + arguments.count))
               for n in range(first, first + arguments.count, BATCH)]  # fmt: skip
    while waiting:
        batch = waiting.pop()
        # What kills this process is a refusal in use, where each file has a process of its own.
        spawn = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(1, spawn) as pool:
            try:
                found, of_batch = pool.submit(files, batch).result()
            except concurrent.futures.process.BrokenProcessPool:
                found, of_batch = [], 0
                if len(batch) == 1:
                    crashes += 1
                else:
                    half = len(batch) // 2
                    waiting += [batch[:half], batch[half:]]
        faults += found
        opened += of_batch
    print(f"HDF5: {arguments.count:,} files, {opened:,} read, {crashes} killed the child")
    print(*faults, sep="\n", end="\n" * bool(faults), file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
