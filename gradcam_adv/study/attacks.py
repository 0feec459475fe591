"""The attacks of a study by name, and which of them each network gets at which epsilons."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pandas as pd

from gradcam_adv.models import backbones
from gradcam_adv.study.settings import Study, attack_settings

# Made on the study's source, and given to every network. On the source it is the white-box attack.
BLACK_BOX = "black-box"
# Made on the network that gets it.
WHITE_BOX = "white-box"
# Controls: random signs; the white-box perturbation mirrored left to right; and the one that a
# photo of another person has. All but random signs have the attack's spectrum, but no aim.
NOISE = "noise"
MIRRORED = "mirrored"
OTHER_PHOTO = "other photo"
FOR_GAIN_ALONE = (MIRRORED, OTHER_PHOTO)
CONTROLS = (NOISE, *FOR_GAIN_ALONE)
# "noise 2", "noise 3", ...: further draws of random signs, over which NISSIM is averaged.
AGAIN = f"{NOISE} "
# "from X": made on network X, neither the source nor the network that gets it.
FROM = "from "


def attacks_on(study: Study, network: str) -> dict[str, tuple[float, ...]]:
    """The attacks and controls on a network, with their epsilons.

    They need no network but this one and the source. The white-box attack and noise also have the
    sizes of which only the gain is made. Without a white-box attack, as in variations of a study,
    noise has one draw.
    """
    levels = {BLACK_BOX: study.epsilons, NOISE: study.epsilons}
    if "white-box" in study.threat_models:
        # The source has the study's own sizes as its black-box attack.
        own = () if network == study.source else study.epsilons
        further = set(study.gain_epsilons) - set(study.epsilons)
        levels[WHITE_BOX] = tuple(sorted({*own, *further}))
        levels[NOISE] = tuple(sorted({*study.epsilons, *further, *study.noise_epsilons}))
        levels |= {f"{AGAIN}{draw}": levels[NOISE] for draw in range(2, study.noise_draws + 1)}
        levels |= dict.fromkeys(FOR_GAIN_ALONE, study.control_epsilons)
    return levels


def transfers_to(study: Study, network: str) -> dict[str, tuple[float, ...]]:
    """The attacks that are made on the other networks, with the largest epsilon alone."""
    if "transfer" not in study.threat_models:
        return {}
    others = [other for other in study.networks if other not in (network, study.source)]
    return {f"{FROM}{other}": study.epsilons[-1:] for other in others}


def further_on(study: Study, network: str, attack: str) -> dict[str, tuple[float, ...]]:
    """How a network gets one of the study's further attacks, with the epsilons.

    Such as "black-box pgd" and "white-box pgd"; on the source these are one.
    """
    threats = (BLACK_BOX,) if network == study.source else (BLACK_BOX, WHITE_BOX)
    return {further_name(threat, attack): study.epsilons for threat in threats}


def further_name(threat: str, attack: str) -> str:
    """The name of a further attack, black-box or white-box, among a study's conditions."""
    return f"{threat} {attack}"


def conditions_of(study: Study) -> dict[str, tuple[str, str]]:
    """By name, the threat model and the attack: the study's own, then the further ones."""
    threats = (WHITE_BOX, BLACK_BOX)
    named = {threat: (threat, study.own_attack) for threat in threats}
    for attack in study.further_attacks:
        named |= {further_name(threat, attack): (threat, attack) for threat in threats}
    return named


def makers_of(study: Study, network: str) -> dict[str, str]:
    """By attack on a network, the network on which it is made; random signs need none."""
    by_name = {BLACK_BOX: study.source}
    by_name |= dict.fromkeys((WHITE_BOX, *FOR_GAIN_ALONE), network)
    every = (*attacks_on(study, network), *transfers_to(study, network))
    names = [name for name in every if not draw_of(name)]
    return {name: by_name.get(name) or name.removeprefix(FROM) for name in names}


def unit_of(study: Study, network: str) -> float:
    """The factor from epsilon to a change of a network's pixels."""
    readings = study.readings
    return backbones.epsilon_unit(network, readings.epsilon_unit, readings.preprocessing)


def made_at(study: Study, attack: str, maker: str, unit: float) -> tuple[float, ...]:
    """The epsilons at which an attack is made on a network, for networks of this unit of epsilon.

    They do not depend on which networks get it, so a study of fewer networks has the same ones.
    """
    own = unit == unit_of(study, maker)
    levels = {*study.attacked_epsilons} if own or maker == study.source else {study.epsilons[-1]}
    if own and attack == study.own_attack and "white-box" in study.threat_models:
        levels |= {*study.gain_epsilons, *study.control_epsilons}
    return tuple(sorted(levels))


def settings_of(study: Study, attack: str) -> dict[str, Any]:
    """All settings of an attack: those given, the study's seed, and the defaults."""
    usual = attack_settings(attack)
    if "seed" in usual:
        usual["seed"] = study.seed
    return usual | dict(study.attack[attack])


def draw_of(attack: str) -> int:
    """Which draw of random signs it is, 1 for the first; 0 for all that are no random signs."""
    if attack == NOISE:
        return 1
    return int(attack.removeprefix(AGAIN)) if attack.startswith(AGAIN) else 0


def of_study(table: pd.DataFrame, epsilons: Collection[float]) -> pd.DataFrame:
    """The rows at the study's ``epsilons``, without those of which only the gain is made."""
    for_gain = table["attack"].isin(FOR_GAIN_ALONE) | table["attack"].str.startswith(AGAIN)
    return table[table["epsilon"].isin(epsilons) & ~for_gain]


def with_alias(table: pd.DataFrame) -> pd.DataFrame:
    """A table of the source's attacks, with the black-box rows once more as white-box ones."""
    black_box = table[table["attack"].str.startswith(BLACK_BOX)]
    names = black_box["attack"].str.replace(BLACK_BOX, WHITE_BOX, regex=False)
    return pd.concat([table, black_box.assign(attack=names)], ignore_index=True)


def condition_key(attack: str, epsilon: float) -> str:
    """The name of a condition's array, such as "clean" or "black-box 0.05"."""
    return "clean" if attack == "clean" else f"{attack} {epsilon!r}"


def named_under(condition: str, rows: pd.DataFrame) -> list[str]:
    """How errors name the photos of ``rows`` under a condition: "ann/3.jpg, black-box 0.05"."""
    return [f"{photo}, {condition}" for photo in rows["photo"]]
