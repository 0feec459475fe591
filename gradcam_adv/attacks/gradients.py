"""The margin of a classifier, which gradient attacks raise, and its gradient by the pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from gradcam_adv import backends, validation
from gradcam_adv.batching import PaddedBatches
from gradcam_adv.graph.flat import FlatGraph
from gradcam_adv.graph.kept import kept


def margin(logits: Any, labels: Any, *, independent: bool = False) -> Any:
    """``m = logsumexp(z without z_y) - z_y``, whose gradient has the direction of cross-entropy's.

    The cross-entropy is ``J = log(1 + exp(m))``, which rises with m, so both gradients have one
    direction everywhere. In float32 the gradient of J fades to zero when the network is sure; that
    of m does not.

    Args:
        logits: float32 (N, classes).
        labels: int32 (N,).
        independent: each class is a label of its own, yes or no. Then the other class of the
            question is "no", with logit 0, so ``m = -z_y``.

    Returns:
        float32 (N,).
    """
    is_label = keras.ops.equal(labels[:, None], keras.ops.arange(logits.shape[-1], dtype="int32"))
    others = keras.ops.where(is_label, np.finfo(np.float32).min, logits)
    label_logit = keras.ops.sum(keras.ops.where(is_label, logits, 0.0), axis=-1)
    if independent:
        return -label_logit
    return keras.ops.logsumexp(others, axis=-1) - label_logit


class MarginGradient:
    """The margin of each image and its gradient by the pixels, compiled once for a batch size."""

    def __init__(self, graph: FlatGraph, batch_size: int) -> None:
        """
        Raises:
            ValueError, when it is called: the logits have no gradient by the pixels.
        """
        self._graph = graph
        self._compiled = kept(
            graph.compiled,
            ("margin", batch_size),
            lambda: PaddedBatches(self._compile, batch_size),
        )

    @property
    def batch_size(self) -> int:
        """Images at a time; smaller than given if memory ran out."""
        return self._compiled.size

    def _compile(self, batch_size: int) -> Callable[..., Any]:
        """From images and int32 labels to the margin's gradient, the margin, and the logits."""
        classifier = self._graph.classifier
        shape = (batch_size, *classifier.input_shape[1:])
        backends.reserve(classifier, batch_size)

        def gradient(images: Any, labels: Any) -> tuple[Any, Any, Any]:
            def forward(images: Any, taps: Sequence[Any] = ()) -> tuple[list[Any], list[Any], Any]:
                images = sum(taps, images)
                logits = keras.ops.cast(classifier(images, training=False), "float32")
                m = margin(logits, labels, independent=self._graph.independent)
                return [images], [m], (m, logits)

            _, [[by_pixels]], (m, logits) = backends.differentiate(forward, images)
            if by_pixels is None:
                raise ValueError(
                    "Expected logits with a gradient by the pixels. Received: none; an operation "
                    "without a gradient, such as a cast to integers, comes between"
                )
            return by_pixels, m, logits

        return backends.compiled(gradient, (shape, "float32"), ((batch_size,), "int32"))

    def batches(
        self, images: np.ndarray, labels: np.ndarray
    ) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
        """Of each batch the slice of images, the gradient (n, H, W, C) and the margin (n,).

        Raises:
            NotFiniteError: a gradient or logits that are not finite.
        """
        for rows, (gradient, m, logits) in self._compiled(images, labels.astype(np.int32)):
            count = rows.stop - rows.start
            validation.check_finite(gradient[:count], "gradients by the pixels", rows.start)
            # With NaN logits the gradient may be zero, as that of a ReLU at NaN is.
            validation.check_finite(logits[:count], "logits", rows.start)
            yield rows, gradient[:count], m[:count]

    def __call__(self, images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The gradient, float32 (N, H, W, C), and the margin, float32 (N,)."""
        parts = [(gradient, m) for _, gradient, m in self.batches(images, labels)]
        gradients, margins = zip(*parts, strict=True)
        return np.concatenate(gradients), np.concatenate(margins)
