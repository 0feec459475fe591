"""How near each reading of the paper comes to it, as pictures."""

from __future__ import annotations

import itertools
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns

from gradcam_adv.paper.readings import DEFAULT, differing, nearest
from gradcam_adv.report import figures
from gradcam_adv.report.cells import marked_source, select
from gradcam_adv.report.reading_summary import title
from gradcam_adv.report.sections import ARMS
from gradcam_adv.study.config import Arm

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PALETTE = sns.color_palette("colorblind")
_OF_ARM = {"plain": ("o", _PALETTE[0]), "aligned": ("s", _PALETTE[1])}
# The study's own curve; the others are coloured by the choice that they make otherwise.
_OWN = _PALETTE[0]
_OTHERS = [_PALETTE[1], _PALETTE[2], _PALETTE[4], (0.35, 0.35, 0.35), _PALETTE[9], _PALETTE[3]]
# The two panels and rows: column, the paper's, the distance, label.
_SHOWN = (
    ("ratio", "paper_ratio", "accuracy_distance", "accuracy / clean accuracy"),
    ("mod", "paper_mod", "mod_distance", "MOD (mean NISSIM)"),
)
# What the caveat takes at a figure's foot, in inches.
_FOOT = 0.6


def write_all(
    readings: pd.DataFrame, distances: pd.DataFrame, folder: Path, *, caveat: str, source: str
) -> list[Path]:
    """Draw readings_distances and, for each arm, readings_curves_ARM as PNG and SVG; the files.

    Args:
        readings: of :func:`gradcam_adv.paper.readings.curves`.
        distances: of :func:`gradcam_adv.paper.readings.distances`.
        folder: the run's folder of figures.
        caveat: at the foot of each.
        source: the network on which the black-box attack was made.
    """
    drawn = {"readings_distances": of_distances(distances)}
    for arm in readings["arm"].unique():
        drawn[f"readings_curves_{arm}"] = of_curves(readings, distances, arm, source)
    return figures.save(drawn, folder, caveat)


def of_distances(distances: pd.DataFrame) -> Figure:
    """How far each reading's accuracy and MOD are from the paper's: a row each, the nearest on top.

    Args:
        distances: of :func:`gradcam_adv.paper.readings.distances`.
    """
    values = [value for _, _, value, _ in _SHOWN]
    means = distances.groupby("reading", sort=False)[values].mean()
    order = list(means.sort_values(values, kind="stable").index)
    arms = list(distances["arm"].unique())
    height = 1.9 + _FOOT + 0.27 * len(order)
    figure, axes = plt.subplots(1, 2, figsize=(11, height), sharey=True)
    for axis, (_, _, value, label) in zip(axes, _SHOWN, strict=True):
        for place, arm in enumerate(arms):
            own = select(distances, arm=arm)
            marker, colour = _OF_ARM[arm]
            # Arms beside each other, where they are as far.
            offset = 0.3 * (place - (len(arms) - 1) / 2)
            axis.scatter(
                own[value], own["reading"].map(order.index) + offset, marker=marker,
                color=colour, s=28, zorder=3, label=ARMS[arm],
            )  # fmt: skip
        axis.axhspan(order.index(DEFAULT) - 0.5, order.index(DEFAULT) + 0.5, color="0.88", zorder=0)
        axis.axvline(0, color="black", linestyle="--", linewidth=1.5, label="the paper's curve")
        axis.set_xlim(*_from_zero(distances[value]))
        axis.locator_params(axis="x", nbins=5)
        axis.grid(axis="x", alpha=0.3)
        axis.set_title(label, fontsize=10)
    axes[0].set_yticks(range(len(order)), list(map(title, order)), fontsize=9, parse_math=False)
    axes[0].get_yticklabels()[order.index(DEFAULT)].set_fontweight("bold")
    axes[0].set_ylim(len(order) - 0.5, -0.5)
    figure.suptitle("How near each reading comes to the paper, black-box attack", fontsize=12)
    figure.legend(
        *axes[0].get_legend_handles_labels(), fontsize=9, loc="upper center", frameon=False,
        bbox_to_anchor=(0.5, 1 - 0.32 / height), ncols=len(arms) + 1,
    )  # fmt: skip
    compared = f"{distances['mod_networks'].min()} of {distances['networks'].max()} networks"
    figure.text(
        0.5, _FOOT / height, f"distance (root mean square over {compared} and ε > 0)", fontsize=9,
        ha="center", va="bottom",
    )  # fmt: skip
    figure.tight_layout(rect=(0, (_FOOT + 0.15) / height, 1, 1 - 0.3 / height))
    return figure


def _from_zero(values: pd.Series) -> tuple[float, float]:
    """Ends of an axis with room left of 0, or the line of the paper would be its edge."""
    largest = values.max() if values.max() > 0 else 1.0
    return -0.03 * largest, 1.06 * largest


