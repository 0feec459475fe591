"""The fast gradient sign method: the sign once a photo, a perturbed set for every epsilon."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from gradcam_adv import batching as batches
from gradcam_adv.graph import network as networks

if TYPE_CHECKING:
    import keras


def sign(
    model: keras.Model,
    images: npt.ArrayLike,
    labels: npt.ArrayLike,
    *,
    batch_size: int | None = None,
    progress: bool = True,
) -> np.ndarray:
    """Sign of the gradient of the cross-entropy by the pixels, section 2.2 of the paper.

    It does not depend on epsilon: one gradient serves every level of attack.

    Args:
        model: any classifier that :func:`gradcam_adv.graph.network.flatten` takes, from pixels in
            [0, 1] to logits or their softmax.
        images: float, (N, H, W, 3), values in [0, 1].
        labels: int, (N,), the class to move away from.
        batch_size: how many images at a time; bounds the memory. Halved where that ends.
            None for 8, and on a GPU for as many as suit its memory.
        progress: draw a bar, where there is a terminal.

    Returns:
        int8 (N, H, W, 3) of -1, 0 and 1; 0 where the gradient is exactly zero.

    Raises:
        MemoryError: not even one image at a time fits into memory.
        ValueError: images or labels that the model can't take, an output that isn't logits, or
            logits or a gradient that aren't finite.
    """
    network = networks.flatten(model)
    images = batches.check_images(network.input.shape, images)
    labels = batches.check_labels(labels, len(images), network.classes, "labels")
    size = batches.size_for(batch_size, images.shape)
    return compiled_sign(network, size)(images, labels, progress=progress)


class compiled_sign:
    """:func:`sign` for one network, compiled once and called for slice after slice of photos."""

    def __init__(self, network: networks.Network, batch_size: int) -> None:
        from gradcam_adv import backends as gradients

        classifier = network.classifier()
        self._gradients = batches.Batches(
            lambda size: gradients.loss_gradient(classifier, size), batch_size
        )

    def __call__(
        self, images: np.ndarray, labels: np.ndarray, *, progress: bool = False
    ) -> np.ndarray:
        signs = np.empty(images.shape, np.int8)
        off = None if progress else True
        with tqdm(total=len(images), desc="FGSM", unit="image", disable=off) as bar:
            for own, (gradient, logits) in self._gradients(images, labels):
                count = own.stop - own.start
                batches.check_finite(gradient[:count], "gradients by the pixels", own.start)
                # Where these are NaN the gradient may be zero: a ReLU's at NaN is.
                batches.check_finite(logits[:count], "logits", own.start)
                signs[own] = np.sign(gradient[:count])
                bar.update(count)
        return signs


def perturb(images: npt.ArrayLike, signs: npt.ArrayLike, epsilon: float) -> np.ndarray:
    """``clip(images + epsilon * signs, 0, 1)``: the perturbed set of one epsilon.

    Args:
        images: (N, H, W, 3), values in [0, 1].
        signs: from :func:`sign`, of the same shape.
        epsilon: size of the perturbation as a fraction of the range of pixels, not negative.

    Returns:
        float32 (N, H, W, 3), values in [0, 1]; equal to ``images`` at epsilon 0.

    Raises:
        ValueError: the shapes differ, images or signs are out of their range, or epsilon is
            negative or not finite.
    """
    images = batches.check_pixels(np.asarray(images))
    signs = np.asarray(signs)
    if images.shape != signs.shape:
        raise ValueError(
            f"Expected signs of the shape of the images, {images.shape}. "
            f"Received: shape {signs.shape}"
        )
    if not ((signs >= -1) & (signs <= 1)).all():
        raise ValueError(
            f"Expected signs from -1 to 1. Received: from {signs.min()} to {signs.max()}"
        )
    if not (math.isfinite(epsilon) and epsilon >= 0):
        raise ValueError(f"Expected epsilon as a finite number, 0 or more. Received: {epsilon}")
    return np.clip(images + np.float32(epsilon) * signs.astype(np.float32), 0, 1)


def random_sign(shape: tuple[int, ...], seed: int, photo_sha256: str) -> np.ndarray:
    """Signs of a coin for one photo, the control for FGSM's: noise of the same size.

    It follows from the photo and the seed alone, in whatever order photos come.

    Returns:
        int8 of ``shape``, -1 and 1.
    """
    coin = np.random.default_rng([seed, int(photo_sha256[:16], 16)])
    return (2 * coin.integers(0, 2, shape, np.int8) - 1).astype(np.int8)
