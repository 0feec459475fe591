"""Accuracy and MOD against epsilon, beside noise and unrelated photos."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from gradcam_adv.models.backbones import title
from gradcam_adv.plots import style
from gradcam_adv.report import drawing
from gradcam_adv.study.attacks import BLACK_BOX
from gradcam_adv.study.plan import ArmPlan
from gradcam_adv.study.tables import select

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def accuracy_and_mod(plan: ArmPlan, accuracy: pd.DataFrame, mod: pd.DataFrame) -> Figure:
    """Both against epsilon under the black-box attack, one column per network, with intervals."""
    networks, source = plan.study.networks, plan.study.source
    figure, axes = _panels(networks, source)
    accuracy = select(accuracy, attack=BLACK_BOX).sort_values("epsilon")
    mod = select(plan.headline(mod), attack=BLACK_BOX).sort_values("epsilon")
    for (upper, lower), network in zip(axes.T, networks, strict=True):
        shifted = select(mod, network=network)
        # Not clipped, since some points lie on the axes.
        own = select(accuracy, network=network)
        style.curve(upper, own, "accuracy", "attack", clip_on=False)
        style.curve(lower, shifted, "mod", "attack", clip_on=False)
        _controls(lower, shifted, "mod_noise", shifted["unrelated"].iloc[0])
    largest = accuracy["epsilon"].max()
    at_largest = select(mod, epsilon=largest)
    accuracies = select(accuracy, epsilon=largest)["accuracy"]
    mods, of_noise = at_largest["mod"], at_largest["mod_noise"]
    heading = (
        f"At ε = {largest:g} of the black-box attack from {title(source)} accuracy is "
        f"{drawing.span(accuracies)} and MOD {drawing.span(mods)}, that of noise "
        f"{drawing.span(of_noise)}"
    )
    return _finished(figure, axes, heading)


def across_seeds(across: pd.DataFrame, each: pd.DataFrame, source: str) -> Figure:
    """The same over the seeds of the training: a thin line per seed, and their mean with interval.

    ``across`` and ``each`` are the tables of :mod:`gradcam_adv.paper.seeds` of one arm.
    """
    networks, seeds = list(across["network"].unique()), each["seed"].unique()
    figure, axes = _panels(networks, source)
    across, each = (table.sort_values("epsilon", kind="stable") for table in (across, each))
    for column, network in zip(axes.T, networks, strict=True):
        for axis, quantity in zip(column, ("accuracy", "mod"), strict=True):
            values = select(each, network=network, quantity=quantity)
            for seed in seeds:
                line = select(values, seed=seed)
                axis.plot(
                    line["epsilon"], line["value"], color=style.ATTACK, alpha=0.7, linewidth=0.8,
                    clip_on=False,
                )  # fmt: skip
            mean = select(across, network=network, quantity=quantity)
            style.curve(axis, mean, "mean", "attack", linewidth=2.2, clip_on=False)
        noise = select(across, network=network, quantity="mod_noise")
        unrelated = select(across, network=network, quantity="unrelated")["mean"].iloc[0]
        _controls(column[1], noise, "mean", unrelated)
    spread = (across["greatest"] - across["least"]).groupby(across["quantity"]).max()
    heading = (
        f"From seed to seed ({', '.join(map(str, seeds))}) accuracy differs by up to "
        f"{spread['accuracy']:.2f} and MOD by up to {spread['mod']:.2f}"
    )
    return _finished(figure, axes, heading)


def _panels(networks: Sequence[str], source: str) -> tuple[Figure, np.ndarray]:
    """One column per network, accuracy above MOD."""
    figure, axes = drawing.panels(networks, source, (2.6 + 2.6 * len(networks), 6.2), rows=2)
    for axis in axes[1]:
        axis.set_xlabel("ε")
    return figure, axes


def _finished(figure: Figure, axes: np.ndarray, heading: str) -> Figure:
    axes[0, 0].set_ylabel("accuracy")
    axes[0, 0].set_ylim(0, 1.02)
    axes[1, 0].set_ylabel("MOD (mean NISSIM)")
    axes[1, 0].set_ylim(bottom=0)
    for axis in axes.flat:
        axis.grid(axis="y", alpha=0.3)
        axis.locator_params(axis="x", nbins=3)
    return drawing.finished(figure, heading, axes[:, -1])


def _controls(axis: Axes, table: pd.DataFrame, noise: str, unrelated: float) -> None:
    style.curve(axis, table, noise, "noise", band=False, clip_on=False)
    style.unrelated_level(axis, unrelated)
