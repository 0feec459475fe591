"""Variations of a study: other seeds of the heads, other readings of the paper, fewer networks."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

from gradcam_adv.models.backbones import BACKBONES
from gradcam_adv.study.config import check_together
from gradcam_adv.study.settings import Study, ThreatModel, reading_choices

# Readings varied one at a time, in the order of the report.
SINGLY = (
    "epsilon_unit",
    "preprocessing",
    "clean_resizing",
    "stored_perturbation",
    "perturbed_set",
    "attacked_label",
    "explained_score",
    "explained_class",
    "compared",
    "ssim",
    "pooling",
    "vid_levels",
)
# Pairs of readings. The unit of epsilon decides how large an attack is, so the readings that
# depend on the size are tried with both units. A perturbation that is stored as a picture and a
# wrong label would both spare the attack's source.
PAIRS = (
    ("epsilon_unit", "perturbed_set"),
    ("epsilon_unit", "attacked_label"),
    ("epsilon_unit", "explained_class"),
    ("epsilon_unit", "vid_levels"),
    ("epsilon_unit", "clean_resizing"),
    ("stored_perturbation", "attacked_label"),
)
# As in TensorFlow's tutorial on FGSM: [-1, 1] for every network, and epsilon in that unit.
TUTORIAL = {"preprocessing": "tf", "epsilon_unit": "network"}
# Readings that change neither networks nor perturbed sets and are judged under every attack. SSIM
# and what it compares are not among them: they cost most where many conditions are scored.
_OF_EVERY_ATTACK = {"explained_class", "vid_levels", "heatmap_size"}
# At this image size SSIM's window fits even into InceptionV3's last maps.
NATIVE_SIZE = 299
# Readings that make other models, besides the size of the images.
_OF_MODELS = ("preprocessing", "pooling")


def of_seeds(study: Study) -> dict[int, Study]:
    """By seed except the first, the study with heads of that seed and only the attack needed.

    The white-box attack is needed for the gain.
    """
    alone = _of_own_attack(_without_transfers(study))
    return {seed: dataclasses.replace(alone, seeds=(seed,)) for seed in study.seeds[1:]}


def of_networks(study: Study, networks: tuple[str, ...]) -> Study:
    """The study of some of its networks, the source among them: their tasks are the study's own."""
    return dataclasses.replace(_without_transfers(study), networks=networks)


def of_readings(study: Study, *, native_fits: bool) -> tuple[dict[str, Study], dict[str, str]]:
    """By name, the study with one reading changed, with :data:`TUTORIAL`, and each of the pairs.

    Args:
        study: its first seed is used.
        native_fits: whether SSIM's window fits into the last heatmaps of every network. If not,
            the native size is read at :data:`NATIVE_SIZE` pixels.

    Returns:
        The variations, and by name why others are left out.
    """
    study = dataclasses.replace(_of_own_attack(study), seeds=study.seeds[:1])
    changes = [{key: choice} for key in SINGLY for choice in _others(study, key)]
    native = [{"heatmap_size": size} for size in _others(study, "heatmap_size")]
    larger = [{"image_size": NATIVE_SIZE}] if study.image_size < NATIVE_SIZE else []
    changes += native if native_fits else [one | other for one in larger for other in native]
    changes += [*larger, {"residual_networks": "v2"}]
    changes.append({k: v for k, v in TUTORIAL.items() if v in _others(study, k)})
    for first, second in PAIRS:
        both = itertools.product(_others(study, first), _others(study, second))
        changes += [{first: one, second: other} for one, other in both]
    varied, left_out = {}, {}
    for change in filter(None, changes):
        name = ", ".join(f"{key} = {value}" for key, value in change.items())
        variation = _changed(study, **change)
        if "residual_networks" in change and variation.networks == study.networks:
            left_out[name] = "Expected ResNet50 or ResNet101 among the networks. Received: neither"
            continue
        try:
            check_together(variation)
        except ValueError as error:
            left_out[name] = str(error)
        else:
            varied[name] = variation
    return varied, left_out


def _without_transfers(study: Study) -> Study:
    own: tuple[ThreatModel, ...] = ("white-box",) if "white-box" in study.threat_models else ()
    return dataclasses.replace(study, threat_models=own)


def _of_own_attack(study: Study) -> Study:
    return dataclasses.replace(study, attack={study.own_attack: study.attack[study.own_attack]})


def _others(study: Study, key: str) -> list[Any]:
    return [c for c in reading_choices(key) if c != getattr(study.readings, key)]


def _changed(
    study: Study,
    image_size: int | None = None,
    residual_networks: str | None = None,
    **readings: Any,
) -> Study:
    other_networks = image_size is not None or residual_networks is not None
    if residual_networks is not None:
        later = {b.version_of: name for name, b in BACKBONES.items() if b.version_of}
        study = dataclasses.replace(
            study,
            networks=tuple(later.get(network, network) for network in study.networks),
            source=later.get(study.source, study.source),
        )
    # Readings are judged by the black-box attack and noise, so only these are made again.
    again = other_networks or not _OF_EVERY_ATTACK.issuperset(readings)
    return dataclasses.replace(
        study,
        readings=dataclasses.replace(study.readings, **readings),
        image_size=image_size or study.image_size,
        threat_models=() if again else study.threat_models,
    )


def models_folder(models: Path, study: Study, variation: Study) -> Path:
    """The folder of a variation's models: the study's own unless the variation makes others."""
    values = {
        "seed": (variation.seeds[0], study.seeds[0]),
        "image_size": (variation.image_size, study.image_size),
        **{
            key: (getattr(variation.readings, key), getattr(study.readings, key))
            for key in _OF_MODELS
        },
    }
    others = [f"{key}-{value}" for key, (value, own) in values.items() if value != own]
    return models / " ".join(others) if others else models
