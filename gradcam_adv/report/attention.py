"""The report on the shift of attention: which way it goes, and how much of it is the attack's."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from gradcam_adv.report.cells import (
    NOISE_ROW,
    caveat,
    headline_rows,
    interval,
    markdown,
    name_of_row,
    number,
    select,
    title_of,
)
from gradcam_adv.study.setting import Setting


def in_short(setting: Setting, summary: dict[str, pd.DataFrame]) -> str:
    """One line: MOD at the largest epsilon, what noise does of it, and how far its ceiling is."""
    epsilon = max(setting.study.attacked_epsilons)
    headline = headline_rows(setting, summary["excess"])
    own = select(headline, attack="black-box", epsilon=epsilon)
    every = select(own, network="all").iloc[0]
    by_network = "; ".join(
        f"{name_of_row(setting, cell['network'])} {number(cell['mod'])}, "
        f"noise {number(cell['noise'])} ({_share(cell['noise'], cell['mod'])}), "
        f"attack less noise {interval(cell['excess'], cell['low'], cell['high'])}, "
        f"ceiling {number(cell['ceiling'])}"
        for _, cell in own[own["network"] != "all"].iterrows()
    )
    return (
        f"MOD at ε = {epsilon:g} under the black-box attack from {title_of(setting.study.source)}, "
        f"mean over the networks: **{number(every['mod'])}, of which random-sign noise of the same "
        f"size gives {number(every['noise'])} ({_share(every['noise'], every['mod'])})**; the "
        "attack less that noise, photo by photo: "
        f"{interval(every['excess'], every['low'], every['high'])}. Maps of unrelated photos give "
        f"{number(every['ceiling'])}: MOD is at {_share(every['mod'], every['ceiling'])} of that "
        f"ceiling. By network: {by_network}."
    )


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.0f} %" if whole > 0 else "–"


def section(setting: Setting, summary: dict[str, pd.DataFrame]) -> list[str]:
    """How the region of attention shifts under the black-box attack, noise beside it."""
    return [
        "## How the region of attention shifts",
        f"> {caveat(setting)}",
        "The region of a heatmap is where it is at least half its maximum. Lost: the share of the "
        "clean photo's region that the attacked one's leaves out, the parts that no longer take "
        "part in the decision; gained: the share of the attacked photo's region that is new. "
        "Moved: the way of the region's centroid, as a share of the map's side. Each a mean [95 % "
        "bootstrap interval over identities]; the area ratio, attacked to clean, is the median. "
        "Agreement: how much the photos' centroids go one way, 0 not at all, 1 all the same, in "
        "brackets what as many directions at random give, and the mean direction, counted "
        "counter-clockwise from the right (90° is up). Photos with an empty map are not compared. "
        "What noise does as well is not the attack's.",
        markdown(rows(setting, summary["shift"])),
    ]


def rows(setting: Setting, shift: pd.DataFrame) -> list[dict[str, str]]:
    """Each network at each epsilon, and below it what noise of that size does."""
    headline = headline_rows(setting, shift)
    written = []
    for network in setting.study.networks:
        for epsilon in setting.study.attacked_epsilons:
            at_level = select(headline, network=network, epsilon=epsilon)
            for attack, name in (
                ("black-box", name_of_row(setting, network)),
                ("noise", NOISE_ROW),
            ):
                cell = select(at_level, attack=attack).iloc[0]
                written.append({"Network": name, "ε": f"{epsilon:g}"} | _row(cell))
    return written


def _row(cell: pd.Series) -> dict[str, str]:
    def shown(name: str) -> str:
        return interval(cell[name], cell[f"{name}_low"], cell[f"{name}_high"], as_percent=True)

    return {
        "Photos compared": f"{cell['compared']} of {cell['photos']}",
        "Lost, %": shown("lost"),
        "Gained, %": shown("gained"),
        "Area ratio": "–" if math.isnan(cell["area_ratio"]) else f"{cell['area_ratio']:.2f}",
        "Moved, %": shown("moved"),
        "Agreement (by chance), direction": _agreement(cell),
    }


def _agreement(cell: pd.Series) -> str:
    if not cell["turned"]:
        return "–"
    # The mean resultant length of n directions drawn at random: sqrt(pi / 4n) for all but few.
    chance = math.sqrt(math.pi / (4 * cell["turned"]))
    return f"{cell['agreement']:.2f} ({chance:.2f}), {np.degrees(cell['direction']):.0f}°"
