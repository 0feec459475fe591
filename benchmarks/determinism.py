"""What changes a number: ``python -m benchmarks.determinism`` prints docs/determinism.md's table.

Every run is a process of its own: threads and instruction sets are chosen when a backend starts.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from tqdm import tqdm

from gradcam_adv.attacks import fgsm
from gradcam_adv.data import photos, sources
from gradcam_adv.explain import gradcam
from gradcam_adv.graph import network as networks
from gradcam_adv.metrics import nissim as metrics
from gradcam_adv.models import backbones, classifiers, training, weights

if TYPE_CHECKING:
    import keras

IMAGE_SIZE = 144
EXPLAINED = 16
EPSILON = 0.05
NETWORKS = ("vgg16", "resnet50", "xception")
# What a run differs by from the first one: threads, batch, precision, and what the kernels are.
REFERENCE = (2, 8, "float32", {})
OTHERS: dict[str, tuple[int, int, str, dict[str, str]]] = {
    "the same once more": REFERENCE,
    "1 thread for 2": (1, 8, "float32", {}),
    "batches of 4 for 8": (2, 4, "float32", {}),
    "batches of 1 for 8": (2, 1, "float32", {}),
    "AVX2 for this processor's own instructions": (2, 8, "float32", {"ONEDNN_MAX_CPU_ISA": "AVX2"}),
    "SSE4.1 for them": (2, 8, "float32", {"ONEDNN_MAX_CPU_ISA": "SSE41"}),
    "oneDNN's kernels off": (2, 8, "float32", {"TF_ENABLE_ONEDNN_OPTS": "0"}),
    "Keras on PyTorch": (2, 8, "float32", {"KERAS_BACKEND": "torch"}),
    "Keras on JAX": (2, 8, "float32", {"KERAS_BACKEND": "jax"}),
    "mixed_bfloat16": (2, 8, "mixed_bfloat16", {}),
    "mixed_float16": (2, 8, "mixed_float16", {}),
}

Results = dict[str, np.ndarray]


def main() -> None:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for network in tqdm(NETWORKS, "determinism", unit="network", disable=None):
            model = Path(folder, f"{network}.keras")
            reference = in_a_process(network, model, *REFERENCE)
            for what, other in OTHERS.items():
                results = in_a_process(network, model, *other)
                title = backbones.find(network).title
                rows.append({"network": title, "what": what} | differences(reference, results))
    print(pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True))


def in_a_process(
    network: str,
    model: Path,
    threads: int,
    batch_size: int,
    precision: str,
    environment: dict[str, str],
) -> Results:
    output = model.with_suffix(".npz")
    arguments = [network, str(model), str(threads), str(batch_size), precision, str(output)]
    command = [sys.executable, "-m", "benchmarks.determinism", *arguments]
    subprocess.run(command, env=os.environ | environment, stderr=subprocess.DEVNULL, check=True)
    with np.load(output) as results:
        return dict(results)


def differences(reference: Results, other: Results) -> dict[str, str]:
    """How far two runs' results are apart, each as a share of its own scale."""
    layers = [name for name in reference if name.startswith("map ")]
    maps = np.array([np.abs(reference[name] - other[name]).max() for name in layers])
    mod, other_mod = (run["nissim"].mean() for run in (reference, other))
    accuracy, other_accuracy = (run["head right"].mean() for run in (reference, other))
    return {
        "logits, share of the largest": _relative(reference["logits"], other["logits"]),
        "FGSM signs that differ": f"{100 * (reference['signs'] != other['signs']).mean():.3g} %",
        "heatmaps in [0, 1], median layer": _short(np.median(maps)),
        "worst layer": _short(maps.max()),
        "NISSIM, worst photo": _short(np.abs(reference["nissim"] - other["nissim"]).max()),
        "MOD, off by": f"{mod:.4f}, {_short(other_mod - mod)}",
        "logits of a head trained anew": _relative(reference["head"], other["head"]),
        "its accuracy, off by": f"{accuracy:.3f}, {_short(other_accuracy - accuracy)}",
    }


def _relative(reference: np.ndarray, other: np.ndarray) -> str:
    return _short(np.abs(reference - other).max() / np.abs(reference).max())


def _short(difference: float) -> str:
    return f"{difference:.1e}" if difference else "0"


def measure(network: str, path: Path, batch_size: int, precision: str) -> Results:
    """Attack and explain photos with the classifier in ``path``, then train its head anew."""
    pixels, labels = orl()
    train, validation, test = (
        np.flatnonzero(np.isin(np.arange(len(labels)) % 10, places))
        for places in (range(8), [8], [9])
    )
    if not path.exists():
        classifiers.save(classifier(network, pixels[train]), path, {})
    model = classifiers.in_precision(classifiers.load(path), precision)
    flat = networks.flatten(model)
    images, classes = pixels[test][:EXPLAINED], labels[test][:EXPLAINED]
    signs = fgsm.sign(model, images, classes, batch_size=batch_size)
    explain = gradcam.Explainer(flat, "all", batch_size)
    clean, logits = explain(images, classes[:, None])
    # Photos perturbed by this run's own signs, as in a study.
    attacked, _ = explain(fgsm.perturb(images, signs, EPSILON), classes[:, None])
    last = backbones.find(network).last_activation
    sizes = [gradcam.resize(maps[last][:, 0], IMAGE_SIZE) for maps in (clean, attacked)]

    base = model.get_layer("pooling").output
    features = gradcam.Predictor(type(model)(model.inputs, base), batch_size)(pixels)
    head = classifiers.dense_head(features.shape[1], len(set(labels)), seed=0)
    training.train_head(head, [features], labels, train, validation, epochs=60, seed=0)
    answers = gradcam.Predictor(head, batch_size)(features[test])
    return {
        "logits": logits,
        "signs": signs,
        "nissim": metrics.nissim(*sizes),
        "head": answers,
        "head right": answers.argmax(axis=1) == labels[test],
    } | {f"map {name}": maps for name, maps in clean.items()}


def orl() -> tuple[np.ndarray, np.ndarray]:
    """All 400 photos, ten of each person in turn, and who is on them."""
    listing = sources.list_photos("orl", classes=None, min_photos=10, seed=0)
    pixels = photos.decode_all(
        [listing.root / photo for photo in listing.files["photo"]], IMAGE_SIZE
    )
    return pixels, listing.files["identity"].astype("category").cat.codes.to_numpy()


def classifier(network: str, pixels: np.ndarray) -> keras.Model:
    """A random base with the photos' batch-norm statistics and an untrained head."""
    base = backbones.build(network, IMAGE_SIZE, weights.Weights("random"))
    shuffled = np.random.default_rng(0).permutation(pixels)
    backbones.calibrate_batch_norm(base, (shuffled[i : i + 64] for i in range(0, 320, 64)))
    extractor = classifiers.features(base)
    return classifiers.assemble(
        extractor, classifiers.dense_head(extractor.output_shape[-1], 40, 0)
    )


def _in_this_process(
    network: str, model: str, threads: str, batch_size: str, precision: str, output: str
) -> None:
    from gradcam_adv import backends as gradients

    gradients.configure(int(threads))
    np.savez(output, **measure(network, Path(model), int(batch_size), precision))


if __name__ == "__main__":
    _in_this_process(*sys.argv[1:]) if sys.argv[1:] else main()
