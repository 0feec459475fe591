"""The stages train to evaluate: a slice of photos in, whole files out, nothing else touched."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from tqdm import tqdm

from gradcam_adv import batching as batches
from gradcam_adv.attacks import fgsm
from gradcam_adv.data import datasets
from gradcam_adv.explain import gradcam
from gradcam_adv.files import artifacts
from gradcam_adv.graph import network as networks
from gradcam_adv.metrics import nissim as metrics
from gradcam_adv.models import backbones, classifiers
from gradcam_adv.runs import checkpoints
from gradcam_adv.runs.engines import LOCAL, Engine, Sliced, Write
from gradcam_adv.study import tables
from gradcam_adv.study.setting import (
    TARGETS,
    Setting,
    condition_key,
    levels_of,
    predictions,
    signs_of,
    under,
    versions,
    with_white_box_of_source,
)

if TYPE_CHECKING:
    import keras

# Statistics of smaller batches leave the features of deep random networks near useless.
CALIBRATION_BATCH = 64
BATCH_NORM = "batch-norm.npz"
CHECKPOINT = "checkpoint.npz"


def features(setting: Setting, folder: Path, network: str, engine: Engine = LOCAL) -> list[Path]:
    """What the frozen base makes of every photo, and the statistics of a random one's layers."""
    files = []
    if setting.weights[network].origin == "random":
        files.append(folder / BATCH_NORM)
        if not artifacts.is_whole(files[0]):
            base = _base(setting, network)
            _calibrate(setting, base, network, checkpoints.Checkpoint(folder / CHECKPOINT))
            artifacts.write_arrays(files[0], backbones.batch_norm_statistics(base))
            del base
            networks.forget()  # or those of the next one get other names
        (folder / CHECKPOINT).unlink(missing_ok=True)
    sliced = Sliced(
        f"features {network}, {setting.arm}",
        setting.table,
        lambda name, _: [folder / f"features-{name}.npy"],
        partial(_begin_features, setting, folder, network),
        read=setting.pixels,
    )
    return files + engine.run(sliced)


def _begin_features(setting: Setting, folder: Path, network: str) -> Write:
    study = setting.study
    base = _base(setting, network)
    if setting.weights[network].origin == "random":
        _set_statistics(base, folder / BATCH_NORM)
    extractor = classifiers.features(base, study.readings.pooling)
    features_of = gradcam.Predictor(extractor, setting.batch_size, "features")

    def write(name: str, rows: pd.DataFrame, pixels: np.ndarray) -> None:
        with batches.naming(rows["photo"].tolist(), network):
            found = features_of(pixels)
        artifacts.write_array(folder / f"features-{name}.npy", found)

    return write


def _base(setting: Setting, network: str) -> keras.Model:
    return backbones.build(
        network,
        setting.study.image_size,
        setting.weights[network],
        preprocessing=setting.study.readings.preprocessing,
        seed=setting.study.seed,
    )


def _set_statistics(base: keras.Model, path: Path) -> None:
    with artifacts.read_arrays(path) as statistics:
        backbones.set_batch_norm_statistics(base, statistics)


