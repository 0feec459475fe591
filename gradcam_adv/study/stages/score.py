"""The stage score: NISSIM and shift of every photo and level, of every layer, and the ceilings."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gradcam_adv import batching as batches
from gradcam_adv.explain import gradcam
from gradcam_adv.files import artifacts
from gradcam_adv.metrics import nissim as metrics
from gradcam_adv.metrics import regions
from gradcam_adv.models import backbones
from gradcam_adv.runs.engines import LOCAL, Engine, Sliced, Write
from gradcam_adv.study import tables
from gradcam_adv.study.config import Study
from gradcam_adv.study.setting import (
    SLICE,
    TARGETS,
    Setting,
    condition_key,
    conditions,
    example_rows,
    layers_in,
    levels_of,
    predictions,
    targets,
    under,
    with_white_box_of_source,
)

# How many unrelated photos each photo's map is held against for the ceiling of MOD.
CEILING_PAIRS = 5


def score(setting: Setting, folder: Path, network: str, engine: Engine = LOCAL) -> list[Path]:
    sliced = Sliced(
        f"score {network}, {setting.arm}",
        setting.test,
        lambda name, _: [folder / f"nissim-{name}.csv"],
        partial(_begin_score, setting, folder, network),
    )
    ceiling = folder / "ceiling.csv"
    return [*engine.run(sliced), _whole(ceiling, lambda: _ceiling(setting, network))]


def _begin_score(setting: Setting, folder: Path, network: str) -> Write:
    table = predictions(setting, network)
    evaluated = setting.folders[f"evaluate/{network}"]

    def write(name: str, rows: pd.DataFrame) -> None:
        with artifacts.read_arrays(evaluated / f"last-{name}.npz") as maps:
            scored = _score_slice(setting, network, rows, maps, table)
        artifacts.write_table(folder / f"nissim-{name}.csv", scored)

    return write


def layers(setting: Setting, folder: Path, network: str, engine: Engine = LOCAL) -> list[Path]:
    """NISSIM of every layer for the example photos, one file a photo, and its ceiling."""
    sliced = Sliced(
        f"score {network}, {setting.arm}, layers",
        setting.test.iloc[example_rows(setting)],
        lambda name, _: [folder / f"layers-{name}.csv"],
        partial(_begin_layers, setting, folder, network),
        length=1,
    )
    ceiling = folder / "depth-ceiling.csv"
    return [*engine.run(sliced), _whole(ceiling, lambda: _depth_ceiling(setting, network))]


def _begin_layers(setting: Setting, folder: Path, network: str) -> Write:
    def write(name: str, _: pd.DataFrame) -> None:
        scored = _score_layers(setting, network, int(name))
        artifacts.write_table(folder / f"layers-{name}.csv", scored)

    return write


def _whole(path: Path, make: Callable[[], pd.DataFrame]) -> Path:
    """A table that takes seconds to make, written unless it is there."""
    if not artifacts.is_whole(path):
        artifacts.write_table(path, make())
    return path


def at_sizes(study: Study, maps: np.ndarray) -> dict[str, np.ndarray]:
    """Heatmaps at the input's size and, where SSIM's window fits into them, at their own."""
    sizes = {"input": gradcam.resize(maps, study.image_size)}
    if min(maps.shape[-2:]) >= metrics.WINDOW:
        sizes["native"] = maps
    return sizes


def native_fits(settings: Iterable[Setting]) -> bool:
    """Whether SSIM's window fits into the last heatmaps of every network, once evaluated."""
    sides: list[int] = []
    for setting in settings:
        for network in setting.study.networks:
            path = min(setting.folders[f"evaluate/{network}"].glob("last-*.npz"))
            with artifacts.read_arrays(path) as maps:
                sides += maps["clean"].shape[-2:]
    return min(sides) >= metrics.WINDOW


