"""How near each reading comes to the paper, as pictures."""

from __future__ import annotations

import itertools
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns

from gradcam_adv.paper.distance import by_distance, fitting
from gradcam_adv.paper.readings import DEFAULT, differing
from gradcam_adv.plots import style
from gradcam_adv.report import drawing
from gradcam_adv.report.reading_sections import reading_title
from gradcam_adv.report.text import ARMS, UNRELATED
from gradcam_adv.study.settings import Arm
from gradcam_adv.study.tables import select

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PALETTE = sns.color_palette("colorblind")
# The readings but the study's own are coloured by the choice that they make differently: not in
# the colours of the attack, of noise or of unrelated photos.
_OTHERS = [_PALETTE[i] for i in (2, 4, 5, 6, 8, 9)]
# The two rows of curves: column, the paper's, label. Columns with _low and _high are the ends.
_SHOWN = (
    ("ratio", "paper_ratio", "accuracy / clean accuracy"),
    ("mod", "paper_mod", "MOD (mean NISSIM)"),
)
# The panels of distances: column, label.
_DISTANCES = (
    ("distance", "all cells, 95 % interval"),
    ("accuracy_distance", "accuracy / clean accuracy"),
    ("mod_distance", "MOD (mean NISSIM)"),
)
_BAND = "a reading that fits, 95 % interval"
# Space for the label of both horizontal axes, in inches.
_FOOT = 0.2


def write_all(
    readings: pd.DataFrame, distances: pd.DataFrame, folder: Path, *, caveat: str, source: str
) -> list[Path]:
    """Draw readings_distances and, for each arm, readings_curves_ARM as PNG and SVG; the files.

    Args:
        readings: of :func:`gradcam_adv.paper.readings.curves`.
        distances: of :func:`gradcam_adv.paper.distance.distances`.
        folder: of the figures.
        caveat: below each figure.
        source: the network on which the black-box attack was made.
    """
    drawn = {"readings_distances": of_distances(distances)}
    for arm in readings["arm"].unique():
        drawn[f"readings_curves_{arm}"] = of_curves(readings, distances, arm, source)
    return drawing.save(drawn, folder, caveat)


def of_distances(distances: pd.DataFrame) -> Figure:
    """How far each reading is from the paper, the nearest on top; filled: a reading that fits."""
    table = by_distance(distances)
    names, fits = list(table["reading"]), table["reading"].isin(fitting(table))
    default = names.index(DEFAULT)
    height = 1.9 + _FOOT + 0.27 * len(names)
    figure, axes = plt.subplots(1, 3, figsize=(11, height), sharey=True)
    for axis, (value, label) in zip(axes, _DISTANCES, strict=True):
        if value == "distance":
            axis.hlines(table.index, table["low"], table["high"], color=style.PAPER, linewidth=1.2)
        for filled, rows in table.groupby(fits):
            colour = style.PAPER if filled else "white"
            axis.scatter(
                rows[value], rows.index, color=colour, edgecolor=style.PAPER, s=28, zorder=3,
                label="fits" if filled else "farther from the paper than the nearest",
            )  # fmt: skip
        axis.axhspan(default - 0.5, default + 0.5, color="0.88", zorder=0)
        axis.axvline(0, color="black", linestyle="--", linewidth=1.5, label="the paper")
        # With space left of 0 for the paper's line.
        shown = [value, "high"] if value == "distance" else [value]
        largest = float(table[shown].max().max())
        largest = largest if largest > 0 else 1.0
        axis.set_xlim(-0.03 * largest, 1.06 * largest)
        axis.locator_params(axis="x", nbins=4)
        axis.grid(axis="x", alpha=0.3)
        axis.set_title(label, fontsize=10)
    axes[0].set_yticks(
        range(len(names)), list(map(reading_title, names)), fontsize=9, parse_math=False
    )
    axes[0].get_yticklabels()[default].set_fontweight("bold")
    axes[0].set_ylim(len(names) - 0.5, -0.5)
    heading = "How near each reading comes to the paper"
    if fits.any():
        others = f" and {fits.sum() - 1} more that cannot be told apart" if fits.sum() > 1 else ""
        heading = f"Nearest to the paper: {reading_title(names[0])}{others}"
    figure.suptitle(heading, fontsize=12, parse_math=False)
    figure.legend(
        *axes[0].get_legend_handles_labels(), fontsize=9, loc="upper center", frameon=False,
        bbox_to_anchor=(0.5, 1 - 0.32 / height), ncols=3,
    )  # fmt: skip
    compared = f"{table['cells'].max()} cells of Tables 1 to 3"
    figure.text(
        0.5, _FOOT / height, f"distance (root mean square over {compared})", fontsize=9,
        ha="center", va="bottom",
    )  # fmt: skip
    figure.tight_layout(rect=(0, (_FOOT + 0.15) / height, 1, 1 - 0.3 / height))
    return figure


