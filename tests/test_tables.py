"""Summary tables by hand, intervals against other sources, and the tables of the paper."""

import numpy as np
import pandas as pd
import pytest

from gradcam_adv.paper import printed
from gradcam_adv.study import answers, differences, shifts


@pytest.fixture
def predictions():
    return pd.DataFrame(
        {
            "network": "vgg16",
            "attack": ["white-box"] * 6,
            "epsilon": [0.0] * 3 + [0.1] * 3,
            "label": [0, 1, 2] * 2,
            "predicted": [0, 1, 1, 0, 0, 0],
            "predicted_clean": [0, 1, 1] * 2,
            "identity": ["a", "b", "c"] * 2,
            "psnr": [np.inf] * 3 + [19.0, 20.0, 21.0],
            "zero_gradient": [0.0, 0.1, 0.2] * 2,
        }
    )


def test_accuracy_by_hand(predictions):
    table = answers.accuracy(predictions).set_index("epsilon")
    assert table["right"].tolist() == [2, 1]
    assert table.loc[0.1, "accuracy"] == pytest.approx(1 / 3)
    assert (table["low"] < table["accuracy"]).all()
    assert (table["accuracy"] < table["high"]).all()
    # Of two right when clean, one is left.
    assert table.loc[0.1, "ratio"] == pytest.approx(1 / 2)
    assert 0 <= table.loc[0.1, "ratio_low"] < 0.5 < table.loc[0.1, "ratio_high"]


def test_accuracy_where_all_photos_agree_has_an_interval_and_where_none_was_right_no_ratio(
    predictions,
):
    wrong = answers.accuracy(predictions.assign(predicted=9)).iloc[1]
    assert wrong["low"] == 0 < wrong["high"]
    assert wrong["ratio_low"] == wrong["ratio"] == 0 < wrong["ratio_high"]
    never = answers.accuracy(predictions.assign(predicted_clean=9)).iloc[1]
    assert never[["ratio", "ratio_low", "ratio_high"]].isna().all()


def test_psnr_is_infinite_at_epsilon_zero_and_has_a_spread_above(predictions):
    table = answers.psnr(predictions).set_index("epsilon")
    assert table.loc[0.0, "psnr"] == np.inf
    assert table.loc[0.1, "psnr"] == 20
    assert table.loc[0.1, "spread"] == pytest.approx(np.sqrt(2 / 3))
    assert table["unchanged"].tolist() == [3, 0]


def test_unchanged_photos_are_counted_and_not_in_the_mean_psnr(predictions):
    predictions.loc[3, "psnr"] = np.inf
    row = answers.psnr(predictions).set_index("epsilon").loc[0.1]
    assert (row["psnr"], row["spread"], row["unchanged"]) == (20.5, 0.5, 1)


def test_the_share_of_zero_gradients_is_the_mean_over_photos(predictions):
    (row,) = answers.zero_gradients(predictions).to_dict("records")
    assert (row["photos"], row["zero_gradient"]) == (3, pytest.approx(0.1))
    assert 0 == row["low"] < 0.1 < row["high"] < 1


def test_the_spectrum_by_network_and_attack():
    shares = [("vgg16", "white-box", "a", 0.2), ("vgg16", "white-box", "b", 0.4)]
    noise = [("vgg16", "noise", "a", 0.06), ("vgg16", "noise", "b", 0.06)]
    columns = ["network", "attack", "identity", "low_frequency"]
    table = answers.spectrum(pd.DataFrame(rows, columns=columns) for rows in (shares, noise))
    own, of_noise = table.to_dict("records")
    assert (own["attack"], own["photos"], own["low_frequency"]) == (
        "white-box",
        2,
        pytest.approx(0.3),
    )
    assert own["low"] < 0.3 < own["high"]
    assert (of_noise["attack"], of_noise["low_frequency"]) == ("noise", 0.06)


@pytest.fixture
def nissim():
    rows = []
    for attack, values in (
        ("black-box", {0.0: [0, 0, 0], 0.05: [0.1, 0.2, 0.3], 0.1: [0.3, 0.2, 0.7]}),
        ("noise", {0.0: [0, 0, 0], 0.05: [0.1, 0.1, 0.1], 0.1: [0.2, 0.2, 0.2]}),
    ):
        for epsilon, photos in values.items():
            for photo, value in enumerate(photos):
                rows.append((attack, epsilon, f"p{photo}", f"i{photo}", value, photo == 2))
    table = pd.DataFrame(
        rows, columns=["attack", "epsilon", "photo", "identity", "nissim", "flipped"]
    )
    empty = {"empty_clean": table["photo"] == "p0", "empty_perturbed": table["nissim"] == 0.3}
    return table.assign(network="vgg16", target="predicted", size="input", **empty)


