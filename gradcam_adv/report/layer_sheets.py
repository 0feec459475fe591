"""Figures 6 to 10: the heatmaps of every layer of a network, epsilon by epsilon, as sheets.

Drawn as arrays with labels, not as plots: five networks have 977 layers, each at every epsilon.
"""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

from gradcam_adv.files import artifacts
from gradcam_adv.plots import overlays
from gradcam_adv.report import cells, examples
from gradcam_adv.study.setting import block_ends, example_rows

if TYPE_CHECKING:
    from gradcam_adv.report.examples import Example
    from gradcam_adv.study.setting import Setting

# The paper's figure of each network.
FIGURES = {"vgg16": 6, "resnet50": 7, "resnet101": 8, "inceptionv3": 9, "xception": 10}
LAYERS_A_SHEET = 60
# Layers below each other before the next stand beside them.
LAYERS_A_COLUMN = 20
# In pixels: the side of a picture, the room between two, that of a label, and the rest.
TILE = 80
GAP = 4
LABEL = 170
MARGIN = 16
LINE = 18
BAR = (160, 12)
WIDTH = 640
TEXT, TITLE = 12, 16
# Letters of a name that fit above a picture.
NAME = 11


def write_all(setting: Setting, folder: Path, predictions: pd.DataFrame, caveat: str) -> list[Path]:
    """Draw the white-box attack on the first example photo.

    Of each network ``layers_<network>_blocks.png`` with the ends of blocks, and all layers in
    ``layers_<network>_1.png`` and on.
    """
    files = []
    row = int(example_rows(setting)[0])
    for network in setting.study.networks:
        layers = examples.all_layers(setting, network, row)
        levels = list(examples.levels(setting, network, row, ("white-box",), layers, predictions))
        title = f"{cells.title_of(network)}, white-box attack: {_photo(setting)}"
        chosen = {"blocks": block_ends(setting, network)} | {
            str(number): layers[start : start + LAYERS_A_SHEET]
            for number, start in enumerate(range(0, len(layers), LAYERS_A_SHEET), 1)
        }
        place = {layer: f"{number} of {len(layers)}" for number, layer in enumerate(layers, 1)}
        for name, shown in chosen.items():
            path = folder / f"layers_{network}_{name}.png"
            image = sheet(levels, {layer: place[layer] for layer in shown}, title, caveat)
            with artifacts.whole_file(path) as temporary:
                image.save(temporary)
            files.append(path)
    return files


def section(setting: Setting, caveat: str) -> list[str]:
    """The sheets' part of the report, in Markdown."""
    parts = [
        "## Figures 6-10: layer by layer under the white-box attack",
        f"> {caveat}",
        f"Heatmaps over {cells.escaped(_photo(setting))}, at the ends of blocks; every column is "
        "one ε, with the prediction below it. All layers are in "
        f"`figures/{setting.arm}/layers_<network>_<sheet>.png`.",
    ]
    for network in setting.study.networks:
        title = cells.title_of(network)
        papers = f" (the paper's Figure {FIGURES[network]})" if network in FIGURES else ""
        parts += [
            f"### {title}{papers}",
            f"![Heatmaps at the ends of blocks of {title}, from the clean photo to the largest "
            f"epsilon](figures/{setting.arm}/layers_{network}_blocks.png)",
        ]
    return parts


def _photo(setting: Setting) -> str:
    case = setting.test.iloc[int(example_rows(setting)[0])]
    return f"photo {case['photo']} of {setting.people[case['label']]}"


def sheet(
    levels: Sequence[Example], layers: dict[str, str], title: str, caveat: str
) -> Image.Image:
    """A column an epsilon and a row a layer, below the bare photos.

    Args:
        levels: the columns.
        layers: the rows, each with the second line of its label.
        title: above all.
        caveat: what the pictures rest on.
    """
    names = list(layers)
    columns = [
        _column(levels, {name: layers[name] for name in names[start : start + LAYERS_A_COLUMN]})
        for start in range(0, len(names), LAYERS_A_COLUMN)
    ]
    width = max(WIDTH, sum(column.width for column in columns))
    heading = _heading(width, title, caveat)
    whole = Image.new("RGB", (width, heading.height + columns[0].height), "white")
    whole.paste(heading)
    for number, column in enumerate(columns):
        whole.paste(column, (number * column.width, heading.height))
    return whole


