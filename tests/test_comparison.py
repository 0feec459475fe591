"""Several attacks compared: which steps the bracket has, and its tables by hand."""

import numpy as np
import pandas as pd
import pytest

from gradcam_adv.study import answers, comparison, shifts
from gradcam_adv.study.attacks import conditions_of
from gradcam_adv.study.config import parse


def conditions(*attacks):
    return conditions_of(parse({"name": "a", "attack": list(attacks)}))


@pytest.mark.parametrize(
    ("attacks", "expected"),
    [
        (["fgsm", "pgd"], [("noise", "white-box"), ("white-box", "white-box pgd")]),
        (["pgd", "fgsm"], [("noise", "white-box fgsm"), ("white-box fgsm", "white-box")]),
        (["pgd", "square", "autopgd"], [("noise", "white-box")]),
        (["explanation", "pgd"], [("noise", "white-box pgd"), ("white-box pgd", "white-box")]),
        (
            ["fgsm", "mi-fgsm", "pgd"],
            [
                ("noise", "white-box"),
                *(("white-box", f"white-box {a}") for a in ("pgd", "mi-fgsm")),
            ],
        ),
    ],
)
def test_the_steps_of_the_bracket(attacks, expected):
    found = list(comparison.steps(conditions(*attacks)))
    assert [step[1:] for step in found if step[0] == "white-box"] == expected
    black_box = [tuple(name.replace("white", "black") for name in step) for step in expected]
    assert [step[1:] for step in found if step[0] == "black-box"] == black_box


def nissim(**by_attack):
    """Two photos of three people each; epsilon 0.1 and, all 0, epsilon 0."""
    parts = []
    for attack, values in by_attack.items():
        photos = pd.DataFrame({"photo": [f"{i}" for i in range(6)], "nissim": values})
        photos["identity"] = photos["photo"].astype(int) % 3
        for epsilon, share in ((0.0, 0), (0.1, 1)):
            of_level = photos.assign(epsilon=epsilon, nissim=share * photos["nissim"])
            parts.append(of_level.assign(attack=attack.replace("_", "-").replace("--", " ")))
    return pd.concat(parts).assign(network="vgg16", target="predicted", size="input")


ROWS = {
    "noise": [0.1] * 6,
    "white_box": [0.3, 0.3, 0.2, 0.3, 0.3, 0.4],
    "white_box__pgd": [0.2, 0.21, 0.12, 0.2, 0.21, 0.32],
    "black_box": [0.2] * 6,
    "black_box__pgd": [0.2] * 6,
}


def test_the_bracket_compares_photo_by_photo():
    shuffled = nissim(**ROWS).sample(frac=1, random_state=0)
    table = comparison.bracket(shuffled, conditions("fgsm", "pgd"))
    assert set(table["epsilon"]) == {0.1}  # at 0 all are equal
    rows = table.set_index(["threat", "lower", "upper"])
    up = rows.loc["white-box", "noise", "fgsm"]
    assert up[["mod_lower", "mod_upper", "difference"]].tolist() == pytest.approx([0.1, 0.3, 0.2])
    assert 0 < up["low"] < 0.2 and (up["up"], up["down"], up["photos"]) == (6, 0, 6)
    down = rows.loc["white-box", "fgsm", "pgd"]
    assert down["difference"] == pytest.approx(-0.09) and down["high"] < 0
    assert rows.loc["black-box", "fgsm", "pgd"]["difference"] == pytest.approx(0)


def test_the_table_of_attacks_holds_what_the_other_tables_say():
    of = conditions("fgsm", "pgd")
    empty = {"flipped": False, "empty_clean": False, "empty_perturbed": False}
    every = nissim(**ROWS).assign(**empty)
    pairs = every.iloc[:6].assign(other_identity=9, nissim=0.5)
    attacked = pairs.iloc[:0].assign(attack="", epsilon=0.0)
    mod = shifts.mod(every, pairs, attacked)
    right = every.assign(label=1, predicted=1, predicted_clean=1)
    right.loc[right["attack"] == "white-box pgd", "predicted"] = 0
    accuracy = answers.accuracy(right[right["attack"] != "noise"])
    keys = {"network": "vgg16", "target": "predicted", "size": "input", "epsilon": 0.1}
    gains = pd.DataFrame(
        {"attack": ["white-box", "white-box", "white-box pgd"], "gain": [3.0, 9.0, np.inf]}
        | {"control": ["noise", "mirrored", "noise"], "low": [2.0, 8.0, 4.0], "high": np.inf}
    ).assign(**keys)
    table = comparison.attacks(accuracy, mod, gains, of).set_index(["threat", "attack"])
    assert list(table.index) == [
        (t, a) for a in ("fgsm", "pgd") for t in ("white-box", "black-box")
    ]
    columns = ["accuracy", "mod", "gain", "gain_low", "mod_noise", "unrelated"]
    assert table.loc[("white-box", "fgsm"), columns].tolist() == pytest.approx(
        [1, 0.3, 3, 2, 0.1, 0.5]
    )
    pgd = table.loc[("white-box", "pgd")]
    assert pgd[columns].tolist() == pytest.approx([0, 1.26 / 6, np.inf, 4, 0.1, 0.5])
    assert pgd["mod_low"] < pgd["mod"] < pgd["mod_high"] and pgd["accuracy_high"] > 0
