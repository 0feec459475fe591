from .fgsm import FGSM
from .noise import RandomSigns
from .perturbations import Attack, Perturbations, SignPerturbations, perturb

__all__ = [
    "FGSM",
    "Attack",
    "Perturbations",
    "RandomSigns",
    "SignPerturbations",
    "perturb",
]
