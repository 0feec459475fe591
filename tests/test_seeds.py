"""Means over seeds by hand, their two kinds of intervals, and verdicts on which seeds disagree."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from tabs import tab

from gradcam_adv.files import write
from gradcam_adv.paper import judge, seeds
from gradcam_adv.report.seeds import section
from gradcam_adv.study import answers, shifts
from gradcam_adv.study.columns import read_table

PHOTOS = pd.DataFrame({"photo": ["a1", "a2", "b1", "b2"], "identity": ["a", "a", "b", "b"]})
VID_EPSILONS = (0.1, 0.2)
# Student's t with two degrees of freedom and with one, from a printed table.
T_OF_THREE, T_OF_TWO = 4.303, 12.706


def arm(right, mod, *, noise=0.1, unrelated=(0.4,), network="vgg16"):
    """One seed's tables; by epsilon, the answers and NISSIM of the four photos (or one for all)."""
    keys = {"network": network, "target": "predicted", "size": "input"}
    predictions = [
        PHOTOS.assign(
            **keys, attack=attack, epsilon=epsilon, label=1, predicted=answers, predicted_clean=1
        )
        for attack, by_level in (("black-box", right), ("noise", dict.fromkeys(right, 1)))
        for epsilon, answers in by_level.items()
    ]
    nissim = [
        PHOTOS.assign(**keys, attack=attack, epsilon=epsilon, nissim=values)
        for attack, by_level in (("black-box", mod), ("noise", {e: noise * e for e in mod}))
        for epsilon, values in by_level.items()
    ]
    # With another person for each value.
    pairs = [
        PHOTOS.assign(**keys, other=f"{person}1", other_identity=person, nissim=value)
        for person, value in zip("cdef", unrelated, strict=False)
    ]
    return {
        "predictions": pd.concat(predictions),
        "nissim": pd.concat(nissim).assign(flipped=False, empty_clean=False, empty_perturbed=False),
        "unrelated": pd.concat(pairs),
    }


@pytest.fixture
def three():
    """MOD 0.2, 0.3, 0.4 at epsilon 0.1 and twice that at 0.2; accuracy 0.5, 0.75, 0.25 at 0.1."""
    right = {4: [1, 1, 0, 0], 7: [1, 1, 1, 0], 5: [1, 0, 0, 0]}
    shift = {4: [0.1, 0.1, 0.3, 0.3], 7: [0.2, 0.2, 0.4, 0.4], 5: [0.3, 0.3, 0.5, 0.5]}
    return {
        seed: arm(
            {0.0: 1, 0.1: right[seed], 0.2: 0},
            {0.0: 0.0, 0.1: shift[seed], 0.2: np.multiply(2, shift[seed])},
            noise=noise,
            unrelated=(0.6, 0.6 + noise),
        )
        for seed, noise in ((4, 0.1), (7, 0.2), (5, 0.3))
    }


@pytest.fixture
def table(three):
    return seeds.across(three, VID_EPSILONS)


def cell(table, quantity, epsilon=None):
    own = table[table["quantity"] == quantity]
    (row,) = own[own["epsilon"].isna() if epsilon is None else own["epsilon"] == epsilon].to_dict(
        "records"
    )
    return row


def test_accuracy_over_seeds_by_hand(table):
    row = cell(table, "accuracy", 0.1)
    assert (row["seeds"], row["photos"], row["network"]) == (3, 4, "vgg16")
    assert (row["mean"], row["least"], row["greatest"]) == pytest.approx((0.5, 0.25, 0.75))
    assert row["spread"] == pytest.approx(0.25)
    half = T_OF_THREE * 0.25 / np.sqrt(3)
    assert (row["t_low"], row["t_high"]) == pytest.approx((0.5 - half, 0.5 + half), abs=1e-4)
    # People's means over the seeds are 5/6 and 1/6. The error is 1/3, as that of 0.25 / (1/3)^2,
    # which is 2.25, independent photos; Wilson's interval of so few is nearly all of [0, 1].
    weight = T_OF_TWO**2 / 2.25
    half = np.sqrt(weight / 4 + weight**2 / 4) / (1 + weight)
    assert (row["low"], row["high"]) == pytest.approx((0.5 - half, 0.5 + half), abs=1e-4)


