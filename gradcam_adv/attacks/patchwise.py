"""PI-FGSM (Gao et al. 2020): long steps, whose excess goes to the pixels around.

With the margin m, steps of length ``b = amplification * a``, the sum A of all that was added, and
the mean W over the eight pixels around each one, in L-infinity::

    A  <- A + b * sign(dm/dx)
    P   = b * sign( W( max(|A| - epsilon, 0) * sign(A) ) )
    A  <- A + P
    d  <- project( d + b * sign(dm/dx) + P )

It transfers to other models better than other attacks of as many steps.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from scipy import ndimage

from gradcam_adv.attacks.iterative import Iterative, Update
from gradcam_adv.graph.flat import FlatGraph

# The mean of the eight neighbours, channel by channel.
_AROUND = np.ones((1, 3, 3, 1), np.float32) / 8
_AROUND[0, 1, 1] = 0


class PIFGSM(Iterative):
    """PI-FGSM on one model, in L-infinity.

    Args:
        model: any classifier that :func:`gradcam_adv.flatten` takes.
        amplification: how many times longer a step is than without patches.
        settings: as of :class:`gradcam_adv.attacks.iterative.Iterative`, as the errors are; no
            other norm. A step has amplification * epsilon / steps if no other length is given.

    Example:
        >>> import keras, numpy as np
        >>> layers = [keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(2)]
        >>> attack = PIFGSM(keras.Sequential(layers), steps=5)
        >>> attack(np.full((1, 8, 8, 3), 0.5, np.float32), [0], epsilons=[0.05])[0.05].shape
        (1, 8, 8, 3)
    """

    _title = "PI-FGSM"

    def __init__(
        self, model: keras.Model | FlatGraph, *, amplification: float = 10.0, **settings: Any
    ) -> None:
        if not 1 <= amplification < np.inf:
            raise ValueError(
                f"Expected amplification as a number of 1 or more. Received: {amplification!r}"
            )
        if settings.get("norm", "linf") != "linf":
            raise ValueError(f"Expected norm as linf. Received: {settings['norm']!r}")
        self.amplification = amplification
        super().__init__(model, **settings)

    def _usual_step(self) -> float:
        return self.amplification / self.steps

    def _update(self, epsilon: float) -> Update:
        length = np.float32(self.step_size * epsilon)
        added = np.float32(0)

        def update(perturbations: np.ndarray, gradient: np.ndarray) -> np.ndarray:
            nonlocal added
            step = length * np.sign(gradient)
            added = added + step
            excess = np.sign(added) * np.maximum(np.abs(added) - np.float32(epsilon), 0)
            around = ndimage.correlate(excess, _AROUND, mode="constant")
            # What neighbours cancel is 0 but for rounding, whose sign says nothing.
            passed_on = length * np.sign(np.where(np.abs(around) > 1e-6 * epsilon, around, 0))
            added = added + passed_on
            return perturbations + step + passed_on

        return update
