"""The figures show the numbers that they are given, and so does the text beside them."""

from functools import partial
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from plans import plan_of

from gradcam_adv.plots import style
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
            common
            | {"mean": mean, "low": mean - 0.1, "high": mean + 0.1}
            | {"least": min(of_seeds), "greatest": max(of_seeds)},
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
    labels = {text.get_text() for text in figure.axes[-1].texts}
    assert labels == {"attack", "noise", "unrelated"}
    assert "From seed to seed (0, 1, 2)" in figure.get_suptitle()


def test_a_figure_says_in_its_files_what_it_shows_and_of_which_data(tmp_path):
    figure = plt.figure(figsize=(5, 4))
    figure.suptitle("MOD rises\nto 0.3")
    written = drawing.save({"curves": figure}, tmp_path, "RANDOM BASES")
    assert written == [tmp_path / "curves.png", tmp_path / "curves.svg"]
    with Image.open(written[0]) as image:
        about = image.text
    assert (about["Title"], about["Description"]) == ("MOD rises to 0.3", "RANDOM BASES")
    assert "MOD rises to 0.3" in written[1].read_text() and "RANDOM BASES" in written[1].read_text()
    assert not plt.fignum_exists(figure.number)
    assert len(figure.texts) == 1  # the heading; no caveat is written into the picture


def test_names_stand_beside_the_ends_of_lines_and_do_not_cover_each_other():
    figure, axis = plt.subplots()
    for name, end in (("a", 0.5), ("b", 0.5), ("c", 0.49), ("d", 1.0), ("_hidden", 0.2)):
        axis.plot([0, 1], [0, end], label=name)
    axis.axhline(0.0, label="low")
    axis.set_ylim(0, 1)
    style.label_lines(axis)
    plt.close(figure)
    places = {text.get_text(): text.get_position()[1] for text in axis.texts}
    assert set(places) == {"a", "b", "c", "d", "low"}
    assert places["low"] == 0 and places["d"] <= 1
    heights = sorted(places.values())
    line = style.LABEL_SIZE / 72 * figure.dpi / axis.get_window_extent().height
    assert min(np.diff(heights)) >= line
    colours = {text.get_text(): text.get_color() for text in axis.texts}
    assert all(colours[line.get_label()] == line.get_color() for line in axis.lines[:4])


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
    assert written[2:] == ["noise, ε = 0.1", "unrelated photos"]
    assert "varies least on ResNet50 and most on VGG16" in " ".join(figure.get_suptitle().split())
    # The axis is long enough for the largest line.
    assert of_vgg16.get_xlim()[1] == pytest.approx(0.77)


def test_mod_stands_beside_noise_and_unrelated_photos():
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
    rows = attention.excess_rows(PLAN, excess)
    assert [row["Network"] for row in rows] == [
        "VGG16", "ResNet50 (source: white-box)", "all, their mean",
    ]  # fmt: skip
    assert rows[2] == {
        "Network": "all, their mean",
        "MOD at ε = 0.1": "0.2500",
        "Noise": "0.1500",
        "Attack less noise": "0.1000 [-0.0100, 0.1100]",
        "Noise, share of MOD": "60 % [45, 71]",
        "Unrelated": "0.4000 [0.3500, 0.4500]",
        "MOD, share of unrelated": "62 % [50, 80]",
    }


def test_an_attack_that_moves_nothing():
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
    assert attention.excess_rows(PLAN, excess)[1]["Noise, share of MOD"] == "–"


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
