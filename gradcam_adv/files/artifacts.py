"""Files that are either whole or not there: arrays, tables, JSON, and the manifests of tasks."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import stat
import warnings
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


def begin(path: Path) -> None:
    """Say that ``path`` is about to be written, here or by a worker elsewhere."""
    observer = _OBSERVER.get()
    if observer is not None:
        observer.begin(path)


def end(path: Path) -> None:
    """Say that ``path`` is whole and on the disk."""
    observer = _OBSERVER.get()
    if observer is not None:
        observer.end(path)


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it takes the place of ``path``.

    The bytes are on the disk before the name is, so a reader, even after a power cut, finds the
    old file or the new one and never a part of it. The temporary name keeps the suffix, by which
    some writers choose their format.

    Raises:
        OSError: it can't be written; where the disk is full, whatever the writer said of that.
    """
    begin(path)
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
        if isinstance(error, OSError) and (error.errno is None or error.filename is None):
            number, why = error.errno or errno.EIO, error.strerror or str(error)
            raise OSError(number, why, str(path)) from error
        raise
    finally:
        with contextlib.suppress(OSError):  # of a folder that is gone, say; the first error counts
            temporary.unlink(missing_ok=True)
    end(path)


def publish(path: Path, target: Path) -> Path:
    """Move a whole file to its place for readers, over what is there; the new path."""
    begin(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    path.replace(target)
    _sync(target.parent)
    end(target)
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
    with _reading(path, "a JSON object"):
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError(type(content).__name__)
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
    """The table in a CSV file; ValueError when it is damaged or none."""
    with _reading(path, "a table"), warnings.catch_warnings():
        # Without index_col=False, which warns, cells beyond the header would become the index.
        warnings.simplefilter("error", pd.errors.ParserWarning)
        columns = pd.read_csv(path, nrows=0, index_col=False).columns
        if not all(str(name).isprintable() and len(str(name)) < 200 for name in columns):
            raise ValueError("a first line that is no header")
        # An identity may be called "NA" or "007": text stays text, and only an empty cell of
        # numbers is a gap.
        text = [column for column in columns if column in _TEXT]
        table = pd.read_csv(
            path,
            dtype=dict.fromkeys(text, str),
            keep_default_na=False,
            na_values=[""],
            index_col=False,
        )
    return table.fillna(dict.fromkeys(text, ""))


def write_array(path: Path, array: np.ndarray) -> None:
    with whole_file(path) as temporary:
        np.save(temporary, array, allow_pickle=False)


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    with whole_file(path) as temporary:
        np.savez(temporary, **arrays)  # type: ignore[arg-type]


def read_array(path: Path, mmap: bool = False) -> np.ndarray:
    """The array in a ``.npy`` file; ValueError when it is damaged, a pickle or no array.

    Args:
        path: of the file.
        mmap: leave it on the disk, read-only, until it is looked at.
    """
    with _reading(path, "an array"):
        # Mapped first in any case: a header that tells of more than there is costs no memory.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(array, np.ndarray):
            raise ValueError("an archive")
        return array if mmap else np.array(array)


@contextlib.contextmanager
def read_arrays(path: Path) -> Iterator[Arrays]:
    """The arrays in an ``.npz`` file, as long as it is open; ValueError as of read_array."""
    with _reading(path, "an archive of arrays"):
        archive = np.load(path, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise ValueError("one array")
    with archive:
        yield Arrays(path, archive)


class Arrays(Mapping[str, np.ndarray]):
    """The arrays in an open archive by name, each read when it is asked for."""

    def __init__(self, path: Path, archive: Any) -> None:
        self._path = path
        self._archive = archive

    def __getitem__(self, name: str) -> np.ndarray:
        with _reading(self._path, f"an array {name!r}"):
            array = self._archive[name]
            if not isinstance(array, np.ndarray):  # numpy gives other files as bytes
                raise ValueError("another kind of file")
            return array

    def __iter__(self) -> Iterator[str]:
        return iter(self._archive.files)

    def __len__(self) -> int:
        return len(self._archive.files)

    def __contains__(self, name: object) -> bool:
        return name in self._archive.files


@contextlib.contextmanager
def _reading(path: Path, what: str) -> Iterator[None]:
    """Anything that a damaged file makes a reader raise, as one kind; a missing one is an OSError.

    Raises:
        ValueError: with the path, and what the reader said.
    """
    if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for ever
        raise ValueError(f"Expected {what} in {path}. Received: no regular file")
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:  # the file system's own
            raise
        said = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"Expected {what} in {path}. Received: {said}") from None


def inside(folder: Path, name: str) -> Path:
    """The path of ``name`` below ``folder``, for names that come out of files.

    Raises:
        ValueError: it leads out of the folder, by "..", as an absolute path or through a link, is
            the folder itself, or can't be a path at all.
    """
    path = folder / name
    try:
        real, top = path.resolve(), folder.resolve()
        within = real != top and real.is_relative_to(top)
    except (ValueError, RuntimeError):  # a null character; links in a circle
        within = False
    if not within:
        raise ValueError(f"Expected the name of a file inside of {folder}. Received: {name!r}")
    return path


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
        if not os.path.isfile(path):  # False as well for what can be no path
            return False
        match facts:  # which may come from a stranger
            case {"size": int(size), "mtime_ns": int(time), "sha256": str(content)}:
                found = path.stat()
                if found.st_size != size or (found.st_mtime_ns != time and sha256(path) != content):
                    return False
            case _:
                return False
    return True
