"""How far a run is: what is done, stale and why, partly done and how far, or missing."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from gradcam_adv.app.pipeline import Pipeline
from gradcam_adv.files import artifacts
from gradcam_adv.runs import locks, records
from gradcam_adv.study import config as studies
from gradcam_adv.study.setting import SLICE, Setting, example_rows
from gradcam_adv.study.tasks import Task

# Of the reasons why tasks of one stage are stale, so many are told.
SHOWN = 3


@dataclass(frozen=True)
class State:
    """Of a task or a stage.

    Attributes:
        kind: done; stale, so to be made anew; partly done; missing.
        detail: why it is stale, or how far it is; empty for the others.
    """

    kind: Literal["done", "stale", "partly", "missing"]
    detail: str = ""


@dataclass(frozen=True)
class RunState:
    """How far a run is.

    Attributes:
        folder: of the run.
        study: its name.
        photos: where its photos come from.
        command: that made it, and that goes on with it.
        at_work: which process is at it, such as "process 123 on host since 2026-01-31 12:00:00".
        stages: of :func:`stages`.
    """

    folder: Path
    study: str
    photos: str
    command: str
    at_work: str | None
    stages: pd.DataFrame

    @property
    def is_done(self) -> bool:
        return bool((self.stages["state"] == "done").all())

    def text(self) -> str:
        """For a terminal."""
        lines = [f"{self.folder}: study {self.study}, photos {self.photos}"]
        if self.at_work:
            lines.append(f"at work: {self.at_work}")
        table = self.stages.to_markdown(index=False, tablefmt="plain", disable_numparse=True)
        lines += ["", table, ""]
        if self.is_done:
            lines.append("everything is done")
        elif not self.at_work:
            lines.append(f"the command of this run, which goes on from here: {self.command}")
        return "\n".join(lines)


def of_run(folder: Path) -> RunState:
    """The state of a run by its folder, such as ``runs/quick``.

    What the run hangs on now is what counts: its study file, where that is still there, its photos
    and its weights.

    Raises:
        ValueError: it is no run's folder, or its study or photos can't be had any more.
    """
    pipeline, command = _opened(folder)
    study = pipeline.study
    at_work = locks.holder(folder)
    return RunState(folder, study.name, study.photos, command, at_work, stages(pipeline))


def _opened(folder: Path) -> tuple[Pipeline, str]:
    path = folder / artifacts.MANIFEST
    if not path.is_file():
        raise ValueError(
            f"Expected the folder of a run, such as runs/quick. Received: {folder}, which has no "
            f"{artifacts.MANIFEST}"
        )
    manifest = artifacts.read_json(path)
    match manifest:
        case {"study": dict(content), "models": str(models), "given": dict(given)}:
            pass
        case _:
            raise ValueError(f"Expected the manifest of a run of this version. Received: {path}")
    file, overrides = given.get("study"), {k: given.get(k) for k in ("photos", "weights")}
    if isinstance(file, str) and Path(file).is_file():
        study = studies.read(Path(file), **overrides)
    else:
        study = studies.parse({key: v for key, v in content.items() if v is not None})
    allowed = given.get("allow_left_out") is True
    pipeline = Pipeline(study, folder, Path(models), allow_left_out=allowed)
    return pipeline, str(given.get("command"))


def stages(pipeline: Pipeline) -> pd.DataFrame:
    """One row a stage and arm: columns arm, stage, state, detail."""
    found: dict[tuple[str, str], dict[str, State]] = {}
    for which, tasks in pipeline.tasks().items():
        for task in tasks:
            arm, _, name = task.name.partition("/")
            own = ("", arm) if not name else (arm, name)
            place = (", ".join(filter(None, (own[0], which))), task.stage)
            found.setdefault(place, {})[own[1]] = of_task(pipeline, task)
    rows = [(*place, *astuple(_together(states))) for place, states in found.items()]
    if ("", "report") not in found:
        made = any(pipeline.folder.glob(f"report/*/{artifacts.MANIFEST}"))
        rows.append(
            (
                "",
                "report",
                *astuple(State("stale", "waits for the rest") if made else State("missing")),
            )
        )
    return pd.DataFrame(rows, columns=["arm", "stage", "state", "detail"])


def _together(states: Mapping[str, State]) -> State:
    """The state of a stage by those of its tasks."""
    kinds = {state.kind for state in states.values()}
    if kinds <= {"done"} or kinds == {"missing"}:
        return State(kinds.pop())
    done = sum(state.kind == "done" for state in states.values())
    lines = [f"{done} of {len(states)} done"] if len(states) > 1 else []
    told = [(name, state) for name, state in states.items() if state.detail]
    lines += [f"{name}: {state.detail}" for name, state in told[:SHOWN]]
    lines += [f"{len(told) - SHOWN} more like these"] if len(told) > SHOWN else []
    return State("stale" if "stale" in kinds else "partly", "; ".join(lines))


def of_task(pipeline: Pipeline, task: Task) -> State:
    """Of one task, by what is on record and what its needs hold now."""
    record = task.record()
    if record is not None:
        if pipeline.is_done(task):
            return State("done")
        return State("stale", _edited(task, record) or _needs_changed(pipeline, task, record))
    record = records.journal(task.folder)
    if record is not None and record.files:
        if record.about == _as_json(pipeline.about(task)):
            return State("partly", _how_far(pipeline, task, record))
        return State("stale", "it was begun with other threads, versions or inputs")
    earlier = _earlier(task)
    return State("missing") if earlier is None else State("stale", _what_changed(task, earlier))


def _edited(task: Task, record: records.Record) -> str:
    """Which files are no longer as they were made."""
    changed = [
        name
        for name, facts in record.files.items()
        if not artifacts.files_intact({name: facts}, task.folder)
    ]
    if not changed:
        return ""
    path = Path(os.path.normpath(task.folder / changed[0]))
    more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
    return f"{path}{more} {'changed' if path.exists() else 'deleted'} by hand"


def _needs_changed(pipeline: Pipeline, task: Task, record: records.Record) -> str:
    now = pipeline.about(task)["needs"]
    names = [need.name for need in task.needs]
    before = record.about["needs"]
    changed = [name for name, key in zip(names, now, strict=True) if now[key] != before.get(key)]
    return f"{_some(changed)} to be made anew, or made anew since" if changed else "its model moved"


def _earlier(task: Task) -> records.Record | None:
    """The youngest record of the same task with other inputs."""
    places = [path.parent for path in task.folder.parent.glob(f"*/{artifacts.MANIFEST}")]
    places.sort(key=lambda place: (place / artifacts.MANIFEST).stat().st_mtime_ns)
    found = [record for record in map(records.manifest, places) if record is not None]
    return found[-1] if found else None


def _what_changed(task: Task, earlier: records.Record) -> str:
    before = earlier.about.get("inputs")
    if not isinstance(before, dict):
        return "made by an earlier version"
    now = _as_json(task.about()["inputs"])
    upstream = {need.fingerprint: need.name for need in task.needs}
    hangs_on, own = [], []
    for key, value in now.items():
        if before.get(key) == value:
            continue
        if value in upstream.values() or str(value) in upstream:
            hangs_on.append(upstream.get(str(value), key))
        elif key == "version":
            own.append("made by an earlier version of the stage")
        elif key in before and len(f"{before[key]}{value}") <= 80:
            own.append(f"{key} was {before[key]}, is {value}")
        else:
            own.append(f"other {key}")
    return "; ".join(own) or f"hangs on {_some(hangs_on)}"


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _as_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _how_far(pipeline: Pipeline, task: Task, record: records.Record) -> str:
    files = len(record.files)
    due = _files_due(pipeline, task)
    return f"{files} files" if due is None else f"{files} of {due} files"


def _files_due(pipeline: Pipeline, task: Task) -> int | None:
    """How many files a task is going to write; None where nobody can tell, or its photos miss."""
    arm, _, key = task.name.partition("/")
    setting = next((own for name, own in pipeline.settings.items() if name == arm), None)
    due = FILES.get(key.partition("/")[0])
    if setting is None or due is None or not (setting.folders["data"] / "photos.csv").is_file():
        return None
    return due(setting)


def _slices(rows: pd.DataFrame) -> int:
    return -(-len(rows) // SLICE)


# By kind of task. Where batch normalization is calibrated, there is a file of it.
FILES: dict[str, Callable[[Setting], int]] = {
    "faces": lambda setting: _slices(setting.table),
    "features": lambda setting: _slices(setting.table),
    "attack": lambda setting: _slices(setting.test),
    "evaluate": lambda setting: 2 * _slices(setting.test),
    "explain": lambda setting: len(example_rows(setting)) + 1,
    "layers": lambda setting: len(example_rows(setting)) + 1,
    "score": lambda setting: _slices(setting.test) + 1,
}
