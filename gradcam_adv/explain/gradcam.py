"""Grad-CAM (Selvaraju et al. 2017) of any layers of a classifier, all of them in one pass.

For a layer with activations A, channels k and Z positions (i, j), and the score s of a class::

    alpha_k = 1/Z sum_ij  ds / dA_k,ij        (1)
    L       = ReLU( sum_k  alpha_k A_k )      (2)

A heatmap is L divided by its maximum. The score is the logit of the class. Of a sequence of tokens
A is the grid of its patches, see ``graph.tokens``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from gradcam_adv import backends
from gradcam_adv.batching import PaddedBatches
from gradcam_adv.explain.bound import BoundExplainer
from gradcam_adv.explain.explainer import PREDICTED, Score
from gradcam_adv.explain.half_precision import at_a_scale
from gradcam_adv.graph.activations import forward_pass
from gradcam_adv.graph.call import Call
from gradcam_adv.graph.flat import FlatGraph
from gradcam_adv.graph.folding import Folding
from gradcam_adv.graph.kept import kept


def channel_weights(gradients: Any) -> Any:
    """Equation 1: gradients ds/dA, (N, H, W, K), to alpha, float32 (N, K)."""
    flat = _flat(gradients)
    count, positions, _ = keras.ops.shape(flat)
    total = keras.ops.matmul(keras.ops.ones((count, 1, positions)), flat)
    return keras.ops.squeeze(total, axis=1) / keras.ops.cast(positions, "float32")


def weighted_sum(alpha: Any, activations: Any) -> Any:
    """Equation 2 before ReLU: alpha (N, T, K), A (N, H, W, K) to float32 (N, T, H, W)."""
    count, height, width, _ = keras.ops.shape(activations)
    flat = keras.ops.matmul(alpha, _transposed(_flat(activations)))
    return keras.ops.reshape(flat, (count, alpha.shape[1], height, width))


# Both reductions are products of matrices: on a CPU TensorFlow reads memory faster in these than
# in its reduce_mean and einsum, and reading memory is what they cost.


def _flat(values: Any) -> Any:
    """(N, H, W, K) to float32 (N, H * W, K)."""
    count, *_, channels = keras.ops.shape(values)
    return keras.ops.cast(keras.ops.reshape(values, (count, -1, channels)), "float32")


def _transposed(matrices: Any) -> Any:
    return keras.ops.transpose(matrices, (0, 2, 1))


def compile_sums(
    graph: FlatGraph, layers: Sequence[Call], batch_size: int, explained: int | Score
) -> Callable[[np.ndarray, np.ndarray], tuple[list[np.ndarray], np.ndarray]]:
    """Compile the weighted sums of equation 2 for one batch shape: one backward pass per target.

    ``explained`` is how many classes per image (targets); or a function from logits,
    (batch_size, classes), to scores, (batch_size,), as the one target.

    Returns:
        A function of images, float32 (batch_size, H, W, C), and classes, int
        (batch_size, targets), each of them a class or PREDICTED. It returns, for each layer,
        float32 (batch_size, targets, h, w), and the logits, float32 (batch_size, classes). It
        raises ValueError if the scores do not depend on a layer, or have another shape.
    """
    folding = Folding(graph, layers)
    forward = forward_pass(graph, folding.read, batch_size)
    targets = 1 if callable(explained) else explained

    def sums(images: Any, classes: Any, scale: Any) -> tuple[list[Any], Any]:
        def scored(images: Any, taps: Sequence[Any] = ()) -> tuple[list[Any], list[Any], Any]:
            activations, logits = forward(images, taps)
            logits = keras.ops.cast(logits, "float32")
            if callable(explained):
                scores = [_checked(explained(logits), batch_size)]
            else:
                scores = [_logit_of(logits, classes[:, i]) for i in range(targets)]
            return activations, [scale * score for score in scores], logits

        activations, by_score, logits = backends.differentiate(scored, images)
        alphas, totals = [], []
        for layer, values, *gradients in zip(folding.read, activations, *by_score, strict=True):
            if any(gradient is None for gradient in gradients):
                raise ValueError(
                    "Expected layers that the scores depend on. Received: "
                    f"{layer.path}, by which they have no gradient"
                )
            maps = [graph.as_map(layer, gradient) for gradient in gradients]
            alpha = keras.ops.stack([channel_weights(g) / scale for g in maps], axis=1)
            alphas.append(alpha)
            totals.append(weighted_sum(alpha, graph.as_map(layer, values)))
        return folding.unfold(alphas, totals, weighted_sum), logits

    shape = (batch_size, *graph.input.shape[1:])
    compiled = backends.compiled(
        sums, (shape, "float32"), ((batch_size, targets), "int32"), ((), "float32")
    )
    return at_a_scale(compiled, (layer.output.dtype for layer in folding.read))


def _logit_of(logits: Any, classes: Any) -> Any:
    predicted = keras.ops.cast(keras.ops.argmax(logits, axis=-1), "int32")
    explained = keras.ops.where(classes == PREDICTED, predicted, classes)
    return keras.ops.take_along_axis(logits, explained[:, None], axis=1)[:, 0]


def _checked(scores: Any, batch_size: int) -> Any:
    """``scores``; ValueError unless a user's function gave one float32 for each image."""
    came = type(scores).__name__
    if keras.ops.is_tensor(scores):
        dtype = keras.backend.standardize_dtype(scores.dtype)
        came = f"shape {tuple(scores.shape)}, {dtype}"
    if came != f"shape ({batch_size},), float32":
        raise ValueError(
            "Expected targets to give one score, float32, for each image of a batch: "
            f"shape ({batch_size},). Received: {came}"
        )
    return scores


class GradCAM(BoundExplainer):
    """Grad-CAM of a model's layers: compiled at its first call, then called as often as you like.

    Arguments, attributes and errors are those of
    :class:`gradcam_adv.explain.bound.BoundExplainer`.

    Example:
        >>> import keras, numpy as np
        >>> layers = [
        ...     keras.Input((8, 8, 3)),
        ...     keras.layers.Conv2D(4, 3, name="conv"),
        ...     keras.layers.Flatten(),
        ...     keras.layers.Dense(2),
        ... ]
        >>> heatmaps = GradCAM(keras.Sequential(layers))(np.zeros((5, 8, 8, 3), np.float32))
        >>> heatmaps["conv"].shape
        (5, 6, 6)
    """

    _title = "Grad-CAM"

    def _prepare(self) -> None:
        # By number of targets, and for the last function of the logits.
        self._compiled: dict[int | Score, PaddedBatches] = {}

    def _batches(
        self, images: np.ndarray, classes: np.ndarray, score: Score | None
    ) -> Iterator[tuple[slice, list[np.ndarray], np.ndarray]]:
        explained = score or classes.shape[1]
        if explained not in self._compiled:
            # A user may pass a new function at every call, so only the last one is kept.
            own = {key: sums for key, sums in self._compiled.items() if not callable(key)}

            def make() -> PaddedBatches:
                def compile(size: int) -> Callable[..., Any]:
                    return compile_sums(self._graph, self._calls, size, explained)

                return PaddedBatches(compile, self._size)

            # Which layers are read depends on the weights as they are now.
            read = Folding(self._graph, self._calls).read
            paths = (tuple(call.path for call in calls) for calls in (self._calls, read))
            key = (self._title, *paths, self._size, explained)
            sums_of = make() if score else kept(self._graph.compiled, key, make)
            self._compiled = own | {explained: sums_of}
        for rows, (sums, logits) in self._compiled[explained](images, classes):
            yield rows, sums, logits
