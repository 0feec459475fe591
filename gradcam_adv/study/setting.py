"""What the stages of one arm share: its photos, models and folders, and which conditions it has."""

from __future__ import annotations

import functools
import platform
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from gradcam_adv import batching as batches
from gradcam_adv import machine
from gradcam_adv.attacks import fgsm
from gradcam_adv.data import photos
from gradcam_adv.data.sources import Listing
from gradcam_adv.files import artifacts
from gradcam_adv.models import backbones, classifiers
from gradcam_adv.models.weights import Weights
from gradcam_adv.study.config import Arm, Study

if TYPE_CHECKING:
    import keras

# Photos a file: what an interrupted stage does again at most.
SLICE = 32
# What an attack made on neither the study's source nor the attacked network is called: "from X".
FROM = "from "


@dataclass(frozen=True)
class Setting:
    """What the stages of one arm share.

    Attributes:
        study: what to do.
        arm: "plain", photos as they are, or "aligned", crops of their faces.
        models: folder of the arm's ``.keras`` files.
        listing: the files of the data set.
        weights: by network, where its weights come from.
        folders: by task, such as "attack/vgg16", the folder of its files; "data" holds the arm's
            own table of photos.
        fingerprints: by task.
    """

    study: Study
    arm: Arm
    models: Path
    listing: Listing
    weights: dict[str, Weights]
    folders: dict[str, Path]
    fingerprints: dict[str, str]

    @property
    def batch_size(self) -> int:
        size = self.study.image_size
        return batches.size_for(self.study.batch_size, (None, size, size, 3))

    def __getstate__(self) -> dict[str, Any]:
        """Without its tables: a worker elsewhere is given its photos, and reads the rest."""
        state = {field.name: getattr(self, field.name) for field in fields(self)}
        listing = replace(self.listing, files=self.listing.files.iloc[:0])
        return state | {"listing": listing}

    @functools.cached_property
    def table(self) -> pd.DataFrame:
        return artifacts.read_table(self.folders["data"] / "photos.csv")

    @functools.cached_property
    def test(self) -> pd.DataFrame:
        return self.table[self.table["split"] == "test"].reset_index(drop=True)

    @functools.cached_property
    def identities(self) -> list[str]:
        return sorted(self.table["identity"].unique())

    @functools.cached_property
    def people(self) -> list[str]:
        """Names of the identities, by label."""
        name_of = self.listing.identities.set_index("identity")["name"]
        return list(map(str, name_of.loc[self.identities]))

    def pixels(self, rows: pd.DataFrame) -> np.ndarray:
        """The photos of ``rows``, exact, float32 (n, size, size, 3)."""
        if self.arm == "aligned":
            return self._crops(rows)
        return photos.decode_all(self.paths(rows), self.study.image_size)

    def paths(self, rows: pd.DataFrame) -> list[Path]:
        return [self.listing.root / photo for photo in rows["photo"]]

    def _crops(self, rows: pd.DataFrame) -> np.ndarray:
        files = {
            name: artifacts.read_array(self.folders["data"] / name, mmap=True)
            for name in rows["crops"].unique()
        }
        crops = [files[name][i] for name, i in zip(rows["crops"], rows["crop"], strict=True)]
        return np.stack(crops).astype(np.float32) / 255

    def model(self, network: str) -> keras.Model:
        path = self.models / f"{network}.keras"
        model = classifiers.load(path)
        facts = artifacts.read_json(path.with_suffix(".json"))
        classifiers.check_classes(model, facts, self.identities)
        if self.study.precision == "float32":
            return model
        return classifiers.in_precision(model, self.study.precision)

    def perturb(
        self, network: str, clean: np.ndarray, signs: np.ndarray, epsilon: float
    ) -> np.ndarray:
        """The perturbed photos that ``network`` gets at ``epsilon``, as they are read again."""
        readings = self.study.readings
        unit = backbones.epsilon_unit(network, readings.epsilon_unit, readings.preprocessing)
        return self.read_again(fgsm.perturb(clean, signs, epsilon * unit))

    def read_again(self, images: np.ndarray) -> np.ndarray:
        """A test set, clean or perturbed, as the study says it was kept, float32."""
        return photos.as_stored(images, self.study.readings.perturbed_set)


def cut(rows: pd.DataFrame, length: int | None = None) -> Iterator[tuple[str, pd.DataFrame]]:
    """Cut a table of photos into slices, each called after the index of its first photo."""
    length = length or SLICE
    for start in range(0, len(rows), length):
        part = rows.iloc[start : start + length]
        yield f"{part.index[0]:07d}", part.reset_index(drop=True)


def bar(what: str, rows: pd.DataFrame) -> tqdm[Any]:
    """A bar to be moved on by every photo of ``rows`` that is done."""
    return tqdm(total=len(rows), desc=what, unit="photo", disable=None)


