"""A study: what is attacked, explained and scored, and how the paper is read; from a TOML file."""

from __future__ import annotations

import dataclasses
import difflib
import math
import stat
import tomllib
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeGuard, get_args, get_type_hints

from gradcam_adv.models import backbones


def _reading(default: str, question: str, unoffered: str = "") -> Any:
    return field(default=default, metadata={"question": question, "unoffered": unoffered})


Arm = Literal["plain", "aligned"]
Extra = Literal["white-box", "transfer"]
# Keras' own names of how networks compute.
Precision = Literal["float32", "mixed_float16", "mixed_bfloat16"]


@dataclass(frozen=True)
class Readings:
    """What the paper leaves open, and how it is read here; the first value is the default."""

    epsilon_unit: Literal["pixel", "network"] = _reading(
        "pixel", "Unit of epsilon: pixels in [0, 1], or the network's own input"
    )
    preprocessing: Literal["own", "unit"] = _reading(
        "own", "What the networks are fed: their own preprocessing, or pixels in [0, 1]"
    )
    pooling: Literal["average", "flatten"] = _reading(
        "average", "Between base and dense head: global average pooling, or flattening"
    )
    attacked_label: Literal["true", "predicted"] = _reading(
        "true", "The label y of FGSM", "targeted labels"
    )
    explained_class: Literal["predicted", "clean", "true"] = _reading(
        "predicted",
        "The class explained: predicted for the image at hand, for the clean photo, or the true",
    )
    explained_score: Literal["logit"] = _reading(
        "logit", "What Grad-CAM differentiates", "the probability; the layer before the logits"
    )
    heatmap_layer: Literal["last activation"] = _reading(
        "last activation",
        "The layer of Table 3: the last convolutional activation",
        "the last pooling (VGG16's block5_pool)",
    )
    perturbed_set: Literal["float32", "png", "jpeg"] = _reading(
        "float32", "What a perturbed set (and the clean one) is when it is read again"
    )
    heatmap_size: Literal["input", "native"] = _reading(
        "input", "Size at which heatmaps are compared: the input's, or the layer's own"
    )
    ssim: Literal["uniform 7"] = _reading(
        "uniform 7", "SSIM's window, for data in [0, 1]", "gaussian 11 as in tf.image.ssim"
    )
    vid_levels: Literal["attacked", "all"] = _reading(
        "attacked", "Levels that VID goes over: epsilon > 0, or epsilon = 0 with them"
    )


@dataclass(frozen=True)
class Study:
    """One study; every field is a key of the TOML file, all but ``name`` may be left out.

    Attributes:
        name: of the run's folder and the models' folder.
        photos: "orl", "lfw", "lfw:DIR", "vggface2:DIR", or a folder of one folder per identity.
        classes: how many identities to choose at random; None for all.
        min_photos: identities with fewer photos are not chosen; 3 or more, one for each split.
        max_photos: at most so many photos an identity, chosen at random; None for all.
        arms: "plain" (photos as they are, Table 1), "aligned" (MTCNN's crops, Table 2), or both.
        margin: around an aligned face on each side, in units of the face.
        split: shares of train, validation and test.
        image_size: side of the square images in pixels.
        networks: out of the five.
        weights: "auto", "imagenet", "random" or a directory of weights files.
        epochs: of training the head.
        seeds: of training the heads, which is done once for each; what is not said to be of
            another is the first one's.
        epsilons: levels of attack, in the unit of the readings; 0 is always among them.
        source: the network on which the black-box attack is made.
        attacks: beside that one and its control, random signs: "white-box", each network's attack
            on itself, which only variations of a study do without, and "transfer", each network's
            on each at the largest epsilon.
        layers: "all" or, by network, names of the layers explained for the example photos.
        examples: how many test photos get heatmaps of all those layers.
        batch_size: the one batch shape of all passes through the networks; None for 8, and where
            there is a GPU for what suits its memory.
        precision: of the passes that attack, evaluate and explain; heads are trained in float32.
        threads: of Keras' backend; None for as many as there are cores.
        seed: of every other choice of chance.
        readings: what the paper leaves open.
    """

    name: str
    photos: str = "orl"
    classes: int | None = None
    min_photos: int = 3
    max_photos: int | None = None
    arms: tuple[Arm, ...] = ("plain", "aligned")
    margin: float = 0.1
    split: tuple[float, float, float] = (0.8, 0.1, 0.1)
    image_size: int = 224
    networks: tuple[str, ...] = tuple(backbones.BACKBONES)
    weights: str = "auto"
    epochs: int = 60
    seeds: tuple[int, ...] = (0,)
    epsilons: tuple[float, ...] = (0.0, 0.01, 0.05, 0.075, 0.1)
    source: str = "resnet50"
    attacks: tuple[Extra, ...] = get_args(Extra)
    layers: Literal["all"] | dict[str, tuple[str, ...]] = "all"
    examples: int = 4
    batch_size: int | None = None
    precision: Precision = "float32"
    threads: int | None = None
    seed: int = 0
    readings: Readings = Readings()

    @property
    def other_data(self) -> bool:
        """Whether the photos are others than the paper's, which are of VGGFace2."""
        return not self.photos.startswith("vggface2:")

    @property
    def attacked_epsilons(self) -> tuple[float, ...]:
        return tuple(epsilon for epsilon in self.epsilons if epsilon > 0)

    def layers_of(self, network: str) -> str | tuple[str, ...]:
        return "all" if self.layers == "all" else self.layers.get(network, ())