def of_curves(readings: pd.DataFrame, distances: pd.DataFrame, arm: Arm, source: str) -> Figure:
    """Ratio of accuracy and MOD against epsilon: one column per network, one line per reading.

    The paper's curve is over the band of each reading that fits. Readings with the study's own
    numbers are not drawn. Noise and unrelated photos are those of the study and of the nearest
    reading; the tables have all others.
    """
    readings = select(readings, arm=arm).sort_values("epsilon", kind="stable")
    fits = fitting(distances)
    near = fits[0] if fits else ""
    networks = list(readings["network"].unique())
    width, height = 4.2 + 2.4 * len(networks), 6.4 + _FOOT
    figure, axes = drawing.panels(networks, source, (width, height), rows=2)
    # A colour for each choice that changes a curve.
    differ = map(_choice, differing(readings, [value for value, _, _ in _SHOWN]))
    colours = dict(zip(dict.fromkeys(differ), itertools.cycle(_OTHERS), strict=False))
    as_it_says = reading_title(DEFAULT)
    for row, (value, printed, label) in zip(axes, _SHOWN, strict=True):
        apart = differing(readings, [value])
        for axis, network in zip(row, networks, strict=True):
            of_network = select(readings, network=network)
            for reading in apart:
                look: dict[str, Any] = {"linewidth": 1.0, "label": f"another {_choice(reading)}"}
                if reading == near:
                    look = {"linewidth": 2.4, "marker": "^", "markersize": 5, "zorder": 3}
                    look["label"] = f"the nearest: {reading}"
                line = select(of_network, reading=reading)
                axis.plot(line["epsilon"], line[value], color=colours[_choice(reading)], **look)
                if reading in fits:
                    _band(axis, line, value, colours[_choice(reading)])
            default = select(of_network, reading=DEFAULT)
            if DEFAULT in fits:
                _band(axis, default, value, style.ATTACK)
            axis.plot(
                default["epsilon"], default[value], color=style.ATTACK, linewidth=2.4, marker="o",
                markersize=4, zorder=4,
                label=f"{as_it_says}, the nearest" if near == DEFAULT else as_it_says,
            )  # fmt: skip
            if value == "mod":
                _controls(axis, default, as_it_says, "")
                if near in apart:
                    _controls(axis, select(of_network, reading=near), "the nearest", "^")
            of_paper = default[default[printed].notna()]
            axis.plot(
                of_paper["epsilon"], of_paper[printed], color=style.PAPER, linestyle="--",
                linewidth=1.8, zorder=5, label="the paper",
            )  # fmt: skip
            axis.grid(axis="y", alpha=0.3)
        row[0].set_ylabel(label)
        row[0].set_ylim(bottom=0)
        _legend(row[-1])
    for axis in axes[1]:
        axis.set_xlabel("ε")
        axis.locator_params(axis="x", nbins=4)
    heading = f"Accuracy and MOD by reading, black-box attack, {ARMS[arm].lower()}"
    figure.suptitle(textwrap.fill(heading, int(9 * width)), fontsize=12)
    figure.tight_layout(rect=(0, _FOOT / height, 1, 1))
    return figure


def _band(axis: Axes, line: pd.DataFrame, value: str, colour: Any) -> None:
    ends = line[f"{value}_low"], line[f"{value}_high"]
    axis.fill_between(line["epsilon"], *ends, color=colour, alpha=0.2, linewidth=0, label=_BAND)


def _choice(reading: str) -> str:
    """The first choice that a reading makes differently, such as "epsilon_unit"."""
    return reading.split(" = ")[0]


def _controls(axis: Axes, table: pd.DataFrame, whose: str, marker: str) -> None:
    axis.plot(
        table["epsilon"], table["mod_noise"], color=style.NOISE, linestyle="--", linewidth=1.5,
        marker=marker, markersize=5, label=f"noise, {whose}",
    )  # fmt: skip
    axis.axhline(
        table["unrelated"].iloc[0], color=style.UNRELATED, linestyle=":", linewidth=1.2,
        marker=marker, label=f"{UNRELATED}, {whose}",
    )  # fmt: skip


def _legend(axis: Axes) -> None:
    """To the right: the paper, the study, the nearest reading, and each other kind once."""
    handles = dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
    last = ("another", "noise", "unrelated", _BAND)
    first = [name for name in handles if not name.startswith(last)]
    order = [*reversed(first), *(name for name in handles if name not in first)]
    axis.legend(
        [handles[name] for name in order],
        [textwrap.fill(name, 30) for name in order],
        fontsize=8.5,
        loc="upper left",
        bbox_to_anchor=(1.02, 1.03),
        frameon=False,
    )
