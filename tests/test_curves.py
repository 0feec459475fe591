"""The figures show the numbers that they are given, and so does the text beside them."""

from functools import partial
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from plans import plan_of

from gradcam_adv.report import attention, curves, drawing, figures
from gradcam_adv.study import parse

STUDY = parse({"name": "made", "networks": ["vgg16", "resnet50"], "epsilons": [0.05, 0.1]})
PLAN = plan_of(STUDY)
SOURCE = "ResNet50\n(source: white-box)"


def among_others(rows: list[dict]) -> pd.DataFrame:
    """The rows as those of the black-box attack, and others that must not be shown."""
    table = pd.DataFrame(rows)
    numbers = table.columns.difference(["network", "epsilon", "target", "size"])
    other = table.assign(**dict.fromkeys(numbers, 0.99))
    own = table.assign(attack="black-box", target="predicted", size="input")
    return pd.concat(
        [
            other.assign(attack="white-box", target="predicted", size="input"),
            other.assign(attack="black-box", target="clean", size="input"),
            other.assign(attack="black-box", target="predicted", size="native"),
            own,
        ]
    )


def test_accuracy_and_mod_with_their_controls():
    # Tables need not be in the order of epsilon.
    accuracy = pd.DataFrame(
        [
            (network, "black-box", epsilon, value, value - 0.1, value + 0.1)
            for network, values in (("vgg16", (0.3, 0.9)), ("resnet50", (0.2, 0.8)))
            for epsilon, value in zip((0.1, 0), values, strict=True)
        ],
        columns=["network", "attack", "epsilon", "accuracy", "low", "high"],
    )
    mod = among_others(
        [
            {"network": network, "epsilon": epsilon, "mod": share * unrelated, "low": 0,
             "high": unrelated, "mod_noise": share * unrelated / 2, "unrelated": unrelated}
            for network, unrelated in (("vgg16", 0.4), ("resnet50", 0.3))
            for epsilon, share in ((0.1, 0.5), (0, 0))
        ]
    )  # fmt: skip
    white_box = accuracy.assign(attack="white-box", accuracy=0.01)
    figure = curves.accuracy_and_mod(PLAN, pd.concat([accuracy, white_box]), mod)
    upper, lower = figure.axes[:2], figure.axes[2:]
    assert [axis.get_title() for axis in upper] == ["VGG16", SOURCE]
    np.testing.assert_allclose(upper[0].lines[0].get_xydata(), [[0, 0.9], [0.1, 0.3]])
    (band,) = upper[1].collections
    assert band.get_paths()[0].get_extents().y0 == pytest.approx(0.1)
    assert band.get_paths()[0].get_extents().y1 == pytest.approx(0.9)
    for axis, unrelated in zip(lower, (0.4, 0.3), strict=True):
        attack, noise, top = axis.lines
        np.testing.assert_allclose(attack.get_xydata(), [[0, 0], [0.1, unrelated / 2]])
        np.testing.assert_allclose(noise.get_xydata(), [[0, 0], [0.1, unrelated / 4]])
        assert set(top.get_ydata()) == {unrelated}
        assert [line.get_linestyle() for line in axis.lines] == ["-", "--", ":"]


