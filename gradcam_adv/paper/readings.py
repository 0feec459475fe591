"""Other readings of the paper: their curves, orders of the networks, and verdicts.

A reading is the study with one of the choices that the paper leaves open made otherwise, or two.
All numbers are about the black-box attack. How near a reading comes to the paper's tables is in
:mod:`gradcam_adv.paper.distance`, the facts that it has to show in :mod:`gradcam_adv.paper.facts`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.stats

from gradcam_adv.models.backbones import title
from gradcam_adv.paper import distance, draws, facts, judge, printed, roles
from gradcam_adv.paper.draws import Photos
from gradcam_adv.study.attacks import BLACK_BOX, NOISE
from gradcam_adv.study.settings import Arm
from gradcam_adv.study.tables import select

# The study as it is, with which all other readings are compared; always the first.
DEFAULT = "default"
# Numbers that differ by at most this count as equal.
ALIKE = 1e-9
CONDITION = ["network", "epsilon"]


@dataclass(frozen=True)
class Outcome:
    """The results of the study under one reading.

    Attributes:
        name: "default" for the study as it is; otherwise what differs from it, such as
            "epsilon_unit = network, perturbed_set = jpeg".
        tables: by arm, accuracy and psnr of :mod:`gradcam_adv.study.answers`; mod and vid of
            :mod:`gradcam_adv.study.shifts`, of one target and size.
        verdicts: on the run, of all arms.
        photos: by arm, what the tables are means of.
    """

    name: str
    tables: Mapping[Arm, Mapping[str, pd.DataFrame]]
    verdicts: pd.DataFrame
    photos: Mapping[Arm, Photos]


def tables(outcomes: Sequence[Outcome], source: str, seed: int) -> dict[str, pd.DataFrame]:
    """All tables about the readings, by name: curves, orders, distances, facts and verdicts.

    Args:
        outcomes: the study as it is, then its other readings.
        source: the network on which the black-box attack was made.
        seed: of the draws of people.
    """
    found = curves(outcomes, source)
    drawn, people = draws.draw({outcome.name: outcome.photos for outcome in outcomes}, seed)
    verdicts = [outcome.verdicts.assign(reading=outcome.name) for outcome in outcomes]
    columns = ["reading", *outcomes[0].verdicts.columns]
    return {
        "readings": found,
        "readings_distances": distance.distances(drawn, source, people),
        "readings_facts": facts.judge(drawn, found, source),
        "readings_orders": orders(found),
        "readings_verdicts": pd.concat(verdicts, ignore_index=True)[columns],
    }


def curves(outcomes: Sequence[Outcome], source: str) -> pd.DataFrame:
    """Every reading's numbers by epsilon, with the paper's beside them.

    Returns:
        One row per reading, arm, network and epsilon: photos; accuracy, low, high; ratio (accuracy
        divided by that at epsilon 0; NaN if that is 0), ratio_low, ratio_high; mod, mod_low,
        mod_high, mod_noise (of random signs), unrelated (of unrelated photos); psnr (infinite if no
        photo was changed), unchanged (number of unchanged photos); paper_accuracy, paper_ratio,
        paper_mod, of the network in the same role (:mod:`gradcam_adv.paper.roles`; NaN if the paper
        prints none); vid, vid_low, vid_high, vid_noise (one value for all epsilons). The paper does
        not say on which set it computed MOD, so it stands in both arms.
    """
    parts = []
    for outcome in outcomes:
        for arm, of_arm in outcome.tables.items():
            curve = _curve(of_arm, printed.ACCURACIES[arm].table, source)
            curve.insert(0, "reading", outcome.name)
            curve.insert(1, "arm", arm)
            parts.append(curve)
    return pd.concat(parts, ignore_index=True)


def _curve(
    of_arm: Mapping[str, pd.DataFrame], printed_accuracy: pd.DataFrame, source: str
) -> pd.DataFrame:
    """One arm's numbers under the black-box attack, one row per network and epsilon."""
    accuracy, mod, psnr, vid = (
        select(of_arm[name], attack=BLACK_BOX) for name in ("accuracy", "mod", "psnr", "vid")
    )
    values = ["photos", "accuracy", "low", "high", "ratio", "ratio_low", "ratio_high"]
    table = accuracy[[*CONDITION, *values]]
    mod = mod.rename(columns={"low": "mod_low", "high": "mod_high"})
    mod = mod[[*CONDITION, "mod", "mod_low", "mod_high", "mod_noise", "unrelated"]]
    table = table.merge(mod, on=CONDITION, validate="one_to_one")
    table = table.merge(
        psnr[[*CONDITION, "psnr", "unchanged"]], on=CONDITION, validate="one_to_one"
    )
    of_paper = {
        "paper_accuracy": printed_accuracy,
        "paper_ratio": printed_accuracy / printed_accuracy.loc[0.0],
        "paper_mod": printed.TABLE_3,
    }
    networks = table["network"].unique()
    by_role = {name: roles.in_paper(t, networks, source).unstack() for name, t in of_paper.items()}
    table = table.join(pd.DataFrame(by_role).rename_axis(CONDITION), on=CONDITION)
    vid = vid.rename(columns={"low": "vid_low", "high": "vid_high"}).set_index("network")
    noise = select(of_arm["vid"], attack=NOISE).set_index("network")["vid"]
    vid = vid[["vid", "vid_low", "vid_high"]].assign(vid_noise=noise)
    return table.join(vid, on="network", validate="many_to_one")


