from .config import parse, read
from .export import perturbed_set
from .plan import Plan, make_plan
from .settings import Study

__all__ = [
    "Plan",
    "Study",
    "make_plan",
    "parse",
    "perturbed_set",
    "read",
]
