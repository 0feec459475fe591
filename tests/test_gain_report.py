"""The report on the gain shows the numbers that it is given, bounds as bounds."""

import numpy as np
import pandas as pd
import pytest
from plans import plan_of

from gradcam_adv.report import gain, seeds
from gradcam_adv.study import parse

PLAN = plan_of(parse({"name": "made", "networks": ["vgg16", "resnet50"], "epsilons": [0.01, 0.1]}))
OF_MAPS = {"target": "predicted", "size": "input"}


def row(network, attack="white-box", control="noise", epsilon=0.01, **values):
    numbers = {"gain": 6.81, "low": 5.92, "high": 7.77, "most": 0.3}
    about = {"network": network, "attack": attack, "control": control, "epsilon": epsilon}
    return OF_MAPS | about | numbers | values


@pytest.fixture
def gains():
    clean = {"target": "clean", "gain": 4.0, "low": 0.9}
    return pd.DataFrame(
        [
            row("vgg16"), row("vgg16", **clean), row("vgg16", epsilon=0.002, gain=9.0),
            row("vgg16", epsilon=0.1, gain=np.inf, low=2.5, high=np.inf),
            row("vgg16", "black-box", gain=1.2), row("vgg16", control="mirrored", gain=3.0),
            row("resnet50"), row("resnet50", **clean), row("resnet50", "black-box", gain=1.3),
            row("vgg16", size="native", gain=99.0),
        ]
    )  # fmt: skip


@pytest.fixture
def halves():
    names = ("half_shift", "noise", "ratio")
    ends = {f"{n}{e}": v for n, v in zip(names, (0.003, 0.05, 16.7), strict=True)
            for e in ("", "_low", "_high")}  # fmt: skip
    common = OF_MAPS | {"attack": "white-box", "least": 0.001, "unrelated": 0.4} | ends
    return pd.DataFrame(
        [
            common | {"network": "vgg16", "half_shift": 0.0004},
            common | {"network": "resnet50", "noise_high": np.inf},
            common | {"network": "resnet50", "attack": "black-box"},
        ]
    )


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ({}, "6.8 [5.9, 7.8]"),
        ({"high": np.inf}, "6.8 [5.9, ∞)"),
        ({"low": np.nan, "high": np.nan}, "6.8 [–, –]"),
        ({"gain": np.inf, "high": np.inf, "epsilon": 0.1}, "> 3 [5.9, ∞)"),
        ({"gain": np.inf, "low": np.inf, "high": np.inf}, "> 30"),
    ],
)
def test_a_gain_with_its_interval(values, shown):
    (only,) = pd.DataFrame([row("vgg16", **values)]).itertuples()
    assert gain.cell(only) == shown


def test_the_table_has_a_row_for_each_attack_control_and_class(gains):
    rows = gain.rows(PLAN, gains)
    keys = ["Network", "Attack", "Over", "Class"]
    assert [[r[key] for key in keys] for r in rows] == [
        ["VGG16", "white-box", "noise", "predicted"],
        ["VGG16", "white-box", "noise", "clean"],
        ["VGG16", "white-box", "mirrored signs", "predicted"],
        ["VGG16", "black-box", "noise", "predicted"],
        ["ResNet50", "white-box", "noise", "predicted"],
        ["ResNet50", "white-box", "noise", "clean"],
    ]
    # Every row has a cell for each epsilon of any row, from the smallest to the largest.
    assert list(rows[0])[4:] == list(rows[3])[4:] == ["ε = 0.002", "ε = 0.01", "ε = 0.1"]
    assert [rows[0][key] for key in list(rows[0])[4:]] == [
        "9.0 [5.9, 7.8]", "6.8 [5.9, 7.8]", "> 3 [2.5, ∞)",
    ]  # fmt: skip
    assert rows[3]["ε = 0.1"] == "–"


