"""The page of a study that is still running: the numbers of the networks that are done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from gradcam_adv.files import write
from gradcam_adv.models.backbones import title
from gradcam_adv.report import attacks, contents, overview, page, sections, viewer
from gradcam_adv.runs import cleaning, records
from gradcam_adv.runs.engines import Engine
from gradcam_adv.runs.records import Names
from gradcam_adv.runs.tasks import Task, not_an_input
from gradcam_adv.study.plan import ArmPlan
from gradcam_adv.study.settings import Arm, Study

Tables = dict[str, pd.DataFrame]
# What there is when all networks are done.
LATER = ("transfer", "claims", "figures")


@dataclass(frozen=True, eq=False, kw_only=True)
class WriteEarlyPage(Task):
    """``report.html`` without claims and figures. It is written anew whenever a network is done.

    Attributes:
        done: the tasks that it shows.
        arms: plans of the networks that are done.
        tables: of each arm, as of :class:`Measured`.
        to_come: what the page says of the others.
    """

    kind = "early"
    stage = "report"
    names = Names(own=r"report\.html", run=r"report\.html")

    done: tuple[Task, ...]
    arms: Mapping[Arm, ArmPlan] = not_an_input()
    tables: Mapping[Arm, Tables] = not_an_input()
    to_come: str = not_an_input()

    @property
    def folder(self) -> Path:
        """One for all of them, so that only the latest is on record."""
        return folder_in(self.run)

    def make(self, engine: Engine) -> list[Path]:
        values = contents.of_run(self.arms, self.tables, {})
        values["banner"] = [self.to_come, *values["banner"]]
        path = self.folder / "report.html"
        page.write_page(
            path, values, viewer.of_run(self.arms, self.tables), self.folder / "figures"
        )
        return [write.publish(path, self.run / path.name)]

    def results(self, arm: Arm) -> pd.DataFrame:
        """The numbers in large type, a row per network, for a terminal."""
        cards = overview.of_arm(self.arms[arm], self.tables[arm])
        return pd.DataFrame(
            {"network": card.title} | {number.name: number.value for number in card.first}
            for card in cards
        )


def folder_in(run: Path) -> Path:
    return run / WriteEarlyPage.kind / "page"


def forget(run: Path) -> None:
    """Remove the record of the early page, once the report has taken its place."""
    files = [folder_in(run) / name for name in (records.MANIFEST, records.JOURNAL)]
    for file in files:
        file.unlink(missing_ok=True)
    cleaning.remove_empty(files, (run,))


class Measured:
    """The tables of the networks that are done. Each network's are made once, and written nowhere.

    What is over several networks is left out.
    """

    def __init__(self) -> None:
        self._of_network: dict[tuple[Arm, str], Tables] = {}

    def page(self, run: Path, study: Study, arms: Mapping[Arm, ArmPlan]) -> WriteEarlyPage:
        """The page of a study; ``arms`` are plans of the networks that are done."""
        left = {
            arm: [title(n) for n in study.networks if arm not in arms or n not in arms[arm].score]
            for arm in study.arms
        }
        to_come = [f"{', '.join(networks)} ({arm})" for arm, networks in left.items() if networks]
        return WriteEarlyPage(
            run=run,
            done=tuple(task for plan in arms.values() for n in plan.score for task in plan.of(n)),
            arms=arms,
            tables={arm: self._tables(plan) for arm, plan in arms.items()},
            to_come=f"NOT FINISHED, still to come: {', '.join([*to_come, *LATER])}",
        )

    def _tables(self, plan: ArmPlan) -> Tables:
        """By name, as the report gets them."""
        each = [self._of_one(plan, network) for network in plan.study.networks]
        made = {name: pd.concat([tables[name] for tables in each]) for name in each[0]}
        beside = sections.beside_paper(plan, made)
        del beside["transfer"]
        return made | beside | attacks.derived(plan, made)

    def _of_one(self, plan: ArmPlan, network: str) -> Tables:
        key = plan.arm, network
        if key not in self._of_network:
            summaries = (
                replace(task, networks={network: task.networks[network]}) for task in plan.summaries
            )
            made = {name: t for task in summaries for name, t in task.summarize().items()}
            del made["gain_order"]
            self._of_network[key] = {n: t[t["network"] != "all"] for n, t in made.items()}
        return self._of_network[key]
