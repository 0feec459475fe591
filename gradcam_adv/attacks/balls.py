"""The sets of perturbations that an epsilon allows: L-infinity and L2.

The L2 norm is the root of the mean square, ``sqrt(mean d^2)``, so both norms have epsilons in units
of a pixel, and a perturbation of +-epsilon has the norm epsilon in both. The Euclidean norm is
``sqrt(H W C)`` times as large.
"""

from __future__ import annotations

import abc

import numpy as np


class Ball(abc.ABC):
    """All perturbations of a norm up to epsilon. Arrays are float32 (N, H, W, C)."""

    @abc.abstractmethod
    def project(self, perturbations: np.ndarray, epsilon: float) -> np.ndarray:
        """The nearest perturbations in the ball."""

    @abc.abstractmethod
    def steepest(self, gradients: np.ndarray) -> np.ndarray:
        """The perturbations of norm 1 that raise a loss of these gradients most; 0 for 0."""

    @abc.abstractmethod
    def sample(
        self, generator: np.random.Generator, shape: tuple[int, ...], epsilon: float
    ) -> np.ndarray:
        """A perturbation of one image, (H, W, C), drawn evenly from the ball."""


class LInf(Ball):
    """``max |d| <= epsilon``."""

    def project(self, perturbations: np.ndarray, epsilon: float) -> np.ndarray:
        return np.clip(perturbations, -np.float32(epsilon), np.float32(epsilon))

    def steepest(self, gradients: np.ndarray) -> np.ndarray:
        return np.sign(gradients)

    def sample(
        self, generator: np.random.Generator, shape: tuple[int, ...], epsilon: float
    ) -> np.ndarray:
        return generator.uniform(-epsilon, epsilon, shape).astype(np.float32)


class L2(Ball):
    """``sqrt(mean d^2) <= epsilon``, the mean over all pixel values of an image."""

    def project(self, perturbations: np.ndarray, epsilon: float) -> np.ndarray:
        norms = _root_mean_square(perturbations)
        # A little inside, since the product is rounded.
        inside = (1 - 1e-6) * epsilon
        factors = np.where(norms > inside, inside / np.maximum(norms, inside), 1)
        return (factors * perturbations).astype(np.float32)

    def steepest(self, gradients: np.ndarray) -> np.ndarray:
        norms = _root_mean_square(gradients)
        found = np.divide(gradients, norms, out=np.zeros(gradients.shape), where=norms > 0)
        return found.astype(np.float32)

    def sample(
        self, generator: np.random.Generator, shape: tuple[int, ...], epsilon: float
    ) -> np.ndarray:
        direction = generator.standard_normal((1, *shape))
        radius = epsilon * generator.random() ** (1 / direction.size)
        return (radius * direction / _root_mean_square(direction))[0].astype(np.float32)


BALLS: dict[str, Ball] = {"linf": LInf(), "l2": L2()}


def _root_mean_square(values: np.ndarray) -> np.ndarray:
    """Of each image, float64 (N, 1, 1, 1)."""
    squares = np.square(values, dtype=np.float64)
    return np.sqrt(squares.mean(axis=(1, 2, 3), keepdims=True))
