"""The whole measurement of a model: how far its heatmaps move under an attack."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
