"""What a run measured, as the paper's claims are judged on it: one row a photo, wide by network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from gradcam_adv.models.backbones import BACKBONES
from gradcam_adv.study.config import Arm, Readings

_PREDICTIONS = ("photo", "identity", "label", "network", "attack", "epsilon")
_COLUMNS = {
    "predictions": (*_PREDICTIONS, "predicted_clean", "predicted"),
    "nissim": ("photo", "identity", "network", "attack", "epsilon", "target", "size", "nissim"),
}


@dataclass(frozen=True)
class Evidence:
    """What one arm of a run measured; ValueError when a column is missing.

    Attributes:
        predictions: columns photo, identity, label, network, attack, epsilon, predicted_clean,
            predicted; one row a photo and condition.
        nissim: columns photo, identity, network, attack, epsilon, target, size, nissim, and
            direction (radians) where it was measured; what :func:`needed` keeps is enough.
    """

    predictions: pd.DataFrame
    nissim: pd.DataFrame

    def __post_init__(self) -> None:
        for name, columns in _COLUMNS.items():
            received = list(getattr(self, name).columns)
            if missing := [column for column in columns if column not in received]:
                raise ValueError(
                    f"Expected {name} with columns {', '.join(columns)}. "
                    f"Received: {received}, without {', '.join(missing)}"
                )


@dataclass(frozen=True)
class Run:
    """A run as the claims are judged on it.

    Attributes:
        arms: "plain", "aligned" or both.
        networks: of the study.
        source: on which the black-box attack was made.
        origins: by network, "imagenet", "file" or "random".
        readings: of the study.
        seed: of resampling.
    """

    arms: Mapping[Arm, Evidence]
    networks: Sequence[str]
    source: str
    origins: Mapping[str, str]
    readings: Readings
    seed: int

    @property
    def attacked(self) -> list[str]:
        """The networks that the black-box attack was not made on: for them it is one."""
        return [network for network in self.networks if network != self.source]


def needed(nissim: pd.DataFrame, readings: Readings) -> pd.DataFrame:
    """The rows of a network's NISSIM that claims are judged on: some tenth of them."""
    return nissim[
        nissim["attack"].isin(("black-box", "noise"))
        & nissim["target"].isin((readings.explained_class, "clean"))
        & (nissim["size"] == readings.heatmap_size)
        & (nissim["epsilon"] > 0)
    ]


def title(network: str) -> str:
    return BACKBONES[network].title


def titles(networks: Sequence[str]) -> str:
    return ", ".join(map(title, networks))


def right_answers(arm: Evidence, attack: str) -> pd.DataFrame:
    """1 for a right answer, else 0: one row a photo (and identity), columns network, epsilon."""
    own = arm.predictions[arm.predictions["attack"] == attack]
    return own.assign(right=(own["predicted"] == own["label"]).astype(float)).pivot(
        index=["identity", "photo"], columns=["network", "epsilon"], values="right"
    )


def shifts(arm: Evidence, attack: str, readings: Readings) -> pd.DataFrame:
    """NISSIM as the study reads the paper: one row a photo, columns network and epsilon > 0."""
    own = read(arm, attack, readings.explained_class, readings)
    return own[own["epsilon"] > 0].pivot(
        index=["identity", "photo"], columns=["network", "epsilon"], values="nissim"
    )


def read(arm: Evidence, attack: str, target: str, readings: Readings) -> pd.DataFrame:
    table = arm.nissim
    wanted = (
        (table["attack"] == attack)
        & (table["target"] == target)
        & (table["size"] == readings.heatmap_size)
    )
    return table[wanted]


def levels_of(table: pd.DataFrame) -> list[float]:
    return sorted(table.columns.get_level_values("epsilon").unique())


def of_network(table: pd.DataFrame, network: str) -> pd.DataFrame:
    """One network's columns, by epsilon."""
    return table.loc[:, [network]].droplevel("network", axis=1)


def mean_shifts(table: pd.DataFrame, networks: Sequence[str]) -> pd.DataFrame:
    """Each photo's mean over the levels, by network; NaN where a level is missing."""
    return pd.DataFrame(
        {n: of_network(table, n).mean(axis=1, skipna=False) for n in networks}, table.index
    )


def present(table: pd.DataFrame, networks: Sequence[str]) -> list[str]:
    known = set(table.columns.get_level_values("network"))
    return [network for network in networks if network in known]
