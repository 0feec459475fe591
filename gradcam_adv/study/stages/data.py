"""The stage "data": the table of photos, and for the aligned arm the crops of their faces."""

from __future__ import annotations

import functools
import logging
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gradcam_adv import threads, validation
from gradcam_adv.data import datasets, faces, photos
from gradcam_adv.data.sources import Listing
from gradcam_adv.files import write
from gradcam_adv.runs import records
from gradcam_adv.runs.engines import Engine, Sliced, WriteSlice, cut
from gradcam_adv.runs.records import Names
from gradcam_adv.runs.tasks import Task, counted_as, later, not_an_input
from gradcam_adv.study.columns import read_parts, read_table
from gradcam_adv.study.stages.network_task import SlicedTask

logger = logging.getLogger(__name__)

# A detection depends on this and the photo alone.
DETECTOR = f"mtcnn {version('mtcnn')}, {faces.DETECTION_SIDE} px, rule 2"
NO_FACE = "no face found"
# Photos per file: some seconds of reading, which is what an interruption costs.
CHECKED = 512


@dataclass(frozen=True, eq=False, kw_only=True)
class ChoosePhotos(Task):
    """Chooses, checks and splits the photos of a data set.

    Writes ``photos.csv`` (those that are used, with the column fold if there are folds),
    ``excluded.csv`` and ``identities.csv``, and below ``checked`` what was found when each photo
    was read.
    """

    kind = stage = "data"
    names = Names(r"(checked/\d{7}|excluded|identities|photos)\.csv")

    listing: Listing = counted_as(
        lambda listing: {"files": listing.files.to_numpy().tolist(), "stray": listing.stray},
        travels=False,
    )
    classes: int | None
    min_photos: int
    max_photos: int | None
    split: tuple[float, float, float]
    folds: int | None = later(None)
    seed: int
    allow_left_out: bool = not_an_input()

    @property
    def name(self) -> str:
        return "plain/data"

    def make(self, engine: Engine) -> list[Path]:
        checked_files = self._check(engine)
        table = datasets.make_table(
            self.listing,
            classes=self.classes,
            min_photos=self.min_photos,
            max_photos=self.max_photos,
            split=self.split,
            seed=self.seed,
            checked=read_parts(checked_files),
        )
        kept = table.kept
        if self.folds is not None:
            kept = kept.assign(fold=datasets.deal(kept, self.folds))
        files = write.tables(
            self.folder, excluded=table.excluded, identities=table.identities, photos=kept
        )
        logger.info(datasets.summary(table))
        if not self.allow_left_out:
            _check_left_out(datasets.share_left_out(table), self.folder)
        return [*checked_files, *files]

    def _check(self, engine: Engine) -> list[Path]:
        """Read every photo once; the files of what was found."""
        place = self.folder / "checked"
        for path in place.glob("*.csv"):
            # The disk that failed may work again.
            if write.is_whole(path) and datasets.may_pass(read_table(path)):
                path.unlink()
        sliced = Sliced(
            "reading photos",
            self.listing.files,
            lambda name, _: [place / f"{name}.csv"],
            functools.partial(_begin_checking, self.listing.root, place),
            CHECKED,
        )
        return engine.run(sliced)


def _begin_checking(root: Path, folder: Path) -> WriteSlice:
    # Not a method of the task, so that workers get paths only.
    def write_slice(name: str, rows: pd.DataFrame) -> None:
        write.table(folder / f"{name}.csv", datasets.check_photos(root, rows))

    return write_slice


@dataclass(frozen=True, eq=False, kw_only=True)
class FindFaces(SlicedTask):
    """Finds the face that counts in every photo; one table per slice.

    What an earlier choice of photos left beside this folder is looked up by the photo's sha256. A
    slice with an unknown photo is searched as a whole: MTCNN decides near-ties by a photo's
    position in its batch, so an interrupted run must see the same batches as an undisturbed one.
    """

    kind = "faces"
    stage = "data"
    file = "faces-{}.csv"
    names = Names(r"faces-\d{7}\.csv")
    title = "detect faces"
    runs_networks = True

    data: ChoosePhotos
    detector: str

    @property
    def name(self) -> str:
        return "plain/faces"

    def photos_to_do(self) -> pd.DataFrame:
        return self.photos.table

    def faces(self, name: str) -> pd.DataFrame:
        """The faces of one slice, a row per photo: the fields of Face."""
        return read_table(self.path(name))[list(_NO_FACE)]

    def places(self) -> pd.DataFrame:
        """Where faces are in the photos as they are, as :func:`faces.places`, by photo."""
        table = read_parts(self.paths())
        return faces.places(table).set_axis(table["photo"])

    def begin(self) -> WriteSlice:
        # Slices of this folder are among them, but no photo is in two slices.
        known = self._known()
        detector = functools.cache(faces.Detector)

        def write_slice(name: str, rows: pd.DataFrame) -> None:
            face_of = {sha256: known[sha256] for sha256 in rows["sha256"] if sha256 in known}
            if len(face_of) < len(rows):
                paths = (self.photos.root / photo for photo in rows["photo"])
                with photos.quiet():
                    images = list(threads.map_in_threads(_for_detection, paths))
                with validation.naming(rows["photo"].tolist(), "MTCNN"):
                    found = detector()(images)
                face_of = dict(zip(rows["sha256"], map(_as_row, found), strict=True)) | face_of
            table = pd.DataFrame([face_of[sha256] for sha256 in rows["sha256"]])
            known_by = rows[["photo", "sha256"]].join(table).assign(detector=self.detector)
            write.table(self.path(name), known_by)

        return write_slice

    def _known(self) -> dict[str, dict[str, Any]]:
        known: dict[str, dict[str, Any]] = {}
        for path in sorted(self.folder.parent.glob("*/faces-*.csv")):
            if not records.is_unchanged(path):
                continue
            table = read_table(path)
            table = table[table["detector"] == self.detector]
            known.update(zip(table["sha256"], _rows(table), strict=True))
        return known


