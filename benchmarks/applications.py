"""Every classifier of keras.applications beside Grad-CAM in plain TensorFlow; prints a table.

``python -m benchmarks.applications`` makes the table in docs/applications.md. Weights are random,
images are noise of 64 pixels, or more where the network needs more. Names after it choose networks.
``--commands`` also runs ``layers``, ``explain`` and ``score`` on each as a saved file.
"""

from __future__ import annotations

import argparse
import contextlib
import inspect
import io
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from gradcam_adv import GradCAM, flatten
from gradcam_adv.app import cli
from gradcam_adv.graph.layers import find

# At 64 pixels the last maps of others are 2 x 2; these need more for that, or do not take it.
SIDES = {
    **{"InceptionV3": 128, "InceptionResNetV2": 128, "Xception": 71},
    **{"NASNetMobile": 224, "NASNetLarge": 331},
}


def classifiers() -> Iterator[str]:
    """Their names in keras.applications."""
    for name, make in inspect.getmembers(keras.applications, inspect.isfunction):
        if "classifier_activation" in inspect.signature(make).parameters:
            yield name


def plain(model: keras.Model, images: np.ndarray) -> list[np.ndarray]:
    """Grad-CAM of the highest logit in plain TensorFlow; by place, (N, h, w).

    ``model`` gives the places and the logits. It is compiled, as our own is: in random weights of
    EfficientNetV2L gradients grow to 1e21, and there the same model, compiled or not, gives other
    logits.
    """

    @tf.function
    def differentiated(given: tf.Tensor) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        with tf.GradientTape() as tape:
            *activations, logits = model(given, training=False)
            scores = tf.reduce_max(logits, axis=1)
        return activations, tape.gradient(scores, activations)

    found = []
    for values, slopes in zip(*differentiated(tf.constant(images)), strict=True):
        alpha = tf.reduce_mean(slopes, axis=(1, 2), keepdims=True)
        maps = tf.nn.relu(tf.reduce_sum(alpha * values, axis=-1)).numpy()
        highest = maps.max(axis=(1, 2), keepdims=True)
        found.append(maps / np.where(highest > 0, highest, 1))
    return found


def measure(name: str) -> tuple[list[str], float]:
    """Of one network: the cells of its line, and how far the maps of both are apart."""
    side = SIDES.get(name, 64)
    make = getattr(keras.applications, name)
    keras.utils.clear_session()  # or names of layers would go on counting
    keras.utils.set_random_seed(0)
    model = make(weights=None, input_shape=(side, side, 3), classes=10)
    images = np.random.default_rng(0).random((2, side, side, 3), np.float32)
    graph = flatten(model)
    maps = GradCAM(graph, ["last", "blocks"], batch_size=2)(images)
    last = next(iter(maps))
    places = {call.path: call.output for call in graph.layers}
    model.layers[-1].activation = keras.activations.linear  # so that it gives logits
    outputs = [*(places[layer] for layer in maps), graph.output]
    expected = plain(keras.Model(graph.input, outputs), images)
    pairs = zip(maps.values(), expected, strict=True)
    apart = max(np.abs(ours - theirs).max() for ours, theirs in pairs)
    pixels = graph.pixels.range + ("" if graph.pixels.known else ", assumed")
    size = " x ".join(map(str, places[last].shape[1:3]))
    counts = [str(len(found)) for found in (find(graph, "blocks"), graph.layers)]
    return [name, str(side), pixels, f"`{last}`", size, *counts, f"{apart:.0e}"], float(apart)


def run_commands(name: str) -> float:
    """``layers``, ``explain`` and ``score`` of a saved network; seconds, or the error of one."""
    side = SIDES.get(name, 64)
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        model, photos = Path(folder, "my.keras"), Path(folder, "photos")
        make = getattr(keras.applications, name)
        make(weights=None, input_shape=(side, side, 3), classes=10).save(model)
        photos.mkdir()
        for number in range(2):
            noise = np.random.default_rng(number).integers(0, 256, (side, side, 3), np.uint8)
            Image.fromarray(noise).save(photos / f"{number}.png")
        options = ["--model", model, "--images", photos, "--layers", "blocks", "--epsilon", "0.1"]
        start = time.perf_counter()
        for arguments in (
            ["layers", model],
            ["explain", *options, "--output", Path(folder, "explain")],
            ["score", *options, "--output", Path(folder, "score")],
        ):
            with contextlib.redirect_stdout(io.StringIO()):
                cli.main([str(argument) for argument in arguments], standalone_mode=False)
        return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("networks", nargs="*", help="of keras.applications; all if none is named")
    parser.add_argument("--commands", action="store_true", help="run the commands on each as well")
    given = parser.parse_args()
    columns = ["network", "side", "pixels", "default layer", "its size", "blocks", "places"]
    columns += ["apart", "commands"][: 1 + given.commands]
    print("|", " | ".join(columns), "|")
    print("|" + "---|" * len(columns))
    for name in given.networks or classifiers():
        cells, _ = measure(name)
        cells += [f"{run_commands(name):.0f} s"] if given.commands else []
        print("|", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
