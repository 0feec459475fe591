"""The command ``status``: which stages of a run are done, stale (and why), partly done, missing."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from gradcam_adv.app.options import reproducing
from gradcam_adv.app.pipeline import Pipeline
from gradcam_adv.app.terminal import table_lines
from gradcam_adv.files import read
from gradcam_adv.runs import locks, records
from gradcam_adv.runs.records import Record
from gradcam_adv.runs.runner import Runner
from gradcam_adv.runs.tasks import Task
from gradcam_adv.study import config, paths
from gradcam_adv.study.plan import STAGES

# How many reasons are shown for stale tasks of one stage.
SHOWN = 3


@dataclass(frozen=True)
class RunState:
    """How far a run is."""

    folder: Path
    study: str  # its name
    photos: str  # where they come from
    command: str  # continues the run, but for the address of a cluster, which is not kept
    at_work: str | None  # see gradcam_adv.runs.locks.holder
    stages: pd.DataFrame  # see stages()

    @property
    def is_done(self) -> bool:
        return bool((self.stages["state"] == "done").all())

    def lines(self) -> list[str]:
        """For a terminal."""
        lines = [f"{self.folder}: study {self.study}, photos {self.photos}"]
        if self.at_work:
            lines.append(f"at work: {self.at_work}")
        lines += ["", *table_lines(self.stages, "plain"), ""]
        if self.is_done:
            lines.append("everything is done")
        elif not self.at_work:
            lines.append(f"to continue this run: {self.command}")
            if " --engine ray" in self.command:
                lines.append(
                    "the address of a cluster is not kept; add --address, if it was on one"
                )
        return lines


def of_run(folder: Path) -> RunState:
    """The state of a run, from its folder, such as ``runs/quick``.

    It is judged by the run's study file (if it still exists), photos and weights as they are now.
    ValueError if the folder is no run's, or its study or photos can't be found any more.
    """
    path = folder / records.MANIFEST
    if not path.is_file():
        raise ValueError(
            f"Expected the folder of a run, such as runs/quick. Received: {folder}, which has no "
            f"{records.MANIFEST}"
        )
    match read.json(path):
        case {"study": dict(content), "models": str(name), "given": dict(given)}:
            pass
        case _:
            raise ValueError(f"Expected the manifest of a run of this version. Received: {path}")
    given, content = paths.from_run(given, folder), paths.from_run(content, folder)
    models = Path(os.path.normpath(folder / name))
    file = Path(str(given.get("file", "STUDY")))  # a run made from Python has no file
    typed = {key: given.get(key) for key in ("photos", "weights")}
    if file.is_file():
        study = config.read(file, **typed)
    else:
        study = config.parse({key: v for key, v in content.items() if v is not None})
    allowed = given.get("allow_left_out") is True
    pipeline = Pipeline(study, folder, models, allow_left_out=allowed, download=False)
    all_readings = given.get("readings") is True
    # Out of the study, since a line of the manifest may be anybody's.
    command = reproducing(
        file,
        all_readings=all_readings,
        allow_left_out=allowed,
        runs=Path(os.path.normpath(folder / "..")),
        models=models.parent,
        **typed,
        engine="ray" if given.get("engine") == "ray" else "local",
    )
    at_work = locks.holder(folder)
    found = stages(pipeline, all_readings=all_readings)
    return RunState(folder, study.name, study.photos, command, at_work, found)


@dataclass(frozen=True)
class State:
    """The state of a task or a stage; "stale" means that it has to be made again."""

    kind: Literal["done", "stale", "partly", "missing"]
    detail: str = ""  # why it is stale, or how far it is


def stages(pipeline: Pipeline, *, all_readings: bool = False) -> pd.DataFrame:
    """One row per stage and arm: columns arm, stage, state, detail."""
    found: dict[tuple[str, str], list[tuple[str, State]]] = {}
    for group, tasks in pipeline.tasks(all_readings=all_readings).items():
        for task in tasks:
            arm, name = task.name.split("/", 1) if "/" in task.name else ("", task.name)
            place = (", ".join(filter(None, (arm, group))), task.stage)
            state = _of_task(pipeline.runner, task, varied=bool(group))
            found.setdefault(place, []).append((name, state))
    # Tasks come network by network.
    arms = list(dict.fromkeys(arm for arm, _ in found))
    places = sorted(found, key=lambda place: (arms.index(place[0]), STAGES.index(place[1])))
    rows = [(*place, *astuple(_of_stage(found[place]))) for place in places]
    if ("", "report") not in found:
        made = any(pipeline.folder.glob(f"report/*/{records.MANIFEST}"))
        state = State("stale", "waits for the other stages") if made else State("missing")
        rows.append(("", "report", *astuple(state)))
    return pd.DataFrame(rows, columns=["arm", "stage", "state", "detail"])


def _of_stage(states: Sequence[tuple[str, State]]) -> State:
    """The state of a stage, by the names and states of its tasks."""
    kinds = {state.kind for _, state in states}
    if kinds <= {"done"} or kinds == {"missing"}:
        return State(kinds.pop())
    done = sum(state.kind == "done" for _, state in states)
    lines = [f"{done} of {len(states)} done"] if len(states) > 1 else []
    told = [f"{name}: {state.detail}" for name, state in states if state.detail]
    lines += told[:SHOWN]
    lines += [f"{len(told) - SHOWN} more like these"] if len(told) > SHOWN else []
    return State("stale" if "stale" in kinds else "partly", "; ".join(lines))


def _of_task(runner: Runner, task: Task, *, varied: bool) -> State:
    """The state of a task, by its records and by what its needs hold now.

    ``varied``: it is of a further seed or a reading. Then a record of the same task with other
    inputs may be that of another one.
    """
    record = task.record()
    if record is not None:
        if runner.is_done(task):
            return State("done")
        return State("stale", _edited(task, record) or _needs_changed(runner, task, record))
    record = records.journal(task.folder)
    if record is not None and record.files:
        if record.about != _as_json(runner.about(task)):
            return State("stale", "it was begun with other threads, versions or inputs")
        due = task.files_due()
        of = "" if due is None else f" of {due}"
        return State("partly", f"{len(record.files)}{of} files")
    if varied:
        return State("missing")
    # The latest record of the same task with other inputs.
    manifests = list(task.folder.parent.glob(f"*/{records.MANIFEST}"))
    manifests.sort(key=lambda path: path.stat().st_mtime_ns)
    earlier = [found for path in manifests if (found := records.manifest(path.parent))]
    return State("stale", _what_changed(task, earlier[-1])) if earlier else State("missing")


def _edited(task: Task, record: Record) -> str:
    """Which files have changed since they were made."""
    changed = [name for name in record.files if not record.holds(name, task.folder)]
    if not changed:
        return ""
    path = Path(os.path.normpath(task.folder / changed[0]))
    more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
    return f"{path}{more} {'changed' if path.exists() else 'deleted'} by hand"


def _needs_changed(runner: Runner, task: Task, record: Record) -> str:
    now = runner.about(task)["needs"]
    names = [need.name for need in task.needs]
    before = record.about["needs"]
    changed = [name for name, key in zip(names, now, strict=True) if now[key] != before.get(key)]
    return f"{_some(changed)} to be made again, or made again since" if changed else "model moved"


def _what_changed(task: Task, earlier: Record) -> str:
    before = earlier.about.get("inputs")
    if not isinstance(before, dict):
        return "made by an earlier version"
    made_by = {need.fingerprint: need.name for need in task.needs}
    was = dict(_leaves(before))
    changes, depends_on = [], []
    for key, value in _leaves(_as_json(task.about()["inputs"])):
        if was.get(key) == value:
            continue
        name = key[-1]
        if value in made_by:
            depends_on.append(made_by[value])
        elif name == "version":
            changes.append("made by an earlier version of the stage")
        elif key in was and len(f"{was[key]}{value}") <= 80:
            changes.append(f"{name} was {was[key]}, is {value}")
        else:
            changes.append(f"other {name}")
    return "; ".join(changes) or f"depends on {_some(depends_on)}"


def _leaves(inputs: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The values in nested inputs, by their path of names; a list counts as one value."""
    if isinstance(inputs, dict):
        for name, value in inputs.items():
            yield from _leaves(value, (*path, name))
    else:
        yield path, str(inputs) if isinstance(inputs, list) else inputs


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _as_json(value: Any) -> Any:
    return json.loads(json.dumps(value))
