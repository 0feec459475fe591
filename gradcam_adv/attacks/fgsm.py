"""The fast gradient sign method (Goodfellow et al. 2015; section 2.2 of the paper).

With images x, labels y, logits z(x) and the cross-entropy J::

    x* = clip(x + epsilon * sign(dJ/dx), 0, 1)

One gradient serves every epsilon. What is differentiated is the margin of ``attacks.gradients``,
whose gradient has the same signs.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
import numpy.typing as npt

from gradcam_adv import validation
from gradcam_adv.attacks.gradients import MarginGradient
from gradcam_adv.attacks.perturbations import SignPerturbations
from gradcam_adv.batching import batch_size_for, progress_bar
from gradcam_adv.graph.flat import FlatGraph, flatten


class FGSM:
    """FGSM on one model: compiled at its first call, then called as often as you like.

    Args:
        model: any classifier that :func:`gradcam_adv.flatten` takes.
        batch_size: how many images at a time. It is halved when memory runs out. None for 8, on a
            GPU for what suits its memory.

    Raises:
        ValueError: a model that can't be attacked.

    Example:
        >>> import keras, numpy as np
        >>> layers = [keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(2)]
        >>> attack = FGSM(keras.Sequential(layers))
        >>> images = np.full((1, 8, 8, 3), 0.5, np.float32)
        >>> perturbations = attack(images, [0], epsilons=[0.01, 0.05])
        >>> float(abs(perturbations[0.05]).max())
        0.05000000074505806
    """

    def __init__(self, model: keras.Model | FlatGraph, *, batch_size: int | None = None) -> None:
        self._graph = flatten(model)
        size = batch_size_for(batch_size, self._graph.input.shape)
        self._gradient = MarginGradient(self._graph, size)

    def __call__(
        self,
        images: npt.ArrayLike,
        labels: npt.ArrayLike,
        epsilons: Sequence[float],
        *,
        verbose: int | str = "auto",
    ) -> SignPerturbations:
        """The perturbation of each image for each epsilon.

        Args:
            images: float, (N, H, W, C), values in [0, 1].
            labels: int, (N,), the classes to move away from.
            epsilons: sizes of the perturbation, as fractions of the range of pixels.
            verbose: "auto" (a bar where there is a terminal), 0 or 1, as in Keras.

        Returns:
            By epsilon, float32 of the shape of the images; :func:`gradcam_adv.perturb` adds it.

        Raises:
            MemoryError: not even one image fits into memory.
            ValueError: images or labels that the model does not take, epsilons outside [0, 1], or
                logits or a gradient that are not finite.
        """
        pixels = validation.check_images(self._graph.input.shape, images)
        classes = validation.check_labels(labels, len(pixels), self._graph.classes, "labels")
        return SignPerturbations(self.signs(pixels, classes, verbose=verbose), epsilons)

    def signs(
        self, images: np.ndarray, labels: np.ndarray, *, verbose: int | str = 0
    ) -> np.ndarray:
        """``sign(dJ/dx)``, int8 of the shape of the images; 0 where the gradient is exactly zero.

        Images and labels are not checked; for slices of a large set.
        """
        signs = np.empty(images.shape, np.int8)
        with progress_bar("FGSM", len(images), self._gradient.batch_size, verbose) as bar:
            for rows, gradient, _ in self._gradient.batches(images, labels):
                signs[rows] = np.sign(gradient)
                bar.update(len(gradient))
        return signs
