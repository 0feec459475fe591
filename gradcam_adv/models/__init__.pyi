from .backbones import BACKBONES, epsilon_unit
from .bases import build, calibrate_batch_norm
from .classifiers import load_model, save_model
from .training import train
from .weights import Weights, resolve

__all__ = [
    "BACKBONES",
    "Weights",
    "build",
    "calibrate_batch_norm",
    "epsilon_unit",
    "load_model",
    "resolve",
    "save_model",
    "train",
]
