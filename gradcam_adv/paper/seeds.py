"""How much depends on the seed of the heads' training: numbers and verdicts, seed by seed.

Photos and split are the same with every seed. Two intervals stand beside a mean over seeds:

- that over identities, ``low`` and ``high``: what other people on the test photos would give, with
  the trainings that were made;
- Student's t over the seeds, ``t_low`` and ``t_high``: what other trainings would give, on these
  test photos. With few seeds it is wide, and can leave [0, 1]; NaN if all seeds give the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from gradcam_adv import statistics
from gradcam_adv.paper import judge
from gradcam_adv.study.attacks import BLACK_BOX, NOISE, WHITE_BOX
from gradcam_adv.study.shifts import deviations
from gradcam_adv.study.tables import select

# By name, the tables of one seed.
Tables = Mapping[str, pd.DataFrame]
_CONDITION = ["quantity", "network", "epsilon"]
_PEOPLE = ["identity", "other_identity"]
# The verdicts, by the column that counts them.
_VERDICTS = {
    "holds": judge.HOLDS,
    "fails": judge.FAILS,
    "inconclusive": judge.INCONCLUSIVE,
    "not_judged": judge.NOT_JUDGED,
}


def across(
    seeds: Mapping[int, Tables], vid_epsilons: Sequence[float], attack: str = BLACK_BOX
) -> pd.DataFrame:
    """One arm's numbers under an attack, and those of noise, over all seeds.

    Args:
        seeds: by seed of the training, the arm's predictions, nissim and unrelated, as
            :mod:`gradcam_adv.study.answers` and :mod:`gradcam_adv.study.shifts` take them, the last
            two of one target and size.
        vid_epsilons: the epsilons that VID goes over.
        attack: its name, such as "black-box".

    Returns:
        One row per quantity, network and epsilon: quantity ("accuracy", "mod", "mod_noise", "vid",
        "vid_noise" or "unrelated"), network, epsilon (NaN for VID and unrelated), seeds (their
        number), photos, mean over the seeds, low, high, least, greatest (of the seeds' values),
        spread (their sample standard deviation), t_low, t_high. With one seed spread, t_low and
        t_high are NaN; with one identity low and high are.
    """
    rows = []
    for condition, values in _by_condition(seeds, vid_epsilons, attack):
        by_seed = values.mean()
        people = (values.index.get_level_values(level) for level in _PEOPLE)
        mean = statistics.mean(values.mean(axis=1), *people)
        if condition[0] == "accuracy":
            low, high = statistics.share_interval(mean)
        else:
            low, high = mean.interval(0, 1)
        rows.append(
            {
                **dict(zip(_CONDITION, condition, strict=True)),
                "seeds": len(by_seed),
                "photos": values.index.get_level_values("photo").nunique(),
                "mean": by_seed.mean(),
                "low": low,
                "high": high,
                **_over_trainings(by_seed),
            }
        )
    return pd.DataFrame(rows)


def _over_trainings(by_seed: pd.Series) -> dict[str, float]:
    """The range of the seeds' values, their standard deviation, and Student's t interval."""
    t_low, t_high = statistics.t_mean_interval(by_seed)
    return {
        "least": by_seed.min(),
        "greatest": by_seed.max(),
        "spread": by_seed.std(ddof=1),
        "t_low": t_low,
        "t_high": t_high,
    }


def under_own_attack(
    seeds: Mapping[int, Tables],
    vid_epsilons: Sequence[float],
    gains: pd.DataFrame,
    half_shifts: pd.DataFrame,
) -> pd.DataFrame:
    """One arm's numbers under each network's own attack, over all seeds.

    Args:
        seeds: as of :func:`across`.
        vid_epsilons: the epsilons that VID goes over.
        gains: of :func:`gradcam_adv.study.gain.by_network` with a column seed, of one target and
            size.
        half_shifts: the same of :func:`gradcam_adv.study.gain.half_shift`.

    Returns:
        As of :func:`across`, with the quantities "gain", over noise, and "half_shift" (epsilon NaN)
        also. Of these low and high are NaN: the tables of each seed have their intervals over
        people.
    """
    rows = []
    own = {
        "gain": select(gains, attack=WHITE_BOX, control=NOISE),
        "half_shift": select(half_shifts, attack=WHITE_BOX).assign(epsilon=np.nan),
    }
    for quantity, table in own.items():
        for (network, epsilon), group in table.groupby(
            ["network", "epsilon"], sort=False, dropna=False
        ):
            by_seed = group.set_index("seed")[quantity]
            rows.append(
                {
                    **dict(zip(_CONDITION, (quantity, network, epsilon), strict=True)),
                    "seeds": len(by_seed),
                    "photos": group["photos"].iloc[0],
                    "mean": by_seed.mean(),
                    "low": np.nan,
                    "high": np.nan,
                    **_over_trainings(by_seed),
                }
            )
    found = across(seeds, vid_epsilons, WHITE_BOX)
    return pd.concat([found, pd.DataFrame(rows)], ignore_index=True)


def each(seeds: Mapping[int, Tables], vid_epsilons: Sequence[float]) -> pd.DataFrame:
    """The value of each seed: columns quantity, network, epsilon, seed, value."""
    rows = [
        (*condition, seed, value)
        for condition, values in _by_condition(seeds, vid_epsilons, BLACK_BOX)
        for seed, value in values.mean().items()
    ]
    return pd.DataFrame(rows, columns=[*_CONDITION, "seed", "value"])


def _by_condition(
    seeds: Mapping[int, Tables], vid_epsilons: Sequence[float], attack: str
) -> Iterator[tuple[Any, pd.DataFrame]]:
    """Quantity, network and epsilon; and one row per photo (or pair), a column per seed."""
    by_seed = {seed: _values(tables, vid_epsilons, attack) for seed, tables in seeds.items()}
    wide = pd.concat(by_seed, axis=1)
    yield from wide.groupby(level=_CONDITION, sort=False, dropna=False)


def _values(tables: Tables, vid_epsilons: Sequence[float], attack: str) -> pd.Series:
    """The values of which the quantities are the means, by condition and photo (or pair)."""
    predictions = select(tables["predictions"], attack=attack)
    right = (predictions["predicted"] == predictions["label"]).astype(float)
    attacked, noise = (select(tables["nissim"], attack=name) for name in (attack, NOISE))
    values = {
        "accuracy": predictions.assign(value=right),
        "mod": attacked.assign(value=attacked["nissim"]),
        "mod_noise": noise.assign(value=noise["nissim"]),
        "vid": deviations(attacked, vid_epsilons).rename(columns={"deviation": "value"}),
        "vid_noise": deviations(noise, vid_epsilons).rename(columns={"deviation": "value"}),
        "unrelated": tables["unrelated"].assign(value=tables["unrelated"]["nissim"]),
    }
    rows = pd.concat([table.assign(quantity=quantity) for quantity, table in values.items()])
    # A photo counts as a pair of one person.
    rows["other_identity"] = rows["other_identity"].fillna(rows["identity"])
    keys = [*_CONDITION, *_PEOPLE, "photo"]
    # A photo is in several pairs, the same ones with every seed.
    rows["pair"] = rows.groupby(keys, sort=False, dropna=False).cumcount()
    return rows.set_index([*keys, "pair"])["value"]


def verdict_counts(by_seed: Mapping[int, pd.DataFrame]) -> pd.DataFrame:
    """How often each claim got each verdict.

    Args:
        by_seed: by seed of the training, the verdicts.

    Returns:
        One row per claim and arm of the run: claim, says, arm, seeds (their number), holds, fails,
        inconclusive, not_judged (numbers of seeds), by_seed (the verdicts in the order of the
        seeds, such as "0: holds; 1: inconclusive").
    """
    keys = ["claim", "says", "arm"]
    wide = pd.concat(
        {seed: select(t, on="run").set_index(keys)["verdict"] for seed, t in by_seed.items()},
        axis=1,
    )
    texts = wide.apply(lambda row: "; ".join(f"{seed}: {v}" for seed, v in row.items()), axis=1)
    counts = {name: (wide == verdict).sum(axis=1) for name, verdict in _VERDICTS.items()}
    return pd.DataFrame({"seeds": len(by_seed), **counts, "by_seed": texts}).reset_index()
