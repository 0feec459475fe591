"""The stage "explain": heatmaps of all layers for a few photos under every attack."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from gradcam_adv import validation
from gradcam_adv.explain.explainer import PREDICTED
from gradcam_adv.files import read, write
from gradcam_adv.graph import Layers
from gradcam_adv.runs.engines import WriteSlice, slice_name
from gradcam_adv.runs.records import Names
from gradcam_adv.study.attacks import BLACK_BOX, NOISE, WHITE_BOX, condition_key
from gradcam_adv.study.photos import by_fold
from gradcam_adv.study.stages.evaluate import CLASS_OF, Evaluate
from gradcam_adv.study.stages.network_task import NetworkTask, SlicedTask
from gradcam_adv.study.tables import select

# Seconds that it takes to compile a network with a heatmap of every layer.
COMPILING = 10.0


@dataclass(frozen=True, eq=False, kw_only=True)
class Explain(NetworkTask, SlicedTask):
    """Heatmaps of the study's layers for the example photos: ``example-<row>.npz``, one per photo.

    An array per condition and layer, float32 (h, w), named "<condition>/<layer>". ``blocks.json``
    names the layers that end a block.

    Attributes:
        layers: that are explained.
        examples: how many test photos.
    """

    kind = stage = "explain"
    file = "example-{}.npz"
    names = Names(r"example-\d{7}\.npz|blocks\.json")
    length = 1

    evaluate: Evaluate
    explained_class: Literal["predicted", "clean", "true"]
    layers: Layers
    examples: int

    @property
    def effort(self) -> float:
        return self.seconds(3 * len(self.rows) * len(self.conditions)) + COMPILING

    @property
    def rows(self) -> np.ndarray:
        """Positions of the example photos, spread evenly over the test set."""
        return self.photos.spread(self.examples)

    @property
    def conditions(self) -> list[tuple[str, float]]:
        """Clean, then the attacks and noise, but no transfers, at the study's epsilons above 0."""
        evaluated = self.evaluate.epsilons
        several = [
            (name, epsilon)
            for name in (BLACK_BOX, WHITE_BOX, NOISE)
            for epsilon in self.evaluate.levels
            if epsilon > 0 and epsilon in evaluated.get(name, ())
        ]
        return [("clean", 0.0), *several]

    def heatmaps(self, row: int) -> Any:
        """The heatmaps of the example photo in ``row`` of the test set, as a context."""
        return read.arrays(self.path(slice_name(row)))

    def layer_names(self) -> list[str]:
        """The layers explained, in the order of the network."""
        with self.heatmaps(int(self.rows[0])) as arrays:
            return layers_in(arrays)

    def block_ends(self) -> list[str]:
        """The layers that a reader is shown first, in the order of the network."""
        return list(map(str, read.json(self._blocks)["blocks"]))

    @property
    def _blocks(self) -> Path:
        return self.folder / "blocks.json"

    def photos_to_do(self) -> pd.DataFrame:
        return self.photos.test.iloc[self.rows]

    def files(self, name: str, rows: pd.DataFrame) -> list[Path]:
        # The first test photo is always an example; its slice also writes the block ends.
        return [self._blocks, self.path(name)] if int(name) == 0 else [self.path(name)]

    def begin(self) -> WriteSlice:
        from gradcam_adv.explain.gradcam import GradCAM
        from gradcam_adv.graph.flat import FlatGraph, flatten

        batch_size = self.evaluate.train.features.batch_size
        predictions = self.evaluate.predictions()

        @functools.lru_cache(1)
        def prepared(fold: int | None) -> tuple[FlatGraph, GradCAM]:
            graph = flatten(self.evaluate.explained_model(fold)[0])
            return graph, GradCAM(graph, self.layers, batch_size=batch_size)

        def write_slice(name: str, rows: pd.DataFrame) -> None:
            ((fold, _),) = by_fold(rows)
            graph, explain = prepared(fold)
            if int(name) == 0:
                write.json(self._blocks, {"blocks": _block_ends(graph, explain.layers)})
            exact = self.photos.pixels(rows)
            images, classes, keys = [], [], []
            for attack, epsilon in self.conditions:
                keys.append(condition_key(attack, epsilon))
                images.append(self.evaluate.images(rows, int(name), exact, attack, epsilon))
                classes.append(self._explained(predictions, rows, attack, epsilon))
            with validation.naming([f"{rows['photo'].item()}, {k}" for k in keys], self.network):
                maps, _ = explain.maps_and_logits(
                    np.concatenate(images), np.concatenate(classes)[:, None]
                )
            by_name = {
                f"{key}/{layer}": values[i, 0]
                for layer, values in maps.items()
                for i, key in enumerate(keys)
            }
            write.arrays(self.path(name), by_name)

        return write_slice

    def _explained(
        self, predictions: pd.DataFrame, rows: pd.DataFrame, attack: str, epsilon: float
    ) -> np.ndarray:
        """The class to explain on each photo, int (n,), by what was predicted in the evaluation."""
        if self.evaluate.explained_score == "hidden":
            return np.full(len(rows), PREDICTED)
        any_attack = next(iter(self.evaluate.epsilons)) if attack == "clean" else attack
        found = select(predictions, attack=any_attack, epsilon=epsilon).set_index("photo")
        return found.loc[rows["photo"], CLASS_OF[self.explained_class]].to_numpy()


def layers_in(names: Any) -> list[str]:
    """The layers in a file of heatmaps, in the order of the network."""
    return [name.removeprefix("clean/") for name in names if name.startswith("clean/")]


def _block_ends(graph: Any, explained: list[str]) -> list[str]:
    """Those of the explained layers that end a block; all of them if none does."""
    from gradcam_adv.graph.layers import block_ends

    ends = {call.path for call in block_ends(graph)}
    return [layer for layer in explained if layer in ends] or explained
