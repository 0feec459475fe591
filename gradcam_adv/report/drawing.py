"""What the report's figures share: a column per network, a legend on the right, and their files."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import matplotlib

matplotlib.use("Agg")  # figures go to files, also on machines without a screen

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from gradcam_adv.files import write
from gradcam_adv.plots import fonts, style
from gradcam_adv.report.text import marked_source

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# A fixed salt and no date: equal runs give equal files.
_SALTED: Any = {"svg.hashsalt": "gradcam-adv"}
_UNDATED: dict[str, str | None] = {"Date": None}


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


def finished(figure: Figure, heading: str, labelled: Sequence[Axes] | np.ndarray = ()) -> Figure:
    """Give a figure its heading, what it shows, and name the lines at the right of some axes."""
    figure.suptitle(textwrap.fill(heading, int(9 * figure.get_figwidth())), fontsize=12)
    # The longest name is some 1.5 inches wide.
    right = 1 - 1.5 / figure.get_figwidth() if len(labelled) else 1
    figure.tight_layout(rect=(0, 0, right, 1))
    for axis in labelled:
        style.label_lines(axis)
    return figure


def span(values: pd.Series[float]) -> str:
    """The least and the largest, such as "0.12 to 0.31"; one number if they are shown alike."""
    least, most = f"{values.min():.2f}", f"{values.max():.2f}"
    return least if least == most else f"{least} to {most}"


def legend_at_the_right(axis: Axes) -> None:
    """A legend beside the axis, with one entry for all lines of a kind."""
    handles, labels = axis.get_legend_handles_labels()
    shown = dict(zip(labels, handles, strict=True))
    axis.legend(
        shown.values(), shown, fontsize=9, loc="upper left", bbox_to_anchor=(1.02, 1), frameon=False
    )


def save(drawn: Mapping[str, Figure], folder: Path, caveat: str) -> list[Path]:
    """Write figures by name as PNG and SVG, and close them.

    What they show and ``caveat`` are in the files' metadata, as "Title" and "Description".
    """
    files = []
    for name, figure in drawn.items():
        _settle(fonts.legible(figure))
        heading = " ".join(figure.get_suptitle().split())
        about: dict[str, str | None] = {"Title": heading, "Description": caveat}
        for suffix, metadata in ((".png", about), (".svg", about | _UNDATED)):
            path = folder / f"{name}{suffix}"
            with write.whole_file(path) as temporary, plt.rc_context(_SALTED):
                figure.savefig(temporary, dpi=150, metadata=metadata)
            files.append(path)
        plt.close(figure)
    return files


def svg(figure: Figure) -> bytes:
    """A figure as SVG; it is closed."""
    file = io.BytesIO()
    fonts.legible(figure)
    with plt.rc_context(_SALTED):
        figure.savefig(file, format="svg", metadata=_UNDATED)
    plt.close(figure)
    return file.getvalue()


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
