from .fgsm import perturb, sign
from .gradcam import heatmaps, layer_names, predict, resize
from .metrics import mod, nissim, psnr, vid
from .models.classifiers import load
from .networks import flatten
from .overlays import overlay, sheet
from .profiles import depth_profile
from .regions import shift
from .whole_model import dissimilarity

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
