"""A plugin of pytest, ``-p without_tensorflow``: every import of TensorFlow fails."""

import importlib.machinery
import sys


class Blocked:
    """Finds TensorFlow, so code that only looks for it goes on; importing it is an error."""

    def find_spec(self, name, path=None, target=None):
        known = name.partition(".")[0] == "tensorflow"
        return importlib.machinery.ModuleSpec(name, self) if known else None

    def create_module(self, spec):
        raise ImportError(f"{spec.name} is blocked")

    exec_module = None  # never called, since no module is made


sys.meta_path.insert(0, Blocked())
