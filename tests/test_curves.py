"""The curves show the numbers they were given, and what the report says of them adds up."""

from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from gradcam_adv.report import attention, curves, figures

SETTING = SimpleNamespace(
    study=SimpleNamespace(
        networks=("vgg16", "resnet50"),
        source="resnet50",
        attacked_epsilons=(0.05, 0.1),
        readings=SimpleNamespace(explained_class="predicted", heatmap_size="input"),
    )
)


def both_attacks(rows: list[dict]) -> pd.DataFrame:
    """The rows as those of the black-box attack, and others that must not be shown."""
    table = pd.DataFrame(rows)
    numbers = table.columns.difference(["network", "epsilon", "target", "size"])
    other = table.assign(**dict.fromkeys(numbers, 0.99))
    of_own_class = table.assign(attack="black-box", target="predicted", size="input")
    return pd.concat(
        [
            other.assign(attack="white-box", target="predicted", size="input"),
            other.assign(attack="black-box", target="clean", size="input"),
            other.assign(attack="black-box", target="predicted", size="native"),
            of_own_class,
        ]
    )


def test_accuracy_and_mod_with_noise_and_ceiling():
    # Not in the order of epsilon, as no table need be.
    accuracy = pd.DataFrame(
        [
            (network, "black-box", epsilon, value, value - 0.1, value + 0.1)
            for network, values in (("vgg16", (0.3, 0.9)), ("resnet50", (0.2, 0.8)))
            for epsilon, value in zip((0.1, 0), values, strict=True)
        ],
        columns=["network", "attack", "epsilon", "accuracy", "low", "high"],
    )
    mod = both_attacks(
        [
            {"network": network, "epsilon": epsilon, "mod": share * ceiling, "low": 0,
             "high": ceiling, "mod_noise": share * ceiling / 2, "ceiling": ceiling}
            for network, ceiling in (("vgg16", 0.4), ("resnet50", 0.3))
            for epsilon, share in ((0.1, 0.5), (0, 0))
        ]
    )  # fmt: skip
    white_box = accuracy.assign(attack="white-box", accuracy=0.01)
    figure = curves.accuracy_and_mod(SETTING, pd.concat([accuracy, white_box]), mod)
    upper, lower = figure.axes[:2], figure.axes[2:]
    assert [axis.get_title() for axis in upper] == ["VGG16", "ResNet50\n(source: white-box)"]
    np.testing.assert_allclose(upper[0].lines[0].get_xydata(), [[0, 0.9], [0.1, 0.3]])
    (band,) = upper[1].collections
    assert band.get_paths()[0].get_extents().y0 == pytest.approx(0.1)
    assert band.get_paths()[0].get_extents().y1 == pytest.approx(0.9)
    for axis, ceiling in zip(lower, (0.4, 0.3), strict=True):
        attack, noise, top = axis.lines
        np.testing.assert_allclose(attack.get_xydata(), [[0, 0], [0.1, ceiling / 2]])
        np.testing.assert_allclose(noise.get_xydata(), [[0, 0], [0.1, ceiling / 4]])
        assert set(top.get_ydata()) == {ceiling}
        assert [line.get_linestyle() for line in axis.lines] == ["-", "--", ":"]


def test_a_line_a_seed_and_their_mean_with_noise_and_ceiling():
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
        # Not in the order of epsilon, as no table need be.
        for epsilon in (0.1, 0.0)
    ]
    made += [rows("ceiling", name, [0.5, 0.75, 1.0], np.nan) for name in ("vgg16", "resnet50")]
    across = pd.DataFrame([mean for mean, _ in made])
    each = pd.DataFrame([value for _, values in made for value in values])
    figure = curves.across_seeds(across, each, "resnet50")
    upper, lower = figure.axes[:2], figure.axes[2:]
    assert [axis.get_title() for axis in upper] == ["VGG16", "ResNet50\n(source: white-box)"]
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
        "each seed", "mean of the seeds", "random-sign noise", "unrelated photos (ceiling)",
    ]  # fmt: skip
    assert "seeds 0, 1, 2" in figure.get_suptitle()


@pytest.mark.parametrize("width", [4, 5.2, 16])
def test_a_caveat_stands_inside_of_its_figure(tmp_path, width):
    figure = plt.figure(figsize=(width, 4))
    written = figures.save({"curves": figure}, tmp_path, "RANDOM BASES, and more. " * 8)
    assert written == [tmp_path / "curves.png", tmp_path / "curves.svg"]
    assert all(path.stat().st_size for path in written)
    (caveat,) = figure.texts
    assert caveat.get_window_extent().x1 < figure.bbox.x1
    assert not plt.fignum_exists(figure.number)


