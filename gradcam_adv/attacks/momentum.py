"""MI-FGSM (Dong et al. 2018): steps with momentum, which transfer to other models better.

With the margin m and a decay u, in L-infinity::

    g_(t+1) = u * g_t + (dm/dx) / mean |dm/dx|
    d_(t+1) = project( d_t + a * sign(g_(t+1)) )

The paper divides by the sum of ``|dm/dx|``, which gives the same signs.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from gradcam_adv.attacks.iterative import Iterative, Update
from gradcam_adv.graph.flat import FlatGraph


class MIFGSM(Iterative):
    """MI-FGSM on one model, in L-infinity or L2.

    Args:
        model: any classifier that :func:`gradcam_adv.flatten` takes.
        decay: u, how much of the direction so far is kept; 0 for none.
        settings: as of :class:`gradcam_adv.attacks.iterative.Iterative`, as the errors are. A step
            has epsilon / steps if no other length is given.

    Example:
        >>> import keras, numpy as np
        >>> layers = [keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(2)]
        >>> attack = MIFGSM(keras.Sequential(layers), steps=5)
        >>> attack(np.full((1, 8, 8, 3), 0.5, np.float32), [0], epsilons=[0.05])[0.05].shape
        (1, 8, 8, 3)
    """

    _title = "MI-FGSM"

    def __init__(
        self, model: keras.Model | FlatGraph, *, decay: float = 1.0, **settings: Any
    ) -> None:
        if not 0 <= decay < np.inf:
            raise ValueError(f"Expected decay as a number of 0 or more. Received: {decay!r}")
        self.decay = decay
        super().__init__(model, **settings)

    def _update(self, epsilon: float) -> Update:
        length = np.float32(self.step_size * epsilon)
        direction = np.float32(0)

        def update(perturbations: np.ndarray, gradient: np.ndarray) -> np.ndarray:
            nonlocal direction
            size = np.abs(gradient).mean(axis=(1, 2, 3), keepdims=True, dtype=np.float64)
            scaled = np.divide(gradient, size, out=np.zeros(gradient.shape), where=size > 0)
            direction = (np.float32(self.decay) * direction + scaled).astype(np.float32)
            return perturbations + length * self._ball.steepest(direction)

        return update
