"""Readings of the paper on made-up outcomes: numbers known by hand, in tables, text, figures."""

from __future__ import annotations

import math
import re

import numpy as np
import pandas as pd
import pytest
from tabs import Tab, tab

from gradcam_adv.files import write
from gradcam_adv.paper import facts, judge, printed, readings
from gradcam_adv.paper.claims import CLAIMS
from gradcam_adv.paper.distance import fitting
from gradcam_adv.paper.draws import Photos, photos_of
from gradcam_adv.paper.evidence import Evidence, Run, as_papers
from gradcam_adv.paper.readings import DEFAULT, Outcome
from gradcam_adv.plots import style
from gradcam_adv.report import reading_figures, reading_sections
from gradcam_adv.study import answers, shifts
from gradcam_adv.study.columns import read_table
from gradcam_adv.study.config import parse

FIVE = list(printed.TABLE_1.columns)
TWO = ["vgg16", "xception"]
UNIT = "epsilon_unit = network"
PAIR = "epsilon_unit = network, perturbed_set = jpeg"


def long(values: pd.DataFrame, name: str, **columns: object) -> pd.DataFrame:
    """A table of epsilons by networks as one row each, of the black-box attack."""
    rows = values.rename_axis("epsilon").reset_index()
    melted = rows.melt("epsilon", var_name="network", value_name=name)
    return melted.assign(attack="black-box", **columns)


def stacked(*parts: pd.DataFrame) -> pd.DataFrame:
    return pd.concat(parts, ignore_index=True)


def arm_tables(accuracy, mod, *, margin=0.01, psnr=40.0, unchanged=0, vid=0.05):
    """The four tables of an arm, with rows of another attack that must not be read."""
    right = long(accuracy, "accuracy", photos=100)
    right = right.assign(low=right["accuracy"] - margin, high=right["accuracy"] + margin)
    clean = right["network"].map(accuracy.loc[0.0]).replace(0, np.nan)
    of_ratio = right[["accuracy", "low", "high"]].div(clean, axis=0)
    right[["ratio", "ratio_low", "ratio_high"]] = of_ratio
    moved = long(mod, "mod", unrelated=0.5)
    moved = moved.assign(
        low=moved["mod"] - margin, high=moved["mod"] + margin, mod_noise=moved["mod"] / 2
    )
    noise = right[["network", "epsilon", "attack"]].assign(psnr=psnr, unchanged=unchanged)
    noise.loc[noise["epsilon"] == 0, ["psnr", "unchanged"]] = [np.inf, 100]
    networks = pd.DataFrame({"network": list(accuracy.columns)})
    stable = networks.assign(vid=vid, low=vid - margin, high=vid + margin)
    others = {"attack": "white-box"}
    return {
        "accuracy": stacked(right.assign(accuracy=0.99, **others), right),
        "mod": stacked(moved.assign(mod=0.99, **others), moved),
        "psnr": stacked(noise.assign(psnr=0.99, **others), noise),
        "vid": stacked(stable.assign(attack="black-box"), stable.assign(attack="noise", vid=0.03)),
    }


def photos(accuracy: pd.DataFrame, mod: pd.DataFrame, people: int = 3) -> Photos:
    """One photo of each person, all with the means themselves, so that chance adds nothing."""
    index = pd.MultiIndex.from_product([range(people), ["photo"]], names=["identity", "photo"])

    def wide(table: pd.DataFrame) -> pd.DataFrame:
        means = table.rename_axis("epsilon").unstack().rename_axis(["network", "epsilon"])
        return pd.DataFrame([means.to_numpy()] * people, index, means.index)

    return Photos(wide(accuracy), wide(mod))


def tables_of(outcomes, source=printed.SOURCE):
    return readings.tables(outcomes, source, seed=0)


def verdicts(**by_claim: str) -> pd.DataFrame:
    """A verdict on each claim, "holds" where none is given."""
    rows = [
        judge.Verdict(
            claim.name, claim.says, claim.place, "run", "plain", by_claim.get(claim.name, "holds")
        )
        for claim in CLAIMS
    ]
    return pd.DataFrame([vars(row) for row in rows])


def outcome(
    name=DEFAULT, accuracy=printed.TABLE_1, mod=printed.TABLE_3, judged=None, networks=None, **more
):
    networks = FIVE if networks is None else networks
    arms = {"plain": (accuracy[networks], mod[networks])}
    return of_arms(name, arms, judged, **more)


def of_arms(name, arms, judged=None, **more) -> Outcome:
    """By arm, accuracies and MOD."""
    made = {arm: arm_tables(*numbers, **more) for arm, numbers in arms.items()}
    judged = verdicts() if judged is None else judged
    return Outcome(name, made, judged, {arm: photos(*numbers) for arm, numbers in arms.items()})


def of_readings(*outcomes: Outcome, source=printed.SOURCE) -> pd.DataFrame:
    made = tables_of(outcomes, source)
    orders = made["readings_orders"].drop_duplicates("reading")
    return made["readings_distances"].merge(orders, on="reading").set_index("reading")


def attacked(table: pd.DataFrame) -> pd.DataFrame:
    return table[table.index > 0]


def with_ratios(change, table=printed.TABLE_1, clean=0.8):
    """Accuracies whose ratios to the clean one are the paper's after ``change``, but at 0."""
    ratios = table / table.iloc[0]
    changed = change(ratios)
    changed.iloc[0] = 1
    return changed * clean


