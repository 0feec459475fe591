"""Grad-CAM heatmaps of any layers of a classifier, all of them in one pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from gradcam_adv import batching as batches
from gradcam_adv.graph import network as networks
from gradcam_adv.graph.network import Layers

if TYPE_CHECKING:
    import keras

Targets = Literal["predicted"] | npt.ArrayLike | Callable[[Any], Any]


def layer_names(model: keras.Model) -> list[str]:
    """Paths of the layers that have a heatmap, in the order of the graph.

    Those with an output of (N, H, W, C), but for the input and what only prepares the pixels;
    "base/conv1" is layer conv1 of the nested model base, "conv#2" the second call of a shared one.
    """
    return [step.path for step in networks.flatten(model).places]


def heatmaps(
    model: keras.Model,
    images: npt.ArrayLike,
    layers: Layers = "all",
    targets: Targets = "predicted",
    *,
    batch_size: int | None = None,
    progress: bool = True,
) -> dict[str, np.ndarray]:
    """Grad-CAM heatmaps of many layers from one forward and one backward pass a batch.

    Args:
        model: any classifier that :func:`gradcam_adv.graph.network.flatten` takes, from pixels in
            [0, 1] to logits or their softmax.
        images: float, (N, H, W, 3), values in [0, 1].
        layers: "all", "conv", "blocks", "last", a path out of :func:`layer_names`, an index into
            it, or several of these.
        targets: what is explained: "predicted", the class that the model predicts for the image;
            int (N,), a class for each image; or a function from the logits, (n, classes), to
            scores, (n,), in ``keras.ops``.
        batch_size: how many images at a time; bounds the memory. Halved where that ends.
            None for 8, and on a GPU for as many as suit its memory.
        progress: draw a bar, where there is a terminal.

    Returns:
        By layer, float32 (N, h, w) at the layer's own size: ReLU of the weighted sum divided by
        its maximum, so in [0, 1]; all zero where no position speaks for the class.

    Raises:
        MemoryError: not even one image at a time fits into memory.
        ValueError: a model that can't be explained; images, classes or layers that it doesn't
            take; or maps or logits that aren't finite.
    """
    network = networks.flatten(model)
    images = batches.check_images(network.input.shape, images)
    score = targets if callable(targets) else 1
    size = batches.size_for(batch_size, images.shape)
    explain = Explainer(network, layers, size, score)
    by_layer, _ = explain(images, classes_of(network, targets, len(images)), progress=progress)
    return {name: maps[:, 0] for name, maps in by_layer.items()}


def classes_of(network: networks.Network, targets: Targets | str, count: int) -> np.ndarray:
    """The class explained on each image, int (N, 1), or the sign for the predicted one."""
    from gradcam_adv import backends as gradients

    if callable(targets) or (isinstance(targets, str) and targets == "predicted"):
        return np.full((count, 1), gradients.PREDICTED, np.int32)
    if isinstance(targets, str):
        raise ValueError(
            "Expected targets as 'predicted', for dissimilarity also 'clean', one class an image, "
            "or a function of the logits. "
            f"Received: {targets!r}"
        )
    return batches.check_labels(targets, count, network.classes, "targets")[:, None]


class Explainer:
    """:func:`heatmaps` for one network and its layers, compiled once, called slice after slice.

    ``targets`` classes a photo are explained from one forward pass: classes are int
    (N, targets), maps float32 (N, targets, h, w). The logits of that pass, float32 (N, C), come
    with the maps.
    """

    def __init__(
        self,
        network: networks.Network,
        layers: Layers,
        batch_size: int,
        targets: int | Callable[[Any], Any] = 1,
    ) -> None:
        from gradcam_adv import backends as gradients

        places = network.find(layers)
        self.layers = [place.path for place in places]
        self._sums = batches.Batches(
            lambda size: gradients.gradcam_sums(network, places, size, targets), batch_size
        )

    def __call__(
        self, images: np.ndarray, classes: np.ndarray, *, progress: bool = False
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        parts: dict[str, list[np.ndarray]] = {name: [] for name in self.layers}
        answers = []
        off = None if progress else True
        with tqdm(total=len(images), desc="heatmaps", unit="image", disable=off) as bar:
            for own, (sums, logits) in self._sums(images, classes):
                count = own.stop - own.start
                for name, values in zip(self.layers, sums, strict=True):
                    what = f"Grad-CAM sums of layer {name!r}"
                    parts[name].append(
                        normalize(batches.check_finite(values[:count], what, own.start))
                    )
                answers.append(batches.check_finite(logits[:count], "logits", own.start))
                bar.update(count)
        maps = {name: np.concatenate(values) for name, values in parts.items()}
        return maps, np.concatenate(answers)


def normalize(weighted_sums: np.ndarray) -> np.ndarray:
    """ReLU, then each map (..., h, w) divided by its own maximum; an empty map stays zero."""
    maps = np.maximum(weighted_sums, 0)
    highest = maps.max(axis=(-2, -1), keepdims=True)
    return np.divide(maps, highest, out=np.zeros_like(maps), where=highest > 0)


def resize(maps: np.ndarray, size: int | Sequence[int]) -> np.ndarray:
    """Heatmaps (..., h, w) bilinearly at ``size``, a side or (height, width); float32 in [0, 1]."""
    import keras

    height, width = (size, size) if isinstance(size, int) else size
    flat = maps.reshape(-1, *maps.shape[-2:], 1).astype(np.float32)
    resized = keras.ops.convert_to_numpy(
        keras.ops.image.resize(flat, (height, width), interpolation="bilinear")
    )
    # Interpolation of values up to 1 may round to just above it.
    return np.clip(resized, 0, 1).reshape(*maps.shape[:-2], height, width)


def predict(model: keras.Model, images: npt.ArrayLike, batch_size: int | None = None) -> np.ndarray:
    """Logits, float32 (N, classes), in batches of one padded shape.

    Args:
        model: any classifier that :func:`gradcam_adv.graph.network.flatten` takes, from pixels in
            [0, 1] to logits or their softmax.
        images: float, (N, H, W, 3), values in [0, 1].
        batch_size: how many images at a time; None as for :func:`heatmaps`.

    Raises:
        ValueError: a model without logits, images that it doesn't take, or logits that aren't
            finite.
    """
    network = networks.flatten(model)
    pixels = batches.check_images(network.input.shape, images)
    size = batches.size_for(batch_size, pixels.shape)
    return Predictor(network.classifier(), size)(pixels)


class Predictor:
    """What a model gives, float32 (N, C), in batches of one padded shape, slice after slice.

    Args:
        model: functional, of any outputs (N, C).
        batch_size: how many inputs at a time.
        what: it gives, as errors name it.
    """

    def __init__(self, model: keras.Model, batch_size: int, what: str = "logits") -> None:
        from gradcam_adv import backends as gradients

        def make(size: int) -> Callable[[np.ndarray], np.ndarray]:
            gradients.reserve(model, size)
            return model.predict_on_batch

        self._outputs = batches.Batches(make, batch_size)
        self._what = what

    def __call__(self, images: np.ndarray) -> np.ndarray:
        outputs = [values[: own.stop - own.start] for own, values in self._outputs(images)]
        return batches.check_finite(np.concatenate(outputs), self._what)
