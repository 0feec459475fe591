"""A study's variations: its heads trained with other seeds, and the paper read in other ways."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gradcam_adv.study import config as studies
from gradcam_adv.study.config import Study

# In the order in which the report lists them. Flattened features (pooling) are left to a study of
# their own: they are the network's making, and not how its results are read.
SINGLY = (
    "epsilon_unit",
    "preprocessing",
    "perturbed_set",
    "attacked_label",
    "explained_class",
    "vid_levels",
)
# The unit of epsilon decides how large an attack is, so whatever hangs on that is looked at under
# both; a class held fixed takes from MOD what is only another prediction, whatever the unit.
PAIRS = (
    ("epsilon_unit", "perturbed_set"),
    ("epsilon_unit", "attacked_label"),
    ("epsilon_unit", "explained_class"),
    ("epsilon_unit", "vid_levels"),
)
# Of these the perturbed sets, or the networks, become others; the rest only reads the same maps.
_EVALUATED_ANEW = {"epsilon_unit", "preprocessing", "perturbed_set", "attacked_label"}
# Where even InceptionV3's last maps hold SSIM's window.
NATIVE_SIZE = 299


def of_seeds(study: Study) -> dict[int, Study]:
    """By seed but the first, the study with heads of that seed, and no more attacks than needed."""
    return {seed: dataclasses.replace(study, seeds=(seed,), attacks=()) for seed in study.seeds[1:]}


def of_readings(study: Study, *, native_fits: bool) -> dict[str, Study]:
    """By name, the study with one reading changed, then with the pairs of :data:`PAIRS`.

    Args:
        study: whose first seed is taken.
        native_fits: whether every network's last heatmaps hold SSIM's window as they are. Where
            not, the native size is read at :data:`NATIVE_SIZE` pixels, and that size of image is
            a variation of its own.
    """
    study = dataclasses.replace(study, seeds=study.seeds[:1])
    varied = {}
    for changes in (*_single(study), *_native(study, native_fits), *_paired(study)):
        readings = {key: value for key, value in changes.items() if key != "image_size"}
        own: dict[str, Any] = {
            "readings": dataclasses.replace(study.readings, **readings),
            "image_size": changes.get("image_size", study.image_size),
        }
        # The attacks that no reading is judged by are left out of what is done anew.
        if "image_size" in changes or _EVALUATED_ANEW & changes.keys():
            own["attacks"] = ()
        name = ", ".join(f"{key} = {value}" for key, value in changes.items())
        varied[name] = dataclasses.replace(study, **own)
    return varied


def _others(study: Study, key: str) -> list[str]:
    return [c for c in studies.reading_choices(key) if c != getattr(study.readings, key)]


def _single(study: Study) -> Iterator[dict[str, Any]]:
    for key in SINGLY:
        yield from ({key: choice} for choice in _others(study, key))


def _native(study: Study, native_fits: bool) -> Iterator[dict[str, Any]]:
    sizes = _others(study, "heatmap_size")
    if native_fits:
        yield from ({"heatmap_size": size} for size in sizes)
    elif study.image_size < NATIVE_SIZE:
        yield {"image_size": NATIVE_SIZE}
        yield from ({"image_size": NATIVE_SIZE, "heatmap_size": size} for size in sizes)


def _paired(study: Study) -> Iterator[dict[str, Any]]:
    for first, second in PAIRS:
        for one in _others(study, first):
            yield from ({first: one, second: other} for other in _others(study, second))


def models_folder(models: Path, study: Study, variation: Study) -> Path:
    """Where a variation's models go: beside the study's where they are others, or they are its."""
    others = [
        f"{name}-{value}"
        for name, value, own in (
            ("seed", variation.seeds[0], study.seeds[0]),
            ("image_size", variation.image_size, study.image_size),
            ("preprocessing", variation.readings.preprocessing, study.readings.preprocessing),
        )
        if value != own
    ]
    return models / " ".join(others) if others else models