def train(setting: Setting, folder: Path, network: str) -> list[Path]:
    """A head on the base's features, and the whole classifier."""
    from gradcam_adv.models import training

    study = setting.study
    weights = setting.weights[network]
    cached = setting.folders[f"features/{network}"]
    paths = sorted(cached.glob("features-*.npy"))
    features = [artifacts.read_array(path, mmap=True) for path in paths]

    table = setting.table
    # Slices of the table, all but the last of one length.
    photos = [table["photo"].iloc[i * len(features[0]) :].tolist() for i in range(len(features))]
    for part, names in zip(features, photos, strict=True):
        with batches.naming(names, network):
            batches.check_finite(part, "features")
    labels = table["label"].to_numpy()
    split = {name: np.flatnonzero(table["split"] == name) for name in datasets.SPLITS}
    seed = study.seeds[0]
    head = classifiers.dense_head(features[0].shape[1], len(setting.identities), seed)
    history = training.train_head(
        head,
        features,
        labels,
        split["train"],
        split["validation"],
        epochs=study.epochs,
        seed=seed,
        checkpoint=checkpoints.Checkpoint(folder / CHECKPOINT),
        progress=True,
    )
    _check_losses(history, network)
    artifacts.write_table(folder / "history.csv", history)

    base = _base(setting, network)
    if weights.origin == "random":
        _set_statistics(base, cached / BATCH_NORM)
    model = classifiers.assemble(classifiers.features(base, study.readings.pooling), head)
    parts = []
    logits_of = gradcam.Predictor(head, setting.batch_size)
    for part, names in zip(features, photos, strict=True):
        with batches.naming(names, f"the head of {network}"):
            parts.append(logits_of(part))
    _check_same_logits(setting, network, model, parts[0])
    right = np.concatenate(parts).argmax(axis=1) == labels
    path = setting.models / f"{network}.keras"
    facts = {
        "network": network,
        "arm": setting.arm,
        "classes": setting.identities,
        "image_size": study.image_size,
        "weights": {
            "origin": weights.origin,
            "file": weights.path.name if weights.path else None,
            "sha256": weights.sha256,
            "note": weights.note,
        },
        "study": study.name,
        "seed": seed,
        "fingerprint": setting.fingerprints[f"train/{network}"],
        "versions": versions(),
        "accuracy": {
            name: {"right": int(right[rows].sum()), "photos": len(rows)}
            for name, rows in split.items()
        },
    }
    classifiers.save(model, path, facts)
    # Not before: until here an interruption would have the head trained anew.
    (folder / CHECKPOINT).unlink(missing_ok=True)
    return [folder / "history.csv", path, path.with_suffix(".json")]


def _calibrate(
    setting: Setting, base: keras.Model, network: str, checkpoint: checkpoints.Checkpoint
) -> None:
    rows = setting.table[setting.table["split"] == "train"].reset_index(drop=True)
    shuffled = rows.iloc[np.random.default_rng(setting.study.seed).permutation(len(rows))]
    # A last, smaller batch is left out: it would weigh as much as the whole ones.
    whole = max(len(rows) - len(rows) % CALIBRATION_BATCH, 1)
    starts = range(0, whole, CALIBRATION_BATCH)

    def state(done: int) -> dict[str, np.ndarray]:
        return {"batches": np.array(done), **backbones.batch_norm_statistics(base)}

    arrays = checkpoint.read(state(0).keys())
    done = int(arrays.pop("batches")) if arrays else 0
    if done:
        backbones.set_batch_norm_statistics(base, arrays)
    bar = tqdm(
        starts[done:],
        f"batch norm {network}",
        total=len(starts),
        initial=done,
        unit="batch",
        disable=None,
    )
    photos = (setting.pixels(shuffled.iloc[start : start + CALIBRATION_BATCH]) for start in bar)
    try:
        backbones.calibrate_batch_norm(
            base,
            photos,
            done=done,
            after_batch=lambda seen: checkpoint.write(lambda: state(seen)),
        )
    except Exception as error:
        if not batches.out_of_memory(error):
            raise
        size = setting.study.image_size
        raise MemoryError(
            f"Expected enough memory for the statistics of {network} over {CALIBRATION_BATCH} "
            "photos at a time, which those of fewer would not be. Received: out of memory with "
            f"image_size = {size}; lower it, or give weights"
        ) from error


def _check_losses(history: pd.DataFrame, network: str) -> None:
    """ValueError naming the first epoch whose loss is NaN or infinite."""
    finite = np.isfinite(history[["loss", "val_loss"]].to_numpy()).all(axis=1)
    if not finite.all():
        row = history.iloc[int(np.argmin(finite))]
        raise ValueError(
            f"Expected finite losses of the head of {network}. Received: loss {row['loss']:g}, "
            f"val_loss {row['val_loss']:g} in epoch {row['epoch']:g}"
        )


def _check_same_logits(
    setting: Setting, network: str, model: keras.Model, head_logits: np.ndarray
) -> None:
    rows = setting.table.iloc[: len(head_logits)]
    with batches.naming(rows["photo"].tolist(), network):
        logits = gradcam.Predictor(model, setting.batch_size)(setting.pixels(rows))
    scale = max(1.0, float(np.abs(head_logits).max()))
    difference = float(np.abs(logits - head_logits).max()) / scale
    if not difference <= 1e-4:  # NaN is no small difference
        raise ValueError(
            f"Expected the assembled {network} to give the head's logits within 1e-4 of their "
            f"scale. Received: a difference of {difference:.1e}"
        )


