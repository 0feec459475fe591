"""The smallest epsilons at which predictions flip, and the heatmaps just before and after."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from gradcam_adv.plots import fonts, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def flips(smallest: pd.DataFrame, title: str = "Where predictions flip") -> Figure:
    """Left the share of images that have flipped, over epsilon; right NISSIM before and after.

    Args:
        smallest: as of :func:`gradcam_adv.smallest_epsilons`; of several layers the last is shown.
        title: above the plot.

    Raises:
        ValueError: a column is missing, or no image flips.
    """
    import matplotlib.pyplot as plt

    columns = {"layer", "epsilon", "nissim_below", "nissim", "nissim_held"}
    if missing := columns - set(smallest.columns):
        raise ValueError(f"Expected a table with {', '.join(sorted(missing))}. Received: none")
    layer = smallest["layer"].iloc[-1]
    rows = smallest[smallest["layer"] == layer]
    flipped = rows[np.isfinite(rows["epsilon"]) & (rows["epsilon"] > 0)]
    if flipped.empty:
        raise ValueError("Expected images whose prediction flips. Received: none")
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
    wrong = (rows["epsilon"] == 0).sum()
    rising = np.sort(flipped["epsilon"])
    shares = (wrong + np.arange(1, len(rising) + 1)) / len(rows)
    left.step([rising[0], *rising], [wrong / len(rows), *shares], where="post", color=style.ATTACK)
    left.set_xscale("log")
    left.set_ylim(0, 1)
    left.set_xlabel("ε")
    left.set_ylabel(f"share of {len(rows)} images predicted as another class")
    names = ("just before", "just after,\nclass held", "just after,\nclass predicted")
    values = [flipped[name] for name in ("nissim_below", "nissim_held", "nissim")]
    right.boxplot(values, tick_labels=names, medianprops={"color": style.ATTACK})
    right.set_ylabel(f"NISSIM with the clean heatmap, {fonts.drawable(layer)}", parse_math=False)
    right.set_ylim(bottom=0)
    for axis in (left, right):
        axis.grid(axis="y", alpha=0.3)
    figure.suptitle(title, fontsize=11, parse_math=False)
    return fonts.legible(figure)
