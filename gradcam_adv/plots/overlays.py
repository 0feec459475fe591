"""Heatmaps laid over images, and labelled sheets of such pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib
import numpy as np
import numpy.typing as npt

from gradcam_adv import validation
from gradcam_adv.explain.heatmaps import resize
from gradcam_adv.plots import fonts
from gradcam_adv.plots.style import COLORMAP

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def overlay(images: npt.ArrayLike, heatmaps: npt.ArrayLike, strength: float = 0.5) -> np.ndarray:
    """Heatmaps in colours, mixed with their images.

    Args:
        images: (..., H, W, 3) or (..., H, W, 1), values in [0, 1].
        heatmaps: (..., h, w) with the same leading shape, values in [0, 1]. They are resized to
            the images, bilinearly.
        strength: of the colours, from 0 (image only) to 1 (heatmap only).

    Returns:
        float32 (..., H, W, 3), values in [0, 1].

    Raises:
        ValueError: shapes that do not match, or values outside [0, 1].

    Example:
        >>> import numpy as np
        >>> overlay(np.zeros((2, 8, 8, 3)), np.ones((2, 4, 4))).shape
        (2, 8, 8, 3)
    """
    pixels, maps = np.asarray(images), np.asarray(heatmaps)
    if pixels.ndim < 3 or pixels.shape[:-3] != maps.shape[:-2] or pixels.shape[-1] not in (1, 3):
        raise ValueError(
            "Expected images (..., H, W, 3 or 1) and one heatmap (..., h, w) for each. "
            f"Received: shapes {pixels.shape} and {maps.shape}"
        )
    pixels, maps = validation.check_pixels(pixels), validation.check_pixels(maps, "heatmaps")
    if not 0 <= strength <= 1:
        raise ValueError(f"Expected a strength from 0 to 1. Received: {strength}")
    return mixed(pixels, resize(maps, pixels.shape[-3:-1]), strength)


def mixed(
    pixels: np.ndarray, maps: np.ndarray, strength: float = 0.5, colormap: str = COLORMAP
) -> np.ndarray:
    """:func:`overlay` of heatmaps that already have the size of the images."""
    colours = matplotlib.colormaps[colormap](maps)[..., :3].astype(np.float32)
    return (1 - strength) * pixels + strength * colours


def sheet(
    tiles: np.ndarray,
    rows: list[str],
    columns: list[str],
    title: str,
    captions: list[list[str]] | None = None,
) -> Figure:
    """A labelled grid of pictures with the heatmaps' colour scale beside it.

    Args:
        tiles: (rows, columns, H, W, 3), values in [0, 1].
        rows: a label for each.
        columns: a label for each.
        title: above the grid.
        captions: a text below each tile, by row and column.

    Returns:
        A figure. Its axes are those of the tiles, row by row, and then that of the scale.

    Raises:
        ValueError: tiles of another shape, or no label for a row or column.
    """
    import matplotlib.pyplot as plt

    height, width = len(rows), len(columns)
    shape = np.shape(tiles)
    if len(shape) != 5 or shape[:2] != (height, width) or shape[-1] != 3:
        raise ValueError(
            f"Expected tiles ({height}, {width}, H, W, 3), a row and a column for each label. "
            f"Received: shape {shape}"
        )
    lines = max((text.count("\n") + 1 for line in captions or [] for text in line), default=0)
    figure, axes = plt.subplots(
        height,
        width,
        figsize=(1.6 * width + 2.2, (1.6 + 0.14 * lines) * height + 1),
        squeeze=False,
        layout="constrained",
    )
    for row, line in enumerate(axes):
        for column, axis in enumerate(line):
            axis.imshow(tiles[row, column])
            axis.set_xticks([])
            axis.set_yticks([])
            if row == 0:
                # A dollar in a name starts no formula.
                name = shortened(fonts.drawable(columns[column]), 20)
                axis.set_title(name, fontsize=9, parse_math=False)
            if column == 0:
                label = shortened(fonts.drawable(rows[row]), 32)
                axis.set_ylabel(
                    label, fontsize=8, rotation=0, ha="right", va="center", parse_math=False
                )
            if captions is not None:
                axis.set_xlabel(captions[row][column], fontsize=7, parse_math=False)
    scale = plt.cm.ScalarMappable(cmap=COLORMAP)
    bar = figure.colorbar(scale, ax=axes, fraction=0.03, pad=0.02, ticks=[0, 1])
    bar.ax.set_yticklabels(["no\nparticipation", "high"], fontsize=8)
    heading = shortened(fonts.drawable(title), 40 + 14 * width)
    figure.suptitle(heading, fontsize=11, parse_math=False)
    return fonts.legible(figure)


def shortened(text: str, length: int) -> str:
    """Each line cut to at most ``length`` letters, with an ellipsis in its middle."""
    half = (length - 1) // 2
    lines = text.split("\n")
    return "\n".join(s if len(s) <= length else f"{s[:half]}…{s[-half:]}" for s in lines)
