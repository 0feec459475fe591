"""The claims on a run: for each claim the effects that it depends on, over the run's photos.

One function per claim. It returns its findings; NotJudged says why the run has none.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

from gradcam_adv import statistics
from gradcam_adv.models.backbones import title, titles
from gradcam_adv.paper import effects, evidence
from gradcam_adv.paper.effects import Effect
from gradcam_adv.paper.evidence import NotJudged, Run
from gradcam_adv.paper.printed import DEEP, WIDE
from gradcam_adv.study.attacks import BLACK_BOX, NOISE, WHITE_BOX
from gradcam_adv.study.settings import Arm
from gradcam_adv.study.shifts import deviation_of_mod, deviations
from gradcam_adv.study.tables import select

# A smaller effect counts as none: two points of a share, such as accuracy, or of the heat; a tenth
# of the differences in MOD that the paper draws conclusions from; five points of AUC; a mean
# direction with which one would guess the half-plane of a move right about 63 times in 100; a tenth
# of a doubling of an area; and a correlation of 0.1.
SHARE_MARGIN = 0.02
NISSIM_MARGIN = 0.01
AUC_MARGIN = 0.05
DIRECTION_MARGIN = 0.2
AREA_MARGIN = 0.1
CORRELATION_MARGIN = 0.1

# From differences, mostly one per photo, and the run that they are of.
EffectOf = Callable[[Any, Run], Effect]


@dataclass(frozen=True)
class Findings:
    """The effects that one claim depends on.

    Attributes:
        needed: by name; the claim says that each is above 0 (or, for a claim of no effect, 0).
        steps: by name; one that is clearly below 0 contradicts the claim.
        note: for the reader.
    """

    needed: Mapping[str, Effect]
    steps: Mapping[str, Effect] = field(default_factory=dict)
    note: str = ""


def falls(run: Run, arm: Arm, attack: str = BLACK_BOX) -> Findings:
    """Each network's fall in accuracy from the clean photos to the largest epsilon, and by step."""
    right = run.right_answers(arm, attack)
    return _by_level(run, right, _two_levels(right), lambda a, b: _exceeds(a, b, run))


def white_box(run: Run, arm: Arm) -> Findings:
    return Findings(falls(run, arm, WHITE_BOX).needed)


def transfers(run: Run, arm: Arm) -> Findings:
    """The other networks' loss of accuracy, from clean photos and from random signs."""
    right, noise = run.right_answers(arm), run.right_answers(arm, NOISE)
    levels, networks = evidence.epsilons_of(right), evidence.present(run.others, right)
    if len(levels) < 2 or not networks:
        raise NotJudged("the run has no attacked network besides the attack's source")
    needed = {}
    for network in networks:
        attacked = right[network, levels[-1]]
        needed[title(network)] = _exceeds(right[network, levels[0]], attacked, run)
        noisy = noise[network, levels[-1]]
        needed[f"{title(network)} beyond noise"] = _exceeds(noisy, attacked, run)
    return Findings(needed, note=_without_source(run, BLACK_BOX))


def wide_fall_more(run: Run, arm: Arm, attack: str = BLACK_BOX) -> Findings:
    gap, note = _fall_gap(run, arm, attack)
    return Findings({"wide less deep": _of_answers(gap, run)}, note=note)


def vgg16_falls_least(run: Run, arm: Arm, attack: str = BLACK_BOX) -> Findings:
    """Every other network's fall in accuracy, less VGG16's."""
    right = run.right_answers(arm, attack)
    fall = _falls(right, evidence.present(run.comparable(attack), right))
    return _less_one(run, attack, fall, "vgg16", _of_answers)


def aligned_helps(run: Run, arm: Arm) -> Findings:
    """Accuracy of the aligned photos above that of the plain ones, on the photos of both."""
    plain, aligned = run.right_answers("plain"), run.right_answers("aligned")
    levels = evidence.epsilons_of(plain)
    needed, steps = {}, {}
    for network in evidence.present(run.networks, plain, aligned):
        name = title(network)
        change = evidence.of_network(aligned, network) - evidence.of_network(plain, network)
        needed[name] = _of_answers(change.mean(axis=1, skipna=False), run)
        for level in levels:
            step = _exceeds(aligned[network, level], plain[network, level], run)
            steps[f"{name} at ε = {level:g}"] = step
    return Findings(needed, steps)


