"""The attacks by name, as commands and studies give them, with their settings."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

from gradcam_adv import validation
from gradcam_adv.attacks.perturbations import Attack

# By name, the module, the class and the title. Only the module that is asked for is imported.
_KNOWN = {
    "fgsm": ("fgsm", "FGSM", "FGSM"),
    "pgd": ("pgd", "PGD", "PGD"),
    "mi-fgsm": ("momentum", "MIFGSM", "MI-FGSM"),
    "pi-fgsm": ("patchwise", "PIFGSM", "PI-FGSM"),
    "explanation": ("explanation", "ExplanationAttack", "explanation attack"),
    "autopgd": ("from_art", "AutoPGD", "AutoPGD"),
    "square": ("from_art", "Square", "Square"),
}
NAMES = tuple(_KNOWN)
TITLES = {name: title for name, (_, _, title) in _KNOWN.items()}


def attack_class(name: str) -> type[Any]:
    """The class of an attack; ValueError for a name that is none of NAMES."""
    validation.check_choice("attack", name, NAMES)
    module, of, _ = _KNOWN[name]
    found: type[Any] = getattr(importlib.import_module(f"gradcam_adv.attacks.{module}"), of)
    return found


def settings_of(name: str) -> dict[str, Any]:
    """What an attack may be given, by name, with the defaults; no model and no batch size.

    Example:
        >>> settings_of("mi-fgsm")["steps"]
        10
    """
    found: dict[str, Any] = {}
    for kind in reversed(attack_class(name).__mro__):
        if not (init := vars(kind).get("__init__")):
            continue
        for parameter in inspect.signature(init).parameters.values():
            if parameter.kind is parameter.KEYWORD_ONLY and parameter.name != "batch_size":
                found[parameter.name] = parameter.default
    return found


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
