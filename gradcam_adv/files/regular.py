"""Opening files that may be something else: pipes and devices, which could wait forever."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO


def open_regular(path: Path) -> tuple[BinaryIO, int]:
    """A regular file, opened for reading without waiting, and its size in bytes.

    The size is that of the opened file, so a path that changes meanwhile makes no difference. Files
    below /proc say 0. ValueError for a pipe, a device or a socket.
    """
    # Asked before as well: to open a device may already do something.
    _check(os.stat(path))
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        found = os.fstat(descriptor)
        _check(found)
        return os.fdopen(descriptor, "rb"), found.st_size
    except BaseException:
        os.close(descriptor)
        raise


def _check(found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("not a regular file")
