"""The report of a run: its task, and how Markdown, tables, figures and page are put together."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import pandas as pd

from gradcam_adv.files import write
from gradcam_adv.models.backbones import BACKBONES
from gradcam_adv.paper import judge
from gradcam_adv.report import (
    alignment,
    attacks,
    contents,
    curves,
    drawing,
    early,
    figures,
    layer_sheets,
    page,
    reading_figures,
    sections,
    viewer,
)
from gradcam_adv.report.text import caveat, caveat_of, render
from gradcam_adv.runs import cleaning, records
from gradcam_adv.runs.engines import Engine
from gradcam_adv.runs.records import Names
from gradcam_adv.runs.tasks import Task, counted_as, not_an_input
from gradcam_adv.study.columns import read_tables
from gradcam_adv.study.plan import ArmPlan, Plan
from gradcam_adv.study.settings import Arm, Study
from gradcam_adv.study.tables import select

logger = logging.getLogger(__name__)

Tables = dict[str, pd.DataFrame]
# Every file of a report, by its path in the run.
_TABLES = (
    "accuracy|arms_accuracy|arms_mod|attacks|bracket|checks|claims|depth|excess|excluded|gain(_curves|_order)?|half_shift|"
    "identities|insertion|layers|mod|nissim|noise_draws|"
    "photos|predictions|psnr|readings(_distances|_facts|_left_out|_orders|_verdicts)?|"
    "seeds(_each|_gain|_own|_verdicts)?|shift|"
    "spectrum|table_[123]|transfer|unrelated|vid|zero_gradients"
)
_FIGURES = (
    r"bracket|crops|curves|depth_profile|figure_\d|gain|readings_(distances|curves_\w+)|seeds|transfer|"
    rf"layers_({'|'.join(BACKBONES)})(@[\w.+-]+)?_(\d+|blocks)"
)
_ARM = f"({'|'.join(get_args(Arm))})"
_FILES = (
    rf"report\.(md|html)|tables/({_ARM}/)?({_TABLES})\.csv|"
    rf"figures/({_ARM}/)?({_FIGURES})\.(png|svg)"
)


@dataclass(frozen=True, eq=False, kw_only=True)
class WriteReport(Task):
    """``report.md``, ``report.html``, ``tables`` and ``figures``, published to the run's folder.

    They are written into the task's folder first and then moved. So if a report can't be finished,
    on a full disk, the one before stays as it is.

    It is made of the tables of ``summaries`` and of ``extra``, the tasks over "seeds" and
    "readings", if there are any. ``identities`` are those of the data set, also those not chosen.
    Nothing is written into ``models``.
    """

    kind = "report"
    stage = "report"
    version = 5
    names = Names(own=_FILES, run=_FILES)

    summaries: Mapping[str, Task]
    extra: Mapping[str, Task]
    study: Study
    identities: pd.DataFrame = counted_as(lambda table: table.to_numpy().tolist())
    plan: Plan = not_an_input()
    models: Path = not_an_input()

    def make(self, engine: Engine) -> list[Path]:
        written = self._write()
        files = [write.publish(path, self.run / path.relative_to(self.folder)) for path in written]
        self._remove_earlier(files)
        cleaning.remove_empty(written, (self.folder,))
        return files

    def _remove_earlier(self, files: list[Path]) -> None:
        """Remove what an earlier report, of other arms or another version, published elsewhere."""
        # Paths out of records have no "..", which the run's own may have: --runs a/../b.
        kept = {Path(os.path.normpath(path)) for path in files}
        places = (self.run, self.models)
        for place in self.run.glob(f"{self.name}/*"):
            for record in (records.manifest(place), records.journal(place)):
                for name in record.begun if record else ():
                    path = records.place_of(place, name, places)
                    if path is None or path in kept or path.is_dir():
                        continue
                    if self.names.fit(path, place, places):
                        path.unlink(missing_ok=True)

    def _write(self) -> list[Path]:
        arms, folder = self.plan.arms, self.folder
        summaries = {arm: _summary(plan) for arm, plan in arms.items()}
        files = []
        for arm, summary in summaries.items():
            files += write.tables(folder / "tables" / arm, **summary)
            files += _copy_scores(arms[arm], folder / "tables" / arm)
            drawn = folder / "figures" / arm
            shown = caveat(arms[arm])
            files += figures.write_all(arms[arm], drawn, summary, shown)
            files += layer_sheets.write_all(arms[arm], drawn, summary["predictions"], shown)
        common = read_tables(self.plan.data.folder) | alignment.compared(arms, summaries)
        for task in self.extra.values():
            common |= read_tables(task.folder)
        files += _draw_extra(arms, common, folder / "figures")
        common["claims"] = judge.judge_all(arms)
        common["identities"] = _identities(self.identities, common["identities"])
        files += write.tables(folder / "tables", **common)
        return [*files, *write_pages(folder, arms, summaries, common, self._seconds())]

    def _seconds(self) -> pd.DataFrame:
        """How long each task took when it was done: columns arm, stage, task, seconds."""
        rows = []
        for task in self.plan.tasks:
            record = task.record()
            if record is not None:
                arm, name = task.name.split("/", 1)
                rows.append((arm, task.stage, name, record.seconds))
        return pd.DataFrame(rows, columns=["arm", "stage", "task", "seconds"])


def write_pages(
    folder: Path,
    arms: Mapping[Arm, ArmPlan],
    summaries: Mapping[Arm, Tables],
    common: Tables,
    seconds: pd.DataFrame | None = None,
) -> list[Path]:
    """Write ``report.md`` and ``report.html`` with the tables and figures that there are.

    For the arguments see :func:`gradcam_adv.report.contents.of_run`. Figures lie in
    ``folder/figures``. A page of some networks alone is that of plans whose study has only these.
    """
    text, html = folder / "report.md", folder / "report.html"
    values = contents.of_run(arms, summaries, common, seconds)
    write.text(text, "\n\n".join(render("report", **values)) + "\n")
    page.write_page(html, values, viewer.of_run(arms, summaries), folder / "figures")
    return [text, html]


def keep_changed_pages(run: Path) -> None:
    """Rename pages in a run's folder that no task of it wrote, or that somebody changed since."""
    found = {
        place: record
        for place in (*run.glob(f"{WriteReport.kind}/*"), early.folder_in(run))
        if (record := records.manifest(place) or records.journal(place))
    }

    def is_ours(file: Path) -> bool:
        names = {place: os.path.relpath(file, place) for place in found}
        return any(
            names[place] in record.begun - record.files.keys() or record.holds(names[place], place)
            for place, record in found.items()
        )

    for file in (run / "report.md", run / "report.html"):
        if os.path.lexists(file) and not is_ours(file):
            others = (file.with_stem(f"{file.stem}-kept-{n}") for n in itertools.count(1))
            kept = next(other for other in others if not os.path.lexists(other))
            file.rename(kept)
            logger.warning("warning: %s was not as a report wrote it, and is now %s", file, kept)


