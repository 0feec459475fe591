"""A study from its photos to its report: its plan, its variations and the report in one run."""

from __future__ import annotations

import contextlib
import gc
import itertools
import logging
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from gradcam_adv import backends, machine
from gradcam_adv.app.terminal import table_lines
from gradcam_adv.batching import batch_size_for
from gradcam_adv.data import sources
from gradcam_adv.files import write
from gradcam_adv.models import weights
from gradcam_adv.models.backbones import title
from gradcam_adv.paper import readings
from gradcam_adv.paper.tasks import CompareReadings, CompareSeeds, summaries_of
from gradcam_adv.report import early
from gradcam_adv.report.report import WriteReport, keep_changed_pages
from gradcam_adv.runs import cleaning, locks, records
from gradcam_adv.runs.cleaning import Cleaned
from gradcam_adv.runs.engines import Engine, Local
from gradcam_adv.runs.progress import Whole
from gradcam_adv.runs.runner import Runner
from gradcam_adv.runs.tasks import Task, names_by_kind
from gradcam_adv.study import checks, paths, variations
from gradcam_adv.study.plan import STAGES, Plan, make_plan
from gradcam_adv.study.settings import Study

logger = logging.getLogger(__name__)


class Pipeline:
    """All tasks of one study and its variations, in one run's folder.

    Photos, weights and layers of the study are checked before any work.

    Attributes:
        study: with its batch size.
        plan: of the study itself.
        runner: does its tasks.
    """

    def __init__(
        self,
        study: Study,
        folder: Path,
        models: Path,
        *,
        allow_left_out: bool = False,
        given: Mapping[str, Any] | None = None,
        download: bool = True,
        engine: Engine | None = None,
    ) -> None:
        """
        Args:
            study: what to do.
            folder: of the run.
            models: folder of its ``.keras`` files.
            allow_left_out: continue however many photos can't be used.
            given: what the user typed, for the run's manifest: the path of the study's file,
                photos and weights in place of the file's, and the name of the engine.
            download: whether photos and weights may be downloaded.
            engine: does the slices of the tasks; None for this process.

        Raises:
            ValueError: photos or weights are not available.
            OSError: a system on which no folder can be locked.
        """
        machine.check_system()
        # Before any fingerprint, so that all tasks have the same number.
        shape = (None, study.image_size, study.image_size, 3)
        study = replace(study, batch_size=batch_size_for(study.batch_size, shape))
        self.study = study
        self.folder = folder
        self.models = models
        self._threads = study.threads or machine.cores()
        # What must be equal for all files of a result, besides the inputs of its task.
        self._common = {
            "threads": self._threads,
            "batch_size": study.batch_size,
            "versions": machine.versions(),
        }
        if variables := machine.numeric_environment():
            self._common["environment"] = variables
        self.listing = sources.list_photos(
            study.photos,
            classes=study.classes,
            min_photos=study.min_photos,
            seed=study.seed,
            download=download,
        )
        self.weights = weights.resolve(study.weights, study.networks, download=download)
        self._download = download
        # Of networks that only readings have; None where none are at hand.
        self._weights_of_readings: dict[str, weights.Weights | None] = {}
        self._allow_left_out = allow_left_out
        self._given = {**(given or {}), "allow_left_out": allow_left_out, "readings": False}
        self._engine = engine or Local()
        self._started = False
        self._measured = early.Measured()
        self.runner = Runner(
            folder, models, common=self._common, engine=self._engine, start=self._start
        )
        self.plan = self._planned(study, layers=True)
        varied = variations.of_seeds(study)
        self._seeds = {seed: self._planned(variation) for seed, variation in varied.items()}

    def _planned(self, study: Study, *, layers: bool = False) -> Plan:
        return make_plan(
            study,
            self.listing,
            {network: self._weights(network) for network in study.networks},
            run=self.folder,
            models=variations.models_folder(self.models, self.study, study),
            allow_left_out=self._allow_left_out,
            layers=layers,
        )

    def _weights(self, network: str) -> weights.Weights:
        """Those of a network of the study, or of one that only a reading has.

        ValueError if the study's networks are trained and no such weights of this one are at hand.
        """
        if network in self.weights:
            return self.weights[network]
        if network not in self._weights_of_readings:
            try:
                found = weights.resolve(self.study.weights, [network], download=self._download)
            except ValueError:
                found = {}
            self._weights_of_readings[network] = found.get(network)
        chosen = self._weights_of_readings[network]
        trained = any(of_study.origin != "random" for of_study in self.weights.values())
        if chosen is None or (trained and chosen.origin == "random"):
            raise ValueError(f"Expected weights of {title(network)}. Received: none")
        return chosen

    def run(self, until: str = "report", *, all_readings: bool = False) -> None:
        """Do every task up to the stage ``until`` that is not done yet.

        Args:
            until: one of STAGES.
            all_readings: also do the study under other readings, before the report.
        """
        began = time.perf_counter()
        self._given["readings"] = all_readings
        parts = self._parts(until)
        to_do = [task for part in parts for task in part if not self.runner.is_done(task)]
        self._check(to_do)
        with (
            locks.alone_in(self.folder),
            locks.alone_in(self.models),
            contextlib.closing(self._engine),
        ):
            self._check_manifest()
            self._write_manifest()  # now as well, for the status of an interrupted run
            worked = self._do(parts, to_do, show=until == "report")
            if all_readings:
                others, over = self._readings()
                for name, reason in over.left_out.items():
                    logger.info("left out: %s: %s", name, reason)
                worked = self.runner.do([*others, over]) or worked
            if until == "report":
                report = self._report()
                if not self.runner.is_done(report):
                    keep_changed_pages(self.folder)
                worked = self.runner.do([report]) or worked
                early.forget(self.folder)
            self._write_manifest()
        name = self.study.name
        if worked:
            logger.info("%s: %.0f s in all", name, time.perf_counter() - began)
        else:
            logger.info("%s: nothing to do, every stage up to %s is done", name, until)

    def _do(self, parts: list[list[Task]], to_do: list[Task], *, show: bool) -> bool:
        """Do the tasks, part by part; ``show`` what is done after each. Whether there was one."""
        first, *others = parts
        worked = self.runner.do(first)
        # Now the photos are chosen, on whose number the efforts depend.
        effort = sum(task.effort for task in to_do if task not in first)
        with Whole(f"{self.study.name}, all of it", effort) as whole:
            for part in others:
                if self.runner.do(part, whole):
                    worked = True
                    if show and part is not others[-1]:
                        self._show()
        return worked

    def _show(self) -> None:
        """Write the page of what is done so far, and print the numbers of the arm at work."""
        done = {
            arm: tuple(n for n in self.study.networks if all(map(self.runner.is_done, plan.of(n))))
            for arm, plan in self.plan.arms.items()
        }
        if all(done[arm] == self.study.networks for arm in done) and not self._seeds:
            return  # the report comes soon
        arms = {
            arm: self._planned(variations.of_networks(self.study, names), layers=True).arms[arm]
            for arm, names in done.items()
            if self.study.source in names
        }
        keep_changed_pages(self.folder)
        page = self._measured.page(self.folder, self.study, arms)
        self.runner.do([page])
        *_, arm = arms
        where = self.folder / "report.html"
        logger.info("so far, under the attack made on each network itself, %s (%s):", arm, where)
        for line in table_lines(page.results(arm), "plain"):
            logger.info("  %s", line)

    def _parts(self, until: str) -> list[list[Task]]:
        """The tasks of the study up to a stage, without the report; once scored, of its seeds."""
        stages = STAGES[: STAGES.index(until) + 1]
        parts = [[task for task in part if task.stage in stages] for part in self.plan.parts]
        if self._seeds and "score" in stages:
            seeds = [task for plan in self._seeds.values() for task in plan.tasks]
            done = {task.folder for part in parts for task in part}
            seeds = [task for task in _without_repeats(seeds) if task.folder not in done]
            parts.append([*seeds, self._over_seeds()])
        return parts

    def tasks(self, *, all_readings: bool = False) -> dict[str, list[Task]]:
        """All tasks as they are to be done now: of the study, "", and of each further seed.

        The report is among them once all that it reads is done; so are those of "readings", if they
        are asked for.
        """
        tasks = list(self.plan.tasks)
        if self._seeds:
            tasks.append(self._over_seeds())
        if self._is_scored():
            tasks.append(self._report())
        groups = {"": tasks} | {f"seed {seed}": plan.tasks for seed, plan in self._seeds.items()}
        if all_readings and self._is_scored():
            others, over = self._readings()
            groups["readings"] = [*others, over]
        # Each once: in the first group that it belongs to.
        group_of = {task.folder: name for name in reversed(groups) for task in groups[name]}
        return {
            name: [task for task in tasks if group_of[task.folder] == name]
            for name, tasks in groups.items()
        }

    def _is_scored(self) -> bool:
        return all(map(self.runner.is_done, itertools.chain.from_iterable(self._parts("score"))))

    def _over_seeds(self) -> CompareSeeds:
        plans = {self.study.seeds[0]: self.plan, **self._seeds}
        return CompareSeeds(
            run=self.folder,
            summaries=summaries_of({f"seed {seed}": plan for seed, plan in plans.items()}),
            order=self.study.seeds,
            heatmap_size=self.study.readings.heatmap_size,
            by_seed={seed: plan.arms for seed, plan in plans.items()},
        )

    def reading_plans(self) -> tuple[dict[str, Plan], dict[str, str]]:
        """The plans of the study and of its readings by name, and why others are left out."""
        arms = self.plan.arms.values()
        evaluations = [task for arm in arms for task in arm.evaluate.values()]
        if all(map(self.runner.is_done, evaluations)):
            native_fits = all(arm.native_fits() for arm in arms)
        else:
            self._start()
            native_fits = checks.native_fits(self.study)
        varied, left_out = variations.of_readings(self.study, native_fits=native_fits)
        plans = {readings.DEFAULT: self.plan}
        for name, variation in varied.items():
            try:
                plans[name] = self._planned(variation)
            except ValueError as error:
                left_out[name] = str(error)
        return plans, left_out

    def _readings(self) -> tuple[list[Task], CompareReadings]:
        """The tasks of all readings, and the one over them; the study itself must be done."""
        plans, left_out = self.reading_plans()
        over = CompareReadings(
            run=self.folder,
            summaries=summaries_of(plans),
            by_name={name: plan.arms for name, plan in plans.items()},
            left_out=left_out,
        )
        return _without_repeats(task for plan in plans.values() for task in plan.tasks), over

    def _report(self) -> WriteReport:
        """The report, with the seeds if there are several, and the readings if they are done."""
        extra: dict[str, Task] = {"seeds": self._over_seeds()} if self._seeds else {}
        if any(self.folder.glob(f"{CompareReadings.kind}/*/{records.MANIFEST}")):
            _, over = self._readings()
            if self.runner.is_done(over):
                extra["readings"] = over
        summaries = [task for arm in self.plan.arms.values() for task in arm.summaries]
        return WriteReport(
            run=self.folder,
            summaries={task.name: task for task in summaries},
            extra=extra,
            study=self.study,
            identities=self.listing.identities,
            plan=self.plan,
            models=self.models,
        )

    def _check(self, to_do: list[Task]) -> None:
        """Check what only the backend or a built network can tell, if these tasks need it."""
        checks.check_backend(to_do)
        stages = {task.stage for task in to_do}
        if "train" in stages and any(w.origin == "file" for w in self.weights.values()):
            self._start()
            checks.check_weights_files(self.study, self.weights)
        if "attack" in stages and list(self.study.attack) != ["fgsm"]:
            self._start()
            checks.check_attacks(self.study)
        native = self.study.readings.heatmap_size == "native"
        if "explain" in stages and (native or self.study.layers != "all"):
            self._start()
            checks.check_layers(self.study)

    def results(self, stage: str) -> list[Path]:
        """The files and folders that a user wants to see after a stage."""
        if stage == "report":
            return [self.folder / "report.md", self.folder / "report.html"]
        paths: list[Path] = []
        for arm, plan in self.plan.arms.items():
            tables = {"data": plan.photos.data, "evaluate": plan.accuracy, "score": plan.mod}
            if stage in tables:
                paths += sorted(tables[stage].folder.glob("*.csv"))
            else:
                paths.append(self.models / arm if stage == "train" else self.folder / arm / stage)
        return paths

    def _start(self) -> None:
        """Start Keras' backend, once, and warn of random weights."""
        if self._started:
            return
        self._started = True
        backends.configure(self._threads)
        # What is imported stays. To look through it for garbage after each task takes longer than
        # many a task.
        gc.freeze()
        notes: dict[str, list[str]] = {}
        for network, chosen in self.weights.items():
            if chosen.note:
                notes.setdefault(chosen.note, []).append(network)
        for note, which in notes.items():
            logger.warning(
                "warning: RANDOM WEIGHTS for %s: ImageNet's are %s. "
                "Give a directory of weights files by --weights DIR.",
                ", ".join(which),
                note,
            )

    def _check_manifest(self) -> None:
        """ValueError if there is a manifest of something else in the run's folder."""
        path = self.folder / records.MANIFEST
        if path.exists() and not records.is_of_run(path):
            raise ValueError(
                f"Expected {path} to be a run's, or not there; move it, or give another --runs. "
                "Received: another file"
            )

    def _write_manifest(self) -> None:
        """Record what the run is about; the manifest of each task says how its files were made."""
        report = [self._report()] if self._is_scored() else []
        write.json(
            self.folder / records.MANIFEST,
            {
                "study": paths.to_run(asdict(self.study), self.folder),
                "given": paths.to_run(self._given, self.folder),
                "weights": {
                    name: {"origin": chosen.origin, "sha256": chosen.sha256}
                    for name, chosen in self.weights.items()
                },
                "models": os.path.relpath(self.models, self.folder),
                **self._common,
                "tasks": {
                    task.name: str(task.folder.relative_to(self.folder))
                    for task in (*self.plan.tasks, *report)
                    if task.record() is not None
                },
            },
        )


def clean_run(folder: Path, models: Path) -> Cleaned:
    """Delete the files that the tasks of a run made, and nothing else."""
    return cleaning.clean(folder, models, names_by_kind())  # all kinds are imported here


def _without_repeats(tasks: Iterable[Task]) -> list[Task]:
    """Seeds and readings share the tasks of equal inputs."""
    return list({task.folder: task for task in tasks}.values())