BOTH = {
    "plain": (printed.TABLE_1, printed.TABLE_3),
    "aligned": (printed.TABLE_2, printed.TABLE_3),
}


def test_the_papers_own_tables_have_distance_0_in_both_arms():
    made = tables_of([of_arms(DEFAULT, BOTH)])
    (row,) = made["readings_distances"].to_dict("records")
    assert [row[f"{what}distance"] for what in ("", "accuracy_", "mod_")] == pytest.approx([0] * 3)
    # Tables 1, 2 and 3, each of five networks at four epsilons.
    assert (row["cells"], row["accuracy_cells"], row["mod_cells"]) == (60, 40, 20)
    orders = made["readings_orders"]
    assert orders["arm"].tolist() == ["plain", "aligned"]
    np.testing.assert_allclose(orders[["accuracy_tau", "mod_tau"]], 1)
    assert (orders["levels"] == 4).all()
    for what in ("accuracy", "mod"):
        assert (orders[f"{what}_order"] == orders[f"{what}_order_paper"]).all()
    # Of the paper's falls only those of the two ResNets change places with preprocessing.
    plain, aligned = orders["accuracy_order_paper"]
    assert plain == "VGG16 < ResNet50 < ResNet101 < XceptionNet < InceptionNet v3"
    assert aligned == "VGG16 < ResNet101 < ResNet50 < XceptionNet < InceptionNet v3"


def test_the_papers_own_tables_show_all_facts():
    found = tables_of([of_arms(DEFAULT, BOTH)])["readings_facts"]
    assert found["fact"].tolist() == [fact.name for fact in facts.FACTS]
    assert (found["verdict"] == "yes").all()


def test_curves_by_hand():
    found = readings.curves([outcome(networks=TWO, unchanged=7)], printed.SOURCE)
    assert (found["reading"] == DEFAULT).all()
    assert len(found) == 10
    row = found[(found["network"] == "xception") & (found["epsilon"] == 0.05)].iloc[0]
    expected = {
        "photos": 100, "accuracy": 0.8141, "low": 0.8041, "high": 0.8241, "ratio": 0.8141 / 0.9256,
        "ratio_low": 0.8041 / 0.9256, "ratio_high": 0.8241 / 0.9256,
        "mod": 0.255316, "mod_low": 0.245316, "mod_high": 0.265316, "mod_noise": 0.127658,
        "unrelated": 0.5, "vid": 0.05, "vid_low": 0.04, "vid_high": 0.06, "vid_noise": 0.03,
        "psnr": 40, "unchanged": 7, "paper_accuracy": 0.8141, "paper_ratio": 0.8141 / 0.9256,
        "paper_mod": 0.255316,
    }  # fmt: skip
    assert row[list(expected)].to_dict() == pytest.approx(expected)
    assert set(found.columns) == {"reading", "arm", "network", "epsilon", *expected}
    assert found.loc[found["epsilon"] == 0, "psnr"].tolist() == [np.inf] * 2


def test_distance_of_accuracy_is_of_the_ratio_to_the_clean_one():
    halved = outcome(accuracy=printed.TABLE_1 / 2)
    lower = outcome(UNIT, with_ratios(lambda ratio: ratio - 0.1))
    found = of_readings(halved, lower)
    assert found["accuracy_distance"].tolist() == pytest.approx([0, 0.1])
    # 0.3 for one network of two, so 0.09 / 2 is the mean square.
    one = outcome(
        networks=TWO,
        accuracy=with_ratios(lambda ratio: ratio.assign(xception=ratio.xception - 0.3)),
    )
    assert of_readings(one)["accuracy_distance"].tolist() == pytest.approx([math.sqrt(0.045)])


def test_the_distance_of_all_cells_by_hand():
    # Of one network 4 ratios are off by 0.3 and 4 MOD by 0.1: the mean square is 0.05.
    one = outcome(
        networks=["vgg16"],
        accuracy=with_ratios(lambda ratio: ratio - 0.3),
        mod=printed.TABLE_3 + 0.1,
    )
    row = of_readings(one).iloc[0]
    assert row["distance"] == pytest.approx(math.sqrt(0.05))
    assert (row["accuracy_distance"], row["mod_distance"]) == pytest.approx((0.3, 0.1))
    assert row["mod_order"] == "VGG16"
    assert math.isnan(row["mod_tau"])
    assert math.isnan(row["accuracy_tau"])


def test_each_arms_mod_counts_half():
    # 8 ratios are right. MOD is off by 0.2 in one arm: of 12 cells 4 have a mean square of 0.02.
    arms = {
        "plain": (printed.TABLE_1[["vgg16"]], printed.TABLE_3[["vgg16"]] + 0.2),
        "aligned": (printed.TABLE_2[["vgg16"]], printed.TABLE_3[["vgg16"]]),
    }
    row = of_readings(of_arms(DEFAULT, arms)).iloc[0]
    assert row["distance"] == pytest.approx(math.sqrt(4 * 0.02 / 12))
    assert row["mod_distance"] == pytest.approx(math.sqrt(0.02))


