from .export import perturbed_set
from .pipeline import Pipeline
from .study import Study, parse, read

__all__ = [
    "Pipeline",
    "Study",
    "parse",
    "perturbed_set",
    "read",
]
