"""From batches to tidy tables: NISSIM, its controls, MOD, VID, the gain and the half-shift."""

from __future__ import annotations

import numpy as np
import pandas as pd

from gradcam_adv import metrics
from gradcam_adv.explain.heatmaps import is_empty
from gradcam_adv.robustness.batches import Batch, Explained
from gradcam_adv.robustness.comparison import Comparison


def images_of(batch: Batch) -> pd.DataFrame:
    """The rows of :attr:`gradcam_adv.Dissimilarity.images` for a batch."""
    rows = []
    for attacked in batch.attacked:
        columns = {"image": batch.numbers, "epsilon": attacked.epsilon, "label": batch.labels}
        columns["predicted_clean"] = batch.clean.predicted
        columns["predicted"] = attacked.predicted
        for column, level in (("logit_clean", batch.clean), ("logit", attacked)):
            columns[column] = np.take_along_axis(level.logits, batch.labels[:, None], axis=1)[:, 0]
        columns["psnr"] = metrics.psnr(batch.clean.pixels, attacked.pixels)
        rows.append(pd.DataFrame(columns))
    return pd.concat(rows)


def nissim_of(batch: Batch, size: str, compare: Comparison = metrics.nissim) -> pd.DataFrame:
    """The rows of :attr:`gradcam_adv.Dissimilarity.nissim` for a batch, without depth."""
    return pd.concat(
        _rows(batch, name, size, explained, compare)
        for name in batch.clean.heatmaps
        for explained in batch.attacked
    )


def controls_of(batch: Batch, size: str, compare: Comparison = metrics.nissim) -> pd.DataFrame:
    """The rows of :attr:`gradcam_adv.Dissimilarity.controls` for a batch, without depth."""
    rows = [pd.DataFrame(columns=["image", "layer", "control", "epsilon", "nissim"])]
    for name in batch.clean.heatmaps:
        for control, explained in (("noise", batch.noise), ("mirrored", batch.mirrored)):
            made = (_rows(batch, name, size, one, compare) for one in explained)
            rows += [table.assign(control=control) for table in made]
        rows += _unrelated(batch, name, size, compare)
    return pd.concat(rows[1:] or rows)[rows[0].columns]


def _rows(
    batch: Batch, name: str, size: str, explained: Explained, compare: Comparison
) -> pd.DataFrame:
    """NISSIM, or what stands for it, of one layer's heatmaps with the clean ones."""
    pair = batch.clean.heatmaps[name], explained.heatmaps[name]
    values = {"image": batch.numbers, "layer": name, "epsilon": explained.epsilon}
    values["nissim"] = compare(*pair, _compared_at(batch, size))
    values["empty_clean"], values["empty_perturbed"] = map(is_empty, pair)
    return pd.DataFrame(values)


def _unrelated(batch: Batch, name: str, size: str, compare: Comparison) -> list[pd.DataFrame]:
    """Both unrelated controls of one layer: images without an unrelated one have no row."""
    others = [unrelated[name] for unrelated in batch.unrelated]
    has = [i for i, maps in enumerate(others) if len(maps)]
    if not has:
        return []
    compared_at = _compared_at(batch, size)
    counts = [len(others[i]) for i in has]
    clean = np.repeat(batch.clean.heatmaps[name][has], counts, axis=0)
    every = compare(clean, np.concatenate([others[i] for i in has]), compared_at)
    between = [values.mean() for values in np.split(every, np.cumsum(counts)[:-1])]
    common = {"image": batch.numbers[has], "layer": name}
    rows = [pd.DataFrame(common | {"control": "unrelated", "epsilon": 0.0, "nissim": between})]
    firsts = np.stack([others[i][0] for i in has])
    for attacked in batch.attacked:
        values = compare(firsts, attacked.heatmaps[name][has], compared_at)
        of_attacked = {"control": "unrelated_attacked", "epsilon": attacked.epsilon}
        rows.append(pd.DataFrame(common | of_attacked | {"nissim": values}))
    return rows


def _compared_at(batch: Batch, size: str) -> tuple[int, ...] | None:
    """The size for a comparison."""
    return None if size == "native" else batch.clean.pixels.shape[1:3]


def _of(controls: pd.DataFrame, control: str) -> pd.DataFrame:
    return controls[controls["control"] == control]