UNRELATED = pd.DataFrame(
    [("i0", "i1", 0.4), ("i1", "i2", 0.45), ("i2", "i0", 0.5)],
    columns=["identity", "other_identity", "nissim"],
).assign(network="vgg16", target="predicted", size="input")

UNRELATED_ATTACKED = UNRELATED.assign(
    attack=["black-box", "black-box", "white-box"], epsilon=0.1, nissim=[0.3, 0.4, 0.9]
)


OF_NOISE = ["mod_noise_low", "mod_noise", "mod_noise_high"]


def test_noise_has_the_interval_of_its_own_mean(nissim):
    """That of the attack, if noise has its values."""
    swapped = nissim["attack"].map({"black-box": "noise", "noise": "black-box"})
    rows = [
        shifts.mod(table, UNRELATED, UNRELATED_ATTACKED).set_index("epsilon").loc[0.1]
        for table in (nissim, nissim.assign(attack=swapped))
    ]
    assert rows[0][["low", "mod", "high"]].tolist() == rows[1][OF_NOISE].tolist()


@pytest.fixture
def three_draws(nissim):
    """The second draw of noise is 0.03 above the first, the third 0.06 below it."""
    first = nissim[nissim["attack"] == "noise"]
    several = [
        first.assign(attack=f"noise {draw}", nissim=first["nissim"] + change, flipped=True)
        for draw, change in ((2, 0.03), (3, -0.06))
    ]
    return pd.concat([nissim, *several]).sample(frac=1, random_state=0)


def test_noise_of_several_draws_is_their_mean(nissim, three_draws):
    table = shifts.over_draws(three_draws)
    assert len(table) == len(nissim)
    keys = ["attack", "epsilon", "photo"]
    found, once = table.set_index(keys).sort_index(), nissim.set_index(keys).sort_index()
    changed = found["nissim"] - once["nissim"]
    assert changed["noise"].tolist() == pytest.approx([-0.01] * 9)
    assert (changed["black-box"] == 0).all()
    pd.testing.assert_series_equal(found["flipped"], once["flipped"])
    assert shifts.over_draws(nissim) is nissim


def test_the_spread_of_noise_over_its_draws(nissim, three_draws):
    table = shifts.noise_draws(three_draws).set_index("epsilon").sort_index()
    assert table.index.tolist() == [0.05, 0.1]
    row = table.loc[0.05]
    assert (row["draws"], row["photos"]) == (3, 3)
    assert row[["mod", "least", "greatest"]].tolist() == pytest.approx([0.09, 0.04, 0.13])
    # The deviations are 0.01, 0.04 and -0.05, their squares sum up to 0.0042.
    assert row["spread"] == pytest.approx(0.0021**0.5)
    assert shifts.noise_draws(nissim)["spread"].isna().all()


def test_mod_and_its_controls_by_hand(nissim):
    table = shifts.mod(nissim, UNRELATED, UNRELATED_ATTACKED).set_index("epsilon")
    assert set(table["attack"]) == {"black-box"}
    assert table["unrelated_attacked"].to_dict() == pytest.approx(
        {0.0: np.nan, 0.05: np.nan, 0.1: 0.35}, nan_ok=True
    )
    row = table.loc[0.1]
    assert row["mod"] == pytest.approx(0.4)
    # Noise moves all maps as far.
    assert row[OF_NOISE].tolist() == pytest.approx([0.2] * 3)
    assert row["unrelated"] == pytest.approx(0.45)
    assert row["unrelated_low"] < 0.45 < row["unrelated_high"]
    assert row["mod_flipped"] == pytest.approx(0.7)
    assert row["mod_unflipped"] == pytest.approx(0.25)
    assert row["flipped"] == 1
    assert (row["empty_clean"], row["empty_perturbed"], row["both_empty"]) == (1, 1, 1)
    assert table.loc[0.05, ["empty_clean", "empty_perturbed", "both_empty"]].tolist() == [1, 1, 0]
    assert row["low"] < 0.4 < row["high"]
    assert table.loc[0.0, "mod"] == 0


