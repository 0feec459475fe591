"""Files that are either whole or not there: arrays, tables, JSON, and the manifests of tasks."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

MANIFEST = "manifest.json"
# Columns of tables that are text whatever they look like.
_TEXT = {
    "photo", "identity", "name", "sha256", "group", "note", "reason", "crops", "detector",
    "network", "attack", "layer", "target", "size", "arm", "reading", "claim", "says", "place",
    "on", "verdict", "effect", "detail", "rule", "accuracy_order", "accuracy_order_paper",
    "mod_order", "mod_order_paper", "quantity", "hash",
}  # fmt: skip


class Observer(Protocol):
    """Who is told of every file that is written: a task's journal."""

    def begin(self, path: Path) -> None:
        """``path`` is about to be written; raises what forbids it."""

    def end(self, path: Path) -> None:
        """``path`` is whole and on the disk."""

    def holds(self, path: Path) -> bool:
        """Whether ``path`` was written before and is still as it was."""


_OBSERVER: ContextVar[Observer | None] = ContextVar("observer", default=None)


@contextlib.contextmanager
def observed(observer: Observer) -> Iterator[None]:
    """Tell ``observer`` of the files written inside."""
    token = _OBSERVER.set(observer)
    try:
        yield
    finally:
        _OBSERVER.reset(token)


def is_whole(path: Path) -> bool:
    """Whether a part of a task's result is there already, as it was written."""
    observer = _OBSERVER.get()
    return path.exists() if observer is None else observer.holds(path)


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it takes the place of ``path``.

    The bytes are on the disk before the name is, so a reader, even after a power cut, finds the
    old file or the new one and never a part of it. The temporary name keeps the suffix, by which
    some writers choose their format.

    Raises:
        OSError: it can't be written; where the disk is full, whatever the writer said of that.
    """
    observer = _OBSERVER.get()
    if observer is not None:
        observer.begin(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_of(path)
    temporary.unlink(missing_ok=True)  # what a killed process left, or a link to elsewhere
    try:
        yield temporary
        _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)
    except Exception as error:
        # Writers of models and figures hide it behind errors of their own, or of no number.
        if _is_full(path.parent) and getattr(error, "errno", None) != errno.ENOSPC:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        if isinstance(error, OSError) and error.errno is None:
            raise OSError(errno.EIO, str(error), str(path)) from error
        raise
    finally:
        with contextlib.suppress(OSError):  # of a folder that is gone, say; the first error counts
            temporary.unlink(missing_ok=True)
    if observer is not None:
        observer.end(path)


def publish(path: Path, target: Path) -> Path:
    """Move a whole file to its place for readers, over what is there; the new path."""
    observer = _OBSERVER.get()
    if observer is not None:
        observer.begin(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    path.replace(target)
    _sync(target.parent)
    if observer is not None:
        observer.end(target)
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


def write_text(path: Path, text: str) -> None:
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in ``path``; ValueError when it holds anything else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"Expected a JSON object in {path}. Received: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"Expected a JSON object in {path}. Received: {type(content).__name__}")
    return content


def write_table(path: Path, table: pd.DataFrame) -> None:
    with whole_file(path) as temporary:
        table.to_csv(temporary, index=False)


def write_parts(path: Path, parts: Iterable[pd.DataFrame]) -> None:
    """Write tables of the same columns one below the other, holding one at a time."""
    with whole_file(path) as temporary:
        for number, part in enumerate(parts):
            part.to_csv(temporary, index=False, mode="a", header=number == 0)


def write_tables(folder: Path, **by_name: pd.DataFrame) -> list[Path]:
    """Write each table as ``<name>.csv`` into ``folder``; the files."""
    paths = [folder / f"{name}.csv" for name in by_name]
    for path, table in zip(paths, by_name.values(), strict=True):
        write_table(path, table)
    return paths


def read_table(path: Path) -> pd.DataFrame:
    # An identity may be called "NA" or "007": text stays text, and only an empty cell of numbers
    # is a gap.
    columns = pd.read_csv(path, nrows=0).columns
    text = [column for column in columns if column in _TEXT]
    table = pd.read_csv(path, dtype=dict.fromkeys(text, str), keep_default_na=False, na_values=[""])
    return table.fillna(dict.fromkeys(text, ""))


def write_array(path: Path, array: np.ndarray) -> None:
    with whole_file(path) as temporary:
        np.save(temporary, array, allow_pickle=False)


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    with whole_file(path) as temporary:
        np.savez(temporary, **arrays)  # type: ignore[arg-type]


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(inputs: Mapping[str, Any]) -> str:
    """Hash of everything that a result depends on; equal for equal JSON values."""
    text = json.dumps(inputs, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def describe_files(paths: list[Path], root: Path) -> dict[str, dict[str, Any]]:
    """Size, time and sha256 of each file, by its path relative to ``root``."""
    return {
        os.path.relpath(path, root): {
            "size": path.stat().st_size,
            "mtime_ns": path.stat().st_mtime_ns,
            "sha256": sha256(path),
        }
        for path in paths
    }


def files_intact(described: Mapping[str, Mapping[str, Any]], root: Path) -> bool:
    """Whether the files are still as :func:`describe_files` found them.

    Same size and time counts as unchanged; another time makes us read the file again.
    """
    for name, facts in described.items():
        path = Path(os.path.normpath(root / name))
        if not path.is_file() or path.stat().st_size != facts["size"]:
            return False
        if path.stat().st_mtime_ns != facts["mtime_ns"] and sha256(path) != facts["sha256"]:
            return False
    return True
