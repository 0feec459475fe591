"""The methods of adversarial training and their settings, checked without Keras."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from gradcam_adv.validation import check_choice


class Method(NamedTuple):
    """How the attacked images of a step are made, and which images the cross-entropy is about.

    Attributes:
        steps: of the attack.
        step_size: their length, in units of epsilon; None for 2.5 / steps.
        of_clean: whether the cross-entropy is of the clean images, and a KL term of the attacked.
    """

    steps: int
    step_size: float | None
    of_clean: bool


METHODS = {
    "fgsm-rs": Method(1, 1.25, of_clean=False),
    "pgd": Method(7, None, of_clean=False),
    "trades": Method(10, None, of_clean=True),
}
# What a training may be given beside the method, with the defaults.
DEFAULTS: dict[str, Any] = {"epsilon": 8 / 255, "steps": None, "beta": 6.0, "map_weight": 0.0}


def checked(
    method: str,
    *,
    epsilon: float = DEFAULTS["epsilon"],
    steps: int | None = DEFAULTS["steps"],
    beta: float = DEFAULTS["beta"],
    map_weight: float = DEFAULTS["map_weight"],
) -> Method:
    """The method with the number of steps given; ValueError for settings that make no sense.

    Example:
        >>> checked("pgd", steps=3).steps
        3
    """
    check_choice("method", method, list(METHODS))
    for name, number, least, most in (
        ("epsilon", epsilon, 0, 1),
        ("beta", beta, 0, math.inf),
        ("map_weight", map_weight, 0, math.inf),
    ):
        is_number = isinstance(number, int | float) and not isinstance(number, bool)
        if not is_number or not least <= number <= most or number == (0 if most == 1 else most):
            expected = "above 0, at most 1" if most == 1 else "as a number, 0 or more"
            raise ValueError(f"Expected {name} {expected}. Received: {number!r}")
    if steps is None:
        return METHODS[method]
    if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1 or method == "fgsm-rs":
        raise ValueError(
            "Expected steps as a whole number above 0, and none for fgsm-rs, which has one step. "
            f"Received: steps = {steps!r} for {method}"
        )
    return METHODS[method]._replace(steps=steps)
