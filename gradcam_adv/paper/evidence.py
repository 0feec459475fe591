"""What a run measured, as the claims are judged on it: one row per photo, a column per network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from gradcam_adv.models.backbones import of_paper
from gradcam_adv.study.attacks import BLACK_BOX, NOISE, WHITE_BOX
from gradcam_adv.study.settings import Arm, Study
from gradcam_adv.study.tables import select


class NotJudged(Exception):
    """The run has nothing to judge a claim by; the message is the reason."""


@dataclass(frozen=True)
class Evidence:
    """What one arm of a run measured.

    Attributes:
        predictions: columns photo, identity, label, network, attack, epsilon, predicted_clean,
            predicted; one row per photo and condition.
        nissim: columns photo, identity, network, attack, epsilon, target, size, nissim, and those
            of the shift that were measured, such as direction (radians) and background; the rows
            that :func:`needed` keeps are enough.
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

    def comparable(self, attack: str) -> Sequence[str]:
        """The networks that may be compared under an attack: on the source it is another one."""
        return self.others if attack == BLACK_BOX else self.networks

    def right_answers(self, arm: Arm, attack: str = BLACK_BOX) -> pd.DataFrame:
        """1 for a right answer, else 0: one row per photo, columns network and epsilon."""
        rows = _under(attack, self.arms[arm].predictions)
        return _wide(rows.assign(right=(rows["predicted"] == rows["label"]).astype(float)), "right")

    def nissim(self, arm: Arm, attack: str = BLACK_BOX, target: str | None = None) -> pd.DataFrame:
        """The rows of NISSIM under an attack, as the study reads the paper or of another target."""
        readings = self.study.readings
        rows = _under(attack, self.arms[arm].nissim)
        return select(rows, target=target or readings.explained_class, size=readings.heatmap_size)

    def shifts(self, arm: Arm, attack: str = BLACK_BOX, of: str = "nissim") -> pd.DataFrame:
        """A column of NISSIM's rows: one row per photo, columns network and epsilon above 0."""
        return self.measured(arm, attack, of).drop(columns=0.0, level="epsilon", errors="ignore")

    def measured(self, arm: Arm, attack: str, of: str) -> pd.DataFrame:
        """The same with the clean photos, which have epsilon 0."""
        rows = self.nissim(arm, attack)
        what = _MEASURES.get(of, "how heatmaps shift")
        if of not in rows:
            raise NotJudged(f"the run did not measure {what}")
        if rows[of].isna().all():
            raise NotJudged(f"on no photo could the run measure {what}")
        return _wide(rows, of)


def as_papers(run: Run) -> Run:
    """A run whose networks are called as those of the paper that they stand for."""
    names = {network: of_paper(network) for network in run.networks}
    if all(network == name for network, name in names.items()):
        return run
    study = replace(run.study, networks=tuple(names.values()), source=names[run.study.source])
    arms = {
        arm: Evidence(
            found.predictions.replace({"network": names}), found.nissim.replace({"network": names})
        )
        for arm, found in run.arms.items()
    }
    return Run(arms, study, {names[network]: run.origins[network] for network in names})


_ATTACKS = {WHITE_BOX: "white-box attack", NOISE: "random signs to compare the attack with"}
_FACES = 'on faces (they are looked for if "aligned" is among the arms)'
_MEASURES = {
    "direction": "the direction of the move",
    "background": f"which share of the heat is not {_FACES}",
    "forehead": f"where the heat is {_FACES}",
}


def _under(attack: str, table: pd.DataFrame) -> pd.DataFrame:
    rows = select(table, attack=attack)
    if rows.empty:
        raise NotJudged(f"the run has no {_ATTACKS.get(attack, attack)}")
    return rows


def _wide(rows: pd.DataFrame, value: str) -> pd.DataFrame:
    return rows.pivot(index=["identity", "photo"], columns=["network", "epsilon"], values=value)


def needed(nissim: pd.DataFrame, study: Study) -> pd.DataFrame:
    """The rows of a network's NISSIM that claims are judged on."""
    readings = study.readings
    return nissim[
        nissim["attack"].isin((BLACK_BOX, WHITE_BOX, NOISE))
        & nissim["target"].isin((readings.explained_class, "clean"))
        & (nissim["size"] == readings.heatmap_size)
        & nissim["epsilon"].isin(study.epsilons)
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
