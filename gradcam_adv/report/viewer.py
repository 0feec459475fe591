"""What the page's strip and viewer show: example photos, attacked or with noise, and heatmaps."""

from __future__ import annotations

import base64
import io
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import pandas as pd
from PIL import Image

from gradcam_adv.files import text
from gradcam_adv.models.backbones import title
from gradcam_adv.plots.overlays import mixed
from gradcam_adv.plots.style import COLORMAP, SHIFT_COLORMAP
from gradcam_adv.report.embedding import data_uri, encode_image
from gradcam_adv.report.example_photos import examples_of
from gradcam_adv.study.attacks import BLACK_BOX, NOISE, WHITE_BOX
from gradcam_adv.study.plan import ArmPlan
from gradcam_adv.study.settings import Arm
from gradcam_adv.study.tables import select

PHOTOS = 6
ATTACKS = (WHITE_BOX, BLACK_BOX)
# Largest sides in pixels, so that the page stays small.
PICTURE_SIDE = 224
MAP_SIDE = 56


@dataclass(frozen=True)
class Level:
    """One photo under one attack or noise, or clean.

    Attributes:
        attack: "clean", an attack, or NOISE.
        epsilon: 0 when clean.
        picture: the photo that the network gets, as of :func:`encode_picture`.
        maps: heatmaps of the network's layers, as of :func:`encode_maps`.
        predicted: name of the predicted class.
        nissim: of each layer, against the clean photo's map.
    """

    attack: str
    epsilon: float
    picture: bytes
    maps: bytes
    predicted: str
    nissim: tuple[float, ...]


@dataclass(frozen=True)
class Photo:
    """One example photo with its levels, the clean one first."""

    name: str
    person: str
    levels: tuple[Level, ...]


class Layer(NamedTuple):
    """A layer shown, with the size of its maps in :attr:`Level.maps`."""

    name: str
    height: int
    width: int


@dataclass(frozen=True)
class Network:
    """One network; on the source of the black-box attack both attacks are equal."""

    name: str
    title: str
    source: bool
    layers: tuple[Layer, ...]
    photos: tuple[Photo, ...]


@dataclass(frozen=True)
class Shown:
    """One arm of a run."""

    arm: str
    networks: tuple[Network, ...]


def of_run(
    arms: Mapping[Arm, ArmPlan], summaries: Mapping[Arm, dict[str, pd.DataFrame]]
) -> list[Shown]:
    """The first example photos of every arm and network at the ends of blocks; runs no network.

    None before all arms have scored theirs.
    """
    if not all("layers" in summary for summary in summaries.values()):
        return []
    shown = []
    for arm, plan in arms.items():
        networks = [_network(plan, network, summaries[arm]) for network in plan.study.networks]
        shown.append(Shown(arm, tuple(networks)))
    return shown


def _network(plan: ArmPlan, network: str, summary: dict[str, pd.DataFrame]) -> Network:
    explain = plan.explain[network]
    names = explain.block_ends()
    photos = []
    for row in explain.rows[:PHOTOS]:
        case = plan.photos.test.iloc[row]
        scored = select(summary["layers"], network=network, photo=case["photo"])
        by_level = scored.set_index(["attack", "epsilon", "layer"])["nissim"]
        levels = []
        conditions = (*ATTACKS, NOISE)
        examples = examples_of(plan, network, int(row), conditions, names, summary["predictions"])
        for example in examples:
            attack, epsilon = example.attack, example.epsilon
            maps, sizes = encode_maps(list(example.maps.values()))
            picture = encode_picture(example.pixels)
            nissim = [float(by_level[attack, epsilon, n]) if epsilon else 0.0 for n in names]
            levels.append(Level(attack, epsilon, picture, maps, example.predicted, tuple(nissim)))
        name, person = text.shown(case["photo"]), plan.people[case["label"]]
        photos.append(Photo(name, person, tuple(levels)))
    layers = tuple(Layer(name, *size) for name, size in zip(names, sizes, strict=True))
    return Network(network, title(network), network == plan.study.source, layers, tuple(photos))


