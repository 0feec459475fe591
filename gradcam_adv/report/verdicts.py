"""The report on the paper's claims: the verdict on its own tables and on this run, and why."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from gradcam_adv.paper import judge
from gradcam_adv.paper.claims import CLAIMS
from gradcam_adv.report.text import rows_of
from gradcam_adv.study.plan import ArmPlan
from gradcam_adv.study.settings import Arm
from gradcam_adv.study.tables import select

PAPER = "paper"
# In the matrix: a letter beside the colour.
LETTERS = {judge.HOLDS: "H", judge.FAILS: "N", judge.INCONCLUSIVE: "?", judge.NOT_JUDGED: "–"}
_ON_PAPER = {
    "plain": "Table 1",
    "aligned": "Table 2",
    "both": "Tables 1 and 2",
    "not said": "Table 3",  # which does not say on which photos it was measured
}


def of_claims(arms: Mapping[Arm, ArmPlan], verdicts: pd.DataFrame) -> list[dict[str, Any]]:
    """Each claim with a cell per judge, the paper's tables and each arm, and how it was reached."""
    found = []
    for claim in CLAIMS:
        of_claim = select(verdicts, claim=claim.name)
        on_paper, on_run = (select(of_claim, on=on) for on in ("paper", "run"))
        by_judge = {PAPER: list(rows_of(on_paper))}
        for arm in arms:
            by_judge[arm] = list(rows_of(on_run[on_run["arm"].isin((arm, "both"))]))
        found.append(
            {
                "name": claim.name,
                "title": claim.title,
                "says": claim.says,
                "place": claim.place,
                "rule": claim.full_rule,
                "cells": {who: _cell(rows) for who, rows in by_judge.items()},
                "reached": [_reached(row) for row in rows_of(of_claim)],
            }
        )
    return found


def _cell(rows: list[Any]) -> dict[str, str]:
    """The letters, the kind (a class of the page) and the verdicts in words."""
    verdicts = list(dict.fromkeys(row.verdict for row in rows)) or [judge.NOT_JUDGED]
    words = "; ".join(
        f"{row.verdict} ({_ON_PAPER[row.arm]})" if len(verdicts) > 1 else row.verdict
        for row in rows[: len(rows) if len(verdicts) > 1 else 1]
    )
    return {
        "letters": "/".join(LETTERS[verdict] for verdict in verdicts),
        "kind": verdicts[0].replace(" ", "-") if len(verdicts) == 1 else "mixed",
        "words": words or judge.NOT_JUDGED,
    }


def _reached(row: Any) -> dict[str, str]:
    on = _ON_PAPER.get(row.arm, row.arm) if row.on == "paper" else row.arm
    return {
        "On": f"{'the paper' if row.on == 'paper' else 'this run'}, {on}",
        "Verdict": row.verdict,
        "Effect": row.effect or "–",
        "Why": row.detail,
        "p / p (Holm)": "–" if math.isnan(row.p) else f"{row.p:.3g} / {row.p_holm:.3g}",
    }
