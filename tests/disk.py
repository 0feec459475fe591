"""Watch every step on the disk: count them, let one fail, or all after a certain one."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# Is told the kind and the path of a step before it happens; the step raises what this raises.
Watcher = Callable[[str, Path], None]

_KINDS = {
    "os.rename": "rename",
    "os.remove": "remove",
    "os.mkdir": "make folder",
    "os.rmdir": "remove folder",
}
_watchers: list[Watcher] = []


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if not _watchers:
        return
    if event == "open":
        path, _, flags = arguments
        if not (isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)):
            return
        kind = "open"
    elif event in _KINDS:
        kind, path = _KINDS[event], arguments[1 if event == "os.rename" else 0]
    else:
        return
    if isinstance(path, str | os.PathLike):
        _watchers[-1](kind, Path(path))


sys.addaudithook(_hook)  # can't be removed; it does nothing if nobody watches


@contextlib.contextmanager
def watched(watcher: Watcher) -> Iterator[None]:
    """Tell ``watcher`` of every step inside.

    That is a file opened to be written, synced, renamed (the new path is told) or deleted, or a
    folder synced, made or deleted.
    """
    fsync = os.fsync

    def synced(descriptor: int) -> None:
        watcher("sync", Path(os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", synced)
        _watchers.append(watcher)
        try:
            yield
        finally:
            _watchers.pop()


class Killed(BaseException):
    """The process is dead."""


class Steps:
    """Counts steps; after the ``last`` one no further step happens."""

    def __init__(self, last: int | None) -> None:
        self.count = 0
        self._last = last

    def __call__(self, kind: str, path: Path) -> None:
        if self._last is not None and self.count >= self._last:
            raise Killed
        self.count += 1


@contextlib.contextmanager
def steps(last: int | None = None) -> Iterator[Steps]:
    """Count the steps inside; after the ``last`` one it is as if the process were killed.

    No later step happens, so nothing is cleaned up either.
    """
    counted = Steps(last)
    with contextlib.suppress(Killed), watched(counted):
        yield counted
