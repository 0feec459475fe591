"""How fast each piece of a study is on the device at hand: what is timed, in a process a piece."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from benchmarks import explaining, flops, timing
from gradcam_adv.attacks import fgsm
from gradcam_adv.data import datasets, photos
from gradcam_adv.explain import gradcam
from gradcam_adv.files import artifacts
from gradcam_adv.graph import network as networks
from gradcam_adv.metrics import nissim as metrics
from gradcam_adv.metrics import regions
from gradcam_adv.models import backbones, classifiers, training
from gradcam_adv.study.setting import SLICE, TARGETS

# The side of VGGFace2's photos is mostly larger, that of LFW's is this.
PHOTO_SIDE = 250
# Forward passes that each piece takes. A backward pass costs as much as a forward one, for only
# activations are differentiated; a training, which differentiates weights as well, would take 3.
PASSES = {"forward": 1, "attack": 2, "last": 1, "all": 2}
# Training a head is timed for two numbers of classes, between which it is a straight line.
CLASSES = (50, 9131)
# A matrix product that takes less is too short to be a device's best.
_LONG_ENOUGH = 0.1
_LARGEST_SIDE = 16384


def per_second(call: Callable[[], Any], items: int, runs: int) -> float:
    """Items a second: the median of so many runs, after one that does not count."""
    call()
    return items / float(np.median([timing.seconds(call) for _ in range(runs)]))


def of_device(of: str, runs: int) -> dict[str, Any]:
    """What the device is, and the most float32 operations a second of a large matrix product.

    The best of the runs counts, not their median: it is what everything else is a share of.
    """
    import keras

    from benchmarks import processes
    from gradcam_adv import backends as gradients

    def product(matrix: Any) -> None:
        # Reading one number waits for all of it, on a GPU, too.
        keras.ops.convert_to_numpy(keras.ops.matmul(matrix, matrix)[0, 0])

    side = 1024
    while True:
        matrix = keras.ops.convert_to_tensor(_noise(side, side))
        product(matrix)
        best = min(timing.seconds(functools.partial(product, matrix)) for _ in range(runs))
        if best >= _LONG_ENOUGH or side >= _LARGEST_SIDE:
            break
        side *= 2
    return {
        "device": ", ".join(gradients.gpus()) or processes.processor(),
        "gpu": bool(gradients.gpus()),
        "matmul_side": side,
        "peak_flops": flops.FLOPS * side**3 / best,
    }


def of_network(network: str, batch_size: int, runs: int) -> dict[str, Any]:
    """Photos a second of all that is done with one network, and what its results are sized by."""
    from gradcam_adv.backends import PREDICTED

    side = explaining.IMAGE_SIZE
    model = explaining.classifier(network)
    flat = networks.flatten(model)
    last = backbones.find(network).last_activation
    images = _noise(batch_size, side, side, 3)
    classes = np.full((batch_size, len(TARGETS)), PREDICTED, np.int32)
    forward = gradcam.Predictor(model, batch_size)
    sign = fgsm.compiled_sign(flat, batch_size)
    explain_last = gradcam.Explainer(flat, last, batch_size, len(TARGETS))
    explain_all = gradcam.Explainer(flat, "all", batch_size)
    calls = {
        "forward": lambda: forward(images),
        "attack": lambda: sign(images, classes[:, 0] * 0),
        "last": lambda: explain_last(images, classes),
        "all": lambda: explain_all(images, classes[:, :1]),
    }
    return {
        "multiply_adds": flops.multiply_adds(model),
        "layers": len(flat.places),
        "features": int(model.get_layer("hidden").kernel.shape[0]),
        "last_side": int(model.get_layer(last).output.shape[1]),
        "positions": sum(int(np.prod(place.shape[1:3])) for place in flat.places),
        **{name: per_second(call, batch_size, runs) for name, call in calls.items()},
    }


def of_processor(of: str, runs: int) -> dict[str, Any]:
    """Photos, or pairs of heatmaps, a second of what NumPy and Pillow do."""
    side = explaining.IMAGE_SIZE
    with tempfile.TemporaryDirectory() as folder:
        paths = write_photos(Path(folder), 1, 2 * SLICE)
        files = pd.DataFrame({"photo": [str(path) for path in paths]})

        def data() -> None:
            for path in paths:
                artifacts.sha256(path)
            datasets.check_photos(Path(folder), files)

        found = {
            "data": per_second(data, len(paths), runs),
            "read": per_second(lambda: photos.decode_all(paths, side), len(paths), runs),
        }
    clean, signs = _noise(SLICE, side, side, 3), np.ones((SLICE, side, side, 3), np.int8)
    small, large = _noise(SLICE, 14, 14), _noise(SLICE, side, side)

    def perturb() -> None:
        metrics.psnr(clean, fgsm.perturb(clean, signs, 0.05))

    def score() -> None:
        resized = gradcam.resize(small, side)
        metrics.nissim(large, resized)
        regions.shift(large, resized)

    other = large[::-1].copy()
    return found | {
        "perturb": per_second(perturb, SLICE, runs),
        "nissim": per_second(lambda: metrics.nissim(large, other), SLICE, runs),
        "score": per_second(score, SLICE, runs),
    }


def of_training(of: str, runs: int) -> dict[str, Any]:
    """Seconds a photo and epoch of training a head on 2,048 features, by the number of classes.

    The difference of a long and a short training: compiling, which both have, falls out of it.
    """
    count, short, long = 256, 1, 4
    features = _noise(count, 2048)
    chosen = np.split(np.arange(count), [count * 8 // 9])
    found = {}
    for classes in CLASSES:
        labels = np.random.default_rng(0).integers(0, classes, count)

        def train(epochs: int, classes: int = classes, labels: np.ndarray = labels) -> None:
            head = classifiers.dense_head(2048, classes, seed=0)
            training.train_head(head, [features], labels, *chosen, epochs=epochs, seed=0)

        train(short)
        longer, shorter = functools.partial(train, long), functools.partial(train, short)
        by_run = [timing.seconds(longer) - timing.seconds(shorter) for _ in range(runs)]
        found[str(classes)] = float(np.median(by_run)) / (long - short) / len(chosen[0])
    return {"train": found}


def write_photos(folder: Path, people: int, each: int) -> list[Path]:
    """Coloured noise as JPEG files of PHOTO_SIDE, a folder a person."""
    random = np.random.default_rng(0)
    paths = []
    for person in range(people):
        own = folder / f"n{person:06d}"
        own.mkdir(parents=True)
        for number in range(each):
            # Coarse, as photos are: white noise takes several times as long to decode.
            coarse = Image.fromarray(random.integers(0, 256, (25, 25, 3), np.uint8))
            paths.append(own / f"{number:04d}_01.jpg")
            coarse.resize((PHOTO_SIDE, PHOTO_SIDE)).save(paths[-1], quality=90)
    return paths


def _noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape, np.float32)
