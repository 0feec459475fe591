"""Deleting what the records of a run name, and nothing that anybody else made or changed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gradcam_adv.files import read, write
from gradcam_adv.runs import locks, records


@dataclass(frozen=True)
class Cleaned:
    """What :func:`clean` did: how many files it removed, and which were left since they changed."""

    removed: int
    left: list[Path]


def clean(folder: Path, models: Path) -> Cleaned:
    """Delete the files that the records below a run's folder name, unless they were changed.

    Files outside the run's and the models' folders are never touched, whatever a record says.
    Folders are removed only when they are empty.
    """
    places = (folder, models)
    with contextlib.ExitStack() as held:
        for place in places:
            if place.is_dir():
                held.enter_context(locks.alone_in(place))
        found = _on_record(folder, places)
        for path, ours in found.items():
            if ours:
                path.unlink(missing_ok=True)
    remove_empty(found, places)
    return Cleaned(sum(found.values()), sorted(path for path, ours in found.items() if not ours))


def remove_empty(gone: Iterable[Path], places: tuple[Path, ...]) -> None:
    """Remove the folders that these files were in, if they are empty now."""
    for path in sorted(gone, reverse=True):
        for above in path.parents:
            if not any(above.is_relative_to(place) for place in places):
                break
            with contextlib.suppress(OSError):  # something is left in it
                above.rmdir()


def _on_record(folder: Path, places: tuple[Path, ...]) -> dict[Path, bool]:
    """Every existing file that is on record in a run, and whether it is unchanged."""
    found: dict[Path, bool] = {}

    def add(place: Path, name: str, ours: bool) -> None:
        path = records.place_of(place, name, places)
        if path is not None and (os.path.isfile(path) or os.path.islink(path)):
            found[path] = found.get(path, False) or ours

    with contextlib.suppress(OSError, ValueError):  # no manifest of a run
        if {"study", "tasks", "models"} <= read.json(folder / records.MANIFEST).keys():
            add(folder, records.MANIFEST, True)
            add(folder, write.temporary_of(Path(records.MANIFEST)).name, True)
    readers = {records.MANIFEST: records.manifest, records.JOURNAL: records.journal}
    listed = read.walk(folder) if folder.is_dir() else ()
    there = ((Path(place), name) for place, _, names in listed for name in names)
    for place, file in there:
        record = readers[file](place) if file in readers else None
        if record is None or "task" not in record.about:
            continue
        add(place, file, True)
        for name in (*readers, *record.begun):
            add(place, str(write.temporary_of(place / name)), True)
        for name in record.begun:
            add(place, name, name not in record.files or record.holds(name, place))
    return found
