"""Random signs: noise of the same size as FGSM's perturbation, the control of every attack."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from gradcam_adv import validation
from gradcam_adv.attacks.perturbations import SignPerturbations


def random_signs(shape: tuple[int, ...], seed: int, key: str) -> np.ndarray:
    """int8 of -1 and 1, each with probability 1/2, for one image.

    They depend on the seed and the key alone, whatever other images there are.

    Args:
        shape: of the image.
        seed: of the noise.
        key: a hash of the image in hexadecimal digits.
    """
    coin = np.random.default_rng([seed, int(key[:16], 16)])
    return (2 * coin.integers(0, 2, shape, np.int8) - 1).astype(np.int8)


class RandomSigns:
    """An attack without an aim: it adds epsilon or -epsilon to every pixel value at random.

    An image always gets the same signs, whatever images come with it.

    Args:
        seed: of the signs.

    Example:
        >>> import numpy as np
        >>> noise = RandomSigns(seed=1)
        >>> noise(np.zeros((1, 2, 2, 1), np.float32), None, [0.5])[0.5].shape
        (1, 2, 2, 1)
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def __call__(
        self, images: npt.ArrayLike, labels: npt.ArrayLike | None, epsilons: Sequence[float]
    ) -> SignPerturbations:
        """As :class:`gradcam_adv.attacks.Attack`; the labels do not matter."""
        pixels = validation.check_pixels(np.asarray(images))
        hashes = [hashlib.sha256(image.tobytes()).hexdigest() for image in pixels]
        signs = np.stack([random_signs(pixels.shape[1:], self.seed, key) for key in hashes])
        return SignPerturbations(signs, epsilons)