def mod_of(nissim: pd.DataFrame, controls: pd.DataFrame) -> pd.DataFrame:
    """The rows of :attr:`gradcam_adv.Dissimilarity.mod`."""
    keys = ["layer", "depth", "epsilon"]
    both = nissim["empty_clean"] & nissim["empty_perturbed"]
    grouped = nissim.assign(both_empty=both).groupby(keys, sort=False)
    table = grouped["nissim"].agg(images="size", mod=metrics.mod)
    # Without a map that is not empty there is nothing to compare: that is no MOD of 0.
    table["mod"] = table["mod"].mask(grouped["both_empty"].all())
    if len(controls):
        for control, column in (("noise", "mod_noise"), ("mirrored", "mod_mirrored")):
            table[column] = _of(controls, control).groupby(keys)["nissim"].mean()
        of_layer = _of(controls, "unrelated").groupby("layer")["nissim"]
        layers = table.index.get_level_values("layer")
        table["unrelated"] = of_layer.mean().reindex(layers).to_numpy()
        by_level = _of(controls, "unrelated_attacked").groupby(keys)["nissim"]
        table["unrelated_attacked"] = by_level.mean().reindex(table.index)
        counts = of_layer.size().reindex(layers, fill_value=0)
        table["unrelated_images"] = counts.to_numpy()
    for column in ("empty_clean", "empty_perturbed", "both_empty"):
        table[column] = grouped[column].sum()
    return table.reset_index()


def vid_of(nissim: pd.DataFrame, controls: pd.DataFrame) -> pd.DataFrame:
    """The rows of :attr:`gradcam_adv.Dissimilarity.vid`."""
    rows = []
    same_levels = controls[controls["epsilon"].isin(nissim["epsilon"].unique())]
    for (layer, depth), group in nissim.groupby(["layer", "depth"], sort=False):
        row = {"layer": layer, "depth": depth, "images": group["image"].nunique()}
        row["levels"] = group["epsilon"].nunique()
        row["vid"] = metrics.vid(_by_epsilon(group)) if _has_maps(group) else np.nan
        if len(controls):
            noise = _of(same_levels, "noise")
            row["vid_noise"] = metrics.vid(_by_epsilon(noise[noise["layer"] == layer]))
        rows.append(row)
    return pd.DataFrame(rows)


def _has_maps(nissim: pd.DataFrame) -> bool:
    """Whether some heatmap is not empty."""
    return not (nissim["empty_clean"] & nissim["empty_perturbed"]).all()


def _by_epsilon(nissim: pd.DataFrame) -> pd.DataFrame:
    """NISSIM of one layer: one row per epsilon, rising, and one column per image."""
    return nissim.pivot(index="epsilon", columns="image", values="nissim")


def gain_of(
    nissim: pd.DataFrame, controls: pd.DataFrame, groups: np.ndarray | None
) -> pd.DataFrame:
    keys = ["layer", "depth", "control", "epsilon", "images"]
    columns = [*keys, "equivalent", "gain", "low", "high"]
    tables = [pd.DataFrame(columns=columns)]
    for (layer, depth), group in nissim.groupby(["layer", "depth"], sort=False):
        attack = _by_epsilon(group)
        known = 1.0 if _has_maps(group) else np.nan
        of_layer = controls[controls["layer"] == layer]
        for control in ("noise", "mirrored") if len(controls) else ():
            curve = _by_epsilon(_of(of_layer, control))
            found = metrics.gain(attack, attack.index, curve, curve.index, groups)
            about = {"layer": layer, "depth": depth, "control": control}
            numbers = {name: known * getattr(found, name) for name in columns[len(keys) :]}
            table = pd.DataFrame(numbers | about)
            tables.append(table.assign(epsilon=attack.index, images=attack.shape[1]))
    return pd.concat(tables[1:] or tables, ignore_index=True)[columns]


def half_shift_of(
    nissim: pd.DataFrame, controls: pd.DataFrame, groups: np.ndarray | None
) -> pd.DataFrame:
    """The rows of :attr:`gradcam_adv.Dissimilarity.half_shift`."""
    names = ("attack", "noise", "ratio")
    ends = [f"{name}{end}" for name in names for end in ("", "_low", "_high")]
    rows = []
    for (layer, depth), group in nissim.groupby(["layer", "depth"], sort=False):
        of_layer = controls[controls["layer"] == layer]
        unrelated = _of(of_layer, "unrelated").set_index("image")["nissim"]
        if unrelated.empty or not _has_maps(group):
            continue
        images = unrelated.index
        attack, noise = (_by_epsilon(table)[images] for table in (group, _of(of_layer, "noise")))
        found = metrics.half_shift(
            attack,
            attack.index,
            noise,
            noise.index,
            unrelated,
            None if groups is None else groups[images],
        )
        numbers = [*found.attack, *found.noise, *found.ratio]
        rows.append((layer, depth, len(images), unrelated.mean(), *numbers))
    return pd.DataFrame(rows, columns=["layer", "depth", "images", "unrelated", *ends])
