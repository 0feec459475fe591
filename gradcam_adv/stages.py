"""What each stage of a study does: a slice of photos in, whole files out, nothing else touched."""

from __future__ import annotations

import functools
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from gradcam_adv import artifacts, backbones, classifiers, datasets, fgsm, gradcam, metrics, photos
from gradcam_adv.study import Study

if TYPE_CHECKING:
    import keras

# Photos a file: what an interrupted stage does again at most.
SLICE = 32
ATTACKS = ("black-box", "white-box", "noise")
# How many unrelated photos each photo's map is held against for the ceiling of MOD.
CEILING_PAIRS = 5
# Statistics of smaller batches leave the features of deep random networks near useless.
CALIBRATION_BATCH = 64


@dataclass(frozen=True)
class Setting:
    """What all stages of one run share.

    Attributes:
        study: what to do.
        models: folder of the ``.keras`` files.
        listing: the files of the data set.
        weights: by network, where its weights come from.
        folders: by task, such as "attack/vgg16", the folder of its files.
        fingerprints: by task.
    """

    study: Study
    models: Path
    listing: datasets.Listing
    weights: dict[str, backbones.Weights]
    folders: dict[str, Path]
    fingerprints: dict[str, str]

    @functools.cached_property
    def table(self) -> pd.DataFrame:
        return artifacts.read_table(self.folders["data"] / "photos.csv")

    @functools.cached_property
    def test(self) -> pd.DataFrame:
        return self.table[self.table["split"] == "test"].reset_index(drop=True)

    @functools.cached_property
    def identities(self) -> list[str]:
        return sorted(self.table["identity"].unique())

    def pixels(self, rows: pd.DataFrame) -> np.ndarray:
        """The photos of ``rows`` as the networks get them, float32 (n, size, size, 3)."""
        paths = [self.listing.root / photo for photo in rows["photo"]]
        clean = photos.decode_all(paths, self.study.image_size)
        return photos.as_stored(clean, self.study.readings.perturbed_set)

    def model(self, network: str) -> keras.Model:
        path = self.models / f"{network}.keras"
        model = classifiers.load(path)
        facts = artifacts.read_json(path.with_suffix(".json"))
        classifiers.check_classes(model, facts, self.identities)
        return model

    def perturb(self, network: str, clean: np.ndarray, signs: np.ndarray, epsilon: float) -> Any:
        """The perturbed photos that ``network`` gets at ``epsilon``, float32."""
        readings = self.study.readings
        unit = backbones.epsilon_unit(network, readings.epsilon_unit, readings.preprocessing)
        return photos.as_stored(fgsm.perturb(clean, signs, epsilon * unit), readings.perturbed_set)


