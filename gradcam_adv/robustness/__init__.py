"""The whole measurement of a model: how far its heatmaps move under an attack."""

from gradcam_adv.robustness.measurement import EPSILONS, Dissimilarity, dissimilarity
from gradcam_adv.robustness.smallest import smallest_epsilons
from gradcam_adv.robustness.verification import Verification, verification

__all__ = [
    "EPSILONS",
    "Dissimilarity",
    "Verification",
    "dissimilarity",
    "smallest_epsilons",
    "verification",
]
