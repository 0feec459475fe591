"""Attack CNN classifiers with FGSM, explain every layer with Grad-CAM, measure the shift.

Names are imported when they are first used, since Keras and its backend take seconds to import.
"""

import os

import lazy_loader

# TensorFlow reads this when it is first imported; without it every start prints more notices.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
