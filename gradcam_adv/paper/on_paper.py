"""The claims on the paper's own tables, as printed; printed numbers have no intervals."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd
import scipy.stats

from gradcam_adv import statistics
from gradcam_adv.models.backbones import title, titles
from gradcam_adv.paper import printed as paper
from gradcam_adv.paper.on_run import NISSIM_MARGIN

# MODs of Table 3 that differ by at most this are "similar": about a tenth of their range.
SIMILAR = 0.02
# With fewer similar pairs than this nothing is said.
FEW_PAIRS = 10
NETWORKS = paper.DEEP + paper.WIDE
# Without the source of the paper's black-box attack: all, and the deep ones.
_OTHERS = [network for network in NETWORKS if network != paper.SOURCE]
_OTHER_DEEP = [network for network in paper.DEEP if network != paper.SOURCE]
_FIVE = (
    "three deep and two wide networks, which chance alone would separate in this way once in ten "
    "times: this is about these five only"
)
_ONE_VALUE = "this reading of VID has one value a network, and so no spread over photos"


@dataclass(frozen=True)
class Printed:
    """What printed numbers say about a claim.

    Attributes:
        arm: "plain", "aligned", "both", or "not said" for Table 3.
        holds: whether the claim holds; None if the numbers do not tell, or if it depends on whether
            ResNet50 counts, on which the attack was made.
        effect: the numbers.
        detail: what contradicts the claim, or a note.
    """

    arm: str
    holds: bool | None
    effect: str
    detail: str


@dataclass(frozen=True)
class PrintedRule:
    """How a claim is judged on printed numbers, in words and as a function."""

    text: str
    find: Callable[[], list[Printed]]


def accuracy_falls() -> list[Printed]:
    found = []
    for arm, printed in paper.ACCURACIES.items():
        rises = {
            f"{title(network)} +{round(rise * printed.photos)} of {printed.photos} photos at "
            f"ε = {level:g}": statistics.mcnemar_p(round(rise * printed.photos), 0)
            for network in NETWORKS
            for level, rise in printed.table[network].diff().items()
            if rise > 0
        }
        told = any(p < statistics.SIGNIFICANCE for p in rises.values())
        unclear = _unclear_falls(printed, NETWORKS)
        steps = f"steps up: {', '.join(rises)}" if rises else ""
        holds = False if told else _all_fall(printed, NETWORKS)
        detail = "; ".join(filter(None, (unclear, steps)))
        found.append(Printed(arm, holds, _points(_fall(printed.table)), detail))
    return found


def transfer() -> list[Printed]:
    found = []
    for arm, printed in paper.ACCURACIES.items():
        unclear = _unclear_falls(printed, _OTHERS)
        without = "the paper prints no accuracy under random noise"
        detail = "; ".join(filter(None, (unclear, without)))
        effect = _points(_fall(printed.table)[_OTHERS])
        found.append(Printed(arm, _all_fall(printed, _OTHERS), effect, detail))
    return found


def wide_fail_more() -> list[Printed]:
    return [
        Printed(arm, _agree(gaps), _with_and_without(gaps), _FIVE) for arm, gaps in _gaps().items()
    ]


def vgg16_fails_least() -> list[Printed]:
    falls = {arm: _fall(printed.table) for arm, printed in paper.ACCURACIES.items()}
    return [
        Printed(arm, fall.idxmin() == "vgg16", _points(fall), "") for arm, fall in falls.items()
    ]


def preprocessing_helps() -> list[Printed]:
    gain = paper.TABLE_2 - paper.TABLE_1
    losses = [
        f"ε = {level:g}: {titles(lower)}"
        for level in paper.EPSILONS
        if (lower := [n for n in NETWORKS if gain[n].loc[level] < 0])
    ]
    never = titles([network for network in NETWORKS if (gain[network] < 0).all()])
    sizes = " and ".join(str(printed.photos) for printed in paper.ACCURACIES.values())
    detail = (
        f"lower with preprocessing at {'; '.join(losses)}. Lower at every ε: {never}. The two "
        f"sets differ ({sizes} photos), so the photos are not paired"
    )
    return [Printed("both", not losses, f"at ε = 0: {_points(gain.iloc[0])}", detail)]


def preprocessing_keeps_trend() -> list[Printed]:
    falls = {_all_fall(printed, NETWORKS) for printed in paper.ACCURACIES.values()}
    signs = {gap > 0 for gaps in _gaps().values() for gap in gaps}
    holds = None if None in falls else True
    if False in falls or len(signs) > 1:
        holds = False
    effect = "; ".join(f"{arm}: {_with_and_without(gaps)}" for arm, gaps in _gaps().items())
    unclear = [_unclear_falls(printed, NETWORKS) for printed in paper.ACCURACIES.values()]
    return [Printed("both", holds, effect, "; ".join(filter(None, (*unclear, _FIVE))))]


def focus_shifts() -> list[Printed]:
    attacked = _attacked_mods().to_numpy()
    detail = (
        "any change of a heatmap gives a MOD above 0, and the paper prints no MOD of random noise"
    )
    effect = f"MOD {attacked.min():.4f} to {attacked.max():.4f}"
    return [Printed("not said", bool((attacked > 0).all()), effect, detail)]


def mod_rises() -> list[Printed]:
    attacked = _attacked_mods()
    drops = [
        f"{title(network)} falls from {attacked[network].loc[lower]:.4f} to "
        f"{attacked[network].loc[upper]:.4f} at ε = {upper:g}"
        for network in NETWORKS
        for lower, upper in itertools.pairwise(attacked.index)
        if attacked[network].loc[upper] <= attacked[network].loc[lower]
    ]
    rises = -_fall(attacked)
    holds = bool(
        (rises > NISSIM_MARGIN).all() and (attacked.diff().iloc[1:] > -NISSIM_MARGIN).all(axis=None)
    )
    detail = f"{'; '.join(drops)}; the paper prints no spread" if drops else ""
    return [Printed("not said", holds, _shifts(rises), detail)]


def shifts_left() -> list[Printed]:
    falls = _fall(_attacked_mods().drop(columns="vgg16"))
    rising = titles([str(network) for network in falls.index[falls < 0]])
    detail = f"Table 3 has the means of these distributions, and they rise for {rising}"
    holds = bool((falls > 0).all())
    return [Printed("not said", holds, _shifts(falls), detail if rising else "")]


def wide_shift_more() -> list[Printed]:
    gaps = _wide_less_deep(_attacked_mods().mean())
    effect = f"wide less deep {gaps[0]:.4f}, without ResNet50 {gaps[1]:.4f}"
    return [Printed("not said", _agree(gaps), effect, _FIVE)]


def vgg16_shifts_least() -> list[Printed]:
    attacked = _attacked_mods()
    below = [
        f"at ε = {level:g} {titles(less)} shifts less"
        for level, mods in attacked.iterrows()
        if (less := [network for network in NETWORKS if mods[network] < mods["vgg16"]])
    ]
    mean = attacked.mean()
    return [Printed("not said", mean.idxmin() == "vgg16", _shifts(mean), "; ".join(below))]


def vgg16_mod_most_stable() -> list[Printed]:
    deviations = paper.vid_of_mod()
    return [Printed("not said", deviations.idxmin() == "vgg16", _shifts(deviations), _ONE_VALUE)]


def of_another_attack(which: Literal["least", "most"]) -> str:
    """What the paper does not print on a claim about the white-box attack, and what Table 3 has."""
    means = _attacked_mods().mean()
    network = means.idxmin() if which == "least" else means.idxmax()
    return (
        "MOD under the white-box attack; under the black-box one, in Table 3, "
        f"{title(str(network))} shifts {which}"
    )


def mod_goes_with_failure() -> list[Printed]:
    found = []
    for arm, printed in paper.ACCURACIES.items():
        lost = printed.table.iloc[0] - printed.table.iloc[1:]
        parts, holds = [], True
        for networks, name in ((NETWORKS, "with ResNet50"), (_OTHERS, "without")):
            both = [table[list(networks)] for table in (_attacked_mods(), lost)]
            cells = scipy.stats.spearmanr(*(table.to_numpy().ravel() for table in both))
            centred = [table.sub(table.mean(axis=1), axis=0).to_numpy().ravel() for table in both]
            within = scipy.stats.pearsonr(*centred).statistic
            clear = cells.pvalue < statistics.SIGNIFICANCE and cells.statistic > 0
            holds = holds and bool(clear and within > 0)
            parts.append(f"{name} ρ {cells.statistic:.2f}, within one ε r {within:.2f}")
        detail = "the cells of one network are not independent, so p is too small"
        found.append(Printed(arm, holds, "; ".join(parts), detail))
    return found


def deep_better_at_similar_shift() -> list[Printed]:
    found = []
    for arm, printed in paper.ACCURACIES.items():
        pairs = [_similar_pairs(printed.table, deep) for deep in (paper.DEEP, _OTHER_DEEP)]
        gaps = (sum(pairs[0]) / len(pairs[0]), sum(pairs[1]) / len(pairs[1]))
        enough = min(map(len, pairs)) >= FEW_PAIRS
        other_way = " and ".join(f"{sum(gap < 0 for gap in of)} of {len(of)}" for of in pairs)
        detail = (
            f"{other_way} pairs (with ResNet50 and without) are the other way round; the paper "
            "does not say on which set it computed Table 3"
        )
        if not enough:
            detail = f"fewer than {FEW_PAIRS} pairs without ResNet50; {detail}"
        holds = _agree(gaps) if enough else None
        found.append(Printed(arm, holds, _with_and_without(gaps), detail))
    return found


def _similar_pairs(table: pd.DataFrame, deep: Sequence[str]) -> list[float]:
    """What a wide network lost in accuracy less what a deep one did, where MODs are similar."""
    mods, change = _attacked_mods(), table - table.iloc[0]
    places = itertools.product(paper.WIDE, deep, mods.index, mods.index)
    return [
        change[d].loc[at] - change[w].loc[wide_at]
        for w, d, wide_at, at in places
        if abs(mods[w].loc[wide_at] - mods[d].loc[at]) <= SIMILAR
    ]


def _all_fall(printed: paper.PrintedAccuracies, networks: Sequence[str]) -> bool | None:
    """Whether all accuracies fall from ε = 0 to the largest; None if chance may explain a fall."""
    if not (_fall(printed.table)[list(networks)] > 0).all():
        return False
    return None if _unclear_falls(printed, networks) else True


def _unclear_falls(printed: paper.PrintedAccuracies, networks: Sequence[str]) -> str:
    """The networks that lose too few photos for Fisher's exact test, and how many.

    Which photos are lost is not printed, so the two numbers count as of different photos.
    """
    found = []
    for network in networks:
        right = (printed.table[network].iloc[[0, -1]] * printed.photos).round().astype(int)
        p = scipy.stats.fisher_exact([[n, printed.photos - n] for n in right]).pvalue
        if p >= statistics.SIGNIFICANCE:
            lost = right.iloc[0] - right.iloc[1]
            found.append(f"{title(network)} loses {lost} of {printed.photos} photos (p = {p:.2f})")
    return "; ".join(found)


def _fall(table: pd.DataFrame) -> pd.Series:
    return table.iloc[0] - table.iloc[-1]


def _points(values: pd.Series) -> str:
    shown = (f"{title(str(name))} {100 * value:.1f}" for name, value in values.items())
    return f"{', '.join(shown)} points"


def _shifts(values: pd.Series) -> str:
    return ", ".join(f"{title(str(name))} {value:.4f}" for name, value in values.items())


def _attacked_mods() -> pd.DataFrame:
    return paper.TABLE_3[paper.TABLE_3.index > 0]


def _wide_less_deep(values: pd.Series) -> tuple[float, float]:
    """Mean of the wide networks less that of the deep ones, with ResNet50 and without."""
    wide, deep, other_deep = (
        float(values[list(names)].mean()) for names in (paper.WIDE, paper.DEEP, _OTHER_DEEP)
    )
    return wide - deep, wide - other_deep


def _gaps() -> dict[str, tuple[float, float]]:
    """By arm, the falls of the wide networks less those of the deep ones."""
    return {arm: _wide_less_deep(_fall(p.table)) for arm, p in paper.ACCURACIES.items()}


def _agree(gaps: tuple[float, float]) -> bool | None:
    """Whether both are above 0; None if only one is."""
    above = {gap > 0 for gap in gaps}
    return above.pop() if len(above) == 1 else None


def _with_and_without(gaps: tuple[float, float]) -> str:
    return f"wide less deep {100 * gaps[0]:.1f} points, without ResNet50 {100 * gaps[1]:.1f} points"
