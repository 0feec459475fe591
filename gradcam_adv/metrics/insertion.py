"""Insertion and deletion (RISE, Petsiuk et al. 2018): does a heatmap find the pixels that count?

Pixels change in n steps of equal numbers, those with the highest values of the map first: from the
image to a baseline (deletion), or from a baseline to the image (insertion). With p_k, the
probability of the explained class after k steps, both are the area under the curve::

    area = 1/n sum_{k = 1..n} (p_{k-1} + p_k) / 2

If the map finds the pixels that the class depends on, deletion is small and insertion large. Both
also depend on the image and on how unusual it looks halfway. So compare maps of the same image: a
constant map changes the pixels in random order.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import scipy.integrate
import scipy.ndimage
import scipy.special

from gradcam_adv import validation

STEPS = 20
# Standard deviation of the blur of insertion's baseline, as a share of the shorter side: 5 pixels
# of 224.
BLUR = 5 / 224
# Images whose steps are computed together, which bounds the memory.
_AT_ONCE = 8


def insertion(
    logits_of: Callable[[np.ndarray], npt.ArrayLike],
    images: npt.ArrayLike,
    maps: npt.ArrayLike,
    classes: npt.ArrayLike,
    *,
    baseline: npt.ArrayLike | None = None,
    steps: int = STEPS,
    seed: int = 0,
) -> np.ndarray:
    """Area under the probability of a class while the map's highest pixels are put in first.

    Args:
        logits_of: from images, float32 (n, H, W, C), to logits, (n, classes), such as
            ``functools.partial(predict_logits, flatten(model))``.
        images: float, (N, H, W, C), values in [0, 1].
        maps: of the size of the images, (N, H, W); enlarge heatmaps with
            :func:`gradcam_adv.explain.resize`. Pixels of equal value come in random order.
        classes: int, (N,); or (N, T) for T classes of each image in the order of the same map.
        baseline: what the pixels are put into, of the shape of the images or of one that NumPy
            broadcasts to it; None for the images, blurred by a Gaussian (BLUR).
        steps: number of steps, at most that of the pixels.
        seed: of the random order.

    Returns:
        float64, of the shape of the classes, from 0 to 1.

    Raises:
        ValueError: arrays that do not fit together, values outside their range, or logits that are
            not finite.

    Example:
        >>> import numpy as np
        >>> def first_pixel(images):  # logits: ten times the first of two pixels, and 0
        ...     return 10 * images[:, 0, :, 0] * [1, 0]
        >>> insertion(
        ...     first_pixel, np.ones((1, 1, 2, 1)), [[[1, 0]]], [0], baseline=0.0, steps=2
        ... ).round(2).tolist()
        [0.87]
    """
    pixels = _checked_images(images)
    blurred = _blurred(pixels) if baseline is None else baseline
    start = _like(blurred, pixels)
    return _areas(logits_of, start, pixels, maps, classes, steps, seed)


def deletion(
    logits_of: Callable[[np.ndarray], npt.ArrayLike],
    images: npt.ArrayLike,
    maps: npt.ArrayLike,
    classes: npt.ArrayLike,
    *,
    baseline: npt.ArrayLike = 0.0,
    steps: int = STEPS,
    seed: int = 0,
) -> np.ndarray:
    """Area under the probability of a class while the map's highest pixels are taken out first.

    As :func:`insertion`, but from the images to the baseline, which is black.

    Example:
        >>> import numpy as np
        >>> def first_pixel(images):
        ...     return 10 * images[:, 0, :, 0] * [1, 0]
        >>> maps = np.array([[[1, 0]], [[0, 1]]])  # the first pixel first, and last
        >>> deletion(first_pixel, np.ones((2, 1, 2, 1)), maps, [0, 0], steps=2).round(2).tolist()
        [0.62, 0.87]
    """
    pixels = _checked_images(images)
    return _areas(logits_of, pixels, _like(baseline, pixels), maps, classes, steps, seed)


def _areas(
    logits_of: Callable[[np.ndarray], npt.ArrayLike],
    start: np.ndarray,
    end: np.ndarray,
    maps: npt.ArrayLike,
    classes: npt.ArrayLike,
    steps: int,
    seed: int,
) -> np.ndarray:
    values, wanted = _checked_maps(maps, start), np.asarray(classes)
    if wanted.shape[:1] != start.shape[:1] or wanted.dtype.kind not in "iu" or wanted.ndim > 2:
        raise ValueError(
            f"Expected classes as integers, ({len(start)},) or ({len(start)}, T). "
            f"Received: shape {wanted.shape}, dtype {wanted.dtype}"
        )
    count = values[0].size
    if not 1 <= steps <= count:
        raise ValueError(f"Expected steps from 1 to {count}, the pixels. Received: {steps}")
    # How many pixels have changed after each step.
    changed = np.round(np.linspace(0, count, steps + 1))[:, None, None, None]
    areas = []
    for first in range(0, len(start), _AT_ONCE):
        part = slice(first, first + _AT_ONCE)
        places = _places(values[part], seed)[:, None, :, :, None]
        stages = np.where(places < changed, end[part, None], start[part, None])
        logits = np.asarray(logits_of(stages.reshape(-1, *start.shape[1:])), np.float64)
        validation.check_finite(logits, "logits")
        curves = scipy.special.softmax(logits, axis=-1).reshape(*stages.shape[:2], -1)
        at = wanted[part].reshape(len(stages), 1, -1)
        if at.min() < 0 or at.max() >= curves.shape[-1]:
            raise ValueError(
                f"Expected classes from 0 to {curves.shape[-1] - 1}. "
                f"Received: from {at.min()} to {at.max()}"
            )
        of_class = np.take_along_axis(curves, at, axis=-1)
        areas.append(scipy.integrate.trapezoid(of_class, dx=1 / steps, axis=1))
    return np.concatenate(areas).reshape(wanted.shape)


def _places(maps: np.ndarray, seed: int) -> np.ndarray:
    """Each pixel's place in the order, int (n, H, W): 0 for the highest value of the map."""
    flat = maps.reshape(len(maps), -1)
    shuffled = np.random.default_rng(seed).permutation(flat.shape[1])
    order = np.lexsort((np.broadcast_to(shuffled, flat.shape), -flat), axis=-1)
    return np.argsort(order, axis=-1).reshape(maps.shape)


def _blurred(images: np.ndarray) -> np.ndarray:
    deviation = BLUR * min(images.shape[1:3])
    return scipy.ndimage.gaussian_filter(images, (0, deviation, deviation, 0))


def _checked_images(images: npt.ArrayLike) -> np.ndarray:
    array = np.asarray(images)
    if array.ndim != 4 or array.size == 0:
        raise ValueError(
            f"Expected images of shape (N, H, W, C), not empty. Received: shape {array.shape}"
        )
    return validation.check_pixels(array)


def _checked_maps(maps: npt.ArrayLike, images: np.ndarray) -> np.ndarray:
    array = np.asarray(maps, np.float64)
    if array.shape != images.shape[:3]:
        raise ValueError(
            f"Expected maps of the size of the images, {images.shape[:3]}. "
            f"Received: shape {array.shape}"
        )
    return validation.check_finite(array, "maps")


def _like(baseline: npt.ArrayLike, images: np.ndarray) -> np.ndarray:
    array = np.asarray(baseline, np.float32)
    try:
        full = np.broadcast_to(array, images.shape)
    except ValueError:
        raise ValueError(
            f"Expected a baseline of the shape of the images, {images.shape}. "
            f"Received: shape {array.shape}"
        ) from None
    validation.check_range(full, "baseline")
    return full
