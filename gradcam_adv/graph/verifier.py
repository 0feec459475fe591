"""An embedder as a classifier of pairs: do two images show the same?

With the embedding f and other images y_j, the similarity of an image x to each of them is the
cosine::

    s_j(x) = f(x) . f(y_j) / (|f(x)| |f(y_j)|),

and the answer is "the same" if it is at least a threshold t. So the logits of "different" and "the
same" are t - s_j and s_j - t.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from gradcam_adv import validation
from gradcam_adv.batching import batch_size_for
from gradcam_adv.graph.call import Call
from gradcam_adv.graph.flat import FlatGraph, without_end
from gradcam_adv.graph.logits import are_probabilities, outputs_of_noise
from gradcam_adv.graph.predictor import Predictor


def embedder(
    model: keras.Model | FlatGraph,
    output: str | None = None,
    *,
    pixels: str | None = None,
    size: Sequence[int] | None = None,
) -> FlatGraph:
    """An embedder as a flat graph with the embedding, (None, features), in the place of the logits.

    Arguments are those of :func:`gradcam_adv.flatten`.

    Raises:
        ValueError: as of :func:`gradcam_adv.flatten`; also if the output is not one vector per
            image, or is probabilities.
    """
    graph = model if isinstance(model, FlatGraph) else _embedder(model, output, pixels, size)
    if graph.of_pairs or graph.logits is not graph.output:
        raise ValueError("Expected an embedder. Received: a graph of a classifier")
    return graph


def _embedder(
    model: keras.Model, output: str | None, pixels: str | None, size: Sequence[int] | None
) -> FlatGraph:
    graph = without_end(model, output, pixels=pixels, size=size)
    shape = tuple(graph.output.shape)
    if len(shape) != 2 or shape[-1] in (None, 1):
        raise ValueError(
            "Expected an embedder, with a vector of two features or more for each image. "
            f"Received: output of shape {shape}"
            + ("; a GlobalAveragePooling2D makes vectors of maps" if len(shape) == 4 else "")
        )
    if are_probabilities(outputs_of_noise(graph.classifier)):
        raise ValueError(
            "Expected an embedder, whose vectors are compared. Received: a classifier, which ends "
            "in probabilities; without pairs it is explained by its classes"
        )
    return graph


def embed(
    model: keras.Model | FlatGraph, images: Any, *, batch_size: int | None = None
) -> np.ndarray:
    """Embeddings of length 1, float32 (N, features).

    Args:
        model: an embedder, as of :func:`verifier`.
        images: float, (N, H, W, C), values in [0, 1]; or an object that gives such arrays for
            slices.
        batch_size: as for :class:`gradcam_adv.GradCAM`.

    Raises:
        ValueError: a model or images that can't be used, or features that are not finite.
    """
    graph = embedder(model)
    size = batch_size_for(batch_size, graph.input.shape)
    predict = Predictor(graph.classifier, size, "features")
    features = []
    for start in range(0, max(len(images), 1), size):
        pixels = validation.check_images(graph.input.shape, images[start : start + size])
        with validation.naming(range(start, start + size)):
            features.append(predict(pixels))
    found = np.concatenate(features)
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    return np.divide(found, lengths, out=np.zeros_like(found), where=lengths > 0)


def verifier(
    model: keras.Model | FlatGraph,
    others: Any,
    threshold: float = 0.0,
    *,
    batch_size: int | None = None,
) -> FlatGraph:
    """A classifier of pairs: an image and each of ``others``, whose embeddings are fixed.

    Its class ``2 j + 1`` is "the same as image j of the others", with the logit ``s_j -
    threshold``; ``2 j`` is "different from it", with the opposite logit. So whatever takes a model
    takes pairs: targets choose the pair that is explained, labels the answer that is attacked.

    Args:
        model: an embedder: functional or Sequential, from one input (N, H, W, C) to vectors
            (N, features), of any length.
        others: images, float (M, H, W, C), values in [0, 1], or an object that gives such arrays
            for slices.
        threshold: the least cosine similarity of images that show the same, from -1 to 1.
        batch_size: as for :class:`gradcam_adv.GradCAM`.

    Raises:
        ValueError: a model that is no embedder, or images or a threshold that can't be used.

    Example:
        >>> import keras, numpy as np
        >>> from gradcam_adv import FGSM, GradCAM, predict_logits
        >>> layers = [
        ...     keras.Input((8, 8, 3)),
        ...     keras.layers.Conv2D(4, 3, name="conv"),
        ...     keras.layers.Flatten(),
        ...     keras.layers.Dense(16),
        ... ]
        >>> images, others = np.random.default_rng(0).random((2, 5, 8, 8, 3))
        >>> graph = verifier(keras.Sequential(layers), others)
        >>> same = 2 * np.arange(5) + 1  # each image with its own other one
        >>> heatmaps = GradCAM(graph)(images, same)["conv"]  # of the similarity
        >>> lowering = FGSM(graph)(images, same, [0.1])[0.1]
        >>> raising = FGSM(graph)(images, same - 1, [0.1])[0.1]
        >>> similarity = predict_logits(graph, images)[np.arange(5), same]
        >>> heatmaps.shape, similarity.shape
        ((5, 6, 6), (5,))
    """
    if not -1 <= threshold <= 1:  # NaN fails this, too
        raise ValueError(f"Expected a threshold from -1 to 1. Received: {threshold}")
    graph = embedder(model)
    return of_embeddings(graph, embed(graph, others, batch_size=batch_size), threshold)


def of_embeddings(graph: FlatGraph, embeddings: np.ndarray, threshold: float) -> FlatGraph:
    """As :func:`verifier`, with the embeddings of the others, as of :func:`embed`."""
    calls = list(graph.calls)
    count, features = embeddings.shape
    unit = keras.layers.UnitNormalization(dtype="float32", name="embedding_of_length_1")
    answers = keras.layers.Dense(2 * count, dtype="float32", name="different_or_same")
    end = graph.output
    for layer in (unit, answers):
        given, end = end, layer(end)
        calls.append(Call(layer.name, layer, ((given,), {}), (end,)))
    kernel = np.stack([-embeddings, embeddings], axis=1).reshape(-1, features).T
    answers.set_weights([kernel, np.tile([threshold, -threshold], count)])
    return replace(graph, calls=tuple(calls), logits=end, independent=True, of_pairs=True)
