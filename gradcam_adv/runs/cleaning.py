"""Deleting what the records of a run name, and nothing that anybody else made or changed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gradcam_adv.files import read, write
from gradcam_adv.runs import locks, records
from gradcam_adv.runs.records import Names


@dataclass(frozen=True)
class Cleaned:
    """What :func:`clean` did: how many files it removed, and which were left since they changed."""

    removed: int
    left: list[Path]


def clean(folder: Path, models: Path, kinds: Mapping[str, Sequence[Names]]) -> Cleaned:
    """Delete the files that the records below a run's folder name, unless they were changed.

    A record may come from anybody. It counts only in the folder of its task, and names only what a
    task of its kind writes: see ``kinds``, by kind. Files outside the run's and the models' folders
    are never touched. Folders are removed only when they are empty.
    """
    places = (folder, models)
    with contextlib.ExitStack() as held:
        for place in places:
            if place.is_dir():
                held.enter_context(locks.alone_in(place))
        found = _on_record(folder, places, kinds)
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


def _on_record(
    folder: Path, places: tuple[Path, Path], kinds: Mapping[str, Sequence[Names]]
) -> dict[Path, bool]:
    """Every existing file that is on record in a run, and whether it is unchanged."""
    found: dict[Path, bool] = {}

    def add(place: Path, name: str, ours: bool) -> None:
        path = records.place_of(place, name, places)
        if path is not None and (os.path.isfile(path) or os.path.islink(path)):
            found[path] = found.get(path, False) or ours

    if records.is_of_run(folder / records.MANIFEST):
        add(folder, records.MANIFEST, True)
        add(folder, write.temporary_of(Path(records.MANIFEST)).name, True)
    readers = {records.MANIFEST: records.manifest, records.JOURNAL: records.journal}
    listed = read.walk(folder) if folder.is_dir() else ()
    there = ((Path(place), name) for place, _, names in listed for name in names)
    for place, name in there:
        # The folder of a run is no task's, whatever its manifest says.
        record = readers[name](place) if name in readers and place != folder else None
        # The name of a task, such as "plain/train/vgg16" or "report", is the path of its folders.
        task = place.parent.relative_to(folder) if record else Path()
        if record is None or record.about.get("task") != task.as_posix():
            continue
        fitting = kinds.get(task.parts[min(1, len(task.parts) - 1)], ())
        if not fitting:
            continue
        for own in (name, *(write.temporary_of(Path(reader)).name for reader in readers)):
            add(place, own, True)
        for name in record.begun:
            file = Path(os.path.normpath(place / name))
            if any(known.fit(file, place, places) for known in fitting):
                add(place, name, name not in record.files or record.holds(name, place))
                add(place, str(write.temporary_of(Path(name))), True)
    return found
