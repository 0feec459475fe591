"""What changes a result: ``python -m benchmarks.determinism`` prints the table of its page.

The page is docs/determinism.md. Every run has a process of its own, since the number of threads and
the instruction set are fixed at the start.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

from gradcam_adv.attacks import FGSM, SignPerturbations, perturb
from gradcam_adv.data import photos, sources
from gradcam_adv.explain import GradCAM, resize
from gradcam_adv.graph.flat import flatten
from gradcam_adv.graph.predictor import Predictor
from gradcam_adv.metrics import nissim
from gradcam_adv.models import backbones, bases, classifiers, training, weights

if TYPE_CHECKING:
    import keras

IMAGE_SIZE = 144
EXPLAINED = 16
EPSILON = 0.05
NETWORKS = ("vgg16", "resnet50", "xception")


class Setup(NamedTuple):
    """What a run depends on, besides the model."""

    threads: int = 2
    batch_size: int = 8
    precision: str = "float32"
    environment: Mapping[str, str] = MappingProxyType({})


REFERENCE = Setup()
CHANGES = {
    "nothing": REFERENCE,
    "1 thread instead of 2": Setup(threads=1),
    "batches of 4 instead of 8": Setup(batch_size=4),
    "batches of 1 instead of 8": Setup(batch_size=1),
    "AVX2 instead of this processor's instructions": Setup(
        environment={"ONEDNN_MAX_CPU_ISA": "AVX2"}
    ),
    "SSE4.1 instead of these": Setup(environment={"ONEDNN_MAX_CPU_ISA": "SSE41"}),
    "oneDNN's kernels off": Setup(environment={"TF_ENABLE_ONEDNN_OPTS": "0"}),
    "Keras on PyTorch": Setup(environment={"KERAS_BACKEND": "torch"}),
    "Keras on JAX": Setup(environment={"KERAS_BACKEND": "jax"}),
    "mixed_bfloat16": Setup(precision="mixed_bfloat16"),
    "mixed_float16": Setup(precision="mixed_float16"),
}

Results = dict[str, np.ndarray]


def main() -> None:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for network in tqdm(NETWORKS, "determinism", unit="network", disable=None):
            model = Path(folder, f"{network}.keras")
            reference = in_a_process(network, model, REFERENCE)
            for change, setup in CHANGES.items():
                if not find_spec(setup.environment.get("KERAS_BACKEND", "keras")):
                    continue  # PyTorch and JAX are optional
                results = in_a_process(network, model, setup)
                row = {"network": backbones.find(network).title, "change": change}
                rows.append(row | differences(reference, results))
    print(pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True))


def in_a_process(network: str, model: Path, setup: Setup) -> Results:
    *settings, environment = setup
    output = model.with_suffix(".npz")
    arguments = map(str, (network, model, *settings, output))
    command = [sys.executable, "-m", "benchmarks.determinism", *arguments]
    subprocess.run(command, env=os.environ | environment, stderr=subprocess.DEVNULL, check=True)
    with np.load(output) as results:
        return dict(results)


def differences(reference: Results, other: Results) -> dict[str, str]:
    """How far the results of two runs differ; docs/determinism.md explains the columns."""
    layers = [name for name in reference if name.startswith("map ")]
    maps = np.array([np.abs(reference[name] - other[name]).max() for name in layers])
    mod, other_mod = (run["nissim"].mean() for run in (reference, other))
    accuracy, other_accuracy = (run["head right"].mean() for run in (reference, other))
    return {
        "logits, share of the largest": _relative(reference["logits"], other["logits"]),
        "FGSM signs that differ": f"{100 * (reference['signs'] != other['signs']).mean():.3g} %",
        "heatmaps, median layer": _short(np.median(maps)),
        "heatmaps, worst layer": _short(maps.max()),
        "NISSIM, worst photo": _short(np.abs(reference["nissim"] - other["nissim"]).max()),
        "MOD, difference": f"{mod:.4f}, {_short(other_mod - mod)}",
        "new head: logits": _relative(reference["head"], other["head"]),
        "new head: accuracy, difference": f"{accuracy:.3f}, {_short(other_accuracy - accuracy)}",
    }


def _relative(reference: np.ndarray, other: np.ndarray) -> str:
    return _short(np.abs(reference - other).max() / np.abs(reference).max())


def _short(difference: float) -> str:
    return f"{difference:.1e}" if difference else "0"


def measure(network: str, path: Path, batch_size: int, precision: str) -> Results:
    """Attack and explain photos with the classifier in ``path``; then train a new head."""
    pixels, labels = orl()
    train, validation, test = (
        np.flatnonzero(np.isin(np.arange(len(labels)) % 10, places))
        for places in (range(8), [8], [9])
    )
    if not path.exists():
        classifiers.save_model(classifier(network, pixels[train]), path, {})
    model = classifiers.in_precision(classifiers.load_model(path), precision)
    graph = flatten(model)
    images, classes = pixels[test][:EXPLAINED], labels[test][:EXPLAINED]
    signs = FGSM(graph, batch_size=batch_size).signs(images, classes)
    explain = GradCAM(graph, "all", batch_size=batch_size).maps_and_logits
    clean, logits = explain(images, classes[:, None])
    # Photos perturbed by this run's own signs, as in a study.
    added = SignPerturbations(signs, [EPSILON])[EPSILON]
    attacked, _ = explain(perturb(images, added), classes[:, None])
    last = backbones.find(network).last_activation
    sizes = [resize(maps[last][:, 0], IMAGE_SIZE) for maps in (clean, attacked)]

    base = model.get_layer("pooling").output
    features = Predictor(type(model)(model.inputs, base), batch_size)(pixels)
    head = classifiers.dense_head(features.shape[1], len(set(labels)), seed=0)
    training.train_head(head, [features], labels, train, validation, epochs=60, seed=0)
    answers = Predictor(head, batch_size)(features[test])
    return {
        "logits": logits,
        "signs": signs,
        "nissim": nissim(*sizes),
        "head": answers,
        "head right": answers.argmax(axis=1) == labels[test],
    } | {f"map {name}": maps for name, maps in clean.items()}


def orl() -> tuple[np.ndarray, np.ndarray]:
    """The 400 photos of ORL, ten per person, and the number of the person on each."""
    listing = sources.list_photos("orl", classes=None, min_photos=10, seed=0)
    pixels = photos.decode_all(
        [listing.root / photo for photo in listing.files["photo"]], IMAGE_SIZE
    )
    return pixels, listing.files["identity"].astype("category").cat.codes.to_numpy()


def classifier(network: str, pixels: np.ndarray) -> keras.Model:
    """A random base, with the batch-norm statistics of these photos, and an untrained head."""
    base = bases.build(network, IMAGE_SIZE, weights.Weights("random"))
    shuffled = np.random.default_rng(0).permutation(pixels)
    bases.calibrate_batch_norm(base, (shuffled[i : i + 64] for i in range(0, 320, 64)))
    extractor = classifiers.features(base)
    return classifiers.assemble(
        extractor, classifiers.dense_head(extractor.output_shape[-1], 40, 0)
    )


def _in_this_process(
    network: str, model: str, threads: str, batch_size: str, precision: str, output: str
) -> None:
    from gradcam_adv import backends

    backends.configure(int(threads))
    np.savez(output, **measure(network, Path(model), int(batch_size), precision))


if __name__ == "__main__":
    _in_this_process(*sys.argv[1:]) if sys.argv[1:] else main()
