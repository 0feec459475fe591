"""NISSIM of many pairs of maps at once, against scikit-image called for each pair."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from skimage.metrics import structural_similarity
from skimage.transform import resize

from benchmarks import timing
from benchmarks.processes import Row
from gradcam_adv.metrics import nissim

# How many pairs of heatmaps, by the side at which they are compared.
PAIRS = {7: 10_000, 224: 400}
# The side to which smaller ones are enlarged.
LARGE = 224
AIMS = {7: "at least 20", 224: "at least 8"}
RUNS = 7


def against_scikit_image(side: str) -> Row:
    """NISSIM of float32 heatmaps as they are; both sides compute in float64."""
    clean, perturbed = _maps(int(side), PAIRS[int(side)])
    what = f"NISSIM of {len(clean)} pairs of {side} x {side} / scikit-image pair by pair"
    return _compared(what, (clean, perturbed), (clean, perturbed), None, AIMS[int(side)])


def enlarged_against_scikit_image(side: str) -> Row:
    """NISSIM of small heatmaps at a larger size; for scikit-image they were enlarged before."""
    small = _maps(int(side), PAIRS[LARGE])
    large = [
        np.stack([resize(m, (LARGE, LARGE), order=1, mode="edge", anti_aliasing=False) for m in of])
        for of in small.astype(np.float64)
    ]
    what = (
        f"NISSIM of {len(small[0])} pairs of {side} x {side}, enlarged to {LARGE} x {LARGE} / "
        "scikit-image pair by pair, on maps enlarged before"
    )
    return _compared(what, small, large, LARGE, "at least 15" if side == "7" else "at least 8")


def _maps(side: int, count: int) -> np.ndarray:
    return np.random.default_rng(0).random((2, count, side, side), np.float32)


def _compared(
    what: str, ours: Sequence[np.ndarray], peers: Sequence[np.ndarray], size: int | None, aim: str
) -> Row:
    """Time both sides.

    Raises:
        ValueError: they differ by more than 1e-12.
    """
    pairs = list(zip(*(maps.astype(np.float64) for maps in peers), strict=True))

    def our_side() -> np.ndarray:
        return nissim(*ours, size)

    def peer() -> np.ndarray:
        return np.array([(1 - structural_similarity(a, b, data_range=1)) / 2 for a, b in pairs])

    first = timing.seconds(our_side)
    difference = np.abs(our_side() - peer()).max()
    if not difference <= 1e-12:  # NaN fails this, too
        raise ValueError(
            "Expected the NISSIM of scikit-image, to 1e-12. "
            f"Received: a difference of {difference:.1e}"
        )
    return timing.compare(what, our_side, peer, RUNS, aim, first=first)
