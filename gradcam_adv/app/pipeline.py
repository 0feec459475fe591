"""Run the tasks of a study that are not done yet, and record what was done."""

from __future__ import annotations

import contextlib
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

import click
import pandas as pd

from gradcam_adv import batching as batches
from gradcam_adv.data import sources
from gradcam_adv.files import artifacts
from gradcam_adv.graph import network as networks
from gradcam_adv.models import weights
from gradcam_adv.paper import outcomes, readings
from gradcam_adv.report import report
from gradcam_adv.runs import cleaning, locks, records
from gradcam_adv.runs.engines import LOCAL, Engine, WorkerLost
from gradcam_adv.study import checks, variations
from gradcam_adv.study.config import Arm, Study
from gradcam_adv.study.setting import Setting, versions
from gradcam_adv.study.stages import score as scoring
from gradcam_adv.study.tasks import STAGES, Graph, Task, make_task

Maker = Callable[[Path], list[Path]]


@dataclass(frozen=True)
class Branch:
    """A study, or a variation of it, with its own models, in the run's folder.

    Attributes:
        study: what to do.
        settings: by arm, what its stages share.
        tasks: by name, in the order in which they run.
    """

    study: Study
    settings: dict[Arm, Setting]
    tasks: dict[str, Task]

    @property
    def arms(self) -> dict[Arm, Setting]:
        """The settings of the study's own arms."""
        return {arm: self.settings[arm] for arm in self.study.arms}


