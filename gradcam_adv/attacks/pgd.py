"""Projected gradient descent (Madry et al. 2018): the usual strong attack on a known model.

With the margin m, a ball of size epsilon and a step of length a::

    d_(t+1) = project( d_t + a * steepest(dm/dx) )

Steepest is the sign of the gradient in L-infinity, and the gradient of length 1 in L2. Without a
random start L-infinity is the basic iterative method (Kurakin et al. 2017); one step of length
epsilon is FGSM.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from gradcam_adv.attacks.iterative import Iterative, Update
from gradcam_adv.graph.flat import FlatGraph


class PGD(Iterative):
    """PGD on one model, in L-infinity or L2.

    Args:
        model: any classifier that :func:`gradcam_adv.flatten` takes.
        random_start: whether to start at a random point of the ball.
        settings: as of :class:`gradcam_adv.attacks.iterative.Iterative`, as the errors are. A step
            has 2.5 epsilon / steps if no other length is given, so that every point of the ball can
            be reached.

    Example:
        >>> import keras, numpy as np
        >>> layers = [keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(2)]
        >>> attack = PGD(keras.Sequential(layers), steps=5)
        >>> images = np.full((1, 8, 8, 3), 0.5, np.float32)
        >>> perturbations = attack(images, [0], epsilons=[0.01, 0.05])
        >>> bool(abs(perturbations[0.05]).max() <= np.float32(0.05))
        True
    """

    _title = "PGD"

    def __init__(
        self, model: keras.Model | FlatGraph, *, random_start: bool = True, **settings: Any
    ) -> None:
        super().__init__(model, random_start=random_start, **settings)

    def _usual_step(self) -> float:
        return 2.5 / self.steps

    def _update(self, epsilon: float) -> Update:
        length = np.float32(self.step_size * epsilon)

        def update(perturbations: np.ndarray, gradient: np.ndarray) -> np.ndarray:
            return perturbations + length * self._ball.steepest(gradient)

        return update
