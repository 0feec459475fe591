"""The control "unrelated": pairs of images of different classes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

# How many images of other classes each image is compared with.
UNRELATED_IMAGES = 5


class UnrelatedPairs:
    """Draws, for one image after the other, images of other classes out of some candidates.

    The mean NISSIM between clean heatmaps of such pairs says what MOD is where there is no
    relation at all. The draw depends on the seed and on the order of the images.

    Args:
        classes: of the candidates, (M,): labels or names.
        seed: of the draw.

    Example:
        >>> pairs = UnrelatedPairs(["ann", "ann", "bob"], seed=0)
        >>> pairs.draw("ann").tolist(), sorted(pairs.draw("bob").tolist())
        ([2], [0, 1])
    """

    def __init__(self, classes: npt.ArrayLike, seed: int) -> None:
        self._classes = np.asarray(classes)
        self._chance = np.random.default_rng(seed)

    def draw(self, label: object) -> np.ndarray:
        """Positions of up to UNRELATED_IMAGES candidates of other classes than ``label``, int."""
        others = np.flatnonzero(self._classes != label)
        count = min(UNRELATED_IMAGES, len(others))
        return self._chance.choice(others, count, replace=False)
