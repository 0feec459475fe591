"""How numbers, names and tables are written in the report, and what every one of them rests on."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from gradcam_adv.models import backbones
from gradcam_adv.study.setting import Setting

# The name of a row below a network's own: its control.
NOISE_ROW = "– random-sign noise"

_MARKUP = re.compile(
    r"[\\`*|~]|<(?=[\w/!?])|\](?=[(\[:])|&(?=#|\w+;)|(?<!\w)_|_(?!\w)",
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def caveat(setting: Setting) -> str:
    """One line on what every number of this arm rests on; it stands over each table and figure."""
    table, options = setting.table, setting.study
    other = " (not VGGFace2)" if options.other_data else ""
    how = "photos as they are"
    if setting.arm == "aligned":
        how = f"faces aligned by MTCNN, margin {options.margin:g}"
    random = [n for n, weights in setting.weights.items() if weights.origin == "random"]
    if not random:
        bases = "pretrained bases"
    elif len(random) == len(options.networks):
        bases = "RANDOM BASES, batch norm calibrated, no ImageNet"
    else:
        bases = f"RANDOM BASES (no ImageNet): {', '.join(random)}"
    precision = "" if options.precision == "float32" else f"{options.precision.upper()}; "
    return (
        f"{setting.listing.title}{other}, {how}, {table['identity'].nunique()} people, "
        f"{len(table)} photos, {len(setting.test)} in the test set; {options.image_size} px; "
        f"{precision}{bases}"
    )


def headline_rows(setting: Setting, table: pd.DataFrame) -> pd.DataFrame:
    """The rows read as the study's readings say: which class is explained, at which size."""
    readings = setting.study.readings
    own = table[table["target"] == readings.explained_class]
    return own[own["size"] == readings.heatmap_size]


def title_of(network: str) -> str:
    return backbones.BACKBONES[network].title


def percent(value: float) -> str:
    return "–" if value is None or math.isnan(value) else f"{100 * value:.2f}"


def number(value: float) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.4f}"


def interval(value: float, low: float, high: float, as_percent: bool = False) -> str:
    show = percent if as_percent else number
    return f"{show(value)} [{show(low)}, {show(high)}]"


def markdown(rows: Sequence[Mapping[Any, Any]]) -> str:
    """A table whose cells are text, whatever names of photos and people they hold."""
    shown = pd.DataFrame(rows).map(lambda cell: escaped(str(cell)))
    return str(shown.to_markdown(index=False, disable_numparse=True))


def escaped(text: str) -> str:
    """Text for Markdown on one line, with a backslash where a tag, link, code or the like begins.

    What only looks like it stays readable: "block1_conv1", "0.5 [0.4, 0.6]", "p < 0.05".
    """
    return _MARKUP.sub(r"\\\g<0>", _CONTROL.sub(" ", text))


def name_of_row(setting: Setting, network: str) -> str:
    return marked_source(network, setting.study.source)


def marked_source(network: str, source: str) -> str:
    """The network's title; what stands for a black-box attack is none on the source itself."""
    title = title_of(network)
    return f"{title} (source: white-box)" if network == source else title


def select(table: pd.DataFrame, **values: object) -> pd.DataFrame:
    for column, value in values.items():
        table = table[table[column] == value]
    return table
