"""Every classifier of keras.applications beside Grad-CAM in plain TensorFlow; prints a table.

``python -m benchmarks.applications`` makes the table in docs/applications.md. Weights are random,
images are noise of 64 pixels, or more where the network needs more. Names after it choose networks.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf

from gradcam_adv import GradCAM, flatten
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


def plain(model: keras.Model, operations: Sequence[int], images: np.ndarray) -> list[np.ndarray]:
    """Grad-CAM of the highest logit by operations' numbers, in plain TensorFlow, (N, h, w) each."""
    outputs = [model.operations[number].output for number in operations]
    both = keras.Model(model.inputs, [*outputs, model.output])
    with tf.GradientTape() as tape:
        *activations, logits = both(tf.constant(images), training=False)
        scores = tf.reduce_max(logits, axis=1)
    found = []
    for values, slopes in zip(activations, tape.gradient(scores, activations), strict=True):
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
    place = next(call for call in graph.layers if call.path == last)
    taken = images * 255 if graph.pixels.range == "0..255" else images
    names = [operation.name for operation in model.operations]
    model.layers[-1].activation = keras.activations.linear  # so that it gives logits
    expected = plain(model, [names.index(layer) for layer in maps], taken)
    pairs = zip(maps.values(), expected, strict=True)
    apart = max(np.abs(ours - theirs).max() for ours, theirs in pairs)
    pixels = graph.pixels.range + ("" if graph.pixels.known else ", assumed")
    size = f"{place.shape[1]} x {place.shape[2]}"
    counts = [str(len(found)) for found in (find(graph, "blocks"), graph.layers)]
    return [name, str(side), pixels, f"`{last}`", size, *counts, f"{apart:.0e}"], float(apart)


def main() -> None:
    print("| network | side | pixels | default layer | its size | blocks | places | apart |")
    print("|---|---|---|---|---|---|---|---|")
    for name in sys.argv[1:] or classifiers():
        cells, _ = measure(name)
        print("|", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
