"""The report on the readings of the paper: which fit, what depends on each, their numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from gradcam_adv.models.backbones import titles
from gradcam_adv.paper import facts, judge, printed, roles
from gradcam_adv.paper.claims import CLAIMS
from gradcam_adv.paper.distance import by_distance, fitting
from gradcam_adv.paper.readings import DEFAULT, beside_default, changes, deciding, differing
from gradcam_adv.report.text import (
    by_epsilon,
    by_value,
    capital,
    interval,
    marked_source,
    number,
    percent,
    rows_of,
)
from gradcam_adv.study.settings import Arm
from gradcam_adv.study.tables import select

PAPER = "The paper"
# A sentence names so many readings.
NAMED = 6


def section(tables: Mapping[str, pd.DataFrame], *, other_data: bool, source: str) -> dict[str, Any]:
    """What the page shows of the tables of :func:`gradcam_adv.paper.readings.tables`."""
    readings, distances, orders, verdicts, judged = (
        tables[f"readings{name}"] for name in ("", "_distances", "_orders", "_verdicts", "_facts")
    )
    named = [marked_source(network, source) for network in readings["network"]]
    return dict(
        other_data=other_data,
        source=source,
        readings=list(map(reading_title, readings["reading"].unique())),
        answer=[_nearest(distances), _showing_facts(judged)],
        depending=_depending(verdicts),
        claims=_claims(verdicts),
        compared=distances.iloc[0].to_dict(),
        otherwise={
            network: titles(others)
            for network in readings["network"].unique()
            if (others := roles.counterparts(network, source)) != [network]
        },
        distances=_distances(distances),
        facts=[fact.says for fact in facts.FACTS],
        not_judged=sorted(set(select(judged, verdict=facts.NOT_JUDGED)["detail"])),
        judged=_facts(judged),
        two_networks=(orders["networks"] == 2).any(),
        orders=_orders(orders),
        deciding=[
            (arm, what, [reading_title(choice) for choice in choices])
            for arm, table in by_value(orders, "arm")
            for what, value in (("accuracy lost", "accuracy_tau"), ("MOD", "mod_tau"))
            if (choices := deciding(table, value))
        ],
        of_arms={
            arm: _of_arm(of_arm, arm)
            for arm, of_arm in by_value(readings.assign(title=named), "arm")
        },
    )


def _nearest(distances: pd.DataFrame) -> str:
    """Which reading is the nearest to the paper, and which cannot be told apart from it."""
    fits = fitting(distances)
    if not fits:
        return "The paper prints no numbers at the ε of this run, so no reading can be compared."
    (row,) = rows_of(select(distances, reading=fits[0]))
    named, *others = map(reading_title, fits)
    how_far = interval(row.distance, row.low, row.high)
    if not others:
        return (
            f"Of {len(distances)} readings {named} is clearly the nearest to the paper ({how_far})."
        )
    return (
        f"The nearest to the paper is {named} ({how_far}), but {len(others)} of the other "
        f"{len(distances) - 1} readings cannot be told apart from it on these photos: "
        f"{_listed(others)}."
    )


def _showing_facts(judged: pd.DataFrame) -> str:
    """Which readings show all the facts that could be judged."""
    clear = judged[judged["verdict"] != facts.NOT_JUDGED]
    if clear.empty:
        return "None of the paper's four facts can be judged on this run."
    count = f"Of the paper's {len(facts.FACTS)} facts this run can judge {clear['fact'].nunique()}"
    all_shown = (clear["verdict"] == facts.YES).groupby(clear["reading"], sort=False).all()
    showing = [reading_title(str(name)) for name in all_shown.index[all_shown]]
    if not showing:
        return f"{count}, and no reading clearly shows all of these."
    return f"{count}; clearly shown are all of these by {_listed(showing)}."


def _listed(names: list[str]) -> str:
    """All names, or the first ones and how many more the tables of the tab have."""
    if len(names) <= NAMED:
        return "; ".join(names)
    return f"{'; '.join(names[:NAMED])}; and {len(names) - NAMED} more in the table below"


def _claims(verdicts: pd.DataFrame) -> list[dict[str, str]]:
    changed = changes(verdicts)
    rows = []
    for claim in CLAIMS:
        for arm, table in by_value(select(changed, claim=claim.name), "arm"):
            row = {"Claim": claim.says, "Arm": arm}
            row[capital(reading_title(DEFAULT))] = table["verdict_default"].iloc[0]
            for verdict in (judge.HOLDS, judge.FAILS, judge.INCONCLUSIVE):
                row[capital(verdict)] = "; ".join(select(table, verdict=verdict)["reading"]) or "–"
            rows.append(row)
    return rows


def _distances(distances: pd.DataFrame) -> list[dict[str, str]]:
    return [
        {
            "Reading": reading_title(row.reading),
            "Distance": interval(row.distance, row.low, row.high),
            "Of accuracy": number(row.accuracy_distance),
            "Of MOD": number(row.mod_distance),
            "Farther than the nearest": interval(row.farther, row.farther_low, row.farther_high),
            "p": _digits(row.p, 3),
            "Fits": "yes" if row.near else "no",
        }
        for row in rows_of(by_distance(distances))
    ]


def _facts(judged: pd.DataFrame) -> list[dict[str, str]]:
    """One row per reading, with a cell for each fact, numbered from 1."""
    names = [fact.name for fact in facts.FACTS]
    rows = []
    for reading, table in by_value(judged, "reading"):
        rows.append({"Reading": reading_title(reading)})
        for row in rows_of(table):
            detail = "" if row.verdict == facts.NOT_JUDGED else f" ({row.detail})"
            rows[-1][f"Fact {names.index(row.fact) + 1}"] = f"{row.verdict}{detail}"
    return rows


def _orders(orders: pd.DataFrame) -> list[dict[str, str]]:
    rows = []
    for arm, table in by_value(orders, "arm"):
        papers = table[["accuracy_order_paper", "mod_order_paper"]].iloc[0]
        rows.append({"Reading": PAPER, "Arm": arm, "Accuracy lost": papers.iloc[0], "tau": "–"})
        rows[-1] |= {"MOD": papers.iloc[1], "tau of MOD": "–"}
        rows += [
            {
                "Reading": reading_title(row.reading),
                "Arm": arm,
                "Accuracy lost": row.accuracy_order,
                "tau": _digits(row.accuracy_tau, 2),
                "MOD": row.mod_order,
                "tau of MOD": _digits(row.mod_tau, 2),
            }
            for row in rows_of(table)
        ]
    return [{key: cell or "–" for key, cell in row.items()} for row in rows]


def _digits(value: float, digits: int) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}f}"


def _of_arm(
    readings: pd.DataFrame, arm: Arm
) -> tuple[dict[str, list[dict[str, str]]], dict[str, list[str]]]:
    """By quantity, its table, and the readings left out since they have the study's own numbers."""
    readings = readings.sort_values("epsilon", kind="stable")
    tables, alike = {}, {}
    for quantity, (columns, rows) in _QUANTITIES.items():
        shown = readings["reading"].isin([DEFAULT, *differing(readings, columns)])
        tables[quantity] = rows(readings[shown], arm)
        alike[quantity] = list(readings.loc[~shown, "reading"].unique())
    return tables, alike


