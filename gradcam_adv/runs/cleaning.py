"""Delete what the records of a run name, and nothing that anybody else made or changed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gradcam_adv.files import artifacts
from gradcam_adv.runs import locks, records


@dataclass(frozen=True)
class Cleaned:
    """What :func:`clean` did.

    Attributes:
        removed: how many files.
        left: files on record that are no longer as they were made.
    """

    removed: int
    left: list[Path]


def clean(folder: Path, models: Path) -> Cleaned:
    """Delete what the records below a run's folder name, where it is still as it was made.

    Files elsewhere than in the run's and the models' folders are never touched, whatever a record
    says, and folders only go when what was in them is gone.
    """
    places = (folder, models)
    if not any(place.is_dir() for place in places):
        return Cleaned(0, [])
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
    """Remove the folders that these files were in, where nothing else is left in them."""
    for path in sorted(gone, reverse=True):
        for above in path.parents:
            if not any(above.is_relative_to(place) for place in places):
                break
            with contextlib.suppress(OSError):  # something is left in it
                above.rmdir()


def _on_record(folder: Path, places: tuple[Path, ...]) -> dict[Path, bool]:
    """Every file that is there and on record in a run, and whether it is as it was made."""
    found: dict[Path, bool] = {}

    def add(place: Path, name: str, ours: bool) -> None:
        path = records.place_of(place, name, places)
        if path is not None and (os.path.isfile(path) or os.path.islink(path)):
            found[path] = found.get(path, False) or ours

    def add_temporaries(place: Path, *names: str) -> None:
        for name in names:
            add(place, str(artifacts.temporary_of(place / name)), True)

    if _is_runs(folder / artifacts.MANIFEST):
        add(folder, artifacts.MANIFEST, True)
        add_temporaries(folder, artifacts.MANIFEST)
    for path in folder.rglob("*"):
        place = path.parent
        record = None
        if path.name == artifacts.MANIFEST:
            record = records.manifest(place)
        elif path.name == records.JOURNAL:
            record = records.journal(place)
        if record is None or "task" not in record.about:
            continue
        add(place, path.name, True)
        add_temporaries(place, artifacts.MANIFEST, records.JOURNAL, *record.begun)
        for name in record.begun:
            facts = record.files.get(name)
            add(place, name, facts is None or artifacts.files_intact({name: facts}, place))
    return found


def _is_runs(manifest: Path) -> bool:
    try:
        return {"study", "tasks", "models"} <= artifacts.read_json(manifest).keys()
    except (OSError, ValueError):
        return False