def test_the_reversed_order_of_networks_has_a_tau_of_minus_one():
    # The first network gets the curves of the last one, and so on.
    by_loss = ["vgg16", "resnet50", "resnet101", "xception", "inceptionv3"]
    by_mod = ["vgg16", "resnet101", "resnet50", "xception", "inceptionv3"]
    accuracy, mod = (
        table.rename(columns=dict(zip(order, reversed(order), strict=True)))
        for table, order in ((printed.TABLE_1, by_loss), (printed.TABLE_3, by_mod))
    )
    reversed_ = outcome(accuracy=accuracy, mod=mod)
    found = of_readings(reversed_).iloc[0]
    assert found[["accuracy_tau", "mod_tau"]].tolist() == pytest.approx([-1, -1])
    shown = section(tables_of([reversed_])).below("The order")
    first, second = (shown.cells(name) for name in ("The paper", "as the study says"))
    assert first[1::2] == [found["accuracy_order_paper"], found["mod_order_paper"]]
    assert second[1::2] == [found["accuracy_order"], found["mod_order"]]
    assert (first[2::2], second[2::2]) == (["–", "–"], ["-1.00", "-1.00"])
    assert found["accuracy_order"] == (
        "InceptionNet v3 < XceptionNet < ResNet101 < ResNet50 < VGG16"
    )
    assert found["mod_order_paper"] == (
        "VGG16 < ResNet101 < ResNet50 < XceptionNet < InceptionNet v3"
    )


def test_equal_networks_are_equal_in_the_order():
    alike = printed.TABLE_3.assign(resnet50=printed.TABLE_3["vgg16"] + 1e-15)
    found = of_readings(outcome(mod=alike, networks=["vgg16", "resnet50", "xception"])).iloc[0]
    assert found["mod_order"] == "VGG16 = ResNet50 < XceptionNet"
    # Of the three pairs two are in the paper's order and one is tied: 2 / sqrt(2 * 3).
    assert found["mod_tau"] == pytest.approx(2 / math.sqrt(6))
    every = of_readings(outcome(mod=printed.TABLE_3 * 0)).iloc[0]
    assert " = ".join(["VGG16", "ResNet50"]) in every["mod_order"]
    assert math.isnan(every["mod_tau"])


def test_a_network_right_on_no_clean_photo_is_left_out_of_all_readings_of_its_arm():
    # Right under attack on a photo, but on none when clean: that is no ratio either.
    none = with_ratios(lambda ratio: ratio - 0.1).assign(xception=[0, 0, 0, 0, 0.01])
    lower = with_ratios(lambda ratio: ratio.assign(xception=ratio["xception"] - 0.5))
    both = [
        of_arms(
            name,
            {
                "plain": (accuracy[TWO], printed.TABLE_3[TWO]),
                "aligned": (printed.TABLE_2[TWO], printed.TABLE_3[TWO]),
            },
        )
        for name, accuracy in ((DEFAULT, lower), (UNIT, none))
    ]
    made = tables_of(both)
    table, found = made["readings"], made["readings_distances"].set_index("reading")
    assert table.loc[table["ratio"].isna(), ["reading", "arm", "network"]].drop_duplicates(
    ).to_numpy().tolist() == [[UNIT, "plain", "xception"]]  # fmt: skip
    # Of VGG16 in both arms, and of Xception in the aligned one; those are as printed.
    assert (found["accuracy_cells"] == 12).all()
    assert (found["mod_cells"] == 8).all()
    expected = [0, math.sqrt(4 * 0.1**2 / 12)]
    assert found["accuracy_distance"].tolist() == pytest.approx(expected)
    assert "20: 12 of accuracy" in section(made).below("How near").text


def at_levels(table: pd.DataFrame, *levels: float) -> pd.DataFrame:
    """The paper's curves at other epsilons, interpolated linearly."""
    return pd.DataFrame(
        {name: np.interp(levels, table.index, table[name]) for name in table}, index=levels
    )


def test_epsilons_that_the_paper_does_not_print_are_not_compared():
    accuracy, mod = (at_levels(t, 0.0, 0.02, 0.05) for t in (printed.TABLE_1, printed.TABLE_3))
    mod.loc[0.02] = 0.4
    made = tables_of([outcome(accuracy=accuracy, mod=mod)])
    table = made["readings"]
    at_two = table[table["epsilon"] == 0.02]
    assert at_two[["paper_accuracy", "paper_ratio", "paper_mod"]].isna().all(axis=None)
    found = made["readings_distances"].iloc[0]
    assert (found["mod_cells"], found["mod_distance"]) == (5, pytest.approx(0))
    assert made["readings_orders"]["levels"].item() == 1


@pytest.fixture
def no_common_epsilon():
    accuracy, mod = (at_levels(t, 0.0, 0.02) for t in (printed.TABLE_1, printed.TABLE_3))
    both = {"accuracy": accuracy, "mod": mod}
    return tables_of([outcome(**both), outcome(UNIT, **both)])


def test_without_a_common_epsilon_no_reading_is_the_nearest(no_common_epsilon, tmp_path):
    back = through_files(no_common_epsilon, tmp_path)
    found = back["readings_distances"]
    assert found["mod_distance"].isna().all()
    assert fitting(found) == []
    parts = section(back)
    assert "The paper prints no numbers at the ε of this run" in parts.text
    assert "(0: 0 of accuracy" in parts.below("How near").text
    assert parts.below("How near").cells(UNIT)[:5] == ["–"] * 5
    assert parts.below("The order").cells(UNIT)[1:] == ["–"] * 4
    arguments = {"caveat": "ORL", "source": "resnet50"}
    reading_figures.write_all(back["readings"], found, tmp_path, **arguments)


