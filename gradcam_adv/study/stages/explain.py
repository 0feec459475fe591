"""The stage explain: heatmaps of all layers for a few photos under every condition."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from gradcam_adv import batching as batches
from gradcam_adv.explain import gradcam
from gradcam_adv.files import artifacts
from gradcam_adv.graph import network as networks
from gradcam_adv.runs.engines import LOCAL, Engine, Sliced, Write
from gradcam_adv.study import setting as settings
from gradcam_adv.study.setting import (
    BLOCKS,
    Setting,
    condition_key,
    conditions,
    example_rows,
    predictions,
    signs_of,
    slice_of,
)

# The slice of the first test photo, which always is an example.
FIRST = "0000000"


def explain(setting: Setting, folder: Path, network: str, engine: Engine = LOCAL) -> list[Path]:
    """Heatmaps of all the study's layers for the example photos, one file a photo."""

    def files(name: str, _: pd.DataFrame) -> list[Path]:
        # Of the network itself: whoever explains the first photo has it at hand.
        blocks = [folder / BLOCKS] if name == FIRST else []
        return [*blocks, folder / f"example-{name}.npz"]

    sliced = Sliced(
        f"explain {network}, {setting.arm}",
        setting.test.iloc[example_rows(setting)],
        files,
        partial(_begin_explain, setting, folder, network, settings.SLICE),
        length=1,
    )
    return engine.run(sliced)


def _begin_explain(setting: Setting, folder: Path, network: str, length: int) -> Write:
    """``length``: how many photos' signs are in a file."""
    study = setting.study
    flat = networks.flatten(setting.model(network))
    table = predictions(setting, network)
    explain_layers = gradcam.Explainer(flat, study.layers_of(network), setting.batch_size)
    levels = conditions(study, network)

    def write(name: str, rows: pd.DataFrame) -> None:
        if name == FIRST:
            blocks = _block_ends(flat, explain_layers.layers)
            artifacts.write_json(folder / BLOCKS, {"blocks": blocks})
        attacked_name, attacked_rows, place = slice_of(setting, int(name), length)
        exact = setting.pixels(rows)
        images, classes = [], []
        for attack, epsilon in levels:
            attacked = setting.read_again(exact)
            if attack != "clean":
                signs = signs_of(setting, attack, network, attacked_name, attacked_rows)
                attacked = setting.perturb(network, exact, signs[place], epsilon)
            images.append(attacked)
            classes.append(_explained_class(setting, table, rows, attack, epsilon))
        photo = rows["photo"].item()
        with batches.naming([f"{photo}, {condition_key(*level)}" for level in levels], network):
            maps, _ = explain_layers(np.concatenate(images), np.concatenate(classes)[:, None])
        artifacts.write_arrays(
            folder / f"example-{name}.npz",
            {
                f"{condition_key(*level)}/{layer}": values[i, 0]
                for layer, values in maps.items()
                for i, level in enumerate(levels)
            },
        )

    return write


def _block_ends(network: networks.Network, explained: list[str]) -> list[str]:
    """Those of the explained layers that end a block; all of them where none does."""
    ends = {step.path for step in network.find("blocks")}
    return [layer for layer in explained if layer in ends] or explained


def _explained_class(
    setting: Setting, table: pd.DataFrame, rows: pd.DataFrame, attack: str, epsilon: float
) -> np.ndarray:
    """The class to explain on each photo, int (n,), from what ``evaluate`` found predicted."""
    any_attack = "black-box" if attack == "clean" else attack
    found = table[(table["attack"] == any_attack) & (table["epsilon"] == epsilon)]
    column = {"predicted": "predicted", "clean": "predicted_clean", "true": "label"}
    target = setting.study.readings.explained_class
    return found.set_index("photo").loc[rows["photo"], column[target]].to_numpy()
