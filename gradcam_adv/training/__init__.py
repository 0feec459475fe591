"""Training with attacks: what a network's attention does under attack while the network learns."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
