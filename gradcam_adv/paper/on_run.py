"""What a run has to say to each of the paper's claims: effects over its photos, by network.

One function a claim; each gives its findings, or the reason why the run has none.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

from gradcam_adv.paper import effects, evidence
from gradcam_adv.paper import tables as paper
from gradcam_adv.paper.effects import Effect
from gradcam_adv.paper.evidence import Run
from gradcam_adv.study.config import Arm

# Below these an effect counts as none: two points of accuracy; a tenth of the MODs that the paper
# tells networks apart by; five points of AUC; and a mean direction by which the half towards which
# the focus moves would be guessed right some 63 times in 100.
ACCURACY_MARGIN = 0.02
NISSIM_MARGIN = 0.01
AUC_MARGIN = 0.05
DIRECTION_MARGIN = 0.2


@dataclass(frozen=True)
class Findings:
    """The effects that one claim hangs on.

    Attributes:
        needed: by name; the claim says that each is above 0 (or none, for what cannot be told).
        steps: by name; the claim can't have one that is clearly below 0.
        note: of what is to be known when reading them.
    """

    needed: Mapping[str, Effect]
    steps: Mapping[str, Effect] = field(default_factory=dict)
    note: str = ""


def _of_photos(values: pd.Series, margin: float, seed: int, *, answers: bool) -> Effect:
    people = values.index.get_level_values("identity")
    return effects.clustered_mean(
        values.to_numpy(), people, margin=margin, seed=seed, answers=answers
    )


def _exceeds(first: pd.Series, second: pd.Series, seed: int) -> Effect:
    """By how much the accuracy of ``first`` exceeds that of ``second`` on the photos of both."""
    both = pd.concat([first, second], axis=1).dropna()
    people = both.index.get_level_values("identity")
    a, b = both.iloc[:, 0], both.iloc[:, 1]
    return effects.paired_shares(a, b, people, margin=ACCURACY_MARGIN, seed=seed)


def falls(run: Run, arm: Arm, attack: str = "black-box") -> Findings | str:
    """Each network's fall in accuracy from the clean photos to the largest epsilon, and by step."""
    right = evidence.right_answers(run.arms[arm], attack)
    levels = evidence.levels_of(right)
    if len(levels) < 2:
        return "the run has no two levels of attack"
    needed, steps = {}, {}
    for network in evidence.present(right, run.networks):
        own = evidence.of_network(right, network)
        needed[evidence.title(network)] = _exceeds(own[levels[0]], own[levels[-1]], run.seed)
        for lower, upper in itertools.pairwise(levels):
            name = f"{evidence.title(network)} from ε = {lower:g} to {upper:g}"
            steps[name] = _exceeds(own[lower], own[upper], run.seed)
    return Findings(needed, steps)


def white_box(run: Run, arm: Arm) -> Findings | str:
    found = falls(run, arm, "white-box")
    return found if isinstance(found, str) else Findings(found.needed)


def transfers(run: Run, arm: Arm) -> Findings | str:
    """What the attack takes from the others' accuracy, and what it takes beyond random signs."""
    right, noise = (
        evidence.right_answers(run.arms[arm], attack) for attack in ("black-box", "noise")
    )
    levels, networks = evidence.levels_of(right), evidence.present(right, run.attacked)
    if len(levels) < 2 or not networks:
        return "the run has no attacked network besides the attack's source"
    needed = {}
    for network in networks:
        clean, attacked = right[(network, levels[0])], right[(network, levels[-1])]
        name = evidence.title(network)
        needed[name] = _exceeds(clean, attacked, run.seed)
        if (network, levels[-1]) in noise:
            noisy = noise[(network, levels[-1])]
            needed[f"{name} beyond noise"] = _exceeds(noisy, attacked, run.seed)
    return Findings(needed, note=_without_source(run))


def _without_source(run: Run) -> str:
    return f"{evidence.title(run.source)} is left out: the attack is made on it"


def _sides(run: Run, table: pd.DataFrame) -> tuple[list[str], list[str]] | str:
    """Wide and deep networks that the attack was not made on; or why there are none to compare."""
    wide, deep = (
        [n for n in evidence.present(table, run.attacked) if n in side]
        for side in (paper.WIDE, paper.DEEP)
    )
    if not wide or not deep:
        return "the run has no wide and deep network besides the attack's source"
    return wide, deep


def _sides_note(run: Run, wide: list[str], deep: list[str]) -> str:
    return (
        f"wide: {evidence.titles(wide)}; deep: {evidence.titles(deep)}; {_without_source(run)}; "
        f"this speaks for these {len(wide) + len(deep)} networks alone"
    )


