"""What hangs on each choice that the paper leaves open: its curves, its claims, how near they come.

A reading is the study with one such choice, or two, made otherwise. All numbers are of the
black-box attack.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.stats

from gradcam_adv.paper import judge as claims
from gradcam_adv.paper import tables as paper
from gradcam_adv.report.cells import select, title_of
from gradcam_adv.report.sections import ACCURACIES
from gradcam_adv.study.config import Arm

# The study as it is, which all other readings are held against; it is always the first.
DEFAULT = "default"
# Numbers no further apart than this came out alike, whatever order they were added up in.
ALIKE = 1e-9
CONDITION = ["network", "epsilon"]


@dataclass(frozen=True)
class Outcome:
    """What the study comes to under one reading.

    Attributes:
        name: "default" for the study as it is; else what differs from it, such as
            "epsilon_unit = network, perturbed_set = jpeg".
        tables: by arm, those of :mod:`gradcam_adv.study.tables` called accuracy, psnr, mod and
            vid, the last two of one class and size; rows of other attacks than the black-box are
            left out.
        verdicts: columns of :class:`gradcam_adv.paper.judge.Verdict`, of the run and not of the
            paper's tables, all arms one below the other.
    """

    name: str
    tables: Mapping[Arm, Mapping[str, pd.DataFrame]]
    verdicts: pd.DataFrame


def tables(outcomes: Sequence[Outcome], source: str) -> dict[str, pd.DataFrame]:
    """All that is kept of the readings, by the names of the tables.

    Args:
        outcomes: the study as it is, then its other readings.
        source: the network on which the black-box attack was made.

    Returns:
        readings, of :func:`curves`; readings_distances, of :func:`distances`; readings_verdicts,
        a column reading and those of :class:`gradcam_adv.paper.judge.Verdict`. Each in the
        order of ``outcomes``.

    Raises:
        ValueError: as :func:`curves`, or verdicts on the paper's own tables among the run's.
    """
    found = curves(outcomes)
    verdicts = pd.concat(
        [outcome.verdicts.assign(reading=outcome.name) for outcome in outcomes], ignore_index=True
    )
    if not (verdicts["on"] == "run").all():
        raise ValueError(
            f"Expected verdicts on the run alone. Received: on {', '.join(verdicts['on'].unique())}"
        )
    return {
        "readings": found,
        "readings_distances": distances(found, source),
        "readings_verdicts": verdicts[["reading", *outcomes[0].verdicts.columns]],
    }


def curves(outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """Every reading's numbers along epsilon, the paper's beside them.

    Returns:
        One row a reading, arm, network and epsilon: photos; accuracy, low, high; ratio (accuracy
        to that at epsilon 0; NaN where that is 0); mod, mod_low, mod_high, mod_noise (of random
        signs), ceiling (of unrelated photos); vid, vid_low, vid_high, vid_noise (one value for
        all epsilons); psnr (infinite where no photo was changed), unchanged (how many were not);
        paper_accuracy, paper_ratio, paper_mod (NaN where the paper prints none). The paper does
        not say of which set its MODs are, so they stand in both arms.

    Raises:
        ValueError: no outcome, the first one not "default", a name twice, no accuracy at epsilon
            0, or a table whose arms or black-box rows are of other conditions than the first
            outcome's accuracies.
    """
    names = [outcome.name for outcome in outcomes]
    if names[:1] != [DEFAULT] or len(set(names)) < len(names):
        raise ValueError(
            f"Expected readings of different names, the first one {DEFAULT!r}. Received: {names}"
        )
    arms = outcomes[0].tables
    conditions = {arm: _conditions(arm, own["accuracy"]) for arm, own in arms.items()}
    parts = []
    for outcome in outcomes:
        if list(outcome.tables) != list(arms):
            raise ValueError(
                f"Expected the arms {', '.join(arms)} of every reading. "
                f"Received: {', '.join(outcome.tables)} of {outcome.name}"
            )
        parts += [_along_epsilon(outcome, arm, expected) for arm, expected in conditions.items()]
    return pd.concat(parts, ignore_index=True)


def _conditions(arm: Arm, accuracy: pd.DataFrame) -> pd.Index:
    """Networks and epsilons of an arm, which all its tables must have under every reading."""
    index = select(accuracy, attack="black-box").set_index(CONDITION).index
    networks = set(index.get_level_values("network"))
    if without := sorted(n for n in networks if (n, 0.0) not in index):
        raise ValueError(
            "Expected accuracies under the black-box attack with epsilon 0 among their levels. "
            f"Received: none of {', '.join(without)}, {arm}"
        )
    return index


def _along_epsilon(outcome: Outcome, arm: Arm, conditions: pd.Index) -> pd.DataFrame:
    networks = conditions.get_level_values("network").unique()
    accuracy = _rows(outcome, arm, "accuracy", conditions)
    mod = _rows(outcome, arm, "mod", conditions)
    psnr = _rows(outcome, arm, "psnr", conditions)
    vid = _rows(outcome, arm, "vid", networks)
    noise = _rows(outcome, arm, "vid", networks, attack="noise")
    table = accuracy[["photos", "accuracy", "low", "high"]].assign(
        ratio=_to_clean(accuracy["accuracy"]),
        **_named(mod, "mod", "low", "high"),
        mod_noise=mod["mod_noise"],
        ceiling=mod["ceiling"],
        psnr=psnr["psnr"],
        unchanged=psnr["unchanged"],
        **_printed(arm, accuracy.index),
    )
    of_networks = pd.DataFrame(_named(vid, "vid", "low", "high") | {"vid_noise": noise["vid"]})
    own = table.join(of_networks, on="network").reset_index()
    own.insert(0, "reading", outcome.name)
    own.insert(1, "arm", arm)
    return own


def _rows(
    outcome: Outcome, arm: Arm, name: str, expected: pd.Index, attack: str = "black-box"
) -> pd.DataFrame:
    """An attack's rows of a table, by network and epsilon or by network alone, as ``expected``."""
    keys = list(map(str, expected.names))
    own = select(outcome.tables[arm][name], attack=attack).set_index(keys)
    wrong = [f"without {row}" for row in expected.difference(own.index)]
    wrong += [f"besides them {row}" for row in own.index.difference(expected)]
    wrong += [f"more than once {row}" for row in own.index[own.index.duplicated()]]
    if wrong:
        raise ValueError(
            f"Expected one row of {name} under {attack} for each {' and '.join(keys)} of the first "
            f"reading. Received: {', '.join(wrong)}, of {outcome.name}, {arm}"
        )
    return own