# A photo without a face as a row of a table.
_NO_FACE = dict.fromkeys((field.name for field in fields(faces.Face)), float("nan"))


def _as_row(face: faces.Face | None) -> dict[str, Any]:
    return _NO_FACE | {"faces": 0} if face is None else asdict(face)


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The faces in a table, one mapping per row."""
    return [{str(k): v for k, v in row.items()} for row in table[list(_NO_FACE)].to_dict("records")]


def _for_detection(path: Path) -> np.ndarray:
    with photos.known(path) as photo:
        return faces.for_detection(photo)


@dataclass(frozen=True, eq=False, kw_only=True)
class CropFaces(Task):
    """Cuts the aligned arm's photos: crops, a table of those with a face, a list of the others."""

    kind = stage = "data"
    names = Names(r"crops-\d{7}\.npy|(excluded|photos)\.csv")

    data: ChoosePhotos
    faces: FindFaces
    image_size: int
    margin: float
    resizing: photos.Resizing = later("bilinear")
    root: Path = not_an_input()
    allow_left_out: bool = not_an_input()

    @property
    def name(self) -> str:
        return "aligned/data"

    def make(self, engine: Engine) -> list[Path]:
        parts = []
        plain = read_table(self.data.folder / "photos.csv")
        for name, rows in cut(plain):
            rows = rows.join(self.faces.faces(name))
            position = rows["faces"].gt(0).cumsum() - 1
            parts.append(rows.assign(crops=f"crops-{name}.npy", crop=position))
        table = pd.concat(parts, ignore_index=True)
        sliced = Sliced(
            "align faces",
            table,
            lambda name, rows: [self.folder / f"crops-{name}.npy"] if rows["faces"].any() else [],
            self._begin,
        )
        files = engine.run(sliced)
        kept, without = table[table["faces"] > 0], table[table["faces"] == 0]
        excluded = without[["photo", "identity", "sha256"]].assign(reason=NO_FACE)
        files += write.tables(self.folder, excluded=excluded, photos=kept)
        logger.info(
            "aligned: %d photos with a face; %d left out without one", len(kept), len(excluded)
        )
        if not self.allow_left_out:
            _check_left_out(len(excluded) / len(table), self.folder)
        _check_splits(sorted(plain["identity"].unique()), kept)
        return files

    def places(self) -> pd.DataFrame:
        """Where faces are in the crops, as :func:`faces.places`, by photo."""
        photos_with_face = read_table(self.folder / "photos.csv")["photo"]
        place = faces.place_in_crop(self.margin)
        return pd.DataFrame([place] * len(photos_with_face), photos_with_face)

    def _begin(self) -> WriteSlice:
        def write_slice(name: str, rows: pd.DataFrame) -> None:
            with_face = rows[rows["faces"] > 0]
            found = zip(with_face["photo"], _rows(with_face), strict=True)
            with photos.quiet():
                crops = list(threads.map_in_threads(self._aligned, found))
            write.array(self.folder / f"crops-{name}.npy", np.stack(crops))

        return write_slice

    def _aligned(self, photo_and_face: tuple[str, dict[str, Any]]) -> np.ndarray:
        photo, face = photo_and_face
        with photos.known(self.root / photo) as image:
            return faces.align(
                image, faces.Face(**face), self.image_size, self.margin, self.resizing
            )


def _check_left_out(share: float, folder: Path) -> None:
    """ValueError if too large a share is left out."""
    if share > datasets.MAXIMUM_LEFT_OUT:
        raise ValueError(
            f"Expected at most {100 * datasets.MAXIMUM_LEFT_OUT:g} % of the photos to be left "
            f"out. Received: {100 * share:.1f} %, listed in {folder / 'excluded.csv'}. "
            "--allow-left-out goes on without them"
        )


def _check_splits(identities: list[str], kept: pd.DataFrame) -> None:
    """ValueError if faces are missing where the aligned arm needs one."""
    people = kept.groupby("split")["identity"].agg(set)
    problems = []
    missing = sorted(set(identities) - people.get("train", set()))
    if missing:
        problems.append(f"none of {', '.join(missing)} to train on")
    if not people.get("validation"):
        problems.append("none to validate on")
    if len(people.get("test", ())) < 2:  # unrelated photos are of two people
        problems.append(f"{len(people.get('test', ()))} people to test on")
    if problems:
        raise ValueError(
            "Expected a face on a training photo of every identity, on a validation photo, and on "
            f"test photos of two people. Received: {'; '.join(problems)}. arms = ['plain'] in the "
            "study goes on without aligned faces"
        )
