"""TensorFlow's notices at its start (oneDNN, CUDA, instructions), kept from a user's terminal."""

from __future__ import annotations

import contextlib
import importlib.machinery
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from types import ModuleType

LEVEL = "TF_CPP_MIN_LOG_LEVEL"
# A process of its own passes lines on, since it also does so when ours is aborted.
_PASS_ON = r"""
import re, sys
notice = re.compile(rb"WARNING: All log messages before absl|[IWE]0000 ")
for line in sys.stdin.buffer:
    if not notice.match(line):
        sys.stderr.buffer.write(line)
        sys.stderr.buffer.flush()
"""


def hide() -> None:
    """Hide notices of TensorFlow, unless its own variable TF_CPP_MIN_LOG_LEVEL is set.

    Once TensorFlow is imported, this variable hides them. While it is imported nothing does, since
    its C++ writes to file descriptor 2 before it reads any setting; so until then such lines are
    left out there. All others, and errors that end the process, are printed.
    """
    if LEVEL not in os.environ:
        os.environ[LEVEL] = "3"
        sys.meta_path.insert(0, _BeforeTensorFlow())


class _BeforeTensorFlow:
    """Finds TensorFlow as Python would, and filters what is written while it is imported."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != "tensorflow":
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        specs = (finder.find_spec(name, path, target) for finder in others)
        spec = next(filter(None, specs), None)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def filtered(module: ModuleType) -> None:
                with _without_notices():
                    execute(module)

            spec.loader.exec_module = filtered  # type: ignore[method-assign]
        return spec


@contextlib.contextmanager
def _without_notices() -> Iterator[None]:
    """Within this context what anybody writes to file descriptor 2 is filtered."""
    # In a session of its own, Ctrl-C does not reach it.
    program = [sys.executable, "-I", "-S", "-c", _PASS_ON]
    passes_on = subprocess.Popen(program, stdin=subprocess.PIPE, start_new_session=True)
    assert passes_on.stdin is not None
    terminal = os.dup(2)
    os.dup2(passes_on.stdin.fileno(), 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(terminal, 2)
        os.close(terminal)
        passes_on.stdin.close()
        passes_on.wait()
