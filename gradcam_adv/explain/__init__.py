"""Explanations: Grad-CAM of all layers in one pass, and tf-keras-vis' methods layer by layer."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
