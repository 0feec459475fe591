"""The stage data: the table of photos, and for the aligned arm the crops of their faces."""

from __future__ import annotations

from dataclasses import asdict, fields
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd

from gradcam_adv import batching as batches
from gradcam_adv import threads
from gradcam_adv.data import datasets, faces, photos
from gradcam_adv.files import artifacts
from gradcam_adv.runs import records
from gradcam_adv.runs.engines import LOCAL, Engine, Sliced, Write
from gradcam_adv.study.setting import Setting, cut

# What a detection hangs on besides the photo: two that agree in it are the same.
DETECTOR = f"mtcnn {version('mtcnn')}, {faces.DETECTION_SIDE} px, rule 2"
NO_FACE = "no face found"
# Photos a file: some seconds of reading, which is what an interruption costs.
CHECKED = 512


def data(
    setting: Setting, folder: Path, allow_left_out: bool, engine: Engine = LOCAL
) -> list[Path]:
    """Choose, check and split the photos.

    Raises:
        ValueError: too many were left out, and ``allow_left_out`` does not allow it.
    """
    study = setting.study
    checked_files = _check(setting, folder, engine)
    checked = pd.concat(map(artifacts.read_table, checked_files), ignore_index=True)
    table = datasets.make_table(
        setting.listing,
        classes=study.classes,
        min_photos=study.min_photos,
        max_photos=study.max_photos,
        split=study.split,
        seed=study.seed,
        checked=checked,
    )
    files = artifacts.write_tables(
        folder, excluded=table.excluded, identities=table.identities, photos=table.kept
    )
    click.echo(datasets.summary(table))
    _check_left_out(datasets.share_left_out(table), folder, allow_left_out)
    return [*checked_files, *files]


def _check(setting: Setting, folder: Path, engine: Engine) -> list[Path]:
    """What each photo says of its use, as tables of a slice each."""
    place = folder / "checked"
    for path in place.glob("*.csv"):
        # A disk that failed may be mended since.
        if artifacts.is_whole(path) and datasets.may_pass(artifacts.read_table(path)):
            path.unlink()
    sliced = Sliced(
        "reading photos",
        setting.listing.files,
        lambda name, _: [place / f"{name}.csv"],
        partial(_begin_check, setting.listing.root, place),
        CHECKED,
    )
    return engine.run(sliced)


def _begin_check(root: Path, folder: Path) -> Write:
    def write(name: str, rows: pd.DataFrame) -> None:
        artifacts.write_table(folder / f"{name}.csv", datasets.check_photos(root, rows))

    return write


def detect(setting: Setting, folder: Path, engine: Engine = LOCAL) -> list[Path]:
    """The face that counts in every photo, as tables of a slice each.

    What an earlier choice of photos left beside ``folder`` is looked up by the photo's sha256. A
    slice with a photo that is not known yet is looked at whole: MTCNN decides near-ties by a
    photo's place in its batch, so an interrupted run and an undisturbed one see the same batches.
    """
    sliced = Sliced(
        "detect faces",
        setting.table,
        lambda name, _: [folder / f"faces-{name}.csv"],
        partial(_begin_detect, setting, folder),
    )
    return engine.run(sliced)


def _begin_detect(setting: Setting, folder: Path) -> Write:
    # Also of this folder's own slices, which no other hangs on: no photo is in two of them.
    known = _known_faces(folder.parent)
    detector = None

    def write(name: str, rows: pd.DataFrame) -> None:
        nonlocal detector
        own = {sha256: known[sha256] for sha256 in rows["sha256"] if sha256 in known}
        if len(own) < len(rows):
            detector = detector or faces.Detector()
            with photos.quiet():
                images = list(threads.ordered(_for_detection, setting.paths(rows)))
            with batches.naming(rows["photo"].tolist(), "MTCNN"):
                found = detector(images)
            own = dict(zip(rows["sha256"], map(_as_row, found), strict=True)) | own
        table = pd.DataFrame([own[sha256] for sha256 in rows["sha256"]])
        artifacts.write_table(
            folder / f"faces-{name}.csv",
            rows[["photo", "sha256"]].join(table).assign(detector=DETECTOR),
        )

    return write


_GAPS = dict.fromkeys((field.name for field in fields(faces.Face)), float("nan"))


