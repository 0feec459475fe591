"""The gain: how many times larger random noise must be to move the heatmaps as far as an attack.

NISSIM saturates: under strong attack, strong noise and between unrelated images it is about the
same. The size of the noise that does the same says more, as long as the noise does not saturate,
too; there the interval is wide or has no end.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from gradcam_adv import statistics


@dataclass(frozen=True)
class Gain:
    """What an attack is worth in noise, at each of its epsilons; float64 arrays (E,).

    Infinite where no size of noise that was tried moves the heatmaps so far. Then the equivalent is
    more than the largest size of the noise, and the gain more than that by the attack's epsilon.

    Attributes:
        equivalent: the epsilon of noise with the same mean dissimilarity.
        gain: that by the attack's epsilon; 1 if the attack is worth no more than noise.
        low, high: the ends of the 95 % interval of the gain; NaN with fewer than two groups.
        draws: the gain in each draw of the bootstrap, float64 (draws, E). With equal groups and
            seed the draws of two models are of the same groups, and can be compared one by one.
    """

    equivalent: np.ndarray
    gain: np.ndarray
    low: np.ndarray
    high: np.ndarray
    draws: np.ndarray = field(repr=False)


def gain(
    attack: npt.ArrayLike,
    epsilons: npt.ArrayLike,
    noise: npt.ArrayLike,
    noise_epsilons: npt.ArrayLike,
    groups: npt.ArrayLike | None = None,
    *,
    seed: int = 0,
) -> Gain:
    """How many times larger noise must be to move the heatmaps as far as an attack.

    With the mean dissimilarity D of the attack at epsilon, and the curve C of noise over its size::

        equivalent = C^-1(D)
        gain = equivalent / epsilon

    For C see :func:`size_reaching`. The interval is that of a bootstrap, which draws groups of
    images, and takes attack and noise from the same images.

    Args:
        attack: dissimilarity of each image, such as NISSIM, at each epsilon, (E, N), at least 0.
        epsilons: of the attack, (E,), above 0, rising.
        noise: dissimilarity of the same images under noise, or another control, (K, N), at least 0.
        noise_epsilons: sizes of the noise, (K,), above 0, rising.
        groups: what each image belongs to, such as the person, (N,); images of a group resemble
            each other. None: each image is a group.
        seed: of the bootstrap.

    Raises:
        ValueError: arrays that do not fit together, or values outside their range.

    Example:
        >>> noise = [[0.1, 0.1], [0.2, 0.2]]  # a line: 0.1 at 0.01, 0.2 at 0.02
        >>> found = gain([[0.15, 0.15]], [0.005], noise, [0.01, 0.02])
        >>> found.equivalent.round(6).tolist(), found.gain.round(6).tolist()
        ([0.015], [3.0])
    """
    of_attack, sizes = _checked(attack, epsilons, "attack", "epsilons")
    of_noise, noise_sizes = _checked(noise, noise_epsilons, "noise", "noise_epsilons")
    both = _of_same_images(of_attack, of_noise)
    names = _groups(groups, both.shape[1])

    def gains(means: np.ndarray) -> np.ndarray:
        """From the means of the attack, then the noise, (..., E + K), to gains, (..., E)."""
        by_attack, by_noise = np.split(means, [len(sizes)], axis=-1)
        return size_reaching(by_attack, noise_sizes, by_noise) / sizes

    found = gains(both.mean(axis=1))
    draws = gains(statistics.resampled_means(both, names, seed))
    low, high = statistics.percentile_interval(draws, len(np.unique(names)))
    return Gain(found * sizes, found, low, high, draws)


@dataclass(frozen=True)
class HalfShift:
    """The epsilon at which heatmaps have moved half as far as those of unrelated images are apart.

    Attributes:
        attack, noise: of the attack and of noise; each the epsilon and the ends of its 95 %
            interval, float64 (3,). Infinite where no epsilon that was tried is enough. Below the
            smallest epsilon it is on the line from (0, 0).
        ratio: that of noise by that of the attack, float64 (3,); NaN if both are infinite.
    """

    attack: np.ndarray
    noise: np.ndarray
    ratio: np.ndarray


def half_shift(
    attack: npt.ArrayLike,
    epsilons: npt.ArrayLike,
    noise: npt.ArrayLike,
    noise_epsilons: npt.ArrayLike,
    unrelated: npt.ArrayLike,
    groups: npt.ArrayLike | None = None,
    *,
    seed: int = 0,
) -> HalfShift:
    """The epsilon at which MOD is half of that of unrelated images, for an attack and for noise.

    The curves and the bootstrap are those of :func:`gain`.

    Args:
        attack: as for :func:`gain`, as all others except ``unrelated``.
        epsilons: of the attack, (E,).
        noise: dissimilarity under noise, (K, N).
        noise_epsilons: sizes of the noise, (K,).
        unrelated: mean dissimilarity of each image's heatmap and those of unrelated images, (N,).
        groups: what each image belongs to, (N,).
        seed: of the bootstrap.

    Raises:
        ValueError: arrays that do not fit together, or values outside their range.

    Example:
        >>> found = half_shift([[0.1, 0.1]], [0.01], [[0.1, 0.1]], [0.04], [0.1, 0.1])
        >>> float(found.attack[0]), float(found.noise[0]), float(found.ratio[0])
        (0.005, 0.02, 4.0)
    """
    of_attack, sizes = _checked(attack, epsilons, "attack", "epsilons")
    of_noise, noise_sizes = _checked(noise, noise_epsilons, "noise", "noise_epsilons")
    of_unrelated, _ = _checked(np.asarray(unrelated)[None], [1.0], "unrelated", "images")
    every = _of_same_images(of_attack, of_noise, of_unrelated)
    names = _groups(groups, every.shape[1])

    def halves(means: np.ndarray) -> np.ndarray:
        """From the means of the attack, noise and unrelated, (..., E + K + 1), to (..., 3)."""
        by_attack, by_noise, level = np.split(means, [len(sizes), len(every) - 1], axis=-1)
        first = size_reaching(level / 2, sizes, by_attack)
        second = size_reaching(level / 2, noise_sizes, by_noise)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.concatenate([first, second, second / first], axis=-1)

    draws = halves(statistics.resampled_means(every, names, seed))
    ends = statistics.percentile_interval(draws, len(np.unique(names)))
    return HalfShift(*np.stack([halves(every.mean(axis=1)), *ends], axis=-1))


def size_reaching(
    targets: npt.ArrayLike, epsilons: npt.ArrayLike, means: npt.ArrayLike
) -> np.ndarray:
    """The least epsilon at which a curve of mean dissimilarities reaches each target.

    The curve goes from (0, 0) in straight lines through the means, made to rise by isotonic
    regression (least squares), since chance can make a mean smaller than the one before.

    Args:
        targets: (..., T), at least 0.
        epsilons: of the curve, (K,), above 0, rising.
        means: at these epsilons, (..., K), at least 0.

    Returns:
        float64 (..., T); infinite where the curve does not reach the target.

    Example:
        >>> size_reaching([0.05, 0.2, 0.5], [0.01, 0.02], [0.1, 0.3]).tolist()
        [0.005, 0.015, inf]
    """
    targets, rising = np.asarray(targets, np.float64), _isotonic(np.asarray(means, np.float64))
    x = np.append(0.0, epsilons)
    y = np.concatenate([np.zeros((*rising.shape[:-1], 1)), rising], axis=-1)
    # The first point of the curve that is not below the target, but for rounding.
    after = (y[..., None, :] < (1 - 1e-12) * targets[..., None]).sum(axis=-1)
    right = np.clip(after, 1, len(x) - 1)
    lower, upper = (np.take_along_axis(y, at, axis=-1) for at in (right - 1, right))
    step = upper - lower
    part = np.divide(targets - lower, step, out=np.zeros(targets.shape), where=step > 0)
    found = x[right - 1] + part * (x[right] - x[right - 1])
    return np.where(after == len(x), np.inf, found)


def _isotonic(y: np.ndarray) -> np.ndarray:
    """Isotonic regression of each row, (..., K): the rising values nearest to it, least squares.

    By the min-max formula ``max over j <= i of min over k >= i of mean(y_j, ..., y_k)``, for all
    rows at once; scipy.optimize.isotonic_regression takes one row at a time.
    """
    count = y.shape[-1]
    sums = np.cumsum(np.concatenate([np.zeros((*y.shape[:-1], 1)), y], axis=-1), axis=-1)
    first, last = np.arange(count)[:, None], np.arange(count)
    lengths = np.where(first <= last, last + 1 - first, 1)
    means = (sums[..., None, 1:] - sums[..., :-1, None]) / lengths
    means = np.where(first <= last, means, np.inf)
    from_i = np.minimum.accumulate(means[..., ::-1], axis=-1)[..., ::-1]
    return np.where(first <= last, from_i, -np.inf).max(axis=-2)


def _of_same_images(*rows: np.ndarray) -> np.ndarray:
    counts = [len(row[0]) for row in rows]
    if len(set(counts)) > 1:
        raise ValueError(
            "Expected attack and controls of the same images. "
            f"Received: {' and '.join(map(str, counts))} images"
        )
    return np.concatenate(rows)


def _groups(groups: npt.ArrayLike | None, count: int) -> np.ndarray:
    names = np.arange(count) if groups is None else np.asarray(groups)
    if names.shape != (count,):
        raise ValueError(f"Expected groups of shape ({count},). Received: shape {names.shape}")
    return names


def _checked(
    values: npt.ArrayLike, epsilons: npt.ArrayLike, name: str, of: str
) -> tuple[np.ndarray, np.ndarray]:
    array, sizes = np.asarray(values, np.float64), np.asarray(epsilons, np.float64)
    if array.ndim != 2 or array.size == 0 or sizes.shape != array.shape[:1]:
        raise ValueError(
            f"Expected {name} of shape (epsilons, N), not empty, one row for each of {of}. "
            f"Received: shapes {array.shape} and {sizes.shape}"
        )
    if not (array >= 0).all() or not np.isfinite(array).all():
        raise ValueError(f"Expected {name} of 0 or more. Received: least {array.min()}")
    if not (sizes > 0).all() or not (np.diff(sizes) > 0).all():
        raise ValueError(f"Expected {of} above 0, each greater than the last. Received: {sizes}")
    return array, sizes
