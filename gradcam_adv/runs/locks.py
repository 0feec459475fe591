"""Locks: one process at a time works in a folder. The lock ends with its process."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from gradcam_adv import machine

with contextlib.suppress(ImportError):  # on Windows; see machine.check_system
    import fcntl

LOCK = ".lock"
# How often to try to make a folder that other processes make and remove.
TRIES = 100


class Held(OSError):
    """Another process works there."""


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold ``folder`` for this process alone; it is made if it is missing.

    The operating system locks (``flock``) a file in the folder, so the lock ends with the process.
    An OSError says why it can't be held: Held if another process holds it, and which.
    """
    machine.check_system()
    made = not folder.exists()
    path = folder / LOCK
    descriptor = _locked(path)
    try:
        now = datetime.now().isoformat(sep=" ", timespec="seconds")
        who = f"process {os.getpid()} on {socket.gethostname()} since {now}"
        with contextlib.suppress(OSError):  # a full disk; `clean`, which makes room, locks as well
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, who.encode(), 0)
        yield
    finally:
        # Before it is released: afterwards it may already be another process's.
        path.unlink(missing_ok=True)
        os.close(descriptor)
        if made:
            with contextlib.suppress(OSError):  # something is in it now
                folder.rmdir()


def _locked(path: Path) -> int:
    failures = 0
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = _opened(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        except (FileNotFoundError, FileExistsError):
            # Another process made the folder, and removes it at any moment if it is empty.
            failures += 1
            if failures == TRIES:
                raise
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The holder before may just have deleted the file; then this is a lock on nothing.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), path.lstat()):
                    return descriptor
        except BlockingIOError:
            who = _text(descriptor)
            os.close(descriptor)
            raise Held(
                f"Expected no other gradcam-adv at work in {path.parent}. Received: {who}; wait "
                "for it, or stop it"
            ) from None
        except OSError as error:
            os.close(descriptor)
            raise OSError(error.errno, f"{error.strerror} (a lock on it)", str(path)) from None
        os.close(descriptor)


def _opened(path: Path, flags: int) -> int:
    """Open a lock; OSError for anything but a file.

    No link is followed: it could lead to a file elsewhere, which would be emptied. A pipe would be
    waited on forever.
    """
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file (the lock of the folder)", str(path))
    return descriptor


def holder(folder: Path) -> str | None:
    """Who holds ``folder``, such as "process 123 on host since 2026-01-31 12:00:00"; or None."""
    try:
        machine.check_system()
        descriptor = _opened(folder / LOCK, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _text(descriptor)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return None


def _text(descriptor: int) -> str:
    return os.pread(descriptor, 200, 0).decode(errors="replace") or "another process"
