"""What is on record of a task's files: a journal while it is at work, a manifest when done."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, TypeGuard

from gradcam_adv.files import artifacts

# Beside a task's files: one JSON object a line, appended as the task goes.
JOURNAL = "journal.jsonl"

# Size, time and sha256 of a file, as of artifacts.describe_files.
Facts = Mapping[str, Any]


@dataclass
class Record:
    """What a journal or a manifest holds.

    Attributes:
        about: what the files hang on: task, fingerprint, inputs, needs, threads and so on.
        files: by path relative to the record's folder, the facts of each whole file.
        begun: files that were begun, whole or not.
        notes: what was out of the ordinary.
        seconds: spent so far.
    """

    about: dict[str, Any] = field(default_factory=dict)
    files: dict[str, Facts] = field(default_factory=dict)
    begun: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0


def manifest(folder: Path) -> Record | None:
    """The record of a finished task; None where there is none, or a damaged one."""
    try:
        content = artifacts.read_json(folder / artifacts.MANIFEST)
    except (OSError, ValueError):  # a damaged manifest records nothing
        return None
    files, seconds, notes = (content.pop(key, None) for key in ("files", "seconds", "notes"))
    if not isinstance(files, dict) or not isinstance(content.get("needs"), dict):
        return None
    if not all(map(_is_path, files)) or not all(map(_are_facts, files.values())):
        return None
    if not _is_time(seconds):
        return None
    return Record(content, files, set(files), notes if isinstance(notes, list) else [], seconds)


def journal(folder: Path) -> Record | None:
    """The record of a task at work or interrupted; None where there is none.

    A line cut off by a power cut is passed over: what it told of is made again.
    """
    try:
        lines = (folder / JOURNAL).read_bytes().splitlines()
    except OSError:
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
                _is_path(name) and _are_facts(facts) and _is_time(seconds)
            ):
                record.begun.add(name)
                record.files[name] = facts
                record.seconds = earlier + seconds
            case {"note": str(note)}:
                record.notes.append(note)
    return record


def _is_path(name: str) -> bool:
    """Whether a file can be called that; asking the system about another name is an error."""
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
    """Whether it is a number of seconds that can be added to others."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e12


def _are_facts(value: object) -> bool:
    match value:
        case {"size": int(), "mtime_ns": int(), "sha256": str()}:
            return True
    return False


def unchanged(path: Path) -> bool:
    """Whether a file is as the record beside it says; True where there is no record."""
    record = manifest(path.parent) or journal(path.parent)
    if record is None:
        return True
    facts = record.files.get(path.name)
    return facts is not None and artifacts.files_intact({path.name: facts}, path.parent)


def place_of(folder: Path, name: str, places: Iterable[Path]) -> Path | None:
    """The file that a record in ``folder`` calls ``name``; None where it lies in none of places.

    A record may come from a stranger, so links on the way are followed before that is judged.
    """
    path = Path(os.path.normpath(folder / name))
    try:
        real = path.parent.resolve() / path.name
    except (ValueError, RuntimeError):  # a null character; links in a circle
        return None
    return path if any(real.is_relative_to(place.resolve()) for place in places) else None


class Journal:
    """Keeps the record of one task while it writes its files, and of what it wrote before.

    What an interrupted run left, or what is left of a finished task that has to be done anew,
    counts as long as it came of the same: where ``about`` is another, those files are deleted.
    Every file written inside of :func:`gradcam_adv.files.artifacts.observed` gets into it.
    """

    def __init__(self, folder: Path, about: Mapping[str, Any], places: Iterable[Path]) -> None:
        """
        Args:
            folder: of the task.
            about: everything that its files hang on, JSON values.
            places: folders outside of which nothing is written or deleted.
        """
        self._folder = folder
        self._places = tuple(places)
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
        artifacts.write_text(folder / JOURNAL, "".join(f"{json.dumps(line)}\n" for line in lines))
        (folder / artifacts.MANIFEST).unlink(missing_ok=True)
        self._file = (folder / JOURNAL).open("a", encoding="utf-8")

    def _left(self) -> Record:
        """The files of an earlier time that still count; the others are deleted."""
        left = manifest(self._folder) or journal(self._folder) or Record()
        counts = left.about == self._about
        files = {}
        for name, facts in left.files.items():
            if counts and artifacts.files_intact({name: facts}, self._folder):
                files[name] = facts
        for name in left.begun - files.keys():
            path = place_of(self._folder, name, self._places)
            for left_over in () if path is None else (path, artifacts.temporary_of(path)):
                # False for a name that can be no file's, which unlink() would not pass over.
                if os.path.lexists(left_over) and not left_over.is_dir():
                    left_over.unlink()
        if not files:
            return Record()
        return Record(self._about, files, set(files), left.notes, left.seconds)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # What could not be written down is made again; the error that led here is the one to tell.
        with contextlib.suppress(OSError):
            self._file.close()

    def begin(self, path: Path) -> None:
        self._check(path)
        name = os.path.relpath(path, self._folder)
        self.record.begun.add(name)
        self.record.files.pop(name, None)
        self._append({"writing": name})

    def end(self, path: Path) -> None:
        ((name, facts),) = artifacts.describe_files([path], self._folder).items()
        self.record.files[name] = facts
        self._append({"file": name, "facts": facts, "seconds": self._now()})
        os.fsync(self._file.fileno())

    def holds(self, path: Path) -> bool:
        name = os.path.relpath(path, self._folder)
        facts = self.record.files.get(name)
        return facts is not None and artifacts.files_intact({name: facts}, self._folder)

    def note(self, text: str) -> None:
        """Write down what was out of the ordinary."""
        self.record.notes.append(text)
        self._append({"note": text})

    def finish(self, files: Iterable[Path]) -> float:
        """Turn the journal into the manifest of a finished task; the seconds that it took in all.

        Args:
            files: that are its result; what else it wrote is no longer on record.
        """
        seconds = round(self._before + self._now(), 3)
        described: dict[str, Facts] = {}
        for path in files:
            name = os.path.relpath(path, self._folder)
            facts = self.record.files.get(name)
            described |= {name: facts} if facts else artifacts.describe_files([path], self._folder)
        notes = {"notes": self.record.notes} if self.record.notes else {}
        done = self._about | notes | {"seconds": seconds, "files": described}
        artifacts.write_json(self._folder / artifacts.MANIFEST, done)
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
                f"Expected files inside of {' and '.join(map(str, self._places))}. "
                f"Received: {path}, which a link leads out of it"
            )