def test_figure_4_has_noise_of_the_largest_epsilon_and_the_ceiling(monkeypatch):
    middles = {("black-box", 0.05): 0.1, ("black-box", 0.1): 0.3, ("noise", 0.05): 0.05,
               ("noise", 0.1): 0.2, ("white-box", 0.1): 0.8}  # fmt: skip

    def scored(setting, network: str) -> pd.DataFrame:
        spread = 0.02 * (network == "vgg16")  # and all the same for the other
        own = [
            pd.DataFrame({"nissim": middle + spread * np.linspace(-1, 1, 9)}).assign(
                attack=attack, epsilon=epsilon, target="predicted", size="input"
            )
            for (attack, epsilon), middle in middles.items()
        ]
        other = [table.assign(target="clean", nissim=0.9) for table in own]
        return pd.concat(own + other)

    monkeypatch.setattr(figures, "scores", scored)
    vid = both_attacks([{"network": "vgg16", "vid": 0.2}, {"network": "resnet50", "vid": 0.1}])
    mod = both_attacks(
        [
            {"network": network, "epsilon": epsilon, "ceiling": ceiling}
            for network, ceiling in (("vgg16", 0.6), ("resnet50", 0.5))
            for epsilon in (0, 0.05, 0.1)
        ]
    )
    figure = figures.nissim_density(SETTING, vid, mod)
    plt.close(figure)
    of_vgg16, of_resnet50 = figure.axes
    assert of_vgg16.get_title() == "VGG16\nVID = 0.2000"
    noise, ceiling = of_vgg16.lines
    assert noise.get_xdata()[noise.get_ydata().argmax()] == pytest.approx(0.2, abs=1e-3)
    assert (noise.get_linestyle(), ceiling.get_linestyle()) == ("--", ":")
    assert set(ceiling.get_xdata()) == {0.6}
    assert len(of_vgg16.collections) == 2  # the levels of attack, filled
    assert [line.get_xdata()[0] for line in of_resnet50.lines] == [0.1, 0.3, 0.2, 0.5]
    written = [text.get_text() for text in of_resnet50.get_legend().get_texts()]
    assert written[2:] == ["random-sign noise, ε = 0.1", "unrelated photos (ceiling)"]
    # The farthest ceiling lies inside.
    assert of_vgg16.get_xlim()[1] == pytest.approx(0.77)


def test_one_line_says_how_much_of_mod_is_the_attacks():
    def row(network: str, epsilon: float, mod: float) -> dict:
        return {"network": network, "epsilon": epsilon, "mod": mod, "noise": 0.15,
                "excess": mod - 0.15, "low": -0.01, "high": 0.11, "ceiling": 0.4}  # fmt: skip

    excess = both_attacks(
        [
            row("vgg16", 0.05, 0.1),
            row("vgg16", 0.1, 0.2),
            row("resnet50", 0.1, 0.3),
            row("all", 0.1, 0.25),
            row("all", 0.05, 0.1),
        ]
    )
    text = attention.in_short(SETTING, {"excess": excess})
    every, of_networks = text.split("By network: ")
    assert "ε = 0.1 " in every
    assert "**0.2500, of which random-sign noise of the same size gives 0.1500 (60 %)**" in every
    assert "0.1000 [-0.0100, 0.1100]" in every
    assert "0.4000: MOD is at 62 % of that ceiling" in every
    assert of_networks.startswith("VGG16 0.2000, noise 0.1500 (75 %), attack less noise 0.0500 [")
    assert "; ResNet50 (source: white-box) 0.3000, noise 0.1500 (50 %)" in of_networks
    assert "0.99" not in text


def test_one_line_of_an_attack_that_moved_nothing():
    zero = dict.fromkeys(("mod", "noise", "excess", "low", "high", "ceiling"), 0.0)
    excess = both_attacks([{"network": name, "epsilon": 0.1} | zero for name in ("vgg16", "all")])
    assert "gives 0.0000 (–)**" in attention.in_short(SETTING, {"excess": excess})


def test_the_shift_has_noise_below_each_network_and_says_what_chance_would_do():
    numbers = ["lost", "gained", "moved"]
    values = {"photos": 9, "compared": 8, "turned": 4, "direction": np.pi / 2, "agreement": 0.5}
    values |= {"area_ratio": 1.25} | dict.fromkeys(numbers, 0.25)
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
    rows = attention.rows(SETTING, shift)
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
        "Area ratio": "1.25",
        "Moved, %": "25.00 [20.00, 20.00]",
        "Agreement (by chance), direction": "0.50 (0.44), 90°",
    }
    assert rows[1]["Agreement (by chance), direction"] == "–"