def encode_picture(pixels: np.ndarray) -> bytes:
    """Pixels (H, W, 3) in [0, 1] as WebP, at most PICTURE_SIDE wide and high."""
    image = Image.fromarray((pixels * 255).round().astype(np.uint8))
    image.thumbnail((PICTURE_SIDE, PICTURE_SIDE), Image.Resampling.BOX)
    return encode_image(image)


def encode_maps(maps: Sequence[np.ndarray]) -> tuple[bytes, list[tuple[int, int]]]:
    """Heatmaps in [0, 1] in 256 steps one after the other, and the size of each.

    Larger ones are averaged down to MAP_SIDE.
    """
    small = [_at_most(values, MAP_SIDE) for values in maps]
    steps = [(values * 255).round().astype(np.uint8) for values in small]
    return b"".join(values.tobytes() for values in steps), [values.shape for values in steps]


def _at_most(values: np.ndarray, side: int) -> np.ndarray:
    height, width = (min(length, side) for length in values.shape)
    if (height, width) == values.shape:
        return values
    image = Image.fromarray(values.astype(np.float32))
    return np.asarray(image.resize((width, height), Image.Resampling.BOX))


def pack(arms: Sequence[Shown], photos: int = PHOTOS) -> dict[str, Any]:
    """The viewer's data as it stands in the page, with so many photos of each network.

    Equal pictures and maps are stored once, and levels have their numbers.
    """
    pictures: dict[bytes, int] = {}
    maps: dict[bytes, int] = {}

    def level(shown: Level) -> dict[str, Any]:
        return vars(shown) | {
            "picture": pictures.setdefault(shown.picture, len(pictures)),
            "maps": maps.setdefault(shown.maps, len(maps)),
            "nissim": [round(value, 4) for value in shown.nissim],
        }

    def photo(shown: Photo) -> dict[str, Any]:
        return vars(shown) | {"levels": list(map(level, shown.levels))}

    def network(shown: Network) -> dict[str, Any]:
        return vars(shown) | {"photos": list(map(photo, shown.photos[:photos]))}

    return {
        "arms": [vars(arm) | {"networks": list(map(network, arm.networks))} for arm in arms],
        "pictures": [data_uri(picture, "image/webp") for picture in pictures],
        "maps": [base64.b64encode(zlib.compress(content, 9)).decode() for content in maps],
        "colours": {"heat": colour_table(COLORMAP), "shift": colour_table(SHIFT_COLORMAP)},
    }


def colour_table(colormap: str) -> str:
    """The 256 colours of a colour map, three bytes each, in base64."""
    colours = matplotlib.colormaps[colormap](np.arange(256), bytes=True)[:, :3]
    return base64.b64encode(colours.tobytes()).decode()


def still(arms: Sequence[Shown], epsilon: float) -> tuple[str, str]:
    """One state of the strip as a picture, a data URI and its description, for want of scripts.

    The first photo of the source, or of the first network, at its last layer, under the first
    attack at ``epsilon``.
    """
    networks = arms[0].networks
    network = next((one for one in networks if one.source), networks[0])
    photo, layer = network.photos[0], network.layers[-1]
    clean, attacked = photo.levels[0], next(lv for lv in photo.levels if lv.epsilon == epsilon)
    pixels, overlaid = [], []
    for level in (clean, attacked):
        with Image.open(io.BytesIO(level.picture)) as picture:
            pixels.append(np.asarray(picture.convert("RGB"), np.float32) / 255)
            # The last layer's map stands at the end.
            values = np.frombuffer(level.maps, np.uint8)[-layer.height * layer.width :]
            heatmap = Image.fromarray(values.reshape(layer.height, layer.width))
            large = np.asarray(heatmap.resize(picture.size, Image.Resampling.BILINEAR))
        overlaid.append(mixed(pixels[-1], large / 255))
    tiles = np.concatenate([*pixels, *overlaid], axis=1)
    sheet = Image.fromarray((tiles * 255).round().astype(np.uint8))
    return data_uri(encode_image(sheet), "image/webp"), (
        f"Photo of {photo.person}, the photo attacked at ε = {epsilon:g} ({attacked.attack}), and "
        f"the heatmaps of both at {layer.name} of {network.title}: NISSIM {attacked.nissim[-1]:.4f}"
    )