def _score_slice(
    setting: Setting, network: str, rows: pd.DataFrame, maps: Any, table: pd.DataFrame
) -> pd.DataFrame:
    study = setting.study
    layer = backbones.BACKBONES[network].last_activation
    # Of the maps kept, those of the classes scored, in their order.
    wanted = [TARGETS.index(target) for target in targets(study)]

    def maps_under(condition: str) -> np.ndarray:
        return _checked(maps[condition][:, wanted], network, layer, under(condition, rows))

    clean = maps_under("clean")
    clean_at = at_sizes(study, clean)
    parts = []
    for attack, epsilons in levels_of(study, network).items():
        for epsilon in epsilons:
            found = table[(table["attack"] == attack) & (table["epsilon"] == epsilon)]
            found = found.set_index("photo").loc[rows["photo"]]
            perturbed = maps_under(condition_key(attack, epsilon)) if epsilon else clean
            for size, compared in at_sizes(study, perturbed).items():
                values = metrics.nissim(clean_at[size], compared)
                shifts = asdict(regions.shift(clean_at[size], compared))
                for i, target in enumerate(targets(study)):
                    parts.append(
                        rows[["photo", "identity"]].assign(
                            network=network,
                            layer=layer,
                            attack=attack,
                            epsilon=epsilon,
                            target=target,
                            size=size,
                            nissim=values[:, i],
                            **{name: column[:, i] for name, column in shifts.items()},
                            flipped=(found["predicted"] != found["predicted_clean"]).to_numpy(),
                            empty_clean=np.logical_not(clean[:, i].any(axis=(1, 2))),
                            empty_perturbed=np.logical_not(perturbed[:, i].any(axis=(1, 2))),
                        )
                    )
    return with_white_box_of_source(study, network, pd.concat(parts, ignore_index=True))


def _checked(maps: np.ndarray, network: str, layer: str, shown: list[str]) -> np.ndarray:
    """``maps`` as they were read; ValueError naming which of them, ``shown``, isn't finite."""
    with batches.naming(shown, network):
        return batches.check_finite(maps, f"maps of layer {layer!r}")


def _ceiling(setting: Setting, network: str) -> pd.DataFrame:
    """NISSIM between clean maps of photos of different people: what no relation at all gives."""
    test = setting.test
    wanted = [TARGETS.index(target) for target in targets(setting.study)]
    maps = []
    for path in sorted(setting.folders[f"evaluate/{network}"].glob("last-*.npz")):
        with artifacts.read_arrays(path) as arrays:
            maps.append(arrays["clean"][:, wanted])
    layer = backbones.BACKBONES[network].last_activation
    clean = _checked(np.concatenate(maps), network, layer, under("clean", test))
    chance = np.random.default_rng(setting.study.seed)
    identities = test["identity"].to_numpy()
    own, other = [], []
    for row, identity in enumerate(identities):
        strangers = np.flatnonzero(identities != identity)
        chosen = chance.choice(strangers, min(CEILING_PAIRS, len(strangers)), replace=False)
        own += [row] * len(chosen)
        other += chosen.tolist()
    parts = []
    for start in range(0, len(own), SLICE):
        pair = slice(start, start + SLICE)
        others = at_sizes(setting.study, clean[other[pair]])
        for size, mine in at_sizes(setting.study, clean[own[pair]]).items():
            values = metrics.nissim(mine, others[size])
            for i, target in enumerate(targets(setting.study)):
                parts.append(
                    pd.DataFrame(
                        {
                            "photo": test["photo"].to_numpy()[own[pair]],
                            "identity": identities[own[pair]],
                            "other": test["photo"].to_numpy()[other[pair]],
                            "network": network,
                            "target": target,
                            "size": size,
                            "nissim": values[:, i],
                        }
                    )
                )
    return pd.concat(parts, ignore_index=True)


def _score_layers(setting: Setting, network: str, row: int) -> pd.DataFrame:
    """NISSIM of every layer for one example photo, at the input's size."""
    levels = [c for c in conditions(setting.study, network) if c[1]]
    keys = [condition_key(*c) for c in (("clean", 0.0), *levels)]
    photo = setting.test.iloc[row]
    parts = []
    explained = setting.folders[f"explain/{network}"]
    with artifacts.read_arrays(explained / f"example-{row:07d}.npz") as maps:
        for depth, layer in enumerate(layers_in(maps)):
            stack = np.stack([maps[f"{key}/{layer}"] for key in keys])
            _checked(stack, network, layer, [f"{photo['photo']}, {key}" for key in keys])
            clean, *attacked = gradcam.resize(stack, setting.study.image_size)
            values = metrics.nissim(np.broadcast_to(clean, np.shape(attacked)), attacked)
            parts.append(
                pd.DataFrame(levels, columns=["attack", "epsilon"]).assign(
                    photo=photo["photo"],
                    identity=photo["identity"],
                    network=network,
                    depth=depth,
                    layer=layer,
                    nissim=values,
                )
            )
    return pd.concat(parts, ignore_index=True)


