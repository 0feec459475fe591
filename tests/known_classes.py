"""Makes gradcam_adv/untrusted/known.json, the classes and functions that a model file may name.

They are those that Keras writes for its own layers and operations and that neither call what they
are given, nor read files, nor make tables as large as a file asks for. ``make known`` runs this.
"""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType

import keras
from keras.src import api_export

FILE = Path(__file__).parents[1] / "gradcam_adv" / "untrusted" / "known.json"

# Public modules, of which every class is something that a model is made of.
MODULES = {
    *("constraints", "dtype_policies", "initializers", "layers", "losses", "metrics", "optimizers"),
    *("optimizers.schedules", "quantizers", "random", "regularizers"),
}
TOP = {"DTypePolicy", "FloatDTypePolicy", "Sequential"}
# Where Keras has classes without a public name: functional models, and layers of its applications.
HIDDEN = {
    *("keras.src.models.functional", "keras.src.applications.convnext"),
    "keras.src.applications.inception_resnet_v2",
}
# Modules of base classes, which no model is made of.
NO_OPERATIONS = {"function", "operation"}
# Parameters for functions, for other files, and for whole modules.
CALLED = {
    *("body", "body_fun", "branches", "call_fn", "cond", "f", "false_fn", "fn", "fun", "function"),
    *("init_fn", "true_fn"),
    *("dataset", "filepath", "module", "tokenizer"),
}
# Their constructors make tables of a size that the file chooses.
TABLES = {"MelSpectrogram", "STFTSpectrogram"}
FUNCTIONS = ("activations", "constraints", "initializers", "losses", "metrics", "regularizers")
NO_FUNCTIONS = {"get", "serialize", "deserialize"}


def candidates() -> Iterator[tuple[str, str, type]]:
    """Module, name and class of all classes that Keras opens from these modules."""
    for path, symbol in api_export.REGISTERED_NAMES_TO_OBJS.items():
        module, name = path.rsplit(".", 1)
        wanted = module.removeprefix("keras.") in MODULES or (module == "keras" and name in TOP)
        if inspect.isclass(symbol) and wanted:
            yield module, name, symbol
    operations = importlib.import_module("keras.src.ops")
    hidden = {name for _, name, _ in pkgutil.walk_packages(operations.__path__, "keras.src.ops.")}
    for module in sorted(HIDDEN | hidden):
        if module.rsplit(".")[-1] not in NO_OPERATIONS and not module.endswith("_test"):
            for name, symbol in vars(importlib.import_module(module)).items():
                if inspect.isclass(symbol) and symbol.__module__ == module:
                    yield module, name, symbol


def is_plain(name: str, symbol: type) -> bool:
    """Whether a class can be made from a description, and calls and reads nothing it is given."""
    called = (symbol.__init__, getattr(symbol, "call", None))
    parameters = {p for f in called if f for p in inspect.signature(f).parameters}
    return hasattr(symbol, "from_config") and name not in TABLES and not parameters & CALLED


def known() -> dict[str, dict[str, list[str]]]:
    classes: dict[str, list[str]] = {}
    for module, name, symbol in candidates():
        if is_plain(name, symbol):
            classes.setdefault(module, []).append(name)
    functions: dict[str, list[str]] = {}
    for module in FUNCTIONS:
        for path, symbol in api_export.REGISTERED_NAMES_TO_OBJS.items():
            above, name = path.rsplit(".", 1)
            is_function = isinstance(symbol, FunctionType) and name not in NO_FUNCTIONS
            if above == f"keras.{module}" and is_function:
                functions.setdefault(above, []).append(name)
    functions["builtins"] = sorted({name for names in functions.values() for name in names})
    return {"class": ordered(classes), "function": ordered(functions)}


def ordered(names: dict[str, list[str]]) -> dict[str, list[str]]:
    return {module: sorted(names[module]) for module in sorted(names)}


def text() -> str:
    return json.dumps({"keras": keras.__version__} | known(), indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(text())
    print(f"{FILE}: {sum(map(len, known()['class'].values()))} classes", file=sys.stderr)
