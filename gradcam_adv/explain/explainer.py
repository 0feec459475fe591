"""What an explainer is: images and targets in, heatmaps by layer out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from gradcam_adv import validation

if TYPE_CHECKING:
    from gradcam_adv.graph.flat import FlatGraph

Score = Callable[[Any], Any]
"""A function from logits, (N, classes), to scores, (N,), in ``keras.ops``."""
Targets = npt.ArrayLike | Score | None
"""What is explained: the predicted class (None), a class per image, or a function of the logits."""

# Stands for the class that the model predicts for an image.
PREDICTED = -1


class Explainer(Protocol):
    """Anything that takes images and targets, and gives heatmaps by layer.

    Write a class with this method, or a function, to hand an explainer of your own to
    :func:`gradcam_adv.dissimilarity`.
    """

    def __call__(self, images: np.ndarray, targets: Any) -> dict[str, np.ndarray]:
        """
        Args:
            images: float32 (N, H, W, C), values in [0, 1].
            targets: int (N,), the class to explain on each image; or the function of the logits
                that the user asked for.

        Returns:
            By layer, (N, h, w), values in [0, 1].
        """
        ...


@runtime_checkable
class ExplainsWithLogits(Protocol):
    """An explainer whose pass through the model also gives the logits, so nobody predicts twice."""

    layers: list[str]

    def maps_and_logits(
        self, images: np.ndarray, classes: np.ndarray, score: Score | None = None
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """
        Args:
            images: float32 (N, H, W, C), values in [0, 1].
            classes: int (N, targets), the classes to explain on each image, or PREDICTED.
            score: a function of the logits to explain in their place; then targets is 1.

        Returns:
            By layer, float32 (N, targets, h, w), values in [0, 1]; and logits, float32
            (N, classes).
        """
        ...


def classes_and_score(
    targets: Targets, count: int, graph: FlatGraph
) -> tuple[np.ndarray, Score | None]:
    """Targets as a user gives them, checked, in the form that ``maps_and_logits`` takes."""
    if graph.of_pairs and (targets is None or callable(targets)):
        raise ValueError(
            "Expected targets as one class per image with pairs: 2 * j + 1 for its similarity to "
            f"image j of the others. Received: {'none' if targets is None else 'a function'}"
        )
    if targets is None or callable(targets):
        return np.full((count, 1), PREDICTED, np.int32), targets
    if isinstance(targets, str):
        raise ValueError(
            "Expected targets as None (the predicted class), one class per image, or a function of "
            f"the logits. Received: {targets!r}"
        )
    return validation.check_labels(targets, count, graph.classes, "targets")[:, None], None