def test_accuracy_over_seeds_that_all_agree_is_not_known_exactly(table):
    # All answers are right without an attack, and wrong at 0.2: as if of two photos, one a person.
    part = T_OF_TWO**2 / 2
    clean, attacked = (cell(table, "accuracy", epsilon) for epsilon in (0.0, 0.2))
    assert (clean["mean"], clean["low"], clean["high"]) == pytest.approx(
        (1, 1 / (1 + part), 1), abs=1e-5
    )
    assert (attacked["mean"], attacked["low"]) == (0, 0)
    assert attacked["high"] == pytest.approx(part / (1 + part), abs=1e-5)
    # Nothing shows how other trainings would differ.
    for row in (clean, attacked):
        assert np.isnan([row["t_low"], row["t_high"]]).all()


def test_mod_and_its_controls_over_seeds_by_hand(table):
    row = cell(table, "mod", 0.2)
    assert (row["mean"], row["least"], row["greatest"]) == pytest.approx((0.6, 0.4, 0.8))
    # Two people's means over the seeds are 0.4 and 0.8, so that little is known.
    assert (row["low"], row["high"]) == (0, 1)
    assert cell(table, "mod_noise", 0.2)["mean"] == pytest.approx(0.04)
    assert cell(table, "mod_noise", 0.2)["spread"] == pytest.approx(0.02)
    unrelated = cell(table, "unrelated")
    assert (unrelated["least"], unrelated["greatest"]) == pytest.approx((0.65, 0.75))
    assert unrelated["photos"] == 4  # of eight pairs
    # People's means over the pairs that each is in: 0.7 of a and b, 0.6 of c, 0.8 of d.
    assert unrelated["low"] < 0.7 < unrelated["high"]
    assert set(table["quantity"]) == {
        "accuracy", "mod", "mod_noise", "vid", "vid_noise", "unrelated",
    }  # fmt: skip


def test_vid_over_seeds_by_hand(three, table):
    # A photo's deviation between x and 2 x is x / 2; with a third level of 0 it is another one.
    row = cell(table, "vid")
    assert (row["least"], row["mean"], row["greatest"]) == pytest.approx((0.1, 0.15, 0.2))
    # People's means over the seeds are 0.1 and 0.2, so the error is 0.05.
    assert row["high"] == pytest.approx(0.15 + T_OF_TWO * 0.05, abs=1e-4)
    assert cell(table, "vid_noise")["mean"] == pytest.approx(0.2 * 0.05)
    with_zero = cell(seeds.across(three, (0.0, *VID_EPSILONS)), "vid")
    assert with_zero["mean"] == pytest.approx(0.3 * np.std([0, 1, 2]))


def test_with_one_seed_the_numbers_are_the_runs_own_without_a_t_interval(three):
    own = three[7]
    table = seeds.across({7: own}, VID_EPSILONS)
    assert set(table["seeds"]) == {1}
    assert table[["spread", "t_low", "t_high"]].isna().all(axis=None)
    accuracy = answers.accuracy(own["predictions"]).set_index(["attack", "epsilon"])
    mod = shifts.mod(own["nissim"], own["unrelated"], own["nissim"]).set_index(
        ["attack", "epsilon"]
    )
    vid = shifts.vid(own["nissim"], VID_EPSILONS).set_index("attack")
    for epsilon in (0.0, 0.1, 0.2):
        of_run = accuracy.loc[("black-box", epsilon), "accuracy"]
        assert cell(table, "accuracy", epsilon)["mean"] == of_run
        of_run = mod.loc[("black-box", epsilon)]
        for name, value in (("mean", "mod"), ("low", "low"), ("high", "high")):
            assert cell(table, "mod", epsilon)[name] == pytest.approx(of_run[value])
        assert cell(table, "mod_noise", epsilon)["mean"] == pytest.approx(of_run["mod_noise"])
        assert cell(table, "unrelated")["mean"] == pytest.approx(of_run["unrelated"])
    for quantity, attack in (("vid", "black-box"), ("vid_noise", "noise")):
        assert cell(table, quantity)["mean"] == pytest.approx(vid.loc[attack, "vid"])
        assert cell(table, quantity)["low"] == pytest.approx(vid.loc[attack, "low"])


