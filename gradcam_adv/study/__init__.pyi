from ..app.pipeline import Pipeline
from .config import Study, parse, read
from .export import perturbed_set

__all__ = [
    "Pipeline",
    "Study",
    "parse",
    "perturbed_set",
    "read",
]
