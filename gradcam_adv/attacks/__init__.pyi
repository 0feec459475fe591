from .explanation import ExplanationAttack
from .fgsm import FGSM
from .from_art import AutoPGD, Square
from .momentum import MIFGSM
from .names import make
from .noise import RandomSigns
from .patchwise import PIFGSM
from .perturbations import (
    Attack,
    Perturbations,
    ScaledPerturbations,
    SignPerturbations,
    perturb,
)
from .pgd import PGD

__all__ = [
    "FGSM",
    "MIFGSM",
    "PGD",
    "PIFGSM",
    "Attack",
    "AutoPGD",
    "ExplanationAttack",
    "Perturbations",
    "RandomSigns",
    "ScaledPerturbations",
    "SignPerturbations",
    "Square",
    "make",
    "perturb",
]
