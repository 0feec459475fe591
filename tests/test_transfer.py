"""The transfer matrix: each pair of networks once, with controls and the paper's values."""

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from plans import plan_of
from tabs import tab

from gradcam_adv.report import sections, transfer
from gradcam_adv.study import comparison, parse
from gradcam_adv.study.plan import ArmPlan
from gradcam_adv.study.settings import Arm

NETWORKS = ("vgg16", "resnet50", "xception")
# Right answers of 100, and MOD, by the network attacked and the attack, at epsilon 0.1.
RIGHT = {
    ("vgg16", "black-box"): (70, 0.21),
    ("vgg16", "white-box"): (10, 0.31),
    ("vgg16", "from xception"): (80, 0.11),
    ("resnet50", "black-box"): (20, 0.32),
    ("resnet50", "white-box"): (20, 0.32),
    ("resnet50", "from vgg16"): (60, 0.12),
    ("resnet50", "from xception"): (85, 0.13),
    ("xception", "black-box"): (50, 0.22),
    ("xception", "white-box"): (0, 0.33),
    ("xception", "from vgg16"): (55, 0.14),
}
# Right answers under noise and on clean photos, MOD of noise and of unrelated photos.
CONTROLS = {
    "vgg16": (90, 97, 0.05, 0.45),
    "resnet50": (91, 98, 0.06, 0.46),
    "xception": (92, 99, 0.07, 0.47),
}


def plan(*networks: str, source: str = "resnet50", arm: Arm = "plain") -> ArmPlan:
    return plan_of(parse({"name": "made", "networks": networks, "source": source}), arm)


