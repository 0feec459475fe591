"""Accuracy and MOD against epsilon, MOD between what noise does and its ceiling."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns

from gradcam_adv.cells import headline_rows, name_of_row, select, title_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from gradcam_adv.setting import Setting

# Blue, orange and grey of seaborn's palette for colour-blind readers.
ATTACK, NOISE, CEILING = (sns.color_palette("colorblind")[i] for i in (0, 1, 7))


def accuracy_and_mod(setting: Setting, accuracy: pd.DataFrame, mod: pd.DataFrame) -> Figure:
    """Both against epsilon under the black-box attack, a column a network, with 95 % intervals.

    Args:
        setting: of the arm.
        accuracy: of :func:`gradcam_adv.tables.accuracy`.
        mod: of :func:`gradcam_adv.tables.mod`.
    """
    networks = setting.study.networks
    width = 2.6 + 2.6 * len(networks)
    figure, axes = plt.subplots(
        2,
        len(networks),
        figsize=(width, 6.2),
        sharex=True,
        sharey="row",
        squeeze=False,
    )
    right = select(accuracy, attack="black-box")
    shifted = select(headline_rows(setting, mod), attack="black-box")
    for column, network in enumerate(networks):
        upper, lower = axes[:, column]
        _with_interval(upper, select(right, network=network), "accuracy")
        own = select(shifted, network=network).sort_values("epsilon")
        _with_interval(lower, own, "mod")
        lower.plot(
            own["epsilon"], own["mod_noise"], color=NOISE, linestyle="--", marker="s",
            markersize=3.5, clip_on=False, label="random-sign noise",
        )  # fmt: skip
        lower.axhline(
            own["ceiling"].iloc[0], color=CEILING, linestyle=":", label="unrelated photos (ceiling)"
        )
        upper.set_title(name_of_row(setting, network).replace(" (", "\n("), fontsize=10)
        lower.set_xlabel("ε")
        lower.locator_params(axis="x", nbins=3)
    axes[0, 0].set_ylabel("accuracy")
    axes[0, 0].set_ylim(0, 1.02)
    axes[1, 0].set_ylabel("MOD (mean NISSIM)")
    axes[1, 0].set_ylim(bottom=0)
    for axis in axes.flat:
        axis.grid(axis="y", alpha=0.3)
    axes[1, -1].legend(fontsize=9, loc="upper left", bbox_to_anchor=(1.02, 1), frameon=False)
    title = f"Accuracy and MOD under the black-box attack from {title_of(setting.study.source)}, "
    figure.suptitle(textwrap.fill(f"{title}with 95 % intervals", int(10 * width)), fontsize=12)
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    return figure


def _with_interval(axis: Axes, table: pd.DataFrame, value: str) -> None:
    own = table.sort_values("epsilon")
    axis.fill_between(own["epsilon"], own["low"], own["high"], color=ATTACK, alpha=0.2, linewidth=0)
    # Not clipped, for points lie on the axes.
    axis.plot(
        own["epsilon"], own[value], color=ATTACK, marker="o", markersize=4, clip_on=False,
        label="attack",
    )  # fmt: skip