def slices(rows: pd.DataFrame, what: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """Cut a table of photos into slices, each with the name of its file; draws a bar."""
    with tqdm(total=len(rows), desc=what, unit="photo", disable=None) as bar:
        for start in range(0, len(rows), SLICE):
            part = rows.iloc[start : start + SLICE].reset_index(drop=True)
            yield f"{start:07d}", part
            bar.update(len(part))


def versions() -> dict[str, str]:
    packages = ("gradcam-adv", "keras", "tensorflow", "numpy", "scikit-image", "pillow")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


# --- data


def data(setting: Setting, folder: Path) -> list[Path]:
    study = setting.study
    table = datasets.make_table(
        setting.listing,
        identities=study.identities,
        maximum_photos=study.maximum_photos,
        split=study.split,
        image_size=study.image_size,
        seed=study.seed,
    )
    artifacts.write_table(folder / "excluded.csv", table.excluded)
    artifacts.write_table(folder / "photos.csv", table.kept)
    return [folder / "excluded.csv", folder / "photos.csv"]


# --- train


def train(setting: Setting, folder: Path, network: str) -> list[Path]:
    from gradcam_adv import training

    study = setting.study
    weights = setting.weights[network]
    base = backbones.build(
        network,
        study.image_size,
        weights,
        preprocessing=study.readings.preprocessing,
        seed=study.seed,
    )
    if weights.origin == "random":
        _calibrate(setting, base, network)
    extractor = classifiers.features(base, study.readings.pooling)

    files = []
    for name, rows in slices(setting.table, f"features {network}"):
        path = folder / f"features-{name}.npy"
        if not path.exists():
            pixels = setting.pixels(rows)
            artifacts.write_array(path, gradcam.predict(extractor, pixels, study.batch_size))
        files.append(path)
    features = [np.load(path, mmap_mode="r") for path in files]

    table = setting.table
    labels = table["label"].to_numpy()
    split = {name: np.flatnonzero(table["split"] == name) for name in datasets.SPLITS}
    head = classifiers.dense_head(features[0].shape[1], len(setting.identities), study.seed)
    history = training.train_head(
        head,
        features,
        labels,
        split["train"],
        split["validation"],
        epochs=study.epochs,
        seed=study.seed,
        progress=True,
    )
    artifacts.write_table(folder / "history.csv", history)

    model = classifiers.assemble(extractor, head)
    logits = [gradcam.predict(head, part, study.batch_size) for part in features]
    _check_same_logits(setting, network, model, logits[0])
    right = np.concatenate(logits).argmax(axis=1) == labels
    path = setting.models / f"{network}.keras"
    facts = {
        "network": network,
        "classes": setting.identities,
        "image_size": study.image_size,
        "weights": {
            "origin": weights.origin,
            "file": weights.path.name if weights.path else None,
            "sha256": weights.sha256,
            "note": weights.note,
        },
        "study": study.name,
        "fingerprint": setting.fingerprints[f"train/{network}"],
        "versions": versions(),
        "accuracy": {
            name: {"right": int(right[rows].sum()), "photos": len(rows)}
            for name, rows in split.items()
        },
    }
    classifiers.save(model, path, facts)
    return [*files, folder / "history.csv", path, path.with_suffix(".json")]


def _calibrate(setting: Setting, base: keras.Model, network: str) -> None:
    rows = setting.table[setting.table["split"] == "train"].reset_index(drop=True)
    shuffled = rows.iloc[np.random.default_rng(setting.study.seed).permutation(len(rows))]
    starts = range(0, len(rows), CALIBRATION_BATCH)
    bar = tqdm(starts, f"batch norm {network}", unit="batch", disable=None)
    backbones.calibrate_batch_norm(
        base,
        (setting.pixels(shuffled.iloc[start : start + CALIBRATION_BATCH]) for start in bar),
    )


def _check_same_logits(
    setting: Setting, network: str, model: keras.Model, head_logits: np.ndarray
) -> None:
    pixels = setting.pixels(setting.table.iloc[: len(head_logits)])
    logits = gradcam.predict(model, pixels, setting.study.batch_size)
    scale = max(1.0, float(np.abs(head_logits).max()))
    difference = float(np.abs(logits - head_logits).max()) / scale
    if difference > 1e-4:
        raise ValueError(
            f"Expected the assembled {network} to give the head's logits within 1e-4 of their "
            f"scale. Received: a difference of {difference:.1e}"
        )


# --- attack


def attack(setting: Setting, folder: Path, network: str) -> list[Path]:
    study = setting.study
    model = setting.model(network)
    make_sign = fgsm.compiled_sign(model, study.batch_size)
    files = []
    for name, rows in slices(setting.test, f"attack {network}"):
        path = folder / f"{name}.npy"
        if not path.exists():
            pixels = setting.pixels(rows)
            labels = rows["label"].to_numpy()
            if study.readings.attacked_label == "predicted":
                labels = gradcam.predict(model, pixels, study.batch_size).argmax(axis=1)
            artifacts.write_array(path, make_sign(pixels, labels))
        files.append(path)
    return files


def signs_of(setting: Setting, attack: str, network: str, name: str, rows: pd.DataFrame) -> Any:
    """int8 signs, (n, H, W, 3), with which ``attack`` perturbs slice ``name`` for ``network``."""
    if attack == "noise":
        shape = (setting.study.image_size, setting.study.image_size, 3)
        return np.stack(
            [fgsm.random_sign(shape, setting.study.seed, sha256) for sha256 in rows["sha256"]]
        )
    maker = setting.study.source if attack == "black-box" else network
    return np.load(setting.folders[f"attack/{maker}"] / f"{name}.npy")


def attacks_of(study: Study, network: str) -> tuple[str, ...]:
    """The attacks to compute; on the source network the black-box attack is the white-box one."""
    return ("black-box", "noise") if network == study.source else ATTACKS


def with_white_box_of_source(study: Study, network: str, table: pd.DataFrame) -> pd.DataFrame:
    """The source's rows of the black-box attack once more, as the white-box attack they are."""
    if network != study.source:
        return table
    own = table[table["attack"] == "black-box"]
    return pd.concat([table, own.assign(attack="white-box")], ignore_index=True)


# --- evaluate


def evaluate(setting: Setting, folder: Path, network: str) -> list[Path]:
    model = setting.model(network)
    files = []
    for name, rows in slices(setting.test, f"evaluate {network}"):
        path = folder / f"{name}.csv"
        if not path.exists():
            table = _evaluate_slice(setting, model, network, name, rows)
            artifacts.write_table(path, table)
        files.append(path)
    return files


def _evaluate_slice(
    setting: Setting, model: keras.Model, network: str, name: str, rows: pd.DataFrame
) -> pd.DataFrame:
    clean = setting.pixels(rows)

    def predicted(images: np.ndarray) -> np.ndarray:
        return gradcam.predict(model, images, setting.study.batch_size).argmax(axis=1)

    predicted_clean = predicted(clean)
    parts = []
    for attack in attacks_of(setting.study, network):
        signs = signs_of(setting, attack, network, name, rows)
        for epsilon in setting.study.epsilons:
            images = setting.perturb(network, clean, signs, epsilon) if epsilon else clean
            parts.append(
                rows[["photo", "identity", "label"]].assign(
                    network=network,
                    attack=attack,
                    epsilon=epsilon,
                    predicted_clean=predicted_clean,
                    predicted=predicted(images) if epsilon else predicted_clean,
                    psnr=metrics.psnr(clean, images),
                    zero_gradient=(signs == 0).mean(axis=(1, 2, 3)),
                )
            )
    return with_white_box_of_source(setting.study, network, pd.concat(parts, ignore_index=True))


def predictions(setting: Setting, network: str) -> pd.DataFrame:
    """One row a test photo, attack and epsilon: what ``network`` predicts."""
    files = sorted(setting.folders[f"evaluate/{network}"].glob("*.csv"))
    return pd.concat([artifacts.read_table(path) for path in files], ignore_index=True)


# --- explain


def targets(study: Study) -> list[str]:
    """The classes explained: as the study reads the paper, then the clean photo's prediction."""
    return list(dict.fromkeys([study.readings.explained_class, "clean"]))


def example_rows(setting: Setting) -> np.ndarray:
    """Rows of the test photos that get heatmaps of all layers, spread evenly over the test set."""
    count = min(setting.study.examples, len(setting.test))
    return np.linspace(0, len(setting.test) - 1, count).round().astype(int)


def conditions(study: Study, network: str, attacks: tuple[str, ...]) -> list[tuple[str, float]]:
    """Clean photos, then every attack at every epsilon above 0."""
    return [
        ("clean", 0.0),
        *(
            (a, e)
            for a in attacks_of(study, network)
            if a in attacks
            for e in study.attacked_epsilons
        ),
    ]


def explain(setting: Setting, folder: Path, network: str) -> list[Path]:
    study = setting.study
    model = setting.model(network)
    table = predictions(setting, network)
    last = backbones.BACKBONES[network].last_activation
    wanted = targets(study)
    explain_last = gradcam.compiled_heatmaps(model, [last], study.batch_size, len(wanted))
    files = []
    for name, rows in slices(setting.test, f"explain {network}, {last}"):
        path = folder / f"last-{name}.npz"
        if not path.exists():
            clean = setting.pixels(rows)
            maps = {}
            for attack, epsilon in conditions(study, network, ATTACKS):
                images = _images(setting, network, name, rows, clean, attack, epsilon)
                classes = _classes(table, rows, attack, epsilon, wanted)
                maps[condition_key(attack, epsilon)] = explain_last(images, classes)[last]
            artifacts.write_arrays(path, maps)
        files.append(path)
    return files + _explain_examples(setting, folder, network, model, table)


def _explain_examples(
    setting: Setting, folder: Path, network: str, model: keras.Model, table: pd.DataFrame
) -> list[Path]:
    """Heatmaps of all the study's layers for the example photos, one file a photo."""
    study = setting.study
    names = gradcam.find_layers(model, study.layers_of(network))
    explain_layers = gradcam.compiled_heatmaps(model, names, study.batch_size, 1)
    files = []
    rows_of = example_rows(setting)
    for row in tqdm(rows_of, f"explain {network}, {len(names)} layers", unit="photo", disable=None):
        path = folder / f"example-{row:07d}.npz"
        if not path.exists():
            start = row - row % SLICE
            slice_rows = setting.test.iloc[start : start + SLICE].reset_index(drop=True)
            rows = slice_rows.iloc[[row - start]].reset_index(drop=True)
            clean = setting.pixels(rows)
            levels = conditions(study, network, ("black-box", "white-box"))
            images, classes = [], []
            for attack, epsilon in levels:
                signs = None
                if attack != "clean":
                    signs = signs_of(setting, attack, network, f"{start:07d}", slice_rows)
                    signs = signs[[row - start]]
                images.append(
                    clean if signs is None else setting.perturb(network, clean, signs, epsilon)
                )
                classes.append(_classes(table, rows, attack, epsilon, targets(study)[:1]))
            maps = explain_layers(np.concatenate(images), np.concatenate(classes))
            artifacts.write_arrays(
                path,
                {
                    f"{condition_key(*level)}/{layer}": values[i, 0]
                    for layer, values in maps.items()
                    for i, level in enumerate(levels)
                },
            )
        files.append(path)
    return files


def condition_key(attack: str, epsilon: float) -> str:
    """Name of a condition's array, such as "clean" or "black-box 0.05"."""
    return "clean" if attack == "clean" else f"{attack} {epsilon!r}"


def _images(
    setting: Setting,
    network: str,
    name: str,
    rows: pd.DataFrame,
    clean: np.ndarray,
    attack: str,
    epsilon: float,
) -> np.ndarray:
    if attack == "clean":
        return clean
    signs = signs_of(setting, attack, network, name, rows)
    return setting.perturb(network, clean, signs, epsilon)


def _classes(
    table: pd.DataFrame, rows: pd.DataFrame, attack: str, epsilon: float, wanted: list[str]
) -> np.ndarray:
    """Which classes to explain, int (n, targets), from the predictions of ``evaluate``."""
    any_attack = "black-box" if attack == "clean" else attack
    found = table[(table["attack"] == any_attack) & (table["epsilon"] == epsilon)]
    found = found.set_index("photo").loc[rows["photo"]]
    column = {"predicted": "predicted", "clean": "predicted_clean", "true": "label"}
    return found[[column[target] for target in wanted]].to_numpy()


# --- score


def score(setting: Setting, folder: Path, network: str) -> list[Path]:
    table = predictions(setting, network)
    explained = setting.folders[f"explain/{network}"]
    files = []
    for name, rows in slices(setting.test, f"score {network}"):
        path = folder / f"nissim-{name}.csv"
        if not path.exists():
            with np.load(explained / f"last-{name}.npz") as maps:
                scored = _score_slice(setting, network, rows, maps, table)
            artifacts.write_table(path, scored)
        files.append(path)
    for name, make in (("ceiling", _ceiling), ("layers", _score_layers)):
        path = folder / f"{name}.csv"
        if not path.exists():
            artifacts.write_table(path, make(setting, network, explained))
        files.append(path)
    return files


def at_sizes(study: Study, maps: np.ndarray) -> dict[str, np.ndarray]:
    """Heatmaps at the input's size and, where SSIM's window fits into them, at their own."""
    sizes = {"input": gradcam.resize(maps, study.image_size)}
    if min(maps.shape[-2:]) >= metrics.WINDOW:
        sizes["native"] = maps
    return sizes


def _score_slice(
    setting: Setting, network: str, rows: pd.DataFrame, maps: Any, table: pd.DataFrame
) -> pd.DataFrame:
    study = setting.study
    layer = backbones.BACKBONES[network].last_activation
    clean = maps["clean"]
    clean_at = at_sizes(study, clean)
    parts = []
    for attack in attacks_of(study, network):
        for epsilon in study.epsilons:
            found = table[(table["attack"] == attack) & (table["epsilon"] == epsilon)]
            found = found.set_index("photo").loc[rows["photo"]]
            perturbed = maps[condition_key(attack, epsilon)] if epsilon else clean
            for size, compared in at_sizes(study, perturbed).items():
                values = metrics.nissim(clean_at[size], compared)
                for i, target in enumerate(targets(study)):
                    parts.append(
                        rows[["photo", "identity"]].assign(
                            network=network,
                            layer=layer,
                            attack=attack,
                            epsilon=epsilon,
                            target=target,
                            size=size,
                            nissim=values[:, i],
                            flipped=(found["predicted"] != found["predicted_clean"]).to_numpy(),
                            empty_clean=~clean[:, i].any(axis=(1, 2)),
                            empty_perturbed=~perturbed[:, i].any(axis=(1, 2)),
                        )
                    )
    return with_white_box_of_source(study, network, pd.concat(parts, ignore_index=True))


def _ceiling(setting: Setting, network: str, explained: Path) -> pd.DataFrame:
    """NISSIM between clean maps of photos of different people: what no relation at all gives."""
    test = setting.test
    maps = []
    for path in sorted(explained.glob("last-*.npz")):
        with np.load(path) as arrays:
            maps.append(arrays["clean"][:, 0])
    clean = np.concatenate(maps)
    chance = np.random.default_rng(setting.study.seed)
    identities = test["identity"].to_numpy()
    own, other = [], []
    for row, identity in enumerate(identities):
        strangers = np.flatnonzero(identities != identity)
        chosen = chance.choice(strangers, min(CEILING_PAIRS, len(strangers)), replace=False)
        own += [row] * len(chosen)
        other += chosen.tolist()
    parts = []
    for start in range(0, len(own), SLICE):
        pair = slice(start, start + SLICE)
        others = at_sizes(setting.study, clean[other[pair]])
        for size, mine in at_sizes(setting.study, clean[own[pair]]).items():
            parts.append(
                pd.DataFrame(
                    {
                        "photo": test["photo"].to_numpy()[own[pair]],
                        "identity": identities[own[pair]],
                        "other": test["photo"].to_numpy()[other[pair]],
                        "network": network,
                        "size": size,
                        "nissim": metrics.nissim(mine, others[size]),
                    }
                )
            )
    return pd.concat(parts, ignore_index=True)


def _score_layers(setting: Setting, network: str, explained: Path) -> pd.DataFrame:
    """NISSIM of every layer for the example photos, at the input's size."""
    study = setting.study
    levels = [c for c in conditions(study, network, ("black-box", "white-box")) if c[1]]
    tables = []
    for row in tqdm(example_rows(setting), f"score {network}, layers", unit="photo", disable=None):
        photo = setting.test.iloc[row]
        with np.load(explained / f"example-{row:07d}.npz") as maps:
            layers = [key.split("/", 1)[1] for key in maps.files if key.startswith("clean/")]
            for depth, layer in enumerate(layers):
                stack = np.stack(
                    [maps[f"{condition_key(*c)}/{layer}"] for c in (("clean", 0.0), *levels)]
                )
                clean, *attacked = gradcam.resize(stack, study.image_size)
                values = metrics.nissim(np.broadcast_to(clean, np.shape(attacked)), attacked)
                tables.append(
                    pd.DataFrame(levels, columns=["attack", "epsilon"]).assign(
                        photo=photo["photo"],
                        identity=photo["identity"],
                        network=network,
                        depth=depth,
                        layer=layer,
                        nissim=values,
                    )
                )
    return with_white_box_of_source(study, network, pd.concat(tables, ignore_index=True))


Stage = Callable[..., list[Path]]
BY_NETWORK: dict[str, Stage] = {
    "train": train,
    "attack": attack,
    "evaluate": evaluate,
    "explain": explain,
    "score": score,
}
