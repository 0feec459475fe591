"""The page of a saved model on images or pairs of them, from the templates of a run's page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from gradcam_adv.files import text
from gradcam_adv.report import contents, overview, page, viewer
from gradcam_adv.report.text import counted, percent
from gradcam_adv.robustness import tables
from gradcam_adv.robustness.batches import Batch, Explained
from gradcam_adv.study.attacks import NOISE, WHITE_BOX
from gradcam_adv.study.tables import select

# The only arm of such a page.
ARM = "images"
# A viewer with more layers can't be read; they are spread evenly over the depth.
LAYERS = 24


def write_page(
    path: Path,
    *,
    model: str,
    explainer: str,
    layers: Sequence[str],
    attack: str,
    images: Sequence[str],
    noun: str,
    about: str,
    title: Callable[[int], str],
    examples: Iterable[Batch],
    measured: Mapping[str, pd.DataFrame],
    shown: Mapping[str, pd.DataFrame],
) -> None:
    """Write the page, with the figures that lie beside it.

    Args:
        path: of the page.
        model: its name; ``explainer`` and ``layers``: what explained it, and where; ``attack``:
            the name of the attack.
        images: their names; ``noun``: what they are, such as "image"; ``about``: what is attacked
            and explained.
        title: of a class that is predicted.
        examples: the first images with their controls, for the viewer.
        measured: by name, tables of :class:`gradcam_adv.Dissimilarity`: at least images and nissim;
            what the others would say is left out.
        shown: tables for readers, by heading.
    """
    epsilon = overview.smallest(measured["nissim"]["epsilon"].unique())
    values = dict.fromkeys(contents.PARTS) | {
        "title": model,
        "line": f"{attack} on {counted(len(images), noun)}, explained with {explainer} at "
        f"{counted(len(layers), 'layer')}; numbers of {layers[-1]}",
        "banner": [
            f"{counted(len(images), noun)} of one folder, which stand for no others",
            about,
        ],
        "epsilon": epsilon,
        "cards": {ARM: [_card(model, layers[-1], measured, epsilon, noun)]},
        "arms": {},
        "model": {"shown": shown, "explainer": explainer},
    }
    page.write_page(path, values, [_shown(model, layers, images, examples, title)], path.parent)


def _card(
    model: str, layer: str, measured: Mapping[str, pd.DataFrame], epsilon: float, noun: str
) -> overview.Card:
    own = {
        name: select(table, layer=layer) if "layer" in table else table
        for name, table in measured.items()
    }
    attack = own["nissim"].groupby("epsilon")["nissim"].mean().rename("mod").reset_index()
    numbers = {size: _numbers(own, attack, size, noun) for size in attack["epsilon"]}
    if own.get("gain", pd.DataFrame()).empty:
        return overview.Card(model, model, epsilon, numbers, "")
    noise = _noise(own)
    drawn = overview.plot(
        attack, noise.rename("mod").reset_index(), float(own["mod"]["unrelated"].iloc[0])
    )
    findings = {size: overview.finding(model, _gain(own, size)) for size in numbers}
    return overview.Card(model, model, epsilon, numbers, drawn, findings)


def _numbers(
    own: Mapping[str, pd.DataFrame], attack: pd.DataFrame, epsilon: float, noun: str
) -> list[overview.Number]:
    """The numbers at one epsilon, of the tables of one layer."""
    images = select(own["images"], epsilon=epsilon)
    changed = images["predicted"] != images["predicted_clean"]
    numbers = [
        overview.Number(
            "Predictions changed", "white-box", f"{percent(changed.mean(), 0)} %",
            f"{changed.sum()} of {counted(len(images), noun)}",
        )
    ]  # fmt: skip
    if own.get("gain", pd.DataFrame()).empty:
        mod = float(select(attack, epsilon=epsilon)["mod"].iloc[0])
        return [*numbers, overview.moved(mod)]
    row = select(own["mod"], epsilon=epsilon).iloc[0]
    numbers.append(overview.moved(row["mod"], row["mod_noise"], row["unrelated"]))
    numbers.append(overview.worth(_gain(own, epsilon)))
    if len(own["half_shift"]):
        half = own["half_shift"].rename(columns=lambda name: name.replace("attack", "half_shift"))
        numbers.append(overview.half_shift(half.assign(least=attack["epsilon"].min())))
    return numbers


def _noise(own: Mapping[str, pd.DataFrame]) -> pd.Series:
    """MOD of noise, by epsilon."""
    return select(own["controls"], control=NOISE).groupby("epsilon")["nissim"].mean()


def _gain(own: Mapping[str, pd.DataFrame], epsilon: float) -> pd.DataFrame:
    """The row of the gain over noise at one epsilon, with the largest noise tried."""
    gain = select(own["gain"], control=NOISE, epsilon=epsilon)
    return gain.assign(most=_noise(own).index.max())


def _shown(
    model: str,
    layers: Sequence[str],
    images: Sequence[str],
    examples: Iterable[Batch],
    title: Callable[[int], str],
) -> viewer.Shown:
    count = min(len(layers), LAYERS)
    names = [layers[i] for i in np.linspace(0, len(layers) - 1, count).round().astype(int)]
    photos = []
    for batch in examples:
        scored = pd.concat(
            [
                tables.nissim_of(batch, "input").assign(control=WHITE_BOX),
                tables.controls_of(batch, "input"),
            ]
        ).set_index(["image", "control", "epsilon", "layer"])["nissim"]
        conditions = [("clean", batch.clean)]
        conditions += [(WHITE_BOX, level) for level in batch.attacked]
        conditions += [(NOISE, level) for level in batch.noise]
        for i, number in enumerate(batch.numbers):
            levels = []
            for attack, level in conditions:
                maps, sizes = viewer.encode_maps([level.heatmaps[name][i] for name in names])
                nissim = tuple(
                    float(scored[number, attack, level.epsilon, name]) if level.epsilon else 0.0
                    for name in names
                )
                picture = viewer.encode_picture(_in_colour(level, i))
                predicted = title(level.predicted[i])
                levels.append(viewer.Level(attack, level.epsilon, picture, maps, predicted, nissim))
            name = text.shown(images[number])
            photos.append(viewer.Photo(name, levels[0].predicted, tuple(levels)))
    of_layers = tuple(viewer.Layer(name, *size) for name, size in zip(names, sizes, strict=True))
    return viewer.Shown(ARM, (viewer.Network(model, model, True, of_layers, tuple(photos)),))


def _in_colour(level: Explained, i: int) -> np.ndarray:
    """Pixels (H, W, 3), also of a grey image."""
    return np.broadcast_to(level.pixels[i], (*level.pixels.shape[1:3], 3))
