"""Writing files that are either whole or not there: text, JSON, tables, arrays."""

from __future__ import annotations

import contextlib
import csv
import errno
import json as json_format
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gradcam_adv.files.text import as_cell, in_texts, texts_in

# Of PNG files: written four times as fast as at the usual 6, and a fifth larger.
PNG_LEVEL = 1


class Observer:
    """Is told of every file that is written. The journal of a task is a subclass."""

    def begin(self, path: Path) -> None:
        """``path`` is about to be written. Raises an error if that is forbidden."""

    def end(self, path: Path) -> None:
        """``path`` is whole and on the disk."""

    def holds(self, path: Path) -> bool:
        """Whether ``path`` was written before and has not changed since."""
        return path.exists()


_OBSERVER: ContextVar[Observer] = ContextVar("observer")


@contextlib.contextmanager
def observed(by: Observer) -> Iterator[None]:
    """Within this context ``by`` is told of the files written."""
    token = _OBSERVER.set(by)
    try:
        yield
    finally:
        _OBSERVER.reset(token)


def observer() -> Observer:
    """The observer that is told now, also of files that a worker elsewhere writes."""
    return _OBSERVER.get(Observer())


def is_whole(path: Path) -> bool:
    """Whether a part of a task's result exists as it was written."""
    return observer().holds(path)


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success the file is renamed to ``path``.

    The bytes are on the disk before the name is. So a reader finds the old file or the new one and
    never a part of it, even after a power cut. The temporary name keeps the suffix, by which some
    writers choose their format. If the disk is full an OSError says so, whatever was raised.
    """
    observer().begin(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_of(path)
    temporary.unlink(missing_ok=True)  # left by a killed process, or a link to elsewhere
    try:
        yield temporary
        _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)
    except Exception as error:
        # Writers of models and figures hide a full disk behind errors of their own.
        if _is_full(path.parent) and getattr(error, "errno", None) != errno.ENOSPC:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        if isinstance(error, OSError) and (error.errno is None or error.filename is None):
            number, why = error.errno or errno.EIO, error.strerror or str(error)
            raise OSError(number, why, str(path)) from error
        raise
    finally:
        with contextlib.suppress(OSError):  # the folder may be gone; the first error counts
            temporary.unlink(missing_ok=True)
    observer().end(path)


def publish(path: Path, target: Path) -> Path:
    """Move a whole file to ``target``, over what is there; the new path."""
    observer().begin(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    path.replace(target)
    _sync(target.parent)
    observer().end(target)
    return target


def temporary_of(path: Path) -> Path:
    """Where the bytes of ``path`` are until they are whole."""
    return path.with_name(f".{path.stem}.partial{path.suffix}")


def _is_full(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free < 4096
    except OSError:
        return False


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def text(path: Path, content: str) -> None:
    with whole_file(path) as temporary:
        temporary.write_text(content, encoding="utf-8")


def json(path: Path, content: Mapping[str, Any]) -> None:
    text(path, json_format.dumps(content, indent=2, ensure_ascii=False) + "\n")


def table(path: Path, content: pd.DataFrame) -> None:
    """Write a table as CSV; text that begins like a formula gets an apostrophe before it."""
    table_in_parts(path, [content])


def table_in_parts(path: Path, parts: Iterable[pd.DataFrame]) -> None:
    """Write tables with the same columns one below the other, holding one at a time."""
    with whole_file(path) as temporary:
        for number, part in enumerate(parts):
            cells = in_texts(part, as_cell)
            # Left to itself, csv quotes no "\r", which would end the row.
            odd = any("\r" in text for text in texts_in(part))
            cells.to_csv(
                temporary,
                index=False,
                mode="a",
                header=number == 0,
                quoting=csv.QUOTE_NONNUMERIC if odd else csv.QUOTE_MINIMAL,
            )


def tables(folder: Path, **by_name: pd.DataFrame) -> list[Path]:
    """Write each table as ``<name>.csv`` into ``folder``; the files."""
    paths = [folder / f"{name}.csv" for name in by_name]
    for path, content in zip(paths, by_name.values(), strict=True):
        table(path, content)
    return paths


def array(path: Path, content: np.ndarray) -> None:
    """Write an array as ``.npy``."""
    with whole_file(path) as temporary:
        np.save(temporary, content, allow_pickle=False)


def arrays(path: Path, by_name: Mapping[str, np.ndarray]) -> None:
    """Write arrays as ``.npz``."""
    with whole_file(path) as temporary:
        np.savez(temporary, **by_name)  # type: ignore[arg-type]
