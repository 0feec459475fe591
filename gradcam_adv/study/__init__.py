"""A study from its TOML file to its tables: stages as pure functions, and who runs them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
