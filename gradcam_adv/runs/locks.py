"""One process at a time in a folder; what a dead one left does not stand in the way."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

LOCK = ".lock"
# To make a folder in which others make and remove it, too.
TRIES = 100


class Held(OSError):
    """Another process is at work there."""


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold ``folder``, made where it is missing, for this process alone.

    The operating system's own lock on a file in it, so it ends with the process, however that ends.

    Raises:
        Held: by another process; the message tells which.
        OSError: the folder can't be made or written to, or its file system knows no locks.
    """
    made = not folder.exists()
    path = folder / LOCK
    descriptor = _locked(path)
    try:
        now = datetime.now().isoformat(sep=" ", timespec="seconds")
        who = f"process {os.getpid()} on {socket.gethostname()} since {now}"
        with contextlib.suppress(OSError):  # where the disk is full; what makes room locks, too
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, who.encode(), 0)
        yield
    finally:
        # Before it is let go: afterwards it may be somebody else's already.
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
            # No link is followed, or a stranger's folder could have us empty a file elsewhere.
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        except (FileNotFoundError, FileExistsError):
            # Whoever made the folder removes it as long as nothing is in it: at any moment of ours.
            failures += 1
            if failures == TRIES:
                raise
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever held it until just now deleted the file: then this is a lock on nothing.
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


def holder(folder: Path) -> str | None:
    """Who holds ``folder``, such as "process 123 on host since 2026-01-31 12:00:00"; or None."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY | os.O_NOFOLLOW)
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
