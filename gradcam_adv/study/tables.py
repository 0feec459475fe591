"""From one row a photo to one a network, attack and epsilon: accuracy, PSNR, MOD, VID, shift."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
import scipy.stats

from gradcam_adv import statistics
from gradcam_adv.metrics import nissim as metrics
from gradcam_adv.study.setting import FROM


def accuracy(predictions: pd.DataFrame) -> pd.DataFrame:
    """Accuracy with its 95 % Wilson interval.

    Args:
        predictions: columns network, attack, epsilon, label, predicted; one row a photo.

    Returns:
        Columns network, attack, epsilon, photos, right, accuracy, low, high; the rest in [0, 1].
    """
    rows = []
    for key, group in predictions.groupby(["network", "attack", "epsilon"], sort=False):
        right = int((group["predicted"] == group["label"]).sum())
        low, high = statistics.wilson_interval(right, len(group))
        rows.append((*key, len(group), right, right / len(group), low, high))
    columns = ["network", "attack", "epsilon", "photos", "right", "accuracy", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def psnr(predictions: pd.DataFrame) -> pd.DataFrame:
    """Mean and spread of PSNR in dB over the photos that an attack changed.

    Returns:
        Columns network, attack, epsilon, photos, unchanged (how many photos the attack left as
        they were, where PSNR is infinite), psnr (infinite where it changed none, as at epsilon
        0), spread (standard deviation over photos; 0 where psnr is infinite).
    """
    rows = []
    for key, group in predictions.groupby(["network", "attack", "epsilon"], sort=False):
        values = group["psnr"].to_numpy()
        finite = values[np.isfinite(values)]
        mean, spread = (finite.mean(), finite.std()) if len(finite) else (np.inf, 0.0)
        rows.append((*key, len(values), len(values) - len(finite), mean, spread))
    columns = ["network", "attack", "epsilon", "photos", "unchanged", "psnr", "spread"]
    return pd.DataFrame(rows, columns=columns)


def zero_gradients(predictions: pd.DataFrame) -> pd.DataFrame:
    """Share of pixels whose gradient is exactly zero, which FGSM leaves as they are.

    Returns:
        Columns network (on which the gradient was taken), photos, zero_gradient (mean share).
    """
    own = predictions[(predictions["attack"] == "white-box") & (predictions["epsilon"] == 0)]
    grouped = own.groupby("network", sort=False)["zero_gradient"]
    return grouped.agg(photos="size", zero_gradient="mean").reset_index()


def mod(nissim: pd.DataFrame, ceiling: pd.DataFrame, seed: int) -> pd.DataFrame:
    """MOD, equation 2, with its controls beside it.

    Args:
        nissim: columns network, attack, epsilon, target, size, identity, nissim, flipped,
            empty_clean, empty_perturbed; one row a photo.
        ceiling: columns network, target, size, nissim; one row a pair of unrelated photos.
        seed: of the bootstrap.

    Returns:
        One row for each network, attack (but noise), epsilon, target and size: photos, mod, low,
        high (bootstrap over identities); mod_noise, of random signs of the same epsilon; ceiling,
        of unrelated photos; flipped and mod_flipped, mod_unflipped of the photos whose
        prediction changed and did not (NaN where there are none); empty_clean, empty_perturbed
        and both_empty, how many maps were zero everywhere.
    """
    keys = ["network", "attack", "epsilon", "target", "size"]
    means = nissim.groupby(keys)["nissim"].mean().to_dict()
    ceilings = ceiling.groupby(["network", "target", "size"])["nissim"].mean().to_dict()
    rows = []
    attacked = nissim[nissim["attack"] != "noise"]
    for key, group in attacked.groupby(keys, sort=False):
        network, _, epsilon, target, size = key
        low, high = statistics.bootstrap_mean_interval(group["nissim"], group["identity"], seed)
        flipped = group["flipped"].to_numpy(dtype=bool)
        values = group["nissim"].to_numpy()
        rows.append(
            dict(zip(keys, key, strict=True))
            | {
                "photos": len(group),
                "mod": metrics.mod(values),
                "low": low,
                "high": high,
                "mod_noise": means[network, "noise", epsilon, target, size],
                "ceiling": ceilings[network, target, size],
                "flipped": int(flipped.sum()),
                "mod_flipped": _mean(values[flipped]),
                "mod_unflipped": _mean(values[~flipped]),
                "empty_clean": int(group["empty_clean"].sum()),
                "empty_perturbed": int(group["empty_perturbed"].sum()),
                "both_empty": int((group["empty_clean"] & group["empty_perturbed"]).sum()),
            }
        )
    return pd.DataFrame(rows)


def transfer(
    accuracy: pd.DataFrame, mod: pd.DataFrame, networks: Sequence[str], source: str
) -> pd.DataFrame:
    """The attack made on each network, given to each: accuracy and MOD at the largest epsilon.

    Args:
        accuracy: of :func:`accuracy`.
        mod: of :func:`mod`, the rows of one target and size.
        networks: of the study; the rows stand in their order.
        source: on which the black-box attack was made.

    Returns:
        One row a source and network, the one attacked, as far as both tables have the pair:
        source, network, epsilon, photos, right, accuracy, low, high (Wilson), mod, mod_low,
        mod_high (bootstrap over identities), mod_noise and ceiling, the network's own whatever
        the source.
    """
    keys = ["source", "network", "epsilon"]
    right = _by_source(accuracy, source)[[*keys, "photos", "right", "accuracy", "low", "high"]]
    shifted = _by_source(mod, source).rename(columns={"low": "mod_low", "high": "mod_high"})
    shifted = shifted[[*keys, "mod", "mod_low", "mod_high", "mod_noise", "ceiling"]]
    place = {network: i for i, network in enumerate(networks)}
    return right.merge(shifted, on=keys).sort_values(
        ["source", "network"], key=lambda column: column.map(place), ignore_index=True
    )


def _by_source(table: pd.DataFrame, source: str) -> pd.DataFrame:
    """The attacks at the largest epsilon, each with the network it was made on; none twice."""
    largest = table["epsilon"] == table["epsilon"].max()
    own = table[largest & (table["attack"] != "noise")]
    made_on = own["attack"].str.removeprefix(FROM)
    made_on = made_on.mask(own["attack"] == "black-box", source)
    made_on = made_on.mask(own["attack"] == "white-box", own["network"])
    # The source's attack on itself stands under both names.
    return own.assign(source=made_on).drop_duplicates(["source", "network"])


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def excess(nissim: pd.DataFrame, ceiling: pd.DataFrame, seed: int) -> pd.DataFrame:
    """How much of MOD is the attack's own: NISSIM less that of noise of its size, photo by photo.

    Args:
        nissim: columns network, attack, epsilon, target, size, photo, identity, nissim; one row
            a photo.
        ceiling: as for :func:`mod`.
        seed: of the bootstrap.

    Returns:
        One row for each network, attack (but noise), epsilon, target and size: photos, mod,
        noise (MOD of random signs), excess (mod less noise), low, high (bootstrap of the excess
        over identities), ceiling.
    """
    keys = ["network", "attack", "epsilon", "target", "size"]
    ceilings = ceiling.groupby(["network", "target", "size"])["nissim"].mean().to_dict()
    noise = nissim.loc[nissim["attack"] == "noise"].drop(columns="attack")
    paired_keys = ["network", "epsilon", "target", "size", "photo", "identity"]
    both = nissim[nissim["attack"] != "noise"].merge(
        noise[[*paired_keys, "nissim"]], on=paired_keys, suffixes=("", "_noise")
    )
    rows = []
    for key, group in both.groupby(keys, sort=False):
        network, _, _, target, size = key
        own = group["nissim"] - group["nissim_noise"]
        interval = statistics.bootstrap_mean_interval(own, group["identity"], seed)
        means = group["nissim"].mean(), group["nissim_noise"].mean(), own.mean()
        rows.append((*key, len(group), *means, *interval, ceilings[network, target, size]))
    columns = [*keys, "photos", "mod", "noise", "excess", "low", "high", "ceiling"]
    return pd.DataFrame(rows, columns=columns)


def over_networks(nissim: Iterable[pd.DataFrame], keys: list[str]) -> pd.DataFrame:
    """Mean NISSIM over networks of each row that all of them have; network is "all".

    Args:
        nissim: a table a network, columns ``keys`` and nissim; held one at a time.
        keys: columns that tell the rows of one network apart.
    """
    total, count = pd.Series(dtype=np.float64), 0
    for table in nissim:
        own = table.set_index(keys)["nissim"]
        total = total.add(own) if count else own
        count += 1
    return (total.dropna() / count).reset_index().assign(network="all")


def shift(nissim: pd.DataFrame, seed: int) -> pd.DataFrame:
    """How regions of attention shift: what they lose and gain, and where their middle goes.

    Args:
        nissim: columns network, attack, epsilon, target, size, identity, and those of
            :class:`gradcam_adv.metrics.regions.Shift`; one row a photo.
        seed: of the bootstrap.

    Returns:
        One row for each network, attack (noise as well, the control), epsilon, target and size:
        photos; compared, how many of them have two maps that aren't empty, on which the rest
        stands; lost, gained and moved, each a mean with its ends lost_low, lost_high and so on
        (bootstrap over identities); area_ratio, the median; of the centroids that moved, how
        many (turned), their mean direction in radians and its agreement: the mean resultant
        length, from 0, all directions alike, to 1, all one. NaN where there is nothing.
    """
    keys = ["network", "attack", "epsilon", "target", "size"]
    rows = []
    for key, group in nissim.groupby(keys, sort=False):
        both = group[group["moved"].notna()]
        row = dict(zip(keys, key, strict=True)) | {"photos": len(group), "compared": len(both)}
        for name in ("lost", "gained", "moved"):
            low, high = statistics.bootstrap_mean_interval(both[name], both["identity"], seed)
            row |= {name: both[name].mean(), f"{name}_low": low, f"{name}_high": high}
        directions = both["direction"].dropna()
        row |= {"area_ratio": both["area_ratio"].median(), "turned": len(directions)}
        rows.append(row | _circular(directions.to_numpy()))
    return pd.DataFrame(rows)


def _circular(directions: np.ndarray) -> dict[str, float]:
    """Mean direction and mean resultant length of angles in radians; NaN without any."""
    if not len(directions):
        return {"direction": float("nan"), "agreement": float("nan")}
    mean = scipy.stats.circmean(directions, low=-np.pi, high=np.pi)
    return {"direction": float(mean), "agreement": float(1 - scipy.stats.circvar(directions))}


def vid(nissim: pd.DataFrame, seed: int, *, with_zero: bool = False) -> pd.DataFrame:
    """VID, equations 3 and 4, with its bootstrap interval over identities.

    Args:
        nissim: as for :func:`mod`; every photo at every epsilon.
        seed: of the bootstrap.
        with_zero: count the clean photos (epsilon 0) among the levels.

    Returns:
        Columns network, attack (but those of :func:`transfer` alone, which have one level and so
        no variation), target, size, levels, photos, vid, low, high.
    """
    several = nissim[~nissim["attack"].str.startswith(FROM)]
    levels = several if with_zero else several[several["epsilon"] > 0]
    rows = []
    keys = ["network", "attack", "target", "size"]
    for key, group in levels.groupby(keys, sort=False):
        by_photo = group.pivot(index="epsilon", columns="photo", values="nissim")
        values = by_photo.to_numpy()
        identities = group.drop_duplicates("photo").set_index("photo")["identity"]
        low, high = statistics.bootstrap_mean_interval(
            values.std(axis=0), identities.loc[by_photo.columns], seed
        )
        rows.append((*key, *values.shape, metrics.vid(values), low, high))
    return pd.DataFrame(rows, columns=[*keys, "levels", "photos", "vid", "low", "high"])


def depth(layers: pd.DataFrame, ceiling: pd.DataFrame) -> pd.DataFrame:
    """MOD of each layer over the example photos: where in a network the focus begins to shift.

    Args:
        layers: columns network, attack, epsilon, depth, layer, nissim; one row a photo.
        ceiling: columns network, depth, nissim; one row a pair of example photos of different
            people, none where there are no such two.

    Returns:
        Columns network, attack (but noise), epsilon, depth, layer, photos, mod, mod_noise (of
        random signs of the same epsilon), ceiling (of unrelated photos; NaN without any pair).
    """
    keys = ["network", "attack", "epsilon", "depth", "layer"]
    grouped = layers.groupby(keys, sort=False)["nissim"]
    mods = grouped.agg(photos="size", mod=metrics.mod).reset_index()
    is_noise = mods["attack"] == "noise"
    same = ["network", "epsilon", "depth", "layer"]
    noise = mods[is_noise].set_index(same)["mod"].rename("mod_noise")
    # A table without rows has no types once it has been a file.
    typed = ceiling.astype({"depth": np.int64, "nissim": np.float64})
    ceilings = typed.groupby(["network", "depth"])["nissim"].mean().rename("ceiling")
    return mods[~is_noise].join(noise, on=same).join(ceilings, on=["network", "depth"])


def paired(
    first: pd.DataFrame,
    second: pd.DataFrame,
    keys: list[str],
    value: str,
    seed: int,
    names: tuple[str, str] = ("plain", "aligned"),
) -> pd.DataFrame:
    """How a number differs between two arms or runs, photo by photo, on the photos of both.

    Args:
        first: columns photo, identity, ``value`` and ``keys``; one row a photo and condition.
        second: the same of the other.
        keys: columns that tell conditions apart.
        value: the column compared.
        seed: of the bootstrap.
        names: columns of the two means.

    Returns:
        One row a condition of both: keys, photos, the means over those photos by ``names``,
        difference (second less first), low, high (bootstrap over identities), up, down (on how
        many photos the number is greater, and smaller, in the second).
    """
    both = first.merge(second, on=[*keys, "photo", "identity"], suffixes=("_first", "_second"))
    rows = []
    for key, group in both.groupby(keys, sort=False):
        before = group[f"{value}_first"].to_numpy(dtype=np.float64)
        after = group[f"{value}_second"].to_numpy(dtype=np.float64)
        change = after - before
        interval = statistics.bootstrap_mean_interval(change, group["identity"], seed)
        means = before.mean(), after.mean(), change.mean()
        moved = int((change > 0).sum()), int((change < 0).sum())
        rows.append((*key, len(group), *means, *interval, *moved))
    columns = [*keys, "photos", *names, "difference", "low", "high", "up", "down"]
    return pd.DataFrame(rows, columns=columns)


def unpaired(
    first: pd.DataFrame, second: pd.DataFrame, keys: list[str], value: str, seed: int
) -> pd.DataFrame:
    """How a number differs between two runs, each on all of its own photos.

    Args:
        first: as for :func:`paired`.
        second: the same of the other.
        keys: columns that tell conditions apart.
        value: the column compared.
        seed: of the bootstrap.

    Returns:
        One row a condition of both: keys, photos_first, photos_second, first, second (means),
        difference (second less first), low, high (bootstrap over the identities of each, drawn
        apart from those of the other).
    """
    others = dict(iter(second.groupby(keys, sort=False)))
    rows = []
    for key, group in first.groupby(keys, sort=False):
        if key not in others:
            continue
        other = others[key]
        interval = statistics.bootstrap_difference_interval(
            (group[value], group["identity"]), (other[value], other["identity"]), seed
        )
        means = group[value].mean(), other[value].mean()
        rows.append((*key, len(group), len(other), *means, means[1] - means[0], *interval))
    columns = ["photos_first", "photos_second", "first", "second", "difference", "low", "high"]
    return pd.DataFrame(rows, columns=[*keys, *columns])
