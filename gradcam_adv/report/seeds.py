"""The report on the seeds: how much numbers and verdicts depend on the training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from gradcam_adv.models.backbones import title
from gradcam_adv.report import gain
from gradcam_adv.report.text import (
    by_epsilon,
    by_value,
    interval,
    marked_source,
    number,
    percent,
    rows_of,
)
from gradcam_adv.study.attacks import NOISE, WHITE_BOX
from gradcam_adv.study.tables import select


def section(
    seeds: Sequence[int],
    table: pd.DataFrame,
    verdicts: pd.DataFrame,
    gains: pd.DataFrame,
    source: str,
    own: pd.DataFrame | None = None,
) -> dict[str, Any]:
    """What the page shows of the seeds.

    ``table``, ``verdicts`` and ``own`` are those of :mod:`gradcam_adv.paper.seeds`, and ``gains``
    those of the summaries of the seeds, all arms one below the other. There is no ``own`` if all
    networks are trained in one way.
    """
    several = verdicts[verdicts["seeds"] - verdicts["not_judged"] > 1]
    return dict(
        seeds=seeds,
        furthest={
            quantity: _furthest(select(table, quantity=quantity))
            for quantity in ("accuracy", "mod", "vid")
        },
        judged=len(several),
        changed=[f"{r.says.rstrip('.')} ({r.arm})" for r in rows_of(several) if _disagree(r)],
        of_arms={arm: _tables(of_arm, source) for arm, of_arm in by_value(table, "arm")},
        gains=_gains(gains),
        own=[] if own is None else _own_attack(own),
        verdicts=[
            {
                "Claim": row.says,
                "Arm": row.arm,
                "The seeds": _agreement(row),
                "Verdict with each seed": row.by_seed,
            }
            for row in rows_of(verdicts)
        ],
    )


def _gains(gains: pd.DataFrame) -> list[dict[str, str]]:
    """Of each arm, network and seed: the gain of the network's own attack over noise."""
    own = select(gains, attack=WHITE_BOX, control=NOISE)
    return [
        {"Arm": arm, "Network": title(network), "Seed": str(seed)} | by_epsilon(rows, gain.cell)
        for arm, of_arm in by_value(own, "arm")
        for network, of_network in by_value(of_arm, "network")
        for seed, rows in by_value(of_network, "seed")
    ]


def _own_attack(table: pd.DataFrame) -> list[dict[str, str]]:
    """Of each arm, network and epsilon: what the network's own attack does, over the seeds."""
    rows = []
    for arm, of_arm in by_value(table, "arm"):
        for network, of_network in by_value(of_arm, "network"):
            without_epsilon = of_network["epsilon"].isna()
            (half,) = rows_of(select(of_network[without_epsilon], quantity="half_shift"))
            for epsilon, of_level in by_value(
                of_network[~without_epsilon].sort_values("epsilon", kind="stable"), "epsilon"
            ):
                cells = {row.quantity: _own_cell(row) for row in rows_of(of_level)}
                rows.append(
                    {
                        "Arm": arm,
                        "Network": title(network),
                        "ε": f"{epsilon:g}",
                        "Accuracy, %": cells.get("accuracy", "–"),
                        "MOD": cells.get("mod", "–"),
                        "MOD of noise": cells.get("mod_noise", "–"),
                        "Gain": cells.get("gain", "–"),
                        "Half-shift ε": _own_cell(half),
                    }
                )
    return rows


def _own_cell(row: Any) -> str:
    """Mean over the seeds, and the interval over them; of accuracy in per cent."""
    if row.quantity == "accuracy":
        return interval(row.mean, row.t_low, row.t_high, True)
    if not np.isfinite(row.mean):
        return "above the curve"
    shown = number if row.quantity in ("mod", "mod_noise") else "{:.3g}".format
    return f"{shown(row.mean)} [{shown(row.t_low)}, {shown(row.t_high)}]"


def _furthest(rows: pd.DataFrame) -> str:
    """The largest difference of two seeds, where it is, and the width of the other interval."""
    row = max(rows_of(rows), key=lambda row: row.greatest - row.least)

    def shown(value: float) -> str:
        return f"{percent(value)} points" if row.quantity == "accuracy" else number(value)

    level = "" if np.isnan(row.epsilon) else f", ε = {row.epsilon:g}"
    return (
        f"{shown(row.greatest - row.least)} ({title(row.network)}, {row.arm}{level}; the interval "
        f"over identities is {shown(row.high - row.low)} wide there)"
    )


def _tables(table: pd.DataFrame, source: str) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Of one arm: accuracy and MOD of each network and epsilon, and VID of each network."""
    table = table.assign(cell=[_cell(row) for row in rows_of(table)])
    levels, vid = [], []
    for network, of_network in by_value(table, "network"):
        name = {"Network": marked_source(network, source)}
        without_epsilon = of_network["epsilon"].isna()
        whole = of_network[without_epsilon].set_index("quantity")["cell"]
        for epsilon, of_level in by_value(of_network[~without_epsilon], "epsilon"):
            cells = of_level.set_index("quantity")["cell"]
            # At epsilon 0 nothing is added, so the heatmaps are equal.
            mod, noise = cells[["mod", "mod_noise"]] if epsilon else ("0", "0")
            levels.append(
                name
                | {
                    "ε": f"{epsilon:g}",
                    "Accuracy, %": cells["accuracy"],
                    "MOD": mod,
                    "MOD of random-sign noise": noise,
                    "MOD of unrelated photos": whole["unrelated"],
                }
            )
        vid.append(name | {"VID": whole["vid"], "VID of random-sign noise": whole["vid_noise"]})
    return levels, vid


def _cell(row: Any) -> str:
    as_percent = row.quantity == "accuracy"
    show = percent if as_percent else number
    return (
        f"{interval(row.mean, row.low, row.high, as_percent)}; seeds "
        f"{show(row.least)}–{show(row.greatest)} [{show(row.t_low)}, {show(row.t_high)}]"
    )


def _disagree(row: Any) -> bool:
    return (row.holds > 0) + (row.fails > 0) + (row.inconclusive > 0) > 1


def _agreement(row: Any) -> str:
    """Whether the seeds agree, in words."""
    judged = row.seeds - row.not_judged
    if judged == 0:
        return "do not judge it"
    if judged == 1:
        return "one judges it"
    of = "" if judged == row.seeds else f" ({judged} of {row.seeds} judge it)"
    if not _disagree(row):
        return f"agree{of}"
    if row.holds and row.fails:
        return f"DISAGREE: opposite verdicts{of}"
    return f"DISAGREE: clear with {row.holds + row.fails} of {judged}{of}"
