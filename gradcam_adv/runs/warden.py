"""Ends what this process has started, and what that has started, once it is gone, however it went.

Ray's own processes notice it, too, but some of them only after a minute.
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

# The variable by which they are known.
MARK = "GRADCAM_ADV_WARDEN"


@contextlib.contextmanager
def ending_all() -> Iterator[None]:
    """End the processes that are begun inside, at its end or with this process.

    They are found by their environment, in /proc; where there is none this does nothing.
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
    """Again until there is none: one may just be starting another."""
    while pids := list(_marked(mark.encode())):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)


def _marked(mark: bytes) -> Iterator[int]:
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, or is somebody else's
            if mark in (place / "environ").read_bytes().split(b"\0"):
                yield int(place.name)


if __name__ == "__main__":
    sys.stdin.read()  # until nobody holds the other end any more
    _end_all(sys.argv[1])
