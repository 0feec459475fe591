"""NISSIM of many pairs of maps at once, against scikit-image called for each pair."""

from __future__ import annotations

import numpy as np
from skimage.metrics import structural_similarity

from benchmarks import timing
from benchmarks.processes import Row
from gradcam_adv.metrics import nissim

# How many pairs of heatmaps, by their side.
PAIRS = {7: 10_000, 224: 400}
RUNS = 7


def against_scikit_image(side: str) -> Row:
    """NISSIM of float32 heatmaps; both sides compute in float64.

    Raises:
        ValueError: the two sides differ by more than 1e-12.
    """
    random = np.random.default_rng(0)
    count = PAIRS[int(side)]
    clean, perturbed = random.random((2, count, int(side), int(side)), np.float32)
    pairs = list(zip(clean.astype(np.float64), perturbed.astype(np.float64), strict=True))

    def ours() -> np.ndarray:
        return nissim(clean, perturbed)

    def peer() -> np.ndarray:
        return np.array([(1 - structural_similarity(a, b, data_range=1)) / 2 for a, b in pairs])

    first = timing.seconds(ours)
    difference = np.abs(ours() - peer()).max()
    if not difference <= 1e-12:  # NaN fails this, too
        raise ValueError(
            "Expected the NISSIM of scikit-image, to 1e-12. "
            f"Received: a difference of {difference:.1e}"
        )
    what = f"NISSIM of {count} pairs of {side} x {side} / scikit-image pair by pair"
    aim = {7: "at least 20", 224: "at least 1"}[int(side)]
    return timing.compare(what, ours, peer, RUNS, aim, first=first)