def read(path: Path, **overrides: Any) -> Study:
    """The study in a TOML file, with keys replaced by those of ``overrides`` that aren't None.

    Raises:
        ValueError: no such file, no TOML, an unknown key, or an impossible value, by its key.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe could be waited on for ever
            raise ValueError(f"Expected a study file. Received: {path}: not a regular file")
        # Some editors put a byte order mark first.
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ValueError(
            "Expected a study file (TOML; every key has a default, so an empty one will do). "
            f"Received: {path}: {error.strerror}"
        ) from None
    except UnicodeDecodeError as error:
        raise ValueError(f"Expected a study file in TOML. Received: {path}: {error}") from None
    try:
        content = tomllib.loads(text)
    except RecursionError:
        raise ValueError(
            f"Expected a study file in TOML. Received: {path}: nested too deep"
        ) from None
    except ValueError as error:  # TOML's own, and a number of thousands of digits
        raise ValueError(f"Expected a study file in TOML. Received: {path}: {error}") from None
    content.setdefault("name", path.stem)
    given = {key: value for key, value in overrides.items() if value is not None}
    return parse(content | given)


def parse(content: dict[str, Any]) -> Study:
    """A study from the content of a TOML file; ValueError names the key that is wrong."""
    _refuse_unknown(content, Study, "")
    values = dict(content)
    values["name"] = _name(content.get("name"))
    for key in ("photos", "weights"):
        if key in content:
            values[key] = _text(key, content[key])
    for key, minimum in (
        ("classes", 2),
        ("min_photos", 3),
        ("max_photos", 3),
        ("image_size", 1),
        ("epochs", 1),
        ("examples", 1),
        ("batch_size", 1),
        ("threads", 1),
        ("seed", 0),
    ):
        if key in content:
            values[key] = _integer(key, content[key], minimum)
    if "split" in content:
        values["split"] = _split(content["split"])
    if "arms" in content:
        values["arms"] = _some_of("arms", content["arms"], get_args(Arm))
    if "attacks" in content:
        values["attacks"] = _some_of("attacks", content["attacks"], get_args(Extra))
        if "white-box" not in values["attacks"]:  # of which a report has tables and figures
            raise _wrong("attacks", "a list with white-box", content["attacks"])
    if "precision" in content:
        values["precision"] = _one_of("precision", content["precision"], get_args(Precision))
    if "seeds" in content:
        values["seeds"] = _seeds(content["seeds"])
    if "margin" in content:
        values["margin"] = _margin(content["margin"])
    if "epsilons" in content:
        values["epsilons"] = _epsilons(content["epsilons"])
    if "networks" in content:
        values["networks"] = _networks(content["networks"])
    if "layers" in content:
        values["layers"] = _layers(content["layers"])
    values["readings"] = _readings(content.get("readings", {}))
    study = Study(**values)
    _check_together(study)
    return study


def _refuse_unknown(content: dict[str, Any], of: type, prefix: str) -> None:
    known = [f.name for f in dataclasses.fields(of)]
    for key in content:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
            hint = f" Nearest: {prefix}{near[0]}." if near else ""
            raise ValueError(
                f"Expected keys out of {', '.join(known)}. Received: {prefix}{key}.{hint}"
            )


def _wrong(key: str, expected: str, received: object) -> ValueError:
    return ValueError(f"Expected {key} as {expected}. Received: {received!r}")


def _name(value: object) -> str:
    text = _text("name", value)
    # It becomes a folder's name, so it must not lead out of where runs are kept; and it stands in
    # the report, where it must not begin a tag or a link.
    if (
        text in (".", "..")
        or any(c in '/\\<>:"|?*[]`' or unicodedata.category(c) in ("Cc", "Cs") for c in text)
        or len(text.encode()) > 200
    ):
        raise _wrong("name", "the name of a folder", text)
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


def _is_number(value: object) -> TypeGuard[float]:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number too large for a float
        return False


def _split(value: object) -> tuple[float, float, float]:
    if (
        not isinstance(value, list | tuple)
        or len(value) != 3
        or not all(_is_number(share) and share > 0 for share in value)
        or not math.isclose(sum(value), 1, abs_tol=1e-6)
    ):
        raise _wrong("split", "three positive shares (train, validation, test) of sum 1", value)
    train, validation, test = map(float, value)
    return train, validation, test


def _one_of(key: str, value: object, known: tuple[str, ...]) -> Any:
    if value not in known:
        raise _wrong(key, f"one of {', '.join(known)}", value)
    return value


def _some_of(key: str, value: object, known: tuple[str, ...]) -> Any:
    """The ones named out of those known, in their order."""
    if (
        not isinstance(value, list | tuple)
        or not value
        or any(one not in known for one in value)
        or len(set(value)) != len(value)
    ):
        raise _wrong(key, f"a list out of {', '.join(known)}, each at most once", value)
    return tuple(one for one in known if one in value)


def _seeds(value: object) -> tuple[int, ...]:
    if not isinstance(value, list | tuple) or not value or len(set(map(str, value))) != len(value):
        raise _wrong("seeds", "a list of whole numbers, each once", value)
    return tuple(_integer("seeds", seed, 0) for seed in value)


def _margin(value: object) -> float:
    if not _is_number(value) or not 0 <= value <= 2:
        raise _wrong("margin", "a number from 0 to 2", value)
    return float(value)


def _epsilons(value: object) -> tuple[float, ...]:
    expected = "numbers from 0 to 1, at least one above 0"
    if not isinstance(value, list | tuple):
        raise _wrong("epsilons", expected, value)
    for epsilon in value:
        if not _is_number(epsilon) or not 0 <= epsilon <= 1:
            raise _wrong("epsilons", expected, epsilon)
    levels = tuple(sorted({0.0, *map(float, value)}))
    if len(levels) < 2:
        raise _wrong("epsilons", expected, value)
    return levels


def _networks(value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not value:
        raise _wrong("networks", "a list of networks, each once", value)
    names = tuple(backbones.find(name).name for name in value)
    if len(set(names)) != len(names):
        raise _wrong("networks", "a list of networks, each once", value)
    return names


def _layers(value: object) -> Literal["all"] | dict[str, tuple[str, ...]]:
    if value == "all":
        return "all"
    if not isinstance(value, dict) or not all(
        isinstance(names, list | tuple) and names and all(isinstance(n, str) for n in names)
        for names in value.values()
    ):
        raise _wrong("layers", "'all' or a table of network = [names of layers]", value)
    return {backbones.find(name).name: tuple(names) for name, names in value.items()}


def _readings(value: object) -> Readings:
    if not isinstance(value, dict):
        raise _wrong("readings", "a table", value)
    _refuse_unknown(value, Readings, "readings.")
    for key, choice in value.items():
        _one_of(f"readings.{key}", choice, reading_choices(key))
    return Readings(**value)


def reading_choices(key: str) -> tuple[str, ...]:
    """What the reading ``key`` may be; the default first."""
    return get_args(get_type_hints(Readings)[key])


def _check_together(study: Study) -> None:
    if study.max_photos is not None and study.max_photos < study.min_photos:
        raise _wrong("max_photos", f"at least min_photos = {study.min_photos}", study.max_photos)
    if study.source not in study.networks:
        backbones.find(study.source)
        raise _wrong(
            "source", f"one of the study's networks, {', '.join(study.networks)}", study.source
        )
    for name in study.networks:
        backbones.check_image_size(backbones.find(name), study.image_size)
    if isinstance(study.layers, dict):
        for name in study.networks:
            if name not in study.layers:
                raise _wrong(
                    "layers", f"layers of every network of the study, also {name}", study.layers
                )
