"""The paper's claims, in this project's words, each with its rules on paper and on a run."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from gradcam_adv.paper import on_paper, on_run
from gradcam_adv.paper.effects import Effect
from gradcam_adv.paper.evidence import Run
from gradcam_adv.paper.on_paper import PrintedRule
from gradcam_adv.paper.on_run import Findings
from gradcam_adv.study.config import Arm


@dataclass(frozen=True)
class Unit:
    """The unit of a claim's effects.

    Attributes:
        margin: a smaller effect counts as none.
        name: of the margin.
        scale, start, digits: an effect is shown as ``scale * (effect + start)``, so rounded.
    """

    margin: float
    name: str
    scale: int
    start: float
    digits: int

    def shown(self, effect: Effect) -> str:
        """An effect with its interval."""
        if math.isnan(effect.value):
            return "–"
        value, low, high = (
            "–" if math.isnan(n) else f"{self.scale * (n + self.start):.{self.digits}f}"
            for n in (effect.value, effect.low, effect.high)
        )
        return f"{value} [{low}, {high}]"


UNITS = {
    "points": Unit(on_run.ACCURACY_MARGIN, " points", scale=100, start=0.0, digits=1),
    "nissim": Unit(on_run.NISSIM_MARGIN, " of NISSIM", scale=1, start=0.0, digits=4),
    "auc": Unit(on_run.AUC_MARGIN, " of AUC", scale=1, start=0.5, digits=3),
    "length": Unit(on_run.DIRECTION_MARGIN, "", scale=1, start=0.0, digits=2),
}


@dataclass(frozen=True, kw_only=True)
class Claim:
    """Something that the paper says about its results, and how it is judged.

    Attributes:
        name: of the claim in tables and code.
        says: the claim, in this project's words.
        place: where the paper says it.
        rule: when the claim holds on a run and when it does not; :attr:`full_rule` adds what all
            rules share.
        find: the effects on a run; NotJudged if there are none.
        unit: of the effects, in :data:`UNITS`.
        on_paper: the rule on the paper's own tables; a text says what the paper does not print.
        compares: whether it compares networks with each other.
        both: whether it is about both arms together, not about each.
        absent: whether the claim is that there is no effect.
    """

    name: str
    says: str
    place: str
    rule: str
    find: Callable[[Run, Arm], Findings]
    unit: str
    on_paper: PrintedRule | str
    compares: bool = False
    both: bool = False
    absent: bool = False

    @property
    def full_rule(self) -> str:
        """The rule as the report prints it, with the margin and what all rules share."""
        if self.absent:
            return self.rule
        unit = UNITS[self.unit]
        margin = f"{unit.scale * unit.margin:g}{unit.name}"
        return f"{self.rule} An effect that is clearly less than {margin} counts against it."


_STEP = " It does not hold either if it clearly goes the other way between two epsilons."
CLAIMS = (
    Claim(
        name="accuracy_falls",
        says="The accuracy of every network falls as ε grows.",
        place="section 4.2, Tables 1 and 2",
        rule="Every network is right on fewer photos at the largest ε than on the clean ones."
        + _STEP,
        find=on_run.falls,
        unit="points",
        on_paper=PrintedRule(
            "As printed, every network's accuracy is lower at the largest ε than at 0, and no step "
            "up between is so large that McNemar's test could tell it, whatever photos it was. "
            "Inconclusive if Fisher's exact test does not tell a fall.",
            on_paper.accuracy_falls,
        ),
    ),
    Claim(
        name="transfer",
        says="The attack made on one network fools the others, too.",
        place="sections 4.1 and 4.2, Tables 1 and 2",
        rule=(
            "Every network but the attack's source is right on fewer photos at the largest ε "
            "than on the clean ones, and on fewer than under random signs of that ε."
        ),
        find=on_run.transfers,
        unit="points",
        on_paper=PrintedRule(
            "As printed, the accuracy of every network but ResNet50 is lower at the largest ε than "
            "at 0. Inconclusive if Fisher's exact test does not tell a fall.",
            on_paper.transfer,
        ),
    ),
    Claim(
        name="white_box",
        says="The attack made on a network itself fools every network.",
        place="sections 4.2 and 4.3.1",
        rule=(
            "Every network is right on fewer photos at the largest ε of the attack made on itself "
            "than on the clean ones."
        ),
        find=on_run.white_box,
        unit="points",
        on_paper="accuracy under the white-box attack",
    ),
    Claim(
        name="wide_fail_more",
        says="Wide networks fail more than deep ones as ε grows.",
        place="sections 4.2 and 5, Tables 1 and 2",
        rule=(
            "From the clean photos to the largest ε the accuracy of the wide networks falls "
            "more, on average, than that of the deep ones, the attack's source left out."
        ),
        find=on_run.wide_fall_more,
        unit="points",
        on_paper=PrintedRule(
            "As printed, the mean fall from ε = 0 to the largest is greater for the wide networks "
            "than for the deep ones, with ResNet50 and without.",
            on_paper.wide_fail_more,
        ),
        compares=True,
    ),
    Claim(
        name="preprocessing_helps",
        says="Aligning and cropping the faces gives every network some benefit.",
        place="section 4.2, Tables 1 and 2",
        rule=(
            "On the photos of both arms every network is right more often with the faces "
            "aligned, over all ε together. It does not hold either if a network is clearly right "
            "less often at any ε."
        ),
        find=on_run.aligned_helps,
        unit="points",
        on_paper=PrintedRule(
            "As printed, no network has a lower accuracy in Table 2 than in Table 1 at any ε.",
            on_paper.preprocessing_helps,
        ),
        both=True,
    ),
    Claim(
        name="preprocessing_keeps_trend",
        says="With the faces aligned and cropped the networks fail in the same way.",
        place="section 4.2, Tables 1 and 2",
        rule=(
            "In both arms every network's accuracy falls from the clean photos to the largest ε, "
            "and the same of wide and deep networks fall more on average."
        ),
        find=on_run.aligned_keeps_trend,
        unit="points",
        on_paper=PrintedRule(
            "As printed, every network's accuracy falls from ε = 0 to the largest in both "
            "tables, and the same of wide and deep networks fall more on average, with ResNet50 "
            "and without. Inconclusive if Fisher's exact test does not tell a fall.",
            on_paper.preprocessing_keeps_trend,
        ),
        compares=True,
        both=True,
    ),
    Claim(
        name="focus_shifts",
        says="The focus of every network shifts under attack.",
        place="abstract, sections 4.3.2 and 5, Table 3",
        rule=(
            "Every network's NISSIM under the attack, mean over ε > 0, is above that under random "
            "signs of the same ε (it is always above 0)."
        ),
        find=on_run.shifts_beyond_noise,
        unit="nissim",
        on_paper=PrintedRule("As printed, every MOD at ε > 0 is above 0.", on_paper.focus_shifts),
    ),
    Claim(
        name="mod_rises",
        says="MOD rises as ε grows.",
        place="section 4.4, Table 3",
        rule=(
            "Every network's MOD is greater at the largest ε than at the smallest above 0 (from "
            "ε = 0, where it is 0, it always rises)." + _STEP
        ),
        find=on_run.mod_rises,
        unit="nissim",
        on_paper=PrintedRule(
            "As printed, every network's MOD is greater at the largest ε than at the smallest "
            f"above 0, by more than {on_run.NISSIM_MARGIN:g}, and no step down is so large.",
            on_paper.mod_rises,
        ),
    ),
    Claim(
        name="wide_shift_more",
        says="The focus of wide networks shifts more than that of deep ones.",
        place="sections 4.5 and 5, Table 3",
        rule=(
            "NISSIM, mean over ε > 0, is on average greater with wide networks than with deep "
            "ones, the attack's source left out."
        ),
        find=on_run.wide_shift_more,
        unit="nissim",
        on_paper=PrintedRule(
            "As printed, the mean MOD over ε > 0 is greater for the wide networks than for the "
            "deep ones, with ResNet50 and without.",
            on_paper.wide_shift_more,
        ),
        compares=True,
    ),
    Claim(
        name="vgg16_shifts_least",
        says="VGG16's focus shifts least.",
        place="section 4.4, Table 3",
        rule=(
            "Every other network's NISSIM, mean over ε > 0, is above VGG16's, the attack's source "
            "left out."
        ),
        find=on_run.vgg16_shifts_least,
        unit="nissim",
        on_paper=PrintedRule(
            "As printed, VGG16's mean MOD over ε > 0 is the smallest.", on_paper.vgg16_shifts_least
        ),
        compares=True,
    ),
    Claim(
        name="vgg16_most_stable",
        says="VGG16 is the most stable network: it has the lowest VID.",
        place="sections 4.4 and 5, Figure 4",
        rule="Every other network's VID is above VGG16's, the attack's source left out.",
        find=on_run.vgg16_most_stable,
        unit="nissim",
        on_paper="VID; its Figure 4 is a picture",
        compares=True,
    ),
    Claim(
        name="shift_goes_with_failure",
        says="The more the heatmaps of a photo differ, the more likely the network fails on it.",
        place="sections 4.4 and 5",
        rule=(
            "For every network, of two photos right when clean the one that fails at an ε has "
            "the greater NISSIM at that ε more often than not (AUC above 0.5), the explained "
            "class held fixed."
        ),
        find=on_run.shift_goes_with_failure,
        unit="auc",
        on_paper="NISSIM of single photos",
    ),
    Claim(
        name="deep_better_at_similar_shift",
        says="For a similar shift deep networks do better than wide ones.",
        place="sections 4.4 and 4.5",
        rule=(
            "Among photos right when clean, wide networks fail more often than deep ones within "
            "the same tenth of NISSIM, the explained class held fixed and the attack's source "
            "left out."
        ),
        find=on_run.deep_better_at_similar_shift,
        unit="points",
        on_paper=PrintedRule(
            "As printed, over all pairs of a wide and a deep network, each at an ε > 0 where "
            f"their MODs differ by at most {on_paper.SIMILAR:g}, the wide network has lost more "
            "accuracy on average, with ResNet50 and without. Inconclusive with fewer than "
            f"{on_paper.FEW_PAIRS} pairs.",
            on_paper.deep_better_at_similar_shift,
        ),
        compares=True,
    ),
    Claim(
        name="focus_unpredictable",
        says="Where the focus moves cannot be predicted.",
        place="sections 1 and 4.5",
        rule=(
            "For every network the mean of the directions in which the focus moves at the "
            f"largest ε is shorter than {on_run.DIRECTION_MARGIN:g}. It does not hold if a "
            "network's directions clearly have one in common (Rayleigh's test)."
        ),
        find=on_run.directions,
        unit="length",
        on_paper="measure of where the focus moves",
        absent=True,
    ),
)
