"""The last part of the report: how the paper is read, the photos, the time, how to cite."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import pandas as pd

from gradcam_adv.data import datasets
from gradcam_adv.study.plan import STAGES, ArmPlan
from gradcam_adv.study.settings import Arm, Readings, reading_choices
from gradcam_adv.study.tables import select

Tables = dict[str, pd.DataFrame]


def section(
    plan: ArmPlan, common: Tables, summaries: Mapping[Arm, Tables], seconds: pd.DataFrame
) -> dict[str, Any]:
    """What the template "about" shows."""
    identities, photos = common["identities"], common["photos"]
    chosen = identities[identities["chosen"]]
    # The search for faces is counted for the aligned arm.
    of_data = seconds["arm"].eq("aligned") & seconds["task"].eq("data")
    faces = seconds["task"].eq("faces") | of_data
    arms, stages = seconds["arm"].mask(faces, "aligned"), seconds["stage"].mask(faces, "faces")
    times = seconds.assign(arm=arms, Stage=stages)
    by_stage = times.groupby(["Stage", "arm"], sort=False)["seconds"].sum().unstack()
    by_stage = by_stage.loc[sorted(by_stage.index, key=("data", "faces", *STAGES[1:]).index)]
    of_aligned = select(times, arm="aligned")["seconds"].sum()
    return dict(
        title=plan.listing.title,
        readings=_readings(plan.study.readings),
        identities=len(identities),
        chosen=chosen,
        usable=int(chosen["usable"].sum()),
        photos=photos,
        grouped=photos[photos["group"] != ""],
        noted=photos[photos["note"] != ""],
        excluded=common["excluded"],
        aligned_excluded=summaries["aligned"]["excluded"] if "aligned" in summaries else None,
        near_duplicate_bits=datasets.NEAR_DUPLICATE_BITS,
        times=by_stage.map("{:.0f}".format, na_action="ignore").reset_index(),
        share_of_faces=times.loc[faces, "seconds"].sum() / of_aligned if faces.any() else None,
        version=version("gradcam-adv"),
    )


def _readings(readings: Readings) -> list[dict[str, str]]:
    rows = []
    for field in dataclasses.fields(readings):
        chosen = getattr(readings, field.name)
        others = [choice for choice in reading_choices(field.name) if choice != chosen]
        rows.append(
            {
                "Reading": field.name,
                "Question": field.metadata["question"],
                "This run": chosen,
                "Also offered": ", ".join(others) or "–",
                "Not offered yet": field.metadata["unoffered"] or "–",
            }
        )
    return rows