def attack(setting: Setting, folder: Path, network: str, engine: Engine = LOCAL) -> list[Path]:
    sliced = Sliced(
        f"attack {network}, {setting.arm}",
        setting.test,
        lambda name, _: [folder / f"{name}.npy"],
        partial(_begin_attack, setting, folder, network),
        read=setting.pixels,
    )
    return engine.run(sliced)


def _begin_attack(setting: Setting, folder: Path, network: str) -> Write:
    study = setting.study
    model = setting.model(network)
    make_sign = fgsm.compiled_sign(networks.flatten(model), setting.batch_size)
    logits_of = gradcam.Predictor(model, setting.batch_size)

    def write(name: str, rows: pd.DataFrame, pixels: np.ndarray) -> None:
        labels = rows["label"].to_numpy()
        with batches.naming(rows["photo"].tolist(), network):
            if study.readings.attacked_label == "predicted":
                labels = logits_of(pixels).argmax(axis=1)
            signs = make_sign(pixels, labels)
        artifacts.write_array(folder / f"{name}.npy", signs)

    return write


def evaluate(setting: Setting, folder: Path, network: str, engine: Engine = LOCAL) -> list[Path]:
    """What ``network`` predicts under every condition, and the last heatmap of that same pass."""
    sliced = Sliced(
        f"evaluate {network}, {setting.arm}",
        setting.test,
        lambda name, _: [folder / f"last-{name}.npz", folder / f"{name}.csv"],
        partial(_begin_evaluate, setting, folder, network),
        read=setting.pixels,
    )
    return engine.run(sliced)


def _begin_evaluate(setting: Setting, folder: Path, network: str) -> Write:
    model = setting.model(network)
    last = backbones.BACKBONES[network].last_activation
    explain_last = gradcam.Explainer(
        networks.flatten(model), last, setting.batch_size, len(TARGETS)
    )

    def write(name: str, rows: pd.DataFrame, pixels: np.ndarray) -> None:
        table, maps = _evaluate_slice(setting, explain_last, network, name, rows, pixels)
        artifacts.write_arrays(folder / f"last-{name}.npz", maps)
        artifacts.write_table(folder / f"{name}.csv", table)

    return write


def _evaluate_slice(
    setting: Setting,
    explain_last: gradcam.Explainer,
    network: str,
    name: str,
    rows: pd.DataFrame,
    exact: np.ndarray,
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    from gradcam_adv.backends import PREDICTED

    (last,) = explain_last.layers
    clean = setting.read_again(exact)
    labels = rows["label"].to_numpy()
    maps = {}

    def answer(images: np.ndarray, condition: str, *classes: np.ndarray | int) -> np.ndarray:
        wanted = np.stack(np.broadcast_arrays(*classes), axis=1)
        with batches.naming(under(condition, rows), network):
            by_layer, logits = explain_last(images, wanted)
        maps[condition] = by_layer[last]
        return logits.argmax(axis=1)

    # On the clean photos the prediction and the clean photo's prediction are the same class.
    predicted_clean = answer(clean, "clean", PREDICTED, PREDICTED, labels)
    parts = []
    for attack, epsilons in levels_of(setting.study, network).items():
        signs = signs_of(setting, attack, network, name, rows)
        for epsilon in epsilons:
            images, predicted = clean, predicted_clean
            if epsilon:
                images = setting.perturb(network, exact, signs, epsilon)
                key = condition_key(attack, epsilon)
                predicted = answer(images, key, PREDICTED, predicted_clean, labels)
            parts.append(
                rows[["photo", "identity", "label"]].assign(
                    network=network,
                    attack=attack,
                    epsilon=epsilon,
                    predicted_clean=predicted_clean,
                    predicted=predicted,
                    psnr=metrics.psnr(clean, images),
                    zero_gradient=(signs == 0).mean(axis=(1, 2, 3)),
                )
            )
    table = with_white_box_of_source(setting.study, network, pd.concat(parts, ignore_index=True))
    return table, maps


def summarize(setting: Setting, folder: Path) -> list[Path]:
    """Accuracy, PSNR and what share of gradients is zero, over all networks."""
    predicted = pd.concat(
        [predictions(setting, network) for network in setting.study.networks],
        ignore_index=True,
    )
    return artifacts.write_tables(
        folder,
        predictions=predicted,
        accuracy=tables.accuracy(predicted),
        psnr=tables.psnr(predicted),
        zero_gradients=tables.zero_gradients(predicted),
    )
