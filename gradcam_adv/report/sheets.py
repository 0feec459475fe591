"""Sheets of heatmaps over photos, from what the stage evaluate kept: Figures 1 and 5."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from matplotlib import patheffects
from matplotlib.lines import Line2D

from gradcam_adv.explain import gradcam
from gradcam_adv.files import artifacts
from gradcam_adv.metrics import regions
from gradcam_adv.plots import overlays
from gradcam_adv.report.cells import headline_rows, name_of_row, select, title_of
from gradcam_adv.study.setting import TARGETS, condition_key, example_rows, signs_of, slice_of
from gradcam_adv.study.stages.score import scores

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from gradcam_adv.study.setting import Setting

# Test photos on Figure 1.
SHOWN = 4
# Letters of a name that fit above or below a tile.
NAME = 20
_MARKS = "below each: who the network takes it for, ✓ rightly or ✗ wrongly"
# White and a vermilion that colour-blind readers tell from it, apart by dashes as well.
CLEAN, ATTACKED = "white", "#d55e00"
_DASHES: dict[str, Literal["--", "-"]] = {CLEAN: "--", ATTACKED: "-"}
# What lies around a line, so that it shows on light and dark.
_EDGE: list[patheffects.AbstractPathEffect] = [
    patheffects.withStroke(linewidth=2.6, foreground="black")
]
# Room below the sheet in inches: for the caveat, and for a legend above it.
_CAVEAT, _LEGEND = 0.4, 0.3


def shift_on_examples(setting: Setting, predictions: pd.DataFrame, mod: pd.DataFrame) -> Figure:
    """Figure 1: heatmaps of test photos, clean and attacked, regions outlined, centroids' ways.

    Of the network whose MOD at the highest epsilon is the largest; the photos are spread evenly
    over the test set and not chosen for what they show.

    Args:
        setting: of the arm.
        predictions: one row a photo, network, attack and epsilon.
        mod: of :func:`gradcam_adv.study.tables.mod`.
    """
    epsilon = max(setting.study.attacked_epsilons)
    shifted = select(headline_rows(setting, mod), attack="black-box", epsilon=epsilon)
    network = str(shifted["network"].iloc[shifted["mod"].argmax()])
    rows = np.unique(np.linspace(0, len(setting.test) - 1, SHOWN).round().astype(int)).tolist()
    levels = (0.0, epsilon)
    tiles = _tiles(setting, [(network, row) for row in rows], levels)
    maps = np.stack([[_map(setting, network, row, level) for row in rows] for level in levels])
    # At the size at which the outlines are drawn.
    shifts = select(
        scores(setting, network),
        attack="black-box",
        epsilon=epsilon,
        target=setting.study.readings.explained_class,
        size="input",
    ).set_index("photo")
    captions = [
        [_predicted(setting, predictions, network, row, level) for row in rows] for level in levels
    ]
    for caption, row in enumerate(rows):
        captions[1][caption] += "\n" + _in_numbers(shifts.loc[setting.test["photo"].iloc[row]])
    figure = overlays.sheet(
        tiles.swapaxes(0, 1),
        ["clean", f"black-box\nε = {epsilon:g}"],
        [_name(setting, setting.test["label"].iloc[row]) for row in rows],
        _title(
            len(rows),
            f"The shift of the region of attention, {name_of_row(setting, network)}, on photos "
            "spread evenly over the test set",
        ),
        captions,
    )
    axes = np.reshape(np.array(figure.axes[:-1]), (len(levels), len(rows)))
    outlined = regions.region(gradcam.resize(maps, setting.study.image_size))
    for column, (clean, attacked) in enumerate(zip(*outlined, strict=True)):
        _outline(axes[0, column], clean, CLEAN)
        _outline(axes[1, column], clean, CLEAN)
        _outline(axes[1, column], attacked, ATTACKED)
        _arrow(axes[1, column], *regions.centroid([clean, attacked]))
    _legend(figure)
    return figure


def black_box_heatmaps(setting: Setting, predictions: pd.DataFrame) -> Figure:
    """Figure 5: the last layer's heatmap of the first example photo, networks by epsilons.

    Each map lies on the photo that it explains, clean or perturbed.

    Args:
        setting: of the arm.
        predictions: one row a photo, network, attack and epsilon.
    """
    networks, levels = setting.study.networks, setting.study.epsilons
    row = int(example_rows(setting)[0])
    captions = [
        [_predicted(setting, predictions, network, row, level) for level in levels]
        for network in networks
    ]
    figure = overlays.sheet(
        _tiles(setting, [(network, row) for network in networks], levels),
        [name_of_row(setting, network).replace(" (", "\n(") for network in networks],
        [f"ε = {level:g}" for level in levels],
        _title(
            len(levels),
            f"{setting.test['photo'].iloc[row]}: heatmaps of the last layer, black-box attack "
            f"from {title_of(setting.study.source)}",
        ),
        captions,
    )
    _leave_below(figure, _CAVEAT)
    return figure


def _title(columns: int, title: str) -> str:
    """In lines that fit above a sheet of so many columns."""
    return "\n".join(textwrap.fill(line, 16 * columns + 22) for line in (title, _MARKS))


def _tiles(
    setting: Setting, examples: list[tuple[str, int]], levels: tuple[float, ...]
) -> np.ndarray:
    """Overlays, (examples, levels, H, W, 3), of networks and rows of the test set."""
    return np.stack(
        [
            [
                overlays.overlay(
                    _photo(setting, network, row, level), _map(setting, network, row, level)
                )
                for level in levels
            ]
            for network, row in examples
        ]
    )


def _map(setting: Setting, network: str, row: int, epsilon: float) -> np.ndarray:
    """The last layer's heatmap, (h, w), of a test photo under the black-box attack."""
    key = condition_key("black-box" if epsilon else "clean", epsilon)
    target = TARGETS.index(setting.study.readings.explained_class)
    name, _, (place,) = slice_of(setting, row)
    path = setting.folders[f"evaluate/{network}"] / f"last-{name}.npz"
    with artifacts.read_arrays(path) as maps:
        return maps[key][place, target]