def _draw_extra(arms: Mapping[Arm, ArmPlan], common: Tables, folder: Path) -> list[Path]:
    """The figures over the seeds and over the readings, if the run has them."""
    source = next(iter(arms.values())).study.source
    files = []
    if "seeds" in common:
        for arm, plan in arms.items():
            across, each = (select(common[name], arm=arm) for name in ("seeds", "seeds_each"))
            drawn = {"seeds": curves.across_seeds(across, each, source)}
            files += drawing.save(drawn, folder / arm, caveat(plan))
    if "readings" in common:
        readings, distances = common["readings"], common["readings_distances"]
        shown = f"{caveat_of(arms)}, unless a reading says otherwise"
        files += reading_figures.write_all(readings, distances, folder, caveat=shown, source=source)
    return files


def _copy_scores(plan: ArmPlan, folder: Path) -> list[Path]:
    """Every photo's own NISSIM and the pairs of unrelated photos, one network at a time."""
    own = plan.score.values()
    every = itertools.chain.from_iterable(plan.mod.networks.values())
    write.table_in_parts(folder / "nissim.csv", (score.nissim() for score in every))
    write.table_in_parts(folder / "unrelated.csv", (score.unrelated() for score in own))
    return [folder / "nissim.csv", folder / "unrelated.csv"]


def _identities(listed: pd.DataFrame, made: pd.DataFrame) -> pd.DataFrame:
    """All identities as they are listed now, with what is known of the chosen ones."""
    known = made.set_index("identity")
    table = listed.set_index("identity")
    of_chosen = known.index[known["usable"].notna()].intersection(table.index)
    table["usable"] = known["usable"].reindex(table.index)
    table.loc[of_chosen, ["chosen", "reason"]] = known.loc[of_chosen, ["chosen", "reason"]]
    return table.reset_index()


def _summary(plan: ArmPlan) -> Tables:
    """All tables of one arm by name."""
    summary = plan.tables()
    if plan.arm == "aligned":  # its photos and excluded ones differ from the study's
        summary |= read_tables(plan.photos.data.folder)
    return summary | sections.beside_paper(plan, summary) | attacks.derived(plan, summary)
