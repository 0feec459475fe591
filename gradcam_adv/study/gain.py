"""Tables of the gain: what each attack is worth in noise, network by network.

The functions take nissim and unrelated as :mod:`gradcam_adv.study.shifts` does, with all epsilons;
``seed`` is that of the bootstrap over people.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from gradcam_adv import metrics
from gradcam_adv.study.attacks import BLACK_BOX, CONTROLS, NOISE, WHITE_BOX
from gradcam_adv.study.tables import OF_MAPS, select


def _controls_of(attack: str) -> tuple[str, ...]:
    """The controls of an attack. All but noise are made of the study's white-box attack."""
    if attack == WHITE_BOX:
        return CONTROLS
    return (NOISE,) if attack.startswith((BLACK_BOX, WHITE_BOX)) else ()


def by_network(nissim: Iterable[pd.DataFrame], seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What the white-box attack is worth in each control, and each other attack in noise.

    Args:
        nissim: a table per network, of the same photos; held one at a time.
        seed: the same people are drawn for all networks.

    Returns:
        The gain: columns network, target, size, attack, control ("noise", "mirrored" or "other
        photo"), epsilon, photos, mod, mod_control (of the control at the same epsilon; NaN if it
        was not tried there), most (the largest size of the control), equivalent (the size of the
        control that gives the same MOD; infinite: more than the largest), gain (equivalent by
        epsilon), low, high. See :func:`gradcam_adv.metrics.gain`.

        The order of every two networks by the gain of their own attack over noise: columns network,
        other_network, target, size, epsilon, share: that of the draws in which the gain of the
        first is greater; equal ones, as two that are infinite, count half.
    """
    parts = []
    draws: dict[tuple[Any, ...], dict[Any, np.ndarray]] = {}
    for table in nissim:
        for key, attack, control, moved, curve in _compared(table):
            people = moved.columns.get_level_values("identity")
            found = metrics.gain(moved, moved.index, curve, curve.index, people, seed=seed)
            about: dict[str, Any] = dict(zip(OF_MAPS, key, strict=True))
            about |= {"attack": attack, "control": control, "epsilon": moved.index}
            about |= {"photos": moved.shape[1], "mod": moved.mean(axis=1).to_numpy()}
            at_same = curve.mean(axis=1).reindex(moved.index).to_numpy()
            about |= {"mod_control": at_same, "most": curve.index.max()}
            of_gain = ("equivalent", "gain", "low", "high")
            parts.append(pd.DataFrame(about | {name: getattr(found, name) for name in of_gain}))
            if (attack, control) == (WHITE_BOX, NOISE):
                network, *of_maps = key
                for epsilon, drawn in zip(moved.index, found.draws.T, strict=True):
                    draws.setdefault((*of_maps, epsilon), {})[network] = drawn
    return pd.concat(parts, ignore_index=True), _order(draws)


def _compared(
    nissim: pd.DataFrame,
) -> Iterator[tuple[tuple[Any, ...], str, str, pd.DataFrame, pd.DataFrame]]:
    """Network, target and size; attack and control; and NISSIM of both, on the same photos."""
    for key, group in nissim.groupby(OF_MAPS, sort=False):
        by_photo = _by_photo(group)
        for attack, moved in by_photo.items():
            for control in _controls_of(attack):
                if control in by_photo:
                    yield key, attack, control, moved, by_photo[control][moved.columns]


def _by_photo(nissim: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """By attack, NISSIM: one row per epsilon above 0, one column per photo."""
    return {
        str(attack): rows.pivot(index="epsilon", columns=["identity", "photo"], values="nissim")
        for attack, rows in nissim[nissim["epsilon"] > 0].groupby("attack")
    }


def _order(draws: dict[tuple[Any, ...], dict[Any, np.ndarray]]) -> pd.DataFrame:
    rows = [
        (first, second, *key, ((a > b) + 0.5 * (a == b)).mean() if len(a) else np.nan)
        for key, of_networks in draws.items()
        for (first, a), (second, b) in itertools.combinations(of_networks.items(), 2)
    ]
    return pd.DataFrame(
        rows, columns=["network", "other_network", "target", "size", "epsilon", "share"]
    )


def half_shift(nissim: pd.DataFrame, unrelated: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The epsilon at which MOD is half of that of unrelated photos, by attack and by noise.

    Returns:
        Columns network, target, size, attack, photos, unrelated, least (the smallest epsilon of the
        attack; a value below it is on the line from 0), half_shift, noise (the same of noise) and
        ratio (noise by half_shift), each with its interval: half_shift_low and so on. See
        :func:`gradcam_adv.metrics.half_shift`.
    """
    rows = []
    for key, attack, control, moved, noise in _compared(nissim):
        if control != NOISE:
            continue
        about: dict[str, Any] = dict(zip(OF_MAPS, key, strict=True))
        pairs = select(unrelated, **about)
        apart = pairs.groupby(["identity", "photo"])["nissim"].mean()
        people = apart.index.get_level_values("identity")
        moved, noise = moved[apart.index], noise[apart.index]
        found = metrics.half_shift(moved, moved.index, noise, noise.index, apart, people, seed=seed)
        about |= {"attack": attack, "photos": len(apart), "unrelated": apart.mean()}
        about |= {"least": moved.index.min()}
        for name, values in (
            ("half_shift", found.attack),
            ("noise", found.noise),
            ("ratio", found.ratio),
        ):
            about |= dict(zip((name, f"{name}_low", f"{name}_high"), values, strict=True))
        rows.append(about)
    return pd.DataFrame(rows)
