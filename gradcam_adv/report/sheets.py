"""Figures 1 and 5: heatmaps over photos, from what the stage "evaluate" kept."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from matplotlib import patheffects
from matplotlib.lines import Line2D

from gradcam_adv import metrics
from gradcam_adv.explain.heatmaps import resize
from gradcam_adv.models.backbones import title
from gradcam_adv.plots import style
from gradcam_adv.plots.overlays import overlay, sheet, shortened
from gradcam_adv.report.example_photos import Example, at_last_layer
from gradcam_adv.report.text import marked_source
from gradcam_adv.study.attacks import BLACK_BOX
from gradcam_adv.study.plan import ArmPlan
from gradcam_adv.study.tables import select

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Test photos on Figure 1.
SHOWN = 4
# Letters of a name that fit above or below a tile.
NAME = 20
_MARKS = "below each: the predicted person, ✓ right or ✗ wrong"
# Outlines; dashes distinguish them as well.
CLEAN, ATTACKED = "white", style.ATTACK
_DASHES: dict[str, Literal["--", "-"]] = {CLEAN: "--", ATTACKED: "-"}
# Drawn around a line, so that it shows on light and dark.
_EDGE: list[patheffects.AbstractPathEffect] = [
    patheffects.withStroke(linewidth=2.6, foreground="black")
]
# Room for the legend below a sheet, in inches.
_LEGEND = 0.3


def shift_on_examples(plan: ArmPlan, predictions: pd.DataFrame, mod: pd.DataFrame) -> Figure:
    """Figure 1: heatmaps of test photos, clean and attacked, with regions and moves of centroids.

    Of the network with the largest MOD at the largest epsilon. The photos are spread evenly over
    the test set, not chosen for what they show.
    """
    test, epsilon = plan.photos.test, max(plan.study.attacked_epsilons)
    attacked = {"attack": BLACK_BOX, "epsilon": epsilon}
    shifted = select(plan.headline(mod), **attacked)
    network = str(shifted["network"].iloc[shifted["mod"].argmax()])
    rows = np.unique(np.linspace(0, len(test) - 1, SHOWN).round().astype(int)).tolist()
    people = [plan.people[label] for label in test["label"].iloc[rows]]
    examples = [at_last_layer(plan, network, row, (0.0, epsilon), predictions) for row in rows]
    # At the size at which the outlines are drawn.
    target = plan.study.readings.explained_class
    nissim = select(plan.score[network].of_study(), **attacked, target=target, size="input")
    shifts = nissim.set_index("photo").loc[test["photo"].iloc[rows]]
    captions = [_predicted(pair, person) for pair, person in zip(examples, people, strict=True)]
    for caption, (_, shift) in zip(captions, shifts.iterrows(), strict=True):
        caption[1] += "\n" + _in_numbers(shift)
    figure = sheet(
        _tiles(examples).swapaxes(0, 1),
        ["clean", f"black-box\nε = {epsilon:g}"],
        [shortened(person, NAME) for person in people],
        _title(
            len(rows),
            f"{title(network)} looks elsewhere (of the networks its MOD is largest), on photos "
            "spread evenly over the test set",
        ),
        [list(of_level) for of_level in zip(*captions, strict=True)],
    )
    axes = np.reshape(np.array(figure.axes[:-1]), (2, len(rows)))
    maps = np.stack([[example.maps["last"] for example in pair] for pair in examples], axis=1)
    outlined = metrics.region(resize(maps, plan.study.image_size))
    for (upper, lower), clean, changed in zip(axes.T, *outlined, strict=True):
        _outline(upper, clean, CLEAN)
        _outline(lower, clean, CLEAN)
        _outline(lower, changed, ATTACKED)
        _arrow(lower, *metrics.centroid([clean, changed]))
    _legend(figure)
    return figure


def black_box_heatmaps(plan: ArmPlan, predictions: pd.DataFrame) -> Figure:
    """Figure 5: the last layer's heatmap of the first example photo, networks by epsilons.

    Each map lies on the photo that it explains, clean or perturbed.
    """
    networks, epsilons = plan.study.networks, plan.study.epsilons
    row = int(plan.explain[networks[0]].rows[0])
    case = plan.photos.test.iloc[row]
    examples = [at_last_layer(plan, network, row, epsilons, predictions) for network in networks]
    figure = sheet(
        _tiles(examples),
        [marked_source(network, plan.study.source).replace(" (", "\n(") for network in networks],
        [f"ε = {epsilon:g}" for epsilon in epsilons],
        _title(
            len(epsilons),
            f"Where each network looks as ε of the black-box attack from "
            f"{title(plan.study.source)} grows, on {case['photo']}",
        ),
        [_predicted(of_network, plan.people[case["label"]]) for of_network in examples],
    )
    return figure


def _title(columns: int, heading: str) -> str:
    """In lines that fit above a sheet of so many columns."""
    return "\n".join(textwrap.fill(line, 16 * columns + 22) for line in (heading, _MARKS))


def _tiles(examples: list[list[Example]]) -> np.ndarray:
    return np.stack([[overlay(e.pixels, e.maps["last"]) for e in line] for line in examples])


def _predicted(examples: list[Example], person: str) -> list[str]:
    """Whom the network predicts, and whether it is right."""
    predicted = [example.predicted for example in examples]
    return [f"{'✓' if name == person else '✗'} {shortened(name, NAME)}" for name in predicted]


def _in_numbers(shift: pd.Series) -> str:
    if np.isnan(shift["moved"]):
        return "an empty map"
    return (
        f"lost {100 * shift['lost']:.0f} %, gained {100 * shift['gained']:.0f} %,\n"
        f"moved {100 * shift['moved']:.0f} %"
    )


def _outline(axis: Axes, region: np.ndarray, colour: str) -> None:
    if region.any() and not region.all():  # otherwise there is no line to draw
        lines = axis.contour(
            region, levels=[0.5], colors=colour, linewidths=1.2, linestyles=_DASHES[colour]
        )
        lines.set_path_effects(_EDGE)


def _arrow(axis: Axes, start: np.ndarray, end: np.ndarray) -> None:
    """From one centroid, (row, column), to the other; nothing if one is not known."""
    if np.isnan([*start, *end]).any():
        return
    shape = {"arrowstyle": "-|>", "color": ATTACKED, "linewidth": 1.6, "shrinkA": 0, "shrinkB": 0}
    tail, tip = (start[1], start[0]), (end[1], end[0])
    arrow = axis.annotate("", xy=tip, xytext=tail, arrowprops=shape)
    if arrow.arrow_patch is not None:
        arrow.arrow_patch.set_path_effects(_EDGE)
    axis.plot(*tail, "o", color=CLEAN, markeredgecolor="black", markersize=4)


def _legend(figure: Figure) -> None:
    lines = [
        Line2D([], [], color=colour, linestyle=_DASHES[colour], path_effects=_EDGE, label=label)
        for colour, label in (
            (CLEAN, "region of the clean photo (half the maximum)"),
            (ATTACKED, "region of the attacked photo, and the move of the centroid"),
        )
    ]
    figure.set_figheight(figure.get_figheight() + _LEGEND)
    share = _LEGEND / figure.get_figheight()
    figure.set_layout_engine("constrained", rect=(0, share, 1, 1 - share))
    figure.legend(
        handles=lines,
        loc="lower center",
        fontsize=7,
        ncols=2,
        handlelength=4,
        facecolor="lightgrey",  # white lines have to show
    )
