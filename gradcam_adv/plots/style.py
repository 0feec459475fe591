"""The one style of all pictures: colours that colour-blind readers can tell apart, and labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Of heatmaps: even steps of lightness. Of their difference, less to more: brown to violet.
COLORMAP, SHIFT_COLORMAP = "viridis", "PuOr"
# The attack, and its controls: random signs, unrelated photos, and what is made of the attack's.
ATTACK, NOISE, UNRELATED = "#d55e00", "#0173b2", "#767676"
MIRRORED, OTHER_PHOTO = "#029e73", "#cc78bc"
PAPER = "#1b1b1f"
# Of the names beside lines, in points.
LABEL_SIZE = 9
# The colour, line and marker of each curve against epsilon, by its name beside it.
KINDS = {
    "attack": (ATTACK, "-", "o"),
    "noise": (NOISE, "--", "s"),
    "mirrored signs": (MIRRORED, "-.", "^"),
    "mirrored perturbation": (MIRRORED, "-.", "^"),
    "another photo's signs": (OTHER_PHOTO, "--", "v"),
    "another photo's perturbation": (OTHER_PHOTO, "--", "v"),
    # Attacks that are compared: the warmer, the stronger they are meant to be.
    "FGSM": ("#e3a021", "-", "o"),
    "PGD": (ATTACK, "-", "D"),
    "MI-FGSM": ("#b5651d", "--", "^"),
    "PI-FGSM": ("#9c4d97", "-.", "v"),
    "explanation attack": ("#7a1f1f", "-", "P"),
    "AutoPGD": ("#56b4e9", "--", "*"),
    "Square": (MIRRORED, ":", "X"),
}
# Of a curve that has no entry, such as that of an attack that was added.
OTHER_KIND = (PAPER, ":", "h")


def curve(
    axis: Axes, table: pd.DataFrame, value: str, kind: str, *, band: bool = True, **look: Any
) -> None:
    """A column of a table against epsilon, with the interval from low to high as a band.

    Infinite values are left out, and an infinite end is at the largest one that is known.
    """
    colour, line, marker = KINDS.get(kind, OTHER_KIND)
    table = table[~table[value].isin([np.inf])].sort_values("epsilon")
    if band:
        high = table["high"].replace(np.inf, table["high"][table["high"] < np.inf].max())
        axis.fill_between(
            table["epsilon"], table["low"], high, color=colour, alpha=0.18, linewidth=0
        )
    shown: dict[str, Any] = {"markersize": 4, "linewidth": 1.5, "label": kind} | look
    axis.plot(table["epsilon"], table[value], color=colour, linestyle=line, marker=marker, **shown)


def unrelated_level(axis: Axes, value: float) -> None:
    """The level of unrelated photos."""
    axis.axhline(value, color=UNRELATED, linestyle=":", label="unrelated")


def shades(count: int) -> list[Any]:
    """The attack's colour in ``count`` steps, one per epsilon, from light to dark."""
    import seaborn as sns

    return list(sns.blend_palette(["#e89a63", ATTACK, "#6b2f00"], count))


def label_lines(axis: Axes) -> None:
    """Write the name of each line beside its right end, in its colour, instead of a legend.

    The limits and scales of the axes have to be set before.
    """
    ends = {
        str(line.get_label()): line
        for line in axis.lines
        if not str(line.get_label()).startswith("_") and np.size(line.get_xdata())
    }
    to_axes = axis.transData + axis.transAxes.inverted()
    places = []
    for name, line in ends.items():
        # A line across the axes has its x in shares of them, which does not change its y.
        end = float(np.asarray(line.get_ydata(), float)[-1])
        height = to_axes.transform((axis.get_xlim()[1], end))[1]
        places.append((min(max(float(height), 0.0), 1.0), name, line))
    places.sort(key=lambda place: place[0])
    step = 1.35 * LABEL_SIZE / (72 * axis.get_window_extent().height / axis.figure.dpi)
    heights = [height for height, _, _ in places]
    for below in range(1, len(heights)):
        heights[below] = max(heights[below], heights[below - 1] + step)
    # What was pushed out at the top moves down again.
    limit = 1.0
    for place in reversed(range(len(heights))):
        heights[place] = min(heights[place], limit)
        limit = heights[place] - step
    for height, (_, name, line) in zip(heights, places, strict=True):
        axis.text(
            1.03, height, name, color=line.get_color(), fontsize=LABEL_SIZE, va="center",
            transform=axis.transAxes, parse_math=False,
        )  # fmt: skip
