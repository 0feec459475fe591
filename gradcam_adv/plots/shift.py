"""Dissimilarity against epsilon: how far the attack moves heatmaps, beside noise and unrelated."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pandas as pd

from gradcam_adv.plots import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def shift_curve(attack: pd.DataFrame, noise: pd.DataFrame, unrelated: float) -> Figure:
    """MOD of one network's attack and of random signs on a logarithmic axis.

    Args:
        attack: columns epsilon and mod; with low and high, if they are known, as a band.
        noise: the same of random-sign noise.
        unrelated: mean NISSIM of unrelated images; NaN if there are none.
    """
    import matplotlib.pyplot as plt
    from matplotlib.ticker import FuncFormatter, NullFormatter

    figure, axis = plt.subplots(figsize=(5.2, 2.5))
    axis.set_xscale("log")
    for table, kind in ((attack, "attack"), (noise, "noise")):
        style.curve(axis, table, "mod", kind, band="low" in table)
    if not math.isnan(unrelated):
        style.unrelated_level(axis, unrelated)
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_ylim(0, 1.05 * axis.get_ylim()[1])
    axis.set_xlabel("ε (size of the change, of a range of 1)", fontsize=9)
    axis.set_ylabel("MOD", fontsize=9)
    axis.tick_params(labelsize=8)
    axis.grid(axis="y", alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    figure.subplots_adjust(left=0.1, right=0.83, top=0.97, bottom=0.2)
    style.label_lines(axis)
    return figure