def aligned_keeps_trend(run: Run, arm: Arm) -> Findings:
    """Falls in both arms, and the gap of wide and deep networks in the plain arm's direction."""
    needed: dict[str, Effect] = {}
    gaps: dict[Arm, pd.Series] = {}
    note = ""
    kinds: tuple[Arm, ...] = ("plain", "aligned")
    for kind in kinds:
        needed |= {f"{name}, {kind}": fall for name, fall in falls(run, kind).needed.items()}
        gaps[kind], note = _fall_gap(run, kind)
    # The claim is that the trend is the same, whichever it is.
    sign = -1.0 if gaps["plain"].mean() < 0 else 1.0
    what = "wide less deep" if sign > 0 else "deep less wide"
    needed |= {f"{what}, {kind}": _of_answers(sign * gap, run) for kind, gap in gaps.items()}
    return Findings(needed, note=note)


def shifts_beyond_noise(run: Run, arm: Arm) -> Findings:
    """Each network's NISSIM, mean over epsilons, less that under random signs."""
    return Findings(_beyond_noise(run, run.shifts(arm), run.shifts(arm, NOISE), _of_shifts))


def mod_rises(run: Run, arm: Arm) -> Findings:
    """Each network's rise of MOD from the smallest epsilon above 0 to the largest, and by step."""
    table = run.shifts(arm)
    levels = _two_levels(table, " above 0, and at 0 MOD is 0 by definition")
    return _by_level(run, table, levels, lambda a, b: _of_shifts(b - a, run))


def shifts_left(run: Run, arm: Arm) -> Findings:
    """Each network's fall of MOD from the smallest epsilon above 0 to the largest; not VGG16's."""
    table = run.shifts(arm)
    first, *_, last = _two_levels(table, " above 0")
    networks = [n for n in evidence.present(run.networks, table) if n != "vgg16"]
    return Findings({title(n): _of_shifts(table[n, first] - table[n, last], run) for n in networks})


def wide_shift_more(run: Run, arm: Arm, attack: str = BLACK_BOX) -> Findings:
    table = run.shifts(arm, attack)
    wide, deep, note = _sides(run, table, attack)
    gap = _gap(evidence.mean_shifts(table, [*wide, *deep]), wide, deep)
    return Findings({"wide less deep": _of_shifts(gap, run)}, note=note)


def shifts_least(run: Run, arm: Arm, network: str, attack: str = BLACK_BOX) -> Findings:
    """Every other network's NISSIM, mean over epsilons, less that of one."""
    return _less_one(run, attack, _mean_shifts(run, arm, attack), network, _of_shifts)


def shifts_most(run: Run, arm: Arm, network: str, attack: str = BLACK_BOX) -> Findings:
    """One network's NISSIM, mean over epsilons, less that of every other."""
    return _less_one(run, attack, _mean_shifts(run, arm, attack), network, _of_shifts, sign=-1)


def vgg16_most_stable(run: Run, arm: Arm, attack: str = BLACK_BOX) -> Findings:
    """Every other network's deviation of NISSIM over epsilons, less VGG16's."""
    found = deviations(_for_vid(run, arm, attack), run.study.vid_epsilons)
    wide = found.pivot(index=["identity", "photo"], columns="network", values="deviation")
    return _less_one(run, attack, wide, "vgg16", _of_shifts)


def vgg16_mod_most_stable(run: Run, arm: Arm, attack: str = BLACK_BOX) -> Findings:
    """Every other network's deviation of MOD over epsilons, less VGG16's."""
    rows = _for_vid(run, arm, attack)
    levels, photos = run.study.vid_epsilons, rows["photo"].nunique()
    found = {str(n): deviation_of_mod(of_one, levels) for n, of_one in rows.groupby("network")}

    def effect(gap: statistics.Estimate, run: Run) -> Effect:
        return effects.of_estimate(gap, photos, margin=NISSIM_MARGIN)

    return _less_one(run, attack, found, "vgg16", effect)


