"""Attack CNN classifiers with FGSM, explain every layer with Grad-CAM, score the shift."""

import os

import lazy_loader

# Read by TensorFlow when it is first imported, from wherever: without it every start prints more
# notices.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

# Keras and TensorFlow take seconds to import: a name of __init__.pyi brings its module when it is
# first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
