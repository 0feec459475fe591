"""Claims on made-up runs whose verdicts are known in both directions, and on the paper's tables."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from gradcam_adv.paper import evidence, rules
from gradcam_adv.paper import judge as claims
from gradcam_adv.paper import on_paper as printed
from gradcam_adv.paper import on_run as findings
from gradcam_adv.paper import tables as paper
from gradcam_adv.paper.effects import Effect
from gradcam_adv.paper.evidence import Evidence, Run
from gradcam_adv.paper.on_run import Findings
from gradcam_adv.study.config import Readings

NETWORKS = ("vgg16", "resnet50", "xception")
EPSILONS = (0.0, 0.05, 0.1)
IMAGENET = dict.fromkeys(NETWORKS, "imagenet")


def made_up(
    people,
    *,
    wrong,
    shift,
    photos=4,
    networks=NETWORKS,
    failed_shift=0.0,
    heading=None,
    seed=0,
):
    """An arm in which ``wrong(network, attack, epsilon)`` is the share of wrong answers and
    ``shift`` of the same the mean NISSIM, which is ``failed_shift`` more where a photo fails."""
    chance = np.random.default_rng(seed)
    count = people * photos
    table = pd.DataFrame({"photo": [f"p{i}" for i in range(count)], "label": 0})
    table["identity"] = [f"i{i % people}" for i in range(count)]
    # The same photos are the hard ones for all networks, at all levels.
    hard = chance.permutation(count)
    predictions, nissim = [], []
    for network in networks:
        for attack in ("black-box", "white-box", "noise"):
            for epsilon in EPSILONS:
                clean = (hard < round(wrong(network, attack, 0.0) * count)).astype(int)
                attacked = (hard < round(wrong(network, attack, epsilon) * count)).astype(int)
                of = {"network": network, "attack": attack, "epsilon": epsilon}
                predictions.append(table.assign(**of, predicted_clean=clean, predicted=attacked))
                mean = shift(network, attack, epsilon) + failed_shift * (attacked > clean)
                value = mean + chance.normal(0, 0.01, count) if epsilon else np.zeros(count)
                for target in ("predicted", "clean"):
                    rows = table.assign(**of, target=target, size="input", nissim=value)
                    if heading is not None:
                        rows["direction"] = heading(chance, count)
                    nissim.append(rows)
    return Evidence(pd.concat(predictions, ignore_index=True), pd.concat(nissim, ignore_index=True))


def judged(arms, origins=IMAGENET, source="resnet50", **readings):
    table = claims.judge(arms, tuple(origins), source, origins, Readings(**readings))
    return table.set_index(["claim", "arm"])


def verdicts(table, arm="plain"):
    """By claim, of one arm and of both together."""
    arms = table.index.get_level_values("arm")
    return table.loc[arms.isin([arm, "both"])].droplevel("arm")["verdict"].to_dict()


def run_of(arm, networks=NETWORKS, source="resnet50"):
    origins = dict.fromkeys(networks, "imagenet")
    return Run({"plain": arm}, networks, source, origins, Readings(), 0)


def weighed(found, **options):
    """The verdict of one claim alone, so without Holm over the others."""
    result = claims.weigh(found, **options)
    return result.leaning if result.p < 0.05 else "can't be told"


def wrong_as_claimed(network, attack, epsilon):
    if attack == "noise":
        return 0.1
    return 0.1 + epsilon * (6 if network in paper.WIDE else 3)


def shift_as_claimed(network, attack, epsilon):
    if attack == "noise":
        return 0.02
    return 0.05 + {"vgg16": 0.5, "resnet50": 2, "resnet101": 1.5}.get(network, 3) * epsilon


def as_claimed(people, **changes):
    made = {"wrong": wrong_as_claimed, "shift": shift_as_claimed, "failed_shift": 0.02}
    return made_up(people, **(made | changes))


def with_fewer_wrong(network, attack, epsilon):
    return wrong_as_claimed(network, attack, epsilon) - 0.09


def wrong_contrary(network, attack, epsilon):
    if attack == "noise":
        return 0.8
    return 0.6 - epsilon * (4 if network in paper.WIDE else 2)


def with_more_wrong(network, attack, epsilon):
    return wrong_contrary(network, attack, epsilon) + 0.1


def shift_contrary(network, attack, epsilon):
    if attack == "noise":
        return 0.95
    return 0.9 - 4 * epsilon if network == "vgg16" else 0.5 - epsilon


# What the arms of a run can show without knowing where the focus moves.
MEASURED = [claim.name for claim in paper.CLAIMS if claim.name != "focus_unpredictable"]
# Among the made-up runs as claimed, a wide network's shifts have nothing similar to a deep one's.
OF_SHIFTS_ALIKE = "deep_better_at_similar_shift"


@pytest.fixture(scope="module")
def claimed():
    return judged({"plain": as_claimed(60), "aligned": as_claimed(60, wrong=with_fewer_wrong)})


@pytest.fixture(scope="module")
def contrary():
    """Accuracy rises, wide networks gain more, VGG16 shifts most, MOD falls, noise does more."""
    return judged(
        {
            "plain": made_up(60, wrong=wrong_contrary, shift=shift_contrary),
            "aligned": made_up(60, wrong=with_more_wrong, shift=shift_contrary),
        }
    )


@pytest.fixture(scope="module")
def small():
    return judged({"plain": as_claimed(4), "aligned": as_claimed(4, wrong=with_fewer_wrong)})


@pytest.mark.parametrize("claim", [name for name in MEASURED if name != OF_SHIFTS_ALIKE])
@pytest.mark.parametrize("arm", ["plain", "aligned"])
def test_claims_hold_on_a_run_as_claimed(claimed, claim, arm):
    assert verdicts(claimed, arm)[claim] == "holds"


@pytest.mark.parametrize(
    "claim",
    [n for n in MEASURED if n not in ("shift_goes_with_failure", OF_SHIFTS_ALIKE)],
)
def test_claims_do_not_hold_on_a_contrary_run(contrary, claim):
    assert verdicts(contrary)[claim] == "does not hold"


@pytest.mark.parametrize("claim", MEASURED)
def test_four_people_are_too_few_for_any_verdict(small, claim):
    # However clear the effects are: so few people go one way by chance too often.
    assert verdicts(small)[claim] == "can't be told"


def test_one_photo_is_no_error_and_no_verdict():
    table = judged({"plain": as_claimed(1, photos=1)})
    assert set(table["verdict"]) == {"can't be told", "not judged"}
    assert "from 1 values of 1 people" in table.loc[("accuracy_falls", "plain"), "detail"]


def test_p_values_are_corrected_over_all_judged_verdicts(claimed):
    judged_rows = claimed.dropna(subset="p")
    assert set(claimed.loc[claimed["p"].isna(), "verdict"]) == {"not judged"}
    smallest = judged_rows["p"].idxmin()
    factor = judged_rows.loc[smallest, "p_holm"] / judged_rows.loc[smallest, "p"]
    assert factor == pytest.approx(len(judged_rows))


def test_no_effect_at_all_does_not_hold_with_enough_photos_and_is_unknown_with_few():
    def nothing(network, attack, epsilon):
        return 0.1

    many = run_of(made_up(60, photos=8, wrong=nothing, shift=nothing))
    few = run_of(made_up(15, photos=2, wrong=nothing, shift=nothing))
    for find in (findings.falls, findings.transfers, findings.wide_fall_more):
        assert weighed(find(many, "plain")) == "does not hold"
        # 30 photos without a change do not show that fewer than 2 in 100 change.
        assert weighed(find(few, "plain")) == "can't be told"
    for find in (findings.shifts_beyond_noise, findings.mod_rises, findings.vgg16_shifts_least):
        assert weighed(find(many, "plain")) == "does not hold"


def test_noise_that_does_as_much_is_no_transfer():
    def any_change_fails(network, attack, epsilon):
        return 0.1 + 3 * epsilon

    found = findings.transfers(
        run_of(made_up(60, photos=8, wrong=any_change_fails, shift=shift_as_claimed)), "plain"
    )
    assert weighed(found) == "does not hold"
    assert claims.weigh(found).against == ("VGG16 beyond noise", "XceptionNet beyond noise")


def test_one_step_the_other_way_is_enough_against_a_rise():
    table = as_claimed(60)
    own = (table.nissim["network"] == "xception") & (table.nissim["epsilon"] == 0.1)
    # Still far above that of the level before the last two, but below the last.
    at = table.nissim["epsilon"].where(~own, 0.2)
    between = table.nissim[own].assign(epsilon=0.1, nissim=lambda t: t["nissim"] + 0.1)
    bent = pd.concat([table.nissim.assign(epsilon=at), between])
    others = table.nissim[~own & (table.nissim["epsilon"] == 0.1)].assign(epsilon=0.2)
    run = run_of(Evidence(table.predictions, pd.concat([bent, others])))
    result = claims.weigh(findings.mod_rises(run, "plain"))
    assert result.leaning == "does not hold"
    assert result.against == ("XceptionNet from ε = 0.1 to 0.2",)


def test_the_sources_own_row_is_no_transfer_and_no_deep_network():
    def source_untouched(network, attack, epsilon):
        return 0.1 if network == "resnet50" else wrong_as_claimed(network, attack, epsilon)

    run = run_of(as_claimed(60, photos=8, wrong=source_untouched))
    assert weighed(findings.transfers(run, "plain")) == "holds"
    assert weighed(findings.falls(run, "plain")) == "does not hold"
    gap = findings.wide_fall_more(run, "plain")
    # 60 points of Xception less 30 of VGG16; with ResNet50 it would be 45.
    assert gap.needed["wide less deep"].value == pytest.approx(0.3, abs=0.01)
    assert "deep: VGG16; ResNet50 is left out" in gap.note


@pytest.mark.parametrize(
    ("networks", "source", "find", "reason"),
    [
        (("vgg16", "resnet50"), "resnet50", findings.wide_fall_more, "no wide and deep"),
        (("vgg16", "xception"), "vgg16", findings.wide_shift_more, "no wide and deep"),
        (("vgg16", "xception"), "vgg16", findings.vgg16_shifts_least, "has not VGG16"),
        (("resnet50", "xception"), "resnet50", findings.vgg16_most_stable, "has not VGG16"),
        (("vgg16",), "vgg16", findings.transfers, "no attacked network"),
    ],
)
def test_what_a_run_lacks_is_not_judged(networks, source, find, reason):
    run = run_of(as_claimed(2, networks=networks), networks, source)
    assert reason in find(run, "plain")


def test_one_level_of_attack_has_no_rise_and_no_vid():
    arm = as_claimed(2)
    run = run_of(Evidence(arm.predictions, arm.nissim[arm.nissim["epsilon"] < 0.1]))
    assert "no two levels" in findings.mod_rises(run, "plain")
    assert "no VID" in findings.vgg16_most_stable(run, "plain")


def test_weights_of_two_origins_compare_no_networks():
    arms = {"plain": as_claimed(2)}
    mixed = judged(arms, {**IMAGENET, "xception": "random"})
    compares = {claim.name for claim in paper.CLAIMS if claim.compares}
    reasons = mixed[mixed["detail"].str.contains("weights of XceptionNet are random")]
    assert set(reasons.index.get_level_values("claim")) | {"preprocessing_keeps_trend"} == compares
    assert set(reasons["verdict"]) == {"not judged"}
    same = judged(arms, dict.fromkeys(NETWORKS, "random"))
    assert not same["detail"].str.contains("weights").any()


def test_a_single_arm_does_not_judge_claims_on_both(small):
    table = judged({"aligned": as_claimed(2)})
    both = table.xs("both", level="arm")
    assert set(both.index) == {"preprocessing_helps", "preprocessing_keeps_trend"}
    assert set(both["detail"]) == {"the run has one arm only"}
    assert set(small.xs("both", level="arm")["verdict"]) == {"can't be told"}


def test_arms_are_compared_on_the_photos_of_both():
    plain, aligned = as_claimed(20), as_claimed(20, wrong=with_fewer_wrong)
    kept = aligned.predictions[~aligned.predictions["photo"].isin(["p0", "p1"])]
    both = replace(run_of(plain), arms={"plain": plain, "aligned": Evidence(kept, aligned.nissim)})
    assert findings.aligned_helps(both, "plain").needed["VGG16"].count == 78


def test_the_trend_may_stay_whichever_it_is():
    def deep_fall_more(network, attack, epsilon):
        return 0.1 + epsilon * (2 if network in paper.WIDE else 6)

    plain = as_claimed(60, wrong=deep_fall_more)
    run = run_of(plain)
    same = replace(run, arms={"plain": plain, "aligned": plain})
    turned = replace(run, arms={"plain": plain, "aligned": as_claimed(60)})
    assert weighed(findings.aligned_keeps_trend(same, "plain")) == "holds"
    assert weighed(findings.aligned_keeps_trend(turned, "plain")) == "does not hold"


def test_a_shift_that_grows_with_epsilon_alone_does_not_go_with_failure():
    # Over all levels together those that fail have the greater NISSIM; at each level they don't.
    run = run_of(as_claimed(60, failed_shift=0.0))
    found = findings.shift_goes_with_failure(run, "plain")
    assert all(abs(effect.value) < 0.08 for effect in found.needed.values())
    opposite = run_of(as_claimed(60, failed_shift=-0.02))
    assert weighed(findings.shift_goes_with_failure(opposite, "plain")) == "does not hold"


def test_photos_wrong_when_clean_do_not_count_as_failed():
    run = run_of(as_claimed(10, wrong=lambda *_: 0.5))
    found = findings.shift_goes_with_failure(run, "plain")
    assert {effect.count for effect in found.needed.values()} == {40}  # 20 right, two levels
    assert weighed(found) == "can't be told"  # for none of them fails


@pytest.mark.parametrize(
    ("wrong", "verdict"),
    [(wrong_as_claimed, "holds"), (lambda *_: 0.3, "can't be told"), (None, "does not hold")],
)
def test_networks_are_compared_where_their_shifts_are_alike(wrong, verdict):
    def deep_fail_more(network, attack, epsilon):
        return 0.1 + epsilon * (2 if network in paper.WIDE else 6)

    run = run_of(as_claimed(60, wrong=wrong or deep_fail_more, shift=lambda *_: 0.2))
    assert weighed(findings.deep_better_at_similar_shift(run, "plain")) == verdict


@pytest.mark.parametrize(
    ("people", "heading", "verdict"),
    [
        (150, lambda chance, count: chance.uniform(-np.pi, np.pi, count), "holds"),
        (60, lambda chance, count: chance.normal(3.0, 0.5, count), "does not hold"),
        (10, lambda chance, count: chance.uniform(-np.pi, np.pi, count), "can't be told"),
        (10, lambda chance, count: np.full(count, np.nan), "can't be told"),
    ],
)
def test_directions_are_predictable_where_they_have_one_in_common(people, heading, verdict):
    networks = ("vgg16", "xception")
    run = run_of(as_claimed(people, heading=heading, networks=networks), networks, "vgg16")
    assert weighed(findings.directions(run, "plain"), absent=True) == verdict


def test_directions_not_measured_are_not_judged(small):
    row = small.loc[("focus_unpredictable", "plain")]
    assert row["verdict"] == "not judged"
    assert "did not measure" in row["detail"]


def test_readings_say_which_heatmaps_count():
    arm = as_claimed(2)
    wrong_size = arm.nissim.assign(size="native", nissim=0.9)
    both = Evidence(arm.predictions, pd.concat([arm.nissim, wrong_size]))
    assert evidence.shifts(both, "black-box", Readings()).max().max() < 0.5
    native = evidence.shifts(both, "black-box", Readings(heatmap_size="native"))
    assert native.min().min() == 0.9
    # What is left out beforehand changes nothing.
    kept = evidence.needed(both.nissim, Readings())
    assert len(kept) == len(NETWORKS) * 2 * 2 * 2 * 8  # attacks, levels, targets, photos
    pd.testing.assert_frame_equal(
        evidence.shifts(Evidence(arm.predictions, kept), "noise", Readings()),
        evidence.shifts(both, "noise", Readings()),
    )


def test_vid_may_count_the_clean_photos():
    run = run_of(as_claimed(20))
    all_levels = replace(run, readings=Readings(vid_levels="all"))
    attacked = findings.vgg16_most_stable(run, "plain").needed["XceptionNet less VGG16"]
    counted = findings.vgg16_most_stable(all_levels, "plain").needed["XceptionNet less VGG16"]
    # Means 0.2 and 0.35 for Xception, 0.075 and 0.1 for VGG16.
    assert attacked.value == pytest.approx(0.0625, abs=0.005)
    expected = np.std([0, 0.2, 0.35]) - np.std([0, 0.075, 0.1])
    assert counted.value == pytest.approx(expected, abs=0.005)


def effect(value, p, p_short):
    return Effect(value, value, value, p, p_short, 100, 50)


@pytest.mark.parametrize(
    ("needed", "steps", "leaning", "p"),
    [
        # All clear: the largest p counts.
        ([(0.1, 0.01, 1), (0.2, 0.03, 1)], [], "holds", 0.03),
        # One is clearly none, which is corrected for there being two.
        ([(0.1, 0.001, 1), (0.0, 0.9, 0.01)], [], "does not hold", 0.02),
        # A step down is against it, though both ends are clear; a flat one is not.
        ([(0.1, 0.001, 1)], [(-0.1, 0.004, 0.001)], "does not hold", 0.008),
        ([(0.1, 0.001, 1)], [(0.0, 1.0, 0.001)], "holds", 0.001),
        # Clear but small is clear.
        ([(0.01, 0.001, 0.001)], [], "holds", 0.001),
        # Opposite, but not clearly: it leans nowhere with a p that counts.
        ([(-0.1, 0.3, 0.2)], [], "holds", 1.0),
    ],
)
def test_weighing_by_hand(needed, steps, leaning, p):
    found = Findings(
        {f"n{i}": effect(*values) for i, values in enumerate(needed)},
        {f"s{i}": effect(*values) for i, values in enumerate(steps)},
    )
    result = claims.weigh(found)
    assert (result.leaning, result.p) == (leaning, pytest.approx(p))


def test_a_claim_of_no_effect_is_weighed_the_other_way_round():
    none, some = effect(0.05, 0.6, 0.01), effect(0.5, 0.001, 1.0)
    holds = claims.weigh(Findings({"a": none}), absent=True)
    assert (holds.leaning, holds.p) == ("holds", 0.01)
    fails = claims.weigh(Findings({"a": none, "b": some}), absent=True)
    assert (fails.leaning, fails.p, fails.against) == ("does not hold", 0.002, ("b",))


def test_every_claim_has_its_rule_and_its_printed_side():
    names = [claim.name for claim in paper.CLAIMS]
    assert len(set(names)) == len(names)
    assert set(names) == set(rules.RULES) == set(printed.FINDINGS)
    assert rules.text_of(rules.RULES["transfer"]).endswith("less than 2 points counts against it.")


# Worked out from the printed tables by hand.
ON_PAPER = {
    ("accuracy_falls", "plain"): "holds",
    ("accuracy_falls", "aligned"): "holds",
    ("transfer", "plain"): "holds",
    ("transfer", "aligned"): "holds",
    ("white_box", "not said"): "not judged",
    ("wide_fail_more", "plain"): "holds",
    ("wide_fail_more", "aligned"): "holds",
    ("preprocessing_helps", "both"): "does not hold",
    ("preprocessing_keeps_trend", "both"): "holds",
    ("focus_shifts", "not said"): "holds",
    ("mod_rises", "not said"): "does not hold",
    ("wide_shift_more", "not said"): "holds",
    ("vgg16_shifts_least", "not said"): "holds",
    ("vgg16_most_stable", "not said"): "not judged",
    ("shift_goes_with_failure", "not said"): "not judged",
    ("deep_better_at_similar_shift", "plain"): "can't be told",
    ("deep_better_at_similar_shift", "aligned"): "holds",
    ("focus_unpredictable", "not said"): "not judged",
}


def test_verdicts_on_the_papers_own_tables():
    table = claims.judge_paper().set_index(["claim", "arm"])
    assert table["verdict"].to_dict() == ON_PAPER
    assert set(table["on"]) == {"paper"}
    assert table["p"].isna().all()
    losers = table.loc[("preprocessing_helps", "both"), "detail"]
    assert "ε = 0: VGG16, InceptionNet v3, XceptionNet;" in losers
    assert "Lower at every ε: VGG16, XceptionNet." in losers
    fall = table.loc[("mod_rises", "not said"), "detail"]
    assert fall.startswith("InceptionNet v3 falls from 0.2968 to 0.2959 at ε = 0.1;")
    rises = table.loc[("accuracy_falls", "plain"), "detail"]
    assert "ResNet50 +4 of 296 photos at ε = 0.01" in rises
    less = table.loc[("vgg16_shifts_least", "not said"), "detail"]
    assert less == "at ε = 0.01 ResNet101 shifts less"


@pytest.mark.parametrize(
    ("table", "change", "claim"),
    [
        ("TABLE_1", {"resnet50": (0.9054, 0.9392, 0.8851, 0.7804, 0.7060)}, "accuracy_falls"),
        ("TABLE_1", {"vgg16": (0.9189, 0.9155, 0.9087, 0.8986, 0.9189)}, "transfer"),
        ("TABLE_1", {"vgg16": (0.9189, 0.5, 0.3, 0.2, 0.1), "resnet101": (0.9, 0.5, 0.3, 0.2, 0)},
         "wide_fail_more"),
        ("TABLE_3", {"vgg16": (0.0, 0.3, 0.3, 0.3, 0.3)}, "vgg16_shifts_least"),
        ("TABLE_3", {"xception": (0.0, 0, 0, 0, 0), "inceptionv3": (0.0, 0, 0, 0, 0)},
         "wide_shift_more"),
        ("TABLE_3", {"vgg16": (0.0, 0, 0.1, 0.2, 0.3)}, "focus_shifts"),
    ],
)  # fmt: skip
def test_other_printed_tables_would_have_other_verdicts(monkeypatch, table, change, claim):
    changed = getattr(paper, table).assign(**change)
    monkeypatch.setattr(paper, table, changed)
    monkeypatch.setitem(printed.TABLES, "plain", (paper.TABLE_1, paper.TABLE_1_PHOTOS))
    assert printed.FINDINGS[claim]()[0].holds is not True


def test_better_printed_tables_would_hold(monkeypatch):
    monkeypatch.setattr(paper, "TABLE_2", paper.TABLE_1 + 0.01)
    assert printed.preprocessing_helps()[0].holds
    risen = paper.TABLE_3.assign(inceptionv3=(0.0, 0.160696, 0.275883, 0.295898, 0.296766))
    monkeypatch.setattr(paper, "TABLE_3", risen)
    assert printed.mod_rises()[0].holds


def test_evidence_without_a_column_is_refused():
    arm = as_claimed(1)
    with pytest.raises(ValueError, match="Expected nissim with columns .* without nissim"):
        Evidence(arm.predictions, arm.nissim.drop(columns="nissim"))
    with pytest.raises(ValueError, match="Expected predictions .* without label, predicted$"):
        Evidence(arm.predictions.drop(columns=["label", "predicted"]), arm.nissim)


def test_a_run_without_arms_or_origins_is_refused():
    with pytest.raises(ValueError, match="Expected the evidence of one arm or both"):
        claims.judge({}, NETWORKS, "resnet50", IMAGENET, Readings())
    with pytest.raises(ValueError, match="origin of every network.* without xception"):
        claims.judge(
            {"plain": as_claimed(1)},
            NETWORKS,
            "resnet50",
            {"vgg16": "random", "resnet50": "random"},
            Readings(),
        )
