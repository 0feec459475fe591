"""The checks of an attack by hand, each in every direction."""

import numpy as np
import pandas as pd
import pytest

from gradcam_adv.study import sanity
from gradcam_adv.study.tables import select

PEOPLE, PHOTOS = 20, 2
ALONE = {"white-box": ("white-box", "fgsm"), "black-box": ("black-box", "fgsm")}
TWO = ALONE | {"white-box pgd": ("white-box", "pgd"), "black-box pgd": ("black-box", "pgd")}
SQUARE = ALONE | {
    "white-box square": ("white-box", "square"),
    "black-box square": ("black-box", "square"),
}
GOOD = {
    "white-box": [38, 10, 1], "black-box": [38, 20, 12], "noise": [38, 36, 34],
    "white-box pgd": [38, 2, 0], "black-box pgd": [38, 18, 10],
    "white-box square": [38, 30, 14], "black-box square": [38, 34, 30],
}  # fmt: skip
EPSILONS = (0.0, 0.01, 0.1)
FEW_ZEROS = {"zero_gradient": 0.001, "low": 0.0, "high": 0.002}


def judged(conditions=ALONE, zeros=FEW_ZEROS, people=PEOPLE, network="xception", **right):
    """The checks, where of 40 photos the first so many are right by condition and epsilon."""
    parts = []
    for attack, numbers in (GOOD | right).items():
        if attack in conditions or attack.startswith("noise"):
            for epsilon, number in zip(EPSILONS, numbers, strict=True):
                rows = pd.DataFrame({"photo": np.arange(PEOPLE * PHOTOS)})
                rows["identity"] = rows["photo"] % PEOPLE
                # The second draw of noise has its wrong answers at the other end.
                order = rows["photo"][::-1].to_numpy() if attack == "noise 2" else rows["photo"]
                rows["predicted"] = (order < number).astype(int)
                parts.append(rows.assign(attack=attack, epsilon=epsilon, label=1, network=network))
    predictions = pd.concat(parts).sample(frac=1, random_state=0)
    zero_gradients = pd.DataFrame([{"network": network, "photos": 40} | zeros])
    return sanity.checks(predictions, zero_gradients, conditions, "vgg16", people)


def verdict(table, check, **where):
    (row,) = select(table, check=check, **where).to_dict("records")
    return row


def test_a_good_attack_passes_all_checks():
    table = judged(TWO)
    assert set(table["verdict"]) == {"passed"}
    assert set(table["check"]) == {
        sanity.RISES, sanity.CHANCE, sanity.STEPS, sanity.TRANSFER, sanity.RANDOM, sanity.GRADIENTS
    }  # fmt: skip
    row = verdict(table, sanity.STEPS)
    assert (row["attack"], row["than"], row["epsilon"]) == ("pgd", "fgsm", 0.01)
    assert row["value"] == pytest.approx((2 - 10) / 40)
    assert row["low"] < row["value"] < row["high"] < 0


@pytest.mark.parametrize(
    ("numbers", "expected", "epsilon", "value"),
    [
        ([38, 10, 20], "failed", 0.1, 10 / 40),
        ([10, 30, 0], "failed", 0.01, 20 / 40),  # from the clean photos as well
        ([38, 10, 11], "passed", 0.1, -27 / 40),  # one photo more is no clear rise
        ([20, 20, 20], "not judged", 0.1, 0),
    ],
)
def test_accuracy_must_not_rise_with_epsilon(numbers, expected, epsilon, value):
    row = verdict(judged(**{"white-box": numbers}), sanity.RISES)
    assert (row["verdict"], row["epsilon"]) == (expected, epsilon)
    assert row["value"] == pytest.approx(value)


@pytest.mark.parametrize(
    ("right", "expected"), [(0, "passed"), (2, "passed"), (4, "not judged"), (20, "failed")]
)
def test_accuracy_must_reach_chance(right, expected):
    """Chance is a twentieth, two of the 40 photos."""
    row = verdict(judged(**{"white-box": [38, 30, right]}), sanity.CHANCE)
    assert (row["verdict"], row["epsilon"], row["value"]) == (expected, 0.1, right / 40)
    assert "chance" in row["why"] and "0.05" in row["why"]