def _fall_gap(run: Run, arm: Arm) -> tuple[pd.Series, str] | str:
    """For each photo the fall of the wide networks less that of the deep ones, and the note."""
    right = evidence.right_answers(run.arms[arm], "black-box")
    levels, sides = evidence.levels_of(right), _sides(run, right)
    if isinstance(sides, str) or len(levels) < 2:
        return sides if isinstance(sides, str) else "the run has no two levels of attack"
    wide, deep = sides
    fall = pd.DataFrame(
        {n: right[(n, levels[0])] - right[(n, levels[-1])] for n in (*wide, *deep)}, right.index
    )
    gap = fall[wide].mean(axis=1, skipna=False) - fall[deep].mean(axis=1, skipna=False)
    return gap, _sides_note(run, wide, deep)


def wide_fall_more(run: Run, arm: Arm) -> Findings | str:
    found = _fall_gap(run, arm)
    if isinstance(found, str):
        return found
    gap, note = found
    effect = _of_photos(gap, ACCURACY_MARGIN, run.seed, answers=True)
    return Findings({"wide less deep": effect}, note=note)


def aligned_helps(run: Run, arm: Arm) -> Findings | str:
    """Accuracy of the aligned photos above that of the plain ones, on the photos of both."""
    plain, aligned = (
        evidence.right_answers(run.arms[arm], "black-box") for arm in ("plain", "aligned")
    )
    networks = [
        n
        for n in evidence.present(plain, run.networks)
        if n in evidence.present(aligned, run.networks)
    ]
    levels = [level for level in evidence.levels_of(plain) if level in evidence.levels_of(aligned)]
    needed, steps = {}, {}
    for network in networks:
        change = (
            evidence.of_network(aligned, network)[levels]
            - evidence.of_network(plain, network)[levels]
        )
        name = evidence.title(network)
        together = change.mean(axis=1, skipna=False)
        needed[name] = _of_photos(together, ACCURACY_MARGIN, run.seed, answers=True)
        for level in levels:
            steps[f"{name} at ε = {level:g}"] = _exceeds(
                aligned[(network, level)], plain[(network, level)], run.seed
            )
    return Findings(needed, steps)


def aligned_keeps_trend(run: Run, arm: Arm) -> Findings | str:
    """Falls with both kinds of photos, and the gap of wide and deep seen from the plain ones."""
    needed: dict[str, Effect] = {}
    gaps: dict[Arm, pd.Series] = {}
    note = ""
    kinds: tuple[Arm, ...] = ("plain", "aligned")
    for kind in kinds:
        fall, gap = falls(run, kind), _fall_gap(run, kind)
        if isinstance(fall, str):
            return fall
        if isinstance(gap, str):
            return gap
        needed |= {f"{name}, {kind}": effect for name, effect in fall.needed.items()}
        gaps[kind], note = gap
    # The same trend is claimed, whichever it is.
    sign = -1.0 if gaps["plain"].mean() < 0 else 1.0
    what = "wide less deep" if sign > 0 else "deep less wide"
    for kind, values in gaps.items():
        effect = _of_photos(sign * values, ACCURACY_MARGIN, run.seed, answers=True)
        needed[f"{what}, {kind}"] = effect
    return Findings(needed, note=note)


def shifts_beyond_noise(run: Run, arm: Arm) -> Findings | str:
    """Each network's NISSIM, mean over the levels, above that under random signs as strong."""
    attacked, noise = (
        evidence.shifts(run.arms[arm], a, run.readings) for a in ("black-box", "noise")
    )
    networks = [
        n
        for n in evidence.present(attacked, run.networks)
        if n in evidence.present(noise, run.networks)
    ]
    if not networks:
        return "the run has no random signs to hold the attack against"
    beyond = evidence.mean_shifts(attacked - noise, networks)
    return Findings(
        {
            evidence.title(network): _of_photos(
                beyond[network], NISSIM_MARGIN, run.seed, answers=False
            )
            for network in networks
        }
    )


def mod_rises(run: Run, arm: Arm) -> Findings | str:
    """Each network's rise of MOD from the smallest epsilon above 0 to the largest, and by step."""
    table = evidence.shifts(run.arms[arm], "black-box", run.readings)
    levels = evidence.levels_of(table)
    if len(levels) < 2:
        return "the run has no two levels of attack above 0; below MOD is 0 by definition"

    def rise(values: pd.DataFrame, lower: float, upper: float) -> Effect:
        return _of_photos(values[upper] - values[lower], NISSIM_MARGIN, run.seed, answers=False)

    needed, steps = {}, {}
    for network in evidence.present(table, run.networks):
        own = evidence.of_network(table, network)
        needed[evidence.title(network)] = rise(own, levels[0], levels[-1])
        for lower, upper in itertools.pairwise(levels):
            name = f"{evidence.title(network)} from ε = {lower:g} to {upper:g}"
            steps[name] = rise(own, lower, upper)
    return Findings(needed, steps)


