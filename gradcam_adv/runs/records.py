"""Records of a task's files: a journal while it works, a manifest when it is done."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from gradcam_adv.files import hashes, read, write
from gradcam_adv.files.hashes import Facts

MANIFEST = "manifest.json"
# Beside a task's files: one JSON object per line, appended while the task works.
JOURNAL = "journal.jsonl"


@dataclass(frozen=True)
class Names:
    """The files that a kind of task writes, as regular expressions of their paths, with /.

    A record may come from anybody, so it deletes only what one of these fits.

    Attributes:
        own: of paths relative to the task's folder.
        run: relative to the run's folder.
        models: relative to the models' folder.
    """

    own: str = ".*"
    run: str = ""
    models: str = ""

    def fit(self, path: Path, folder: Path, places: Iterable[Path]) -> bool:
        """Whether a task in ``folder`` writes ``path``; ``places``: the run's and the models'."""
        tops = [Path(os.path.normpath(top)) for top in (folder, *places)]
        return any(
            top in path.parents and re.fullmatch(name, path.relative_to(top).as_posix())
            for name, top in zip((self.own, self.run, self.models), tops, strict=True)
        )


@dataclass
class Record:
    """What a journal or a manifest holds; files by their path relative to the record's folder."""

    # What the files depend on: task, fingerprint, inputs, needs, threads and so on.
    about: dict[str, Any] = field(default_factory=dict)
    files: dict[str, Facts] = field(default_factory=dict)  # of each whole file
    begun: set[str] = field(default_factory=set)  # files, whole or not
    notes: list[str] = field(default_factory=list)  # what was unusual
    seconds: float = 0.0  # spent so far

    def holds(self, name: str, folder: Path) -> bool:
        """Whether a file was whole and has not changed since; ``folder`` is the record's."""
        path = Path(os.path.normpath(folder / name))
        return hashes.is_unchanged(path, self.files.get(name))


def is_of_run(path: Path) -> bool:
    """Whether this is the manifest of a run, and not of a task or of something else."""
    try:
        return {"study", "tasks", "models"} <= read.json(path).keys()
    except (OSError, ValueError):
        return False


def manifest(folder: Path) -> Record | None:
    """The record of a finished task; None if there is none, or a damaged one."""
    try:
        content = read.json(folder / MANIFEST)
    except (OSError, ValueError):  # a damaged manifest records nothing
        return None
    files, seconds, notes = (content.pop(key, None) for key in ("files", "seconds", "notes"))
    if (
        isinstance(files, dict)
        and all(_is_path(name) and hashes.are_facts(facts) for name, facts in files.items())
        and isinstance(content.get("needs"), dict)
        and _is_time(seconds)
    ):
        return Record(content, files, set(files), notes if isinstance(notes, list) else [], seconds)
    return None


def journal(folder: Path) -> Record | None:
    """The record of a task that works or was interrupted; None if there is none.

    If a power cut left a line incomplete, it is skipped, and its file is made again.
    """
    path = folder / JOURNAL
    try:
        lines = path.read_bytes().splitlines() if path.is_file() else None  # a pipe would wait
    except OSError:
        return None
    if lines is None:
        return None
    record, earlier = Record(), 0.0
    for line in lines:
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        match entry:
            case {"about": dict(about)}:
                record.about, earlier = about, record.seconds
            case {"writing": str(name)} if _is_path(name):
                record.begun.add(name)
                record.files.pop(name, None)
            case {"file": str(name), "facts": facts, "seconds": seconds} if (
                _is_path(name) and hashes.are_facts(facts) and _is_time(seconds)
            ):
                record.begun.add(name)
                record.files[name] = facts
                record.seconds = earlier + seconds
            case {"note": str(note)}:
                record.notes.append(note)
    return record


def _is_path(name: str) -> bool:
    """Whether this can be the name of a file; for others, system calls raise errors."""
    try:
        encoded = os.fsencode(name)
    except UnicodeEncodeError:
        return False
    return (
        b"\0" not in encoded
        and len(encoded) < 2048
        and all(len(part) < 256 for part in encoded.split(b"/"))
    )


