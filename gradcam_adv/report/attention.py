"""The report on the shift of attention: how much of it is the attack's, and which way it goes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from gradcam_adv.report.text import (
    NOISE_ROW,
    interval,
    marked_source,
    number,
    percent,
    rows_of,
)
from gradcam_adv.study.attacks import BLACK_BOX, NOISE
from gradcam_adv.study.plan import ArmPlan
from gradcam_adv.study.tables import select


def excess_rows(plan: ArmPlan, excess: pd.DataFrame) -> list[dict[str, str]]:
    """MOD under the black-box attack at the largest epsilon, beside noise and unrelated photos."""
    epsilon = max(plan.study.attacked_epsilons)
    table = select(plan.headline(excess), attack=BLACK_BOX, epsilon=epsilon)
    return [
        {
            "Network": "all, their mean"
            if row.network == "all"
            else marked_source(row.network, plan.study.source),
            f"MOD at ε = {epsilon:g}": number(row.mod),
            "Noise": number(row.noise),
            "Attack less noise": interval(row.excess, row.low, row.high),
            "Noise, share of MOD": _share(row, "noise_share"),
            "Unrelated": interval(row.unrelated, row.unrelated_low, row.unrelated_high),
            "MOD, share of unrelated": _share(row, "of_unrelated"),
        }
        for row in rows_of(table)
    ]


def _share(row: Any, name: str) -> str:
    """A ratio of the table in percent, with its interval, such as "53 % [49, 57]"."""
    value, low, high = (getattr(row, f"{name}{end}") for end in ("", "_low", "_high"))
    if math.isnan(value):
        return "–"
    return f"{100 * value:.0f} % [{percent(low, 0)}, {percent(high, 0)}]"


def rows(plan: ArmPlan, shift: pd.DataFrame) -> list[dict[str, str]]:
    """Each network at each epsilon, and below it noise of that size."""
    headline = plan.headline(shift)
    written = []
    for network in plan.study.networks:
        names = {BLACK_BOX: marked_source(network, plan.study.source), NOISE: NOISE_ROW}
        for epsilon in plan.study.attacked_epsilons:
            for attack, name in names.items():
                row = select(headline, network=network, epsilon=epsilon, attack=attack).iloc[0]
                written.append({"Network": name, "ε": f"{epsilon:g}"} | _cells(row))
    return written


def _cells(row: Any) -> dict[str, str]:
    def shown(name: str) -> str:
        return interval(row[name], row[f"{name}_low"], row[f"{name}_high"], as_percent=True)

    area, *ends = (number(row[f"area_ratio{end}"], 2) for end in ("", "_low", "_high"))
    agreement = "–"
    if row["turned"]:
        # The mean resultant length of n random directions is sqrt(pi / 4n), unless n is small.
        chance = math.sqrt(math.pi / (4 * row["turned"]))
        degrees = np.degrees(row["direction"])
        agreement = f"{row['agreement']:.2f} ({chance:.2f}), {degrees:.0f}°"
    return {
        "Photos compared": f"{row['compared']} of {row['photos']}",
        "Lost, %": shown("lost"),
        "Gained, %": shown("gained"),
        "Area ratio": f"{area} [{', '.join(ends)}]",
        "Moved, %": shown("moved"),
        "Agreement (random), direction": agreement,
    }