class Pipeline:
    """The tasks of one study and its variations in one run's folder.

    What can be wrong with a study's photos, weights and layers is looked at before any work.

    Attributes:
        settings: by arm, what the stages of the study itself share.
    """

    def __init__(
        self,
        study: Study,
        folder: Path,
        models: Path,
        *,
        allow_left_out: bool = False,
        given: Mapping[str, Any] | None = None,
        engine: Engine = LOCAL,
    ) -> None:
        """
        Args:
            study: what to do.
            folder: of the run.
            models: for the ``.keras`` files, a folder an arm.
            allow_left_out: go on however many photos can't be used.
            given: what the user gave for that, to be kept in the run's manifest.
            engine: does the slices of the stages.
        """
        # Before anything is fingerprinted, so that all that hangs on it sees one number.
        shape = (None, study.image_size, study.image_size, 3)
        study = replace(study, batch_size=batches.size_for(study.batch_size, shape))
        self.study = study
        self.folder = folder
        self.models = models
        self.listing = sources.list_photos(
            study.photos, classes=study.classes, min_photos=study.min_photos, seed=study.seed
        )
        self.weights = weights.resolve(study.weights, study.networks)
        self._allow_left_out = allow_left_out
        self._given = dict(given or {})
        self._engine = engine
        self._places = (folder, models)
        self._own = self._branch(study, layers=True)
        self.settings = self._own.settings
        self._seeds = {seed: self._branch(own) for seed, own in variations.of_seeds(study).items()}
        self._started = False

    def _branch(self, study: Study, *, layers: bool = False) -> Branch:
        models = variations.models_folder(self.models, self.study, study)
        settings: dict[Arm, Setting] = {
            arm: Setting(study, arm, models / arm, self.listing, self.weights, {}, {})
            for arm in get_args(Arm)
        }
        graph = Graph(
            study,
            settings,
            self.folder,
            allow_left_out=self._allow_left_out,
            layers=layers,
            engine=self._engine,
        )
        return Branch(study, settings, graph.tasks)

    def _tasks(self, until: str) -> list[Task]:
        """The tasks of the study up to a stage, without the report; once scored, of its seeds."""
        last = STAGES.index(until)
        own = [t for t in self._own.tasks.values() if STAGES.index(t.stage) <= last]
        if not self._seeds or last < STAGES.index("score"):
            return own
        seeds = [t for branch in self._seeds.values() for t in branch.tasks.values()]
        return [*{task.folder: task for task in (*own, *seeds)}.values(), self._seeds_task()]

    def tasks(self) -> dict[str, list[Task]]:
        """All tasks as they are to be done now: of the study, "", and of each further seed.

        The report's is among them where all that it reads is done; the readings' never are.
        """
        own = list(self._own.tasks.values())
        shared = {task.folder for task in own}
        groups = {"": own}
        for seed, branch in self._seeds.items():
            groups[f"seed {seed}"] = [
                task for task in branch.tasks.values() if task.folder not in shared
            ]
        if self._seeds:
            own.append(self._seeds_task())
        if all(self.is_done(task) for task in self._tasks("score")):
            own.append(self._report_task())
        return groups

    def _summarized(
        self, name: str, branches: dict[str, Branch], make: Maker, **choices: Any
    ) -> Task:
        """A task over whole branches, which hangs on what they predict and score."""
        earlier = {
            f"{which}: {task.name}": task
            for which, branch in branches.items()
            for task in branch.tasks.values()
            if task.name.endswith(("evaluate/summary", "score/summary"))
        }
        inputs = choices | {name: task.fingerprint for name, task in earlier.items()}
        return make_task(self.folder, name, "score", inputs, make, earlier.values())

    def _seeds_task(self) -> Task:
        branches = {self.study.seeds[0]: self._own, **self._seeds}
        by_seed = {seed: branch.arms for seed, branch in branches.items()}
        return self._summarized(
            "seeds",
            {f"seed {seed}": branch for seed, branch in branches.items()},
            lambda folder: outcomes.write_seeds(by_seed, folder),
            order=self.study.seeds,
            heatmap_size=self.study.readings.heatmap_size,
        )

    def _readings(self) -> tuple[list[Task], Task]:
        """The tasks of all readings, and the one over them; the study itself must be done."""
        native_fits = scoring.native_fits(self._own.arms.values())
        branches = {readings.DEFAULT: self._own} | {
            name: self._branch(own)
            for name, own in variations.of_readings(self.study, native_fits=native_fits).items()
        }
        tasks = {task.folder: task for b in branches.values() for task in b.tasks.values()}
        by_name = {name: branch.arms for name, branch in branches.items()}
        over = self._summarized(
            "readings", branches, lambda folder: outcomes.write_readings(by_name, folder)
        )
        return list(tasks.values()), over

    def _report_task(self) -> Task:
        """The report, with the seeds where there are several and the readings where done."""
        tasks = list(self._tasks("score"))
        _, over = self._readings()
        extra = {task.name: task for task in tasks if task.name == "seeds"}
        if self.is_done(over):
            extra["readings"] = over
        inputs: dict[str, Any] = {
            task.name: task.fingerprint
            for task in self._own.tasks.values()
            if task.name.endswith("/summary")
        } | {name: task.fingerprint for name, task in extra.items()}
        # Names, and people not chosen: the report tells of them, and nothing else hangs on them.
        people = self.listing.identities.to_numpy().tolist()
        inputs |= {"study": asdict(self.study), "identities": people}
        return make_task(
            self.folder,
            "report",
            "report",
            inputs,
            lambda folder: self._report(folder, {name: t.folder for name, t in extra.items()}),
            (*tasks, over),
        )

    def _report(self, folder: Path, extra: dict[str, Path]) -> list[Path]:
        """Write the report into its task's folder, and then, whole, to where readers look for it.

        A report that can't be finished, on a full disk, leaves the one before as it is.
        """
        data = self.settings["plain"].folders["data"]
        written = report.write(self._own.arms, data, folder, self.seconds(), extra)
        files = [
            artifacts.publish(path, self.folder / path.relative_to(folder)) for path in written
        ]
        # A report of other arms or of an earlier version would lie among this one's tables. Paths
        # out of records are without "..", which the run's own may have: --runs a/../b.
        kept = {Path(os.path.normpath(path)) for path in files}
        for place in self.folder.glob("report/*"):
            for record in (records.manifest(place), records.journal(place)):
                for name in record.begun if record else ():
                    path = records.place_of(place, name, self._places)
                    if path is not None and path not in kept and not path.is_dir():
                        path.unlink(missing_ok=True)
        cleaning.remove_empty(written, (folder,))
        return files

    def seconds(self) -> pd.DataFrame:
        """How long each task took when it was done: columns arm, stage, task, seconds."""
        rows = []
        for task in self._own.tasks.values():
            record = task.record()
            if record is not None:
                arm, key = task.name.split("/", 1)
                rows.append((arm, task.stage, key, record.seconds))
        return pd.DataFrame(rows, columns=["arm", "stage", "task", "seconds"])

    def run(self, until: str = "report", *, all_readings: bool = False) -> None:
        """Run every task up to the stage ``until`` that isn't done yet.

        Args:
            until: one of STAGES.
            all_readings: read the paper in other ways as well, before the report.
        """
        started = time.perf_counter()
        tasks = self._tasks(until)
        to_do = [task for task in tasks if not self.is_done(task)]
        checks.backend(task.name for task in to_do)
        self._check_networks({task.stage for task in to_do})
        with (
            locks.alone_in(self.folder),
            locks.alone_in(self.models),
            contextlib.closing(self._engine),
        ):
            worked = self._run(tasks, until, all_readings)
        if worked:
            click.echo(f"{self.study.name}: {time.perf_counter() - started:.0f} s in all")
        else:
            click.echo(f"{self.study.name}: nothing to do, every stage up to {until} is done")

    def _run(self, tasks: list[Task], until: str, all_readings: bool) -> bool:
        # Now, too: what is interrupted can be looked at by it.
        self._write_manifest()
        worked = self._do_all(tasks)
        if all_readings:
            others, over = self._readings()
            worked = self._do_all([*others, over]) or worked
        if until == "report":
            worked = self._do_all([self._report_task()]) or worked
        self._write_manifest()
        return worked

    def _do_all(self, tasks: list[Task]) -> bool:
        """Do the tasks that aren't done; whether there was one."""
        worked = False
        for task in tasks:
            # Asked for each in turn: a task done anew may have come out otherwise than before.
            if self.is_done(task):
                # Of a process that was killed right after it had written the manifest.
                (task.folder / records.JOURNAL).unlink(missing_ok=True)
                continue
            worked = True
            if task.networks:
                self._start()
            with records.Journal(task.folder, self.about(task), self._places) as journal:
                if journal.record.files:
                    click.echo(f"{task.name}: goes on, {len(journal.record.files)} files are there")
                try:
                    with artifacts.observed(journal), _noting(journal):
                        files = task.make(task.folder)
                finally:
                    networks.forget()
                seconds = journal.finish(files)
            click.echo(f"{task.name}: {seconds:.1f} s")
        return worked

    def is_done(self, task: Task) -> bool:
        """Whether a task's files are as they were made, out of what its needs hold now."""
        return task.result() is not None and self._needs_unchanged(task)

    def _needs_unchanged(self, task: Task) -> bool:
        record = task.record()
        return record is not None and record.about["needs"] == self._results_needed(task)

    def _results_needed(self, task: Task) -> dict[str, str | None]:
        return {str(need.folder.relative_to(self.folder)): need.result() for need in task.needs}

    def about(self, task: Task) -> dict[str, Any]:
        """Everything that a task's files hang on: parts of one result agree in all of it."""
        return task.about() | {
            "needs": self._results_needed(task),
            "threads": self._threads(),
            "batch_size": self.study.batch_size,
            "versions": versions(),
        }

    def _check_networks(self, stages_to_do: set[str]) -> None:
        """Look at what only a built network can tell, where a study leaves the defaults.

        Raises:
            ValueError: a weights file that isn't the network's, or as :func:`checks.layers`.
        """
        if "train" in stages_to_do and any(w.origin == "file" for w in self.weights.values()):
            self._start()
            checks.files(self.study, self.weights)
        native = self.study.readings.heatmap_size == "native"
        if "explain" in stages_to_do and (native or self.study.layers != "all"):
            self._start()
            checks.layers(self.study)

    def results(self, stage: str) -> list[Path]:
        """What a user wants to look at after ``stage``."""
        if stage == "report":
            return [self.folder / "report.md", self.folder / "report.html"]
        paths: list[Path] = []
        for arm in self.study.arms:
            if stage == "train":
                paths.append(self.models / arm)
            elif stage in ("attack", "explain"):
                paths.append(self.folder / arm / stage)
            else:
                key = stage if stage == "data" else f"{stage}/summary"
                paths += sorted(self.settings[arm].folders[key].glob("*.csv"))
        return paths

    def _start(self) -> None:
        """Bring up Keras' backend, once, before the first network."""
        if self._started:
            return
        self._started = True
        from gradcam_adv import backends as gradients

        gradients.configure(self._threads())
        notes: dict[str, list[str]] = {}
        for network, chosen in self.weights.items():
            if chosen.note:
                notes.setdefault(chosen.note, []).append(network)
        for note, which in notes.items():
            click.echo(
                f"warning: RANDOM WEIGHTS for {', '.join(which)}: ImageNet's are {note}. "
                "Give a directory of weights files by --weights DIR.",
                err=True,
            )

    def _threads(self) -> int:
        return self.study.threads or batches.cores()

    def _write_manifest(self) -> None:
        """Record what the run is of; each task's own manifest says how its files were made."""
        scored = all(self.is_done(task) for task in self._tasks("score"))
        report = [self._report_task()] if scored else []
        artifacts.write_json(
            self.folder / artifacts.MANIFEST,
            {
                "study": asdict(self.study),
                "given": self._given,
                "weights": {
                    name: {"origin": chosen.origin, "sha256": chosen.sha256}
                    for name, chosen in self.weights.items()
                },
                "photos": str(self.listing.root),
                "models": str(self.models),
                "threads": self._threads(),
                "batch_size": self.study.batch_size,
                "versions": versions(),
                "tasks": {
                    task.name: str(task.folder.relative_to(self.folder))
                    for task in (*self._own.tasks.values(), *report)
                    if task.record() is not None
                },
            },
        )


@contextlib.contextmanager
def _noting(journal: records.Journal) -> Iterator[None]:
    """Say it, and write it into the task's record, when batches shrink or a worker is lost."""
    shown = warnings.showwarning
    noted = batches.BatchHalved, WorkerLost

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if not issubclass(category, noted):
            return shown(message, category, *where, **more)
        journal.note(str(message))
        return click.echo(f"warning: {message}", err=True)

    with warnings.catch_warnings():
        for category in noted:
            warnings.simplefilter("always", category)
        warnings.showwarning = show
        yield
