"""How well a similarity tells images of the same from images of others: rates and thresholds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Rates:
    """What :func:`verification_rates` found. Shares are from 0 to 1, NaN if there is no such pair.

    Attributes:
        false_rejects: the share of pairs of the same below the threshold.
        false_accepts: the share of other pairs at or above it.
        accuracy: the share of all pairs that are judged right.
        auc: the area under the ROC curve: the chance that a pair of the same has the larger
            similarity; a tie counts half.
        equal_error: the mean of both errors at the threshold of :func:`equal_error_threshold`.
    """

    false_rejects: float
    false_accepts: float
    accuracy: float
    auc: float
    equal_error: float


def verification_rates(similarity: npt.ArrayLike, same: npt.ArrayLike, threshold: float) -> Rates:
    """Errors of a verifier at a threshold, and over all thresholds.

    Args:
        similarity: float (N,).
        same: bool (N,), whether the two images of a pair show the same.
        threshold: the least similarity that is taken for the same.

    Example:
        >>> rates = verification_rates([0.9, 0.4, 0.6, 0.1], [True, True, False, False], 0.5)
        >>> rates.false_rejects, rates.false_accepts, rates.auc
        (0.5, 0.5, 0.75)
    """
    from sklearn.metrics import roc_auc_score

    similarity, same = _both(similarity, same)
    rejects, accepts = _errors(similarity, same, np.array([threshold]))
    accuracy = float(((similarity >= threshold) == same).mean())
    auc = equal = np.nan
    if same.any() and not same.all():
        auc = float(roc_auc_score(same, similarity))
        equal = float(np.mean(_errors(similarity, same, _equal(similarity, same))))
    return Rates(rejects.item(), accepts.item(), accuracy, auc, equal)


def equal_error_threshold(similarity: npt.ArrayLike, same: npt.ArrayLike) -> float:
    """The threshold at which both errors are nearest to each other.

    It lies in the middle between two neighbouring similarities.

    Raises:
        ValueError: all pairs are of one kind, or have one similarity.

    Example:
        >>> equal_error_threshold([0.9, 0.6, 0.4, 0.1], [True, True, False, False])
        0.5
    """
    similarity, same = _both(similarity, same)
    if same.all() or not same.any() or np.ptp(similarity) == 0:
        raise ValueError(
            "Expected a threshold, or pairs of the same and of others with different similarities, "
            f"to find the one of equal errors. Received: {same.sum()} of {len(same)} pairs of the "
            f"same, similarities from {similarity.min():g} to {similarity.max():g}"
        )
    return float(_equal(similarity, same)[0])


def _both(similarity: npt.ArrayLike, same: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray(similarity, np.float64), np.asarray(same, bool)


def _equal(similarity: np.ndarray, same: np.ndarray) -> np.ndarray:
    """The threshold of :func:`equal_error_threshold`, (1,)."""
    values = np.unique(similarity)
    middles = (values[1:] + values[:-1]) / 2 if len(values) > 1 else values
    rejects, accepts = _errors(similarity, same, middles)
    return middles[[np.abs(rejects - accepts).argmin()]]


def _errors(
    similarity: np.ndarray, same: np.ndarray, thresholds: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The shares of false rejects and of false accepts at each threshold; NaN without pairs."""
    shares = []
    for values in (similarity[same], similarity[~same]):
        below = np.searchsorted(np.sort(values), thresholds)
        shares.append(below / len(values) if len(values) else np.full(len(thresholds), np.nan))
    return shares[0], 1 - shares[1]
