"""The report on the paper's claims: what its own tables say to each, and what this run says."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from gradcam_adv.paper import evidence
from gradcam_adv.paper import judge as claims
from gradcam_adv.paper import tables as paper
from gradcam_adv.report.cells import caveat, markdown, select
from gradcam_adv.study.config import Arm
from gradcam_adv.study.setting import Setting
from gradcam_adv.study.stages import score as scoring

_ON_PAPER = {"plain": "Table 1", "aligned": "Table 2", "both": "Tables 1 and 2"}


def judged(
    settings: Mapping[Arm, Setting], summaries: Mapping[Arm, dict[str, pd.DataFrame]]
) -> pd.DataFrame:
    """Every claim on the paper's own tables and on this run; columns of :class:`claims.Verdict`."""
    setting = next(iter(settings.values()))
    study = setting.study
    arms = {
        arm: evidence.Evidence(
            summaries[arm]["predictions"],
            # A network at a time: of a large study's scores only what is judged fits into memory.
            pd.concat(
                [
                    evidence.needed(scoring.scores(own, network), study.readings)
                    for network in study.networks
                ],
                ignore_index=True,
            ),
        )
        for arm, own in settings.items()
    }
    origins = {name: weights.origin for name, weights in setting.weights.items()}
    on_run = claims.judge(arms, study.networks, study.source, origins, study.readings, study.seed)
    return pd.concat([claims.judge_paper(), on_run], ignore_index=True)


def section(settings: Mapping[Arm, Setting], verdicts: pd.DataFrame) -> list[str]:
    """A verdict a claim at a glance, and below it how each was reached."""
    rests = "\n".join(f"> - {caveat(setting)}" for setting in settings.values())
    return [
        "## Does each claim of the paper hold?",
        rests,
        "Each claim is judged twice: on the tables that the paper prints, and on this run. On a "
        "run a claim holds, or does not, only where the effect is clear on these photos: 95 % "
        "intervals over identities, p corrected after Holm over all verdicts. Three deep and two "
        "wide networks can't carry a statement about all such networks (1 in 10 by chance), so "
        "verdicts that compare them speak of these networks only.",
        markdown(_at_a_glance(settings, verdicts)),
        "### How each verdict was reached on this run",
        "Rules, effects with 95 % intervals, and p before and after correction; the same and the "
        "paper's side in `tables/claims.csv`.",
        markdown(_reached(verdicts)),
    ]


def _at_a_glance(settings: Mapping[Arm, Setting], verdicts: pd.DataFrame) -> list[dict[str, str]]:
    rows = []
    for claim in paper.CLAIMS:
        own = select(verdicts, claim=claim.name)
        printed = [
            f"{cell['verdict']} ({_ON_PAPER[cell['arm']]})"
            if cell["arm"] in _ON_PAPER
            else cell["verdict"]
            for _, cell in select(own, on="paper").iterrows()
        ]
        row = {"Claim": claim.says, "The paper's tables": "; ".join(printed)}
        for arm in settings:
            on_run = select(own, on="run")
            (verdict,) = on_run.loc[on_run["arm"].isin((arm, "both")), "verdict"]
            row[f"This run, {arm}"] = verdict
        rows.append(row | {"Place": claim.place})
    return rows


def _reached(verdicts: pd.DataFrame) -> list[dict[str, str]]:
    rows = []
    for _, cell in select(verdicts, on="run").iterrows():
        corrected = f"{cell['p']:.3g} / {cell['p_holm']:.3g}" if cell["p"] == cell["p"] else "–"
        rows.append(
            {
                "Claim": cell["says"],
                "Arm": cell["arm"],
                "Verdict": cell["verdict"],
                "Effect": cell["effect"] or "–",
                "Why": cell["detail"],
                "Rule": cell["rule"],
                "p / p (Holm)": corrected,
            }
        )
    return rows
