"""Every classifier of keras.applications beside Grad-CAM in plain TensorFlow; prints a table.

``python -m benchmarks.applications`` makes the table in docs/applications.md. Weights are random,
images are noise of 64 pixels, or more where the network needs more. Names after it choose networks.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from gradcam_adv import GradCAM, flatten

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


def plain(model: keras.Model, operation: int, images: np.ndarray) -> np.ndarray:
    """Grad-CAM of the highest logit by an operation's number, in plain TensorFlow, (N, h, w)."""
    both = keras.Model(model.inputs, [model.operations[operation].output, model.output])
    with tf.GradientTape() as tape:
        activations, logits = both(tf.constant(images), training=False)
        scores = tf.reduce_max(logits, axis=1)
    alpha = tf.reduce_mean(tape.gradient(scores, activations), axis=(1, 2), keepdims=True)
    maps = tf.nn.relu(tf.reduce_sum(alpha * activations, axis=-1)).numpy()
    highest = maps.max(axis=(1, 2), keepdims=True)
    return maps / np.where(highest > 0, highest, 1)


def measure(name: str) -> tuple[list[str], float]:
    """Of one network: the cells of its line, and how far the maps of both are apart."""
    side = SIDES.get(name, 64)
    make = getattr(keras.applications, name)
    options = {"weights": None, "input_shape": (side, side, 3), "classes": 10}
    keras.utils.clear_session()  # or names of layers would go on counting
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
    number = [operation.name for operation in model.operations].index(last)
    apart = np.abs(maps - plain(logits, number, taken)).max()
    pixels = graph.pixels.range + ("" if graph.pixels.known else ", assumed")
    size = f"{place.shape[1]} x {place.shape[2]}"
    cells = [name, str(side), pixels, f"`{last}`", size, str(len(graph.layers)), f"{apart:.0e}"]
    return cells, float(apart)


def main() -> None:
    print("| network | side | pixels | default layer | its size | places | apart |")
    print("|---|---|---|---|---|---|---|")
    for name in sys.argv[1:] or classifiers():
        cells, _ = measure(name)
        print("|", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