def test_the_readings_that_fit_come_with_the_nearest_first():
    found = pd.DataFrame(
        {"reading": ["a", "b", "c", "d"], "distance": [0.3, 0.2, 0.0, 0.0],
         "p": [0.5, 0.01, 0.6, 1.0], "near": [True, False, True, True]}
    )  # fmt: skip
    assert fitting(found) == ["d", "c", "a"]


def test_readings_differ_by_their_numbers_not_by_the_order_of_their_rows():
    both = [outcome(margin=math.nan), outcome(UNIT, margin=math.nan)]
    table = readings.curves(both, printed.SOURCE)
    columns = ["accuracy", "low", "mod"]
    shuffled = pd.concat([table[:25], table[25:].sample(frac=1, random_state=0)])
    assert readings.differing(shuffled, columns) == []
    table.loc[26, "mod"] += 0.001
    assert readings.differing(table, columns) == [UNIT]
    assert readings.differing(table, ["accuracy"]) == []


def changed(*by_reading: dict[str, str]) -> list[list[str]]:
    names = [DEFAULT, UNIT, "perturbed_set = jpeg", PAIR]
    made = [
        outcome(name, judged=verdicts(**given))
        for name, given in zip(names, by_reading, strict=True)
    ]
    found = readings.changes(tables_of(made)["readings_verdicts"])
    return found[["reading", "claim", "verdict_default", "verdict"]].to_numpy().tolist()


def test_verdicts_that_change_are_listed_in_both_directions():
    assert changed(
        {"transfer": "does not hold", "white_box": "not judged"},
        {"mod_rises": "does not hold"},
        {"transfer": "does not hold"},
        {"transfer": "inconclusive", "focus_shifts": "not judged"},
    ) == [
        [UNIT, "transfer", "does not hold", "holds"],
        [UNIT, "mod_rises", "holds", "does not hold"],
        [PAIR, "transfer", "does not hold", "inconclusive"],
    ]


def test_changes_are_within_one_arm_and_give_the_claim_in_words():
    def judged(plain: str, aligned: str) -> pd.DataFrame:
        both = [verdicts(transfer=plain), verdicts(transfer=aligned).assign(arm="aligned")]
        return pd.concat(both, ignore_index=True)

    first = outcome(judged=judged("holds", "does not hold"))
    second = outcome(UNIT, judged=judged("holds", "holds"))
    found = readings.changes(tables_of([first, second])["readings_verdicts"])
    (row,) = found.to_dict("records")
    assert row == {
        "reading": UNIT, "claim": "transfer", "arm": "aligned", "verdict_default": "does not hold",
        "verdict": "holds", "says": "The attack made on one network fools the others, too.",
    }  # fmt: skip


def through_files(made: dict[str, pd.DataFrame], folder) -> dict[str, pd.DataFrame]:
    write.tables(folder / "tables", **made)
    return {name: read_table(folder / "tables" / f"{name}.csv") for name in made}


def test_tables_come_back_from_their_files(tmp_path):
    # One network, so no tau; PSNR infinite at 0; and names that look like a gap or a number.
    names = [DEFAULT, "NA", "007"]
    made = tables_of([outcome(name, networks=["vgg16"]) for name in names])
    kinds = ["", "_distances", "_facts", "_orders", "_verdicts"]
    assert list(made) == [f"readings{kind}" for kind in kinds]
    for name, table in through_files(made, tmp_path).items():
        pd.testing.assert_frame_equal(table, made[name], check_dtype=False)
        assert table["reading"].unique().tolist() == names


def test_readings_keep_their_order():
    names = [DEFAULT, "vid_levels = all", UNIT, "attacked_label = predicted"]
    for table in tables_of([outcome(name) for name in names]).values():
        assert table["reading"].unique().tolist() == names


@pytest.fixture
def found():
    """The study has the paper's MOD but not its accuracy; with another unit of ε vice versa."""
    far = with_ratios(lambda ratio: ratio - 0.25)
    own = verdicts(transfer="does not hold", white_box="not judged")
    return tables_of(
        [
            outcome(accuracy=far, judged=own),
            outcome(
                UNIT,
                mod=printed.TABLE_3 + 0.125,
                judged=verdicts(mod_rises="does not hold", focus_shifts="inconclusive"),
            ),
            outcome("vid_levels = all", accuracy=far, judged=own),
            outcome(PAIR, mod=printed.TABLE_3 + 0.125, judged=verdicts(mod_rises="inconclusive")),
        ]
    )


def test_the_page_counts_the_changed_verdicts(found):
    # Of the claims judged, transfer and mod_rises change under both other readings (mod_rises
    # to "does not hold" under one of them), focus_shifts under one.
    text = section(found).below("Which claims").text
    assert (
        f"3 of the {len(CLAIMS) - 1} verdicts on the paper's claims depend on a reading, 2 of them"
        in text
    )
    assert f"most (3) on {UNIT} ." in text


@pytest.mark.parametrize(
    ("own", "others", "said"),
    [
        # Two readings change as many verdicts.
        ({"transfer": "inconclusive"}, {},
         f"1 of the {len(CLAIMS)} verdicts on the paper's claims depends on a reading, 0 of "
         f"them between holds and does not hold, most (1) on {UNIT} and as many on 1 more."),
        ({}, {}, f"None of the {len(CLAIMS)} verdicts on the paper's claims depends on a reading."),
        ({}, {claim.name: "not judged" for claim in CLAIMS},
         "No claim of the paper could be judged under two of them."),
    ],
)  # fmt: skip
def test_the_page_counts_verdicts_that_depend_on_a_reading(own, others, said):
    judged = verdicts(**others)
    made = [outcome(judged=verdicts(**own)), *(outcome(n, judged=judged) for n in (UNIT, PAIR))]
    assert section(tables_of(made)).below("Which claims").text.startswith(said)


