"""A study: what is attacked, explained and scored, and how the paper is read; from a TOML file."""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
import stat
import tomllib
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeGuard, get_args, get_type_hints

from gradcam_adv.attacks.names import NAMES, settings_of
from gradcam_adv.files.read import check_nesting
from gradcam_adv.graph import GROUPS, Layers
from gradcam_adv.models import backbones
from gradcam_adv.training.methods import DEFAULTS, METHODS, checked

Arm = Literal["plain", "aligned"]
ThreatModel = Literal["white-box", "transfer"]
# Keras' names for the precision in which networks compute.
Precision = Literal["float32", "mixed_float16", "mixed_bfloat16"]
Trainable = Literal["head", "last block", "all"]


def _reading(default: str, question: str, unoffered: str = "") -> Any:
    return field(default=default, metadata={"question": question, "unoffered": unoffered})


@dataclass(frozen=True)
class Readings:
    """What the paper leaves open, and how it is read; the first choice is the default."""

    epsilon_unit: Literal["pixel", "network"] = _reading(
        "pixel", "Unit of epsilon: pixels in [0, 1], or the network's own input"
    )
    preprocessing: Literal["own", "unit", "tf"] = _reading(
        "own",
        "What the networks are fed: their own preprocessing, or all of them pixels in [0, 1], or "
        "in [-1, 1]",
    )
    pooling: Literal["average", "flatten"] = _reading(
        "average",
        "Between base and dense head: global average pooling, or flattening",
        "VGG16's own dense layers, which need weights with top",
    )
    attacked_label: Literal["true", "predicted", "next"] = _reading(
        "true",
        "The label y of the attack: the true one, the predicted one, or, by mistake, that of the "
        "next class",
        "targeted labels; classes of ImageNet, which need weights with top",
    )
    stored_perturbation: Literal["exact", "png", "jpeg"] = _reading(
        "exact",
        "The perturbation added: the exact one, or its sign stored as a picture from 0 to 1",
    )
    clean_resizing: Literal["same", "nearest"] = _reading(
        "same",
        "How clean test photos are resized: as the attacked ones, or to the nearest pixel",
    )
    explained_score: Literal["logit", "hidden"] = _reading(
        "logit", "The score explained: a logit, or the largest unit of the layer before"
    )
    explained_class: Literal["predicted", "clean", "true"] = _reading(
        "predicted",
        "The class explained: predicted for the image itself, for the clean photo, or the true",
    )
    perturbed_set: Literal["float32", "png", "jpeg"] = _reading(
        "float32", "The format in which perturbed and clean test sets are stored and read again"
    )
    heatmap_size: Literal["input", "native"] = _reading(
        "input", "Size at which heatmaps are compared: the input's, or the layer's own"
    )
    compared: Literal["heatmaps", "jet", "overlays"] = _reading(
        "heatmaps",
        "What NISSIM compares: heatmaps, heatmaps in the colours of jet, or these over the photos",
    )
    ssim: Literal["uniform", "range 2", "gaussian"] = _reading(
        "uniform",
        "Which SSIM: a uniform window of 7, the same for a range of 2, or a gaussian one of 11",
    )
    vid_levels: Literal["attacked", "all"] = _reading(
        "attacked", "Epsilons that VID goes over: those above 0, or 0 as well"
    )


