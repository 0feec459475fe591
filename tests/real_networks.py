"""The five networks with a head, real photos, and how far two correct results may differ."""

import keras
import numpy as np

from gradcam_adv.data import photos, sources
from gradcam_adv.models import Weights, bases, classifiers

SIZE = 160
LAYERS = {
    "vgg16": 18,
    "resnet50": 174,
    "resnet101": 344,
    "inceptionv3": 310,
    "xception": 131,
}


def orl_photos(count: int) -> np.ndarray:
    listing = sources.list_photos("orl", classes=None, min_photos=3, seed=0)
    return photos.decode_all(
        [listing.root / photo for photo in listing.files["photo"][:: 400 // count]], SIZE
    )


def classifier(name: str, pixels: np.ndarray) -> keras.Model:
    """A network with random weights, the statistics of these photos, and ten classes."""
    base = bases.build(name, pixels.shape[1], Weights("random"))
    bases.calibrate_batch_norm(base, [pixels])
    extractor = classifiers.features(base)
    head = classifiers.dense_head(extractor.output_shape[-1], 10, seed=0)
    return classifiers.assemble(extractor, head)


def sums_and_scales(graph, images, classes) -> list[tuple[np.ndarray, np.ndarray]]:
    """By layer, Grad-CAM's sums by its equations in NumPy, (N, h, w), and their scale, (N,).

    The scale is the size of the sums if nothing in them cancelled, and rounding is relative to it.
    In early layers the means of the gradients nearly cancel, and two correct orders of summing may
    differ in the third digit of a sum.
    """
    import tensorflow as tf

    model = keras.Model(graph.input, [*(call.output for call in graph.layers), graph.logits])
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(pixels := tf.constant(images))
        *activations, logits = model(pixels, training=False)
        score = tf.gather(logits, classes, batch_dims=1)
    found = []
    for values, gradient in zip(activations, tape.gradient(score, activations), strict=True):
        sums, sizes = (
            np.einsum("bhwc,bc->bhw", maps, weights, dtype=np.float64)
            for maps, weights in (
                (values, np.mean(gradient, axis=(1, 2), dtype=np.float64)),
                (np.abs(values), np.abs(gradient).mean(axis=(1, 2))),
            )
        )
        found.append((sums, sizes.max(axis=(1, 2))))
    return found
