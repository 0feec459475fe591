"""The report on the paper's claims: the verdict on its own tables, and on this run."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd

from gradcam_adv.paper.claims import CLAIMS
from gradcam_adv.report.text import caveats, render, rows_of
from gradcam_adv.study.config import Arm
from gradcam_adv.study.plan import ArmPlan
from gradcam_adv.study.tables import select

_ON_PAPER = {"plain": "Table 1", "aligned": "Table 2", "both": "Tables 1 and 2"}


def section(arms: Mapping[Arm, ArmPlan], verdicts: pd.DataFrame) -> list[str]:
    """One verdict per claim at a glance, and below it how each was reached."""
    reached = [
        {
            "Claim": row.says,
            "Arm": row.arm,
            "Verdict": row.verdict,
            "Effect": row.effect or "–",
            "Why": row.detail,
            "Rule": row.rule,
            "p / p (Holm)": "–" if math.isnan(row.p) else f"{row.p:.3g} / {row.p_holm:.3g}",
        }
        for row in rows_of(select(verdicts, on="run"))
    ]
    at_a_glance = _at_a_glance(arms, verdicts)
    return render("claims", caveats=caveats(arms), at_a_glance=at_a_glance, reached=reached)


def _at_a_glance(arms: Mapping[Arm, ArmPlan], verdicts: pd.DataFrame) -> list[dict[str, str]]:
    rows = []
    for claim in CLAIMS:
        of_claim = select(verdicts, claim=claim.name)
        printed = [
            f"{row.verdict} ({_ON_PAPER[row.arm]})" if row.arm in _ON_PAPER else row.verdict
            for row in rows_of(select(of_claim, on="paper"))
        ]
        row = {"Claim": claim.says, "The paper's tables": "; ".join(printed)}
        on_run = select(of_claim, on="run")
        for arm in arms:
            (row[f"This run, {arm}"],) = on_run.loc[on_run["arm"].isin((arm, "both")), "verdict"]
        rows.append(row | {"Place": claim.place})
    return rows
