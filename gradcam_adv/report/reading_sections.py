"""The report on the readings of the paper, as sections: what hangs on each, how near it comes."""

from __future__ import annotations

import math

import pandas as pd

from gradcam_adv.paper import judge as claims
from gradcam_adv.paper import tables as paper
from gradcam_adv.paper.readings import DEFAULT, changes, differing, unlike
from gradcam_adv.report.cells import (
    interval,
    markdown,
    marked_source,
    number,
    percent,
    select,
    title_of,
)
from gradcam_adv.report.reading_summary import in_claims, not_compared, title
from gradcam_adv.report.sections import ACCURACIES, ARMS

PAPER = "The paper"
# What PSNR is wherever every pixel is changed by all of epsilon.
_BY_UNIT = (
    "Where every pixel value is changed by all of ε, PSNR is some 40, 26, 22.5 and 20 dB at ε = "
    "0.01, 0.05, 0.075 and 0.1 if ε is of pixels in [0, 1]; 46, 32, 28.5 and 26 dB if a network "
    "that takes -1 to 1 gets that ε (half of it in pixels); and 88, 74, 71 and 68 dB if one that "
    "takes 0 to 255 does. The paper's Figure 3 prints its PSNR, in a picture that we don't have: "
    "whoever has it can settle the unit of ε by it."
)


def section(
    readings: pd.DataFrame,
    distances: pd.DataFrame,
    verdicts: pd.DataFrame,
    *,
    caveat: str,
    other_data: bool,
    source: str,
) -> list[str]:
    """The report on the readings, as Markdown parts that begin with a top heading.

    Args:
        readings: of :func:`gradcam_adv.paper.readings.curves`.
        distances: of :func:`gradcam_adv.paper.readings.distances`.
        verdicts: readings_verdicts of :func:`gradcam_adv.paper.readings.tables`.
        caveat: what every number rests on.
        other_data: whether the photos are not of VGGFace2.
        source: the network on which the black-box attack was made.
    """
    rests = f"> {caveat}"
    parts = [
        "# What hangs on how the paper is read",
        *_about(readings, other_data, source),
        "## Which claims hang on a reading",
        rests,
        *_claims(verdicts),
        "## How near each reading comes to the paper",
        rests,
        *_distances(distances, source),
        "## The order of the networks under each reading",
        rests,
        *_orders(distances),
    ]
    named = readings.assign(
        title=[marked_source(network, source) for network in readings["network"]]
    )
    for arm in named["arm"].unique():
        own = select(named, arm=arm)
        where = ARMS[arm].lower()
        number_of_table, _ = ACCURACIES[arm]
        parts += [
            f"## Each reading's curves, {where}",
            rests,
            "![Ratio of accuracy and MOD of every reading against epsilon, the paper's dashed]"
            f"(figures/readings_curves_{arm}.png)",
            f"### Accuracy by reading, {where}",
            rests,
            *_ratios(own, f"{PAPER}, Table {number_of_table}"),
            f"### MOD by reading, {where}",
            rests,
            *_mods(own),
            f"### PSNR of the perturbed sets by reading, dB, {where}",
            rests,
            *_psnrs(own),
            f"### VID by reading, {where}",
            rests,
            *_vids(own),
        ]
    return parts


def _about(readings: pd.DataFrame, other_data: bool, source: str) -> list[str]:
    names = readings["reading"].unique()
    parts = [
        "The paper leaves choices open. Here the study was done under "
        f"{len(names)} readings of it: as it says itself, and with one such choice, or two, made "
        "otherwise. All numbers are of the black-box attack made on "
        f"{title_of(source)}.",
        "\n".join(f"- {title(name)}" for name in names),
    ]
    if other_data:
        parts.append(
            "**The photos are others than the paper's** (not VGGFace2). A reading that comes near "
            "to the paper's numbers here need not be its authors', nor is one that stays far "
            "ruled out. That a claim holds under one reading and not under another can be seen on "
            "any photos."
        )
    if source != paper.SOURCE:
        parts.append(
            f"**The attack is another one than the paper's**, made on {title_of(source)} and not "
            f"on {title_of(paper.SOURCE)}: distances from its numbers are for orientation only."
        )
    return parts