def inception_inverts(run: Run, arm: Arm) -> Findings:
    """How many more of its maps are inverted at the largest ε of its own attack."""
    attacked, noise = (
        _of_inception(run.shifts(arm, attack, "correlation")) for attack in (WHITE_BOX, NOISE)
    )
    inverted, by_noise = (t.lt(0).astype(float).where(t.notna()) for t in (attacked, noise))
    first, last = inverted.columns.min(), inverted.columns.max()
    needed = {"beyond noise": _exceeds(inverted[last], by_noise[last], run)}
    if first < last:
        needed[f"beyond ε = {first:g}"] = _exceeds(inverted[last], inverted[first], run)
    return Findings(needed, note=f"inverted at ε = {last:g}: {100 * inverted[last].mean():.1f} %")


def regions_drop_and_join(run: Run, arm: Arm) -> Findings:
    """The shares of each network's region that drop out and join, less those under noise."""
    needed: dict[str, Effect] = {}
    for of, what in (("lost", "drops out"), ("gained", "joins")):
        tables = run.shifts(arm, BLACK_BOX, of), run.shifts(arm, NOISE, of)
        needed |= _beyond_noise(run, *tables, _of_shares, f" {what}")
    return Findings(needed)


def regions_resize(run: Run, arm: Arm) -> Findings:
    """By how many doublings each network's region grows or shrinks, less that under noise."""
    attacked, noise = (
        run.shifts(arm, attack, "area_ratio").map(np.log2).abs() for attack in (BLACK_BOX, NOISE)
    )
    return Findings(_beyond_noise(run, attacked, noise, _of_areas))


def background_highlighted(run: Run, arm: Arm) -> Findings:
    """Each network's share of heat outside the face, less that on clean photos and under noise."""
    table = run.measured(arm, BLACK_BOX, "background")
    attacked, noise = (run.shifts(arm, attack, "background") for attack in (BLACK_BOX, NOISE))
    networks = evidence.present(run.networks, table)
    means = evidence.mean_shifts(attacked, networks)
    needed = {title(n): _of_shares(means[n] - table[n, 0.0], run) for n in networks}
    return Findings(needed | _beyond_noise(run, attacked, noise, _of_shares, " beyond noise"))


def inception_on_forehead(run: Run, arm: Arm) -> Findings:
    """How much hotter InceptionV3's clean maps are above the eyes than on the rest of the face."""
    table = run.measured(arm, BLACK_BOX, "forehead")
    clean = _of_inception(table)[0.0]
    others = [n for n in evidence.present(run.networks, table) if n != "inceptionv3"]
    note = ", ".join(f"{title(n)} {table[n, 0.0].mean():.3f}" for n in others)
    return Findings({title("inceptionv3"): _of_shares(clean, run)}, note=note)


def cells_go_with_failure(run: Run, arm: Arm) -> Findings:
    """The correlation of MOD and the loss of accuracy, over networks and epsilons."""
    shifts, right = run.shifts(arm), run.right_answers(arm)
    networks = evidence.present(run.others, shifts, right)
    if len(networks) < 2:
        raise NotJudged("the run has no two networks besides the attack's source")
    cells = list(itertools.product(networks, evidence.epsilons_of(shifts)))
    lost = pd.DataFrame({cell: right[cell[0], 0.0] - right[cell] for cell in cells})
    both = pd.concat([shifts[cells], lost], axis=1, keys=["shift", "lost"]).dropna()
    strata = {"all cells": [0.0] * len(cells), "within one ε": [epsilon for _, epsilon in cells]}
    needed = {
        name: effects.correlation_of_means(
            both["shift"].T, both["lost"].T, of, _people(both), margin=CORRELATION_MARGIN
        )
        for name, of in strata.items()
    }
    return Findings(needed, note=f"{len(cells)} cells; {_without_source(run, BLACK_BOX)}")


def shift_goes_with_failure(run: Run, arm: Arm) -> Findings:
    """Each network's AUC of NISSIM for failure, photos of one epsilon against each other."""
    fates = _fates(run, arm)

    def auc(rows: pd.DataFrame) -> Effect:
        values = (rows[column] for column in ("nissim", "failed", "epsilon", "identity"))
        return effects.clustered_auc(*values, margin=AUC_MARGIN)

    needed = {title(network): auc(select(fates, network=network)) for network in run.networks}
    return Findings(needed, note="photos right when clean; the clean photo's class explained")