def test_mod_of_no_flipped_photos_is_not_a_number(nissim):
    table = shifts.mod(nissim.assign(flipped=False), UNRELATED, UNRELATED_ATTACKED)
    assert table["mod_flipped"].isna().all()


ATTACKED = (0.05, 0.1)
WITH_ZERO = (0.0, 0.05, 0.1)


def test_deviations_by_hand(nissim):
    table = shifts.deviations(nissim, ATTACKED)
    assert list(table.columns) == [
        *("network", "attack", "target", "size", "identity", "photo", "levels", "deviation")
    ]
    # Of 0.1 and 0.3, of 0.2 twice, of 0.3 and 0.7; noise goes from 0.1 to 0.2.
    assert table["attack"].tolist() == ["black-box"] * 3 + ["noise"] * 3
    assert table["deviation"].tolist() == pytest.approx([0.1, 0, 0.2, 0.05, 0.05, 0.05])
    assert table["photo"].tolist() == ["p0", "p1", "p2"] * 2
    assert table["identity"].tolist() == ["i0", "i1", "i2"] * 2
    assert (table["levels"] == 2).all()
    assert (table[["network", "target", "size"]] == ["vgg16", "predicted", "input"]).all(axis=None)


def test_deviations_keep_only_the_columns_that_identify_a_condition(nissim):
    whole = shifts.deviations(nissim, WITH_ZERO)
    table = shifts.deviations(nissim.drop(columns=["target", "size"]), WITH_ZERO)
    pd.testing.assert_frame_equal(table, whole.drop(columns=["target", "size"]))
    assert (table["levels"] == 3).all()


def test_deviations_over_no_epsilon_are_an_empty_table(nissim):
    table = shifts.deviations(nissim, ())
    assert len(table) == 0
    assert {"network", "attack", "photo", "identity", "deviation"} <= set(table.columns)


def test_vid_by_hand(nissim):
    table = shifts.vid(nissim, ATTACKED).set_index("attack")
    row = table.loc["black-box"]
    # The deviations are 0.1, 0 and 0.2, each of another identity.
    assert row["vid"] == pytest.approx(0.1)
    assert 0 == row["low"] < 0.1 < row["high"] < 1
    assert row[["levels", "photos"]].tolist() == [2, 3]
    assert table.loc["noise", "vid"] == pytest.approx(0.05)
    with_zero = shifts.vid(nissim, WITH_ZERO).set_index("attack").loc["black-box"]
    expected = np.mean([np.std([0, 0.1, 0.3]), np.std([0, 0.2, 0.2]), np.std([0, 0.3, 0.7])])
    assert with_zero["vid"] == pytest.approx(expected)
    assert with_zero["levels"] == 3


def test_vid_of_mod_by_hand(nissim):
    row = shifts.vid(nissim, ATTACKED).set_index("attack").loc["black-box"]
    # MOD is 0.2 and 0.4; without i0 0.25 and 0.45, without i1 0.2 and 0.5, without i2 0.15, 0.25.
    assert row["vid_of_mod"] == pytest.approx(0.1)
    estimate = shifts.deviation_of_mod(nissim[nissim["attack"] == "black-box"], ATTACKED)
    assert estimate.without.to_dict() == pytest.approx({"i0": 0.1, "i1": 0.15, "i2": 0.05})
    # Three people do not show that MOD is not flat.
    assert 0 == row["vid_of_mod_low"] < 0.1 < row["vid_of_mod_high"]


def test_photos_that_move_oppositely_have_vid_but_no_vid_of_mod(nissim):
    opposite = nissim.assign(
        nissim=nissim["epsilon"].where(nissim["photo"] == "p0", 0.15 - nissim["epsilon"])
    )
    two = opposite[opposite["photo"] != "p2"]
    row = shifts.vid(two, ATTACKED).set_index("attack").loc["black-box"]
    assert row["vid"] == pytest.approx(0.025)
    assert row["vid_of_mod"] == pytest.approx(0)


def test_vid_of_mod_of_the_papers_table():
    expected = {"vgg16": 0.0107, "resnet50": 0.0632, "resnet101": 0.0695}
    expected |= {"inceptionv3": 0.0564, "xception": 0.0472}
    assert printed.vid_of_mod().round(4).to_dict() == expected