def _claims(verdicts: pd.DataFrame) -> list[str]:
    changed = changes(verdicts)
    rows = []
    for claim in paper.CLAIMS:
        for arm, own in select(changed, claim=claim.name).groupby("arm", sort=False):
            row = {"Claim": claim.says, "Arm": arm}
            row[_capital(title(DEFAULT))] = own["verdict_default"].iloc[0]
            for verdict in (claims.HOLDS, claims.FAILS, claims.UNKNOWN):
                others = map(title, select(own, verdict=verdict)["reading"])
                row[_capital(verdict)] = "; ".join(others) or "–"
            rows.append(row)
    return [
        f"{_capital(in_claims(verdicts))}.",
        *([markdown(rows)] if rows else []),
        "Between holds and does not hold an effect is clear both times; between one of them and "
        "can't be told it may only lie near the margin. p is corrected for the verdicts of one "
        "reading, not for how many readings there are. What was not judged under a reading, such "
        "as a white-box attack that was not made, is not counted; so p is corrected after Holm for "
        "fewer verdicts than those on the run above, which can make one clear here that is not "
        "there. All verdicts: "
        "`tables/readings_verdicts.csv`.",
    ]


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _distances(distances: pd.DataFrame, source: str) -> list[str]:
    left_out = unlike(source)
    rows = []
    for cell in distances.to_dict("records"):
        cells = {what: cell[f"{what}_networks"] * cell["levels"] for what in ("accuracy", "mod")}
        rows.append(
            {
                "Reading": title(cell["reading"]),
                "Arm": cell["arm"],
                "Accuracy: distance": number(cell["accuracy_distance"]),
                "Accuracy: paper within": _of_cells(cell["accuracy_within"], cells["accuracy"]),
                "MOD: distance": number(cell["mod_distance"]),
                "MOD: distance of shape": number(cell["mod_shape_distance"]),
                "MOD: paper within": _of_cells(cell["mod_within"], cells["mod"]),
            }
        )
    return [
        "Distances are root mean squares over networks and those ε > 0 that the paper prints; 0 "
        "is the paper's own curve. Accuracy: of its ratio to the clean accuracy. MOD: of the "
        "number itself and, as its shape, of MOD as a multiple of its mean over all cells, in "
        "which a factor common to them does not count. The paper within: in how many cells the "
        "paper's number lies within this run's 95 % interval (for accuracy the clean accuracy is "
        "taken as it came out); the fewer photos there are, the wider the interval, and the less "
        "a distance can tell two readings apart. The paper does not say of which set its MODs "
        "are, so both arms are held against the same."
        + (
            f" Distances are {not_compared(left_out)}; the orders below have all."
            if left_out
            else ""
        ),
        "\n".join(_compared(select(distances, arm=arm)) for arm in distances["arm"].unique()),
        markdown(rows),
    ]


def _of_cells(count: float, cells: int) -> str:
    return "–" if math.isnan(count) else f"{count:.0f} of {cells}"


def _compared(distances: pd.DataFrame) -> str:
    first = distances.iloc[0]
    line = (
        f"- {ARMS[first['arm']]}: {first['levels']} levels; MOD of {first['mod_networks']} "
        f"networks, accuracy of {first['accuracy_networks']}"
    )
    if first["accuracy_networks"] < first["mod_networks"]:
        line += ", as the others are right on no clean photo under one of the readings"
    return line


def _orders(distances: pd.DataFrame) -> list[str]:
    parts = [
        "Least first: by the share of its clean accuracy that a network loses, and by MOD, each a "
        "mean over the levels compared. Kendall's tau is 1 where the order is the paper's, -1 "
        "where it is the reverse, and near 0 where they have nothing in common."
    ]
    if (distances["networks"] == 2).any():
        parts.append(
            "**Of two networks tau is 1 or -1**: it says only which of them comes first, which "
            "chance alone gets as in the paper every other time."
        )
    rows = []
    for arm, own in distances.groupby("arm", sort=False):
        first = own.iloc[0]
        printed = (first["accuracy_order_paper"], math.nan, first["mod_order_paper"], math.nan)
        rows.append(_order(PAPER, arm, *printed))
        columns = ["accuracy_order", "accuracy_tau", "mod_order", "mod_tau"]
        for reading, *cells in own[["reading", *columns]].itertuples(index=False):
            rows.append(_order(title(reading), arm, *cells))
    return [*parts, markdown(rows)]


def _order(
    name: str, arm: object, accuracy: str, accuracy_tau: float, mod: str, mod_tau: float
) -> dict[str, object]:
    return {
        "Reading": name,
        "Arm": arm,
        "Accuracy lost": accuracy or "–",
        "tau": "–" if math.isnan(accuracy_tau) else f"{accuracy_tau:.2f}",
        "MOD": mod or "–",
        "tau of MOD": "–" if math.isnan(mod_tau) else f"{mod_tau:.2f}",
    }


def _ratios(readings: pd.DataFrame, name_of_paper: str) -> list[str]:
    columns = ["accuracy", "low", "high"]
    rows = []
    for network, own in _apart(readings, columns).groupby("title", sort=False):
        row = {"Network": network, "Reading": name_of_paper}
        row["Clean accuracy, %"] = percent(select(own, epsilon=0.0)["paper_accuracy"].iloc[0])
        printed = _attacked(select(own, reading=DEFAULT))
        rows.append(row | {_level(cell): _ratio(cell["paper_ratio"]) for cell in printed})
        for reading, cells in own.groupby("reading", sort=False):
            clean, low, high = select(cells, epsilon=0.0)[columns].to_numpy()[0]
            row = {"Network": network, "Reading": title(str(reading))}
            row["Clean accuracy, %"] = interval(clean, low, high, as_percent=True)
            rows.append(row | {_level(cell): _to_clean(cell, clean) for cell in _attacked(cells)})
    return [
        "Accuracy at ε as a ratio to the clean accuracy beside it [95 % Wilson interval of the "
        "accuracy at ε, the clean accuracy taken as it came out]. Small clean accuracies make "
        "ratios that jump.",
        *_alike(readings, columns),
        markdown(rows),
    ]


