"""A study from its TOML file to its tables: its stages, and the plan of all its tasks."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
