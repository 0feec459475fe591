"""Importing other packages: code that runs around an import, and Keras without optional parts."""

from __future__ import annotations

import contextlib
import importlib.machinery
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from types import ModuleType

# Keras imports these if they are there, for wrappers and plots of its own that no command uses.
# They take a third of its time.
OPTIONAL = ("IPython", "matplotlib", "sklearn")


class Around:
    """Finds a package as Python would, and imports it within a context."""

    def __init__(self, package: str, context: Callable[[], AbstractContextManager[None]]) -> None:
        self._package = package
        self._context = context

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != self._package:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        specs = (finder.find_spec(name, path, target) for finder in others)
        spec = next(filter(None, specs), None)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def within(module: ModuleType) -> None:
                with self._context():
                    execute(module)

            spec.loader.exec_module = within  # type: ignore[method-assign]
        return spec


def quicken_keras() -> None:
    """Let Keras be imported without OPTIONAL; these can be imported later, as always."""
    sys.meta_path.insert(0, Around("keras", _without_optional))


@contextlib.contextmanager
def _without_optional() -> Iterator[None]:
    missing = [name for name in OPTIONAL if name not in sys.modules]
    sys.modules.update(dict.fromkeys(missing))  # type: ignore[arg-type]  # None: no such module
    try:
        yield
    finally:
        for name in missing:
            del sys.modules[name]