def _is_time(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e12


def is_unchanged(path: Path) -> bool:
    """Whether a file is as the record beside it says; True if there is no record."""
    record = manifest(path.parent) or journal(path.parent)
    return record is None or record.holds(path.name, path.parent)


def place_of(folder: Path, name: str, places: Iterable[Path]) -> Path | None:
    """The file that a record in ``folder`` calls ``name``; None if it lies outside ``places``.

    A record may come from anybody, so links are followed first.
    """
    path = Path(os.path.normpath(folder / name))
    try:
        real = path.parent.resolve() / path.name
    except (ValueError, RuntimeError):  # a null character; links in a circle
        return None
    return path if any(real.is_relative_to(place.resolve()) for place in places) else None


class Journal(write.Observer):
    """The record of one task while it writes its files.

    Files of an earlier try are kept if ``about``, all that they depend on, is equal; otherwise they
    are deleted. Nothing is written or deleted outside ``places``, the run's and the models' folder,
    and nothing is deleted but what ``names`` fit. It is an observer: see
    :func:`gradcam_adv.files.write.observed`.
    """

    def __init__(
        self,
        folder: Path,
        about: Mapping[str, Any],
        places: tuple[Path, Path],
        names: Names = Names(),
    ) -> None:
        self._folder = folder
        self._places = places
        self._names = names
        self._about = json.loads(json.dumps(about))
        self.record = self._left()
        self._before = self.record.seconds
        self._began = time.perf_counter()
        self._check(folder / JOURNAL)
        folder.mkdir(parents=True, exist_ok=True)
        kept = self.record.files.items()
        lines = [
            *({"file": name, "facts": facts, "seconds": self._before} for name, facts in kept),
            *({"note": note} for note in self.record.notes),
            {"about": self._about},
        ]
        write.text(folder / JOURNAL, "".join(f"{json.dumps(line)}\n" for line in lines))
        (folder / MANIFEST).unlink(missing_ok=True)
        self._file = (folder / JOURNAL).open("a", encoding="utf-8")

    def _left(self) -> Record:
        """The record of files of an earlier try that are kept; the others are deleted."""
        left = manifest(self._folder) or journal(self._folder) or Record()
        files = {}
        if left.about == self._about:
            whole = left.files.items()
            files = {name: facts for name, facts in whole if left.holds(name, self._folder)}
        for name in left.begun - files.keys():
            path = place_of(self._folder, name, self._places)
            if path is None or not self._names.fit(path, self._folder, self._places):
                continue
            for left_over in (path, write.temporary_of(path)):
                # False for a name that no file can have, on which unlink() would fail.
                if os.path.lexists(left_over) and not left_over.is_dir():
                    left_over.unlink()
        if not files:
            return Record()
        return Record(self._about, files, set(files), left.notes, left.seconds)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        # What could not be recorded is made again; the error that led here is the one to report.
        with contextlib.suppress(OSError):
            self._file.close()

    def begin(self, path: Path) -> None:
        self._check(path)
        name = os.path.relpath(path, self._folder)
        self.record.begun.add(name)
        self.record.files.pop(name, None)
        self._append({"writing": name})

    def end(self, path: Path) -> None:
        name = os.path.relpath(path, self._folder)
        self.record.files[name] = facts = hashes.facts(path)
        self._append({"file": name, "facts": facts, "seconds": self._now()})
        os.fsync(self._file.fileno())

    def holds(self, path: Path) -> bool:
        return self.record.holds(os.path.relpath(path, self._folder), self._folder)

    def note(self, text: str) -> None:
        """Record something unusual."""
        self.record.notes.append(text)
        self._append({"note": text})

    def finish(self, files: Iterable[Path]) -> float:
        """Turn the journal into the manifest of a finished task; return the seconds it took.

        The manifest records ``files``, the result, and no other file that the task wrote.
        """
        seconds = round(self._before + self._now(), 3)
        described: dict[str, Facts] = {}
        for path in files:
            name = os.path.relpath(path, self._folder)
            described[name] = self.record.files.get(name) or hashes.facts(path)
        notes = {"notes": self.record.notes} if self.record.notes else {}
        content = self._about | notes | {"seconds": seconds, "files": described}
        write.json(self._folder / MANIFEST, content)
        self._file.close()
        (self._folder / JOURNAL).unlink()
        return seconds

    def _now(self) -> float:
        return time.perf_counter() - self._began

    def _append(self, entry: Mapping[str, Any]) -> None:
        self._file.write(f"{json.dumps(entry)}\n")
        self._file.flush()

    def _check(self, path: Path) -> None:
        if place_of(path.parent, path.name, self._places) is None:
            raise ValueError(
                f"Expected files inside {' and '.join(map(str, self._places))}. "
                f"Received: {path}, which a link leads out of it"
            )
