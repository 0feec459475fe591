"""The whole measurement of a model: how far its heatmaps move under an attack."""

from gradcam_adv.robustness.measurement import EPSILONS, Dissimilarity, dissimilarity

__all__ = ["EPSILONS", "Dissimilarity", "dissimilarity"]