def orders(**by_reading: float) -> pd.DataFrame:
    names = {"own": DEFAULT, "unit": UNIT, "pair": PAIR, "jpeg": "perturbed_set = jpeg"}
    rows = [(names[name], "plain", tau) for name, tau in by_reading.items()]
    return pd.DataFrame(rows, columns=["reading", "arm", "mod_tau"])


@pytest.mark.parametrize(
    ("taus", "expected"),
    [
        ({"own": -1, "unit": 1, "pair": 1, "jpeg": -1}, [UNIT]),
        ({"own": -1, "unit": -1, "pair": 1, "jpeg": -1}, []),  # both choices together
        ({"own": -1, "unit": 1, "pair": 1, "jpeg": 1}, []),
        ({"own": 1, "unit": 1, "pair": 1, "jpeg": 1}, []),
        ({"own": math.nan, "unit": math.nan}, []),
        ({"own": 1, "unit": -1, "pair": -1, "jpeg": -1}, ["default"]),
        ({"own": 0.8, "unit": 1 - 2**-53, "pair": 1, "jpeg": 0.8}, [UNIT]),
    ],
)
def test_the_choice_that_decides_the_order_of_the_networks(taus, expected):
    assert readings.deciding(orders(**taus), "mod_tau") == expected


def test_the_page_names_the_choice_that_decides_the_order():
    swapped = printed.TABLE_3.rename(columns={"vgg16": "xception", "xception": "vgg16"})
    made = tables_of([outcome(networks=TWO, mod=swapped), outcome(UNIT, networks=TWO)])
    text = section(made).below("The order").text
    assert f"the paper's order by MOD comes out only with {UNIT} ." in text
    assert "order by accuracy lost" not in text  # it comes out under both
    alone = tables_of([outcome(networks=["vgg16"])])
    assert "comes out only with" not in section(alone).text


def section(made: dict[str, pd.DataFrame], other_data=True, source="resnet50") -> Tab:
    shown = reading_sections.section(made, other_data=other_data, source=source)
    return tab("readings", readings=shown, captions={"plain": "ORL", "aligned": "ORL"})


def test_the_section_from_files(found, tmp_path):
    shown = section(through_files(found, tmp_path))
    assert shown.html == section(found).html
    assert "The photos are not the paper's" in shown.text
    assert "nan" not in re.findall(r"\w+", shown.html)


def test_the_section_warns_of_other_data_and_of_another_attack(found):
    shown = section(found, other_data=False)
    assert "not the paper's" not in shown.text
    assert "ResNet50 (source: white-box)" in shown.html
    other = section(found, source="vgg16").text
    assert "The attack is not the paper's : it is made on VGG16 and not on ResNet50." in other


def test_the_section_on_claims(found):
    text = section(found).below("Which claims")
    transfer = text.cells("The attack made on one network fools the others, too.", "plain")
    assert transfer == ["does not hold", f"{UNIT}; {PAIR}", "–", "–"]
    rises = text.cells("MOD rises as ε grows.", "plain")
    assert rises == ["holds", "–", UNIT, PAIR]
    none = section(tables_of([outcome(), outcome(UNIT)])).below("Which claims")
    assert f"None of the {len(CLAIMS)} verdicts" in none.text
    assert not none.rows


def test_the_section_on_distances_and_orders(found):
    parts = section(found)
    near = parts.below("How near")
    # 20 cells are off by 0.25, or by 0.125, and 20 by nothing.
    own = ["0.1768 [0.1768, 0.1768]", "0.2500", "0.0000", "0.0884 [0.0884, 0.0884]", "0.000", "no"]
    assert near.cells("as the study says") == own
    fits = ["0.0884 [0.0884, 0.0884]", "0.0000", "0.1250", "0.0000 [0.0000, 0.0000]", "1.000"]
    assert near.cells(UNIT) == near.cells(PAIR) == [*fits, "yes"]
    assert "(40: 20 of accuracy as a ratio to the clean accuracy, 20 of MOD" in near.text
    assert (
        f"The nearest to the paper is {UNIT} (0.0884 [0.0884, 0.0884]), but 1 of the other 3 "
        f"readings cannot be told apart from it on these photos: {PAIR}. "
        "Of the paper's 4 facts this run can judge 4; clearly shown are all of these by "
        f"{UNIT}; {PAIR}."
    ) in parts.text
    order = parts.below("The order")
    assert "two networks" not in order.text
    paper_row = order.cells("The paper")
    assert paper_row[1] == "VGG16 < ResNet50 < ResNet101 < XceptionNet < InceptionNet v3"
    assert paper_row[2] == "–"
    assert order.cells(UNIT)[2::2] == ["1.00", "1.00"]


def test_a_sentence_names_a_few_readings_and_counts_the_others():
    assert reading_sections._listed(["a", "b"]) == "a; b"
    named = reading_sections._listed(list("abcdefgh"))
    assert named == "a; b; c; d; e; f; and 2 more in the table below"


