"""Tasks over the variations of a study: tables over its seeds, and over its readings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from gradcam_adv.files import write
from gradcam_adv.models.backbones import of_paper, training_of
from gradcam_adv.paper import draws, evidence, judge, readings, seeds
from gradcam_adv.runs.engines import Engine
from gradcam_adv.runs.records import Names
from gradcam_adv.runs.tasks import Task, not_an_input
from gradcam_adv.study.plan import ArmPlan, Plan
from gradcam_adv.study.settings import Arm
from gradcam_adv.study.stages.network_task import SummaryTask

Arms = Mapping[Arm, ArmPlan]


def summaries_of(plans: Mapping[str, Plan]) -> dict[str, SummaryTask]:
    """The evaluations and scores over all networks that tables over several plans depend on."""
    return {
        f"{name}: {task.name}": task
        for name, plan in plans.items()
        for arm in plan.arms.values()
        for task in (arm.accuracy, arm.mod)
    }


@dataclass(frozen=True, eq=False, kw_only=True)
class CompareSeeds(Task):
    """Numbers and verdicts over the seeds of the training; the first seed is the study's own.

    Where networks are trained in several ways, also the numbers under each one's own attack.

    Attributes:
        summaries: as of :func:`summaries_of`.
        order: of the seeds.
        by_seed: the arms of each seed's plan.
    """

    kind = "seeds"
    stage = "score"
    version = 2
    names = Names(r"seeds(_each|_gain|_own|_verdicts)?\.csv")

    summaries: Mapping[str, SummaryTask]
    order: tuple[int, ...]
    heatmap_size: str
    by_seed: Mapping[int, Arms] = not_an_input()

    def make(self, engine: Engine) -> list[Path]:
        across, each, gains, own = [], [], [], []
        for arm, plan in self.by_seed[self.order[0]].items():
            tables = {seed: _per_photo(arms[arm]) for seed, arms in self.by_seed.items()}
            epsilons = plan.study.vid_epsilons
            found = seeds.across(tables, epsilons)
            across.append(found.assign(arm=arm))
            each.append(seeds.each(tables, epsilons).assign(arm=arm))
            of_gain, of_half = (
                [
                    arms[arm].mod.table(name).assign(arm=arm, seed=seed)
                    for seed, arms in self.by_seed.items()
                ]
                for name in ("gain", "half_shift")
            )
            gains += of_gain
            if any(map(training_of, plan.study.networks)):
                shown = (plan.headline(pd.concat(parts)) for parts in (of_gain, of_half))
                own.append(seeds.under_own_attack(tables, epsilons, *shown).assign(arm=arm))
        judged = {
            seed: judge.judge_plan(arms, variation=True) for seed, arms in self.by_seed.items()
        }
        return write.tables(
            self.folder,
            **({"seeds_own": pd.concat(own, ignore_index=True)} if own else {}),
            seeds=pd.concat(across, ignore_index=True),
            seeds_each=pd.concat(each, ignore_index=True),
            seeds_gain=pd.concat(gains, ignore_index=True),
            seeds_verdicts=seeds.verdict_counts(judged),
        )


def _per_photo(plan: ArmPlan) -> dict[str, pd.DataFrame]:
    """One row per photo or pair of photos, all networks, as the study reads the paper."""
    scores = plan.score.values()
    nissim = [plan.headline(plan.of_study(network)) for network in plan.score]
    unrelated = [plan.headline(score.unrelated()) for score in scores]
    return {
        "predictions": plan.accuracy.table("predictions"),
        "nissim": pd.concat(nissim, ignore_index=True),
        "unrelated": pd.concat(unrelated, ignore_index=True),
    }


@dataclass(frozen=True, eq=False, kw_only=True)
class CompareReadings(Task):
    """Curves, distances, facts and verdicts over the readings; the first is the study as it is.

    Attributes:
        summaries: as of :func:`summaries_of`.
        by_name: the arms of each reading's plan.
        left_out: by reading, why it is not among them.
    """

    kind = "readings"
    stage = "score"
    version = 3
    names = Names(r"readings(_distances|_facts|_left_out|_orders|_verdicts)?\.csv")

    summaries: Mapping[str, SummaryTask]
    by_name: Mapping[str, Arms] = not_an_input()
    left_out: Mapping[str, str] = not_an_input()

    def make(self, engine: Engine) -> list[Path]:
        found = [_outcome(name, arms) for name, arms in self.by_name.items()]
        study = next(iter(self.by_name[readings.DEFAULT].values())).study
        tables = readings.tables(found, of_paper(study.source), study.seed)
        left_out = pd.DataFrame(self.left_out.items(), columns=["reading", "reason"])
        return write.tables(self.folder, **tables, readings_left_out=left_out)


def _outcome(name: str, arms: Arms) -> readings.Outcome:
    run = evidence.as_papers(judge.run_of(arms, variation=True))
    verdicts = judge.judge(run.arms, run.study, run.origins)
    tables = {arm: _summary(plan) for arm, plan in arms.items()}
    return readings.Outcome(name, tables, verdicts, draws.photos_of(run))


def _summary(plan: ArmPlan) -> dict[str, pd.DataFrame]:
    """The tables of an outcome; networks are called as the paper's that they stand for."""
    found = {
        "accuracy": plan.accuracy.table("accuracy"),
        "psnr": plan.accuracy.table("psnr"),
        "mod": plan.headline(plan.mod.table("mod")),
        "vid": plan.headline(plan.mod.table("vid")),
    }
    names = {network: of_paper(network) for network in plan.study.networks}
    return {name: table.replace({"network": names}) for name, table in found.items()}