def deep_better_at_similar_shift(run: Run, arm: Arm) -> Findings:
    """How much more often wide networks fail than deep ones at a similar NISSIM."""
    wide, deep, note = _sides(run, run.shifts(arm), BLACK_BOX)
    fates = _fates(run, arm)
    rows = fates[fates["network"].isin([*wide, *deep])]
    effect = effects.matched_difference(
        rows["failed"],
        rows["network"].isin(wide),
        rows["nissim"],
        rows["identity"],
        margin=SHARE_MARGIN,
    )
    return Findings({"wide less deep": effect}, note=note)


def directions(run: Run, arm: Arm) -> Findings:
    """Whether a network's centroids have a common direction at the largest ε, more than by noise.

    Under random signs, too, they may: then the direction can be predicted without the attack.
    """
    attacked, noise = (run.shifts(arm, attack, "direction") for attack in (BLACK_BOX, NOISE))
    needed, under_noise = {}, []
    for network in evidence.present(run.networks, attacked, noise):
        last = evidence.epsilons_of(attacked)[-1]
        common = functools.partial(
            effects.common_direction,
            identities=_people(attacked),
            margin=DIRECTION_MARGIN,
            seed=run.study.seed,
        )
        by_noise = noise[network, last].reindex(attacked.index)
        needed[title(network)] = common(attacked[network, last], control=by_noise)
        under_noise.append(f"{title(network)} {common(by_noise).value:.2f}")
    return Findings(
        needed,
        note="only one direction common to all photos is looked for; mean length 0 is none, 1 is "
        f"the same for all; under random signs: {', '.join(under_noise)}",
    )


def _people(table: pd.Series | pd.DataFrame) -> pd.Index:
    return table.index.get_level_values("identity")


def _of_answers(values: pd.Series, run: Run) -> Effect:
    """The mean of differences of right answers, one per photo."""
    return effects.clustered_mean(
        values, _people(values), margin=SHARE_MARGIN, seed=run.study.seed, answers=True
    )


def _mean_effect(margin: float, most: float = np.inf) -> EffectOf:
    """The mean of differences, one per photo, which are at most ``most``."""

    def effect(values: pd.Series, run: Run) -> Effect:
        return effects.clustered_mean(
            values, _people(values), margin=margin, seed=run.study.seed, most=most
        )

    return effect


_of_shifts = _mean_effect(NISSIM_MARGIN, most=1)
_of_shares = _mean_effect(SHARE_MARGIN, most=1)
_of_areas = _mean_effect(AREA_MARGIN)


def _beyond_noise(
    run: Run, attacked: pd.DataFrame, noise: pd.DataFrame, of: EffectOf, suffix: str = ""
) -> dict[str, Effect]:
    """Each network's mean over epsilons, less that under random signs, photo by photo."""
    networks = evidence.present(run.networks, attacked, noise)
    beyond = evidence.mean_shifts(attacked - noise, networks)
    return {f"{title(network)}{suffix}": of(beyond[network], run) for network in networks}


def _exceeds(first: pd.Series, second: pd.Series, run: Run) -> Effect:
    """How much the accuracy of ``first`` exceeds that of ``second``, on the photos of both."""
    both = pd.concat([first, second], axis=1).dropna()
    a, b = both.iloc[:, 0], both.iloc[:, 1]
    return effects.paired_shares(a, b, _people(both), margin=SHARE_MARGIN, seed=run.study.seed)


def _two_levels(table: pd.DataFrame, which: str = "") -> list[float]:
    levels = evidence.epsilons_of(table)
    if len(levels) < 2:
        raise NotJudged(f"the run has no two epsilons{which}")
    return levels


def _by_level(
    run: Run,
    table: pd.DataFrame,
    levels: Sequence[float],
    change: Callable[[pd.Series, pd.Series], Effect],
) -> Findings:
    """Each network's change from the first of the epsilons to the last, and by step."""
    needed, steps = {}, {}
    for network in evidence.present(run.networks, table):
        by_level = evidence.of_network(table, network)
        needed[title(network)] = change(by_level[levels[0]], by_level[levels[-1]])
        for lower, upper in itertools.pairwise(levels):
            name = f"{title(network)} from ε = {lower:g} to {upper:g}"
            steps[name] = change(by_level[lower], by_level[upper])
    return Findings(needed, steps)


