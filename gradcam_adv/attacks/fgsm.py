"""The fast gradient sign method (Goodfellow et al. 2015; section 2.2 of the paper).

With images x, labels y, logits z(x) and the cross-entropy J::

    x* = clip(x + epsilon * sign(dJ/dx), 0, 1)

One gradient serves every epsilon.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from gradcam_adv import backends, validation
from gradcam_adv.attacks.perturbations import SignPerturbations
from gradcam_adv.batching import PaddedBatches, batch_size_for, progress_bar
from gradcam_adv.graph.flat import FlatGraph, flatten
from gradcam_adv.graph.kept import kept


def margin(logits: Any, labels: Any, *, independent: bool = False) -> Any:
    """``m = logsumexp(z without z_y) - z_y``, whose gradient has the sign of the cross-entropy's.

    The cross-entropy is ``J = log(1 + exp(m))``, which rises with m, so both gradients have one
    sign everywhere. In float32 the gradient of J fades to zero when the network is sure; that of m
    does not.

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
        self._gradients = kept(
            self._graph.compiled, ("FGSM", size), lambda: PaddedBatches(self._compile, size)
        )

    def _compile(self, batch_size: int) -> Callable[..., Any]:
        """From images and int32 labels to the margin's gradient by the pixels, and the logits."""
        classifier = self._graph.classifier
        shape = (batch_size, *classifier.input_shape[1:])
        backends.reserve(classifier, batch_size)

        def gradient(images: Any, labels: Any) -> tuple[Any, Any]:
            def forward(images: Any, taps: Sequence[Any] = ()) -> tuple[list[Any], list[Any], Any]:
                images = sum(taps, images)
                logits = keras.ops.cast(classifier(images, training=False), "float32")
                m = margin(logits, labels, independent=self._graph.independent)
                return [images], [m], logits

            _, [[by_pixels]], logits = backends.differentiate(forward, images)
            if by_pixels is None:
                raise ValueError(
                    "Expected logits with a gradient by the pixels. Received: none; an operation "
                    "without a gradient, such as a cast to integers, comes between"
                )
            return by_pixels, logits

        return backends.compiled(gradient, (shape, "float32"), ((batch_size,), "int32"))

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
        labels = labels.astype(np.int32)
        with progress_bar("FGSM", len(images), self._gradients.size, verbose) as bar:
            for rows, (gradient, logits) in self._gradients(images, labels):
                count = rows.stop - rows.start
                validation.check_finite(gradient[:count], "gradients by the pixels", rows.start)
                # With NaN logits the gradient may be zero, as that of a ReLU at NaN is.
                validation.check_finite(logits[:count], "logits", rows.start)
                signs[rows] = np.sign(gradient[:count])
                bar.update(count)
        return signs
