"""Example photos, clean and attacked, with the heatmaps that ``explain`` left; no network runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from gradcam_adv.files import artifacts
from gradcam_adv.study.setting import Setting, condition_key, layers_in, signs_of, slice_of


@dataclass(frozen=True)
class Example:
    """One photo under one attack, or clean.

    Attributes:
        attack: "clean", "black-box" or "white-box".
        epsilon: 0 when clean.
        pixels: what the network gets, (H, W, 3) in [0, 1].
        maps: by layer, in [0, 1], at the layer's own size.
        predicted: name of the predicted identity.
    """

    attack: str
    epsilon: float
    pixels: np.ndarray
    maps: dict[str, np.ndarray]
    predicted: str


def levels(
    setting: Setting,
    network: str,
    row: int,
    attacks: tuple[str, ...],
    layers: list[str],
    predictions: pd.DataFrame,
) -> Iterator[Example]:
    """The test photo in ``row`` clean, then under each attack at every epsilon above 0.

    Args:
        setting: of the arm.
        network: that is attacked and explained.
        row: one of :func:`gradcam_adv.study.setting.example_rows`.
        attacks: out of "black-box" and "white-box".
        layers: whose maps are wanted.
        predictions: of all networks, as of :func:`gradcam_adv.study.stages.networks.summarize`.
    """
    name, rows, place = slice_of(setting, row)
    photo = setting.test["photo"].iloc[row]
    exact = setting.pixels(rows.iloc[place])
    own = predictions[(predictions["network"] == network) & (predictions["photo"] == photo)]
    label_of = own.set_index(["attack", "epsilon"])["predicted"]
    with artifacts.read_arrays(path_of(setting, network, row)) as arrays:

        def example(attack: str, epsilon: float, pixels: np.ndarray) -> Example:
            # The source network's own attack is kept under the name of the black-box attack.
            alias = attack == "white-box" and network == setting.study.source
            key = condition_key("black-box" if alias else attack, epsilon)
            maps = {layer: arrays[f"{key}/{layer}"] for layer in layers}
            # At epsilon 0 any attack's row is the clean photo's.
            label = label_of["black-box" if attack == "clean" else attack, epsilon]
            return Example(attack, epsilon, pixels, maps, setting.people[label])

        yield example("clean", 0.0, setting.read_again(exact)[0])
        for attack in attacks:
            signs = signs_of(setting, attack, network, name, rows)[place]
            for epsilon in setting.study.attacked_epsilons:
                yield example(attack, epsilon, setting.perturb(network, exact, signs, epsilon)[0])


def all_layers(setting: Setting, network: str, row: int) -> list[str]:
    """The layers explained, in the order of the network."""
    with artifacts.read_arrays(path_of(setting, network, row)) as arrays:
        return layers_in(arrays)


def path_of(setting: Setting, network: str, row: int) -> Path:
    return setting.folders[f"explain/{network}"] / f"example-{row:07d}.npz"
