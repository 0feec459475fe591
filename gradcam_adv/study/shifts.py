"""How far an attack moves heatmaps: MOD, VID, region shift, their controls, depth profiles.

The functions return one row per condition (a network, an attack, an epsilon, a target, which is the
class explained, and a size) unless they say otherwise. They take:

- nissim: columns of the condition, photo, identity, nissim, flipped, empty_clean, empty_perturbed,
  and the attributes of :class:`gradcam_adv.metrics.RegionShift`; one row per photo and condition.
- unrelated: columns network, target, size, identity, other_identity, nissim; one row per pair of
  photos of different people.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import scipy.stats

from gradcam_adv import metrics, statistics
from gradcam_adv.study.attacks import AGAIN, CONTROLS, FROM, NOISE, WHITE_BOX
from gradcam_adv.study.tables import CONDITION, OF_MAPS, SCORED, ends_of, mean_of, per_group, select


def over_draws(nissim: pd.DataFrame) -> pd.DataFrame:
    """NISSIM with one row of noise for each photo and condition: the mean over the draws.

    The other columns of these rows are those of the first draw.
    """
    again = nissim["attack"].str.startswith(AGAIN)
    if not again.any():
        return nissim
    keys = [*OF_MAPS, "epsilon", "photo"]
    means = _means(nissim[again | (nissim["attack"] == NOISE)], keys)
    table = nissim[~again].reset_index(drop=True)
    first = table["attack"] == NOISE
    table.loc[first, "nissim"] = means[pd.MultiIndex.from_frame(table.loc[first, keys])].to_numpy()
    return table


def noise_draws(nissim: pd.DataFrame) -> pd.DataFrame:
    """MOD of noise over its draws.

    Args:
        nissim: with the rows of every draw.

    Returns:
        Columns network, target, size, epsilon, draws (their number), photos, mod (the mean over
        the draws), least, greatest, spread (standard deviation over the draws; NaN of one draw).
    """
    noise = nissim[(nissim["attack"] == NOISE) | nissim["attack"].str.startswith(AGAIN)]
    keys = [*OF_MAPS, "epsilon"]
    by_draw = noise[noise["epsilon"] > 0].groupby([*keys, "attack"], sort=False)["nissim"]
    mods = by_draw.agg(photos="size", mod="mean").groupby(keys, sort=False)
    found = mods["mod"].agg(draws="size", mod="mean", least="min", greatest="max", spread="std")
    found.insert(1, "photos", mods["photos"].first())
    return found.reset_index()


def over_networks(nissim: Iterable[pd.DataFrame], keys: list[str]) -> pd.DataFrame:
    """Mean NISSIM over networks, for each row that all of them have; network is "all".

    Args:
        nissim: a table per network, columns ``keys`` and nissim; held one at a time.
        keys: columns that identify a row of one network.
    """
    total, count = pd.Series(dtype=np.float64), 0
    for table in nissim:
        values = table.set_index(keys)["nissim"]
        total = total.add(values) if count else values
        count += 1
    return (total.dropna() / count).reset_index().assign(network="all")


def mod(
    nissim: pd.DataFrame, unrelated: pd.DataFrame, unrelated_attacked: pd.DataFrame
) -> pd.DataFrame:
    """MOD, equation 2, of every attack except noise, with its controls beside it.

    ``unrelated_attacked`` has the columns of ``unrelated`` and attack and epsilon, which are those
    of the second photo.

    Returns:
        Columns photos, mod, low, high; mod_noise, of random signs of the same epsilon,
        mod_noise_low, mod_noise_high; unrelated, of unrelated photos, unrelated_low,
        unrelated_high; unrelated_attacked, of a clean photo and
        an attacked one of another person (NaN of transfers); flipped (number of photos whose
        prediction changed), mod_flipped and mod_unflipped (MOD of those and of the others; NaN if
        there are none); empty_clean, empty_perturbed and both_empty (numbers of maps that are zero
        everywhere).
    """
    noise = {
        tuple(key): mean_of(group, "nissim")
        for key, group in select(nissim, attack=NOISE).groupby([*OF_MAPS, "epsilon"])
    }
    of_unrelated = _unrelated(unrelated)
    attacked = _means(unrelated_attacked, [*OF_MAPS, "attack", "epsilon"])

    def row_of(group: pd.DataFrame) -> dict[str, Any]:
        *of_maps, attack, epsilon = group.iloc[0][[*OF_MAPS, "attack", "epsilon"]]
        flipped = group["flipped"].astype(bool)
        shift, others = mean_of(group, "nissim"), of_unrelated[tuple(of_maps)]
        of_noise = noise[*of_maps, epsilon]
        return {
            "photos": len(group),
            "mod": shift.value,
            **ends_of(shift.interval(0, 1)),
            "mod_noise": of_noise.value,
            **ends_of(of_noise.interval(0, 1), "mod_noise_"),
            "unrelated": others.value,
            **ends_of(others.interval(0, 1), "unrelated_"),
            "unrelated_attacked": attacked.get((*of_maps, attack, epsilon), np.nan),
            "flipped": int(flipped.sum()),
            "mod_flipped": group.loc[flipped, "nissim"].mean(),
            "mod_unflipped": group.loc[~flipped, "nissim"].mean(),
            "empty_clean": int(group["empty_clean"].sum()),
            "empty_perturbed": int(group["empty_perturbed"].sum()),
            "both_empty": int((group["empty_clean"] & group["empty_perturbed"]).sum()),
        }

    return per_group(SCORED, nissim[nissim["attack"] != NOISE], row_of)


def excess(nissim: pd.DataFrame, unrelated: pd.DataFrame) -> pd.DataFrame:
    """How much of MOD is the attack's own: NISSIM less that of noise of its size, photo by photo.

    Returns:
        Columns photos, mod, noise (MOD of random signs), noise_share (of mod), noise_share_low,
        noise_share_high, excess (mod less noise), low, high (of the excess), unrelated,
        unrelated_low, unrelated_high, of_unrelated (mod as a share of unrelated),
        of_unrelated_low, of_unrelated_high.
    """
    paired_keys = [*OF_MAPS, "epsilon", "photo", "identity"]
    noise = select(nissim, attack=NOISE)[[*paired_keys, "nissim"]]
    both = nissim[nissim["attack"] != NOISE].merge(noise, on=paired_keys, suffixes=("", "_noise"))
    both = both.assign(excess=both["nissim"] - both["nissim_noise"])
    of_unrelated = _unrelated(unrelated)

    def row_of(group: pd.DataFrame) -> dict[str, Any]:
        shift, noise = mean_of(group, "nissim"), mean_of(group, "nissim_noise")
        own, others = mean_of(group, "excess"), of_unrelated[tuple(group.iloc[0][OF_MAPS])]
        noise_share, share = noise / shift, shift / others
        return {
            "photos": len(group),
            "mod": shift.value,
            "noise": noise.value,
            "noise_share": noise_share.value,
            **ends_of(noise_share.interval(0), "noise_share_"),
            "excess": own.value,
            **ends_of(own.interval(-1, 1)),
            "unrelated": others.value,
            **ends_of(others.interval(0, 1), "unrelated_"),
            "of_unrelated": share.value,
            **ends_of(share.interval(0), "of_unrelated_"),
        }

    return per_group(SCORED, both, row_of)


def gain_curves(nissim: pd.DataFrame) -> pd.DataFrame:
    """MOD of the white-box attack and of its controls at every epsilon, also those of the gain.

    Returns:
        Columns network, attack, epsilon, target, size, photos, mod, low, high.
    """

    def row_of(group: pd.DataFrame) -> dict[str, Any]:
        shift = mean_of(group, "nissim")
        return {"photos": len(group), "mod": shift.value, **ends_of(shift.interval(0, 1))}

    shown = nissim[(nissim["epsilon"] > 0) & nissim["attack"].isin((WHITE_BOX, *CONTROLS))]
    table = per_group(SCORED, shown, row_of)
    return table.sort_values([*OF_MAPS, "attack", "epsilon"], ignore_index=True)


def shift(nissim: pd.DataFrame) -> pd.DataFrame:
    """How regions of attention shift: what they lose and gain, and where their centroid goes.

    Returns:
        Columns photos; compared (number of photos with two maps that are not empty; the rest is
        about these); lost, gained and moved, each a mean with its interval lost_low, lost_high and
        so on; area_ratio, the median, area_ratio_low, area_ratio_high; turned (number of centroids
        that moved), their mean direction in radians and its agreement, the mean resultant length:
        from 0, every direction equally, to 1, one direction. NaN if there is nothing.
    """

    def row_of(group: pd.DataFrame) -> dict[str, Any]:
        both = group[group["moved"].notna()]
        row: dict[str, Any] = {"photos": len(group), "compared": len(both)}
        for name in ("lost", "gained", "moved"):
            mean = mean_of(both, name)
            row |= {name: mean.value, **ends_of(mean.interval(0, 1), f"{name}_")}
        areas = statistics.median_interval(both["area_ratio"], both["identity"])
        row |= {"area_ratio": both["area_ratio"].median(), **ends_of(areas, "area_ratio_")}
        angles = both["direction"].dropna().to_numpy()
        row |= {"turned": len(angles), "direction": np.nan, "agreement": np.nan}
        if len(angles):
            row["direction"] = scipy.stats.circmean(angles, low=-np.pi, high=np.pi)
            row["agreement"] = 1 - scipy.stats.circvar(angles)
        return row

    return per_group(SCORED, nissim, row_of)


def deviations(nissim: pd.DataFrame, epsilons: Sequence[float]) -> pd.DataFrame:
    """The standard deviation of each photo's NISSIM over ``epsilons``, whose mean is VID.

    Returns:
        One row per condition (but for the epsilon) and photo: the columns of ``nissim`` that
        identify it, identity, photo, levels (number of epsilons) and deviation. Attacks of the
        transfer matrix, at one epsilon only, have no deviation and no row.
    """
    compared = nissim[nissim["epsilon"].isin(epsilons) & ~nissim["attack"].str.startswith(FROM)]
    keys = [key for key in ("network", "attack", "target", "size") if key in nissim]
    columns = [*keys, "identity", "photo", "levels", "deviation"]
    parts = [pd.DataFrame(columns=columns)] if compared.empty else []
    for key, group in compared.groupby(keys, sort=False):
        by_photo = group.pivot(index="epsilon", columns=["photo", "identity"], values="nissim")
        condition: dict[str, Any] = dict(zip(keys, key, strict=True))
        found = by_photo.columns.to_frame(index=False).assign(
            **condition, levels=len(by_photo), deviation=metrics.deviations(by_photo.to_numpy())
        )
        parts.append(found[columns])
    return pd.concat(parts, ignore_index=True)


def vid(nissim: pd.DataFrame, epsilons: Sequence[float]) -> pd.DataFrame:
    """VID over ``epsilons``, equations 3 and 4.

    Returns:
        Columns network, attack (except those of the transfer matrix), target, size, levels
        (number of epsilons), photos, vid, low, high; vid_of_mod, of :func:`deviation_of_mod`,
        vid_of_mod_low, vid_of_mod_high.
    """
    keys = ["network", "attack", "target", "size"]
    by_condition = nissim.groupby(keys)

    def row_of(group: pd.DataFrame) -> dict[str, Any]:
        mean = mean_of(group, "deviation")
        of_mod = deviation_of_mod(by_condition.get_group(tuple(group.iloc[0][keys])), epsilons)
        return {
            "levels": group["levels"].iloc[0],
            "photos": len(group),
            "vid": mean.value,
            **ends_of(mean.interval(0, 1)),
            "vid_of_mod": of_mod.value,
            **ends_of(deviation_interval(of_mod, group["levels"].iloc[0]), "vid_of_mod_"),
        }

    return per_group(keys, deviations(nissim, epsilons), row_of)


def deviation_of_mod(nissim: pd.DataFrame, epsilons: Sequence[float]) -> statistics.Estimate:
    """The standard deviation of MOD over ``epsilons``, which is how VID may be read, too.

    Equations 3 and 4 have no index of a photo. It is at most VID, and smaller the more the photos
    differ in when they shift.

    Args:
        nissim: rows of one condition, but for the epsilon.
        epsilons: that it goes over.
    """
    mods = [mean_of(select(nissim, epsilon=epsilon), "nissim") for epsilon in epsilons]
    without = pd.concat([mod.without for mod in mods], axis=1)
    return statistics.Estimate(
        metrics.vid([[mod.value] for mod in mods]), without.std(axis=1, ddof=0)
    )


def deviation_interval(deviation: statistics.Estimate, levels: int) -> statistics.Ends:
    """The interval of a :func:`deviation_of_mod` over so many levels; from 0 if MOD may be flat.

    Divided by its error, the deviation of a flat MOD has a chi distribution, so it is never 0.
    """
    low, high = deviation.interval(0, 1)
    flat = deviation.error * scipy.stats.chi.ppf(statistics.CONFIDENCE, levels - 1)
    return 0.0 if deviation.value < flat else low, high


def depth(layers: pd.DataFrame, unrelated: pd.DataFrame) -> pd.DataFrame:
    """MOD of each layer over the example photos: where in a network attention begins to shift.

    Args:
        layers: columns network, attack, epsilon, depth, layer, nissim; one row per photo.
        unrelated: columns network, depth, nissim; one row per pair of example photos, maybe none.

    Returns:
        Columns network, attack (except noise), epsilon, depth, layer, photos, mod, mod_noise (of
        random signs of the same epsilon), gain (over noise; infinite: more than any size of noise
        that was tried), unrelated (of unrelated photos; NaN without a pair).
    """
    same = ["network", "epsilon", "depth", "layer"]
    grouped = layers.groupby([*CONDITION, "depth", "layer"], sort=False)["nissim"]
    mods = grouped.agg(photos="size", mod=metrics.mod).reset_index()
    is_noise = mods["attack"] == NOISE
    noise = mods[is_noise].set_index(same)["mod"].rename("mod_noise")
    curves = dict(iter(mods[is_noise].sort_values("epsilon").groupby(["network", "depth"])))
    found = mods[~is_noise].copy()
    for key, rows in found.groupby(["network", "depth"]):
        equivalent = metrics.size_reaching(rows["mod"], curves[key]["epsilon"], curves[key]["mod"])
        found.loc[rows.index, "gain"] = equivalent / rows["epsilon"]
    # A table without rows loses its types in a file.
    typed = unrelated.astype({"depth": np.int64, "nissim": np.float64})
    means = _means(typed, ["network", "depth"]).rename("unrelated")
    return found.join(noise, on=same).join(means, on=["network", "depth"])


def _unrelated(pairs: pd.DataFrame) -> dict[tuple[Any, ...], statistics.Estimate]:
    """By network, target and size, the mean NISSIM of unrelated photos."""
    return {
        tuple(key): statistics.mean(group["nissim"], group["identity"], group["other_identity"])
        for key, group in pairs.groupby(OF_MAPS)
    }


def _means(nissim: pd.DataFrame, keys: list[str]) -> pd.Series:
    return nissim.groupby(keys)["nissim"].mean()