def test_equal_seeds_have_no_spread(three):
    table = seeds.across(dict.fromkeys((0, 1, 2), three[4]), VID_EPSILONS)
    assert table["spread"].tolist() == pytest.approx([0] * len(table), abs=1e-12)
    for name in ("least", "greatest"):
        np.testing.assert_allclose(table[name], table["mean"], atol=1e-12)
    assert table[["t_low", "t_high"]].isna().all(axis=None)
    row = cell(table, "mod", 0.1)
    assert row["low"] < 0.2 < row["high"]  # over identities


def test_photos_are_matched_by_name_not_by_order(three, table):
    shuffled = {
        seed: {name: table.sample(frac=1, random_state=seed) for name, table in own.items()}
        for seed, own in three.items()
    }
    first, second = (
        own.sort_values(["quantity", "epsilon"], ignore_index=True)
        for own in (table, seeds.across(shuffled, VID_EPSILONS))
    )
    pd.testing.assert_frame_equal(first, second)


def test_the_value_of_each_seed(three):
    table = seeds.each(three, VID_EPSILONS)
    mod = table[(table["quantity"] == "mod") & (table["epsilon"] == 0.1)]
    assert mod["seed"].tolist() == [4, 7, 5]
    assert mod["value"].tolist() == pytest.approx([0.2, 0.3, 0.4])


HOLDS, FAILS, OPEN, NOT = judge.HOLDS, judge.FAILS, judge.INCONCLUSIVE, judge.NOT_JUDGED


def verdicts(**by_claim):
    """A seed's table of verdicts on the plain arm of a run, by claim."""
    rows = [("run", "plain", claim, verdict) for claim, verdict in by_claim.items()]
    rows.append(("paper", "not said", "falls", "holds"))
    table = pd.DataFrame(rows, columns=["on", "arm", "claim", "verdict"])
    return table.assign(says=[f"It {claim}." for claim in table["claim"]])


@pytest.fixture
def counted():
    return seeds.verdict_counts(
        {
            4: verdicts(falls=HOLDS, rises=HOLDS, turns=OPEN, own=FAILS, gone=NOT, same=FAILS),
            7: verdicts(falls=FAILS, rises=HOLDS, turns=FAILS, own=NOT, gone=NOT, same=FAILS),
            5: verdicts(falls=HOLDS, rises=HOLDS, turns=OPEN, own=NOT, gone=NOT, same=NOT),
        }
    )


def test_verdicts_are_counted_by_claim_and_arm(counted):
    row = counted.iloc[0]
    assert row[["claim", "says", "arm", "seeds"]].tolist() == ["falls", "It falls.", "plain", 3]
    counts = counted.set_index("claim")[["holds", "fails", "inconclusive", "not_judged"]]
    assert counts.loc["falls"].tolist() == [2, 1, 0, 0]
    assert counts.loc["rises"].tolist() == [3, 0, 0, 0]
    assert counts.loc["turns"].tolist() == [0, 1, 2, 0]
    assert counts.loc["own"].tolist() == [0, 1, 0, 2]
    assert counts.index.tolist() == ["falls", "rises", "turns", "own", "gone", "same"]
    assert row["by_seed"] == "4: holds; 7: does not hold; 5: holds"


def test_verdicts_are_counted_for_each_arm():
    both = {
        seed: pd.concat([verdicts(falls=HOLDS), verdicts(falls=aligned).assign(arm="aligned")])
        for seed, aligned in ((0, HOLDS), (1, FAILS))
    }
    table = seeds.verdict_counts(both).set_index("arm")
    assert table["holds"].to_dict() == {"plain": 2, "aligned": 1}


