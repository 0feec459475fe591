from .attacks.fgsm import perturb, sign
from .explain.gradcam import heatmaps, layer_names, predict, resize
from .graph.network import flatten
from .metrics.nissim import mod, nissim, psnr, vid
from .metrics.regions import shift
from .models.classifiers import load
from .plots.depth import depth_profile
from .plots.overlays import overlay, sheet
from .robustness import dissimilarity

__all__ = [
    "depth_profile",
    "dissimilarity",
    "flatten",
    "heatmaps",
    "layer_names",
    "load",
    "mod",
    "nissim",
    "overlay",
    "perturb",
    "predict",
    "psnr",
    "resize",
    "sheet",
    "shift",
    "sign",
    "vid",
]