def _named(table: pd.DataFrame, value: str, *ends: str) -> dict[str, pd.Series]:
    """A value and the ends of its interval, which are called after it."""
    return {value: table[value]} | {f"{value}_{end}": table[end] for end in ends}


def _printed(arm: Arm, conditions: pd.Index) -> dict[str, pd.Series]:
    _, accuracies = ACCURACIES[arm]
    of_paper = {
        "paper_accuracy": accuracies,
        "paper_ratio": accuracies / accuracies.loc[0.0],
        "paper_mod": paper.TABLE_3,
    }
    return {
        name: pd.Series([paper.printed(table, *cell) for cell in conditions], conditions, float)
        for name, table in of_paper.items()
    }


def _to_clean(accuracy: pd.Series) -> pd.Series:
    """Of accuracies by network and epsilon, the share of that at epsilon 0."""
    clean = accuracy.xs(0.0, level="epsilon")
    return accuracy / clean.where(clean > 0).reindex(accuracy.index, level="network")


def unlike(source: str) -> list[str]:
    """The networks that are attacked in white-box here and by transfer in the paper, or inversely.

    Their curves differ for that reason alone, so distances leave them out.
    """
    return [] if source == paper.SOURCE else [source, paper.SOURCE]


def distances(readings: pd.DataFrame, source: str) -> pd.DataFrame:
    """How far the shapes of each reading's curves are from the paper's.

    A distance is a root mean square over networks and those epsilons above 0 that the paper
    prints, so 0 is the paper's own curve. Networks that are right on no clean photo under any one
    of an arm's readings have no ratio there, and accuracy leaves them out under all of its
    readings, or distances would be over different networks. Those of :func:`unlike` are left out
    of distances, and stay in the orders.

    Args:
        readings: of :func:`curves`.
        source: the network on which the black-box attack was made.

    Returns:
        One row a reading and arm: levels (epsilons compared), networks (how many are in the
        orders); accuracy_networks (how many are compared), accuracy_distance (of the ratio to the
        clean accuracy), accuracy_within (cells in which the paper's ratio lies within the 95 %
        interval of the accuracy, the clean accuracy taken as it came out); accuracy_order
        (networks by the share of their accuracy that they lose, mean over the levels, least
        first), accuracy_order_paper, accuracy_tau (Kendall's, between the two). The same of MOD:
        mod_networks, mod_distance, mod_within, mod_order, mod_order_paper, mod_tau; and
        mod_shape_distance, of MOD as a
        multiple of its mean over all cells, in which a factor common to them does not count.
        NaN where there is nothing: a tau of fewer than two networks or of all networks alike, a
        shape of no MOD at all, a count of cells without intervals.
    """
    clean = select(readings, epsilon=0.0).set_index(["reading", "arm", "network"])["accuracy"]
    compared = readings[(readings["epsilon"] > 0) & readings["paper_mod"].notna()].join(
        clean.rename("clean"), on=["reading", "arm", "network"]
    )
    found = []
    for reading, arm in readings[["reading", "arm"]].drop_duplicates().to_numpy():
        of_arm = select(compared, arm=arm)
        without = of_arm.loc[of_arm["ratio"].isna(), "network"].unique()
        own = select(of_arm, reading=reading)
        known = own[~own["network"].isin(without)]
        alike, alike_known = (rows[~rows["network"].isin(unlike(source))] for rows in (own, known))
        found.append(
            {
                "reading": reading,
                "arm": arm,
                "levels": own["epsilon"].nunique(),
                "networks": own["network"].nunique(),
            }
            | _of_accuracy(alike_known)
            | _orders(1 - known["ratio"], 1 - known["paper_ratio"], known["network"], "accuracy")
            | _of_mod(alike)
            | _orders(own["mod"], own["paper_mod"], own["network"], "mod")
        )
    return pd.DataFrame(found)


