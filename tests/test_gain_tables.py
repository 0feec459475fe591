"""The tables of the gain by hand: over each control, the order of networks, the half-shift."""

import numpy as np
import pandas as pd
import pytest

from gradcam_adv.study import gain, shifts


@pytest.fixture
def with_controls():
    """Two photos of a network at 10 times epsilon by its attack, 5 times by noise; its controls."""
    by_attack = {
        ("black-box", 2): [0.01], ("white-box", 10): [0.002, 0.01], ("noise", 5): [0.01, 0.02],
        ("mirrored", 20): [0.01], ("from xception", 1): [0.01],
    }  # fmt: skip
    rows = [
        (attack, epsilon, photo, photo[0], times * epsilon + change)
        for (attack, times), epsilons in by_attack.items()
        for epsilon in epsilons
        for photo, change in (("a1", -0.001), ("b1", 0.001))
    ]
    table = pd.DataFrame(rows, columns=["attack", "epsilon", "photo", "identity", "nissim"])
    return table.assign(network="vgg16", target="predicted", size="input")


def test_the_gain_over_each_control_by_hand(with_controls):
    table, _ = gain.by_network([with_controls.sample(frac=1, random_state=0)], seed=0)
    found = table.set_index(["attack", "control", "epsilon"])
    assert set(found.index) == {
        ("black-box", "noise", 0.01), ("white-box", "noise", 0.002), ("white-box", "noise", 0.01),
        ("white-box", "mirrored", 0.002), ("white-box", "mirrored", 0.01),
    }  # fmt: skip
    gains = found["gain"].sort_index()
    assert gains.tolist() == pytest.approx([0.4, 0.5, 0.5, 2, 2])
    row = found.loc["white-box", "noise", 0.01]
    assert row[["photos", "mod", "mod_control", "most", "equivalent"]].tolist() == pytest.approx(
        [2, 0.1, 0.05, 0.02, 0.02]
    )
    assert row["low"] <= 2 + 1e-9 and row["high"] >= 2 - 1e-9
    assert np.isnan(found.loc[("white-box", "noise", 0.002), "mod_control"])


def test_the_half_shift_of_a_study_by_hand(with_controls):
    apart = [("a1", "a", 0.05), ("a1", "a", 0.03), ("b1", "b", 0.04)]
    unrelated = pd.DataFrame(apart, columns=["photo", "identity", "nissim"])
    unrelated = unrelated.assign(network="vgg16", target="predicted", size="input")
    table = gain.half_shift(with_controls, unrelated, seed=0).set_index("attack")
    assert list(table.index) == ["black-box", "white-box"]
    row = table.loc["white-box"]  # half of 0.04 is reached at 0.002 and at 0.004
    assert row[["unrelated", "half_shift", "noise", "ratio"]].tolist() == pytest.approx(
        [0.04, 0.002, 0.004, 2]
    )
    assert (row["least"], row["photos"]) == (0.002, 2)
    assert row["noise_low"] <= row["noise"] <= row["noise_high"]


def test_the_curves_of_the_gain(with_controls):
    table = shifts.gain_curves(with_controls)
    assert set(table["attack"]) == {"white-box", "noise", "mirrored"}
    mod = table.set_index(["attack", "epsilon"])["mod"]
    assert mod["noise"].tolist() == pytest.approx([0.05, 0.1])


def test_the_order_of_two_networks_by_hand(with_controls):
    """The second network needs only half the noise; both curves are lines, so in every draw."""
    other = with_controls.assign(network="xception")
    weaker = other["attack"] == "white-box"
    other.loc[weaker, "nissim"] /= 2
    _, table = gain.by_network([with_controls, other], seed=0)
    shown = table[["network", "other_network", "epsilon", "share"]].to_numpy().tolist()
    assert shown == [["vgg16", "xception", 0.002, 1.0], ["vgg16", "xception", 0.01, 1.0]]
    twin = with_controls.assign(network="xception")
    _, same = gain.by_network([with_controls, twin], seed=0)
    assert same["share"].tolist() == [0.5, 0.5]
    without = with_controls[with_controls["attack"] != "white-box"]
    assert gain.by_network([without], seed=0)[1].empty
