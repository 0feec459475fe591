from .explainer import Explainer, Targets
from .gradcam import GradCAM
from .heatmaps import normalize, resize
from .tf_keras_vis import GradCAMPlusPlus, LayerCAM, ScoreCAM

__all__ = [
    "Explainer",
    "GradCAM",
    "GradCAMPlusPlus",
    "LayerCAM",
    "ScoreCAM",
    "Targets",
    "normalize",
    "resize",
]
