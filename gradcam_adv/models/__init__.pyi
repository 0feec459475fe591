from .backbones import BACKBONES, build, calibrate_batch_norm, epsilon_unit
from .classifiers import load, save
from .training import train
from .weights import Weights, resolve

__all__ = [
    "BACKBONES",
    "Weights",
    "build",
    "calibrate_batch_norm",
    "epsilon_unit",
    "load",
    "resolve",
    "save",
    "train",
]
