"""The last part of the report: how the paper is read, which photos, how long, how to cite."""

from __future__ import annotations

import dataclasses
import math
from importlib.metadata import version

import pandas as pd

from gradcam_adv.data import datasets
from gradcam_adv.paper import tables as paper
from gradcam_adv.report.cells import markdown
from gradcam_adv.study import config as study
from gradcam_adv.study.config import Arm
from gradcam_adv.study.setting import Setting

# How many left-out photos the page itself names; the CSV has all.
LISTED = 20


def readings(setting: Setting) -> list[str]:
    rows = []
    for field in dataclasses.fields(study.Readings):
        chosen = getattr(setting.study.readings, field.name)
        others = [c for c in study.reading_choices(field.name) if c != chosen]
        rows.append(
            {
                "Reading": field.name,
                "Question": field.metadata["question"],
                "This run": chosen,
                "Also offered": ", ".join(others) or "–",
                "Not offered yet": field.metadata["unoffered"] or "–",
            }
        )
    return [
        "## How the paper is read",
        "Each is a key of `[readings]` in the study file.",
        markdown(rows),
    ]


def photos(
    common: dict[str, pd.DataFrame], summaries: dict[Arm, dict[str, pd.DataFrame]]
) -> list[str]:
    """Who was chosen, what lies close together, and what was left out."""
    identities, photos = common["identities"], common["photos"]
    grouped, noted = photos[photos["group"] != ""], photos[photos["note"] != ""]
    usable = int(identities.loc[identities["chosen"], "usable"].sum())
    near = "no photos of one identity are near-duplicates"
    if len(grouped):
        near = (
            f"{grouped['group'].nunique()} groups of near-duplicates of one identity, "
            f"{len(grouped)} photos in all, are each kept in one split"
        )
    parts = [
        "## Photos",
        f"{int(identities['chosen'].sum())} of {len(identities)} identities were chosen; "
        "tables/identities.csv says which, and why not the others. Of their "
        f"{usable} usable photos {len(photos)} are used"
        + (", the others beyond max_photos" if len(photos) < usable else "")
        + f"; {near} (perceptual hashes that differ in at most "
        f"{datasets.NEAR_DUPLICATE_BITS} of 64 bits).",
        *_left_out("Left out", "tables/excluded.csv", common["excluded"]),
    ]
    if "aligned" in summaries:
        parts += _left_out(
            "Left out of the aligned arm alone",
            "tables/aligned/excluded.csv",
            summaries["aligned"]["excluded"],
        )
    if len(noted):
        rows = noted[["photo", "note"]].head(LISTED).to_dict("records")
        parts += [f"Used, with a note: {len(noted)} (tables/photos.csv).", markdown(rows)]
        parts += _more(len(noted))
    return parts


def _left_out(what: str, file: str, excluded: pd.DataFrame) -> list[str]:
    if excluded.empty:
        return [f"{what}: no photo."]
    rows = excluded[["photo", "reason"]].head(LISTED).to_dict("records")
    return [f"{what}: {len(excluded)} photos ({file}).", markdown(rows), *_more(len(excluded))]


def _more(count: int) -> list[str]:
    return [f"... and {count - LISTED} more."] if count > LISTED else []


def times(seconds: pd.DataFrame) -> list[str]:
    """How long each stage took; what the aligned arm alone needs is counted as its own."""
    faces = seconds["task"].eq("faces") | (
        seconds["arm"].eq("aligned") & seconds["task"].eq("data")
    )
    own = seconds.assign(
        arm=seconds["arm"].mask(faces, "aligned"), stage=seconds["stage"].mask(faces, "faces")
    )
    shown = own.groupby(["stage", "arm"], sort=False)["seconds"].sum().unstack()
    rows = [
        {"Stage": stage} | {arm: "–" if math.isnan(s) else f"{s:.0f}" for arm, s in row.items()}
        for stage, row in shown.iterrows()
    ]
    parts = ["## Time", "Seconds of each stage when it was last run:", markdown(rows)]
    if faces.any():
        share = own.loc[faces, "seconds"].sum() / own.loc[own["arm"] == "aligned", "seconds"].sum()
        parts.append(
            f"Finding and aligning faces took {100 * share:.0f} % of the aligned arm; faces that "
            "an earlier run had found cost it nothing."
        )
    return parts


def citations(setting: Setting) -> list[str]:
    lines = [
        f"- The paper, MOD and VID: {paper.CITATION}. {paper.PLACE}.",
        f"- The software: gradcam-adv {version('gradcam-adv')}, MIT licence; the study "
        f"{setting.study.name} with seed {setting.study.seed} and the heads' seed "
        f"{setting.study.seeds[0]}, its manifest.json beside this "
        "report for all else that a reader needs to do it again.",
        f"- The photos: {setting.listing.title}, under terms of their own.",
    ]
    return ["## How to cite", "\n".join(lines)]
