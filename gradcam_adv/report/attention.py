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
    render,
    rows_of,
)
from gradcam_adv.study.attacks import BLACK_BOX, NOISE
from gradcam_adv.study.plan import ArmPlan
from gradcam_adv.study.tables import select


def in_short(plan: ArmPlan, excess: pd.DataFrame) -> str:
    """One line: MOD at the largest epsilon, beside that of noise and of unrelated photos."""
    epsilon = max(plan.study.attacked_epsilons)
    table = select(plan.headline(excess), attack=BLACK_BOX, epsilon=epsilon)
    (text,) = render(
        "in_short",
        study=plan.study,
        epsilon=epsilon,
        every=next(rows_of(select(table, network="all"))),
        of_networks=rows_of(table[table["network"] != "all"]),
        share=_share,
    )
    return text


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