def _without_source(run: Run, attack: str) -> str:
    if attack != BLACK_BOX:
        return ""
    return f"{title(run.study.source)} is left out: the attack is made on it"


def _besides_source(attack: str) -> str:
    return " besides the attack's source" if attack == BLACK_BOX else ""


def _sides(run: Run, table: pd.DataFrame, attack: str) -> tuple[list[str], list[str], str]:
    """Wide and deep networks that may be compared, and a note on them."""
    networks = evidence.present(run.comparable(attack), table)
    wide, deep = ([network for network in networks if network in side] for side in (WIDE, DEEP))
    if not wide or not deep:
        raise NotJudged(f"the run has no wide and deep network{_besides_source(attack)}")
    notes = (
        f"wide: {titles(wide)}",
        f"deep: {titles(deep)}",
        _without_source(run, attack),
        f"this speaks for these {len(wide) + len(deep)} networks alone",
    )
    return wide, deep, "; ".join(filter(None, notes))


def _gap(table: pd.DataFrame, wide: list[str], deep: list[str]) -> pd.Series:
    """Per photo, the mean of the wide networks less that of the deep ones."""
    return table[wide].mean(axis=1, skipna=False) - table[deep].mean(axis=1, skipna=False)


def _falls(right: pd.DataFrame, networks: Sequence[str]) -> pd.DataFrame:
    """Per photo, each network's fall from the clean photo to the largest epsilon."""
    first, *_, last = _two_levels(right)
    return pd.DataFrame({n: right[n, first] - right[n, last] for n in networks})


def _fall_gap(run: Run, arm: Arm, attack: str = BLACK_BOX) -> tuple[pd.Series, str]:
    """Per photo, the fall of the wide networks less that of the deep ones; and a note."""
    right = run.right_answers(arm, attack)
    wide, deep, note = _sides(run, right, attack)
    return _gap(_falls(right, [*wide, *deep]), wide, deep), note


def _mean_shifts(run: Run, arm: Arm, attack: str) -> pd.DataFrame:
    table = run.shifts(arm, attack)
    return evidence.mean_shifts(table, evidence.present(run.comparable(attack), table))


def _for_vid(run: Run, arm: Arm, attack: str) -> pd.DataFrame:
    """The rows of NISSIM of networks that may be compared."""
    rows = run.nissim(arm, attack)
    if rows.loc[rows["epsilon"] > 0, "epsilon"].nunique() < 2:
        raise NotJudged("the run has no two epsilons above 0, so it has no VID")
    return rows[rows["network"].isin(run.comparable(attack))]


def _less_one(
    run: Run,
    attack: str,
    measured: Mapping[str, Any] | pd.DataFrame,
    network: str,
    of: EffectOf,
    sign: Literal[1, -1] = 1,
) -> Findings:
    """What every other network has, less what one has; with a ``sign`` of -1 the reverse."""
    others = [other for other in run.networks if other in measured and other != network]
    if network not in measured or not others:
        raise NotJudged(
            f"the run does not have {title(network)} and another network{_besides_source(attack)}"
        )
    needed = {}
    for other in others:
        more, less = (other, network) if sign > 0 else (network, other)
        needed[f"{title(more)} less {title(less)}"] = of(measured[more] - measured[less], run)
    return Findings(needed, note=_without_source(run, attack))


def _of_inception(table: pd.DataFrame) -> pd.DataFrame:
    """InceptionV3's columns, by epsilon."""
    if "inceptionv3" not in table:
        raise NotJudged(f"the run does not have {title('inceptionv3')}")
    return evidence.of_network(table, "inceptionv3")


def _fates(run: Run, arm: Arm) -> pd.DataFrame:
    """Photos that are right when clean: their NISSIM, the class held fixed, and whether they fail.

    Columns network, epsilon, photo, identity, nissim, failed.
    """
    shift = run.nissim(arm, target="clean")
    keys = ["network", "epsilon", "photo"]
    table = select(run.arms[arm].predictions, attack=BLACK_BOX)
    asked = table[table["predicted_clean"] == table["label"]]
    fates = asked[keys].assign(failed=asked["predicted"] != asked["label"])
    attacked = shift.loc[shift["epsilon"] > 0, [*keys, "identity", "nissim"]]
    return attacked.merge(fates, on=keys, validate="one_to_one")
