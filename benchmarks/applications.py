"""Every classifier of keras.applications beside Grad-CAM in plain TensorFlow; prints a table.

``python -m benchmarks.applications`` makes the table in docs/applications.md. Weights are random,
images are noise, sizes are the smallest that the network takes. Names after it choose networks.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from gradcam_adv import GradCAM, flatten

SMALLEST = {"InceptionV3": 75, "InceptionResNetV2": 75, "Xception": 71, "NASNetLarge": 331} | {
    "NASNetMobile": 224
}


def classifiers() -> Iterator[str]:
    """Their names in keras.applications."""
    for name, make in inspect.getmembers(keras.applications, inspect.isfunction):
        if "classifier_activation" in inspect.signature(make).parameters:
            yield name


def plain(model: keras.Model, layer: str, images: np.ndarray) -> np.ndarray:
    """Grad-CAM of the highest logit in plain TensorFlow, (N, h, w)."""
    both = keras.Model(model.inputs, [model.get_layer(layer).output, model.output])
    with tf.GradientTape() as tape:
        activations, logits = both(tf.constant(images), training=False)
        scores = tf.reduce_max(logits, axis=1)
    alpha = tf.reduce_mean(tape.gradient(scores, activations), axis=(1, 2), keepdims=True)
    maps = tf.nn.relu(tf.reduce_sum(alpha * activations, axis=-1)).numpy()
    highest = maps.max(axis=(1, 2), keepdims=True)
    return maps / np.where(highest > 0, highest, 1)


def row(name: str) -> str:
    """A line of the table."""
    side = SMALLEST.get(name, 64)
    make = getattr(keras.applications, name)
    options = {"weights": None, "input_shape": (side, side, 3), "classes": 10}
    keras.utils.set_random_seed(0)
    model = make(**options)
    logits = make(**options, classifier_activation=None)
    logits.set_weights(model.get_weights())
    images = np.random.default_rng(0).random((2, side, side, 3), np.float32)
    graph = flatten(model)
    explain = GradCAM(graph, batch_size=2)
    ((last, maps),) = explain(images).items()
    place = next(call for call in graph.layers if call.path == last)
    taken = images * 255 if graph.pixels.range == "0..255" else images
    apart = np.abs(maps - plain(logits, last, taken)).max()
    pixels = graph.pixels.range + ("" if graph.pixels.known else ", assumed")
    size = f"{place.shape[1]} x {place.shape[2]}"
    return f"| {name} | {side} | {pixels} | `{last}` | {size} | {len(graph.layers)} | {apart:.0e} |"


def main() -> None:
    print("| network | side | pixels | default layer | its size | places | apart |")
    print("|---|---|---|---|---|---|---|")
    for name in sys.argv[1:] or classifiers():
        print(row(name), flush=True)
        keras.utils.clear_session()


if __name__ == "__main__":
    main()
