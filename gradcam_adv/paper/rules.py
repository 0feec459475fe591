"""The rules by which the paper's claims are judged on a run, in words and as functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from gradcam_adv.paper import on_run as findings
from gradcam_adv.paper.evidence import Run
from gradcam_adv.paper.on_run import Findings
from gradcam_adv.study.config import Arm


@dataclass(frozen=True)
class Rule:
    """How a claim is judged on a run.

    Attributes:
        text: when it holds and when it does not; :func:`text_of` adds what all rules share.
        find: the effects, or why there are none.
        unit: of the effects.
        both: whether it is about both arms together and not about each.
        absent: whether the claim is that there is no effect.
    """

    text: str
    find: Callable[[Run, Arm], Findings | str]
    unit: Literal["points", "nissim", "auc", "length"]
    both: bool = False
    absent: bool = False


_STEP = " It does not hold either where it clearly goes the other way between two levels."
RULES = {
    "accuracy_falls": Rule(
        "Every network is right on fewer photos at the largest ε than on the clean ones." + _STEP,
        findings.falls,
        "points",
    ),
    "transfer": Rule(
        "Every network but the attack's source is right on fewer photos at the largest ε than on "
        "the clean ones, and on fewer than under random signs of that ε.",
        findings.transfers,
        "points",
    ),
    "white_box": Rule(
        "Every network is right on fewer photos at the largest ε of the attack made on itself "
        "than on the clean ones.",
        findings.white_box,
        "points",
    ),
    "wide_fail_more": Rule(
        "From the clean photos to the largest ε the accuracy of the wide networks falls more, on "
        "average, than that of the deep ones, the attack's source left out.",
        findings.wide_fall_more,
        "points",
    ),
    "preprocessing_helps": Rule(
        "On the photos of both arms every network is right more often with the faces aligned, "
        "over all ε together. It does not hold either where a network is clearly right less "
        "often at any one ε.",
        findings.aligned_helps,
        "points",
        both=True,
    ),
    "preprocessing_keeps_trend": Rule(
        "In both arms every network's accuracy falls from the clean photos to the largest ε, and "
        "the same of wide and deep networks fall more on average.",
        findings.aligned_keeps_trend,
        "points",
        both=True,
    ),
    "focus_shifts": Rule(
        "Every network's NISSIM under the attack, mean over ε > 0, is above that under random "
        "signs of the same ε (above 0 it always is).",
        findings.shifts_beyond_noise,
        "nissim",
    ),
    "mod_rises": Rule(
        "Every network's MOD is greater at the largest ε than at the smallest above 0 (to that "
        "it always rises: at ε = 0 it is 0)." + _STEP,
        findings.mod_rises,
        "nissim",
    ),
    "wide_shift_more": Rule(
        "NISSIM, mean over ε > 0, is on average greater with wide networks than with deep ones, "
        "the attack's source left out.",
        findings.wide_shift_more,
        "nissim",
    ),
    "vgg16_shifts_least": Rule(
        "Every other network's NISSIM, mean over ε > 0, is above VGG16's, the attack's source "
        "left out.",
        findings.vgg16_shifts_least,
        "nissim",
    ),
    "vgg16_most_stable": Rule(
        "Every other network's VID is above VGG16's, the attack's source left out.",
        findings.vgg16_most_stable,
        "nissim",
    ),
    "shift_goes_with_failure": Rule(
        "For every network, of two photos right when clean the one that fails at an ε has the "
        "greater NISSIM at that ε more often than not (AUC above 0.5), the explained class held "
        "fixed.",
        findings.shift_goes_with_failure,
        "auc",
    ),
    "deep_better_at_similar_shift": Rule(
        "Among photos right when clean, wide networks fail more often than deep ones within the "
        "same tenth of NISSIM, the explained class held fixed and the attack's source left out.",
        findings.deep_better_at_similar_shift,
        "points",
    ),
    "focus_unpredictable": Rule(
        "For every network the directions in which the focus moves at the largest ε have a mean "
        f"of length less than {findings.DIRECTION_MARGIN:g}. It does not hold where a network's "
        "directions clearly have one in common (Rayleigh).",
        findings.directions,
        "length",
        absent=True,
    ),
}
_MARGINS = {
    "points": findings.ACCURACY_MARGIN,
    "nissim": findings.NISSIM_MARGIN,
    "auc": findings.AUC_MARGIN,
    "length": findings.DIRECTION_MARGIN,
}


def text_of(rule: Rule) -> str:
    """The rule as the report prints it, with the margin and what all rules share."""
    margin = _MARGINS[rule.unit]
    if rule.absent:
        return rule.text
    shown = {
        "points": f"{100 * margin:g} points",
        "nissim": f"{margin:g} of NISSIM",
        "auc": f"{margin:g} of AUC",
        "length": f"{margin:g}",
    }[rule.unit]
    return f"{rule.text} An effect that is clearly less than {shown} counts against it."
