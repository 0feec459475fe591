"""Figures 6 to 10: sheets of the heatmaps of every layer of a network at every epsilon.

They are arrays with labels, not plots: five networks have 977 layers.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from gradcam_adv.files import text, write
from gradcam_adv.models.backbones import title
from gradcam_adv.plots.overlays import mixed, shortened
from gradcam_adv.plots.style import COLORMAP
from gradcam_adv.report.example_photos import Example, examples_of
from gradcam_adv.study.attacks import WHITE_BOX
from gradcam_adv.study.plan import ArmPlan

LAYERS_A_SHEET = 60
# Layers in a column; the next ones stand beside it.
LAYERS_A_COLUMN = 20
# In pixels: the side of a picture, the space between two, that of a label, and the rest.
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


def write_all(plan: ArmPlan, folder: Path, predictions: pd.DataFrame, caveat: str) -> list[Path]:
    """Draw the white-box attack on the first example photo; the caveat is in the files' metadata.

    For each network ``layers_<network>_blocks.png`` with the ends of blocks, and
    ``layers_<network>_1.png`` and following with all layers.
    """
    files = []
    for network, explain in plan.explain.items():
        row, layers = int(explain.rows[0]), explain.layer_names()
        levels = list(examples_of(plan, network, row, (WHITE_BOX,), layers, predictions))
        heading = f"{title(network)}, white-box attack: {photo(plan)}"
        chosen = {"blocks": explain.block_ends()} | {
            str(number): layers[start : start + LAYERS_A_SHEET]
            for number, start in enumerate(range(0, len(layers), LAYERS_A_SHEET), 1)
        }
        place = {layer: f"{number} of {len(layers)}" for number, layer in enumerate(layers, 1)}
        for name, shown in chosen.items():
            path = folder / f"layers_{network}_{name}.png"
            image = sheet(levels, {layer: place[layer] for layer in shown}, heading)
            about = PngImagePlugin.PngInfo()
            about.add_itxt("Title", heading)
            about.add_itxt("Description", caveat)
            with write.whole_file(path) as temporary:
                image.save(temporary, pnginfo=about, compress_level=write.PNG_LEVEL)
            files.append(path)
    return files


def photo(plan: ArmPlan) -> str:
    """The photo of the sheets, in words."""
    row = int(next(iter(plan.explain.values())).rows[0])
    case = plan.photos.test.iloc[row]
    return f"photo {text.shown(case['photo'])} of {plan.people[case['label']]}"


def sheet(levels: Sequence[Example], layers: dict[str, str], heading: str) -> Image.Image:
    """One column per epsilon and one row per layer, below the bare photos.

    ``layers`` has for each the second line of its label.
    """
    names = list(layers)
    columns = [
        _column(levels, {name: layers[name] for name in names[start : start + LAYERS_A_COLUMN]})
        for start in range(0, len(names), LAYERS_A_COLUMN)
    ]
    width = max(WIDTH, sum(column.width for column in columns))
    top = _heading(width, heading)
    whole = Image.new("RGB", (width, top.height + columns[0].height), "white")
    whole.paste(top)
    for number, column in enumerate(columns):
        whole.paste(column, (number * column.width, top.height))
    return whole


def _column(levels: Sequence[Example], layers: dict[str, str]) -> Image.Image:
    """The photos and some layers below each other, with their labels."""
    step, top = TILE + GAP, 2 * LINE + GAP
    left = MARGIN + LABEL
    size = (left + len(levels) * step + MARGIN, top + (1 + len(layers)) * step + MARGIN)
    image = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(image), _font(TEXT)
    for row, (name, place) in enumerate([("photo", ""), *layers.items()]):
        # A layer's name has no blanks, so it is broken anywhere.
        label = "\n".join([*textwrap.wrap(name, LABEL // 8), place])
        middle = top + row * step + TILE // 2
        draw.multiline_text((MARGIN, middle), label, "black", font, anchor="lm")
    for column, level in enumerate(levels):
        x, photo = left + column * step, _tile(level.pixels)
        label = f"ε = {level.epsilon:g}\n{shortened(level.predicted, NAME)}"
        draw.multiline_text((x, 0), label, "black", font)
        tiles = [photo, *(mixed(photo, _large(level.maps[name])) for name in layers)]
        for row, tile in enumerate(tiles):
            pixels = Image.fromarray((tile * 255).round().astype(np.uint8))
            image.paste(pixels, (x, top + row * step))
    return image


def _heading(width: int, heading: str) -> Image.Image:
    """Heading and the colour scale."""
    titles = textwrap.wrap(heading, width // 10)
    height = MARGIN + len(titles) * (LINE + GAP) + 3 * LINE
    image = Image.new("RGB", (width, height), "white")
    draw, font, y = ImageDraw.Draw(image), _font(TEXT), MARGIN
    for line in titles:
        draw.text((MARGIN, y), line, "black", _font(TITLE))
        y += LINE + GAP
    low, high = "no participation", "high; colours lie over the photo at half their strength"
    left = MARGIN + int(font.getlength(low)) + 8
    colours = matplotlib.colormaps[COLORMAP](np.linspace(0, 1, BAR[0]), bytes=True)
    bar = np.broadcast_to(colours[None, :, :3], (BAR[1], BAR[0], 3))
    y += LINE // 2
    draw.text((MARGIN, y), low, "black", font)
    image.paste(Image.fromarray(np.ascontiguousarray(bar)), (left, y + 2))
    draw.text((left + BAR[0] + 8, y), high, "black", font)
    return image


def _font(size: int) -> ImageFont.FreeTypeFont:
    # This font comes with Matplotlib, so every machine has it.
    return ImageFont.truetype(font_manager.findfont("DejaVu Sans"), size)


def _tile(pixels: np.ndarray) -> np.ndarray:
    image = Image.fromarray((pixels * 255).round().astype(np.uint8))
    return np.asarray(image.resize((TILE, TILE), Image.Resampling.BILINEAR), np.float32) / 255


def _large(values: np.ndarray) -> np.ndarray:
    """A heatmap at a tile's size, bilinear."""
    image = Image.fromarray(values.astype(np.float32))
    return np.clip(np.asarray(image.resize((TILE, TILE), Image.Resampling.BILINEAR)), 0, 1)