def _of_accuracy(own: pd.DataFrame) -> dict[str, float]:
    ratio, printed = own["ratio"], own["paper_ratio"]
    return {
        "accuracy_networks": own["network"].nunique(),
        "accuracy_distance": _root_mean_square(ratio - printed),
        "accuracy_within": _within(own["low"], printed * own["clean"], own["high"]),
    }


def _of_mod(own: pd.DataFrame) -> dict[str, float]:
    mod, printed = own["mod"], own["paper_mod"]
    return {
        "mod_networks": own["network"].nunique(),
        "mod_distance": _root_mean_square(mod - printed),
        "mod_shape_distance": _root_mean_square(mod / mod.mean() - printed / printed.mean()),
        "mod_within": _within(own["mod_low"], printed, own["mod_high"]),
    }


def _root_mean_square(differences: pd.Series) -> float:
    return float((differences**2).mean() ** 0.5)


def _within(low: pd.Series, value: pd.Series, high: pd.Series) -> float:
    if not low.notna().all() or low.empty:
        return math.nan
    return float(((low <= value) & (value <= high)).sum())


def _orders(
    own: pd.Series, printed: pd.Series, network: pd.Series, what: str
) -> dict[str, float | str]:
    """Networks by their means, this run's and the paper's, and how the two orders agree."""
    # Rounded, so that networks that do alike are alike.
    means = [values.groupby(network, sort=False).mean().round(9) for values in (own, printed)]
    tau = math.nan
    if len(means[0]) > 1:
        tau = float(scipy.stats.kendalltau(*means).statistic)
    first, second = map(_in_order, means)
    return {f"{what}_order": first, f"{what}_order_paper": second, f"{what}_tau": tau}