def test_the_half_shift_below_the_smallest_epsilon_is_a_bound(halves):
    first, second = gain.half_shift_rows(PLAN, halves)
    assert (first["Network"], first["Attack's"]) == ("VGG16", "< 0.001")
    assert first["Ratio"] == "> 50.0"  # noise's 0.05 by the smallest epsilon
    assert second["Attack's"] == "0.003 [0.003, 0.003]"
    assert second["Noise's"] == "0.05 [0.05, ∞)"
    assert second["Ratio"] == "16.7 [16.7, 16.7]"


def test_the_draws_of_noise_with_their_range():
    draws = pd.DataFrame(
        [
            OF_MAPS
            | {"network": "vgg16", "target": target, "epsilon": epsilon, "draws": 3}
            | {"mod": mod, "least": mod - 0.01, "greatest": mod + 0.02}
            for target, epsilon, mod in (("predicted", 0.1, 0.3), ("clean", 0.1, 0.2))
        ]
    )
    assert gain.draw_rows(PLAN, draws) == [
        {"Network": "VGG16", "Class": "predicted", "ε = 0.1": "0.300 (0.290–0.320)"},
        {"Network": "VGG16", "Class": "clean", "ε = 0.1": "0.200 (0.190–0.220)"},
    ]
    assert gain.draw_rows(PLAN, draws.assign(draws=1)) == []


def test_the_order_of_the_networks():
    order = pd.DataFrame(
        [
            OF_MAPS
            | {"network": "vgg16", "other_network": "resnet50", "epsilon": 0.01, "share": 0.256}
        ]
    )
    assert gain.order_rows(PLAN, order) == [{"Networks": "VGG16 above ResNet50", "ε = 0.01": "26"}]


def test_the_figure_leaves_out_what_is_infinite(gains, halves):
    curves = pd.DataFrame(
        [
            OF_MAPS | {"network": network, "attack": attack, "epsilon": epsilon}
            | {"mod": 3 * epsilon, "low": epsilon, "high": 4 * epsilon}
            for network in ("vgg16", "resnet50")
            for attack in ("white-box", "noise")
            for epsilon in (0.1, 0.01)
        ]
    )  # fmt: skip
    figure = gain.figure(PLAN, gains, curves, halves)
    above, _, below, _ = figure.axes
    np.testing.assert_allclose(above.lines[0].get_xydata(), [[0.01, 0.03], [0.1, 0.3]])
    np.testing.assert_allclose(below.lines[0].get_xydata(), [[0.002, 9], [0.01, 6.81]])
    # Of the noise the band ends at the largest high end that is known.
    top = max(vertex[1] for vertex in below.collections[0].get_paths()[0].vertices)
    assert top == pytest.approx(7.77)
    assert {text.get_text() for text in figure.axes[1].texts} == {"attack", "noise", "unrelated"}
    heading = " ".join(figure.get_suptitle().split())
    assert heading.endswith("an attack of ε = 0.01: VGG16 6.8, ResNet50 6.8")


def test_the_gain_of_each_seed(gains):
    of_seeds = pd.concat([gains.assign(arm="plain", seed=seed) for seed in (0, 5)])
    shown = seeds._gains(of_seeds.query("target == 'predicted' and size == 'input'"))
    assert [(r["Network"], r["Seed"]) for r in shown] == [
        ("VGG16", "0"), ("VGG16", "5"), ("ResNet50", "0"), ("ResNet50", "5"),
    ]  # fmt: skip
    assert shown[0]["ε = 0.01"] == "6.8 [5.9, 7.8]"


def test_the_spectrum_has_random_signs_last():
    shares = pd.DataFrame(
        [
            (network, attack, share, share - 0.01, share + 0.01)
            for network in ("vgg16", "resnet50")
            for attack, share in (("white-box", 0.2), ("noise", 0.0625))
        ],
        columns=["network", "attack", "low_frequency", "low", "high"],
    )
    assert gain.spectrum(PLAN, shares) == (
        "VGG16 20.00 % [19.00, 21.00], ResNet50 20.00 % [19.00, 21.00], "
        "random signs 6.25 % [5.25, 7.25]"
    )