@pytest.mark.parametrize(
    ("check", "conditions", "weaker"),
    [
        (sanity.STEPS, TWO, "white-box"),
        (sanity.TRANSFER, ALONE, "black-box"),
        (sanity.RANDOM, ALONE, "noise"),
    ],
)
@pytest.mark.parametrize(
    ("stronger_right", "weaker_right", "expected", "epsilon"),
    [
        ([38, 10, 10], [38, 10, 25], "passed", 0.1),
        ([38, 10, 25], [38, 10, 10], "failed", 0.1),
        ([38, 10, 25], [38, 30, 10], "failed", 0.1),  # also if it is better elsewhere
        ([38, 10, 5], [38, 10, 6], "not judged", 0.1),
        ([38, 10, 5], [0, 11, 5], "not judged", 0.01),  # clean photos do not count
    ],
)
def test_what_is_stronger_must_leave_fewer_answers_right(
    check, conditions, weaker, stronger_right, weaker_right, expected, epsilon
):
    stronger = "white-box pgd" if check == sanity.STEPS else "white-box"
    table = judged(conditions, **{stronger: stronger_right, weaker: weaker_right})
    row = verdict(table, check, attack=conditions[stronger][1])
    assert (row["verdict"], row["epsilon"]) == (expected, epsilon)


def test_random_search_has_every_draw_of_random_signs():
    """An answer that either draw makes wrong is wrong: 34 + 36 - 40 are right, and then none."""
    row = verdict(judged(**{"noise 2": [38, 40, 36]}), sanity.RANDOM)
    assert (row["verdict"], row["epsilon"]) == ("passed", 0.1)
    assert row["value"] == pytest.approx((1 - 30) / 40)
    row = verdict(judged(**{"noise": [38, 10, 34], "noise 2": [38, 30, 36]}), sanity.RANDOM)
    assert (row["verdict"], row["epsilon"], row["than"]) == ("failed", 0.01, "noise")
    assert row["value"] == pytest.approx(10 / 40)


def test_square_is_random_search_too():
    table = judged(SQUARE)
    than = select(table, check=sanity.RANDOM).groupby("attack")["than"].agg(list).to_dict()
    assert than == {"fgsm": ["noise", "square"], "square": ["noise"]}
    failed = judged(SQUARE, **{"white-box square": [38, 0, 0]})
    assert verdict(failed, sanity.RANDOM, than="square")["verdict"] == "failed"


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.0, 0.05, "passed"), (0.04, 0.06, "not judged"), (0.06, 0.9, "failed")],
)
def test_gradients_must_not_be_masked(low, high, expected):
    zeros = {"zero_gradient": (low + high) / 2, "low": low, "high": high}
    assert verdict(judged(zeros=zeros), sanity.GRADIENTS)["verdict"] == expected


def test_an_attack_on_heatmaps_is_not_to_change_answers():
    conditions = ALONE | {
        "white-box explanation": ("white-box", "explanation"),
        "black-box explanation": ("black-box", "explanation"),
    }
    same = {name: [38, 38, 38] for name in list(conditions)[2:]}
    table = judged(conditions, **same)
    assert set(table["attack"]) == {"fgsm", ""} and len(sanity.failures(table)) == 0
    first = {"white-box": ("white-box", "explanation"), "black-box": ("black-box", "explanation")}
    assert set(judged(first)["check"]) == {sanity.STEPS, sanity.TRANSFER, sanity.GRADIENTS}


def test_what_a_study_lacks_is_not_judged():
    table = judged(network="vgg16")  # the source alone, with one attack
    for check, why in ((sanity.STEPS, "one of several"), (sanity.TRANSFER, "another network")):
        row = verdict(table, check)
        assert (row["network"], row["verdict"]) == ("all", "not judged") and why in row["why"]
    assert len(sanity.failures(table)) == 0