def written(three, counted, tmp_path):
    """The section, from tables that were written and read again."""
    other = {
        seed: {name: table.assign(network="xception") for name, table in own.items()}
        for seed, own in three.items()
    }
    both = {
        seed: {name: pd.concat([table, other[seed][name]]) for name, table in own.items()}
        for seed, own in three.items()
    }
    arms = {"plain": both, "aligned": other}
    table = pd.concat(
        [seeds.across(own, VID_EPSILONS).assign(arm=name) for name, own in arms.items()]
    )
    write.tables(tmp_path, seeds=table, seeds_verdicts=counted)
    table, counted = (read_table(tmp_path / f"{name}.csv") for name in ("seeds", "seeds_verdicts"))
    gains = pd.DataFrame(columns=["attack", "control", "arm", "network", "seed"])
    return section([4, 7, 5], table, counted, gains, "vgg16")


def test_the_section_shows_means_with_controls_and_both_intervals(three, counted, tmp_path):
    shown = written(three, counted, tmp_path)
    assert "with the seeds 4, 7, 5 " in (text := tab("results", seeds=shown).text)
    assert "this page shows seed 4." in text
    (levels, vid), (aligned, aligned_vid) = (shown["of_arms"][arm] for arm in ("plain", "aligned"))
    assert [(row["Network"], row["ε"]) for row in levels] == [
        (network, epsilon)
        for network in ("VGG16 (source: white-box)", "XceptionNet")
        for epsilon in ("0", "0.1", "0.2")
    ]
    row = levels[1]
    assert row["Accuracy, %"] == "50.00 [0.34, 99.66]; seeds 25.00–75.00 [-12.10, 112.10]"
    assert row["MOD"] == "0.3000 [0.0000, 1.0000]; seeds 0.2000–0.4000 [0.0516, 0.5484]"
    of_noise, of_unrelated = row["MOD of random-sign noise"], row["MOD of unrelated photos"]
    assert of_noise.startswith("0.0200 [0.0200, 0.0200]; seeds 0.0100–0.0300 [")
    assert of_unrelated.startswith("0.7000 [0.3730, 1.0000]; seeds 0.6500–0.7500 [")
    assert (levels[0]["MOD"], levels[0]["MOD of random-sign noise"]) == ("0", "0")
    assert vid[0]["VID"].startswith("0.1500 [0.0000, 0.7853]; seeds 0.1000–0.2000 [")
    assert {row["Network"] for row in [*aligned, *aligned_vid]} == {"XceptionNet"}


def test_the_section_marks_verdicts_on_which_seeds_disagree(three, counted, tmp_path):
    shown = written(three, counted, tmp_path)
    assert {row["Claim"]: row["The seeds"] for row in shown["verdicts"]} == {
        "It falls.": "DISAGREE: opposite verdicts",
        "It rises.": "agree",
        "It turns.": "DISAGREE: clear with 1 of 3",
        "It own.": "one judges it",
        "It gone.": "do not judge it",
        "It same.": "agree (2 of 3 judge it)",
    }
    by_seed = shown["verdicts"][0]["Verdict with each seed"]
    assert by_seed == "4: holds; 7: does not hold; 5: holds"
    text = tab("results", seeds=shown).below("How much depends").text
    assert "2 of 4 verdicts that" in text
    assert text.endswith("change with the seed : It falls (plain); It turns (plain).")
    assert "accuracy differs by up to 50.00 points (VGG16, plain, ε = 0.1; the interval" in text
    assert "identities is 99.31 points wide there)" in text
    assert "MOD by up to 0.4000 (VGG16, plain, ε = 0.2;" in text
    assert "VID by up to 0.1000 (VGG16, plain; the interval" in text


def test_the_section_says_if_no_verdict_changes_with_the_seed(three, tmp_path):
    same = seeds.verdict_counts(dict.fromkeys((4, 7, 5), verdicts(falls=HOLDS)))
    text = tab("results", seeds=written(three, same, tmp_path)).text
    assert "None of 1 verdicts that more than one seed judges changes with the seed." in text