def slice_of(
    setting: Setting, row: int, length: int | None = None
) -> tuple[str, pd.DataFrame, list[int]]:
    """The slice that a test photo is in: its name, its photos, and the photo's place, of one."""
    length = length or SLICE
    start = row - row % length
    rows = setting.test.iloc[start : start + length].reset_index(drop=True)
    return f"{start:07d}", rows, [row - start]


def versions() -> dict[str, str]:
    """Of Python, and of the packages that make numbers; of Keras' backends the one at work."""
    packages = (
        *("gradcam-adv", "keras", machine.backend(), "numpy", "scipy", "scikit-image", "pillow"),
        *("imagehash", "mtcnn"),
    )
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


def signs_of(
    setting: Setting, attack: str, network: str, name: str, rows: pd.DataFrame
) -> np.ndarray:
    """int8 signs, (n, H, W, 3), with which ``attack`` perturbs slice ``name`` for ``network``."""
    if attack == "noise":
        shape = (setting.study.image_size, setting.study.image_size, 3)
        return np.stack(
            [fgsm.random_sign(shape, setting.study.seed, sha256) for sha256 in rows["sha256"]]
        )
    maker = maker_of(setting.study, attack, network)
    return artifacts.read_array(setting.folders[f"attack/{maker}"] / f"{name}.npy")


def maker_of(study: Study, attack: str, network: str) -> str:
    """The network on which an attack on ``network`` was made."""
    by_name = {"black-box": study.source, "white-box": network}
    return by_name.get(attack) or attack.removeprefix(FROM)


def makers_of(study: Study, network: str) -> list[str]:
    """The networks whose signs ``network`` gets."""
    return [
        maker_of(study, attack, network)
        for attack in levels_of(study, network)
        if attack != "noise"
    ]


def attacks_of(study: Study, network: str) -> tuple[str, ...]:
    """The attacks to compute; on the source network the black-box attack is the white-box one."""
    own = network != study.source and "white-box" in study.attacks
    return ("black-box", "white-box", "noise") if own else ("black-box", "noise")


def levels_of(study: Study, network: str) -> dict[str, tuple[float, ...]]:
    """Every attack on ``network`` with the epsilons that it is evaluated and scored at."""
    levels = dict.fromkeys(attacks_of(study, network), study.epsilons)
    if "transfer" in study.attacks:
        others = [other for other in study.networks if other not in (network, study.source)]
        levels |= {f"{FROM}{other}": study.epsilons[-1:] for other in others}
    return levels


def with_white_box_of_source(study: Study, network: str, table: pd.DataFrame) -> pd.DataFrame:
    """The source's rows of the black-box attack once more, as the white-box attack they are."""
    if network != study.source or "white-box" not in study.attacks:
        return table
    own = table[table["attack"] == "black-box"]
    return pd.concat([table, own.assign(attack="white-box")], ignore_index=True)


def predictions(setting: Setting, network: str) -> pd.DataFrame:
    """One row a test photo, attack and epsilon: what ``network`` predicts."""
    # The name of what a killed run may have left of a file begins otherwise.
    files = sorted(setting.folders[f"evaluate/{network}"].glob("[0-9]*.csv"))
    return pd.concat([artifacts.read_table(path) for path in files], ignore_index=True)


def under(condition: str, rows: pd.DataFrame) -> list[str]:
    """How an error names the photos of ``rows`` under a condition: "ann/3.jpg, black-box 0.05"."""
    return [f"{photo}, {condition}" for photo in rows["photo"]]


# The classes that every last heatmap is made for, in this order.
TARGETS = ("predicted", "clean", "true")


def targets(study: Study) -> list[str]:
    """The classes scored: as the study reads the paper, then the clean photo's prediction."""
    return list(dict.fromkeys([study.readings.explained_class, "clean"]))


def example_rows(setting: Setting) -> np.ndarray:
    """Rows of the test photos that get heatmaps of all layers, spread evenly over the test set."""
    count = min(setting.study.examples, len(setting.test))
    return np.linspace(0, len(setting.test) - 1, count).round().astype(int)


# Beside the heatmaps of all layers, the names of those that end a block.
BLOCKS = "blocks.json"


def block_ends(setting: Setting, network: str) -> list[str]:
    """The layers that a reader is shown first, in the order of the network."""
    blocks = artifacts.read_json(setting.folders[f"explain/{network}"] / BLOCKS)["blocks"]
    return list(map(str, blocks))


def conditions(study: Study, network: str) -> list[tuple[str, float]]:
    """Of the example photos: clean, then every attack but transfers at every epsilon above 0."""
    return [
        ("clean", 0.0),
        *((a, e) for a in attacks_of(study, network) for e in study.attacked_epsilons),
    ]


def layers_in(keys: Iterable[str]) -> list[str]:
    """The layers whose heatmaps a file of ``explain`` holds, in the order of the network."""
    return [key.removeprefix("clean/") for key in keys if key.startswith("clean/")]


def condition_key(attack: str, epsilon: float) -> str:
    """Name of a condition's array, such as "clean" or "black-box 0.05"."""
    return "clean" if attack == "clean" else f"{attack} {epsilon!r}"
