"""Single test photos, clean and attacked, with their heatmaps, out of a run's files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from gradcam_adv.study.attacks import BLACK_BOX, WHITE_BOX, condition_key
from gradcam_adv.study.plan import ArmPlan
from gradcam_adv.study.tables import select


def photo_of(plan: ArmPlan, network: str, row: int, attack: str, epsilon: float) -> np.ndarray:
    """A test photo as a network gets it, (H, W, 3) in [0, 1]; clean at epsilon 0."""
    rows = plan.photos.test.iloc[[row]]
    exact = plan.photos.pixels(rows)
    return plan.evaluate[network].images(rows, row, exact, attack, epsilon)[0]


@dataclass(frozen=True)
class Example:
    """One photo under one attack, or clean: attack "clean" and epsilon 0.

    Attributes:
        pixels: what the network gets, (H, W, 3) in [0, 1].
        maps: by layer, in [0, 1], at the layer's own size.
        predicted: name of the predicted identity.
    """

    attack: str
    epsilon: float
    pixels: np.ndarray
    maps: dict[str, np.ndarray]
    predicted: str


def examples_of(
    plan: ArmPlan,
    network: str,
    row: int,
    attacks: tuple[str, ...],
    layers: list[str],
    predictions: pd.DataFrame,
) -> Iterator[Example]:
    """An example photo, a row of the test set, clean and then under each attack at every epsilon.

    With the heatmaps of these layers, which were made when the photo was explained.
    """
    name = plan.photos.test["photo"].iloc[row]
    of_photo = select(predictions, network=network, photo=name)
    label_of = of_photo.set_index(["attack", "epsilon"])["predicted"]
    conditions = [(a, e) for a in attacks for e in plan.study.attacked_epsilons]
    with plan.explain[network].heatmaps(row) as arrays:
        for attack, epsilon in [("clean", 0.0), *conditions]:
            # The source's attack on itself is kept as the black-box attack.
            is_alias = attack == WHITE_BOX and network == plan.study.source
            key = condition_key(BLACK_BOX if is_alias else attack, epsilon)
            maps = {layer: arrays[f"{key}/{layer}"] for layer in layers}
            # At epsilon 0 the row of any attack is the clean photo's.
            label = label_of[BLACK_BOX if attack == "clean" else attack, epsilon]
            pixels = photo_of(plan, network, row, attack, epsilon)
            yield Example(attack, epsilon, pixels, maps, plan.people[label])


def at_last_layer(
    plan: ArmPlan,
    network: str,
    row: int,
    epsilons: tuple[float, ...],
    predictions: pd.DataFrame,
) -> list[Example]:
    """Any photo of the test set under the black-box attack, with the map of the last layer alone.

    That map was made when the photo was evaluated.
    """
    evaluate, target = plan.evaluate[network], plan.study.readings.explained_class
    photo = plan.photos.test["photo"].iloc[row]
    of_photo = select(predictions, network=network, attack=BLACK_BOX, photo=photo)
    label_of = of_photo.set_index("epsilon")["predicted"]
    examples = []
    for epsilon in epsilons:
        attack = BLACK_BOX if epsilon else "clean"
        maps = {"last": evaluate.last_map(row, attack, epsilon, target)}
        pixels = photo_of(plan, network, row, attack, epsilon)
        examples.append(Example(attack, epsilon, pixels, maps, plan.people[label_of[epsilon]]))
    return examples
