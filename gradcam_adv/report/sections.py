"""One arm's tables in the report, the paper's values beside them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pandas as pd

from gradcam_adv.models.backbones import title
from gradcam_adv.paper import printed
from gradcam_adv.report import attacks, attention, gain, layer_sheets, transfer
from gradcam_adv.report.text import (
    NOISE_ROW,
    by_epsilon,
    by_network,
    interval,
    marked_source,
    number,
    percent,
    rows_of,
)
from gradcam_adv.study import comparison
from gradcam_adv.study.attacks import BLACK_BOX, NOISE, WHITE_BOX
from gradcam_adv.study.plan import ArmPlan
from gradcam_adv.study.stages import insertion
from gradcam_adv.study.tables import select

Tables = dict[str, pd.DataFrame]
_OF_MOD = [
    *("mod", "low", "high", "mod_noise", "mod_noise_low", "mod_noise_high"),
    *("unrelated", "unrelated_low", "unrelated_high"),
]


def of_arm(plan: ArmPlan, summary: Tables) -> dict[str, Any]:
    """What the templates "results" and "layers" show of one arm, of the tables that are there."""
    study = plan.study
    plain = {network: title(network) for network in study.networks}
    marked = {network: marked_source(network, study.source) for network in study.networks}
    table_1 = f"table_{printed.ACCURACIES[plan.arm].number}"

    def white_box(table: pd.DataFrame) -> pd.DataFrame:
        return select(table, attack=WHITE_BOX)

    # By name: the table that it needs, and what it makes of it.
    made: dict[str, tuple[str, Callable[[pd.DataFrame], Any]]] = {
        "accuracy": (
            table_1,
            lambda t: by_network(t, marked, lambda r: f"{percent(r.paper)} | {_accuracy(r)}"),
        ),
        "white_box_accuracy": ("accuracy", lambda t: by_network(white_box(t), plain, _accuracy)),
        "zero_gradients": (
            "zero_gradients",
            lambda t: ", ".join(
                f"{title(row.network)} {percent(row.zero_gradient, 3)} % "
                f"[{percent(row.low, 3)}, {percent(row.high, 3)}]"
                for row in rows_of(t)
            ),
        ),
        "psnr": ("psnr", lambda t: _psnr(plan, t)),
        "mod": ("table_3", lambda t: _mod(plan, t)),
        "white_box_mod": ("mod", lambda t: _mod(plan, white_box(plan.headline(t)))),
        "controls": ("mod", lambda t: _controls(plan, t)),
        "excess": ("excess", lambda t: attention.excess_rows(plan, t)),
        "gain": ("gain", lambda t: gain.rows(plan, select(plan.headline(t), attack=WHITE_BOX))),
        "every_gain": ("gain", lambda t: gain.rows(plan, t)),
        "spectrum": ("spectrum", lambda t: gain.spectrum(plan, t)),
        "half_shift": ("half_shift", lambda t: gain.half_shift_rows(plan, t)),
        "noise_draws": ("noise_draws", lambda t: gain.draw_rows(plan, t)),
        "gain_order": ("gain_order", lambda t: gain.order_rows(plan, t)),
        "attacks": ("attacks", lambda t: attacks.rows(plan, t)),
        "bracket": ("bracket", lambda t: attacks.sentences(plan, t)),
        "checks": ("checks", attacks.check_rows),
        "check_sentence": ("checks", attacks.check_sentence),
        "insertion": ("insertion", _insertion),
        "insertion_steps": ("insertion", lambda _: insertion.STEPS),
        "transfer": ("transfer", lambda _: transfer.values(plan, summary)),
        "shift": ("shift", lambda t: attention.rows(plan, t)),
        "vid": ("vid", lambda t: _vid(plan, t)),
        "depth": ("depth", lambda t: _depth(plan, t)),
        "examples": ("depth", lambda t: int(select(t, attack=BLACK_BOX)["photos"].max())),
        "example": ("depth", lambda _: layer_sheets.photo(plan)),
    }
    return {name: rows(summary[of]) for name, (of, rows) in made.items() if of in summary}


def beside_paper(plan: ArmPlan, summary: Tables) -> Tables:
    """The arm's table of accuracies, Table 3 and the transfer matrix, with the paper's values.

    What they are made of may be missing.
    """
    study, accuracies = plan.study, printed.ACCURACIES[plan.arm]
    sources = {}
    if "accuracy" in summary:
        sources["accuracy"] = summary["accuracy"], accuracies.table
    if "mod" in summary:
        sources["mod"] = plan.headline(summary["mod"]), printed.TABLE_3
    names = {"accuracy": f"table_{accuracies.number}", "mod": "table_3"}
    columns = {"accuracy": ["accuracy", "low", "high"], "mod": _OF_MOD}
    found = {}
    for value, (table, of_paper) in sources.items():
        table = select(table, attack=BLACK_BOX)
        table = table.assign(paper=_of_paper(of_paper, table), source=study.source)
        shown = ["network", "epsilon", "paper", "photos", *columns[value], "source"]
        found[names[value]] = table[shown]
    if len(sources) == 2:
        accuracy, mod = sources["accuracy"][0], sources["mod"][0]
        transferred = comparison.transfer(accuracy, mod, study.networks, study.source)
        from_same_source = transferred["source"] == printed.SOURCE
        for value, (_, of_paper) in sources.items():
            of_source = _of_paper(of_paper, transferred).where(from_same_source)
            transferred[f"paper_{value}"] = of_source
        found["transfer"] = transferred
    return found


def _of_paper(table: pd.DataFrame, rows: pd.DataFrame) -> pd.Series:
    """The paper's value of each row's network and epsilon; NaN if it prints none."""
    return pd.Series(
        [
            printed.value_of(table, network, epsilon)
            for network, epsilon in zip(rows["network"], rows["epsilon"], strict=True)
        ],
        rows.index,
        float,
    )


def _accuracy(row: Any) -> str:
    return interval(row.accuracy, row.low, row.high, as_percent=True)


def _psnr(plan: ArmPlan, psnr: pd.DataFrame) -> list[dict[str, str]]:
    def shown(row: Any) -> str:
        if not math.isfinite(row.psnr):
            return "∞"
        unchanged = f" ({row.unchanged} photos unchanged)" if row.unchanged else ""
        return f"{row.psnr:.2f} ± {row.spread:.2f}{unchanged}"

    # In pixel units one black-box set serves all networks; in network units each gets its own.
    networks = plan.study.networks
    one_set = plan.study.readings.epsilon_unit == "pixel"
    sets = [(BLACK_BOX, network) for network in ([plan.study.source] if one_set else networks)]
    sets += [(WHITE_BOX, network) for network in networks]
    return [
        {"Perturbed set": f"{attack}, {title(network)}"}
        | by_epsilon(select(psnr, network=network, attack=attack), shown)
        for attack, network in sets
    ]


def _mod(plan: ArmPlan, table: pd.DataFrame) -> list[dict[str, str]]:
    """Each network, below it noise, and their mean; with the paper's values if the table has any.

    The paper's mean is over five networks, so it stands beside no other mean.
    """
    networks, rows = plan.study.networks, []
    table = table[table["epsilon"] > 0]  # at 0 nothing is added, so the heatmaps are equal
    for network in networks:
        name = marked_source(network, plan.study.source) if "paper" in table else title(network)
        of_network = select(table, network=network)
        first = of_network.iloc[0]
        ends = first["unrelated_low"], first["unrelated_high"]
        unrelated = {"Unrelated": interval(first["unrelated"], *ends)}
        rows += [
            {"Network": name} | by_epsilon(of_network, _mod_cell) | unrelated,
            {"Network": NOISE_ROW} | by_epsilon(of_network, _noise_cell) | unrelated,
        ]
    means = table.groupby("epsilon")["mod"].mean().reset_index()
    if "paper" in table:
        of_five = printed.TABLE_3_MEAN_SHIFT
        known = set(networks) == set(printed.TABLE_3.columns)
        means["paper"] = means["epsilon"].map(of_five if known else {})
    mean = by_epsilon(means, lambda row: _beside(row, number(row.mod)))
    return [*rows, {"Network": "Mean shift"} | mean | {"Unrelated": ""}]


def _mod_cell(row: Any) -> str:
    return _beside(row, interval(row.mod, row.low, row.high))


def _noise_cell(row: Any) -> str:
    return interval(row.mod_noise, row.mod_noise_low, row.mod_noise_high)


def _beside(row: Any, shown: str) -> str:
    return f"{number(row.paper)} | {shown}" if hasattr(row, "paper") else shown


def _controls(plan: ArmPlan, mod: pd.DataFrame) -> list[dict[str, str]]:
    readings = plan.study.readings
    keys = ["network", "attack", "epsilon"]
    of_clean = select(mod, target="clean", size=readings.heatmap_size).set_index(keys)
    native = select(mod, target=readings.explained_class, size="native").set_index(keys)
    values = ["mod", "mod_noise", "unrelated"]
    own = mod["attack"].isin((BLACK_BOX, WHITE_BOX))
    table = plan.headline(mod[(mod["epsilon"] > 0) & own])
    table = table.join(of_clean[values].add_suffix("_clean"), on=keys)
    table = table.join(native[values].add_suffix("_native"), on=keys)
    return [
        {
            "Network": title(row.network),
            "Attack": row.attack,
            "ε": f"{row.epsilon:g}",
            f"MOD, class {readings.explained_class}": number(row.mod),
            "noise": number(row.mod_noise),
            "unrelated": number(row.unrelated),
            "unrelated, attacked": number(row.unrelated_attacked),
            "MOD, clean photo's class": number(row.mod_clean),
            "noise, clean photo's class": number(row.mod_noise_clean),
            "flipped": f"{number(row.mod_flipped)} (n={row.flipped})",
            "not flipped": f"{number(row.mod_unflipped)} (n={row.photos - row.flipped})",
            "native size": number(row.mod_native),
            "native noise": number(row.mod_noise_native),
            "native unrelated": number(row.unrelated_native),
            "empty clean / perturbed / both": f"{row.empty_clean} / {row.empty_perturbed} "
            f"/ {row.both_empty}",
        }
        for row in rows_of(table)
    ]


def _insertion(areas: pd.DataFrame) -> list[dict[str, str]]:
    """Each network, class, measure and epsilon: the area, and how far it is above the others."""
    names = ("clean photo's", "another photo's", "random order")
    written = []
    for own in rows_of(select(areas, order="attacked")):
        row = {"Network": title(own.network), "Class": own.target, "Measure": own.measure}
        row |= {"ε": f"{own.epsilon:g}", "Area": interval(own.area, own.low, own.high)}
        same = {key: getattr(own, key) for key in ("network", "target", "measure", "epsilon")}
        for name, order in zip(names, insertion.ORDERS[1:], strict=True):
            (other,) = rows_of(select(areas, order=order, **same))
            ends = other.difference_low, other.difference_high
            row[f"Above {name}"] = interval(other.difference, *ends)
        written.append(row)
    return written


def _vid(plan: ArmPlan, vid: pd.DataFrame) -> list[dict[str, str]]:
    rows = []
    of_paper = printed.vid_of_mod()
    for network in plan.study.networks:
        of_network = select(plan.headline(vid), network=network)
        row = {"Network": title(network)}
        for attack in (BLACK_BOX, WHITE_BOX, NOISE):
            for cell in rows_of(select(of_network, attack=attack)):
                row[attack] = interval(cell.vid, cell.low, cell.high)
                of_mod = interval(cell.vid_of_mod, cell.vid_of_mod_low, cell.vid_of_mod_high)
                row[f"{attack}, of MOD"] = of_mod
        row["The paper's Table 3, of MOD"] = number(of_paper.get(network, math.nan))
        rows.append(row)
    return rows


def _depth(plan: ArmPlan, depth: pd.DataFrame) -> list[dict[str, str]]:
    """Five layers of each network, from the first to the last."""
    rows = []
    for network in plan.study.networks:
        of_network = select(depth, attack=BLACK_BOX, network=network)
        last = int(of_network["depth"].max())
        for place in sorted({round(share * last / 4) for share in range(5)}):
            of_layer = select(of_network, depth=place).sort_values("epsilon")
            layer, unrelated = of_layer[["layer", "unrelated"]].iloc[0]
            rows.append(
                {"Network": title(network), "Layer": f"{layer} ({place + 1})"}
                | by_epsilon(of_layer, lambda row: f"{row.mod:.3f} ({row.mod_noise:.3f})")
                | {"Unrelated": number(unrelated)}
            )
    return rows
