"""Tables of photos: rows chosen by values, and one row per group, with means and their intervals.

A condition is a network, an attack and an epsilon; for heatmaps also a target, the class explained,
and a size. Every table of conditions has ``photos``, their number; low and high are the ends of a
95 % interval over people, of :mod:`gradcam_adv.statistics`, NaN if there are fewer than two.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from gradcam_adv import statistics

CONDITION = ["network", "attack", "epsilon"]
OF_MAPS = ["network", "target", "size"]
SCORED = [*CONDITION, "target", "size"]


def select(table: pd.DataFrame, **values: object) -> pd.DataFrame:
    """The rows with these values in these columns."""
    for column, value in values.items():
        table = table[table[column] == value]
    return table


def per_group(
    keys: list[str], table: pd.DataFrame, row_of: Callable[[pd.DataFrame], dict[str, Any]]
) -> pd.DataFrame:
    """One row per value of ``keys``, in the order of the table: the keys and ``row_of`` a group."""
    return pd.DataFrame(
        dict(zip(keys, key, strict=True)) | row_of(group)
        for key, group in table.groupby(keys, sort=False)
    )


def mean_of(group: pd.DataFrame, value: str) -> statistics.Estimate:
    return statistics.mean(group[value], group["identity"])


def ends_of(ends: statistics.Ends, of: str = "") -> dict[str, float]:
    """The two ends of an interval as columns: low, high, after the name of the number ``of``."""
    return dict(zip((f"{of}low", f"{of}high"), ends, strict=True))
