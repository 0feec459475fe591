"""Engines: they do the slices of a task. The local one does them in this process, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from gradcam_adv import threads
from gradcam_adv.files import write
from gradcam_adv.runs.progress import Advance, Bar, untold

# Rows in a slice: an interrupted task repeats no more than that.
SLICE = 32

# Writes the files of one slice: its name, its rows, and what was read for it, if anything.
WriteSlice = Callable[..., None]
ReadSlice = Callable[[pd.DataFrame], Any]


class WorkerLost(UserWarning):
    """A worker died during its work; another does that work again."""


@dataclass(frozen=True)
class Slice:
    """One slice: its name, its rows and the files that it is written into."""

    name: str
    rows: pd.DataFrame
    files: list[Path]


@dataclass(frozen=True)
class Sliced:
    """Work on the rows of a table, cut into slices that do not depend on each other.

    Attributes:
        what: the name of the work, for the progress bar, such as "attack vgg16, plain".
        rows: a slice is named after the index of its first row.
        files: from a slice's name and rows to the files that it writes.
        begin: prepares a process, for example loads a network, and returns the function that
            writes slices there. It is pickled for workers in other processes.
        length: rows in a slice; None for SLICE.
        read: from a slice's rows to a further argument of the function that writes it, such as
            their pixels, while the slice before is written. None if there is nothing to read.
    """

    what: str
    rows: pd.DataFrame
    files: Callable[[str, pd.DataFrame], list[Path]]
    begin: Callable[[], WriteSlice]
    length: int | None = None
    read: ReadSlice | None = None

    def slices(self) -> Iterator[Slice]:
        for name, rows in cut(self.rows, self.length):
            yield Slice(name, rows, self.files(name, rows))

    def files_due(self) -> int:
        """How many files all slices have."""
        return sum(len(part.files) for part in self.slices())


def cut(rows: pd.DataFrame, length: int | None = None) -> Iterator[tuple[str, pd.DataFrame]]:
    """Cut a table into slices of ``length`` rows (SLICE), each named after its first row."""
    length = length or SLICE
    for start in range(0, len(rows), length):
        part = rows.iloc[start : start + length]
        yield slice_name(part.index[0]), part.reset_index(drop=True)


def slice_name(row: int) -> str:
    """The name of the slice that begins with a row."""
    return f"{row:07d}"


def read_for(read: ReadSlice | None, rows: pd.DataFrame) -> tuple[Any, ...]:
    """What is read for a slice, as further arguments of the function that writes it."""
    return () if read is None else (read(rows),)


class Engine(Protocol):
    """Does sliced work.

    Attributes:
        advance: is told the share that is done.
    """

    advance: Advance

    def run(self, sliced: Sliced) -> list[Path]:
        """Write the files of every slice that are not whole yet; return all of them, in order."""

    def close(self) -> None:
        """End what it has started."""


def missing(sliced: Sliced, files: list[Path], bar: Bar) -> Iterator[Slice]:
    """The slices with a file that is not whole. The files of all slices are added to ``files``."""
    for part in sliced.slices():
        files += part.files
        if all(map(write.is_whole, part.files)):
            bar.update(len(part.rows))
        else:
            yield part


class Local:
    """This process. It prepares itself when there is a first slice to do."""

    def __init__(self) -> None:
        self.advance: Advance = untold

    def run(self, sliced: Sliced) -> list[Path]:
        files: list[Path] = []
        write_slice = None
        with Bar(sliced.what, sliced.rows, self.advance) as bar:
            to_do = missing(sliced, files, bar)
            for part, given in threads.map_one_ahead(
                lambda part: (part, read_for(sliced.read, part.rows)), to_do
            ):
                write_slice = write_slice or sliced.begin()
                write_slice(part.name, part.rows, *given)
                bar.update(len(part.rows))
        return files

    def close(self) -> None:
        pass
