"""What does the slices of a stage: this process, one after the other, or workers elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import pandas as pd
from tqdm import tqdm

from gradcam_adv import threads
from gradcam_adv.files import artifacts
from gradcam_adv.study import setting

Name = Literal["local", "ray"]
# Writes the files of one slice, of its name, its photos, and what was read for it, if anything.
Write = Callable[..., None]
Read = Callable[[pd.DataFrame], Any]


class WorkerLost(UserWarning):
    """A worker ended in the middle of its work, which another does again."""


@dataclass(frozen=True)
class Sliced:
    """Work on a table of photos, cut into slices that know nothing of each other.

    Attributes:
        what: it is, for a bar: "attack vgg16, plain".
        rows: the photos; a slice is called after the index of its first one.
        files: of a slice's name and photos, the files that it writes.
        begin: prepares a process (loads a network, say) and gives what writes slices there. It can
            be pickled, and what it writes does not depend on the slices before.
        length: photos in a slice; setting.SLICE where none is given.
        read: of a slice's photos, what writing it takes as well, such as their pixels: it can be
            had while the slice before is at work. None where there is nothing to read so.
    """

    what: str
    rows: pd.DataFrame
    files: Callable[[str, pd.DataFrame], list[Path]]
    begin: Callable[[], Write]
    length: int | None = None
    read: Read | None = None

    def slices(self) -> Iterator[tuple[str, pd.DataFrame]]:
        return setting.cut(self.rows, self.length)


def read_for(read: Read | None, rows: pd.DataFrame) -> tuple[Any, ...]:
    """What is read for a slice, as further arguments of what writes it."""
    return () if read is None else (read(rows),)


class Engine(Protocol):
    """What does sliced work."""

    def run(self, sliced: Sliced) -> list[Path]:
        """Write what is not whole yet of the files of every slice; all of them, in order."""

    def close(self) -> None:
        """End what it has started."""


@dataclass(frozen=True)
class Slice:
    """One slice: its name, its photos and the files that it is written into."""

    name: str
    rows: pd.DataFrame
    files: list[Path]


def missing(sliced: Sliced, files: list[Path], bar: tqdm[Any]) -> Iterator[Slice]:
    """The slices of which a file is not whole; the files of all of them are added to ``files``."""
    for name, rows in sliced.slices():
        own = sliced.files(name, rows)
        files += own
        if all(map(artifacts.is_whole, own)):
            bar.update(len(rows))
        else:
            yield Slice(name, rows, own)


class Local:
    """This process, one slice after the other; it prepares itself once there is one to do."""

    def run(self, sliced: Sliced) -> list[Path]:
        files: list[Path] = []
        write = None
        with setting.bar(sliced.what, sliced.rows) as bar:
            to_do = missing(sliced, files, bar)
            for own, given in threads.ahead(
                lambda own: (own, read_for(sliced.read, own.rows)), to_do
            ):
                write = write or sliced.begin()
                write(own.name, own.rows, *given)
                bar.update(len(own.rows))
        return files

    def close(self) -> None:
        pass


LOCAL = Local()


def choose(name: Name, address: str | None, thread_count: int) -> Engine:
    """The engine of that name.

    Args:
        name: "local" or "ray".
        address: of a Ray cluster; without one Ray is started on this machine.
        thread_count: of each worker.

    Raises:
        ValueError: an address without Ray.
        ImportError: Ray isn't installed.
    """
    if name == "local":
        if address is not None:
            raise ValueError("Expected --engine ray with --address. Received: --engine local")
        return LOCAL
    try:
        from gradcam_adv.runs.ray_engine import Ray
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise ImportError(
            'Expected Ray for --engine ray; pip install "gradcam-adv[ray]" brings it. '
            "Received: no module named ray"
        ) from None
    return Ray(thread_count, address)
