"""What report.md and the page say of a run, out of the tables that are there."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import pandas as pd

from gradcam_adv.data import sources
from gradcam_adv.report import (
    about,
    alignment,
    overview,
    reading_sections,
    sections,
    seeds,
    verdicts,
)
from gradcam_adv.report.text import caption, caveat
from gradcam_adv.study.plan import ArmPlan
from gradcam_adv.study.settings import Arm

Tables = dict[str, pd.DataFrame]
# What the page of a run may lack, and that of a saved model does; None then.
PARTS = ("study", "claims", "alignment", "seeds", "readings", "info", "model")


def of_run(
    arms: Mapping[Arm, ArmPlan],
    summaries: Mapping[Arm, Tables],
    common: Tables,
    seconds: pd.DataFrame | None = None,
) -> dict[str, Any]:
    """The values of the templates "report.md" and "page".

    Every table may be missing; what it would show is then left out.

    Args:
        arms: their plans.
        summaries: each arm's tables by name.
        common: the tables over the arms: identities, photos and excluded; claims; arms_accuracy
            and arms_mod; and those of seeds and readings.
        seconds: columns arm, stage, task, seconds.
    """
    plan = next(iter(arms.values()))
    study = plan.study
    values: dict[str, Any] = dict.fromkeys(PARTS) | {
        "title": f"Run {study.name}",
        "line": overview.heading(arms),
        "banner": overview.banner(arms),
        "study": study,
        "weights": plan.weights,
        "orl_credit": sources.ORL_CREDIT,
        "epsilon": overview.smallest(study.attacked_epsilons),
        "changed": [
            f"{field.name} = {getattr(study.readings, field.name)}"
            for field in dataclasses.fields(study.readings)
            if getattr(study.readings, field.name) != field.default
        ],
        "caveats": {arm: caveat(plan) for arm, plan in arms.items()},
        "captions": {arm: caption(plan) for arm, plan in arms.items()},
        "cards": {arm: overview.of_arm(arms[arm], own) for arm, own in summaries.items()},
        "arms": {arm: sections.of_arm(arms[arm], own) for arm, own in summaries.items()},
    }
    if "claims" in common:
        values["claims"] = verdicts.of_claims(arms, common["claims"])
    if "arms_mod" in common:
        values["alignment"] = alignment.section(arms, common)
    if "seeds" in common:
        across, counts = common["seeds"], common["seeds_verdicts"]
        gains = plan.headline(common["seeds_gain"])
        own = common.get("seeds_own")
        values["seeds"] = seeds.section(study.seeds, across, counts, gains, study.source, own)
    if "readings" in common:
        values["readings"] = reading_sections.section(
            common, other_data=study.other_data, source=study.source
        )
    if seconds is not None:
        values["info"] = about.section(plan, common, summaries, seconds)
    return values