def test_a_line_per_seed_and_their_mean_with_controls():
    def rows(quantity: str, network: str, of_seeds: list[float], epsilon: float) -> tuple:
        mean = np.mean(of_seeds)
        common = {"quantity": quantity, "network": network, "epsilon": epsilon}
        return (
            common | {"mean": mean, "low": mean - 0.1, "high": mean + 0.1},
            [common | {"seed": seed, "value": value} for seed, value in enumerate(of_seeds)],
        )

    made = [
        rows(quantity, network, [share * epsilon * own for own in (1, 2, 6)], epsilon)
        for network, share in (("vgg16", 1), ("resnet50", 0.5))
        for quantity in ("accuracy", "mod", "mod_noise")
        # Tables need not be in the order of epsilon.
        for epsilon in (0.1, 0.0)
    ]
    made += [rows("unrelated", name, [0.5, 0.75, 1.0], np.nan) for name in ("vgg16", "resnet50")]
    across = pd.DataFrame([mean for mean, _ in made])
    each = pd.DataFrame([value for _, values in made for value in values])
    figure = curves.across_seeds(across, each, "resnet50")
    upper, lower = figure.axes[:2], figure.axes[2:]
    assert [axis.get_title() for axis in upper] == ["VGG16", SOURCE]
    for axis in figure.axes:
        share = 1 if axis in (upper[0], lower[0]) else 0.5
        ends = [line.get_ydata()[-1] for line in axis.lines[:4]]
        assert ends == pytest.approx([0.1 * share, 0.2 * share, 0.6 * share, 0.3 * share])
        thin, thick = axis.lines[0], axis.lines[3]
        assert thin.get_linewidth() < thick.get_linewidth()
        (band,) = axis.collections
        assert band.get_paths()[0].get_extents().y1 == pytest.approx(0.3 * share + 0.1)
    for axis in lower:
        *_, noise, top = axis.lines
        assert [noise.get_linestyle(), top.get_linestyle()] == ["--", ":"]
        assert set(top.get_ydata()) == {0.75}
    labels = [text.get_text() for text in figure.axes[-1].get_legend().get_texts()]
    assert labels == [
        "each seed", "mean of the seeds", "random-sign noise", "unrelated photos",
    ]  # fmt: skip
    assert "seeds 0, 1, 2" in figure.get_suptitle()


@pytest.mark.parametrize("width", [4, 5.2, 16])
def test_a_caveat_fits_into_its_figure(tmp_path, width):
    figure = plt.figure(figsize=(width, 4))
    written = drawing.save({"curves": figure}, tmp_path, "RANDOM BASES, and more. " * 8)
    assert written == [tmp_path / "curves.png", tmp_path / "curves.svg"]
    assert all(path.stat().st_size for path in written)
    (caveat,) = figure.texts
    assert caveat.get_window_extent().x1 < figure.bbox.x1
    assert not plt.fignum_exists(figure.number)


def test_figure_4_shows_noise_of_the_largest_epsilon_and_unrelated_photos():
    middles = {("black-box", 0.05): 0.1, ("black-box", 0.1): 0.3, ("noise", 0.05): 0.05,
               ("noise", 0.1): 0.2, ("white-box", 0.1): 0.8}  # fmt: skip

    def nissim(network: str) -> pd.DataFrame:
        spread = 0.02 * (network == "vgg16")  # all equal on the other network
        own = [
            pd.DataFrame({"nissim": middle + spread * np.linspace(-1, 1, 9)}).assign(
                attack=attack, epsilon=epsilon, target="predicted", size="input"
            )
            for (attack, epsilon), middle in middles.items()
        ]
        other = [table.assign(target="clean", nissim=0.9) for table in own]
        return pd.concat(own + other)

    score = {n: SimpleNamespace(of_study=partial(nissim, n)) for n in STUDY.networks}
    vid = among_others([{"network": "vgg16", "vid": 0.2}, {"network": "resnet50", "vid": 0.1}])
    mod = among_others(
        [
            {"network": network, "epsilon": epsilon, "unrelated": unrelated}
            for network, unrelated in (("vgg16", 0.6), ("resnet50", 0.5))
            for epsilon in (0, 0.05, 0.1)
        ]
    )
    figure = figures.nissim_density(plan_of(STUDY, score=score), vid, mod)
    plt.close(figure)
    of_vgg16, of_resnet50 = figure.axes
    assert of_vgg16.get_title() == "VGG16\nVID = 0.2000"
    noise, unrelated = of_vgg16.lines
    assert noise.get_xdata()[noise.get_ydata().argmax()] == pytest.approx(0.2, abs=1e-3)
    assert (noise.get_linestyle(), unrelated.get_linestyle()) == ("--", ":")
    assert set(unrelated.get_xdata()) == {0.6}
    assert len(of_vgg16.collections) == 2  # the densities of the two epsilons, filled
    assert [line.get_xdata()[0] for line in of_resnet50.lines] == [0.1, 0.3, 0.2, 0.5]
    written = [text.get_text() for text in of_resnet50.get_legend().get_texts()]
    assert written[2:] == ["random-sign noise, ε = 0.1", "unrelated photos"]
    # The axis is long enough for the largest line.
    assert of_vgg16.get_xlim()[1] == pytest.approx(0.77)


