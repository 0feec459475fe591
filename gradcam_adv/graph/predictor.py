"""What a model predicts, in batches of one padded shape."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import numpy.typing as npt

from gradcam_adv import backends, validation
from gradcam_adv.batching import PaddedBatches, batch_size_for
from gradcam_adv.graph.flat import FlatGraph, flatten


def predict_logits(
    model: keras.Model | FlatGraph, images: npt.ArrayLike, *, batch_size: int | None = None
) -> np.ndarray:
    """Logits of images, float32 (N, classes).

    Args:
        model: any classifier that :func:`gradcam_adv.flatten` takes.
        images: float, (N, H, W, 3), values in [0, 1].
        batch_size: how many images at a time; None for 8, on a GPU for what suits its memory.

    Raises:
        ValueError: a model or images that can't be used, or logits that are not finite.
    """
    graph = flatten(model)
    pixels = validation.check_images(graph.input.shape, images)
    size = batch_size_for(batch_size, pixels.shape)
    return Predictor(graph.classifier, size)(pixels)


class Predictor:
    """A model's outputs, float32 (N, C), one slice of inputs after the other.

    ``model`` is functional with one output (N, C); ``what`` names its outputs in errors.
    """

    def __init__(self, model: keras.Model, batch_size: int, what: str = "logits") -> None:
        def compile(size: int) -> Callable[[np.ndarray], np.ndarray]:
            backends.reserve(model, size)
            return model.predict_on_batch

        self._outputs = PaddedBatches(compile, batch_size)
        self._what = what

    def __call__(self, images: np.ndarray) -> np.ndarray:
        outputs = [values[: rows.stop - rows.start] for rows, values in self._outputs(images)]
        return validation.check_finite(np.concatenate(outputs), self._what)