def _photo(setting: Setting, network: str, row: int, epsilon: float) -> np.ndarray:
    """A test photo, (H, W, 3), as ``network`` gets it under the black-box attack."""
    name, rows, place = slice_of(setting, row)
    exact = setting.pixels(rows.iloc[place])
    if not epsilon:
        return setting.read_again(exact)[0]
    signs = signs_of(setting, "black-box", network, name, rows)
    return setting.perturb(network, exact, signs[place], epsilon)[0]


def _predicted(
    setting: Setting, predictions: pd.DataFrame, network: str, row: int, epsilon: float
) -> str:
    photo = setting.test["photo"].iloc[row]
    found = select(
        predictions, network=network, attack="black-box", epsilon=epsilon, photo=photo
    ).iloc[0]
    mark = "✓" if found["predicted"] == found["label"] else "✗"
    return f"{mark} {_name(setting, found['predicted'])}"


def _name(setting: Setting, label: int) -> str:
    """Who a class is, short enough for a tile."""
    return overlays.shortened(setting.people[label], NAME)


def _in_numbers(shift: pd.Series) -> str:
    if np.isnan(shift["moved"]):
        return "an empty map"
    return (
        f"lost {100 * shift['lost']:.0f} %, gained {100 * shift['gained']:.0f} %,\n"
        f"moved {100 * shift['moved']:.0f} %"
    )


def _outline(axis: Axes, region: np.ndarray, colour: str) -> None:
    if region.any() and not region.all():  # a line around all or nothing can't be drawn
        lines = axis.contour(
            region, levels=[0.5], colors=colour, linewidths=1.2, linestyles=_DASHES[colour]
        )
        lines.set_path_effects(_EDGE)


def _arrow(axis: Axes, start: np.ndarray, end: np.ndarray) -> None:
    """From one centroid, (row, column), to the other; nothing where one is not known."""
    if np.isnan([*start, *end]).any():
        return
    style = {"arrowstyle": "-|>", "color": ATTACKED, "linewidth": 1.6, "shrinkA": 0, "shrinkB": 0}
    tail, tip = (start[1], start[0]), (end[1], end[0])
    arrow = axis.annotate("", xy=tip, xytext=tail, arrowprops=style)
    if arrow.arrow_patch is not None:
        arrow.arrow_patch.set_path_effects(_EDGE)
    axis.plot(*tail, "o", color=CLEAN, markeredgecolor="black", markersize=4)


def _legend(figure: Figure) -> None:
    lines = [
        Line2D([], [], color=colour, linestyle=_DASHES[colour], path_effects=_EDGE, label=label)
        for colour, label in (
            (CLEAN, "region of the clean photo (half the maximum)"),
            (ATTACKED, "region of the attacked photo, and the way of the centroid"),
        )
    ]
    _leave_below(figure, _CAVEAT + _LEGEND)
    figure.legend(
        handles=lines,
        loc="lower center",
        bbox_to_anchor=(0.5, _CAVEAT / figure.get_figheight()),
        fontsize=7,
        ncols=2,
        handlelength=4,
        facecolor="lightgrey",  # white lines have to show
    )


def _leave_below(figure: Figure, inches: float) -> None:
    """Make the figure longer by as much, and keep that free."""
    figure.set_figheight(figure.get_figheight() + inches)
    share = inches / figure.get_figheight()
    figure.set_layout_engine("constrained", rect=(0, share, 1, 1 - share))
