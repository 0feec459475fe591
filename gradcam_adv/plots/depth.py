"""MOD along the depth of a network: where attention begins to shift."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from gradcam_adv.plots import fonts, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# How many names of layers can be read along the axis.
NAMED = 20


def depth_profile(mod: pd.DataFrame, title: str = "MOD along the depth") -> Figure:
    """MOD of every layer against its position in the network, one line per epsilon.

    Args:
        mod: columns layer, depth, epsilon and mod, as :func:`gradcam_adv.dissimilarity` gives
            them; with the controls mod_noise and unrelated, if they were measured.
        title: above the plot.

    Raises:
        ValueError: a column is missing, or there are fewer than two layers.
    """
    import matplotlib.pyplot as plt

    if not isinstance(mod, pd.DataFrame):
        raise ValueError(f"Expected mod as a table. Received: {type(mod).__name__}")
    missing = {"layer", "depth", "epsilon", "mod"} - set(mod.columns)
    if missing or mod["depth"].nunique() < 2:
        came = f"no {', '.join(sorted(missing))}" if missing else f"{mod['depth'].nunique()} layers"
        raise ValueError(
            "Expected columns layer, depth, epsilon and mod, of two layers or more. "
            f"Received: {came}"
        )
    figure, axis = plt.subplots(figsize=(9, 4.8), layout="constrained")
    draw(axis, mod)
    if {"mod_noise", "unrelated"} <= set(mod.columns):
        draw_controls(axis, mod)
    layers = mod.drop_duplicates("depth").sort_values("depth")
    named = np.linspace(0, len(layers) - 1, min(len(layers), NAMED)).round().astype(int)
    axis.set_xticks(
        layers["depth"].iloc[named],
        [fonts.drawable(name.rsplit("/", 1)[-1]) for name in layers["layer"].iloc[named]],
        rotation=45,
        ha="right",
        fontsize=8,
        parse_math=False,
    )
    axis.set_xlabel("layer, from the pixels to the end")
    axis.set_ylabel("MOD (mean NISSIM)")
    axis.set_ylim(bottom=0)
    axis.grid(axis="y", alpha=0.3)
    style.label_lines(axis)
    axis.set_title(title, fontsize=11, parse_math=False)
    return fonts.legible(figure)


def draw(axis: Axes, mod: pd.DataFrame) -> None:
    """One line per epsilon; columns depth, epsilon, mod."""
    levels = sorted(mod["epsilon"].unique())
    marker = "." if mod["depth"].nunique() <= NAMED else ""
    for level, colour in zip(levels, style.shades(len(levels)), strict=True):
        rows = mod[mod["epsilon"] == level].sort_values("depth")
        axis.plot(
            rows["depth"], rows["mod"], color=colour, linewidth=1.3, marker=marker,
            label=f"ε = {level:g}",
        )  # fmt: skip


def draw_controls(axis: Axes, mod: pd.DataFrame) -> None:
    """MOD of noise and of unrelated images at the largest epsilon; columns mod_noise, unrelated.

    Only of the largest: with two more lines per epsilon nobody could tell them apart.
    """
    largest = mod["epsilon"].max()
    rows = mod[mod["epsilon"] == largest].sort_values("depth")
    axis.plot(
        rows["depth"], rows["mod_noise"], color=style.NOISE, linewidth=1, linestyle="--",
        label=f"noise, ε = {largest:g}",
    )  # fmt: skip
    if rows["unrelated"].notna().any():
        axis.plot(
            rows["depth"], rows["unrelated"], color=style.UNRELATED, linewidth=1, linestyle=":",
            label="unrelated",
        )  # fmt: skip