def _column(levels: Sequence[Example], layers: dict[str, str]) -> Image.Image:
    """The photos and some layers below each other, with their labels."""
    photos = [_tile(level.pixels) for level in levels]
    rows = [("photo", "", photos)]
    for name, place in layers.items():
        maps = [_large(level.maps[name]) for level in levels]
        overlaid = [overlays.mixed(*pair) for pair in zip(photos, maps, strict=True)]
        rows.append((name, place, overlaid))
    step, top = TILE + GAP, 2 * LINE + GAP
    size = (top + len(rows) * step + MARGIN, 2 * MARGIN + LABEL + len(levels) * step, 3)
    pixels = np.full(size, 255, np.uint8)
    for y, (_, _, tiles) in zip(itertools.count(top, step), rows, strict=False):
        for x, tile in zip(itertools.count(MARGIN + LABEL, step), tiles, strict=False):
            pixels[y : y + TILE, x : x + TILE] = (tile * 255).round()
    image = Image.fromarray(pixels)
    draw, font = ImageDraw.Draw(image), _font(TEXT)
    for y, (name, place, _) in zip(itertools.count(top + TILE // 2, step), rows, strict=False):
        # A layer's name has no blanks to be wrapped at.
        label = "\n".join([*textwrap.wrap(name, LABEL // 8), place])
        draw.multiline_text((MARGIN, y), label, "black", font, anchor="lm")
    for x, level in zip(itertools.count(MARGIN + LABEL, step), levels, strict=False):
        label = f"ε = {level.epsilon:g}\n{overlays.shortened(level.predicted, NAME)}"
        draw.multiline_text((x, 0), label, "black", font)
    return image


def _heading(width: int, title: str, caveat: str) -> Image.Image:
    """Title, caveat and the scale of the colours."""
    titles = textwrap.wrap(title, width // 10)
    caveats = textwrap.wrap(caveat, width // 8)
    height = MARGIN + len(titles) * (LINE + GAP) + (len(caveats) + 3) * LINE
    image = Image.new("RGB", (width, height), "white")
    draw, font, y = ImageDraw.Draw(image), _font(TEXT), MARGIN
    for line in titles:
        draw.text((MARGIN, y), line, "black", _font(TITLE))
        y += LINE + GAP
    for line in caveats:
        draw.text((MARGIN, y), line, "black", font)
        y += LINE
    low, high = "no participation", "high; colours lie over the photo at half their strength"
    left = MARGIN + int(font.getlength(low)) + 8
    colours = matplotlib.colormaps[overlays.COLORMAP](np.linspace(0, 1, BAR[0]), bytes=True)
    bar = np.broadcast_to(colours[None, :, :3], (BAR[1], BAR[0], 3))
    y += LINE // 2
    draw.text((MARGIN, y), low, "black", font)
    image.paste(Image.fromarray(np.ascontiguousarray(bar)), (left, y + 2))
    draw.text((left + BAR[0] + 8, y), high, "black", font)
    return image


def _font(size: int) -> ImageFont.FreeTypeFont:
    # Matplotlib brings it along, on every machine.
    return ImageFont.truetype(font_manager.findfont("DejaVu Sans"), size)


def _tile(pixels: np.ndarray) -> np.ndarray:
    image = Image.fromarray((pixels * 255).round().astype(np.uint8))
    return np.asarray(image.resize((TILE, TILE), Image.Resampling.BILINEAR), np.float32) / 255


def _large(values: np.ndarray) -> np.ndarray:
    """A heatmap at a tile's size, bilinear."""
    image = Image.fromarray(values.astype(np.float32))
    return np.clip(np.asarray(image.resize((TILE, TILE), Image.Resampling.BILINEAR)), 0, 1)
