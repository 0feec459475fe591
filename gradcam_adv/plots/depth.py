"""MOD along the depth of a network: where the focus begins to shift."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# As many names of layers as can be read along the axis.
NAMED = 20
# Told by colour-blind readers from the levels of attack, which are in viridis.
NOISE, CEILING = "#d55e00", "grey"


def depth_profile(mod: pd.DataFrame, title: str = "MOD along the depth") -> Figure:
    """MOD of every layer against its place in the network, a line an epsilon.

    Args:
        mod: columns layer, depth, epsilon, mod, as of :func:`gradcam_adv.dissimilarity`; with its
            controls, where they were measured.
        title: above the plot.

    Raises:
        ValueError: a column is missing, or fewer than two layers.
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
    if {"mod_noise", "ceiling"} <= set(mod.columns):
        draw_controls(axis, mod)
    layers = mod.drop_duplicates("depth").sort_values("depth")
    named = np.linspace(0, len(layers) - 1, min(len(layers), NAMED)).round().astype(int)
    axis.set_xticks(
        layers["depth"].iloc[named],
        [name.rsplit("/", 1)[-1] for name in layers["layer"].iloc[named]],
        rotation=45,
        ha="right",
        fontsize=8,
        parse_math=False,
    )
    axis.set_xlabel("layer, from the pixels to the end")
    axis.set_ylabel("MOD (mean NISSIM)")
    axis.set_ylim(bottom=0)
    axis.grid(axis="y", alpha=0.3)
    axis.legend(fontsize=9, loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
    axis.set_title(title, fontsize=11, parse_math=False)
    return figure


def draw(axis: Axes, mod: pd.DataFrame) -> None:
    """A line an epsilon; columns depth, epsilon, mod."""
    import seaborn as sns

    levels = sorted(mod["epsilon"].unique())
    marker = "." if mod["depth"].nunique() <= NAMED else ""
    for level, colour in zip(levels, sns.color_palette("viridis_r", len(levels)), strict=True):
        own = mod[mod["epsilon"] == level].sort_values("depth")
        axis.plot(
            own["depth"], own["mod"], color=colour, linewidth=1.3, marker=marker,
            label=f"ε = {level:g}",
        )  # fmt: skip


def draw_controls(axis: Axes, mod: pd.DataFrame) -> None:
    """What noise of the largest epsilon does, and the ceiling; columns mod_noise and ceiling.

    Of the largest alone: hundreds of layers and two lines an epsilon can't be told apart.
    """
    largest = mod["epsilon"].max()
    own = mod[mod["epsilon"] == largest].sort_values("depth")
    axis.plot(
        own["depth"], own["mod_noise"], color=NOISE, linewidth=1, linestyle="--",
        label=f"random-sign noise, ε = {largest:g}",
    )  # fmt: skip
    if own["ceiling"].notna().any():
        axis.plot(
            own["depth"], own["ceiling"], color=CEILING, linewidth=1, linestyle=":",
            label="unrelated photos (ceiling)",
        )  # fmt: skip