def _depth_ceiling(setting: Setting, network: str) -> pd.DataFrame:
    """NISSIM of every layer between clean maps of example photos of different people."""
    explained = setting.folders[f"explain/{network}"]
    columns = ["network", "depth", "layer", "photo", "other", "nissim"]
    examples = setting.test.iloc[example_rows(setting)]
    pairs = [
        (own, other)
        for own, other in itertools.combinations(range(len(examples)), 2)
        if examples["identity"].iloc[own] != examples["identity"].iloc[other]
    ]
    rows: list[tuple[str | int | float, ...]] = []
    with contextlib.ExitStack() as opened:
        files = [
            opened.enter_context(artifacts.read_arrays(explained / f"example-{row:07d}.npz"))
            for row in example_rows(setting)
        ]
        layers = layers_in(files[0]) if pairs else []
        for depth, layer in enumerate(layers):
            stack = np.stack([maps[f"clean/{layer}"] for maps in files])
            _checked(stack, network, layer, under("clean", examples))
            maps = gradcam.resize(stack, setting.study.image_size)
            own, other = np.transpose(pairs)
            for (i, j), value in zip(pairs, metrics.nissim(maps[own], maps[other]), strict=True):
                photos = examples["photo"].iloc[i], examples["photo"].iloc[j]
                rows.append((network, depth, layer, *photos, value))
    return pd.DataFrame(rows, columns=columns)


def scores(setting: Setting, network: str, of: str = "nissim-*") -> pd.DataFrame:
    """What :func:`score` wrote for one network: NISSIM, or "ceiling"."""
    return _read(setting.folders[f"score/{network}"], of)


def _read(folder: Path, of: str) -> pd.DataFrame:
    paths = sorted(folder.glob(f"{of}.csv"))
    return pd.concat([artifacts.read_table(path) for path in paths], ignore_index=True)


def summarize(setting: Setting, folder: Path) -> list[Path]:
    """MOD, VID and shift with their controls; one network at a time, which bounds the memory."""
    seed = setting.study.seed
    networks = setting.study.networks
    with_zero = setting.study.readings.vid_levels == "all"
    mods, vids, shifts, excesses = [], [], [], []
    for network in networks:
        nissim, ceiling = scores(setting, network), scores(setting, network, "ceiling")
        mods.append(tables.mod(nissim, ceiling, seed))
        vids.append(tables.vid(nissim, seed, with_zero=with_zero))
        shifts.append(tables.shift(nissim, seed))
        excesses.append(tables.excess(nissim, ceiling, seed))
    keys = ["target", "size", "photo", "identity"]
    nissim = tables.over_networks(
        (scores(setting, network) for network in networks), ["attack", "epsilon", *keys]
    )
    ceiling = tables.over_networks(
        (scores(setting, network, "ceiling") for network in networks), [*keys, "other"]
    )
    excesses.append(tables.excess(nissim, ceiling, seed))
    return artifacts.write_tables(
        folder,
        excess=pd.concat(excesses, ignore_index=True),
        mod=pd.concat(mods, ignore_index=True),
        shift=pd.concat(shifts, ignore_index=True),
        vid=pd.concat(vids, ignore_index=True),
    )


def summarize_layers(setting: Setting, folder: Path) -> list[Path]:
    """MOD of each layer over the example photos, and what it is made from."""
    found, depths = [], []
    for network in setting.study.networks:
        scored = setting.folders[f"layers/{network}"]
        of_photos = _read(scored, "layers-*")
        found.append(with_white_box_of_source(setting.study, network, of_photos))
        depths.append(tables.depth(found[-1], _read(scored, "depth-ceiling")))
    return artifacts.write_tables(
        folder,
        layers=pd.concat(found, ignore_index=True),
        depth=pd.concat(depths, ignore_index=True),
    )
