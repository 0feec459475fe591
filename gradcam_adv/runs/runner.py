"""Doing the tasks of a run that are not done yet, and recording what was done."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from gradcam_adv import backends
from gradcam_adv.batching import BatchHalved
from gradcam_adv.files import write
from gradcam_adv.runs import records
from gradcam_adv.runs.engines import Engine, WorkerLost
from gradcam_adv.runs.progress import Whole, untold
from gradcam_adv.runs.tasks import Task

logger = logging.getLogger(__name__)


class Runner:
    """Does tasks in one run's folder.

    ``common`` is what must be equal for all files of a result besides its inputs, JSON values, such
    as versions of packages. ``engine`` does the slices of the tasks. ``start`` starts Keras'
    backend, before each task that runs networks.
    """

    def __init__(
        self,
        folder: Path,
        models: Path,
        *,
        common: Mapping[str, Any],
        engine: Engine,
        start: Callable[[], None],
    ) -> None:
        self.folder = folder
        # Nothing is written or deleted outside these.
        self.places = (folder, models)
        self._common = dict(common)
        self._engine = engine
        self._start = start

    def do(self, tasks: Iterable[Task], whole: Whole | None = None) -> bool:
        """Do the tasks that are not done, in their order; whether there was one.

        ``whole`` shows how far the whole run is.
        """
        worked = False
        for task in tasks:
            # Checked one by one: an earlier task may just have given another result than before.
            if self.is_done(task):
                # Left by a process that was killed right after it had written the manifest.
                (task.folder / records.JOURNAL).unlink(missing_ok=True)
                continue
            worked = True
            if task.runs_networks:
                self._start()
            about = self.about(task)
            with records.Journal(task.folder, about, self.places, task.names) as journal:
                if journal.record.files:
                    there = len(journal.record.files)
                    logger.info("%s: goes on, %d files are there", task.name, there)
                counted = whole.task(task.effort) if whole else contextlib.nullcontext(untold)
                try:
                    with write.observed(journal), _noting(journal), counted as advance:
                        self._engine.advance = advance
                        files = task.make(self._engine)
                finally:
                    if task.runs_networks:
                        backends.clear_session()
                seconds = journal.finish(files)
            logger.info("%s: %.1f s", task.name, seconds)
        return worked

    def is_done(self, task: Task) -> bool:
        """Whether a task's files are as they were made, from what its needs hold now."""
        if task.result() is None:
            return False
        record = task.record()
        return record is not None and record.about["needs"] == self._results_needed(task)

    def about(self, task: Task) -> dict[str, Any]:
        """Everything that a task's files depend on; it is equal for all files of a result."""
        return task.about() | {"needs": self._results_needed(task), **self._common}

    def _results_needed(self, task: Task) -> dict[str, str | None]:
        return {str(need.folder.relative_to(self.folder)): need.result() for need in task.needs}


@contextlib.contextmanager
def _noting(journal: records.Journal) -> Iterator[None]:
    """Log it, and note it in the task's record, when batches are halved or a worker is lost."""
    shown = warnings.showwarning
    noted = BatchHalved, WorkerLost

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if not issubclass(category, noted):
            return shown(message, category, *where, **more)
        journal.note(str(message))
        return logger.warning("warning: %s", message)

    with warnings.catch_warnings():
        for category in noted:
            warnings.simplefilter("always", category)
        warnings.showwarning = show
        yield
