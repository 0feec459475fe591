"""A task: what it makes, everything that its files depend on, and where they lie."""

from __future__ import annotations

import abc
import dataclasses
import functools
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from gradcam_adv.files import hashes
from gradcam_adv.runs import records
from gradcam_adv.runs.engines import Engine
from gradcam_adv.runs.records import Names, Record


def not_an_input() -> Any:
    """A field on which the result does not depend, such as where a folder lies."""
    return dataclasses.field(metadata={"is_input": False})


def counted_as(identity: Callable[[Any], Any], *, travels: bool = True) -> Any:
    """A field of which only ``identity(value)``, JSON values, counts as an input.

    ``travels`` says whether workers in other processes get it.
    """
    return dataclasses.field(metadata={"identity": identity, "travels": travels})


def later(default: Any) -> Any:
    """An input that a kind of task got later; it counts only where it is not ``default``.

    So what was made before it was there stays valid.
    """
    return dataclasses.field(default=default, metadata={"later": True})


@dataclass(frozen=True, eq=False, kw_only=True)
class Task(abc.ABC):
    """A piece of a run. A kind of task is a subclass, declared in one place.

    The fields of the subclass are its inputs, everything that its result depends on: JSON values,
    tasks whose files it reads, and dicts, tuples and dataclasses of those. The folder of a task
    follows from its name and its inputs. So a result is never mixed with one of other inputs, and
    it is used again when the inputs come back.

    Attributes:
        kind: of the task, such as "attack".
        stage: that it belongs to, such as "train".
        version: raise it when the result changes for the same inputs.
        runs_networks: whether Keras' backend has to be started first.
        names: of the files that it writes.
        run: folder of the run.
    """

    kind: ClassVar[str]
    stage: ClassVar[str]
    version: ClassVar[int] = 1
    runs_networks: ClassVar[bool] = False
    names: ClassVar[Names] = Names()

    run: Path = not_an_input()

    @property
    def name(self) -> str:
        """The task's name in its run, such as "plain/attack/vgg16"."""
        return self.kind

    @abc.abstractmethod
    def make(self, engine: Engine) -> list[Path]:
        """Write the files of the task; return them."""

    def files_due(self) -> int | None:
        """How many files it writes; None if that is not known yet."""
        return None

    @property
    def effort(self) -> float:
        """About how many seconds it takes; only the ratio to other tasks counts."""
        return 1.0

    @property
    def outside(self) -> Path | None:
        """A file of its result that lies outside its folder, such as a model."""
        return None

    @functools.cached_property
    def needs(self) -> tuple[Task, ...]:
        """The tasks whose files it reads."""
        found: list[Task] = []
        _fields_as_json(self, found)
        # Not by name: tasks of several seeds or readings have the same name.
        return tuple({task.fingerprint: task for task in found}.values())

    @functools.cached_property
    def inputs(self) -> dict[str, Any]:
        """All inputs as JSON values, by name; a task by its fingerprint."""
        return {"version": self.version, **_fields_as_json(self, [])}

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of the name and all inputs."""
        return hashes.fingerprint({"task": self.name, **self.inputs})

    @property
    def folder(self) -> Path:
        """The folder of its files."""
        return self.run / self.name / self.fingerprint[:12]

    def record(self) -> Record | None:
        """What was recorded when it was done; None if it never was."""
        return records.manifest(self.folder)

    def result(self) -> str | None:
        """Hash of the contents of its files; None unless it is done and all files are unchanged."""
        record = self.record()
        if record is None or not all(record.holds(name, self.folder) for name in record.files):
            return None
        # Two studies may share the task and keep their models in different places.
        if self.outside is not None and self._relative(self.outside) not in record.files:
            return None
        return hashes.fingerprint({name: facts["sha256"] for name, facts in record.files.items()})

    def about(self) -> dict[str, Any]:
        """What a record says of the task; long inputs by their hash."""
        outside = {} if self.outside is None else {"outside": self._relative(self.outside)}
        inputs = {name: _short(value) for name, value in self.inputs.items()}
        return {"task": self.name, "fingerprint": self.fingerprint, "inputs": inputs, **outside}

    def _relative(self, path: Path) -> str:
        return os.path.relpath(path, self.folder)

    def __getstate__(self) -> dict[str, Any]:
        """The fields that a worker needs, and the fingerprint, which gives the folder."""
        travelling = (f for f in dataclasses.fields(self) if f.metadata.get("travels", True))
        state = {field.name: getattr(self, field.name) for field in travelling}
        return state | {"fingerprint": self.fingerprint}


def names_by_kind(kind: type[Task] = Task) -> dict[str, list[Names]]:
    """What tasks of each kind write, by kind; of every subclass that is imported."""
    found: dict[str, list[Names]] = {}
    for below in kind.__subclasses__():
        if hasattr(below, "kind"):
            found.setdefault(below.kind, []).append(below.names)
        for name, names in names_by_kind(below).items():
            found.setdefault(name, []).extend(names)
    return found


def _fields_as_json(value: Any, tasks: list[Task]) -> dict[str, Any]:
    """The inputs among the fields of a dataclass, by name; ``tasks`` gets the tasks in them."""
    found = {}
    for field in dataclasses.fields(value):
        content = getattr(value, field.name)
        as_before = field.metadata.get("later") and content == field.default
        if field.metadata.get("is_input", True) and not as_before:
            identity = field.metadata.get("identity")
            found[field.name] = identity(content) if identity else _as_json(content, tasks)
    return found


def _as_json(value: Any, tasks: list[Task]) -> Any:
    if isinstance(value, Task):
        tasks.append(value)
        return value.fingerprint
    if dataclasses.is_dataclass(value):
        return _fields_as_json(value, tasks)
    if isinstance(value, Mapping):
        return {str(key): _as_json(item, tasks) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_as_json(item, tasks) for item in value]
    return value


def _short(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _short(item) for name, item in value.items()}
    text = json.dumps(value, ensure_ascii=False)
    return value if len(text) <= 1000 else f"sha256 {hashes.fingerprint({'value': value})}"