@dataclass(frozen=True)
class Study:
    """One study. Every field is a key of the TOML file; all but ``name`` may be left out.

    Attributes:
        name: the study's name; its run and its models have folders of this name.
        photos: where they come from: "orl", "lfw", "lfw:DIR", "vggface2:DIR", or a folder with one
            folder per identity.
        classes: how many identities to choose at random; None for all.
        min_photos: identities with fewer photos are not chosen; 3 or more, one for each split.
        max_photos: at most this many photos per identity are used, chosen at random; None for all.
        arms: "plain" (photos as they are, Table 1), "aligned" (MTCNN's crops, Table 2), or both.
        margin: how much is shown around an aligned face on each side, in units of the face.
        split: shares of train, validation and test.
        folds: 3 or more: cross-fitted heads. The photos are dealt into so many folds in place of a
            split; all of them are tested, each by a head trained without its fold and the next one,
            which is the head's validation. None for one head and the split.
        image_size: side of the square images in pixels.
        networks: one or more of the paper's five, "resnet50v2", "resnet101v2" and "smallresnet".
            "vgg16@pgd" is VGG16 trained in another way, by the name of a training.
        weights: of the bases: "auto", "imagenet", "random" or a directory of weights files.
        epochs: how many epochs the heads are trained, and what else is trained with them.
        trainable: what is trained: the "head" alone, as in the paper; with it the "last block" of
            the base; or "all" layers.
        learning_rate: of the training; None for 0.001 for heads alone, and 0.0001 for more.
        training: further ways to train, a table of name = settings; "fgsm-rs", "pgd" and "trades"
            are known without an entry. Only networks whose name ends in @ and such a name are
            trained so.
        seeds: the heads are trained once with each seed, and what is trained with them; with
            trainable = "all" random bases are drawn anew, too. Results are those of the first seed
            unless they say otherwise.
        epsilons: sizes of the attack, in the unit that the readings say; 0 is always among them.
        gain_epsilons: further sizes of the white-box attack, at which only its gain is measured:
            how many times larger noise must be to move the heatmaps as far.
        noise_epsilons: further sizes of noise to find the gain; noise also has all sizes above.
        control_epsilons: sizes of the other controls, the signs of the photo mirrored and the signs
            of another photo; an empty list leaves them out.
        noise_draws: how many times random signs are drawn; NISSIM under noise is the mean over the
            draws, and the report shows how much they differ.
        insertion_epsilons: sizes of the white-box attack, out of those above, at which pixels of
            attacked photos are put in and taken out in the order of their heatmaps, to see whether
            these still explain; the empty list leaves it out, which spares much time.
        attack: the attack: its name, such as "pgd", or a table of name = settings. Of several, in a
            list or a table, the first is the study's: nearly everything is about it. The others
            are compared with it, at the epsilons above.
        source: the network on which the black-box attack is made.
        threat_models: who is attacked beside the networks that get the black-box attack:
            "white-box" (each network by its own attack; only variations of a study leave it out)
            and "transfer" (each network by that of each other network, at the largest epsilon).
        measure: of how unlike two heatmaps are: "nissim"; "spearman", "top", "region",
            "jensen_shannon", "earth_mover" or "hog" stand in its place in all tables and figures.
        layers: which layers are explained for the example photos: "all", "conv", "blocks", "last",
            a list of these or of indices, or a table of network = list, which may also hold names
            of layers.
        examples: how many test photos get heatmaps of all those layers.
        batch_size: how many images at a time in every pass; None for 8, on a GPU for what suits
            its memory.
        precision: in which networks are attacked, evaluated and explained: "float32",
            "mixed_float16" or "mixed_bfloat16"; heads are always trained in float32.
        threads: how many threads Keras' backend uses; None for one per core.
        seed: seed of every other random choice.
        readings: how the paper is read where it leaves something open.
    """

    name: str
    photos: str = "orl"
    classes: int | None = None
    min_photos: int = 3
    max_photos: int | None = None
    arms: tuple[Arm, ...] = ("plain", "aligned")
    margin: float = 0.1
    split: tuple[float, float, float] = (0.8, 0.1, 0.1)
    folds: int | None = None
    image_size: int = 224
    networks: tuple[str, ...] = backbones.PAPERS
    weights: str = "auto"
    epochs: int = 60
    trainable: Trainable = "head"
    learning_rate: float | None = None
    training: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    seeds: tuple[int, ...] = (0,)
    epsilons: tuple[float, ...] = (0.0, 0.01, 0.05, 0.075, 0.1)
    gain_epsilons: tuple[float, ...] = (0.001, 0.002, 0.005)
    noise_epsilons: tuple[float, ...] = (0.02, 0.2, 0.3)
    control_epsilons: tuple[float, ...] = (0.01, 0.05, 0.2)
    noise_draws: int = 1
    insertion_epsilons: tuple[float, ...] = ()
    attack: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: {"fgsm": {}})
    source: str = "resnet50"
    threat_models: tuple[ThreatModel, ...] = get_args(ThreatModel)
    measure: str = "nissim"
    layers: Layers | dict[str, Layers] = "all"
    examples: int = 4
    batch_size: int | None = None
    precision: Precision = "float32"
    threads: int | None = None
    seed: int = 0
    readings: Readings = Readings()

    @property
    def other_data(self) -> bool:
        """Whether the photos are not the paper's, which are of VGGFace2."""
        return not self.photos.startswith("vggface2:")

    @property
    def attacked_epsilons(self) -> tuple[float, ...]:
        return tuple(epsilon for epsilon in self.epsilons if epsilon > 0)

    @property
    def own_attack(self) -> str:
        """The name of the study's attack."""
        return next(iter(self.attack))

    @property
    def further_attacks(self) -> tuple[str, ...]:
        """The names of the attacks that it is compared with."""
        return tuple(self.attack)[1:]

    def layers_of(self, network: str) -> Layers:
        """The layers of a network that are explained for the example photos."""
        if isinstance(self.layers, dict):
            return self.layers[backbones.backbone_of(network)]
        return self.layers

    def against(self, network: str) -> dict[str, Any] | None:
        """All settings of a network's adversarial training; None if it is trained normally."""
        name = backbones.training_of(network)
        return {"method": name, **DEFAULTS, **self.training.get(name, {})} if name else None

    @property
    def vid_epsilons(self) -> tuple[float, ...]:
        """The epsilons that VID goes over."""
        return self.epsilons if self.readings.vid_levels == "all" else self.attacked_epsilons


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


def attack_settings(name: str) -> dict[str, Any]:
    """The settings that an attack has in a study, with the defaults.

    A study attacks the label that its readings say, so it has no ``targeted``.
    """
    return {key: value for key, value in settings_of(name).items() if key != "targeted"}


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


def reading_choices(key: str) -> tuple[str, ...]:
    """What the reading ``key`` may be; the default first."""
    return get_args(get_type_hints(Readings)[key])


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
