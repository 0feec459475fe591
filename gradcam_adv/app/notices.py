"""TensorFlow's notices at its start (oneDNN, CUDA, instructions), kept from a user's terminal."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

from gradcam_adv.app.imports import Around

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
        sys.meta_path.insert(0, Around("tensorflow", _without_notices))


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
