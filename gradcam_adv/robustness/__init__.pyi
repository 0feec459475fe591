from .measurement import EPSILONS, Dissimilarity, dissimilarity
from .smallest import smallest_epsilons
from .verification import Verification, verification

__all__ = [
    "EPSILONS",
    "Dissimilarity",
    "Verification",
    "dissimilarity",
    "smallest_epsilons",
    "verification",
]
