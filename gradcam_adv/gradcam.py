"""Grad-CAM heatmaps of any layers of a classifier, all of them in one pass."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from gradcam_adv import batches

if TYPE_CHECKING:
    import keras


def layer_names(model: keras.Model) -> list[str]:
    """The layers that have a heatmap, in the order of the graph.

    Those with an output of (N, H, W, C), but for the input and what only prepares the pixels.
    """
    import keras

    unexplained = (keras.layers.InputLayer, keras.layers.Rescaling, keras.layers.Normalization)
    return [
        layer.name
        for layer in model.layers
        if not isinstance(layer, unexplained)
        and isinstance(layer.output, keras.KerasTensor)
        and len(layer.output.shape) == 4
    ]


def find_layers(model: keras.Model, layers: str | Sequence[str]) -> list[str]:
    """Names of the layers meant by "all", one name or several.

    Raises:
        ValueError: a layer that the model doesn't have or that has no heatmap, with the nearest
            names.
    """
    known = layer_names(model)
    if isinstance(layers, str):
        layers = known if layers == "all" else [layers]
    if not layers:
        raise ValueError("Expected at least one layer. Received: none")
    for name in layers:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=3, cutoff=0.3)
            raise ValueError(
                "Expected a layer of the model with an output of shape (N, H, W, C). "
                f"Received: {name!r}. Nearest: {', '.join(near) or 'none'}."
            )
    return list(dict.fromkeys(layers))  # a layer named twice is still one layer


def heatmaps(
    model: keras.Model,
    images: npt.ArrayLike,
    layers: str | Sequence[str] = "all",
    classes: npt.ArrayLike | None = None,
    *,
    batch_size: int = batches.BATCH_SIZE,
) -> dict[str, np.ndarray]:
    """Grad-CAM heatmaps of many layers from one forward and one backward pass a batch.

    Args:
        model: from pixels to logits.
        images: float, (N, H, W, 3), values in [0, 1].
        layers: "all" (every layer of :func:`layer_names`), a name, or several.
        classes: int, (N,), the class explained on each image; None for the predicted one.
        batch_size: how many images at a time; bounds the memory.

    Returns:
        By layer, float32 (N, h, w) at the layer's own size: ReLU of the weighted sum divided by
        its maximum, so in [0, 1]; all zero where no position speaks for the class.

    Raises:
        ValueError: images, classes or layers that the model doesn't take, an output that isn't
            logits, or maps that aren't finite.
    """
    count = batches.check_logits(model)
    images = batches.check_images(model, images)
    names = find_layers(model, layers)
    if classes is None:
        from gradcam_adv import gradients

        explained = np.full(len(images), gradients.PREDICTED, np.int32)
    else:
        explained = batches.check_labels(classes, len(images), count, "classes")
    explain = compiled_heatmaps(model, names, batch_size, targets=1)
    by_layer, _ = explain(images, explained[:, None])
    return {name: maps[:, 0] for name, maps in by_layer.items()}


class compiled_heatmaps:
    """:func:`heatmaps` for one model and its layers, compiled once, called slice after slice.

    ``targets`` classes a photo are explained from one forward pass: classes are int
    (N, targets), maps float32 (N, targets, h, w). The logits of that pass, float32 (N, C), come
    with the maps.
    """

    def __init__(
        self, model: keras.Model, layers: Sequence[str], batch_size: int, targets: int
    ) -> None:
        from gradcam_adv import gradients

        self.layers = list(layers)
        outputs = [model.get_layer(name).output for name in self.layers]
        self._sums = gradients.gradcam_sums(model, outputs, batch_size, targets)
        self._batch_size = batch_size

    def __call__(
        self, images: np.ndarray, classes: np.ndarray
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        parts: dict[str, list[np.ndarray]] = {name: [] for name in self.layers}
        answers = []
        for own, (pixels, wanted) in batches.padded(self._batch_size, images, classes):
            sums, logits = self._sums(pixels, wanted)
            for name, values in zip(self.layers, sums, strict=True):
                batches.check_finite(values, f"Grad-CAM sums of layer {name!r}")
                parts[name].append(normalize(values[: own.stop - own.start]))
            answers.append(batches.check_finite(logits[: own.stop - own.start], "logits"))
        maps = {name: np.concatenate(values) for name, values in parts.items()}
        return maps, np.concatenate(answers)


def normalize(weighted_sums: np.ndarray) -> np.ndarray:
    """ReLU, then each map (..., h, w) divided by its own maximum; an empty map stays zero."""
    maps = np.maximum(weighted_sums, 0)
    highest = maps.max(axis=(-2, -1), keepdims=True)
    return np.divide(maps, highest, out=np.zeros_like(maps), where=highest > 0)


def resize(maps: np.ndarray, size: int) -> np.ndarray:
    """Heatmaps (..., h, w) bilinearly at ``size`` x ``size``, float32, still in [0, 1]."""
    import keras

    flat = maps.reshape(-1, *maps.shape[-2:], 1).astype(np.float32)
    resized = keras.ops.convert_to_numpy(
        keras.ops.image.resize(flat, (size, size), interpolation="bilinear")
    )
    # Interpolation of values up to 1 may round to just above it.
    return np.clip(resized, 0, 1).reshape(*maps.shape[:-2], size, size)


def predict(model: keras.Model, images: np.ndarray, batch_size: int) -> np.ndarray:
    """Logits, float32 (N, C), in batches of one padded shape."""
    logits = [
        model.predict_on_batch(pixels)[: own.stop - own.start]
        for own, (pixels,) in batches.padded(batch_size, images)
    ]
    return batches.check_finite(np.concatenate(logits), "logits")
