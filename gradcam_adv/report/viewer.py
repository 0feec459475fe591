"""What the report page's viewer shows: example photos, clean and attacked, and their heatmaps."""

from __future__ import annotations

import base64
import io
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import matplotlib
import matplotlib.colors
import numpy as np
import pandas as pd
from PIL import Image

from gradcam_adv.plots import overlays
from gradcam_adv.report import cells, examples, sections
from gradcam_adv.study.setting import Setting, block_ends, example_rows

if TYPE_CHECKING:
    from gradcam_adv.study.config import Arm

PHOTOS = 6
ATTACKS = ("black-box", "white-box")
# Sides in pixels that nothing is shown beyond: the page has to stay small.
PICTURE_SIDE = 224
MAP_SIDE = 56
# Less to more participation; a brown and a violet, told apart by colour-blind readers, too.
SHIFT_COLORMAP = "PuOr"


@dataclass(frozen=True)
class Level:
    """One photo under one attack, or clean.

    Attributes:
        attack: "clean" or one of ATTACKS.
        epsilon: 0 when clean.
        picture: the photo that the network gets, as of :func:`encode_picture`.
        maps: heatmaps of the network's layers, as of :func:`encode_maps`.
        predicted: name of the predicted identity.
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


@dataclass(frozen=True)
class Layer:
    """A layer shown, with the size of its maps in :attr:`Level.maps`."""

    name: str
    height: int
    width: int


@dataclass(frozen=True)
class Network:
    """One network; on the source of the black-box attack both attacks are the same."""

    title: str
    is_source: bool
    layers: tuple[Layer, ...]
    photos: tuple[Photo, ...]


@dataclass(frozen=True)
class Shown:
    """One arm of a run."""

    title: str
    caveat: str
    networks: tuple[Network, ...]


def of_run(
    settings: dict[Arm, Setting], summaries: dict[Arm, dict[str, pd.DataFrame]]
) -> list[Shown]:
    """The first example photos of every arm and network at the ends of blocks; runs no network."""
    return [
        Shown(
            sections.ARMS[arm],
            cells.caveat(setting),
            tuple(_network(setting, network, summaries[arm]) for network in setting.study.networks),
        )
        for arm, setting in settings.items()
    ]


def encode_picture(pixels: np.ndarray) -> bytes:
    """Pixels (H, W, 3) in [0, 1] as WebP, at most PICTURE_SIDE wide and high."""
    image = Image.fromarray((pixels * 255).round().astype(np.uint8))
    image.thumbnail((PICTURE_SIDE, PICTURE_SIDE), Image.Resampling.BOX)
    return encode_image(image)


def encode_image(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "WEBP", quality=80)
    return file.getvalue()


def encode_maps(maps: Sequence[np.ndarray]) -> tuple[bytes, list[tuple[int, int]]]:
    """Heatmaps in [0, 1] in 256 steps one after the other, and the size of each.

    Those larger than MAP_SIDE are averaged down to it.
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


def _network(setting: Setting, network: str, summary: dict[str, pd.DataFrame]) -> Network:
    names = block_ends(setting, network)
    photos = []
    for row in example_rows(setting)[:PHOTOS]:
        case = setting.test.iloc[row]
        scored = cells.select(summary["layers"], network=network, photo=case["photo"])
        by_level = scored.set_index(["attack", "epsilon", "layer"])["nissim"]
        levels = []
        for example in examples.levels(
            setting, network, int(row), ATTACKS, names, summary["predictions"]
        ):
            maps, sizes = encode_maps(list(example.maps.values()))
            nissim = [
                by_level[example.attack, example.epsilon, name] if example.epsilon else 0.0
                for name in names
            ]
            levels.append(
                Level(
                    example.attack,
                    example.epsilon,
                    encode_picture(example.pixels),
                    maps,
                    example.predicted,
                    tuple(map(float, nissim)),
                )
            )
        person = setting.people[case["label"]]
        photos.append(Photo(case["photo"], person, tuple(levels)))
    return Network(
        cells.title_of(network),
        network == setting.study.source,
        tuple(Layer(name, *size) for name, size in zip(names, sizes, strict=True)),
        tuple(photos),
    )