def of_curves(readings: pd.DataFrame, distances: pd.DataFrame, arm: Arm, source: str) -> Figure:
    """Ratio of accuracy and MOD against epsilon, a column a network, a line a reading.

    Readings that leave a number as the study has it are not drawn over it. Noise and ceiling of
    MOD are those of the study and of the nearest reading: all others' are in the tables.

    Args:
        readings: of :func:`gradcam_adv.paper.readings.curves`.
        distances: of :func:`gradcam_adv.paper.readings.distances`.
        arm: which is drawn.
        source: the network on which the black-box attack was made.
    """
    readings, distances = (select(table, arm=arm) for table in (readings, distances))
    networks = readings["network"].unique()
    width, height = 4.2 + 2.4 * len(networks), 6.4 + _FOOT
    figure, axes = plt.subplots(
        2, len(networks), figsize=(width, height), sharex=True, sharey="row", squeeze=False
    )
    colours = _colours(readings)
    for row, (value, printed, distance, label) in zip(axes, _SHOWN, strict=True):
        near = (nearest(distances, distance) or [""])[0]
        apart = differing(readings, [value])
        for axis, network in zip(row, networks, strict=True):
            own = select(readings, network=network).sort_values("epsilon")
            for reading in apart:
                _line(axis, select(own, reading=reading), value, colours[_choice(reading)], near)
            as_it_says = select(own, reading=DEFAULT)
            axis.plot(
                as_it_says["epsilon"], as_it_says[value], color=_OWN, linewidth=2.4, marker="o",
                markersize=4, zorder=4, label=_of_own(near),
            )  # fmt: skip
            if value == "mod":
                _controls(axis, as_it_says, _OWN, title(DEFAULT))
                if near in apart:
                    _controls(
                        axis, select(own, reading=near), colours[_choice(near)], "the nearest"
                    )
            of_paper = as_it_says[as_it_says[printed].notna()]
            axis.plot(
                of_paper["epsilon"], of_paper[printed], color="black", linestyle="--",
                linewidth=1.8, zorder=5, label="the paper",
            )  # fmt: skip
            axis.grid(axis="y", alpha=0.3)
        row[0].set_ylabel(label)
        row[0].set_ylim(bottom=0)
        _legend(row[-1])
    for (upper, lower), network in zip(axes.T, networks, strict=True):
        upper.set_title(marked_source(network, source).replace(" (", "\n("), fontsize=10)
        lower.set_xlabel("ε")
        lower.locator_params(axis="x", nbins=4)
    heading = f"Accuracy and MOD by reading, black-box attack, {ARMS[arm].lower()}"
    figure.suptitle(textwrap.fill(heading, int(9 * width)), fontsize=12)
    figure.tight_layout(rect=(0, _FOOT / height, 1, 1))
    return figure


def _choice(reading: str) -> str:
    """The first of the choices that a reading makes otherwise, such as "epsilon_unit"."""
    return reading.split(" = ")[0]


def _colours(readings: pd.DataFrame) -> dict[str, tuple[float, float, float]]:
    """A colour for each choice by which a curve of one arm becomes another."""
    choices = map(_choice, differing(readings, [value for value, _, _, _ in _SHOWN]))
    return dict(zip(dict.fromkeys(choices), itertools.cycle(_OTHERS), strict=False))


def _line(
    axis: Axes, own: pd.DataFrame, value: str, colour: tuple[float, float, float], near: str
) -> None:
    reading = own["reading"].iloc[0]
    style: dict[str, Any]
    if reading == near:
        style = {"linewidth": 2.4, "marker": "^", "markersize": 5, "zorder": 3}
        label = f"the nearest: {reading}"
    else:
        style, label = {"linewidth": 1.0}, f"another {_choice(reading)}"
    axis.plot(own["epsilon"], own[value], color=colour, label=label, **style)


def _of_own(near: str) -> str:
    return f"{title(DEFAULT)}, the nearest" if near == DEFAULT else title(DEFAULT)


def _controls(axis: Axes, own: pd.DataFrame, colour: Any, whose: str) -> None:
    axis.plot(
        own["epsilon"], own["mod_noise"], color=colour, linestyle=":", linewidth=1.5,
        label=f"random-sign noise, {whose}",
    )  # fmt: skip
    axis.axhline(
        own["ceiling"].iloc[0], color=colour, linestyle="-.", linewidth=1,
        label=f"unrelated photos (ceiling), {whose}",
    )  # fmt: skip


def _legend(axis: Axes) -> None:
    """To the right: the paper, the study, the nearest, and each kind of the others once."""
    handles = dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
    first = [name for name in handles if not name.startswith(("another", "random", "unrelated"))]
    order = [*reversed(first), *(name for name in handles if name not in first)]
    axis.legend(
        [handles[name] for name in order],
        [textwrap.fill(name, 30) for name in order],
        fontsize=8.5,
        loc="upper left",
        bbox_to_anchor=(1.02, 1.03),
        frameon=False,
    )
