"""How fast each part of a study is on this machine, each measured in a process of its own."""

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
from gradcam_adv import metrics
from gradcam_adv.attacks import FGSM, SignPerturbations
from gradcam_adv.attacks import perturb as add
from gradcam_adv.data import datasets, photos
from gradcam_adv.explain import GradCAM, resize
from gradcam_adv.explain.explainer import PREDICTED
from gradcam_adv.files import hashes
from gradcam_adv.graph.flat import flatten
from gradcam_adv.graph.predictor import Predictor
from gradcam_adv.models import backbones, classifiers, training
from gradcam_adv.runs.engines import SLICE
from gradcam_adv.study.stages.evaluate import TARGETS

# The side of LFW's photos; VGGFace2's are mostly larger.
PHOTO_SIDE = 250
# Forward passes that each part takes. A backward pass counts as one more, because only activations
# are differentiated. In training weights are, too; there it would count as two.
PASSES = {"forward": 1, "attack": 2, "last": 1, "all": 2}
# Training a head is timed for two numbers of classes; between them its time is interpolated.
CLASSES = (50, 9131)
# In seconds. A shorter matrix product does not reach the peak of a device.
_LONG_ENOUGH = 0.1
_LARGEST_SIDE = 16384


def per_second(call: Callable[[], Any], items: int, runs: int) -> float:
    """Items per second: the median of the runs, after one that does not count."""
    call()
    return items / float(np.median([timing.seconds(call) for _ in range(runs)]))


def of_device(of: str, runs: int) -> dict[str, Any]:
    """The device, and its peak: float32 operations per second of a large matrix product.

    The best run counts, since everything else is given as a share of it.
    """
    import keras

    from benchmarks import processes
    from gradcam_adv import backends

    def product(matrix: Any) -> None:
        # Reading one number waits until the whole product is done, also on a GPU.
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
        "device": ", ".join(backends.gpus()) or processes.processor(),
        "gpu": bool(backends.gpus()),
        "matmul_side": side,
        "peak_flops": flops.FLOPS * side**3 / best,
    }


def of_network(network: str, batch_size: int, runs: int) -> dict[str, Any]:
    """Photos per second of each pass through one network, and the sizes of its results."""
    side = explaining.IMAGE_SIZE
    model = explaining.classifier(network)
    graph = flatten(model)
    last = backbones.find(network).last_activation
    images = _noise(batch_size, side, side, 3)
    classes = np.full((batch_size, len(TARGETS)), PREDICTED, np.int32)
    labels = np.zeros(batch_size, np.int32)
    forward = Predictor(model, batch_size)
    fgsm = FGSM(graph, batch_size=batch_size)
    explain_last = GradCAM(graph, last, batch_size=batch_size)
    explain_all = GradCAM(graph, "all", batch_size=batch_size)
    calls = {
        "forward": lambda: forward(images),
        "attack": lambda: fgsm.signs(images, labels),
        "last": lambda: explain_last.maps_and_logits(images, classes),
        "all": lambda: explain_all.maps_and_logits(images, classes[:, :1]),
    }
    return {
        "multiply_adds": flops.multiply_adds(model),
        "layers": len(graph.layers),
        "features": int(model.get_layer("hidden").kernel.shape[0]),
        "last_side": int(model.get_layer(last).output.shape[1]),
        "positions": sum(int(np.prod(layer.shape[1:3])) for layer in graph.layers),
        **{name: per_second(call, batch_size, runs) for name, call in calls.items()},
    }


def of_processor(of: str, runs: int) -> dict[str, Any]:
    """Photos, or pairs of heatmaps, per second of what NumPy and Pillow do."""
    side = explaining.IMAGE_SIZE
    with tempfile.TemporaryDirectory() as folder:
        paths = write_photos(Path(folder), 1, 2 * SLICE)
        files = pd.DataFrame({"photo": [str(path) for path in paths]})

        def data() -> None:
            for path in paths:
                hashes.sha256(path)
            datasets.check_photos(Path(folder), files)

        found = {
            "data": per_second(data, len(paths), runs),
            "read": per_second(lambda: photos.decode_all(paths, side), len(paths), runs),
        }
    clean, signs = _noise(SLICE, side, side, 3), np.ones((SLICE, side, side, 3), np.int8)
    small, large = _noise(SLICE, 14, 14), _noise(SLICE, side, side)

    def perturb() -> None:
        metrics.psnr(clean, add(clean, SignPerturbations(signs, [0.05])[0.05]))

    def score() -> None:
        resized = resize(small, side)
        metrics.nissim(large, resized)
        metrics.region_shift(large, resized)

    other = large[::-1].copy()
    return found | {
        "perturb": per_second(perturb, SLICE, runs),
        "nissim": per_second(lambda: metrics.nissim(large, other), SLICE, runs),
        "score": per_second(score, SLICE, runs),
    }


def of_training(of: str, runs: int) -> dict[str, Any]:
    """Seconds per photo and epoch of training a head on 2,048 features, by the number of classes.

    The difference between a long and a short training, so compiling does not count.
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
    """Coloured noise as JPEG files of PHOTO_SIDE, one folder per person."""
    random = np.random.default_rng(0)
    paths = []
    for person in range(people):
        place = folder / f"n{person:06d}"
        place.mkdir(parents=True)
        for number in range(each):
            # White noise would take several times as long to decode as a photo.
            coarse = Image.fromarray(random.integers(0, 256, (25, 25, 3), np.uint8))
            paths.append(place / f"{number:04d}_01.jpg")
            coarse.resize((PHOTO_SIDE, PHOTO_SIDE)).save(paths[-1], quality=90)
    return paths


def _noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape, np.float32)
