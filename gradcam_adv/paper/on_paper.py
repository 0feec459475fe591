"""What the paper's own printed tables say to its claims; as printed, for they have no intervals."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

from gradcam_adv import statistics
from gradcam_adv.models.backbones import BACKBONES
from gradcam_adv.paper import tables as paper

# MODs of Table 3 no further apart than this are "similar": a tenth of the range that it spans.
SIMILAR = 0.02
# By arm, the table of accuracies and the size of its test set.
TABLES = {
    "plain": (paper.TABLE_1, paper.TABLE_1_PHOTOS),
    "aligned": (paper.TABLE_2, paper.TABLE_2_PHOTOS),
}
NETWORKS = paper.DEEP + paper.WIDE
# Those that the paper's black-box attack was not made on, and the deep ones among them.
_ATTACKED = [network for network in NETWORKS if network != paper.SOURCE]
_DEEP_ATTACKED = [network for network in paper.DEEP if network != paper.SOURCE]
_FIVE = (
    "three deep and two wide networks, which chance alone sets apart in this way once in ten: "
    "this speaks for these five"
)


@dataclass(frozen=True)
class Printed:
    """What printed numbers say to a claim.

    Attributes:
        arm: "plain", "aligned", "both", or "not said" of Table 3.
        holds: whether the claim does; None where that hangs on whether ResNet50 counts, on which
            the attack was made.
        effect: the numbers.
        detail: what speaks against it, or what is to be known.
        rule: by which it was judged.
    """

    arm: str
    holds: bool | None
    effect: str
    detail: str
    rule: str


def accuracy_falls() -> list[Printed]:
    rule = (
        "As printed, every network's accuracy is lower at the largest ε than at 0, and no step "
        "up between is so large that McNemar's test could tell it, whatever photos it was."
    )
    found = []
    for arm, (table, photos) in TABLES.items():
        falls = table.iloc[0] - table.iloc[-1]
        rises = {
            f"{_title(network)} +{round(rise * photos)} of {photos} photos at ε = {level:g}": (
                statistics.mcnemar_p(round(rise * photos), 0)
            )
            for network in NETWORKS
            for level, rise in table[network].diff().items()
            if rise > 0
        }
        told = [p for p in rises.values() if p < statistics.SIGNIFICANCE]
        detail = f"steps up: {', '.join(rises)}" if rises else ""
        found.append(
            Printed(arm, bool((falls > 0).all()) and not told, _points(falls), detail, rule)
        )
    return found


def transfer() -> list[Printed]:
    rule = (
        "As printed, the accuracy of every network but ResNet50 is lower at the largest ε than "
        "at 0."
    )
    found = []
    for arm, (table, photos) in TABLES.items():
        falls = (table.iloc[0] - table.iloc[-1])[_ATTACKED]
        least = str(falls.idxmin())
        detail = (
            f"{_title(least)} loses {round(falls[least] * photos)} of {photos} photos; the paper "
            "prints no accuracy under random noise"
        )
        found.append(Printed(arm, bool((falls > 0).all()), _points(falls), detail, rule))
    return found


def wide_fail_more() -> list[Printed]:
    rule = (
        "As printed, the mean fall from ε = 0 to the largest is greater for the wide networks "
        "than for the deep ones, with ResNet50 and without."
    )
    return [
        Printed(arm, _agree(gaps), _with_and_without(gaps), _FIVE, rule)
        for arm, gaps in _gaps().items()
    ]


def preprocessing_helps() -> list[Printed]:
    rule = "As printed, no network has a lower accuracy in Table 2 than in Table 1 at any ε."
    gain = paper.TABLE_2 - paper.TABLE_1
    losses = [
        f"ε = {level:g}: {_titles(lower)}"
        for level in paper.EPSILONS
        if (lower := [n for n in NETWORKS if gain[n].loc[level] < 0])
    ]
    never = _titles([network for network in NETWORKS if (gain[network] < 0).all()])
    detail = (
        f"lower with preprocessing at {'; '.join(losses)}. Lower at every ε: {never}. The two "
        f"sets differ ({paper.TABLE_1_PHOTOS} and {paper.TABLE_2_PHOTOS} photos), so the photos "
        "are not paired"
    )
    return [Printed("both", not losses, f"at ε = 0: {_points(gain.iloc[0])}", detail, rule)]


def preprocessing_keeps_trend() -> list[Printed]:
    rule = (
        "As printed, every network's accuracy falls from ε = 0 to the largest in both tables, "
        "and the same of wide and deep networks fall more on average, with ResNet50 and without."
    )
    falling = all((table.iloc[0] > table.iloc[-1]).all() for table, _ in TABLES.values())
    signs = {gap > 0 for gaps in _gaps().values() for gap in gaps}
    effect = "; ".join(f"{arm}: {_with_and_without(gaps)}" for arm, gaps in _gaps().items())
    return [Printed("both", falling and len(signs) == 1, effect, _FIVE, rule)]


def focus_shifts() -> list[Printed]:
    rule = "As printed, every MOD at ε > 0 is above 0."
    attacked = _attacked_mods()
    detail = (
        "any change of a heatmap gives a MOD above 0, and the paper prints no MOD of random noise"
    )
    effect = f"MOD {attacked.min().min():.4f} to {attacked.max().max():.4f}"
    return [Printed("not said", bool((attacked.to_numpy() > 0).all()), effect, detail, rule)]


def mod_rises() -> list[Printed]:
    rule = "As printed, every network's MOD rises at every step of ε above 0."
    attacked = _attacked_mods()
    drops = [
        f"{_title(network)} falls from {attacked[network].loc[lower]:.4f} to "
        f"{attacked[network].loc[upper]:.4f} at ε = {upper:g}"
        for network in NETWORKS
        for lower, upper in itertools.pairwise(attacked.index)
        if attacked[network].loc[upper] <= attacked[network].loc[lower]
    ]
    detail = f"{'; '.join(drops)}; the paper prints no spread" if drops else ""
    rises = attacked.iloc[-1] - attacked.iloc[0]
    return [Printed("not said", not drops, _shifts(rises), detail, rule)]


def wide_shift_more() -> list[Printed]:
    rule = (
        "As printed, the mean MOD over ε > 0 is greater for the wide networks than for the deep "
        "ones, with ResNet50 and without."
    )
    gaps = _wide_less_deep(_attacked_mods().mean())
    effect = f"wide less deep {gaps[0]:.4f}, without ResNet50 {gaps[1]:.4f}"
    return [Printed("not said", _agree(gaps), effect, _FIVE, rule)]


def vgg16_shifts_least() -> list[Printed]:
    rule = "As printed, VGG16's mean MOD over ε > 0 is the smallest."
    attacked = _attacked_mods()
    below = [
        f"at ε = {level:g} {_titles(less)} shifts less"
        for level in attacked.index
        if (less := [n for n in NETWORKS if attacked[n].loc[level] < attacked["vgg16"].loc[level]])
    ]
    mean = attacked.mean()
    return [Printed("not said", mean.idxmin() == "vgg16", _shifts(mean), "; ".join(below), rule)]


def deep_better_at_similar_shift() -> list[Printed]:
    rule = (
        "As printed, over all pairs of a wide and a deep network, each at an ε > 0 where their "
        f"MODs differ by at most {SIMILAR:g}, the wide network has lost more accuracy on "
        "average, with ResNet50 and without."
    )
    found = []
    for arm, (table, _) in TABLES.items():
        pairs = [_similar_pairs(table, deep) for deep in (paper.DEEP, _DEEP_ATTACKED)]
        gaps = (sum(pairs[0]) / len(pairs[0]), sum(pairs[1]) / len(pairs[1]))
        other_way = " and ".join(f"{sum(gap < 0 for gap in of)} of {len(of)}" for of in pairs)
        detail = (
            f"{other_way} pairs (with ResNet50 and without) are the other way round; the paper "
            "does not say on which set it computed Table 3"
        )
        found.append(Printed(arm, _agree(gaps), _with_and_without(gaps), detail, rule))
    return found


def _similar_pairs(table: pd.DataFrame, deep: Sequence[str]) -> list[float]:
    """What a wide network lost in accuracy less what a deep one did, where MODs are similar."""
    mods = _attacked_mods()
    places = itertools.product(paper.WIDE, deep, mods.index, mods.index)
    return [
        (table[d].loc[at] - table[d].iloc[0]) - (table[w].loc[wide_at] - table[w].iloc[0])
        for w, d, wide_at, at in places
        if abs(mods[w].loc[wide_at] - mods[d].loc[at]) <= SIMILAR
    ]


# By the claims' names; a text is what the paper does not print.
FINDINGS: dict[str, Callable[[], list[Printed]] | str] = {
    "accuracy_falls": accuracy_falls,
    "transfer": transfer,
    "white_box": "accuracy under the white-box attack",
    "wide_fail_more": wide_fail_more,
    "preprocessing_helps": preprocessing_helps,
    "preprocessing_keeps_trend": preprocessing_keeps_trend,
    "focus_shifts": focus_shifts,
    "mod_rises": mod_rises,
    "wide_shift_more": wide_shift_more,
    "vgg16_shifts_least": vgg16_shifts_least,
    "vgg16_most_stable": "VID; its Figure 4 is a picture",
    "shift_goes_with_failure": "NISSIM of single photos",
    "deep_better_at_similar_shift": deep_better_at_similar_shift,
    "focus_unpredictable": "measure of where the focus moves",
}


def _title(network: str) -> str:
    return BACKBONES[network].title


def _titles(networks: Sequence[str]) -> str:
    return ", ".join(map(_title, networks))


def _points(values: pd.Series) -> str:
    shown = (f"{_title(str(name))} {100 * value:.1f}" for name, value in values.items())
    return f"{', '.join(shown)} points"


def _shifts(values: pd.Series) -> str:
    return ", ".join(f"{_title(str(name))} {value:.4f}" for name, value in values.items())


def _attacked_mods() -> pd.DataFrame:
    return paper.TABLE_3[paper.TABLE_3.index > 0]


def _wide_less_deep(values: pd.Series) -> tuple[float, float]:
    """Mean of the wide networks less that of the deep ones, with ResNet50 and without."""
    wide = float(values[list(paper.WIDE)].mean())
    return (
        wide - float(values[list(paper.DEEP)].mean()),
        wide - float(values[_DEEP_ATTACKED].mean()),
    )


def _gaps() -> dict[str, tuple[float, float]]:
    """By arm, the falls of the wide networks less those of the deep ones."""
    return {
        arm: _wide_less_deep(table.iloc[0] - table.iloc[-1]) for arm, (table, _) in TABLES.items()
    }


def _agree(gaps: tuple[float, float]) -> bool | None:
    """Whether both are above 0; None where only one is."""
    above = {gap > 0 for gap in gaps}
    return above.pop() if len(above) == 1 else None


def _with_and_without(gaps: tuple[float, float]) -> str:
    return f"wide less deep {100 * gaps[0]:.1f} points, without ResNet50 {100 * gaps[1]:.1f} points"
