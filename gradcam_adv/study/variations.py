"""Variations of a study: other seeds of the heads, other readings of the paper, fewer networks."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

from gradcam_adv.study.config import Study, ThreatModel, reading_choices

# Readings varied one at a time, in the order of the report. Not pooling: flattened features make
# another network, which is a study of its own.
SINGLY = (
    "epsilon_unit",
    "preprocessing",
    "perturbed_set",
    "attacked_label",
    "explained_class",
    "vid_levels",
)
# Pairs of readings. The unit of epsilon decides how large an attack is, so the readings that
# depend on the size are tried with both units.
PAIRS = (
    ("epsilon_unit", "perturbed_set"),
    ("epsilon_unit", "attacked_label"),
    ("epsilon_unit", "explained_class"),
    ("epsilon_unit", "vid_levels"),
)
# Readings that change the perturbed sets or the networks. The others read the same heatmaps.
_EVALUATED_AGAIN = {"epsilon_unit", "preprocessing", "perturbed_set", "attacked_label"}
# At this image size SSIM's window fits even into InceptionV3's last maps.
NATIVE_SIZE = 299


def of_seeds(study: Study) -> dict[int, Study]:
    """By seed except the first, the study with heads of that seed and only the attack needed.

    The white-box attack is needed for the gain.
    """
    alone = _of_own_attack(_without_transfers(study))
    return {seed: dataclasses.replace(alone, seeds=(seed,)) for seed in study.seeds[1:]}


def of_networks(study: Study, networks: tuple[str, ...]) -> Study:
    """The study of some of its networks, the source among them: their tasks are the study's own."""
    return dataclasses.replace(_without_transfers(study), networks=networks)


def of_readings(study: Study, *, native_fits: bool) -> dict[str, Study]:
    """By name, the study with one reading changed, then with each of :data:`PAIRS`.

    Args:
        study: its first seed is used.
        native_fits: whether SSIM's window fits into the last heatmaps of every network. If not,
            the native size is read at :data:`NATIVE_SIZE` pixels, and that image size is a
            variation of its own.
    """
    study = dataclasses.replace(_of_own_attack(study), seeds=study.seeds[:1])
    changes = [{key: choice} for key in SINGLY for choice in _others(study, key)]
    native = [{"heatmap_size": size} for size in _others(study, "heatmap_size")]
    if native_fits:
        changes += native
    elif study.image_size < NATIVE_SIZE:
        changes += [{"image_size": NATIVE_SIZE} | change for change in ({}, *native)]
    for first, second in PAIRS:
        both = itertools.product(_others(study, first), _others(study, second))
        changes += [{first: one, second: other} for one, other in both]
    varied = {}
    for change in changes:
        name = ", ".join(f"{key} = {value}" for key, value in change.items())
        varied[name] = _changed(study, **change)
    return varied


def _without_transfers(study: Study) -> Study:
    own: tuple[ThreatModel, ...] = ("white-box",) if "white-box" in study.threat_models else ()
    return dataclasses.replace(study, threat_models=own)


def _of_own_attack(study: Study) -> Study:
    return dataclasses.replace(study, attack={study.own_attack: study.attack[study.own_attack]})


def _others(study: Study, key: str) -> list[Any]:
    return [c for c in reading_choices(key) if c != getattr(study.readings, key)]


def _changed(study: Study, image_size: int | None = None, **readings: Any) -> Study:
    # Readings are judged by the black-box attack and noise, so only these are made again.
    again = image_size is not None or not _EVALUATED_AGAIN.isdisjoint(readings)
    return dataclasses.replace(
        study,
        readings=dataclasses.replace(study.readings, **readings),
        image_size=image_size or study.image_size,
        threat_models=() if again else study.threat_models,
    )


def models_folder(models: Path, study: Study, variation: Study) -> Path:
    """The folder of a variation's models: the study's own unless the variation makes others."""
    others = [
        f"{name}-{value}"
        for name, value, default in (
            ("seed", variation.seeds[0], study.seeds[0]),
            ("image_size", variation.image_size, study.image_size),
            ("preprocessing", variation.readings.preprocessing, study.readings.preprocessing),
        )
        if value != default
    ]
    return models / " ".join(others) if others else models
