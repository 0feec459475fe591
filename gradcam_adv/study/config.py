"""A study's TOML file: read, and each key checked; then the keys that must fit together."""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
import stat
import tomllib
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeGuard, get_args

from gradcam_adv.attacks.names import NAMES
from gradcam_adv.files.read import check_nesting
from gradcam_adv.graph import GROUPS, Layers
from gradcam_adv.models import backbones
from gradcam_adv.study.settings import (
    Arm,
    Precision,
    Readings,
    Study,
    ThreatModel,
    Trainable,
    attack_settings,
    reading_choices,
)
from gradcam_adv.training.methods import DEFAULTS, METHODS, checked


def read(path: Path, **overrides: Any) -> Study:
    """The study in a TOML file.

    Args:
        path: of the file.
        overrides: keys to use instead of the file's, unless they are None.

    Raises:
        ValueError: no such file, no TOML, an unknown key, or an impossible value; it names the key.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe could be waited on for ever
            raise OSError(None, "not a regular file")
        # Some editors put a byte order mark first.
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        check_nesting(content)
    except OSError as error:
        raise ValueError(
            "Expected a study file, such as studies/quick.toml of a clone (TOML; all keys have "
            "defaults, so it may be empty). "
            f"Received: {path}: {error.strerror}"
        ) from None
    except (ValueError, RecursionError) as error:  # also a number with thousands of digits
        what = "nested too deep" if isinstance(error, RecursionError) else error
        raise ValueError(f"Expected a study file in TOML. Received: {path}: {what}") from None
    content.setdefault("name", path.stem)
    given = {key: value for key, value in overrides.items() if value is not None}
    return parse(content | given)


def parse(content: dict[str, Any]) -> Study:
    """The study in the content of a TOML file; ValueError names the key that is wrong."""
    _refuse_unknown(content, _fields(Study), "")
    content = {"name": None, **content}
    study = Study(**{key: _CHECKS[key](key, value) for key, value in content.items()})
    check_together(study)
    return study


def _fields(of: type) -> list[str]:
    return [field.name for field in dataclasses.fields(of)]


def _refuse_unknown(content: Iterable[str], known: Iterable[str], prefix: str) -> None:
    known = list(known)
    for key in content:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
            hint = f" Nearest: {prefix}{near[0]}." if near else ""
            out_of = f"keys out of {', '.join(known)}" if known else f"no keys of {prefix[:-1]}"
            raise ValueError(f"Expected {out_of}. Received: {prefix}{key}.{hint}")


def _wrong(key: str, expected: str, received: object) -> ValueError:
    return ValueError(f"Expected {key} as {expected}. Received: {received!r}")


def _name(key: str, value: object) -> str:
    text = _text(key, value)
    # It becomes the name of a folder, which must not lead elsewhere; and it stands in the report,
    # where it must not start a tag or a link.
    if (
        text in (".", "..")
        or any(c in '/\\<>:"|?*[]`' or unicodedata.category(c) in ("Cc", "Cs") for c in text)
        or len(text.encode()) > 200
    ):
        raise _wrong(key, "the name of a folder", text)
    return text


def _text(key: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _wrong(key, "text, not empty", value)
    return value


def _integer(key: str, value: object, minimum: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        raise _wrong(key, f"a whole number, {minimum} or more", value)
    if value >= 2**32:
        raise _wrong(key, "a whole number below 2^32", value)
    return value


def _is_number(value: object, least: float, greatest: float) -> TypeGuard[float]:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return least <= value <= greatest


def _is_list(value: object, *, unique: bool = False) -> TypeGuard[list[Any] | tuple[Any, ...]]:
    """Whether it is a list that is not empty."""
    if not isinstance(value, list | tuple) or not value:
        return False
    return not unique or len(set(map(str, value))) == len(value)


def _number(key: str, value: object, least: float, greatest: float) -> float:
    if not _is_number(value, least, greatest):
        raise _wrong(key, f"a number from {least:g} to {greatest:g}", value)
    return float(value)


def _split(key: str, value: object) -> tuple[float, float, float]:
    if (
        not _is_list(value)
        or len(value) != 3
        or not all(_is_number(share, 0, 1) and share > 0 for share in value)
        or not math.isclose(sum(value), 1, abs_tol=1e-6)
    ):
        raise _wrong(key, "three positive shares (train, validation, test) of sum 1", value)
    train, validation, test = map(float, value)
    return train, validation, test


def _one_of(key: str, value: object, known: tuple[str, ...]) -> Any:
    if value not in known:
        raise _wrong(key, f"one of {', '.join(known)}", value)
    return value


def _some_of(key: str, value: object, known: tuple[str, ...]) -> Any:
    """The values given, in the order of those known."""
    if not _is_list(value, unique=True) or any(one not in known for one in value):
        raise _wrong(key, f"a list out of {', '.join(known)}, each at most once", value)
    return tuple(one for one in known if one in value)


def _attack(key: str, value: object) -> dict[str, dict[str, Any]]:
    """The settings that are given of each attack, by its name."""
    names = [value] if isinstance(value, str) else value
    if isinstance(names, list | tuple) and _is_list(names, unique=True):
        names = {str(name): {} for name in names}
    if not isinstance(names, dict) or not names:
        raise _wrong(key, "the name of an attack, a list of names, or a table of settings", value)
    for name, settings in names.items():
        _one_of(key, name, NAMES)
        if not isinstance(settings, dict):
            raise _wrong(f"{key}.{name}", "a table of settings", settings)
        if settings:
            _refuse_unknown(settings, attack_settings(name), f"{key}.{name}.")
    return names


def _threat_models(key: str, value: object) -> tuple[ThreatModel, ...]:
    found: tuple[ThreatModel, ...] = _some_of(key, value, get_args(ThreatModel))
    if "white-box" not in found:  # the report has tables and figures of it
        raise _wrong(key, "a list with white-box", value)
    return found


def _seeds(key: str, value: object) -> tuple[int, ...]:
    if not _is_list(value, unique=True):
        raise _wrong(key, "a list of whole numbers, each once", value)
    return tuple(_integer(key, seed, 0) for seed in value)


def _epsilons(key: str, value: object) -> tuple[float, ...]:
    expected = "numbers from 0 to 1, at least one above 0"
    if not isinstance(value, list | tuple):
        raise _wrong(key, expected, value)
    for epsilon in value:
        if not _is_number(epsilon, 0, 1):
            raise _wrong(key, expected, epsilon)
    levels = tuple(sorted({0.0, *map(float, value)}))
    if len(levels) < 2:
        raise _wrong(key, expected, value)
    return levels


def _further_epsilons(key: str, value: object) -> tuple[float, ...]:
    if not isinstance(value, list | tuple):
        raise _wrong(key, "a list of numbers above 0, at most 1", value)
    for epsilon in value:
        if not _is_number(epsilon, 0, 1) or epsilon == 0:
            raise _wrong(key, "numbers above 0, at most 1", epsilon)
    return tuple(sorted({*map(float, value)}))


def _networks(key: str, value: object) -> tuple[str, ...]:
    if not _is_list(value, unique=True):
        raise _wrong(key, "a list of networks, each once", value)
    for name in value:
        backbones.find(name)
    return tuple(value)


def _training(key: str, value: object) -> dict[str, dict[str, Any]]:
    """The settings that are given of each adversarial training, by its name."""
    if not isinstance(value, dict):
        raise _wrong(key, "a table of name = settings", value)
    for name, settings in value.items():
        if not re.fullmatch(r"[\w.+-]+", name):
            raise _wrong(key, "names of letters, digits and ._+-", name)
        if not isinstance(settings, dict):
            raise _wrong(f"{key}.{name}", "a table of settings", settings)
        _refuse_unknown(settings, ["method", *DEFAULTS], f"{key}.{name}.")
        try:
            checked(**{"method": name, **settings})
        except ValueError as error:
            raise ValueError(f"{error}, in {key}.{name}") from None
    return value


def _layers(key: str, value: object) -> Layers | dict[str, Layers]:
    expected = f"one of {', '.join(GROUPS)}, a list of these, or a table of network = list"
    if isinstance(value, dict):
        if not value:
            raise _wrong(key, expected, value)
        return {backbones.find(name).name: _list_of_layers(key, v) for name, v in value.items()}
    if value in GROUPS:
        return str(value)
    layers = _list_of_layers(key, value)
    # Names of layers belong to one network, so they stand in a table.
    if any(isinstance(layer, str) and layer not in GROUPS for layer in layers):
        raise _wrong(key, expected, value)
    return layers


def _list_of_layers(key: str, value: object) -> tuple[str | int, ...]:
    if isinstance(value, str):
        value = [value]
    if not _is_list(value) or any(
        isinstance(layer, bool) or not isinstance(layer, str | int) for layer in value
    ):
        raise _wrong(key, "a list of groups, names or indices, not empty", value)
    return tuple(value)


def _readings(key: str, value: object) -> Readings:
    if not isinstance(value, dict):
        raise _wrong(key, "a table", value)
    _refuse_unknown(value, _fields(Readings), f"{key}.")
    for reading, choice in value.items():
        _one_of(f"{key}.{reading}", choice, reading_choices(reading))
    return Readings(**value)


def _measure(key: str, value: object) -> str:
    from gradcam_adv.metrics import MEASURES  # which takes its time to import

    return _one_of(key, value, tuple(MEASURES))


def _learning_rate(key: str, value: object) -> float:
    if not _is_number(value, 0, 1) or value == 0:
        raise _wrong(key, "a number above 0, at most 1", value)
    return float(value)


def _at_least(minimum: int) -> Callable[[str, object], int]:
    return lambda key, value: _integer(key, value, minimum)


# By key of the TOML file, from the key and its value to the value of the study.
_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "name": _name,
    "photos": _text,
    "classes": _at_least(2),
    "min_photos": _at_least(3),
    "max_photos": _at_least(3),
    "arms": lambda key, value: _some_of(key, value, get_args(Arm)),
    "margin": lambda key, value: _number(key, value, 0, 2),
    "split": _split,
    "folds": _at_least(3),
    "image_size": _at_least(1),
    "networks": _networks,
    "weights": _text,
    "epochs": _at_least(1),
    "trainable": lambda key, value: _one_of(key, value, get_args(Trainable)),
    "learning_rate": _learning_rate,
    "training": _training,
    "seeds": _seeds,
    "epsilons": _epsilons,
    "gain_epsilons": _further_epsilons,
    "noise_epsilons": _further_epsilons,
    "control_epsilons": _further_epsilons,
    "noise_draws": _at_least(1),
    "insertion_epsilons": _further_epsilons,
    "attack": _attack,
    # One of the networks, which is checked with them.
    "source": lambda _, value: value,
    "threat_models": _threat_models,
    "measure": _measure,
    "layers": _layers,
    "examples": _at_least(1),
    "batch_size": _at_least(1),
    "precision": lambda key, value: _one_of(key, value, get_args(Precision)),
    "threads": _at_least(1),
    "seed": _at_least(0),
    "readings": _readings,
}


def check_together(study: Study) -> None:
    if study.max_photos is not None and study.max_photos < study.min_photos:
        raise _wrong("max_photos", f"at least min_photos = {study.min_photos}", study.max_photos)
    for name in study.networks:
        _, marked, training = name.partition("@")
        if marked and training not in (known := [*METHODS, *study.training]):
            raise _wrong("networks", f"backbone@training, one of {', '.join(known)}", name)
    if study.source not in study.networks:
        backbones.find(study.source)
        raise _wrong(
            "source", f"one of the study's networks, {', '.join(study.networks)}", study.source
        )
    attacked = {*study.attacked_epsilons, *study.gain_epsilons}
    if not attacked.issuperset(study.insertion_epsilons):
        raise _wrong(
            "insertion_epsilons",
            f"sizes out of epsilons and gain_epsilons, {', '.join(map(str, sorted(attacked)))}",
            list(study.insertion_epsilons),
        )
    others = [name for name in study.networks if "@" in name]
    if study.folds and (others or study.trainable != "head"):
        received = f"trainable = {study.trainable!r}, networks = {list(study.networks)}"
        raise _wrong("folds", "no key where more than heads on clean photos is trained", received)
    readings = study.readings
    if readings.explained_score == "hidden" and readings.explained_class != "predicted":
        raise _wrong(
            "readings.explained_class",
            "predicted where explained_score = hidden, whose units are no classes",
            readings.explained_class,
        )
    if readings.compared == "overlays" and readings.heatmap_size == "native":
        raise _wrong(
            "readings.heatmap_size", "input where compared = overlays", readings.heatmap_size
        )
    if study.measure != "nissim" and (readings.compared, readings.ssim) != ("heatmaps", "uniform"):
        raise _wrong(
            "measure",
            f"nissim where compared = {readings.compared} and ssim = {readings.ssim}",
            study.measure,
        )
    for name in study.networks:
        backbones.check_image_size(backbones.find(name), study.image_size)
    if isinstance(study.layers, dict):
        for name in study.networks:
            if backbones.backbone_of(name) not in study.layers:
                expected = f"layers of every network of the study, also {name}"
                raise _wrong("layers", expected, study.layers)
