"""A plugin of pytest, ``-p without_tensorflow``: whoever imports TensorFlow fails."""

import importlib.machinery
import sys


class Blocked:
    """Finds TensorFlow, so that who only asks whether it is there gets on, and imports none."""

    def find_spec(self, name, path=None, target=None):
        known = name.partition(".")[0] == "tensorflow"
        return importlib.machinery.ModuleSpec(name, self) if known else None

    def create_module(self, spec):
        raise ImportError(f"{spec.name} is blocked")

    exec_module = None  # of what was never made


sys.meta_path.insert(0, Blocked())
