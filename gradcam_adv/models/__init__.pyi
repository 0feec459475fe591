from .backbones import BACKBONES, build
from .classifiers import load, save
from .weights import Weights, resolve

__all__ = [
    "BACKBONES",
    "Weights",
    "build",
    "load",
    "resolve",
    "save",
]
