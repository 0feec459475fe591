"""The claims on a run: for each claim the effects that it depends on, over the run's photos.

One function per claim. It returns its findings; NotJudged says why the run has none.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from gradcam_adv.models.backbones import title, titles
from gradcam_adv.paper import effects, evidence
from gradcam_adv.paper.effects import Effect
from gradcam_adv.paper.evidence import NotJudged, Run
from gradcam_adv.paper.printed import DEEP, WIDE
from gradcam_adv.study.attacks import BLACK_BOX, NOISE, WHITE_BOX
from gradcam_adv.study.config import Arm
from gradcam_adv.study.tables import deviations, select

# A smaller effect counts as none: two points of accuracy; a tenth of the differences in MOD that
# the paper draws conclusions from; five points of AUC; and a mean direction with which one would
# guess the half-plane of a move right about 63 times in 100.
ACCURACY_MARGIN = 0.02
NISSIM_MARGIN = 0.01
AUC_MARGIN = 0.05
DIRECTION_MARGIN = 0.2


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
        if (network, levels[-1]) in noise:
            noisy = noise[network, levels[-1]]
            needed[f"{title(network)} beyond noise"] = _exceeds(noisy, attacked, run)
    return Findings(needed, note=_without_source(run))


def wide_fall_more(run: Run, arm: Arm) -> Findings:
    gap, note = _fall_gap(run, arm)
    return Findings({"wide less deep": _of_answers(gap, run)}, note=note)


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
    attacked, noise = run.shifts(arm), run.shifts(arm, NOISE)
    networks = evidence.present(run.networks, attacked, noise)
    if not networks:
        raise NotJudged("the run has no random signs to compare the attack with")
    beyond = evidence.mean_shifts(attacked - noise, networks)
    return Findings({title(network): _of_shifts(beyond[network], run) for network in networks})


def mod_rises(run: Run, arm: Arm) -> Findings:
    """Each network's rise of MOD from the smallest epsilon above 0 to the largest, and by step."""
    table = run.shifts(arm)
    levels = _two_levels(table, " above 0, and at 0 MOD is 0 by definition")
    return _by_level(run, table, levels, lambda a, b: _of_shifts(b - a, run))


def wide_shift_more(run: Run, arm: Arm) -> Findings:
    table = run.shifts(arm)
    wide, deep, note = _sides(run, table)
    gap = _gap(evidence.mean_shifts(table, [*wide, *deep]), wide, deep)
    return Findings({"wide less deep": _of_shifts(gap, run)}, note=note)


def vgg16_shifts_least(run: Run, arm: Arm) -> Findings:
    """Every other network's NISSIM, mean over epsilons, less VGG16's."""
    table = run.shifts(arm)
    return _above_vgg16(run, evidence.mean_shifts(table, evidence.present(run.others, table)))


def vgg16_most_stable(run: Run, arm: Arm) -> Findings:
    """Every other network's deviation of NISSIM over epsilons, less VGG16's."""
    rows = run.nissim(arm)
    if rows.loc[rows["epsilon"] > 0, "epsilon"].nunique() < 2:
        raise NotJudged("the run has no two epsilons above 0, so it has no VID")
    found = deviations(rows[rows["network"].isin(run.others)], run.study.vid_epsilons)
    wide = found.pivot(index=["identity", "photo"], columns="network", values="deviation")
    return _above_vgg16(run, wide[[network for network in run.others if network in wide]])


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
    wide, deep, note = _sides(run, run.shifts(arm))
    fates = _fates(run, arm)
    rows = fates[fates["network"].isin([*wide, *deep])]
    effect = effects.matched_difference(
        rows["failed"],
        rows["network"].isin(wide),
        rows["nissim"],
        rows["identity"],
        margin=ACCURACY_MARGIN,
    )
    return Findings({"wide less deep": effect}, note=note)


def directions(run: Run, arm: Arm) -> Findings:
    """Whether the centroids of a network have a common direction at the largest ε."""
    rows = run.nissim(arm)
    if "direction" not in rows:
        raise NotJudged("the run did not measure the direction of the move")
    rows = rows[rows["epsilon"] == rows["epsilon"].max()]
    needed = {}
    for network in run.networks:
        moved = select(rows, network=network)
        needed[title(network)] = effects.common_direction(
            moved["direction"], moved["identity"], margin=DIRECTION_MARGIN, seed=run.study.seed
        )
    return Findings(
        needed,
        note="only one direction common to all photos is looked for; mean length 0 is none, 1 is "
        "the same for all",
    )


def _people(table: pd.Series | pd.DataFrame) -> pd.Index:
    return table.index.get_level_values("identity")


def _of_answers(values: pd.Series, run: Run) -> Effect:
    """The mean of differences of right answers, one per photo."""
    return effects.clustered_mean(
        values, _people(values), margin=ACCURACY_MARGIN, seed=run.study.seed, answers=True
    )


def _of_shifts(values: pd.Series, run: Run) -> Effect:
    """The mean of differences of NISSIM, one per photo."""
    return effects.clustered_mean(
        values, _people(values), margin=NISSIM_MARGIN, seed=run.study.seed
    )


def _exceeds(first: pd.Series, second: pd.Series, run: Run) -> Effect:
    """How much the accuracy of ``first`` exceeds that of ``second``, on the photos of both."""
    both = pd.concat([first, second], axis=1).dropna()
    a, b = both.iloc[:, 0], both.iloc[:, 1]
    return effects.paired_shares(a, b, _people(both), margin=ACCURACY_MARGIN, seed=run.study.seed)


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


def _without_source(run: Run) -> str:
    return f"{title(run.study.source)} is left out: the attack is made on it"


def _sides(run: Run, table: pd.DataFrame) -> tuple[list[str], list[str], str]:
    """Wide and deep networks except the source, and a note on them."""
    others = evidence.present(run.others, table)
    wide, deep = ([network for network in others if network in side] for side in (WIDE, DEEP))
    if not wide or not deep:
        raise NotJudged("the run has no wide and deep network besides the attack's source")
    note = (
        f"wide: {titles(wide)}; deep: {titles(deep)}; {_without_source(run)}; "
        f"this speaks for these {len(wide) + len(deep)} networks alone"
    )
    return wide, deep, note


def _gap(table: pd.DataFrame, wide: list[str], deep: list[str]) -> pd.Series:
    """Per photo, the mean of the wide networks less that of the deep ones."""
    return table[wide].mean(axis=1, skipna=False) - table[deep].mean(axis=1, skipna=False)


def _fall_gap(run: Run, arm: Arm) -> tuple[pd.Series, str]:
    """Per photo, the fall of the wide networks less that of the deep ones; and a note."""
    right = run.right_answers(arm)
    wide, deep, note = _sides(run, right)
    levels = _two_levels(right)
    fall = {n: right[n, levels[0]] - right[n, levels[-1]] for n in (*wide, *deep)}
    return _gap(pd.DataFrame(fall), wide, deep), note


def _above_vgg16(run: Run, measured: pd.DataFrame) -> Findings:
    others = [str(network) for network in measured if network != "vgg16"]
    if "vgg16" not in measured or not others:
        raise NotJudged(
            "the run does not have VGG16 and another network besides the attack's source"
        )
    needed = {
        f"{title(network)} less VGG16": _of_shifts(measured[network] - measured["vgg16"], run)
        for network in others
    }
    return Findings(needed, note=_without_source(run))


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
