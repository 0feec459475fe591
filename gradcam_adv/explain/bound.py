"""What explainers bound to a model and its layers have in common: how they are made and called."""

from __future__ import annotations

import abc
from collections.abc import Iterator, Sequence

import keras
import numpy as np
import numpy.typing as npt

from gradcam_adv import validation
from gradcam_adv.batching import batch_size_for, progress_bar
from gradcam_adv.explain.explainer import Score, Targets, classes_and_score
from gradcam_adv.explain.heatmaps import normalize
from gradcam_adv.graph import Layers
from gradcam_adv.graph.flat import FlatGraph, flatten
from gradcam_adv.graph.layers import find


class BoundExplainer(abc.ABC):
    """An explainer of some layers of one model.

    Args:
        model: any classifier that :func:`gradcam_adv.flatten` takes.
        layers: "last" (the usual layer of Grad-CAM), "all", "conv", "blocks", a path or index of
            :func:`gradcam_adv.layer_names`, or a list of these.
        batch_size: how many images at a time. It is halved when memory runs out. None for 8, on a
            GPU for what suits its memory.

    Attributes:
        layers: paths of the layers, in the order of the graph or as they were given.

    Raises:
        ValueError: a model that can't be explained, or layers that it does not have.
    """

    # Of the method, for the progress bar and errors.
    _title: str

    def __init__(
        self,
        model: keras.Model | FlatGraph,
        layers: Layers = "last",
        *,
        batch_size: int | None = None,
    ) -> None:
        self._graph = flatten(model)
        self._calls = find(self._graph, layers)
        self.layers = [call.path for call in self._calls]
        self._size = batch_size_for(batch_size, self._graph.input.shape)
        self._prepare()

    @abc.abstractmethod
    def _prepare(self) -> None:
        """The end of ``__init__``."""

    @abc.abstractmethod
    def _batches(
        self, images: np.ndarray, classes: np.ndarray, score: Score | None
    ) -> Iterator[tuple[slice, Sequence[np.ndarray], np.ndarray]]:
        """Of each batch the slice of images, the maps (n, targets, h, w) by layer, and the logits.

        Maps are as they come, before ReLU. Maps and logits may have padding at their end.
        """

    def __call__(
        self,
        images: npt.ArrayLike,
        targets: Targets = None,
        *,
        verbose: int | str = "auto",
    ) -> dict[str, np.ndarray]:
        """Heatmaps by layer.

        Args:
            images: float, (N, H, W, C), values in [0, 1].
            targets: what is explained: None for the class that the model predicts for each image;
                int (N,), a class for each image; or a function from the logits, (n, classes), to
                scores, (n,), in ``keras.ops``.
            verbose: "auto" (a bar where there is a terminal), 0 or 1, as in Keras.

        Returns:
            By layer, float32 (N, h, w) at the layer's own size, values in [0, 1]: 1 at the
            maximum, 0 everywhere if no position speaks for the class.

        Raises:
            MemoryError: not even one image fits into memory.
            ValueError: images or targets that the model does not take, or maps or logits that are
                not finite.
        """
        pixels = validation.check_images(self._graph.input.shape, images)
        classes, score = classes_and_score(targets, len(pixels), self._graph)
        maps, _ = self.maps_and_logits(pixels, classes, score, verbose=verbose)
        return {name: values[:, 0] for name, values in maps.items()}

    def maps_and_logits(
        self,
        images: np.ndarray,
        classes: np.ndarray,
        score: Score | None = None,
        *,
        verbose: int | str = 0,
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """As of :class:`gradcam_adv.explain.explainer.ExplainsWithLogits`; nothing is checked."""
        parts: dict[str, list[np.ndarray]] = {name: [] for name in self.layers}
        answers = []
        with progress_bar(self._title, len(images), self._size, verbose) as bar:
            for rows, by_layer, logits in self._batches(images, classes, score):
                count = rows.stop - rows.start
                for name, values in zip(self.layers, by_layer, strict=True):
                    what = f"{self._title} sums of layer {name!r}"
                    validation.check_finite(values[:count], what, rows.start)
                    parts[name].append(normalize(values[:count]))
                answers.append(validation.check_finite(logits[:count], "logits", rows.start))
                bar.update(count)
        return {name: np.concatenate(v) for name, v in parts.items()}, np.concatenate(answers)