def _to_clean(cell: pd.Series, clean: float) -> str:
    """The ratio of an accuracy to the clean one, with the ends of its interval."""
    if math.isnan(cell["ratio"]):
        return "–"
    return f"{cell['ratio']:.3f} [{cell['low'] / clean:.3f}, {cell['high'] / clean:.3f}]"


def _ratio(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"


def _mods(readings: pd.DataFrame) -> list[str]:
    columns = ["mod", "mod_low", "mod_high", "mod_noise", "ceiling"]
    rows = []
    for network, own in _apart(readings, columns).groupby("title", sort=False):
        printed = _attacked(select(own, reading=DEFAULT))
        rows.append(
            {"Network": network, "Reading": f"{PAPER}, Table 3"}
            | {_level(cell): number(cell["paper_mod"]) for cell in printed}
            | {"Ceiling": "–"}
        )
        for reading, cells in own.groupby("reading", sort=False):
            row = {"Network": network, "Reading": title(str(reading))}
            for cell in _attacked(cells):
                shown = interval(cell["mod"], cell["mod_low"], cell["mod_high"])
                row[_level(cell)] = f"{shown}, noise {number(cell['mod_noise'])}"
            rows.append(row | {"Ceiling": number(cells["ceiling"].iloc[0])})
    return [
        "MOD [95 % bootstrap interval over identities], with it the MOD of random-sign noise of "
        "the same ε; the ceiling is that of photos of different people. A reading that moves MOD "
        "may move both of them as well. The paper prints neither.",
        *_alike(readings, columns),
        markdown(rows),
    ]


def _psnrs(readings: pd.DataFrame) -> list[str]:
    columns = ["psnr", "unchanged"]
    rows = []
    for reading, own in _apart(readings, columns).groupby("reading", sort=False):
        by_network = {
            network: {_level(cell): _decibels(cell) for cell in _attacked(cells)}
            for network, cells in own.groupby("title", sort=False)
        }
        # In pixels one perturbed set serves all networks; in their own units each has one.
        first, *others = by_network.values()
        if others and all(other == first for other in others):
            by_network = {"every network": first}
        for network, cells_shown in by_network.items():
            name = {"Reading": title(str(reading)), "Set for": network}
            rows.append(name | cells_shown)
    return [
        f"{_BY_UNIT} Mean over the photos that the attack changed; ∞ where it changed none.",
        *_alike(readings, columns),
        markdown(rows),
    ]


def _decibels(cell: pd.Series) -> str:
    if not math.isfinite(cell["psnr"]):
        return "∞"
    unchanged = f" ({cell['unchanged']} photos unchanged)" if cell["unchanged"] else ""
    return f"{cell['psnr']:.2f}{unchanged}"


def _vids(readings: pd.DataFrame) -> list[str]:
    columns = ["vid", "vid_low", "vid_high", "vid_noise"]
    rows = []
    for reading, own in _apart(readings, columns).groupby("reading", sort=False):
        row = {"Reading": title(str(reading))}
        for _, cell in own.drop_duplicates("network").iterrows():
            shown = interval(cell["vid"], cell["vid_low"], cell["vid_high"])
            row[cell["title"]] = f"{shown}, noise {number(cell['vid_noise'])}"
        rows.append(row)
    return [
        "VID [95 % bootstrap interval over identities], with it that of random-sign noise; the "
        "paper's is in its Figure 4, a picture that we don't have.",
        *_alike(readings, columns),
        markdown(rows),
    ]


def _apart(readings: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """The rows of the study's own reading and of those that differ from it in ``columns``."""
    shown = [DEFAULT, *differing(readings, columns)]
    return readings[readings["reading"].isin(shown)]


def _alike(readings: pd.DataFrame, columns: list[str]) -> list[str]:
    """Which readings are not listed, being the study's own in all these numbers."""
    others = [DEFAULT, *differing(readings, columns)]
    names = [name for name in readings["reading"].unique() if name not in others]
    return [f"The same as the study says in every number: {'; '.join(names)}."] if names else []


def _attacked(cells: pd.DataFrame) -> list[pd.Series]:
    attacked = cells[cells["epsilon"] > 0].sort_values("epsilon")
    return [cell for _, cell in attacked.iterrows()]


def _level(cell: pd.Series) -> str:
    return f"ε = {cell['epsilon']:g}"