@pytest.mark.parametrize("epsilons", [ATTACKED, WITH_ZERO])
def test_attacks_of_the_transfer_matrix_have_no_vid(nissim, epsilons):
    one_level = nissim[(nissim["attack"] == "black-box") & (nissim["epsilon"] == 0.1)]
    both = pd.concat([nissim, one_level.assign(attack="from xception")])
    table = shifts.vid(both, epsilons)
    assert table["attack"].tolist() == ["black-box", "noise"]


def test_vid_does_not_depend_on_the_order_of_the_rows(nissim):
    shuffled = nissim.sample(frac=1, random_state=0)
    first, second = (shifts.vid(table, ATTACKED) for table in (nissim, shuffled))
    both = first.merge(second, on="attack")
    np.testing.assert_allclose(both["vid_x"], both["vid_y"])


def test_the_mean_shift_of_the_paper_is_the_mean_of_its_networks():
    means = printed.TABLE_3.mean(axis=1)
    np.testing.assert_allclose(means, printed.TABLE_3_MEAN_SHIFT, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("arm", "number", "count"), [("plain", 1, 296), ("aligned", 2, 257)])
def test_accuracies_of_the_paper_are_whole_numbers_of_photos(arm, number, count):
    accuracies = printed.ACCURACIES[arm]
    assert (accuracies.number, accuracies.photos) == (number, count)
    photos = accuracies.table.to_numpy() * count
    # They are printed to 0.01 %, some cut and not rounded, which is 0.03 of a photo.
    assert np.abs(photos - np.rint(photos)).max() < 0.035


def test_a_value_that_the_paper_does_not_print_is_none():
    assert printed.value_of(printed.TABLE_1, "vgg16", 0.02) is None
    assert printed.value_of(printed.TABLE_1, "vgg19", 0.1) is None
    assert printed.value_of(printed.TABLE_1, "xception", 0.1) == 0.5641


def test_arms_are_compared_on_the_photos_of_both():
    def arm(values: dict[str, float], attack: str = "black-box") -> pd.DataFrame:
        rows = [(f"{photo[0]}/{photo}", photo[0], attack, value) for photo, value in values.items()]
        return pd.DataFrame(rows, columns=["photo", "identity", "attack", "score"])

    plain = pd.concat([arm({"a1": 0.2, "a2": 0.4, "b1": 0.6, "c1": 1.0}), arm({"a1": 9}, "noise")])
    aligned = pd.concat([arm({"b1": 0.5, "a2": 0.8, "a1": 0.2}), arm({"a1": 11}, "noise")])
    result = differences.paired(plain, aligned, ["attack"], "score")
    row, noise = (row for _, row in result.iterrows())
    assert (row["attack"], noise["attack"]) == ("black-box", "noise")  # the control
    assert noise[["photos", "difference"]].tolist() == [1, 2]
    assert row["photos"] == 3  # c1 has no face
    assert row["plain"] == pytest.approx(0.4)
    assert row["aligned"] == pytest.approx(0.5)
    assert row["difference"] == pytest.approx(0.1)
    assert (row["up"], row["down"]) == (1, 1)
    # Two identities, the means of whose differences are 0.2 and -0.1.
    assert row["low"] < -0.1
    assert row["high"] > 0.2


def test_accuracies_that_do_not_differ_have_an_interval():
    arm = pd.DataFrame({"photo": range(30), "identity": range(30), "attack": "none", "right": 1})
    for result in (
        differences.paired(arm, arm, ["attack"], "right", answers=True),
        differences.unpaired(arm, arm, ["attack"], "right", answers=True),
    ):
        (row,) = result.to_dict("records")
        # By hand: 1 / (1 + 30 / t^2) with t = 2.045, the share of 30 people that can be missing.
        assert row["difference"] == 0
        assert (row["low"], row["high"]) == pytest.approx((-0.1224, 0.1224), abs=1e-4)
    same = differences.paired(arm, arm, ["attack"], "right").iloc[0]
    assert same[["low", "high"]].tolist() == [0, 0]  # if they were no answers


def test_the_columns_of_the_two_means_can_be_named():
    rows = {"photo": ["a", "b"], "identity": ["a", "b"], "attack": "black-box"}
    first, second = (pd.DataFrame({**rows, "score": scores}) for scores in ([1, 2], [4, 8]))
    result = differences.paired(first, second, ["attack"], "score", names=("first", "second"))
    assert result[["first", "second", "difference"]].to_numpy().tolist() == [[1.5, 6, 4.5]]
    assert "plain" not in result


