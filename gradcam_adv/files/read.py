"""Reading files that may be damaged: one kind of error, with the path and the reason."""

from __future__ import annotations

import contextlib
import json as json_format
import os
import stat
import warnings
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gradcam_adv.files.text import from_cell, in_texts


def json(path: Path) -> dict[str, Any]:
    """The JSON object in a file; ValueError if it holds anything else."""
    with _reading(path, "a JSON object"):
        try:
            content = json_format.loads(path.read_text(encoding="utf-8"))
        except RecursionError:
            raise ValueError("nested too deep") from None
        if not isinstance(content, dict):
            raise ValueError(type(content).__name__)
        check_nesting(content)
    return content


# Tables and lists within each other, or folders: more than anybody needs, and few enough for
# functions that call themselves.
DEEPEST = 100


def check_nesting(content: Any) -> None:
    """ValueError for tables and lists that are nested more than DEEPEST deep."""
    level = [content]
    for _ in range(DEEPEST):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    if level:
        raise ValueError("nested too deep")


Listed = tuple[str, list[str], list[str]]


def walk(folder: Path | str, *, seen: set[str] | None = None) -> Iterator[Listed]:
    """``os.walk``; ValueError for a folder that can't be listed, or that is DEEPEST levels down.

    With ``seen``, the real paths of folders, links to folders are followed, after all folders that
    are none. Each folder is read once, whatever leads to it, and added to ``seen``; so links in a
    circle end.
    """
    above = os.fspath(folder).count(os.sep)
    tops = [os.fspath(folder)]
    for top in tops:
        for path, inside, files in os.walk(top, onerror=_cannot_list):
            if path.count(os.sep) - above >= DEEPEST:
                raise ValueError(
                    f"Expected folders nested less than {DEEPEST} deep. Received: more in {folder}"
                )
            if seen is not None:
                real = os.path.realpath(path)
                if real in seen:
                    inside.clear()
                    continue
                seen.add(real)
            yield path, inside, files
            if seen is not None:  # of those that the caller has left in the list
                places = (os.path.join(path, name) for name in inside)
                tops += sorted(filter(os.path.islink, places))


def _cannot_list(error: OSError) -> None:
    raise ValueError(
        f"Expected folders that can be listed. Received: {error.filename}: {error.strerror}"
    )


def table(path: Path, text: Collection[str] = ()) -> pd.DataFrame:
    """The table in a CSV file; ValueError if it is damaged, or no table.

    The columns ``text`` are text, whatever they look like: a person may be called "NA" or "007".
    In other columns an empty cell is a missing number. An apostrophe that our writer put before a
    text is taken off.
    """
    with _reading(path, "a table"), warnings.catch_warnings():
        # With index_col=False, cells beyond the header are a warning, and do not become the index.
        warnings.simplefilter("error", pd.errors.ParserWarning)
        columns = pd.read_csv(path, nrows=0, index_col=False).columns
        if not all(str(name).isprintable() and len(str(name)) < 200 for name in columns):
            raise ValueError("a first line that is no header")
        as_text = [column for column in columns if column in text]
        content = pd.read_csv(
            path,
            dtype=dict.fromkeys(as_text, str),
            keep_default_na=False,
            na_values=[""],
            index_col=False,
        )
    return in_texts(content.fillna(dict.fromkeys(as_text, "")), from_cell)


def array(path: Path) -> np.ndarray:
    """The array in a ``.npy`` file; ValueError if it is damaged, a pickle, or no array.

    It stays on the disk, read-only, and parts of it are read as they are used.
    """
    # NumPy would warn of a shape that is too large to count, and go on.
    with _reading(path, "an array"), np.errstate(over="raise"):
        content = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(content, np.ndarray):
            raise ValueError("an archive")
        return content


@contextlib.contextmanager
def arrays(path: Path) -> Iterator[Arrays]:
    """The arrays in an ``.npz`` file, while it is open; ValueError as of :func:`array`."""
    with _reading(path, "an archive of arrays"):
        archive = np.load(path, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise ValueError("one array")
    with archive:
        yield Arrays(path, archive)


class Arrays(Mapping[str, np.ndarray]):
    """The arrays in an open archive by name; each is read when it is asked for."""

    def __init__(self, path: Path, archive: Any) -> None:
        self._path = path
        self._archive = archive

    def __getitem__(self, name: str) -> np.ndarray:
        with _reading(self._path, f"an array {name!r}"):
            content = self._archive[name]
            if not isinstance(content, np.ndarray):  # NumPy gives other files as bytes
                raise ValueError("another kind of file")
            return content

    def __iter__(self) -> Iterator[str]:
        return iter(self._archive.files)

    def __len__(self) -> int:
        return len(self._archive.files)

    def __contains__(self, name: object) -> bool:
        return name in self._archive.files


@contextlib.contextmanager
def _reading(path: Path, what: str) -> Iterator[None]:
    """Turn the errors of a reader into a ValueError with the path; an OSError stays one."""
    if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait forever
        raise ValueError(f"Expected {what} in {path}. Received: no regular file")
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:  # the file system's own
            raise
        said = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"Expected {what} in {path}. Received: {said}") from None


def inside(folder: Path, name: str) -> Path:
    """The path of ``name`` below ``folder``, for names that come from files.

    ValueError if it leads out of the folder (by "..", as an absolute path or through a link), is
    the folder itself, or is no path.
    """
    path = folder / name
    try:
        real, top = path.resolve(), folder.resolve()
        within = real != top and real.is_relative_to(top)
    except (ValueError, RuntimeError):  # a null character; links in a circle
        within = False
    if not within:
        raise ValueError(f"Expected the name of a file inside {folder}. Received: {name!r}")
    return path