def _ratios(table: pd.DataFrame, arm: Arm) -> list[dict[str, str]]:
    def of_paper(row: Any) -> str:
        return _digits(row.paper_ratio, 3) if row.epsilon else percent(row.paper_accuracy)

    def shown(row: Any) -> str:
        if not row.epsilon:
            return interval(row.accuracy, row.low, row.high, as_percent=True)
        if math.isnan(row.ratio):
            return "–"
        low, high = (_digits(end, 3) for end in (row.ratio_low, row.ratio_high))
        return f"{row.ratio:.3f} [{low}, {high}]"

    name_of_paper = f"{PAPER}, Table {printed.ACCURACIES[arm].number}"
    rows = _along_epsilon(table, name_of_paper, of_paper, shown)
    clean = {"ε = 0": "Clean accuracy, %"}
    return [{clean.get(key, key): cell for key, cell in row.items()} for row in rows]


def _mods(table: pd.DataFrame, arm: Arm) -> list[dict[str, str]]:
    def shown(row: Any) -> str:
        return f"{interval(row.mod, row.mod_low, row.mod_high)}, noise {number(row.mod_noise)}"

    attacked = table[table["epsilon"] > 0]
    return _along_epsilon(
        attacked, f"{PAPER}, Table 3", lambda row: number(row.paper_mod), shown, unrelated=True
    )