def test_runs_of_different_photos_are_compared_without_pairs():
    def run(*values: float, attack: str = "black-box") -> pd.DataFrame:
        rows = [(f"{i}", f"{i}", attack, value) for i, value in enumerate(values)]
        return pd.DataFrame(rows, columns=["photo", "identity", "attack", "score"])

    first = pd.concat([run(0, 0, 3), run(9, 9, attack="noise"), run(5, 5, attack="white-box")])
    second = pd.concat([run(2, 4), run(9, 9, attack="noise")])
    result = differences.unpaired(first, second, ["attack"], "score")
    # White-box is in the first alone.
    assert result["attack"].tolist() == ["black-box", "noise"]
    assert result.iloc[1][["first", "second", "difference"]].tolist() == [9, 9, 0]
    row = result.iloc[0]
    assert row[["photos_first", "photos_second"]].tolist() == [3, 2]
    assert row[["first", "second", "difference"]].tolist() == [1, 3, 2]
    assert row["low"] < 2 < row["high"]


def test_depth_by_hand():
    rows = [
        ("vgg16", "black-box", epsilon, place, f"layer{place}", nissim)
        for epsilon, place, nissim in [
            (0.1, 0, 0.1), (0.1, 0, 0.3), (0.1, 1, 0.4), (0.1, 1, 0.6),
            (0.2, 0, 0.5), (0.2, 0, 0.9),
        ]
    ]  # fmt: skip
    columns = ["network", "attack", "epsilon", "depth", "layer", "nissim"]
    layers = pd.DataFrame(rows, columns=columns)
    noise = layers.assign(attack="noise", nissim=layers["nissim"] / 10)
    pairs = [("vgg16", 0, 0.4), ("vgg16", 0, 0.6), ("vgg16", 1, 0.8), ("xception", 0, 0)]
    unrelated = pd.DataFrame(pairs, columns=["network", "depth", "nissim"])
    depth = shifts.depth(pd.concat([noise, layers]), unrelated)
    assert depth["mod"].tolist() == pytest.approx([0.2, 0.5, 0.7])
    assert depth["mod_noise"].tolist() == pytest.approx([0.02, 0.05, 0.07])
    assert np.isposinf(depth["gain"]).all()  # noise never moves the maps so far
    # Ten times the noise: 0.2 is reached at 0.02, which is a fifth of 0.1.
    swapped = [layers.assign(attack="noise"), noise.assign(attack="black-box")]
    assert shifts.depth(pd.concat(swapped), unrelated)["gain"].tolist() == pytest.approx(
        [0.1, 0.1, 0.175]
    )
    assert depth["unrelated"].tolist() == pytest.approx([0.5, 0.8, 0.5])
    assert depth["layer"].tolist() == ["layer0", "layer1", "layer0"]
    assert depth["photos"].tolist() == [2, 2, 2]
    assert set(depth["attack"]) == {"black-box"}
    # A single example photo has no unrelated one.
    none = unrelated[:0].astype(object)  # as an empty file is read
    assert shifts.depth(pd.concat([noise, layers]), none)["unrelated"].isna().all()


def test_excess_is_mod_less_that_of_noise_photo_by_photo(nissim):
    shuffled = nissim.sample(frac=1, random_state=0)
    table = shifts.excess(shuffled, UNRELATED).sort_values("epsilon").set_index("epsilon")
    assert set(table["attack"]) == {"black-box"}
    row = table.loc[0.1]  # 0.3, 0.2, 0.7 less 0.2 each
    assert row[["mod", "noise", "excess", "unrelated"]].tolist() == pytest.approx(
        [0.4, 0.2, 0.2, 0.45]
    )
    assert row["low"] < 0.2 < row["high"]
    assert row[["noise_share", "of_unrelated"]].tolist() == pytest.approx([0.5, 0.4 / 0.45])
    for ratio in ("noise_share", "of_unrelated"):
        assert row[f"{ratio}_low"] < row[ratio] < row[f"{ratio}_high"]
    assert row["photos"] == 3
    assert table.loc[0.05, "excess"] == pytest.approx(0.1)


