"""The attacks by name, as commands and studies give them, with their settings."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gradcam_adv import validation
from gradcam_adv.attacks.perturbations import Attack

# What every attack of several steps may be given, with the defaults.
_OF_STEPS = {
    "norm": "linf",
    "steps": 10,
    "step_size": None,
    "random_start": False,
    "restarts": 1,
    "targeted": False,
    "seed": 0,
}
_OF_EXPLANATION = {
    "steps": 25,
    "decay": 0.75,
    "random_start": None,
    "towards": None,
    "flip": False,
    "keep_margin": 0.0,
    "weight": 0.2,
    "sharpness": 10.0,
}


@dataclass(frozen=True)
class _Known:
    """An attack: its module, class and title, and the keyword arguments of the class.

    The plan of a study needs all arguments with their defaults. They stand here once more, since
    the class would import Keras, which takes seconds.
    """

    module: str
    of: str
    title: str
    settings: Mapping[str, Any]


_KNOWN = {
    "fgsm": _Known("fgsm", "FGSM", "FGSM", {}),
    "pgd": _Known("pgd", "PGD", "PGD", _OF_STEPS | {"random_start": True}),
    "mi-fgsm": _Known("momentum", "MIFGSM", "MI-FGSM", _OF_STEPS | {"decay": 1.0}),
    "pi-fgsm": _Known("patchwise", "PIFGSM", "PI-FGSM", _OF_STEPS | {"amplification": 10.0}),
    "explanation": _Known(
        "explanation", "ExplanationAttack", "explanation attack", _OF_STEPS | _OF_EXPLANATION
    ),
    "autopgd": _Known(
        "from_art",
        "AutoPGD",
        "AutoPGD",
        {"steps": 100, "loss": "cross_entropy", "restarts": 1, "seed": 0},
    ),
    "square": _Known("from_art", "Square", "Square", {"queries": 1000, "seed": 0}),
}
NAMES = tuple(_KNOWN)
TITLES = {name: known.title for name, known in _KNOWN.items()}


def attack_class(name: str) -> type[Any]:
    """The class of an attack; ValueError for a name that is none of NAMES."""
    known = _found(name)
    module = importlib.import_module(f"gradcam_adv.attacks.{known.module}")
    found: type[Any] = getattr(module, known.of)
    return found


def settings_of(name: str) -> dict[str, Any]:
    """What an attack may be given, by name, with the defaults; no model and no batch size.

    Example:
        >>> settings_of("mi-fgsm")["steps"]
        10
    """
    return dict(_found(name).settings)


def _found(name: str) -> _Known:
    validation.check_choice("attack", name, NAMES)
    return _KNOWN[name]


def check_settings(name: str, settings: dict[str, Any]) -> None:
    """ValueError for settings that an attack does not have."""
    known = settings_of(name)
    if unknown := sorted(settings.keys() - known.keys()):
        raise ValueError(
            f"Expected settings of {name} out of {', '.join(known) or 'none'}. "
            f"Received: {', '.join(unknown)}"
        )


def make(name: str, model: Any, *, batch_size: int | None = None, **settings: Any) -> Attack:
    """An attack on a model, by its name.

    Args:
        name: one of NAMES.
        model: any classifier that :func:`gradcam_adv.flatten` takes.
        batch_size: how many images at a time, as of each attack.
        settings: as of the attack, such as ``steps``.

    Raises:
        ValueError: no such attack or setting, or a model that can't be attacked.
    """
    check_settings(name, settings)
    made: Attack = attack_class(name)(model, batch_size=batch_size, **settings)
    return made