def _in_order(values: pd.Series) -> str:
    """Titles of the networks, least first, such as "VGG16 < XceptionNet"."""
    groups = values.groupby(values)
    return " < ".join(" = ".join(map(title_of, alike.index)) for _, alike in groups)


def changes(verdicts: pd.DataFrame) -> pd.DataFrame:
    """Verdicts on the paper's claims that come out otherwise under another reading.

    A claim that was not judged, such as on a white-box attack that was not made, has no verdict
    that could change.

    Args:
        verdicts: readings_verdicts of :func:`tables`.

    Returns:
        Columns reading, claim, says, arm, verdict_default, verdict; in the order of ``verdicts``.

    Raises:
        ValueError: no verdict under the reading "default".
    """
    both = beside_default(verdicts)
    changed = both[both["verdict"] != both["verdict_default"]]
    columns = ["reading", "claim", "says", "arm", "verdict_default", "verdict"]
    return changed[columns].reset_index(drop=True)


def beside_default(verdicts: pd.DataFrame) -> pd.DataFrame:
    """The other readings' verdicts with the study's own, where a claim was judged under both.

    Args:
        verdicts: readings_verdicts of :func:`tables`.

    Returns:
        The columns of ``verdicts`` and verdict_default.

    Raises:
        ValueError: no verdict under the reading "default".
    """
    judged = verdicts[verdicts["verdict"] != claims.NOT_JUDGED]
    if not (verdicts["reading"] == DEFAULT).any():
        raise ValueError(
            f"Expected verdicts of the reading {DEFAULT!r}. "
            f"Received: {', '.join(verdicts['reading'].unique()) or 'none'}"
        )
    own = select(judged, reading=DEFAULT)[["claim", "arm", "verdict"]]
    others = judged[judged["reading"] != DEFAULT]
    return others.merge(own, on=["claim", "arm"], suffixes=("", "_default"))


def in_order(tau: pd.Series) -> pd.Series:
    """Where Kendall's tau says that two orders are one; of five networks it comes to 1 - 1e-16."""
    return tau > 1 - ALIKE


def deciding(distances: pd.DataFrame, value: str) -> list[str]:
    """The choices made in each reading under which a tau is 1, and in no other reading.

    Args:
        distances: of :func:`distances`, one arm alone.
        value: accuracy_tau or mod_tau.

    Returns:
        Such as ["epsilon_unit = network"]; none where no choice parts the readings so.
    """
    alike = in_order(distances[value])
    as_printed, others = (
        [set(name.split(", ")) for name in distances.loc[rows, "reading"]]
        for rows in (alike, ~alike)
    )
    if not as_printed or not others:
        return []
    return sorted(set.intersection(*as_printed) - set.union(*others))


def nearest(distances: pd.DataFrame, value: str) -> list[str]:
    """The readings of least distance, in their order: several where alike, none where unknown.

    Args:
        distances: of :func:`distances`, one arm alone.
        value: its column, such as "mod_distance".
    """
    near = distances[value] <= distances[value].min() + ALIKE
    return list(distances.loc[near, "reading"])


def differing(readings: pd.DataFrame, columns: list[str]) -> list[str]:
    """Which readings have other numbers than the study's own.

    Args:
        readings: of :func:`curves`, one arm alone.
        columns: the numbers that count.
    """
    by_reading = {
        str(reading): own.set_index(CONDITION)[columns]
        for reading, own in readings.groupby("reading", sort=False)
    }
    default = by_reading[DEFAULT]
    return [
        reading
        for reading, own in by_reading.items()
        if not np.allclose(own.loc[default.index], default, rtol=0, atol=ALIKE, equal_nan=True)
    ]
