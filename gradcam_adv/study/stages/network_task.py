"""What tasks of one network, and tasks over all networks of an arm, have in common."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd

from gradcam_adv import backends
from gradcam_adv.files import hashes, read, write
from gradcam_adv.models import backbones, classifiers
from gradcam_adv.runs.engines import Engine, Sliced, WriteSlice
from gradcam_adv.runs.tasks import Task, not_an_input
from gradcam_adv.study.columns import read_table
from gradcam_adv.study.photos import Photos
from gradcam_adv.study.settings import Arm, Precision

if TYPE_CHECKING:
    import keras

# For the time left: seconds until a network is built and compiled, and multiply-adds per second, in
# 1e9.
STARTING = 4.0
SPEED = 80.0


@dataclass(frozen=True, eq=False, kw_only=True)
class NetworkTask(Task):
    """A task of one network in one arm, named such as "plain/attack/vgg16".

    Attributes:
        photos: of the arm; an input already of the tasks that this one needs.
    """

    runs_networks = True

    arm: Arm
    network: str
    photos: Photos = not_an_input()

    @property
    def name(self) -> str:
        return f"{self.arm}/{self.kind}/{self.network}"

    @property
    def title(self) -> str:
        return f"{self.kind} {self.network}, {self.arm}"

    def seconds(self, passes: float) -> float:
        """About how long it takes to bring so many photos through the network, on two cores."""
        of_photo = backbones.find(self.network).multiply_adds * (self.photos.image_size / 224) ** 2
        return STARTING + passes * of_photo / SPEED


# The last model opened in this process, by its file, that of its head, their hashes and the
# precision.
_opened: dict[tuple[object, ...], keras.Model] = {}


def open_model(path: Path, precision: Precision, head: Path | None = None) -> keras.Model:
    """A saved classifier; the one that was opened last, with what is compiled for it, or a new one.

    The tasks of a network follow each other, so each network is opened once. One is kept at a time.

    Args:
        path: of the classifier.
        precision: in which it computes.
        head: a file with the weights of another head; None for the classifier's own.

    Raises:
        ValueError: no such file, or one that is not opened.
    """
    files = [path] if head is None else [path, head]
    key = (*files, *(hashes.sha256(file) if file.is_file() else "" for file in files), precision)
    if key not in _opened:
        close_model()
        model = classifiers.load_model(path)
        if head is not None:
            with read.arrays(head) as weights:
                classifiers.set_head(model, weights)
        _opened[key] = (
            model if precision == "float32" else classifiers.in_precision(model, precision)
        )
    return _opened[key]


def close_model() -> None:
    """Free the model that was opened last, and what is compiled for it."""
    if _opened:
        _opened.clear()
        backends.clear_session()


@dataclass(frozen=True, eq=False, kw_only=True)
class SlicedTask(Task):
    """A task that does slices of an arm's photos, each into a file.

    Attributes:
        photos: of the arm; an input already of the tasks that this one needs.
        file: the name of a slice's file, with "{}" for the name of the slice.
        length: rows in a slice; None for the usual number.
        reads_pixels: whether the function that writes a slice gets the pixels of its photos.
    """

    file: ClassVar[str]
    length: ClassVar[int | None] = None
    reads_pixels: ClassVar[bool] = False

    photos: Photos = not_an_input()

    @property
    @abc.abstractmethod
    def title(self) -> str:
        """For progress bars."""

    @abc.abstractmethod
    def begin(self) -> WriteSlice:
        """Prepare a process; return the function that writes slices there."""

    def photos_to_do(self) -> pd.DataFrame:
        return self.photos.test

    def path(self, name: str) -> Path:
        """The file of a slice."""
        return self.folder / self.file.format(name)

    def paths(self) -> list[Path]:
        """The files that are there, in the order of the slices."""
        # Files that a killed process was writing begin with a dot.
        return sorted(self.folder.glob(self.file.format("[0-9]*")))

    def start_of(self, row: int) -> int:
        """The first row of the slice that a row is in."""
        starts = (int(path.stem.split("-")[-1]) for path in self.paths())
        return max(start for start in starts if start <= row)

    def files(self, name: str, rows: pd.DataFrame) -> list[Path]:
        """The files that a slice is written into."""
        return [self.path(name)]

    def files_beside(self) -> list[Path]:
        """The files that are not of one slice."""
        return []

    def sliced(self) -> Sliced:
        """The work, once the photos are chosen."""
        return Sliced(
            self.title,
            self.photos_to_do(),
            self.files,
            self.begin,
            self.length,
            self.photos.pixels if self.reads_pixels else None,
        )

    def make(self, engine: Engine) -> list[Path]:
        return engine.run(self.sliced())

    def files_due(self) -> int | None:
        if not self.photos.are_chosen():
            return None
        return self.sliced().files_due() + len(self.files_beside())


@dataclass(frozen=True, eq=False, kw_only=True)
class SummaryTask(Task):
    """A task over all networks of one arm, named such as "plain/score/summary".

    Attributes:
        networks: by network, the tasks whose files it reads.
    """

    arm: Arm
    networks: Mapping[str, Any]

    @property
    def name(self) -> str:
        return f"{self.arm}/{self.kind}/summary"

    @abc.abstractmethod
    def summarize(self) -> dict[str, pd.DataFrame]:
        """Its tables by name, out of the files of the networks' tasks."""

    def make(self, engine: Engine) -> list[Path]:
        return write.tables(self.folder, **self.summarize())

    def table(self, name: str) -> pd.DataFrame:
        """One of its tables, once they are written."""
        return read_table(self.folder / f"{name}.csv")
