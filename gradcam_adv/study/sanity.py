"""Checks that an attack does what attacks do, after the checklist of Carlini et al. 2019.

An attack that fails one may be broken, too small, or misled by gradients that say nothing. Changes
of accuracy are of the same photos; a change is clear if its 95 % interval over people leaves 0 out.
Intervals are not corrected for the number of checks.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from gradcam_adv import statistics
from gradcam_adv.study.attacks import BLACK_BOX, NOISE, WHITE_BOX, draw_of
from gradcam_adv.study.comparison import ITERATIVE, ON_MAPS, ONE_STEP, Conditions
from gradcam_adv.study.tables import select

PASSED, FAILED, NOT_JUDGED = "passed", "failed", "not judged"
RISES = "success rises with ε"
CHANCE = "accuracy at the largest ε is chance or below"
STEPS = "several steps do more than one"
TRANSFER = "white-box does more than black-box"
RANDOM = "the attack does more than random search"
GRADIENTS = "gradients are not zero"
# A larger share of exact zeros in the gradient is taken for masked gradients.
MOST_ZEROS = 0.05

_Row = dict[str, Any]
# By epsilon, 1 for a right answer, else 0: one row per person and photo.
_Answers = Mapping[float, "pd.Series[float]"]


def checks(
    predictions: pd.DataFrame,
    zero_gradients: pd.DataFrame,
    conditions: Conditions,
    source: str,
    people: int,
) -> pd.DataFrame:
    """Every check, of every network and every attack on its answers.

    Args:
        predictions: as of :mod:`gradcam_adv.study.answers`, at the study's epsilons; also under
            the further draws of random signs. An answer that no draw makes wrong withstands the
            random search.
        zero_gradients: of :func:`gradcam_adv.study.answers.zero_gradients`.
        conditions: of :func:`gradcam_adv.study.attacks.conditions_of`.
        source: of the black-box attack.
        people: their number, whose inverse is chance.

    Returns:
        Columns check, network, attack, than (what it is compared with), epsilon, value, low, high,
        verdict ("passed", "failed" or "not judged") and why. value is a change of accuracy, at the
        epsilon that decides; of CHANCE an accuracy, of GRADIENTS a share of zeros. What is not
        measured is NaN, what does not apply "", and the network "all" if none has what it needs.
    """
    right = predictions.assign(
        right=(predictions["predicted"] == predictions["label"]).astype(float)
    )
    own, *_ = (attack for _, attack in conditions.values())
    # An attack on heatmaps is to leave the answers as they are.
    judged = {name: of for name, of in conditions.items() if of[1] not in ON_MAPS}
    white_box = {attack: name for name, (of, attack) in judged.items() if of == WHITE_BOX}
    black_box = {attack: name for name, (of, attack) in judged.items() if of == BLACK_BOX}
    found: dict[str, list[_Row]] = {check: [] for check in (RISES, CHANCE, STEPS, TRANSFER, RANDOM)}
    for network, rows in right.groupby("network", sort=False):
        under = _by_condition(rows)
        for attack, name in white_box.items():
            answers, about = under[name], {"network": network, "attack": attack}
            found[RISES].append(about | _rises(answers))
            found[CHANCE].append(about | _reaches(answers, 1 / people))
            if network != source:
                row = about | {"than": BLACK_BOX} | _more(answers, under[black_box[attack]])
                found[TRANSFER].append(row)
            weaker = {NOISE: _searched(under)}
            weaker |= {of: under[white_box[of]] for of in {"square"} & white_box.keys() - {attack}}
            for than, left in weaker.items():
                found[RANDOM].append(about | {"than": than} | _more(answers, left))
        for attack, than in itertools.product((*ITERATIVE, "autopgd"), ONE_STEP):
            if {attack, than} <= white_box.keys():
                row = _more(under[white_box[attack]], under[white_box[than]])
                found[STEPS].append({"network": network, "attack": attack, "than": than} | row)
    found[GRADIENTS] = list(_zeros(zero_gradients, own))
    lacking = {STEPS: "an attack of one step and one of several", TRANSFER: "another network"}
    for check, needs in lacking.items():
        if not found[check]:
            found[check] = [{"network": "all", "verdict": NOT_JUDGED, "why": f"it needs {needs}"}]
    columns = ["check", "network", "attack", "than", "epsilon", "value", "low", "high"]
    empty = {"attack": "", "than": ""}
    table = pd.DataFrame(
        [{"check": check} | empty | row for check, rows in found.items() for row in rows]
    )
    return table.reindex(columns=[*columns, "verdict", "why"])


def _by_condition(rows: pd.DataFrame) -> dict[str, dict[float, pd.Series[float]]]:
    found: dict[str, dict[float, pd.Series[float]]] = {}
    key: Any
    for key, group in rows.groupby(["attack", "epsilon"]):
        attack, epsilon = key
        answers = group.set_index(["identity", "photo"])["right"]
        found.setdefault(str(attack), {})[float(epsilon)] = answers
    return found


def _searched(under: Mapping[str, _Answers]) -> _Answers:
    """The answers that are right under every draw of random signs."""
    draws = [answers for attack, answers in under.items() if draw_of(attack)]
    return {
        epsilon: pd.concat([answers[epsilon] for answers in draws], axis=1).min(axis=1)
        for epsilon in draws[0]
    }


def _rises(answers: _Answers) -> _Row:
    """Accuracy must not clearly rise from one epsilon to the next, and clearly fall over all."""
    levels = sorted(answers)
    ups = [
        _change(answers[lower], answers[upper], upper)
        for lower, upper in itertools.pairwise(levels)
    ]
    highest = max(ups, key=lambda row: row["low"])
    if highest["low"] > 0:
        return highest | {"verdict": FAILED, "why": "accuracy rises from the ε before"}
    over_all = _change(answers[levels[0]], answers[levels[-1]], levels[-1])
    if over_all["high"] < 0:
        return over_all | {"verdict": PASSED, "why": "accuracy falls, and rises clearly at no ε"}
    return over_all | {"verdict": NOT_JUDGED, "why": "accuracy does not clearly change"}


def _reaches(answers: _Answers, chance: float) -> _Row:
    largest = max(answers)
    share = statistics.mean(answers[largest], answers[largest].index.get_level_values("identity"))
    low, high = statistics.share_interval(share)
    row: _Row = {"epsilon": largest, "value": share.value, "low": low, "high": high}
    if share.value <= chance:
        return row | {"verdict": PASSED, "why": f"chance is {chance:.3g}"}
    if low > chance:
        why = f"chance is {chance:.3g}: ε may be too small, or the gradients mislead"
        return row | {"verdict": FAILED, "why": why}
    return row | {"verdict": NOT_JUDGED, "why": f"chance, {chance:.3g}, is in the interval"}


def _more(stronger: _Answers, weaker: _Answers) -> _Row:
    """Accuracy must be clearly lower under the stronger attack at an epsilon, and never higher."""
    levels = sorted(epsilon for epsilon in stronger if epsilon > 0)
    changes = [_change(weaker[epsilon], stronger[epsilon], epsilon) for epsilon in levels]
    worst = max(changes, key=lambda row: row["low"])
    if worst["low"] > 0:
        return worst | {"verdict": FAILED, "why": "it leaves more answers right at this ε"}
    best = min(changes, key=lambda row: row["high"])
    if best["high"] < 0:
        return best | {"verdict": PASSED, "why": "it leaves fewer answers right at this ε"}
    return best | {"verdict": NOT_JUDGED, "why": "at no ε do the two clearly differ"}


def _zeros(zero_gradients: pd.DataFrame, attack: str) -> Iterator[_Row]:
    row: Any
    for row in zero_gradients.itertuples(index=False):
        verdict, why = NOT_JUDGED, f"{MOST_ZEROS:g} is in the interval"
        if row.low > MOST_ZEROS:
            verdict, why = FAILED, f"more than {MOST_ZEROS:g} of the gradient is exactly zero"
        elif row.high <= MOST_ZEROS:
            verdict, why = PASSED, f"at most {MOST_ZEROS:g} of the gradient is exactly zero"
        about: _Row = {"network": row.network, "attack": attack, "epsilon": 0.0}
        numbers = {"value": row.zero_gradient, "low": row.low, "high": row.high}
        yield about | numbers | {"verdict": verdict, "why": why}


def _change(before: pd.Series[float], after: pd.Series[float], epsilon: float) -> _Row:
    """The mean change of answers with its interval; an infinite one if there is a single person."""
    changes = np.asarray(after - before)
    low, high = statistics.change_interval(changes, before.index.get_level_values("identity"))
    if math.isnan(low):
        low, high = -math.inf, math.inf
    return {"epsilon": epsilon, "value": changes.mean(), "low": low, "high": high}


def failures(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of failed checks."""
    return select(table, verdict=FAILED)


def counts(table: pd.DataFrame, check: str) -> Sequence[int]:
    """How many rows of a check passed, failed and were not judged."""
    verdicts = select(table, check=check)["verdict"]
    return [int((verdicts == one).sum()) for one in (PASSED, FAILED, NOT_JUDGED)]
