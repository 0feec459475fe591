"""Accuracy and MOD against epsilon, MOD between what noise does and its ceiling."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

from gradcam_adv.report.cells import headline_rows, marked_source, select, title_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from gradcam_adv.study.setting import Setting

# Blue, orange and grey of seaborn's palette for colour-blind readers.
ATTACK, NOISE, CEILING = (sns.color_palette("colorblind")[i] for i in (0, 1, 7))


def accuracy_and_mod(setting: Setting, accuracy: pd.DataFrame, mod: pd.DataFrame) -> Figure:
    """Both against epsilon under the black-box attack, a column a network, with 95 % intervals.

    Args:
        setting: of the arm.
        accuracy: of :func:`gradcam_adv.study.tables.accuracy`.
        mod: of :func:`gradcam_adv.study.tables.mod`.
    """
    networks = setting.study.networks
    figure, axes = _panels(networks, setting.study.source)
    right = select(accuracy, attack="black-box")
    shifted = select(headline_rows(setting, mod), attack="black-box")
    for (upper, lower), network in zip(axes.T, networks, strict=True):
        _with_interval(upper, select(right, network=network), "accuracy", "attack")
        own = select(shifted, network=network).sort_values("epsilon")
        _with_interval(lower, own, "mod", "attack")
        _with_controls(lower, own, "mod_noise", own["ceiling"].iloc[0])
    title = f"Accuracy and MOD under the black-box attack from {title_of(setting.study.source)}, "
    return _finished(figure, axes, f"{title}with 95 % intervals")


def across_seeds(across: pd.DataFrame, each: pd.DataFrame, source: str) -> Figure:
    """The same over the seeds of the training: a thin line a seed, their mean with its interval.

    Args:
        across: of :func:`gradcam_adv.paper.seeds.across`, of one arm.
        each: of :func:`gradcam_adv.paper.seeds.each`, of the same arm.
        source: the network on which the black-box attack is made.
    """
    networks = list(across["network"].unique())
    figure, axes = _panels(networks, source)
    for column, network in zip(axes.T, networks, strict=True):
        mean, values = select(across, network=network), select(each, network=network)
        for axis, quantity in zip(column, ("accuracy", "mod"), strict=True):
            for _, line in select(values, quantity=quantity).groupby("seed"):
                own = line.sort_values("epsilon")
                axis.plot(
                    own["epsilon"], own["value"], color=ATTACK, alpha=0.7, linewidth=0.8,
                    clip_on=False, label="each seed",
                )  # fmt: skip
            own = select(mean, quantity=quantity)
            _with_interval(axis, own, "mean", "mean of the seeds", linewidth=2.2)
        noise = select(mean, quantity="mod_noise").sort_values("epsilon")
        _with_controls(column[1], noise, "mean", select(mean, quantity="ceiling")["mean"].iloc[0])
    seeds = ", ".join(map(str, each["seed"].unique()))
    title = f"Accuracy and MOD under the black-box attack from {title_of(source)}, seeds {seeds} "
    return _finished(figure, axes, f"{title}and their mean with its 95 % interval over identities")


def _panels(networks: Sequence[str], source: str) -> tuple[Figure, np.ndarray]:
    """A column a network, accuracy above MOD."""
    figure, axes = plt.subplots(
        2,
        len(networks),
        figsize=(2.6 + 2.6 * len(networks), 6.2),
        sharex=True,
        sharey="row",
        squeeze=False,
    )
    for (upper, lower), network in zip(axes.T, networks, strict=True):
        upper.set_title(marked_source(network, source).replace(" (", "\n("), fontsize=10)
        lower.set_xlabel("ε")
    return figure, axes


def _finished(figure: Figure, axes: np.ndarray, title: str) -> Figure:
    axes[0, 0].set_ylabel("accuracy")
    axes[0, 0].set_ylim(0, 1.02)
    axes[1, 0].set_ylabel("MOD (mean NISSIM)")
    axes[1, 0].set_ylim(bottom=0)
    for axis in axes.flat:
        axis.grid(axis="y", alpha=0.3)
        axis.locator_params(axis="x", nbins=3)
    # Lines of one kind have one entry.
    handles, labels = axes[1, -1].get_legend_handles_labels()
    shown = dict(zip(labels, handles, strict=True))
    axes[1, -1].legend(
        shown.values(), shown, fontsize=9, loc="upper left", bbox_to_anchor=(1.02, 1), frameon=False
    )
    figure.suptitle(textwrap.fill(title, int(10 * figure.get_figwidth())), fontsize=12)
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    return figure


def _with_interval(
    axis: Axes, table: pd.DataFrame, value: str, label: str, linewidth: float = 1.5
) -> None:
    own = table.sort_values("epsilon")
    axis.fill_between(own["epsilon"], own["low"], own["high"], color=ATTACK, alpha=0.2, linewidth=0)
    # Not clipped, for points lie on the axes.
    axis.plot(
        own["epsilon"], own[value], color=ATTACK, marker="o", markersize=4, linewidth=linewidth,
        clip_on=False, label=label,
    )  # fmt: skip


def _with_controls(axis: Axes, table: pd.DataFrame, noise: str, ceiling: float) -> None:
    axis.plot(
        table["epsilon"], table[noise], color=NOISE, linestyle="--", marker="s", markersize=3.5,
        clip_on=False, label="random-sign noise",
    )  # fmt: skip
    axis.axhline(ceiling, color=CEILING, linestyle=":", label="unrelated photos (ceiling)")