def test_in_short_mod_stands_beside_noise_and_unrelated_photos():
    def row(network: str, epsilon: float, mod: float) -> dict:
        return {"network": network, "epsilon": epsilon, "mod": mod, "noise": 0.15,
                "noise_share": 0.15 / mod, "noise_share_low": 0.45, "noise_share_high": 0.712,
                "excess": mod - 0.15, "low": -0.01, "high": 0.11,
                "unrelated": 0.4, "unrelated_low": 0.35, "unrelated_high": 0.45,
                "of_unrelated": mod / 0.4, "of_unrelated_low": 0.5, "of_unrelated_high": 0.8,
                }  # fmt: skip

    excess = among_others(
        [
            row("vgg16", 0.05, 0.1),
            row("vgg16", 0.1, 0.2),
            row("resnet50", 0.1, 0.3),
            row("all", 0.1, 0.25),
            row("all", 0.05, 0.1),
        ]
    )
    text = attention.in_short(PLAN, excess)
    every, of_networks = text.split("By network: ")
    assert "ε = 0.1 " in every
    assert "**0.2500; random-sign noise of the same size gives 0.1500 (60 % [45, 71])**" in every
    assert "0.1000 [-0.0100, 0.1100]" in every
    assert "unrelated photos give 0.4000 [0.3500, 0.4500]: MOD is 62 % [50, 80] of that" in every
    assert of_networks.startswith(
        "VGG16 0.2000, noise 0.1500 (75 % [45, 71]), attack less noise 0.0500 ["
    )
    assert "; ResNet50 (source: white-box) 0.3000, noise 0.1500 (50 % [45, 71])" in of_networks
    assert "0.99" not in text


def test_in_short_with_an_attack_that_moves_nothing():
    numbers = (
        "mod",
        "noise",
        "excess",
        "low",
        "high",
        "unrelated",
        "unrelated_low",
        "unrelated_high",
    )
    zero = dict.fromkeys(numbers, 0.0)
    for ratio in ("noise_share", "of_unrelated"):
        zero |= dict.fromkeys((ratio, f"{ratio}_low", f"{ratio}_high"), np.nan)
    excess = among_others([{"network": name, "epsilon": 0.1} | zero for name in ("vgg16", "all")])
    assert "gives 0.0000 (–)**" in attention.in_short(PLAN, excess)


def test_the_shift_has_noise_below_each_network_and_the_agreement_of_random_directions():
    numbers = ["lost", "gained", "moved"]
    values = {"photos": 9, "compared": 8, "turned": 4, "direction": np.pi / 2, "agreement": 0.5}
    values |= {"area_ratio": 1.25, "area_ratio_low": 0.5, "area_ratio_high": 2}
    values |= dict.fromkeys(numbers, 0.25)
    values |= {f"{name}_{end}": 0.2 for name in numbers for end in ("low", "high")}
    keys = {"target": "predicted", "size": "input"}
    still = {"turned": 0, "direction": np.nan, "agreement": np.nan}
    shift = pd.DataFrame(
        [
            values | keys | {"network": network, "epsilon": epsilon, "attack": attack} | other
            for network in ("vgg16", "resnet50")
            for epsilon in (0, 0.05, 0.1)
            for attack, other in (("noise", still), ("white-box", still), ("black-box", {}))
        ]
    )
    rows = attention.rows(PLAN, shift)
    assert [row["Network"] for row in rows[2:6]] == [
        "VGG16", "– random-sign noise", "ResNet50 (source: white-box)", "– random-sign noise",
    ]  # fmt: skip
    assert [row["ε"] for row in rows] == ["0.05"] * 2 + ["0.1"] * 2 + ["0.05"] * 2 + ["0.1"] * 2
    assert rows[0] | {"Network": "", "ε": ""} == {
        "Network": "",
        "ε": "",
        "Photos compared": "8 of 9",
        "Lost, %": "25.00 [20.00, 20.00]",
        "Gained, %": "25.00 [20.00, 20.00]",
        "Area ratio": "1.25 [0.50, 2.00]",
        "Moved, %": "25.00 [20.00, 20.00]",
        "Agreement (random), direction": "0.50 (0.44), 90°",
    }
    assert rows[1]["Agreement (random), direction"] == "–"
