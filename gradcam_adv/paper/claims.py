"""The paper's claims, in this project's words, each with its rules on paper and on a run."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from gradcam_adv.paper import on_paper, on_run
from gradcam_adv.paper.effects import Effect
from gradcam_adv.paper.on_paper import PrintedRule
from gradcam_adv.paper.on_run import Findings
from gradcam_adv.study.attacks import WHITE_BOX


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
    "points": Unit(on_run.SHARE_MARGIN, " points", scale=100, start=0.0, digits=1),
    "nissim": Unit(on_run.NISSIM_MARGIN, " of NISSIM", scale=1, start=0.0, digits=4),
    "auc": Unit(on_run.AUC_MARGIN, " of AUC", scale=1, start=0.5, digits=3),
    "length": Unit(on_run.DIRECTION_MARGIN, "", scale=1, start=0.0, digits=2),
    "doublings": Unit(on_run.AREA_MARGIN, " doublings of the area", scale=1, start=0.0, digits=3),
    "heat": Unit(on_run.SHARE_MARGIN, " of the heat", scale=1, start=0.0, digits=3),
    "correlation": Unit(on_run.CORRELATION_MARGIN, " of r", scale=1, start=0.0, digits=2),
}


@dataclass(frozen=True, kw_only=True)
class Claim:
    """Something that the paper says about its results, and how it is judged.

    Attributes:
        name: of the claim in tables and code.
        title: in a few words, at most 47 characters, which is what fits on the first screen.
        says: the claim, in this project's words.
        place: where the paper says it.
        rule: when the claim holds on a run and when it does not; :attr:`full_rule` adds what all
            rules share.
        find: the effects on a run; NotJudged if there are none.
        unit: of the effects, in :data:`UNITS`.
        on_paper: the rule on the paper's own tables; a text says what the paper does not print.
        compares: whether it compares networks with each other.
        own_attack: whether each network is attacked by its own, the white-box attack.
        both: whether it is about both arms together, not about each.
        absent: whether the claim is that there is no effect.
    """

    name: str
    title: str
    says: str
    place: str
    rule: str
    find: Callable[..., Findings]
    unit: str
    on_paper: PrintedRule | str
    compares: bool = False
    own_attack: bool = False
    both: bool = False
    absent: bool = False

    @property
    def full_rule(self) -> str:
        """The rule as the report prints it, with the margin and what all rules share."""
        if self.absent:
            return self.rule
        unit = UNITS[self.unit]
        margin = f"{unit.scale * unit.margin:g}{unit.name}"
        left_out = self.compares and not self.own_attack
        sentences = (
            self.rule,
            "The attack's source is left out." if left_out else "",
            f"An effect that is clearly less than {margin} counts against it.",
        )
        return " ".join(filter(None, sentences))


def _also_own_attack(claim: Claim, not_printed: str) -> tuple[Claim, Claim]:
    """A claim on networks under an attack from one of them, and under attacks that are alike.

    Under its own attack no network is left out, so two are enough.
    """
    own = replace(
        claim,
        name=f"{claim.name}_own_attack",
        title=f"{claim.title} (own attack)",
        says=f"Under their own attacks: {claim.says}",
        find=functools.partial(claim.find, attack=WHITE_BOX),
        on_paper=f"{not_printed} under the white-box attack",
        own_attack=True,
    )
    return claim, own


_STEP = " It does not hold either if it clearly goes the other way between two epsilons."
_FISHER = " Inconclusive if Fisher's exact test does not tell a fall."
_NO_FACES = "measure of where on the face heatmaps are"

CLAIMS = (
    Claim(
        name="accuracy_falls",
        title="Accuracy falls as ε grows",
        says="The accuracy of every network falls as ε grows.",
        place="section 4.2, Tables 1 and 2",
        rule="Every network is right on fewer photos at the largest ε than on the clean ones."
        + _STEP,
        find=on_run.falls,
        unit="points",
        on_paper=PrintedRule(
            "As printed, every network's accuracy is lower at the largest ε than at 0, and no step "
            "up between is so large that McNemar's test could tell it, whatever photos it was."
            + _FISHER,
            on_paper.accuracy_falls,
        ),
    ),
    Claim(
        name="transfer",
        title="The attack fools other networks",
        says="The attack made on one network fools the others, too.",
        place="sections 4.1 and 4.2, Tables 1 and 2",
        rule="Every network but the attack's source is right on fewer photos at the largest ε "
        "than on the clean ones, and on fewer than under random signs of that ε.",
        find=on_run.transfers,
        unit="points",
        on_paper=PrintedRule(
            "As printed, the accuracy of every network but ResNet50 is lower at the largest ε than "
            "at 0." + _FISHER,
            on_paper.transfer,
        ),
    ),
    Claim(
        name="white_box",
        title="The attack fools its own network",
        says="The attack made on a network itself fools every network.",
        place="sections 4.2 and 4.3.1",
        rule="Every network is right on fewer photos at the largest ε of the attack made on itself "
        "than on the clean ones.",
        find=on_run.white_box,
        unit="points",
        on_paper="accuracy under the white-box attack",
    ),
    *_also_own_attack(
        Claim(
            name="wide_fail_more",
            title="Wide networks fail more than deep",
            says="Wide networks fail more than deep ones as ε grows.",
            place="sections 4.2 and 5, Tables 1 and 2",
            rule="From the clean photos to the largest ε the accuracy of the wide networks falls "
            "more, on average, than that of the deep ones.",
            find=on_run.wide_fall_more,
            unit="points",
            on_paper=PrintedRule(
                "As printed, the mean fall from ε = 0 to the largest is greater for the wide "
                "networks than for the deep ones, with ResNet50 and without.",
                on_paper.wide_fail_more,
            ),
            compares=True,
        ),
        "accuracy",
    ),
    *_also_own_attack(
        Claim(
            name="vgg16_fails_least",
            title="VGG16 fails least",
            says="VGG16 is the least likely to fail.",
            place="section 4.4: 'Since the shift was smaller, the model was less likely to fail'",
            rule="From the clean photos to the largest ε the accuracy of every other network falls "
            "more than VGG16's.",
            find=on_run.vgg16_falls_least,
            unit="points",
            on_paper=PrintedRule(
                "As printed, VGG16's fall from ε = 0 to the largest is the smallest.",
                on_paper.vgg16_fails_least,
            ),
            compares=True,
        ),
        "accuracy",
    ),
    Claim(
        name="preprocessing_helps",
        title="Aligning the faces helps every network",
        says="Aligning and cropping the faces gives every network some benefit.",
        place="section 4.2, Tables 1 and 2",
        rule="On the photos of both arms every network is right more often with the faces "
        "aligned, over all ε together. It does not hold either if a network is clearly right less "
        "often at any ε.",
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
        title="Aligned, networks fail in the same way",
        says="With the faces aligned and cropped the networks fail in the same way.",
        place="section 4.2, Tables 1 and 2",
        rule="In both arms every network's accuracy falls from the clean photos to the largest ε, "
        "and the same of wide and deep networks fall more on average.",
        find=on_run.aligned_keeps_trend,
        unit="points",
        on_paper=PrintedRule(
            "As printed, every network's accuracy falls from ε = 0 to the largest in both "
            "tables, and the same of wide and deep networks fall more on average, with ResNet50 "
            "and without." + _FISHER,
            on_paper.preprocessing_keeps_trend,
        ),
        compares=True,
        both=True,
    ),
    Claim(
        name="focus_shifts",
        title="The focus of every network shifts",
        says="The focus of every network shifts under attack.",
        place="abstract, sections 4.3.2 and 5, Table 3",
        rule="Every network's NISSIM under the attack, mean over ε > 0, is above that under random "
        "signs of the same ε (it is always above 0).",
        find=on_run.shifts_beyond_noise,
        unit="nissim",
        on_paper=PrintedRule("As printed, every MOD at ε > 0 is above 0.", on_paper.focus_shifts),
    ),
    Claim(
        name="mod_rises",
        title="MOD rises as ε grows",
        says="MOD rises as ε grows.",
        place="section 4.4, Table 3",
        rule="Every network's MOD is greater at the largest ε than at the smallest above 0 (from "
        "ε = 0, where it is 0, it always rises)." + _STEP,
        find=on_run.mod_rises,
        unit="nissim",
        on_paper=PrintedRule(
            "As printed, every network's MOD is greater at the largest ε than at the smallest "
            f"above 0, by more than {on_run.NISSIM_MARGIN:g}, and no step down is so large.",
            on_paper.mod_rises,
        ),
    ),
    Claim(
        name="shifts_left",
        title="Distributions shift to the left",
        says="As ε grows, the distributions of all networks but VGG16 shift to the left.",
        place="section 4.4, Figure 4: 'the distribution for the other models is scattered and "
        "shifts to the left'",
        rule="MOD of every network but VGG16 is smaller at the largest ε than at the smallest "
        "above 0: it is the mean of the distribution of NISSIM.",
        find=on_run.shifts_left,
        unit="nissim",
        on_paper=PrintedRule(
            "As printed, MOD of every network but VGG16 is smaller at the largest ε than at the "
            "smallest above 0.",
            on_paper.shifts_left,
        ),
    ),
    *_also_own_attack(
        Claim(
            name="wide_shift_more",
            title="Focus of wide networks shifts more",
            says="The focus of wide networks shifts more than that of deep ones.",
            place="sections 4.5 and 5, Table 3",
            rule="NISSIM, mean over ε > 0, is on average greater with wide networks than with deep "
            "ones.",
            find=on_run.wide_shift_more,
            unit="nissim",
            on_paper=PrintedRule(
                "As printed, the mean MOD over ε > 0 is greater for the wide networks than for the "
                "deep ones, with ResNet50 and without.",
                on_paper.wide_shift_more,
            ),
            compares=True,
        ),
        "MOD",
    ),
    *_also_own_attack(
        Claim(
            name="vgg16_shifts_least",
            title="VGG16's focus shifts least",
            says="VGG16's focus shifts least.",
            place="section 4.4, Table 3",
            rule="Every other network's NISSIM, mean over ε > 0, is above VGG16's.",
            find=functools.partial(on_run.shifts_least, network="vgg16"),
            unit="nissim",
            on_paper=PrintedRule(
                "As printed, VGG16's mean MOD over ε > 0 is the smallest.",
                on_paper.vgg16_shifts_least,
            ),
            compares=True,
        ),
        "MOD",
    ),
    Claim(
        name="resnet101_shifts_least",
        title="ResNet101's focus shifts least (own attack)",
        says="Under its own attack ResNet101's focus shifts least.",
        place="section 4.3.1, Figure 8: 'some observable region shifts, but overall much less'",
        rule="Every other network's NISSIM under its own attack, mean over ε > 0, is above "
        "ResNet101's.",
        find=functools.partial(on_run.shifts_least, network="resnet101", attack=WHITE_BOX),
        unit="nissim",
        on_paper=on_paper.of_another_attack("least"),
        compares=True,
        own_attack=True,
    ),
    Claim(
        name="inceptionv3_shifts_most",
        title="InceptionV3's shifts most (own attack)",
        says="Under its own attack InceptionNet v3's focus shifts most.",
        place="section 4.3.1, Figure 9: 'the overall shifting is much higher for this model'",
        rule="InceptionNet v3's NISSIM under its own attack, mean over ε > 0, is above every other "
        "network's.",
        find=functools.partial(on_run.shifts_most, network="inceptionv3", attack=WHITE_BOX),
        unit="nissim",
        on_paper=on_paper.of_another_attack("most"),
        compares=True,
        own_attack=True,
    ),
    Claim(
        name="inceptionv3_inverts",
        title="InceptionV3's focus is partly inverted",
        says="As ε grows, InceptionNet v3's focus is partly inverted.",
        place="section 4.3.1, Figure 9: 'we even see focus regions getting inverted'",
        rule="At the largest ε of the attack made on it more of InceptionNet v3's heatmaps "
        "correlate negatively with the clean ones than under random signs, and more than at the "
        "smallest ε above 0.",
        find=on_run.inception_inverts,
        unit="points",
        on_paper="correlation of heatmaps",
    ),
    *_also_own_attack(
        Claim(
            name="vgg16_most_stable",
            title="VGG16 has the lowest VID",
            says="VGG16 is the most stable network: it has the lowest VID.",
            place="sections 4.4 and 5, Figure 4",
            rule="Every other network's VID is above VGG16's.",
            find=on_run.vgg16_most_stable,
            unit="nissim",
            on_paper="VID over photos; its Figure 4 is a picture",
            compares=True,
        ),
        "VID",
    ),
    *_also_own_attack(
        Claim(
            name="vgg16_mod_most_stable",
            title="VGG16 has the lowest VID of MOD",
            says="VGG16 is the most stable network: it has the lowest VID of MOD.",
            place="sections 4.4 and 5, Table 3",
            rule="VID of MOD, the standard deviation of MOD over ε, is greater for every other "
            "network than for VGG16: equations 3 and 4 have no index of the photo.",
            find=on_run.vgg16_mod_most_stable,
            unit="nissim",
            on_paper=PrintedRule(
                "As printed, the standard deviation of MOD over ε > 0 is the smallest for VGG16.",
                on_paper.vgg16_mod_most_stable,
            ),
            compares=True,
        ),
        "MOD",
    ),
    Claim(
        name="shift_goes_with_failure",
        title="Photos that shift more fail more",
        says="The more the heatmaps of a photo differ, the more likely the network fails on it.",
        place="sections 4.4 and 5",
        rule="For every network, of two photos right when clean the one that fails at an ε has the "
        "greater NISSIM at that ε more often than not (AUC above 0.5), the explained class held "
        "fixed.",
        find=on_run.shift_goes_with_failure,
        unit="auc",
        on_paper="NISSIM of single photos",
    ),
    Claim(
        name="mod_goes_with_failure",
        title="Greater MOD, more accuracy lost",
        says="Where MOD is greater, more accuracy is lost.",
        place="section 4.4: 'the more the examples differ, the more likely the model will fail'",
        rule="Over all networks and ε > 0, MOD and the fall in accuracy have a correlation above "
        "0; and so they have with the mean at each ε taken off, for both rise with ε.",
        find=on_run.cells_go_with_failure,
        unit="correlation",
        on_paper=PrintedRule(
            "As printed, over the cells Spearman's ρ of MOD and the fall in accuracy is clearly "
            "above 0; and so is their correlation with the mean at each ε taken off; with ResNet50 "
            "and without.",
            on_paper.mod_goes_with_failure,
        ),
        compares=True,
    ),
    Claim(
        name="deep_better_at_similar_shift",
        title="For a similar shift deep does better",
        says="For a similar shift deep networks do better than wide ones.",
        place="sections 4.4 and 4.5",
        rule="Among photos right when clean, wide networks fail more often than deep ones within "
        "the same tenth of NISSIM, the explained class held fixed.",
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
        name="regions_drop_and_join",
        title="Parts of the region drop out, others join",
        says="Parts of the region of attention drop out, and others join.",
        place="sections 1 and 4.5: 'the participation is discarded in decision making, and some "
        "other parts start playing a role'",
        rule="Every network's region loses and gains greater shares under the attack, mean over "
        "ε > 0, than under random signs of the same ε.",
        find=on_run.regions_drop_and_join,
        unit="points",
        on_paper="measure of what the region loses and gains",
    ),
    Claim(
        name="regions_resize",
        title="The region expands or shrinks",
        says="The region of attention expands or shrinks.",
        place="sections 4.3.1 and 4.5: 'participation region expands or shrinks'",
        rule="The area of every network's region changes by more doublings or halvings under the "
        "attack, mean over ε > 0, than under random signs of the same ε.",
        find=on_run.regions_resize,
        unit="doublings",
        on_paper="area of the region",
    ),
    Claim(
        name="background_highlighted",
        title="Background gets highlighted",
        says="Background gets highlighted under attack.",
        place="sections 4.3.1 (XceptionNet) and 4.5: 'sometimes backgrounds get highlighted'",
        rule="A greater share of every network's heat is outside the face under the attack, mean "
        "over ε > 0, than on clean photos, and than under random signs. The face is MTCNN's box; "
        "of an aligned photo, all but the margin.",
        find=on_run.background_highlighted,
        unit="points",
        on_paper=_NO_FACES,
    ),
    Claim(
        name="inceptionv3_on_forehead",
        title="InceptionV3 looks at the forehead",
        says="InceptionNet v3 looks at the forehead rather than the face.",
        place="section 4.3.1, Figure 9: 'the focus was more on forehead than face'",
        rule="On clean photos InceptionNet v3's heatmaps are on average hotter in the part of the "
        "face above the eyes than in the rest of it.",
        find=on_run.inception_on_forehead,
        unit="heat",
        on_paper=_NO_FACES,
    ),
    Claim(
        name="focus_unpredictable",
        title="Where the focus moves is unpredictable",
        says="Where the focus moves cannot be predicted.",
        place="sections 1 and 4.5",
        rule="For every network the mean of the directions in which the focus moves at the largest "
        f"ε is shorter than {on_run.DIRECTION_MARGIN:g}. It does not hold if a network's "
        "directions clearly have one in common (Rayleigh's test), and more so than under random "
        "signs.",
        find=on_run.directions,
        unit="length",
        on_paper="measure of where the focus moves",
        absent=True,
    ),
)