def _as_row(face: faces.Face | None) -> dict[str, Any]:
    """A face as cells of a table; no face as gaps, but for the number found."""
    return _GAPS | {"faces": 0} if face is None else asdict(face)


def _known_faces(folder: Path) -> dict[str, dict[str, Any]]:
    known: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob("*/faces-*.csv")):
        if not records.unchanged(path):
            continue
        table = artifacts.read_table(path)
        table = table[table["detector"] == DETECTOR]
        known.update(zip(table["sha256"], _rows(table), strict=True))
    return known


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """What is known of each photo's face, one mapping a row."""
    return [
        dict(zip(_GAPS, values, strict=True)) for values in table[list(_GAPS)].to_numpy().tolist()
    ]


def _for_detection(path: Path) -> np.ndarray:
    return faces.for_detection(photos.read_known(path))


def crop(
    setting: Setting, folder: Path, allow_left_out: bool, engine: Engine = LOCAL
) -> list[Path]:
    """The aligned arm's photos: crops, a table of those that have a face, a list of the others.

    Args:
        setting: of the plain arm, whose photos are cropped.
        folder: for the files.
        allow_left_out: whether any share of the photos may have no face.
        engine: does the slices.
    """
    parts = []
    for name, rows in cut(setting.table):
        found = artifacts.read_table(setting.folders["faces"] / f"faces-{name}.csv")
        rows = rows.join(found[list(_GAPS)])
        parts.append(rows.assign(crops=f"crops-{name}.npy", crop=rows["faces"].gt(0).cumsum() - 1))
    table = pd.concat(parts, ignore_index=True)
    sliced = Sliced(
        "align faces",
        table,
        lambda name, rows: [folder / f"crops-{name}.npy"] if rows["faces"].any() else [],
        partial(_begin_crop, setting, folder),
    )
    files = engine.run(sliced)
    kept, without = table[table["faces"] > 0], table[table["faces"] == 0]
    excluded = without[["photo", "identity", "sha256"]].assign(reason=NO_FACE)
    files += artifacts.write_tables(folder, excluded=excluded, photos=kept)
    click.echo(f"aligned: {len(kept)} photos with a face; left out without one: {len(excluded)}")
    _check_left_out(len(excluded) / len(table), folder, allow_left_out)
    _check_splits(setting, kept)
    return files


def _begin_crop(setting: Setting, folder: Path) -> Write:
    size, margin = setting.study.image_size, setting.study.margin

    def aligned(photo: tuple[Path, dict[str, Any]]) -> np.ndarray:
        path, face = photo
        return faces.align(photos.read_known(path), faces.Face(**face), size, margin)

    def write(name: str, rows: pd.DataFrame) -> None:
        with_face = rows[rows["faces"] > 0]
        photos_of = zip(setting.paths(with_face), _rows(with_face), strict=True)
        with photos.quiet():
            crops = np.stack(list(threads.ordered(aligned, photos_of)))
        artifacts.write_array(folder / f"crops-{name}.npy", crops)

    return write


def _check_left_out(share: float, folder: Path, allowed: bool) -> None:
    """ValueError when a larger share than stated is left out and that is not allowed."""
    if share > datasets.MAXIMUM_LEFT_OUT and not allowed:
        raise ValueError(
            f"Expected at most {100 * datasets.MAXIMUM_LEFT_OUT:g} % of the photos to be left "
            f"out. Received: {100 * share:.1f} %, listed in {folder / 'excluded.csv'}. "
            "--allow-left-out goes on without them"
        )


def _check_splits(setting: Setting, kept: pd.DataFrame) -> None:
    """ValueError when faces are missing where the aligned arm can't do without one."""
    people = kept.groupby("split")["identity"].agg(set)
    problems = []
    missing = sorted(set(setting.identities) - people.get("train", set()))
    if missing:
        problems.append(f"none of {', '.join(missing)} to train on")
    if not people.get("validation"):
        problems.append("none to validate on")
    if len(people.get("test", ())) < 2:  # the ceiling of MOD compares people
        problems.append(f"{len(people.get('test', ()))} people to test on")
    if problems:
        raise ValueError(
            "Expected a face on a training photo of every identity, on a validation photo, and on "
            f"test photos of two people. Received: {'; '.join(problems)}. arms = ['plain'] in the "
            "study goes on without aligned faces"
        )
