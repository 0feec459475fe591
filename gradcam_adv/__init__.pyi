from . import attacks, data, explain, metrics, models, plots, study, training
from .attacks import FGSM, MIFGSM, PGD, PIFGSM, ExplanationAttack, RandomSigns, perturb
from .explain import GradCAM, GradCAMPlusPlus, LayerCAM, ScoreCAM
from .graph.flat import flatten
from .graph.layers import layer_names
from .graph.predictor import predict_logits
from .graph.verifier import verifier
from .models.classifiers import load_model
from .plots import depth_profile, flips, overlay
from .robustness import (
    Dissimilarity,
    Verification,
    dissimilarity,
    smallest_epsilons,
    verification,
)

__all__ = [
    "FGSM",
    "MIFGSM",
    "PGD",
    "PIFGSM",
    "Dissimilarity",
    "ExplanationAttack",
    "GradCAM",
    "GradCAMPlusPlus",
    "LayerCAM",
    "RandomSigns",
    "ScoreCAM",
    "Verification",
    "attacks",
    "data",
    "depth_profile",
    "dissimilarity",
    "explain",
    "flatten",
    "flips",
    "layer_names",
    "load_model",
    "metrics",
    "models",
    "overlay",
    "perturb",
    "plots",
    "predict_logits",
    "smallest_epsilons",
    "study",
    "training",
    "verification",
    "verifier",
]