def wide_shift_more(run: Run, arm: Arm) -> Findings | str:
    table = evidence.shifts(run.arms[arm], "black-box", run.readings)
    sides = _sides(run, table)
    if isinstance(sides, str):
        return sides
    wide, deep = sides
    shift = evidence.mean_shifts(table, [*wide, *deep])
    gap = shift[wide].mean(axis=1, skipna=False) - shift[deep].mean(axis=1, skipna=False)
    effect = _of_photos(gap, NISSIM_MARGIN, run.seed, answers=False)
    return Findings({"wide less deep": effect}, note=_sides_note(run, wide, deep))


def vgg16_shifts_least(run: Run, arm: Arm) -> Findings | str:
    """Every other network's NISSIM, mean over the levels, less VGG16's."""
    table = evidence.shifts(run.arms[arm], "black-box", run.readings)
    return _above_vgg16(run, evidence.mean_shifts(table, evidence.present(table, run.attacked)))


def vgg16_most_stable(run: Run, arm: Arm) -> Findings | str:
    """Every other network's deviation of NISSIM over the levels, less VGG16's."""
    table = evidence.shifts(run.arms[arm], "black-box", run.readings)
    levels = evidence.levels_of(table)
    if len(levels) < 2:
        return "the run has no two levels of attack above 0, so it has no VID"
    deviations = {}
    for network in evidence.present(table, run.attacked):
        own = evidence.of_network(table, network)
        if run.readings.vid_levels == "all":
            own = own.assign(clean=0.0)  # a photo differs from itself by nothing
        deviations[network] = own.std(axis=1, ddof=0, skipna=False)
    return _above_vgg16(run, pd.DataFrame(deviations, table.index))


def _above_vgg16(run: Run, measured: pd.DataFrame) -> Findings | str:
    others = [str(network) for network in measured if network != "vgg16"]
    if "vgg16" not in measured or not others:
        return "the run has not VGG16 and another network besides the attack's source"
    needed = {
        f"{evidence.title(network)} less VGG16": _of_photos(
            measured[network] - measured["vgg16"], NISSIM_MARGIN, run.seed, answers=False
        )
        for network in others
    }
    return Findings(needed, note=_without_source(run))


def _fates(run: Run, arm: Arm) -> pd.DataFrame:
    """Photos right when clean, their shift with the class held fixed, and whether they fail.

    Returns:
        Columns network, epsilon, photo, identity, nissim, failed.
    """
    shift = evidence.read(run.arms[arm], "black-box", "clean", run.readings)
    keys = ["network", "epsilon", "photo"]
    table = run.arms[arm].predictions
    asked = table[(table["attack"] == "black-box") & (table["predicted_clean"] == table["label"])]
    fates = asked[keys].assign(failed=asked["predicted"] != asked["label"])
    attacked = shift.loc[shift["epsilon"] > 0, [*keys, "identity", "nissim"]]
    return attacked.merge(fates, on=keys, validate="one_to_one")


def shift_goes_with_failure(run: Run, arm: Arm) -> Findings | str:
    """Each network's AUC of NISSIM for failure, photos of one epsilon against each other."""
    fates = _fates(run, arm)
    needed = {}
    for network in run.networks:
        own = fates[fates["network"] == network]
        needed[evidence.title(network)] = effects.clustered_auc(
            own["nissim"],
            own["failed"],
            own["epsilon"],
            own["identity"],
            margin=AUC_MARGIN,
            seed=run.seed,
        )
    return Findings(needed, note="photos right when clean; the clean photo's class explained")


def deep_better_at_similar_shift(run: Run, arm: Arm) -> Findings | str:
    """How much more often wide networks fail than deep ones where their shifts are alike."""
    fates = _fates(run, arm)
    sides = _sides(run, evidence.shifts(run.arms[arm], "black-box", run.readings))
    if isinstance(sides, str):
        return sides
    wide, deep = sides
    own = fates[fates["network"].isin([*wide, *deep])]
    effect = effects.matched_difference(
        own["failed"],
        own["network"].isin(wide),
        own["nissim"],
        own["identity"],
        margin=ACCURACY_MARGIN,
        seed=run.seed,
    )
    return Findings({"wide less deep": effect}, note=_sides_note(run, wide, deep))


def directions(run: Run, arm: Arm) -> Findings | str:
    """Whether each network's focus has a common direction in which it moves at the largest ε."""
    table = run.arms[arm].nissim
    if "direction" not in table:
        return "the run did not measure in which direction the focus moves"
    own = evidence.read(run.arms[arm], "black-box", run.readings.explained_class, run.readings)
    own = own[own["epsilon"] == own["epsilon"].max()]
    needed = {}
    for network in run.networks:
        moved = own[own["network"] == network]
        needed[evidence.title(network)] = effects.common_direction(
            moved["direction"], moved["identity"], margin=DIRECTION_MARGIN, seed=run.seed
        )
    return Findings(
        needed,
        note="judged is only whether there is one direction that photos have in common; mean "
        "length 0 is none, 1 is all the same",
    )
