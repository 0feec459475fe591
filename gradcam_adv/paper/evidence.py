"""What a run measured, as the claims are judged on it: one row per photo, a column per network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from gradcam_adv.study.attacks import BLACK_BOX, NOISE
from gradcam_adv.study.config import Arm, Study
from gradcam_adv.study.tables import select


class NotJudged(Exception):
    """The run has nothing to judge a claim by; the message is the reason."""


@dataclass(frozen=True)
class Evidence:
    """What one arm of a run measured.

    Attributes:
        predictions: columns photo, identity, label, network, attack, epsilon, predicted_clean,
            predicted; one row per photo and condition.
        nissim: columns photo, identity, network, attack, epsilon, target, size, nissim, and
            direction (radians) if it was measured; the rows that :func:`needed` keeps are enough.
    """

    predictions: pd.DataFrame
    nissim: pd.DataFrame


@dataclass(frozen=True)
class Run:
    """A run as the claims are judged on it.

    Attributes:
        arms: what was measured, by arm.
        study: that was done.
        origins: by network, where the weights of its base come from: "imagenet", "file" or
            "random".
    """

    arms: Mapping[Arm, Evidence]
    study: Study
    origins: Mapping[str, str]

    @property
    def networks(self) -> Sequence[str]:
        return self.study.networks

    @property
    def others(self) -> list[str]:
        """The networks except the source of the black-box attack; for them it is one."""
        return [network for network in self.networks if network != self.study.source]

    def right_answers(self, arm: Arm, attack: str = BLACK_BOX) -> pd.DataFrame:
        """1 for a right answer, else 0: one row per photo, columns network and epsilon."""
        rows = select(self.arms[arm].predictions, attack=attack)
        return _wide(rows.assign(right=(rows["predicted"] == rows["label"]).astype(float)), "right")

    def nissim(self, arm: Arm, attack: str = BLACK_BOX, target: str | None = None) -> pd.DataFrame:
        """The rows of NISSIM under an attack, as the study reads the paper or of another target."""
        readings = self.study.readings
        target = target or readings.explained_class
        return select(
            self.arms[arm].nissim, attack=attack, target=target, size=readings.heatmap_size
        )

    def shifts(self, arm: Arm, attack: str = BLACK_BOX) -> pd.DataFrame:
        """NISSIM at the epsilons above 0: one row per photo, columns network and epsilon."""
        rows = self.nissim(arm, attack)
        return _wide(rows[rows["epsilon"] > 0], "nissim")


def _wide(rows: pd.DataFrame, value: str) -> pd.DataFrame:
    return rows.pivot(index=["identity", "photo"], columns=["network", "epsilon"], values=value)


def needed(nissim: pd.DataFrame, study: Study) -> pd.DataFrame:
    """The rows of a network's NISSIM that claims are judged on: about a tenth of them."""
    readings = study.readings
    return nissim[
        nissim["attack"].isin((BLACK_BOX, NOISE))
        & nissim["target"].isin((readings.explained_class, "clean"))
        & (nissim["size"] == readings.heatmap_size)
        & nissim["epsilon"].isin((*study.attacked_epsilons, *study.vid_epsilons))
    ]


def epsilons_of(table: pd.DataFrame) -> list[float]:
    return sorted(table.columns.get_level_values("epsilon").unique())


def present(networks: Sequence[str], *tables: pd.DataFrame) -> list[str]:
    """Those of the networks that all the tables have."""
    return [network for network in networks if all(network in table for table in tables)]


def of_network(table: pd.DataFrame, network: str) -> pd.DataFrame:
    """One network's columns, by epsilon."""
    return table.loc[:, [network]].droplevel("network", axis=1)


def mean_shifts(table: pd.DataFrame, networks: Sequence[str]) -> pd.DataFrame:
    """Each photo's mean over the epsilons, by network; NaN if one is missing."""
    means = {n: of_network(table, n).mean(axis=1, skipna=False) for n in networks}
    return pd.DataFrame(means, table.index)