def test_the_interval_of_excess_is_of_the_differences_between_attack_and_noise():
    """The heatmaps of some photos move more than others under any attack; that cancels."""
    values = np.linspace(0, 0.9, 20)
    rows = pd.DataFrame({"photo": range(20), "identity": range(20), "nissim": values})
    both = [rows.assign(attack="black-box", nissim=values + 0.01), rows.assign(attack="noise")]
    table = pd.concat(both).assign(network="vgg16", epsilon=0.1, target="predicted", size="input")
    row = shifts.excess(table, UNRELATED).iloc[0]
    assert (row["low"], row["high"]) == (pytest.approx(0.01), pytest.approx(0.01))


def test_the_mean_over_networks_is_of_the_rows_that_all_networks_have():
    def network(**by_photo: float) -> pd.DataFrame:
        return pd.DataFrame({"photo": by_photo.keys(), "nissim": by_photo.values()})

    mean = shifts.over_networks([network(a=0.2, b=0.4), network(b=0.6, a=0.5, c=1)], ["photo"])
    assert mean.set_index("photo")["nissim"].to_dict() == pytest.approx({"a": 0.35, "b": 0.5})
    assert (mean["network"] == "all").all()


def region_shifts(
    attack: str, *photos: tuple[str, float, float, float, float, float]
) -> pd.DataFrame:
    columns = ["identity", "lost", "gained", "area_ratio", "moved", "direction"]
    rows = pd.DataFrame(photos, columns=columns)
    common = {"network": "vgg16", "epsilon": 0.1, "target": "predicted", "size": "input"}
    return rows.assign(attack=attack, **common)


def test_shift_by_hand():
    nan = float("nan")
    attack = region_shifts(
        "black-box",
        ("a", 0.2, 0.4, 0.5, 0.1, 0),
        ("a", 0.4, 0.4, 1, 0.3, np.pi / 2),
        ("b", 0.6, 0.1, 9, 0, nan),  # grown around its middle
        ("c", nan, nan, nan, nan, nan),  # an empty map
    )
    noise = region_shifts("noise", ("a", 0, 0, 1, 0, nan), ("b", 0, 0, 1, 0, nan))
    table = shifts.shift(pd.concat([attack, noise])).set_index("attack")
    row = table.loc["black-box"]
    assert row[["photos", "compared", "turned"]].tolist() == [4, 3, 2]
    assert row["lost"] == pytest.approx(0.4)
    # Two identities: t is 12.7, so nothing is known but that it is a share.
    assert (row["lost_low"], row["lost_high"]) == (0, 1)
    assert (row["gained_low"], row["gained_high"]) == (0, 1)
    assert row["gained"] == pytest.approx(0.3)
    assert row["area_ratio"] == 1
    # Nor of the median, but that it is between the smallest and the greatest.
    ends = row[["area_ratio_low", "area_ratio_high"]].tolist()
    assert ends == pytest.approx([0.5, 9], abs=0.1)
    assert row["moved"] == pytest.approx(0.4 / 3)
    # A step to the right and one up: (1, 1) / 2 is sqrt(2) / 2 long.
    assert row["direction"] == pytest.approx(np.pi / 4)
    assert row["agreement"] == pytest.approx(np.sqrt(2) / 2)
    assert table.loc["noise", ["lost", "moved", "turned"]].tolist() == [0, 0, 0]
    assert table.loc["noise", ["direction", "agreement"]].isna().all()


@pytest.mark.parametrize(
    ("directions", "mean", "agreement"),
    [
        ([3, -3], np.pi, 0.98999),  # the mean is pi and not 0
        ([0, 2 * np.pi / 3, -2 * np.pi / 3], None, 0),
        ([-2, -2, -2], -2, 1),
    ],
)
def test_agreement_of_directions(directions, mean, agreement):
    rows = [("abc"[i], 0, 0, 1, 0.1, direction) for i, direction in enumerate(directions)]
    row = shifts.shift(region_shifts("black-box", *rows)).iloc[0]
    assert row["agreement"] == pytest.approx(agreement, abs=1e-5)
    if mean is not None:
        assert np.cos(row["direction"] - mean) == pytest.approx(1)
        assert -np.pi <= row["direction"] <= np.pi


def test_the_shift_of_empty_maps_is_nan():
    row = shifts.shift(region_shifts("black-box", ("a", *[float("nan")] * 5))).iloc[0]
    assert (row["photos"], row["compared"], row["turned"]) == (1, 0, 0)
    unknown = ["lost", "lost_low", "gained", "moved_high", "area_ratio", "area_ratio_low"]
    unknown += ["direction", "agreement"]
    assert row[unknown].isna().all()
