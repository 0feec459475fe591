"""The list of readings: which stages each makes again, and about how long that takes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from gradcam_adv.runs.runner import Runner
from gradcam_adv.runs.tasks import Task
from gradcam_adv.study.plan import STAGES, Plan


def reading_plan(plans: Mapping[str, Plan], runner: Runner) -> pd.DataFrame:
    """One row per reading, and one of the sum.

    What several readings share counts for the first of them. Seconds follow from the passes through
    the networks; where tasks of a kind are done, their own time says how long a pass takes.

    Args:
        plans: by reading, the study's own first; their photos are chosen.
        runner: knows which tasks are done.

    Returns:
        Columns reading, makes (the stages that it makes, such as "evaluate, score"; empty if all is
        there), tasks (their number), minutes.
    """
    to_do: dict[str, list[Task]] = {}
    counted: dict[Path, Task] = {}
    for name, plan in plans.items():
        own = {task.folder: task for task in plan.tasks if task.folder not in counted}
        to_do[name] = [task for task in own.values() if not runner.is_done(task)]
        counted |= own
    seconds_of = _seconds(counted.values())
    rows = [
        {
            "reading": name,
            "makes": ", ".join(s for s in STAGES if s in {task.stage for task in tasks}),
            "tasks": len(tasks),
            "minutes": sum(task.effort * seconds_of[task.kind] for task in tasks) / 60,
        }
        for name, tasks in to_do.items()
    ]
    table = pd.DataFrame(rows)
    total = {"reading": "all", "makes": "", **table[["tasks", "minutes"]].sum()}
    return pd.concat([table, pd.DataFrame([total])], ignore_index=True).astype({"tasks": int})


def _seconds(tasks: Iterable[Task]) -> dict[str, float]:
    """By kind, the seconds that a unit of effort takes: 1 where nothing of a run is done yet."""
    effort: defaultdict[str, float] = defaultdict(float)
    seconds: defaultdict[str, float] = defaultdict(float)
    tasks = list(tasks)
    for task in tasks:
        if record := task.record():
            effort[task.kind] += task.effort
            seconds[task.kind] += record.seconds
    overall = sum(seconds.values()) / sum(effort.values()) if effort else 1.0
    return {
        task.kind: seconds[task.kind] / effort[task.kind] if effort[task.kind] else overall
        for task in tasks
    }
