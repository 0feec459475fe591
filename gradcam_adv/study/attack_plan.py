"""The attack tasks of an arm: each is planned once, however many networks it is used on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gradcam_adv.study.attacks import made_at, settings_of, unit_of
from gradcam_adv.study.settings import Study
from gradcam_adv.study.stages.attack import Attack, ScaledAttack, SignAttack


class AttackPlan:
    """Which attacks are made on which network.

    The signs of FGSM serve every epsilon. Any other attack is made at its sizes in pixels, so there
    is one for each unit of epsilon among the networks that get it.
    """

    def __init__(self, study: Study, common: Mapping[str, Mapping[str, Any]]) -> None:
        """``common``: by network, the fields that all attacks on it share."""
        self._study = study
        self._common = common
        self._made: dict[str, dict[tuple[str, float], Attack]] = {name: {} for name in common}

    def on(self, maker: str, attack: str, unit: float) -> Attack:
        """An attack made on a network, for networks of this unit of epsilon."""
        made = self._made[maker]
        key = self._key(attack, unit)
        if key not in made:
            made[key] = self._planned(maker, attack, unit)
        return made[key]

    def _planned(self, maker: str, attack: str, unit: float) -> Attack:
        if attack == "fgsm":
            return SignAttack(**self._common[maker])
        return ScaledAttack(
            **self._common[maker],
            attack=attack,
            settings=settings_of(self._study, attack),
            unit=unit,
            epsilons=made_at(self._study, attack, maker, unit),
        )

    @staticmethod
    def _key(attack: str, unit: float) -> tuple[str, float]:
        return attack, 1.0 if attack == "fgsm" else unit

    def own(self) -> dict[str, Attack]:
        """By network, the study's own attack on it, in its own unit, if anybody gets it."""
        attack = self._study.own_attack
        keys = {name: self._key(attack, unit_of(self._study, name)) for name in self._made}
        return {name: made[keys[name]] for name, made in self._made.items() if keys[name] in made}

    def others(self) -> dict[str, tuple[Attack, ...]]:
        """By network, all other attacks on it."""
        own = self.own()
        return {
            name: tuple(task for task in made.values() if task is not own.get(name))
            for name, made in self._made.items()
        }