def test_networks_are_compared_in_their_roles():
    # The paper's source is ResNet50; three networks get its attack from outside its family.
    others = ["vgg16", "inceptionv3", "xception"]
    mod = printed.TABLE_3.assign(vgg16=printed.TABLE_3["resnet50"])
    for network in ("resnet50", "resnet101"):
        mod[network] = printed.TABLE_3[others].mean(axis=1)
    ratios = printed.TABLE_1 / printed.TABLE_1.loc[0.0]
    accuracy = ratios.assign(vgg16=ratios["resnet50"])
    for network in ("resnet50", "resnet101"):
        accuracy[network] = ratios[others].mean(axis=1)
    made = tables_of([outcome(mod=mod, accuracy=accuracy)], "vgg16")
    (row,) = made["readings_distances"].to_dict("records")
    assert (row["cells"], row["distance"]) == (40, pytest.approx(0))
    assert made["readings_orders"]["mod_tau"].item() == pytest.approx(1)
    assert tables_of([outcome(mod=mod)])["readings_distances"]["mod_distance"].item() > 0.05
    text = section(made, source="vgg16").below("How near").text
    assert "VGG16 has another role here" in text
    assert "networks in that role: ResNet50." in text
    assert "networks in that role: VGG16, InceptionNet v3, XceptionNet." in text
    assert "another role" not in section(tables_of([outcome()])).text


def test_the_section_warns_that_the_order_of_two_networks_says_little():
    swapped = printed.TABLE_3.rename(columns={"vgg16": "xception", "xception": "vgg16"})
    made = tables_of([outcome(networks=TWO), outcome(UNIT, networks=TWO, mod=swapped)])
    found = made["readings_orders"]
    assert found["mod_tau"].tolist() == pytest.approx([1, -1])
    assert "With two networks tau is 1 or -1" in section(made).below("The order").text


def test_the_section_shows_each_mod_with_its_controls_and_names_equal_readings(found):
    text = section(found).below("MOD by reading")
    own = text.cells("XceptionNet", "as the study says")
    assert own[3] == "0.2798 [0.2698, 0.2898], noise 0.1399"
    assert own[4] == "0.5000"
    assert text.cells("XceptionNet", "The paper, Table 3")[3:] == ["0.2798", "–"]
    assert text.cells("XceptionNet", UNIT)[3].startswith("0.4048 ")
    assert "The same numbers as under the study's own reading: vid_levels = all." in text.text
    assert "vid_levels = all" not in {cell for row in text.rows for cell in row}


def test_the_section_shows_ratios_and_vid(found):
    text = section(found).below("Accuracy by reading")
    own = text.cells("VGG16", "as the study says")
    assert own[0] == "80.00 [79.00, 81.00]"
    # 0.8986 / 0.9189 less 0.25; 0.01 on each side of the accuracy, that is 0.0125 of the ratio.
    assert own[4] == "0.728 [0.715, 0.740]"
    assert text.cells("VGG16", "The paper, Table 1")[::4] == ["91.89", "0.978"]
    assert (
        section(found).below("VID by reading").cells("as the study says")
        == ["0.0500 [0.0400, 0.0600], noise 0.0300"] * 5
    )


def test_the_section_with_a_network_that_is_never_right():
    none = printed.TABLE_1.assign(vgg16=0.0)
    text = section(tables_of([outcome(accuracy=none)])).below("Accuracy by reading")
    assert text.cells("VGG16", "as the study says")[1:] == ["–"] * 4


def test_the_section_on_psnr_has_one_row_per_perturbed_set():
    # In pixels one set for all networks; in their own units one each; and one that rounding undid.
    networks = ["vgg16", "resnet50", "xception"]
    made = [outcome(name, networks=networks) for name in (DEFAULT, UNIT, PAIR)]
    by_unit = made[1].tables["plain"]["psnr"]
    by_unit.loc[(by_unit["network"] == "xception") & (by_unit["epsilon"] == 0.1), "psnr"] = 26.02
    by_unit.loc[(by_unit["network"] == "xception") & (by_unit["epsilon"] == 0.01), "unchanged"] = 9
    rounded = made[2].tables["plain"]["psnr"]
    rounded[["psnr", "unchanged"]] = [np.inf, 100]
    text = section(tables_of(made), source="vgg16").below("PSNR of the perturbed sets")
    assert text.cells("as the study says", "every network") == ["40.00"] * 4
    assert text.cells(UNIT, "VGG16 (source: white-box)") == ["40.00"] * 4
    assert text.cells(UNIT, "XceptionNet") == [
        "40.00 (9 photos unchanged)", "40.00", "40.00", "26.02",
    ]  # fmt: skip
    assert text.cells(PAIR, "every network") == ["∞"] * 4
    assert "40, 26, 22.5 and 20 dB" in text.text
    alone = section(tables_of([outcome(networks=["vgg16"])])).below("PSNR of the perturbed")
    assert alone.cells("as the study says", "VGG16") == ["40.00"] * 4


def test_both_arms_make_a_tab_with_unique_anchors(tmp_path):
    both = {arm: (accuracy[TWO], mod[TWO]) for arm, (accuracy, mod) in BOTH.items()}
    made = tables_of([of_arms(name, both) for name in (DEFAULT, UNIT)])
    own = made["readings"], made["readings_distances"]
    own[0].loc[own[0]["arm"] == "aligned", "psnr"] = 41.0
    reading_figures.write_all(*own, tmp_path, caveat="ORL", source="vgg16")
    shown = reading_sections.section(made, other_data=True, source="resnet50")
    captions = {"plain": "ORL", "aligned": "ORL"}
    page = tab("readings", tmp_path, readings=shown, captions=captions)
    assert page.html.count("<img") == 3
    anchors = re.findall(r'id="([^"]+)"', page.html)
    assert len(anchors) == len(set(anchors)) == 6
    _, aligned = (block for block in page.blocks if block.heading.startswith("PSNR of"))
    assert aligned.cells("as the study says")[1] == "41.00"


