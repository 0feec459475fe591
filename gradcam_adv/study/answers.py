"""What an attack does to photos and answers: accuracy, PSNR, gradients of zero, spectrum of signs.

The functions return one row per condition (a network, an attack and an epsilon). They take
``predictions``: columns network, attack, epsilon, photo, identity, label, predicted,
predicted_clean, psnr and zero_gradient; one row per photo and condition.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from gradcam_adv import statistics
from gradcam_adv.study.attacks import WHITE_BOX
from gradcam_adv.study.tables import CONDITION, ends_of, mean_of, per_group, select


def accuracy(predictions: pd.DataFrame) -> pd.DataFrame:
    """Accuracy, and its ratio to the accuracy on the same photos when clean.

    Returns:
        Columns photos, right, accuracy, low, high (Wilson's interval), ratio, ratio_low,
        ratio_high (NaN if no clean photo is right).
    """

    def row_of(group: pd.DataFrame) -> dict[str, Any]:
        right = group["predicted"] == group["label"]
        clean = group["predicted_clean"] == group["label"]
        share = statistics.mean(right, group["identity"])
        ratio, of_ratio = statistics.share_ratio(right, clean, group["identity"])
        return {
            "photos": len(group),
            "right": int(right.sum()),
            "accuracy": share.value,
            **ends_of(statistics.share_interval(share)),
            "ratio": ratio,
            **ends_of(of_ratio, "ratio_"),
        }

    return per_group(CONDITION, predictions, row_of)


def psnr(predictions: pd.DataFrame) -> pd.DataFrame:
    """PSNR in dB over the photos that an attack changed.

    Returns:
        Columns photos, unchanged (number of photos that the attack left as they were; their PSNR is
        infinite), psnr (the mean; infinite if it changed none, as at epsilon 0), spread (standard
        deviation over photos; 0 if psnr is infinite).
    """

    def row_of(group: pd.DataFrame) -> dict[str, Any]:
        values = group["psnr"].to_numpy()
        finite = values[np.isfinite(values)]
        mean, spread = (finite.mean(), finite.std()) if len(finite) else (np.inf, 0.0)
        unchanged = len(values) - len(finite)
        return {"photos": len(values), "unchanged": unchanged, "psnr": mean, "spread": spread}

    return per_group(CONDITION, predictions, row_of)


def zero_gradients(predictions: pd.DataFrame) -> pd.DataFrame:
    """Mean share of pixel values whose gradient is exactly zero; FGSM leaves them unchanged.

    Returns:
        Columns network (on which the gradient was taken), photos, zero_gradient, low, high.
    """

    def row_of(group: pd.DataFrame) -> dict[str, Any]:
        share = mean_of(group, "zero_gradient")
        return {"photos": len(group), "zero_gradient": share.value, **ends_of(share.interval(0, 1))}

    return per_group(["network"], select(predictions, attack=WHITE_BOX, epsilon=0), row_of)


def spectrum(parts: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Share of the signs' energy at low frequencies, of each network's own attack and of noise.

    Args:
        parts: one below the other, columns network, attack, photo, identity, low_frequency.

    Returns:
        Columns network, attack, photos, low_frequency, low, high.
    """

    def row_of(group: pd.DataFrame) -> dict[str, Any]:
        share = mean_of(group, "low_frequency")
        return {"photos": len(group), "low_frequency": share.value, **ends_of(share.interval(0, 1))}

    return per_group(["network", "attack"], pd.concat(parts, ignore_index=True), row_of)