def pack(arms: Sequence[Shown], photos: int = PHOTOS) -> dict[str, Any]:
    """The viewer's data as it stands in the page; equal pictures and maps are kept once.

    Args:
        arms: as of :func:`of_run`.
        photos: how many of each network's photos.
    """
    pictures: dict[bytes, int] = {}
    maps: dict[bytes, int] = {}

    def level(own: Level) -> dict[str, Any]:
        return {
            "attack": own.attack,
            "epsilon": own.epsilon,
            "picture": pictures.setdefault(own.picture, len(pictures)),
            "maps": maps.setdefault(own.maps, len(maps)),
            "predicted": own.predicted,
            "nissim": [round(value, 4) for value in own.nissim],
        }

    def network(own: Network) -> dict[str, Any]:
        return {
            "title": own.title,
            "source": own.is_source,
            "layers": [[layer.name, layer.height, layer.width] for layer in own.layers],
            "photos": [
                {
                    "name": photo.name,
                    "person": photo.person,
                    "levels": [level(one) for one in photo.levels],
                }
                for photo in own.photos[:photos]
            ],
        }

    packed = [
        {
            "title": arm.title,
            "caveat": arm.caveat,
            "networks": [network(own) for own in arm.networks],
        }
        for arm in arms
    ]
    return {
        "arms": packed,
        "pictures": [data_uri(picture, "image/webp") for picture in pictures],
        "maps": [base64.b64encode(zlib.compress(one, 9)).decode() for one in maps],
        "colours": {"heat": _table(overlays.COLORMAP), "shift": _table(SHIFT_COLORMAP)},
    }


def _table(colormap: str) -> str:
    """The 256 colours of a colour map, three bytes each, in base64."""
    colours = matplotlib.colormaps[colormap](np.arange(256), bytes=True)[:, :3]
    return base64.b64encode(colours.tobytes()).decode()


def gradient(colormap: str) -> str:
    """A colour map as a CSS gradient, from its low end on the left."""
    colours = matplotlib.colormaps[colormap](np.linspace(0, 1, 17))
    return f"linear-gradient(to right, {', '.join(map(matplotlib.colors.to_hex, colours))})"


def data_uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def still(arms: Sequence[Shown]) -> tuple[str, str]:
    """One state of the viewer as a picture, a data URI and its description, for want of scripts.

    The first photo of the first network at its last layer under the strongest attack.
    """
    network = arms[0].networks[0]
    photo, layer = network.photos[0], network.layers[-1]
    clean, attacked = photo.levels[0], photo.levels[-1]
    pictures = [_decode(level.picture) for level in (clean, attacked)]
    # The last layer's map stands at the end.
    values = [
        np.frombuffer(level.maps, np.uint8)[-layer.height * layer.width :]
        for level in (clean, attacked)
    ]
    tiles = [np.asarray(picture, np.float32) / 255 for picture in pictures]
    for picture, one in zip(pictures, values, strict=True):
        image = Image.fromarray(one.reshape(layer.height, layer.width))
        large = np.asarray(image.resize(picture.size, Image.Resampling.BILINEAR))
        tiles.append(overlays.mixed(np.asarray(picture, np.float32) / 255, large / 255))
    sheet = Image.fromarray((np.concatenate(tiles, axis=1) * 255).round().astype(np.uint8))
    return data_uri(encode_image(sheet), "image/webp"), (
        f"Photo of {photo.person}, the photo perturbed at ε = {attacked.epsilon:g} "
        f"({attacked.attack}), and the heatmaps of both at {layer.name} of {network.title}: "
        f"NISSIM {attacked.nissim[-1]:.4f}"
    )


def _decode(picture: bytes) -> Image.Image:
    with Image.open(io.BytesIO(picture)) as image:
        return image.convert("RGB")
