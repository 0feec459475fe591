"""What an attack is, and what it gives: a perturbation of the images for each epsilon."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from gradcam_adv import validation

Perturbations = Mapping[float, np.ndarray]
"""By epsilon, what is added to the images: float32, of their shape."""


class Attack(Protocol):
    """Anything that takes images, labels and epsilons, and gives a perturbation for each epsilon.

    Write a class with this method, or a function, to hand an attack of your own to
    :func:`gradcam_adv.dissimilarity`.
    """

    def __call__(
        self, images: np.ndarray, labels: np.ndarray, epsilons: Sequence[float]
    ) -> Perturbations:
        """
        Args:
            images: float32 (N, H, W, C), values in [0, 1].
            labels: int (N,), the classes to move away from.
            epsilons: sizes of the perturbation, as fractions of the range of pixels.
        """
        ...


class SignPerturbations(Perturbations):
    """``epsilon * signs``: one array of signs serves every epsilon.

    Attributes:
        signs: int8 (N, H, W, C) of -1, 0 and 1.
    """

    def __init__(self, signs: np.ndarray, epsilons: Sequence[float]) -> None:
        """
        Raises:
            ValueError: signs other than -1, 0 and 1, or epsilons outside [0, 1].
        """
        signs = np.asarray(signs)
        if not np.issubdtype(signs.dtype, np.signedinteger) or (np.abs(signs) > 1).any():
            raise ValueError(
                "Expected signs as integers, -1, 0 or 1. "
                f"Received: {signs.dtype} from {signs.min()} to {signs.max()}"
            )
        if not all(0 <= epsilon <= 1 for epsilon in epsilons):  # NaN fails this, too
            raise ValueError(f"Expected epsilons from 0 to 1. Received: {list(epsilons)}")
        self.signs = signs
        self._epsilons = tuple(float(epsilon) for epsilon in epsilons)

    def __getitem__(self, epsilon: float) -> np.ndarray:
        if epsilon not in self._epsilons:
            raise KeyError(epsilon)
        return np.float32(epsilon) * self.signs.astype(np.float32)

    def __iter__(self) -> Iterator[float]:
        return iter(self._epsilons)

    def __len__(self) -> int:
        return len(self._epsilons)


class ScaledPerturbations(Perturbations):
    """Perturbations of any values in a byte each, for storing: ``scale * steps``.

    Attributes:
        steps: int8 (E, N, H, W, C), from -127 to 127; E is the number of epsilons.
        scales: float32 (E, N), one for each epsilon and image.
    """

    def __init__(self, steps: np.ndarray, scales: np.ndarray, epsilons: Sequence[float]) -> None:
        self.steps = steps
        self.scales = scales
        self._places = {float(epsilon): i for i, epsilon in enumerate(epsilons)}

    @classmethod
    def of(cls, perturbations: Perturbations) -> ScaledPerturbations:
        """Perturbations in a byte each: a step is 1/127 of the largest value of an image.

        Values are rounded towards 0, so no norm grows.

        Example:
            >>> stored = ScaledPerturbations.of({0.1: np.float32([[[[0.1, -0.04]]]])})
            >>> stored.steps.tolist()
            [[[[[127, -50]]]]]
        """
        values = np.stack(list(perturbations.values())).astype(np.float32)
        largest = np.abs(values).max(axis=(2, 3, 4)).astype(np.float64)
        scales = (largest / 127).astype(np.float32)
        scales = np.where(
            127 * scales.astype(np.float64) > largest, np.nextafter(scales, np.float32(0)), scales
        )
        each = scales[:, :, None, None, None].astype(np.float64)
        steps = np.divide(values, each, out=np.zeros(values.shape), where=each > 0)
        return cls(np.trunc(steps).astype(np.int8), scales, [*perturbations])

    def __getitem__(self, epsilon: float) -> np.ndarray:
        place = self._places[epsilon]
        return self.scales[place][:, None, None, None] * self.steps[place].astype(np.float32)

    def __iter__(self) -> Iterator[float]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def perturb(images: npt.ArrayLike, perturbation: npt.ArrayLike) -> np.ndarray:
    """The attacked images, ``clip(images + perturbation, 0, 1)``.

    No pixel moves by more than the perturbation says, not by the rounding of the sum either.

    Args:
        images: float, (N, H, W, C), values in [0, 1].
        perturbation: of the same shape, as an attack gives it for one epsilon.

    Returns:
        float32, of the shape of the images, values in [0, 1].

    Raises:
        ValueError: the shapes differ, images leave [0, 1], or the perturbation is not finite.

    Example:
        >>> perturb([[[[0.5]]]], [[[[0.125]]]]).item()
        0.625
    """
    pixels = validation.check_pixels(np.asarray(images))
    added = np.asarray(perturbation, np.float32)
    if pixels.shape != added.shape:
        raise ValueError(
            f"Expected a perturbation of the shape of the images, {pixels.shape}. "
            f"Received: shape {added.shape}"
        )
    validation.check_finite(added, "perturbation")
    moved = np.clip(pixels + added, 0, 1)
    too_far = np.abs(moved.astype(np.float64) - pixels) > np.abs(added)
    return np.where(too_far, np.nextafter(moved, pixels), moved)
