"""Attack CNN classifiers with FGSM, explain every layer with Grad-CAM, score the shift."""

import os

import lazy_loader

# Read by TensorFlow when it is first imported, from wherever: without it every start prints more
# notices.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

# Keras and TensorFlow take seconds to import: a name brings its module when it is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "models.classifiers": ["load"],
        "fgsm": ["perturb", "sign"],
        "gradcam": ["heatmaps", "layer_names", "resize"],
        "metrics": ["mod", "nissim", "psnr", "vid"],
        "networks": ["flatten"],
        "overlays": ["overlay"],
        "profiles": ["depth_profile"],
        "regions": ["shift"],
        "whole_model": ["dissimilarity"],
    },
)
