"""How a number differs between two tables of photos: photo by photo, or each on its own photos."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from gradcam_adv import statistics
from gradcam_adv.study.tables import ends_of, mean_of, per_group


def paired(
    first: pd.DataFrame,
    second: pd.DataFrame,
    keys: list[str],
    value: str,
    names: tuple[str, str] = ("plain", "aligned"),
    *,
    answers: bool = False,
) -> pd.DataFrame:
    """How a number differs between two arms or runs, photo by photo, on the photos of both.

    Args:
        first: columns photo, identity, ``value`` and ``keys``; one row per photo and condition.
        second: the same of the other.
        keys: columns that identify a condition.
        value: the column compared, within [0, 1].
        names: columns of the two means.
        answers: whether ``value`` is 1 for a right answer, else 0.

    Returns:
        One row per condition of both: keys, photos, the means over those photos by ``names``,
        difference (second less first), low, high, up and down (numbers of photos whose value is
        greater, and smaller, in the second).
    """
    both = first.merge(second, on=[*keys, "photo", "identity"], suffixes=("_first", "_second"))

    def row_of(group: pd.DataFrame) -> dict[str, Any]:
        before = group[f"{value}_first"].to_numpy(dtype=np.float64)
        after = group[f"{value}_second"].to_numpy(dtype=np.float64)
        change = after - before
        if answers:
            ends = statistics.change_interval(change, group["identity"])
        else:
            ends = statistics.mean(change, group["identity"]).interval(-1, 1)
        return {
            "photos": len(group),
            names[0]: before.mean(),
            names[1]: after.mean(),
            "difference": change.mean(),
            **ends_of(ends),
            "up": int((change > 0).sum()),
            "down": int((change < 0).sum()),
        }

    columns = [*keys, "photos", *names, "difference", "low", "high", "up", "down"]
    return per_group(keys, both, row_of).reindex(columns=columns)


def unpaired(
    first: pd.DataFrame,
    second: pd.DataFrame,
    keys: list[str],
    value: str,
    *,
    answers: bool = False,
) -> pd.DataFrame:
    """How a number differs between two runs, each on all of its own photos; as :func:`paired`.

    Returns:
        One row per condition of both: keys, photos_first, photos_second, first, second (means),
        difference (second less first), low, high (as if the two had nobody in common).
    """
    others = dict(iter(second.groupby(keys, sort=False)))

    def with_ends(group: pd.DataFrame) -> tuple[float, statistics.Ends]:
        mean = mean_of(group, value)
        return mean.value, statistics.share_interval(mean) if answers else mean.interval()

    rows = []
    for key, group in first.groupby(keys, sort=False):
        if key in others:
            one, other = with_ends(group), with_ends(others[key])
            ends = statistics.difference_interval(other, one)
            counts = len(group), len(others[key])
            rows.append((*key, *counts, one[0], other[0], other[0] - one[0], *ends))
    columns = ["photos_first", "photos_second", "first", "second", "difference", "low", "high"]
    return pd.DataFrame(rows, columns=[*keys, *columns])
