"""What the readings of the paper come to, in one sentence of the report's summary."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from gradcam_adv.paper import judge as claims
from gradcam_adv.paper.readings import (
    DEFAULT,
    beside_default,
    changes,
    deciding,
    in_order,
    nearest,
    unlike,
)
from gradcam_adv.report.cells import number, select, title_of
from gradcam_adv.report.sections import ARMS


def title(reading: str) -> str:
    return "as the study says" if reading == DEFAULT else reading


def sentence(
    distances: pd.DataFrame,
    verdicts: pd.DataFrame,
    *,
    other_data: bool,
    random: Sequence[str],
    source: str,
) -> str:
    """What the readings come to, in one sentence for the report's summary.

    Args:
        distances: of :func:`gradcam_adv.paper.readings.distances`.
        verdicts: readings_verdicts of :func:`gradcam_adv.paper.readings.tables`.
        other_data: whether the photos are not of VGGFace2.
        random: networks whose bases are random.
        source: the network on which the black-box attack was made.
    """
    on = "on VGGFace2"
    if other_data:
        on = "on other data than the paper's (not VGGFace2)"
    if random:
        on += f" and with RANDOM BASES ({', '.join(map(title_of, random))})"
    if other_data or random:
        on += ", which can hint at how the paper is to be read but not show it"
    left_out = unlike(source)
    among = f"; {not_compared(left_out)}" if left_out else ""
    return (
        f"Of {distances['reading'].nunique()} readings of what the paper leaves open, tried {on}, "
        "the nearest to its accuracy curves (as ratios to the clean accuracy; a distance of 0 is "
        f"the paper's curve{among}) is {_nearest_by_arm(distances, 'accuracy_distance')}; the "
        f"nearest to its MOD is {_nearest_by_arm(distances, 'mod_distance')}; its order of the "
        f"networks comes out, by accuracy lost, {_as_printed(distances, 'accuracy_tau')}, by MOD, "
        f"{_as_printed(distances, 'mod_tau')}; and {in_claims(verdicts)}."
    )


def not_compared(networks: Sequence[str]) -> str:
    """Which two networks no distance counts, and why."""
    own, papers = map(title_of, networks)
    return (
        f"without {own}, attacked in white-box here and by transfer in the paper, and {papers}, "
        "for which it is the other way round"
    )


def _nearest_by_arm(distances: pd.DataFrame, value: str) -> str:
    parts: list[str] = []
    named = ""
    for arm in distances["arm"].unique():
        own = select(distances, arm=arm)
        found = nearest(own, value)
        where = f"on {ARMS[arm].lower()}"
        if not found:
            parts.append(f"not known {where}, where there is nothing to compare")
            continue
        by_reading = own.set_index("reading")[value]
        shown = number(by_reading[found[0]])
        if DEFAULT not in found:
            shown += f"; {title(DEFAULT)} {number(by_reading[DEFAULT])}"
        if len(found) > 1:
            shown += f"; {len(found) - 1} more give the same"
        name = "" if found[0] == named else f"**{title(found[0])}** "
        parts.append(f"{name}{where} ({shown})")
        named = found[0]
    return " and ".join(parts)


def _as_printed(distances: pd.DataFrame, value: str) -> str:
    """Under how many readings the networks come in the paper's order, and which choice decides."""
    parts: dict[str, list[str]] = {}
    for arm in distances["arm"].unique():
        own = select(distances, arm=arm)
        count = f"under {in_order(own[value]).sum()}"
        if own[value].isna().all():
            count = "not known"
        elif choices := deciding(own, value):
            count += f", which are those with **{' and '.join(map(title, choices))}**"
        parts.setdefault(count, []).append(f"on {ARMS[arm].lower()}")
    return " and ".join(f"{count} {' and '.join(where)}" for count, where in parts.items())


def in_claims(verdicts: pd.DataFrame) -> str:
    """How many verdicts hang on a reading, and on which most: the end of a sentence."""
    judged = len(beside_default(verdicts).drop_duplicates(["claim", "arm"]))
    changed = changes(verdicts)
    if not judged:
        return "no claim of the paper could be judged under two of them"
    if changed.empty:
        return f"none of the {judged} verdicts on the paper's claims hangs on a reading"
    hanging = len(changed.drop_duplicates(["claim", "arm"]))
    clear = (claims.HOLDS, claims.FAILS)
    turned = changed[changed["verdict"].isin(clear) & changed["verdict_default"].isin(clear)]
    by_reading = changed["reading"].value_counts(sort=False)
    most = by_reading.index[by_reading == by_reading.max()]
    others = f" and as many on {len(most) - 1} more" if len(most) > 1 else ""
    return (
        f"{hanging} of the {judged} verdicts on the paper's claims hang{'s' * (hanging == 1)} on a "
        f"reading, {len(turned.drop_duplicates(['claim', 'arm']))} of them between holds and does "
        f"not hold, most ({by_reading.max()}) on **{title(most[0])}**{others}"
    )