def labels(axis) -> list[str]:
    return [text.get_text().replace("\n", " ") for text in axis.get_legend().get_texts()]


def test_the_figure_of_distances(found):
    figure = reading_figures.of_distances(found["readings_distances"])
    every, left, right = figure.axes
    # The nearest first; equal ones in the order of the table.
    names = [label.get_text() for label in every.get_yticklabels()]
    assert names == [UNIT, PAIR, "as the study says", "vid_levels = all"]
    assert [label.get_fontweight() for label in every.get_yticklabels()].index("bold") == 2
    assert figure.get_suptitle() == (
        f"Nearest to the paper: {UNIT} and 1 more that cannot be told apart"
    )
    for axis, distances in ((left, [0.25, 0.25, 0, 0]), (right, [0, 0, 0.125, 0.125])):
        others, fits = axis.collections
        offsets = np.concatenate([others.get_offsets(), fits.get_offsets()])
        np.testing.assert_allclose(offsets[:, 0], distances, atol=1e-12)
        np.testing.assert_allclose(offsets[:, 1], [2, 3, 0, 1])
        assert not np.array_equal(others.get_facecolor(), fits.get_facecolor())
        assert axis.get_xlim()[0] < 0 < axis.get_xlim()[1]
    assert every.get_ylim() == (3.5, -0.5)
    shown = [text.get_text() for text in figure.legends[0].get_texts()]
    assert shown == ["farther from the paper than the nearest", "fits", "the paper"]


def test_the_interval_of_a_distance_is_drawn(found):
    table = found["readings_distances"].assign(low=0.05, high=0.5)
    axis = reading_figures.of_distances(table).axes[0]
    ends = [segment[:, 0].tolist() for segment in axis.collections[0].get_segments()]
    assert ends == [[0.05, 0.5]] * 4
    assert axis.get_xlim()[1] > 0.5


def test_the_figure_of_curves(found):
    # The other arm is not drawn.
    table, distances = found["readings"], found["readings_distances"]
    figure = reading_figures.of_curves(
        pd.concat([table.assign(arm="aligned", ratio=0.5), table]), distances, "plain", "resnet50"
    )
    upper, lower = figure.axes[:5], figure.axes[5:]
    assert [axis.get_title() for axis in upper] == [
        "VGG16", "ResNet50\n(source: white-box)", "ResNet101", "InceptionNet v3", "XceptionNet",
    ]  # fmt: skip
    # vid_levels changes neither curve; of two equally near readings the first is named.
    band = "a reading that fits, 95 % interval"
    assert labels(upper[-1]) == [
        "the paper", "as the study says", f"the nearest: {UNIT}", band, "another epsilon_unit",
    ]  # fmt: skip
    assert labels(lower[-1]) == [
        "the paper", "as the study says", f"the nearest: {UNIT}", band, "another epsilon_unit",
        "noise, as the study says", "unrelated photos, as the study says",
        "noise, the nearest", "unrelated photos, the nearest",
    ]  # fmt: skip
    # Of the two readings that fit, from the table's own ends.
    bands = [area for area in upper[0].collections if area.get_label() == band]
    own = table.query("reading == @UNIT and network == 'vgg16' and epsilon == 0.1").iloc[0]
    for area in bands:
        points = area.get_paths()[0].vertices
        ends = sorted(set(points[points[:, 0] == 0.1, 1].round(9)))
        assert ends == pytest.approx([own["ratio_low"], own["ratio_high"]])
    assert len(bands) == 2
    lines = {line.get_label(): line for line in upper[0].lines}
    ratio = (printed.TABLE_1 / printed.TABLE_1.iloc[0])["vgg16"].to_numpy()
    np.testing.assert_allclose(lines["the paper"].get_ydata(), ratio)
    np.testing.assert_allclose(lines[f"the nearest: {UNIT}"].get_ydata(), ratio)
    np.testing.assert_allclose(lines["as the study says"].get_ydata()[1:], ratio[1:] - 0.25)
    assert lines["the paper"].get_linestyle() == "--"
    assert lines["the paper"].get_color() == style.PAPER
    shifted = {line.get_label(): line for line in lower[0].lines}
    np.testing.assert_allclose(
        shifted["noise, as the study says"].get_ydata(), printed.TABLE_3["vgg16"] / 2
    )
    assert set(shifted["unrelated photos, as the study says"].get_ydata()) == {0.5}


def test_the_nearest_readings_mod_is_drawn_with_its_own_controls(found):
    table = found["readings"]
    table = table.assign(
        mod_noise=table["mod_noise"].where(table["reading"] != UNIT, 0.25),
        unrelated=table["unrelated"].where(table["reading"] != UNIT, 0.45),
    )
    figure = reading_figures.of_curves(table, found["readings_distances"], "plain", "resnet50")
    lines = {line.get_label(): line for line in figure.axes[5].lines}
    assert set(lines["noise, the nearest"].get_ydata()) == {0.25}
    assert set(lines["unrelated photos, the nearest"].get_ydata()) == {0.45}
    # Noise has one colour everywhere; that of the nearest reading has a marker of its own.
    own, near = (lines[f"noise, {whose}"] for whose in ("as the study says", "the nearest"))
    assert own.get_color() == near.get_color() == style.NOISE
    assert own.get_marker() != near.get_marker()


