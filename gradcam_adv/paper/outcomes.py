"""What a study's variations come to, side by side: tables over its seeds and over its readings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from gradcam_adv.files import artifacts
from gradcam_adv.paper import readings, seeds
from gradcam_adv.report import verdicts
from gradcam_adv.report.cells import headline_rows
from gradcam_adv.study.config import Arm
from gradcam_adv.study.setting import Setting, predictions
from gradcam_adv.study.stages.score import scores


def write_seeds(by_seed: Mapping[int, Mapping[Arm, Setting]], folder: Path) -> list[Path]:
    """The tables of :mod:`.seeds`, for each arm; the first seed is the study's own."""
    first = next(iter(by_seed.values()))
    across, each = [], []
    for arm, setting in first.items():
        with_zero = setting.study.readings.vid_levels == "all"
        tables = {seed: _of_photos(own[arm]) for seed, own in by_seed.items()}
        found = seeds.across(tables, setting.study.seed, with_zero=with_zero)
        across.append(found.assign(arm=arm))
        each.append(seeds.each(tables, with_zero=with_zero).assign(arm=arm))
    return artifacts.write_tables(
        folder,
        seeds=pd.concat(across, ignore_index=True),
        seeds_each=pd.concat(each, ignore_index=True),
        seeds_verdicts=seeds.verdict_counts({s: _judged(own) for s, own in by_seed.items()}),
    )


def _of_photos(setting: Setting) -> dict[str, pd.DataFrame]:
    """One row a photo or pair of photos, all networks, as the study's readings say."""
    networks = setting.study.networks

    def read(of: str) -> pd.DataFrame:
        tables = [headline_rows(setting, scores(setting, network, of)) for network in networks]
        return pd.concat(tables, ignore_index=True)

    return {
        "predictions": _predictions(setting),
        "nissim": read("nissim-*"),
        "ceiling": read("ceiling"),
    }


def _predictions(setting: Setting) -> pd.DataFrame:
    """Of the attacks that every variation has, so that all are judged by the same."""
    networks = setting.study.networks
    table = pd.concat([predictions(setting, network) for network in networks], ignore_index=True)
    return table[table["attack"].isin(("black-box", "noise"))]


def _judged(arms: Mapping[Arm, Setting]) -> pd.DataFrame:
    summaries = {arm: {"predictions": _predictions(own)} for arm, own in arms.items()}
    judged = verdicts.judged(arms, summaries)
    return judged[judged["on"] == "run"]


def write_readings(by_name: Mapping[str, Mapping[Arm, Setting]], folder: Path) -> list[Path]:
    """The tables of :mod:`.readings`; the first is the study as it stands."""
    found = [
        readings.Outcome(name, {arm: _summary(own) for arm, own in arms.items()}, _judged(arms))
        for name, arms in by_name.items()
    ]
    study = next(iter(by_name[readings.DEFAULT].values())).study
    return artifacts.write_tables(folder, **readings.tables(found, study.source))


def _summary(setting: Setting) -> dict[str, pd.DataFrame]:
    evaluated, scored = (setting.folders[f"{kind}/summary"] for kind in ("evaluate", "score"))

    def read(folder: Path, name: str) -> pd.DataFrame:
        return artifacts.read_table(folder / f"{name}.csv")

    return {
        "accuracy": read(evaluated, "accuracy"),
        "psnr": read(evaluated, "psnr"),
        "mod": headline_rows(setting, read(scored, "mod")),
        "vid": headline_rows(setting, read(scored, "vid")),
    }