def _along_epsilon(
    table: pd.DataFrame,
    name_of_paper: str,
    of_paper: Callable[[Any], str],
    shown: Callable[[Any], str],
    unrelated: bool = False,
) -> list[dict[str, str]]:
    """For each network the paper's row and one of each reading, with a cell per epsilon."""
    rows = []
    for network, of_network in by_value(table, "title"):
        name = {"Network": network}
        default = select(of_network, reading=DEFAULT)
        rows.append(name | {"Reading": name_of_paper} | by_epsilon(default, of_paper))
        for reading, cells in by_value(of_network, "reading"):
            row = name | {"Reading": reading_title(reading)} | by_epsilon(cells, shown)
            rows.append(row)
            if unrelated:
                row["Unrelated"] = number(cells["unrelated"].iloc[0])
    return rows


def _psnrs(table: pd.DataFrame, arm: Arm) -> list[dict[str, str]]:
    def shown(row: Any) -> str:
        if not math.isfinite(row.psnr):
            return "∞"
        return f"{row.psnr:.2f}" + (f" ({row.unchanged} photos unchanged)" if row.unchanged else "")

    rows = []
    for reading, cells in by_value(table[table["epsilon"] > 0], "reading"):
        sets = {
            network: by_epsilon(of_network, shown)
            for network, of_network in by_value(cells, "title")
        }
        # In pixels one perturbed set serves all networks; in their own units each has its own.
        first, *others = sets.values()
        if others and all(other == first for other in others):
            sets = {"every network": first}
        name = {"Reading": reading_title(reading)}
        rows += [name | {"Set for": network} | cells for network, cells in sets.items()]
    return rows


def _vids(table: pd.DataFrame, arm: Arm) -> list[dict[str, str]]:
    rows = []
    for reading, cells in by_value(table.drop_duplicates(["reading", "network"]), "reading"):
        rows.append({"Reading": reading_title(reading)})
        for row in rows_of(cells):
            vid = interval(row.vid, row.vid_low, row.vid_high)
            rows[-1][row.title] = f"{vid}, noise {number(row.vid_noise)}"
    return rows


# By quantity: the columns whose numbers a reading must change to be listed, and its table's rows.
_QUANTITIES = {
    "accuracy": (["accuracy", "low", "high"], _ratios),
    "mod": (["mod", "mod_low", "mod_high", "mod_noise", "unrelated"], _mods),
    "psnr": (["psnr", "unchanged"], _psnrs),
    "vid": (["vid", "vid_low", "vid_high", "vid_noise"], _vids),
}


def reading_title(reading: str) -> str:
    return "as the study says" if reading == DEFAULT else reading


def _depending(verdicts: pd.DataFrame) -> dict[str, Any]:
    """How many verdicts depend on a reading, and on which most."""
    keys = ["claim", "arm"]
    changed = changes(verdicts)
    clear = changed[["verdict", "verdict_default"]].isin((judge.HOLDS, judge.FAILS)).all(axis=1)
    by_reading = changed["reading"].value_counts(sort=False)
    return {
        "judged": len(beside_default(verdicts).drop_duplicates(keys)),
        "depending": len(changed.drop_duplicates(keys)),
        "turned": len(changed[clear].drop_duplicates(keys)),
        "times": by_reading.max(),
        "most": [reading_title(name) for name in by_reading.index[by_reading == by_reading.max()]],
    }