def test_every_choice_that_changes_a_curve_has_its_own_colour():
    keys = ["epsilon_unit", "preprocessing", "perturbed_set", "attacked_label", "explained_class",
            "vid_levels", "heatmap_size"]  # fmt: skip
    changes = {key: 0.0 if key == "vid_levels" else 0.01 * (i + 1) for i, key in enumerate(keys)}
    made = [outcome(networks=TWO)]
    made += [
        outcome(f"{key} = other", networks=TWO, accuracy=printed.TABLE_1 - change)
        for key, change in changes.items()
    ]
    found = tables_of(made)
    drawn = found["readings"], found["readings_distances"], "plain", "vgg16"
    figure = reading_figures.of_curves(*drawn)
    lines = [line for line in figure.axes[0].lines if line.get_linestyle() == "-"]
    colours = {tuple(np.ravel(line.get_color())) for line in lines}
    assert len(lines) == len(colours) == len(keys)  # the study's own in place of vid_levels


def test_the_caveat_is_in_every_figures_file(found, tmp_path):
    drawn = found["readings"], found["readings_distances"], tmp_path
    files = reading_figures.write_all(*drawn, caveat="ORL (not VGGFace2)", source="vgg16")
    assert [path.name for path in files] == [
        "readings_distances.png", "readings_distances.svg",
        "readings_curves_plain.png", "readings_curves_plain.svg",
    ]  # fmt: skip
    for path in files[1::2]:
        assert "ORL (not VGGFace2)" in path.read_text()


def test_the_tables_of_a_real_run_are_accepted():
    keys = [("vgg16", attack, epsilon) for attack in ("black-box", "noise") for epsilon in (0, 0.1)]
    rows = [
        {"network": network, "attack": attack, "epsilon": float(epsilon), "photo": f"p{i}",
         "identity": f"i{i}", "label": 0, "predicted": int(epsilon > 0 and i == 0),
         "predicted_clean": 0, "psnr": 20.0 if epsilon else np.inf,
         "nissim": 2 * epsilon, "flipped": False, "empty_clean": False, "empty_perturbed": False,
         "target": "predicted", "size": "input"}
        for network, attack, epsilon in keys
        for i in range(4)
    ]  # fmt: skip
    every = pd.DataFrame(rows)
    unrelated = pd.DataFrame({"identity": ["i0"], "other_identity": ["i1"], "nissim": [0.5]})
    unrelated = unrelated.assign(network="vgg16", target="predicted", size="input")
    of_arm = {
        "accuracy": answers.accuracy(every),
        "psnr": answers.psnr(every),
        "mod": shifts.mod(every, unrelated, every),
        "vid": shifts.vid(every, (0.0, 0.1)),
    }
    run = Run({"plain": Evidence(every, every)}, parse({"name": "x"}), {})
    made = tables_of([Outcome(DEFAULT, {"plain": of_arm}, verdicts(), photos_of(run))])
    # A ratio of 0.75 and a MOD of 0.2, less what chance adds to squares of means of four people.
    found = made["readings_distances"].iloc[0]
    ratio = (printed.TABLE_1 / printed.TABLE_1.loc[0.0]).loc[0.1, "vgg16"]
    variance = 0.75 * 0.25 / 4
    assert found["cells"] == 2
    expected = math.sqrt((ratio - 0.75) ** 2 - variance)
    assert found["accuracy_distance"] == pytest.approx(expected, abs=0.02)
    assert found["mod_distance"] == pytest.approx(0.2 - printed.TABLE_3.loc[0.1, "vgg16"])
    row = made["readings"].set_index("epsilon").loc[0.1]
    expected = {"photos": 4, "accuracy": 0.75, "ratio": 0.75, "mod": 0.2, "mod_noise": 0.2,
                "unrelated": 0.5, "psnr": 20, "unchanged": 0, "vid": 0.1, "vid_noise": 0.1,
                "mod_low": 0.2, "paper_accuracy": 0.8986}  # fmt: skip
    assert row[list(expected)].to_dict() == pytest.approx(expected)
    assert row["low"] < 0.75 < row["high"]
    assert row["ratio_low"] < 0.75 < row["ratio_high"]


def test_a_version_2_is_called_as_the_paper_s_network_where_readings_are_compared():
    predictions = pd.DataFrame({"network": ["vgg16", "resnet50v2"], "photo": "a.png"})
    study = parse({"name": "x", "networks": ["vgg16", "resnet50v2"], "source": "resnet50v2"})
    run = Run(
        {"plain": Evidence(predictions, predictions)},
        study,
        {"vgg16": "file", "resnet50v2": "random"},
    )
    named = as_papers(run)
    assert named.networks == ("vgg16", "resnet50") and named.study.source == "resnet50"
    assert named.others == ["vgg16"]
    assert named.origins == {"vgg16": "file", "resnet50": "random"}
    for table in (named.arms["plain"].predictions, named.arms["plain"].nissim):
        assert table["network"].tolist() == ["vgg16", "resnet50"]
    assert as_papers(named) is named
