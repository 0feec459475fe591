"""What the report's figures share: a column per network, a legend on the right, and their files."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import matplotlib

matplotlib.use("Agg")  # figures go to files, also on machines without a screen

import matplotlib.pyplot as plt
import numpy as np

from gradcam_adv.files import write
from gradcam_adv.report.text import marked_source

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def panels(
    networks: Sequence[str],
    source: str,
    size: tuple[float, float],
    rows: int = 1,
    sharex: bool = True,
    sharey: bool | Literal["row"] = "row",
) -> tuple[Figure, np.ndarray]:
    """A figure with a titled column per network, and its axes, (rows, networks)."""
    figure, axes = plt.subplots(
        rows, len(networks), figsize=size, sharex=sharex, sharey=sharey, squeeze=False
    )
    for axis, network in zip(axes[0], networks, strict=True):
        axis.set_title(marked_source(network, source).replace(" (", "\n("), fontsize=10)
    return figure, axes


def legend_at_the_right(axis: Axes) -> None:
    """A legend beside the axis, with one entry for all lines of a kind."""
    handles, labels = axis.get_legend_handles_labels()
    shown = dict(zip(labels, handles, strict=True))
    axis.legend(
        shown.values(), shown, fontsize=9, loc="upper left", bbox_to_anchor=(1.02, 1), frameon=False
    )


def save(drawn: Mapping[str, Figure], folder: Path, caveat: str) -> list[Path]:
    """Write figures by name as PNG and SVG with ``caveat`` at the foot, and close them."""
    files = []
    for name, figure in drawn.items():
        # About 18 letters of this size are an inch wide.
        foot = textwrap.fill(caveat, min(110, int(18 * figure.get_figwidth())))
        figure.text(0.01, 0.005, foot, fontsize=7, va="bottom", parse_math=False)
        _settle(figure)
        # A fixed salt and no date: equal runs give equal files.
        for suffix, metadata in ((".png", {}), (".svg", {"Date": None})):
            path = folder / f"{name}{suffix}"
            with (
                write.whole_file(path) as temporary,
                plt.rc_context({"svg.hashsalt": "gradcam-adv"}),
            ):
                figure.savefig(temporary, dpi=150, metadata=metadata)
            files.append(path)
        plt.close(figure)
    return files


def _settle(figure: Figure) -> None:
    """Fix the axes at rounded positions.

    The solver of constrained layouts gives other last digits in every process, and names in SVG
    files are hashes of positions.
    """
    if figure.get_layout_engine() is None:
        return
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axes in figure.axes:
        left, bottom, width, height = axes.get_position(original=True).bounds
        axes.set_position((round(left, 5), round(bottom, 5), round(width, 5), round(height, 5)))