def orders(readings: pd.DataFrame) -> pd.DataFrame:
    """The networks in the order of what they lose, and of MOD, under each reading and in the paper.

    Means over the epsilons above 0 that the paper prints.

    Returns:
        One row per reading and arm: levels (number of epsilons), networks; accuracy_order (networks
        by the share of accuracy that they lose, least first; without those that are right on no
        clean photo), accuracy_order_paper, accuracy_tau (Kendall's, between the two); mod_order,
        mod_order_paper, mod_tau. NaN if there is nothing to compute from.
    """
    compared = readings[(readings["epsilon"] > 0) & readings["paper_mod"].notna()]
    found = []
    for reading, arm in readings[["reading", "arm"]].drop_duplicates().to_numpy():
        of_arm = select(compared, arm=arm)
        rows = select(of_arm, reading=reading)
        without = of_arm.loc[of_arm["ratio"].isna(), "network"]
        known = rows[~rows["network"].isin(without)]
        found.append(
            {
                "reading": reading,
                "arm": arm,
                "levels": rows["epsilon"].nunique(),
                "networks": rows["network"].nunique(),
                **_orders("accuracy", 1 - known["ratio"], 1 - known["paper_ratio"], known),
                **_orders("mod", rows["mod"], rows["paper_mod"], rows),
            }
        )
    return pd.DataFrame(found)


def _orders(
    what: str, here: pd.Series, printed: pd.Series, rows: pd.DataFrame
) -> dict[str, float | str]:
    """Networks in the order of their means, here and in the paper, and how the orders agree."""
    # Rounded, so that equal networks are equal.
    networks = rows["network"]
    means = [values.groupby(networks, sort=False).mean().round(9) for values in (here, printed)]
    tau = float(scipy.stats.kendalltau(*means).statistic) if len(means[0]) > 1 else math.nan
    first, second = map(_in_order, means)
    return {f"{what}_order": first, f"{what}_order_paper": second, f"{what}_tau": tau}


def _in_order(values: pd.Series) -> str:
    """Titles of the networks, least first, such as "VGG16 < XceptionNet"."""
    groups = values.groupby(values)
    return " < ".join(" = ".join(map(title, alike.index)) for _, alike in groups)


def changes(verdicts: pd.DataFrame) -> pd.DataFrame:
    """Verdicts that differ from the study's own under another reading.

    A claim that was not judged, such as one on a white-box attack that was not made, has no verdict
    that could change. Columns reading, claim, says, arm, verdict_default, verdict.
    """
    both = beside_default(verdicts)
    changed = both[both["verdict"] != both["verdict_default"]]
    columns = ["reading", "claim", "says", "arm", "verdict_default", "verdict"]
    return changed[columns].reset_index(drop=True)


def beside_default(verdicts: pd.DataFrame) -> pd.DataFrame:
    """The other readings' verdicts, and verdict_default, for claims judged under both."""
    judged = verdicts[verdicts["verdict"] != judge.NOT_JUDGED]
    default = select(judged, reading=DEFAULT)[["claim", "arm", "verdict"]]
    others = judged[judged["reading"] != DEFAULT]
    return others.merge(default, on=["claim", "arm"], suffixes=("", "_default"))


def in_order(tau: pd.Series) -> pd.Series:
    """Where Kendall's tau says that two orders are equal; with five networks it is 1 - 1e-16."""
    return tau > 1 - ALIKE


def deciding(orders: pd.DataFrame, value: str) -> list[str]:
    """The choices that all readings with a tau of 1 make, and no other reading makes.

    Such as ["epsilon_unit = network"], maybe none. ``orders`` are of one arm; ``value`` is
    accuracy_tau or mod_tau.
    """
    alike = in_order(orders[value])
    as_printed, others = (
        [set(name.split(", ")) for name in orders.loc[rows, "reading"]] for rows in (alike, ~alike)
    )
    if not as_printed or not others:
        return []
    return sorted(set.intersection(*as_printed) - set.union(*others))


def differing(readings: pd.DataFrame, columns: list[str]) -> list[str]:
    """The readings whose numbers in these columns differ from the study's own; one arm's curves."""
    by_reading = {
        str(reading): rows.set_index(CONDITION)[columns]
        for reading, rows in readings.groupby("reading", sort=False)
    }
    default = by_reading[DEFAULT]
    return [
        reading
        for reading, rows in by_reading.items()
        if not np.allclose(rows.loc[default.index], default, rtol=0, atol=ALIKE, equal_nan=True)
    ]
