"""How far the Grad-CAM map of a layer is from a given one, and the gradient of that by the pixels.

A map depends on the pixels through activations and through gradients of the score, so its own
gradient is a second derivative; ``backends.differentiate_twice`` takes it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from gradcam_adv import backends, validation
from gradcam_adv.batching import PaddedBatches
from gradcam_adv.explain.gradcam import channel_weights, weighted_sum
from gradcam_adv.graph.activations import forward_pass
from gradcam_adv.graph.call import Call
from gradcam_adv.graph.flat import FlatGraph
from gradcam_adv.graph.kept import kept
from gradcam_adv.metrics.nissim import WINDOW


@dataclass(frozen=True)
class Aim:
    """What is asked of the map and of the class.

    With the distance D of the map from the one given, NISSIM, and m, the largest other logit less
    that of the clean photo's class, the value to raise is ::

        V = +-D - weight * max(0, +-(m - limit))

    Attributes:
        away: whether the map is to move away from the one given (+D), or towards it (-D).
        flip: whether m is to exceed the limit (-), so that the class changes, or to stay below (+).
        weight: of the class, in units of NISSIM for a logit.
    """

    away: bool
    flip: bool
    weight: float


@dataclass(frozen=True)
class Moved:
    """What a batch of n images gave.

    Attributes:
        gradient: of V, float32 (n, H, W, C).
        distance: of each map from the one given, float32 (n,).
        empty: whether the map is 0 everywhere, bool (n,).
        logits: float32 (n, classes).
    """

    gradient: np.ndarray
    distance: np.ndarray
    empty: np.ndarray
    logits: np.ndarray


class MapGradient:
    """V of each image and its gradient by the pixels, compiled once for a batch size."""

    def __init__(
        self, graph: FlatGraph, layer: Call, aim: Aim, batch_size: int, sharpness: float | None
    ) -> None:
        """
        Raises:
            ValueError, when it is called: the map does not depend on the pixels, or the backend is
                not TensorFlow.
        """
        self._graph, self._layer, self._aim, self._sharpness = graph, layer, aim, sharpness
        self._compiled = kept(
            graph.compiled,
            ("map", layer.path, aim, batch_size, sharpness),
            lambda: PaddedBatches(self._compile, batch_size),
        )

    def _compile(self, batch_size: int) -> Callable[..., Any]:
        forward = forward_pass(self._graph, [self._layer], batch_size)
        height, width = self._graph.input.shape[1:3]
        images_shape = (batch_size, *self._graph.input.shape[1:])

        def gradient(images: Any, classes: Any, limits: Any, given: Any) -> Any:
            def scored(images: Any) -> tuple[list[Any], list[Any], Any]:
                activations, logits = forward(images)
                logits = keras.ops.cast(logits, "float32")
                score = keras.ops.take_along_axis(logits, self._explained(logits, classes), axis=1)
                return activations, [score], logits

            def value(activations: list[Any], by_maps: list[Any], logits: Any) -> tuple[Any, Any]:
                if by_maps[0] is None:
                    raise ValueError(
                        "Expected a layer that the scores depend on. Received: "
                        f"{self._layer.path}, by which they have no gradient"
                    )
                heat, empty = heatmap(self._graph, self._layer, activations[0], by_maps[0])
                distance = _nissim(_enlarged(heat, (height, width)), given)
                excess = lead_of_others(logits, classes) - limits
                wrong = keras.ops.relu(-excess if self._aim.flip else excess)
                moved = distance if self._aim.away else -distance
                return moved - self._aim.weight * wrong, (distance, empty, logits)

            by_pixels, rest = backends.differentiate_twice(scored, value, images, self._sharpness)
            if by_pixels is None:
                raise ValueError(
                    "Expected a map with a gradient by the pixels. Received: none; an operation "
                    "without a gradient, such as a cast to integers, comes between"
                )
            return by_pixels, *rest

        return backends.compiled(
            gradient,
            (images_shape, "float32"),
            ((batch_size,), "int32"),
            ((batch_size,), "float32"),
            ((batch_size, height, width), "float32"),
        )

    def _explained(self, logits: Any, classes: Any) -> Any:
        """The class whose map is asked for, (n, 1): the clean photo's, or the one that flipped."""
        if not self._aim.flip:
            return classes[:, None]
        return keras.ops.cast(keras.ops.argmax(logits, axis=-1), "int32")[:, None]

    def __call__(
        self, images: np.ndarray, classes: np.ndarray, limits: np.ndarray, given: np.ndarray
    ) -> Moved:
        """
        Args:
            images: float32 (n, H, W, C), values in [0, 1].
            classes: int (n,), those of the clean photos.
            limits: float32 (n,), of m.
            given: float32 (n, H, W), values in [0, 1], the maps to move away from or towards.

        Raises:
            NotFiniteError: a gradient or logits that are not finite.
        """
        parts = []
        batches = self._compiled(images, classes.astype(np.int32), limits, given)
        for rows, found in batches:
            count = rows.stop - rows.start
            gradient, distance, empty, logits = (values[:count] for values in found)
            validation.check_finite(gradient, "gradients of the map by the pixels", rows.start)
            validation.check_finite(logits, "logits", rows.start)
            parts.append((gradient, distance, empty, logits))
        return Moved(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def heatmap(graph: FlatGraph, layer: Call, activations: Any, gradients: Any) -> tuple[Any, Any]:
    """The heatmap, (n, h, w), values in [0, 1]; and whether it is 0 everywhere, (n,)."""
    values, by_values = (graph.as_map(layer, tensor) for tensor in (activations, gradients))
    total = weighted_sum(channel_weights(by_values)[:, None], values)[:, 0]
    # Not ReLU, whose derivative may be another one here.
    heat = keras.ops.where(total > 0, total, 0.0)
    highest = keras.ops.max(heat, axis=(1, 2), keepdims=True)
    empty = highest <= 0
    return heat / keras.ops.where(empty, 1.0, highest), empty[:, 0, 0]


def lead_of_others(logits: Any, classes: Any) -> Any:
    """m, (n,): below 0 where a class, int (n,), has the largest of the logits, (n, classes)."""
    of_class = keras.ops.one_hot(classes, logits.shape[-1], dtype="bool")
    others = keras.ops.where(of_class, np.finfo(np.float32).min, logits)
    own = keras.ops.sum(keras.ops.where(of_class, logits, 0.0), axis=-1)
    return keras.ops.max(others, axis=-1) - own


def _enlarged(maps: Any, size: tuple[int, int]) -> Any:
    """Maps (n, h, w) at the size of the images, as ``explain.resize`` gives them."""
    return keras.ops.image.resize(
        maps[..., None], size, interpolation="bilinear", data_format="channels_last"
    )[..., 0]


def _nissim(maps: Any, given: Any) -> Any:
    """:func:`gradcam_adv.metrics.nissim` (equation 1) of two tensors (n, H, W), float32 (n,).

    Means over windows are products with banded matrices, which are quick in both directions.
    """
    rows, columns = (_windows(size) for size in maps.shape[1:])

    def mean(x: Any) -> Any:
        return keras.ops.matmul(keras.ops.matmul(rows, x), columns.T)

    unbiased = WINDOW**2 / (WINDOW**2 - 1)
    a, b = mean(maps), mean(given)
    variances = unbiased * (mean(maps * maps) + mean(given * given) - a * a - b * b)
    covariance = unbiased * (mean(maps * given) - a * b)
    above = (2 * a * b + 0.01**2) * (2 * covariance + 0.03**2)
    ssim = above / ((a * a + b * b + 0.01**2) * (variances + 0.03**2))
    return (1 - keras.ops.mean(ssim, axis=(1, 2))) / 2


def _windows(size: int) -> np.ndarray:
    """A matrix from values along an axis to the means of all windows, (size - 6, size)."""
    place = np.arange(size) - np.arange(size - WINDOW + 1)[:, None]
    return ((place >= 0) & (place < WINDOW)).astype(np.float32) / WINDOW