def accuracy_and_mod(
    right: dict[tuple[str, str], tuple[int, float]] = RIGHT,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Both tables, with epsilons that are not in the matrix."""
    accuracy, mod = [], []

    def row(network: str, attack: str, epsilon: float, count: int) -> None:
        share = count / 100
        accuracy.append((network, attack, epsilon, 100, count, share, share - 0.1, share + 0.05))

    for (network, attack), (count, shift) in right.items():
        noise, clean, mod_noise, unrelated = CONTROLS[network]
        row(network, attack, 0.1, count)
        if not attack.startswith("from "):
            row(network, attack, 0.05, 33)
            row(network, attack, 0, clean)
        ends = shift - 0.02, shift + 0.03
        for epsilon, value, low, high in ((0.05, 0.01, 0, 1), (0.1, shift, *ends)):
            mod.append((network, attack, epsilon, 100, value, low, high, mod_noise, unrelated))
        if attack == "black-box":
            for epsilon, value in ((0.1, noise), (0.05, 34), (0, clean)):
                row(network, "noise", epsilon, value)
    keys = ["network", "attack", "epsilon", "photos"]
    right_columns = [*keys, "right", "accuracy", "low", "high"]
    mod_columns = [*keys, "mod", "low", "high", "mod_noise", "unrelated"]
    shifts = pd.DataFrame(mod, columns=mod_columns)
    shifts = shifts.assign(unrelated_low=0.4, unrelated_high=0.5)
    shifts = shifts.assign(mod_noise_low=0.0, mod_noise_high=1.0)
    return pd.DataFrame(accuracy, columns=right_columns), shifts


def test_every_attack_has_one_row_under_the_network_it_was_made_on():
    accuracy, mod = accuracy_and_mod()
    # The tables may be in any order; the matrix has that of the study.
    table = comparison.transfer(
        accuracy[::-1], mod.sample(frac=1, random_state=0), NETWORKS, "resnet50"
    )
    assert table.columns.tolist() == [
        "source", "network", "epsilon", "photos", "right", "accuracy", "low", "high",
        "mod", "mod_low", "mod_high", "mod_noise", "unrelated",
    ]  # fmt: skip
    pairs = list(zip(table["source"], table["network"], strict=True))
    assert pairs == [(source, network) for source in NETWORKS for network in NETWORKS]
    assert table["right"].tolist() == [10, 60, 55, 70, 20, 50, 80, 85, 0]
    assert table["mod"].tolist() == [0.31, 0.12, 0.14, 0.21, 0.32, 0.22, 0.11, 0.13, 0.33]
    assert set(table["epsilon"]) == {0.1}
    row = table.iloc[2]  # VGG16's attack on Xception
    assert row[["photos", "accuracy", "low", "high"]].tolist() == pytest.approx(
        [100, 0.55, 0.45, 0.6]
    )
    assert row[["mod_low", "mod_high", "mod_noise", "unrelated"]].tolist() == pytest.approx(
        [0.12, 0.17, 0.07, 0.47]
    )


def test_attacks_that_a_study_leaves_out_have_no_row():
    own = {pair: cell for pair, cell in RIGHT.items() if not pair[1].startswith("from ")}
    table = comparison.transfer(*accuracy_and_mod(own), NETWORKS, "resnet50")
    assert list(zip(table["source"], table["network"], strict=True)) == [
        ("vgg16", "vgg16"), ("resnet50", "vgg16"), ("resnet50", "resnet50"),
        ("resnet50", "xception"), ("xception", "xception"),
    ]  # fmt: skip
    black_box = {pair: cell for pair, cell in own.items() if pair[1] == "black-box"}
    table = comparison.transfer(*accuracy_and_mod(black_box), NETWORKS, "resnet50")
    assert set(table["source"]) == {"resnet50"}
    assert table["network"].tolist() == list(NETWORKS)


def summary_of(
    arm_plan: ArmPlan, right: dict[tuple[str, str], tuple[int, float]] = RIGHT
) -> dict[str, pd.DataFrame]:
    accuracy, mod = accuracy_and_mod(right)
    own = {
        "accuracy": accuracy,
        # With rows of another class and size, which are not shown.
        "mod": pd.concat(
            [
                mod.assign(mod=0.999, target="clean", size="input"),
                mod.assign(mod=0.999, target="predicted", size="native"),
                mod.assign(target="predicted", size="input"),
            ]
        ),
    }
    return own | sections.beside_paper(arm_plan, own)


def shown(arm_plan: ArmPlan, **changed) -> tuple[str, list, list]:
    """What stands beside the matrices, and the cells of those of accuracy and MOD."""
    values = transfer.values(arm_plan, summary_of(arm_plan, **changed))
    made = tab("results", study=arm_plan.study, arms={"plain": {"transfer": values}})
    block = made.below("The numbers with intervals")
    half = len(block.rows) // 2
    return block.text, block.rows[:half], block.rows[half:]


def test_the_section_has_both_matrices_with_controls_and_the_papers_row():
    text, accuracy, mod = shown(plan(*NETWORKS))
    assert "at ε = 0.1, the largest of this study" in text
    assert "the row of ResNet50 is the black-box attack" in text
    assert "there its value stands first" in text
    assert accuracy == [
        ["Attack made on", "VGG16", "ResNet50", "XceptionNet"],
        ["VGG16", "10.00 [0.00, 15.00]", "60.00 [50.00, 65.00]", "55.00 [45.00, 60.00]"],
        # Table 1 at epsilon 0.1.
        ["ResNet50", "89.86 | 70.00 [60.00, 75.00]", "70.60 | 20.00 [10.00, 25.00]",
         "56.41 | 50.00 [40.00, 55.00]"],
        ["XceptionNet", "80.00 [70.00, 85.00]", "85.00 [75.00, 90.00]", "0.00 [-10.00, 5.00]"],
        ["– random-sign noise", "90.00 [80.00, 95.00]", "91.00 [81.00, 96.00]",
         "92.00 [82.00, 97.00]"],
        ["– clean photos", "97.00 [87.00, 102.00]", "98.00 [88.00, 103.00]",
         "99.00 [89.00, 104.00]"],
    ]  # fmt: skip
    assert mod[1][1:3] == ["0.3100 [0.2900, 0.3400]", "0.1200 [0.1000, 0.1500]"]
    assert mod[2][0:2] == ["ResNet50", "0.1274 | 0.2100 [0.1900, 0.2400]"]  # and Table 3
    assert mod[4:] == [
        ["– random-sign noise", "0.0500", "0.0600", "0.0700"],
        ["– unrelated photos", "0.4500", "0.4600", "0.4700"],
    ]


def test_only_the_papers_own_source_has_values_of_the_paper():
    table = summary_of(plan(*NETWORKS))["transfer"]
    for column, value in (("paper_accuracy", 0.8986), ("paper_mod", 0.127394)):
        known = table[table[column].notna()]
        assert known["source"].tolist() == ["resnet50"] * 3
        assert known[column].iloc[0] == value


def test_the_aligned_arm_stands_beside_table_2():
    _, accuracy, _ = shown(plan(*NETWORKS, arm="aligned"))
    assert accuracy[2][1] == "84.43 | 70.00 [60.00, 75.00]"


def test_two_networks_without_the_papers_source_and_without_an_attack():
    right = {pair: RIGHT[pair] for pair in RIGHT if pair[0] == "vgg16" and pair[1] != "black-box"}
    right[("vgg16", "black-box")] = RIGHT["vgg16", "white-box"]
    right[("xception", "black-box")] = (50, 0.22)
    two = plan("vgg16", "xception", source="vgg16")
    text, accuracy, mod = shown(two, right=right)
    said = "a network that this run does not have. A dash: an attack that this study leaves out."
    assert said in text
    assert accuracy[1][1:] == ["10.00 [0.00, 15.00]", "50.00 [40.00, 55.00]"]
    assert accuracy[2] == ["XceptionNet", "80.00 [70.00, 85.00]", "–"]
    assert mod[2][2] == "–"
    assert not any("|" in cell for row in accuracy for cell in row)


def cells(axis) -> dict[str, list[str]]:
    """What is written in the cells of a heatmap, by row; "" in an empty one."""
    columns = len(axis.get_xticklabels())
    rows = {label.get_text(): [""] * columns for label in axis.get_yticklabels()}
    for text in axis.texts:
        x, y = map(int, text.get_position())
        list(rows.values())[y][x] = text.get_text()
    return rows


def test_the_figure_shows_each_pair_with_its_controls():
    right = {pair: cell for pair, cell in RIGHT.items() if pair != ("resnet50", "from xception")}
    summary = summary_of(plan(*NETWORKS), right)
    figure = transfer.matrix(plan(*NETWORKS), summary["transfer"], summary["accuracy"])
    accuracy, mod, *_ = figure.axes
    plt.close(figure)
    for axis in (accuracy, mod):
        columns = [label.get_text() for label in axis.get_xticklabels()]
        assert columns == ["VGG16", "ResNet50", "XceptionNet"]
        assert axis.collections[0].norm.vmin == 0
        # The white-box attacks on the diagonal are framed.
        assert [frame.get_xy() for frame in axis.patches] == [(0, 0), (1, 1), (2, 2)]
    assert cells(accuracy) == {
        "VGG16": ["0.10", "0.60", "0.55"],
        "ResNet50": ["0.70", "0.20", "0.50"],
        "XceptionNet": ["0.80", "", "0.00"],
        "random-sign noise": ["0.90", "0.91", "0.92"],
        "clean photos": ["0.97", "0.98", "0.99"],
    }
    assert cells(mod) == {
        "VGG16": ["0.310", "0.120", "0.140"],
        "ResNet50": ["0.210", "0.320", "0.220"],
        "XceptionNet": ["0.110", "", "0.330"],
        "random-sign noise": ["0.050", "0.060", "0.070"],
        "unrelated photos": ["0.450", "0.460", "0.470"],
    }
    assert accuracy.collections[0].norm.vmax == 1
    assert mod.collections[0].norm.vmax == 0.47
    assert "ε = 0.1 " in figure.get_suptitle()
