"""A process that ends all processes that this one started, once this one has ended.

Ray's own processes notice that, too, but some of them only after a minute.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

# The environment variable that marks them.
MARK = "GRADCAM_ADV_WARDEN"


@contextlib.contextmanager
def ending_all() -> Iterator[None]:
    """End the processes started inside, when the context or this process ends.

    They are found by their environment, in /proc; without /proc this does nothing.
    """
    mark = f"{MARK}={uuid.uuid4()}"
    warden = subprocess.Popen(
        [sys.executable, "-I", __file__, mark],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is not meant for it
    )
    os.environ[MARK] = mark.partition("=")[2]
    try:
        yield
    finally:
        del os.environ[MARK]
        warden.communicate()


def _end_all(mark: str) -> None:
    """Repeat until there is none left: one may just be starting another."""
    while pids := list(_marked(mark.encode())):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)


def _marked(mark: bytes) -> Iterator[int]:
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, or belongs to another user
            if mark in (place / "environ").read_bytes().split(b"\0"):
                yield int(place.name)


if __name__ == "__main__":
    sys.stdin.read()  # returns when the process at the other end has ended
    _end_all(sys.argv[1])
