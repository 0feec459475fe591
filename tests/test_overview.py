"""The first screen's numbers and verdicts are those of the tables."""

import base64

import numpy as np
import pandas as pd
import pytest
from plans import plan_of

from gradcam_adv.paper import judge
from gradcam_adv.paper.claims import CLAIMS
from gradcam_adv.report import overview, text, verdicts
from gradcam_adv.report.text import interval
from gradcam_adv.study import parse

STUDY = parse(
    {
        "name": "made",
        "networks": ["vgg16", "resnet50"],
        "source": "resnet50",
        "epsilons": [0.01, 0.1],
    }
)
PLAN = plan_of(STUDY)
OF_MAPS = {"target": "predicted", "size": "input"}


def rows(**columns) -> pd.DataFrame:
    """A row per network; of other attacks, classes and sizes with numbers that must not be read."""
    own = pd.DataFrame([{"network": name} | columns for name in STUDY.networks])
    numbers = own.select_dtypes("number").columns.difference(["epsilon"])
    others = [("attack", "black-box")]
    others += [("target", "clean"), ("size", "native")] if "target" in columns else []
    wrong = [
        own.assign(**{column: value}, **dict.fromkeys(numbers, 0.99)) for column, value in others
    ]
    return pd.concat([*wrong, own])


def ends(name: str, value: float, low: float, high: float) -> dict[str, float]:
    return {name: value, f"{name}_low": low, f"{name}_high": high}


@pytest.fixture
def summary() -> dict[str, pd.DataFrame]:
    first, second = tables_at(0.01), tables_at(0.1)
    second["accuracy"] = second["accuracy"][second["accuracy"]["epsilon"] > 0]
    both = {name: pd.concat([first[name], second[name]]) for name in first}
    return both | {"half_shift": first["half_shift"]}


def tables_at(epsilon: float) -> dict[str, pd.DataFrame]:
    own = {"attack": "white-box", "epsilon": epsilon}
    clean = rows(attack="white-box", epsilon=0.0, accuracy=0.95, low=0.83, high=0.99)
    half = ends("half_shift", 0.003, 0.002, 0.004) | ends("noise", 0.05, 0.04, np.inf)
    of_mod = {"mod": 0.314, "low": 0.29, "high": 0.33, "mod_noise": 0.08, "unrelated": 0.3}
    curves = rows(**own, **OF_MAPS, mod=0.3, low=0.2, high=0.4)
    gain = {"gain": 6.81, "low": 5.92, "high": np.inf, "most": 0.3}
    return {
        "accuracy": pd.concat([clean, rows(**own, accuracy=0.1, low=0.02, high=0.2)]),
        "mod": rows(**own, **OF_MAPS, **of_mod),
        "gain": pd.concat(
            [rows(**own, **OF_MAPS, control=control, **gain) for control in ("noise", "mirrored")]
        ),
        "half_shift": rows(attack="white-box", **OF_MAPS, **half, least=0.001, unrelated=0.3),
        "gain_curves": pd.concat([curves, curves.assign(attack="noise")]),
    }


def shown(card: overview.Card) -> dict[str, tuple[str, str]]:
    return {number.name: (number.value, number.about) for number in card.first}


def test_a_card_has_each_networks_own_attack_at_the_smallest_epsilon_of_the_paper(summary):
    first, second = overview.of_arm(PLAN, summary)
    assert [first.title, second.title] == ["ResNet50", "VGG16"]  # the source first
    assert (
        shown(first)
        == shown(second)
        == {
            "Accuracy": ("95 → 10 %", "[83, 99] → [2, 20]"),
            "Attention moved": ("0.31", "[0.29, 0.33]; noise 0.08, unrelated 0.30"),
            "Gain over noise": ("6.8 ×", "[5.9, ∞)"),
            "Half-shift ε": ("0.003", "[0.002, 0.004]; that of noise: 0.05 [0.04, ∞)"),
        }
    )
    kind, content = first.plot.split(",")
    assert kind == "data:image/svg+xml;base64" and b"<svg" in base64.b64decode(content)


def test_the_numbers_are_those_of_each_epsilon(summary):
    largest = {"accuracy": 0.0, "gain": 1.2}
    for name, value in largest.items():
        summary[name].loc[summary[name]["epsilon"] == 0.1, name] = value
    card, _ = overview.of_arm(PLAN, summary)
    assert list(card.numbers) == [0.01, 0.1]
    assert [number.value for number in card.numbers[0.01]][:3] == ["95 → 10 %", "0.31", "6.8 ×"]
    assert [number.value for number in card.numbers[0.1]][:3] == ["95 → 0 %", "0.31", "1.2 ×"]


@pytest.mark.parametrize(
    ("gain", "low", "high", "said"),
    [
        (6.81, 5.92, 8.1, "6.8 times as large|: the attack does more than noise."),
        (22.6, 5.92, np.inf, "at least 5.9 times as large|: the attack does more than noise."),
        (0.5, 0.2, 0.9, "0.5 times as large|: the attack does less than noise."),
        (3.4, 0.9, np.inf, "3.4 times as large|. The interval has 1 in it: the attack may do no "),
        (np.inf, 20.0, np.inf, "more than 30 times as large|: the attack does more than noise."),
        (np.nan, np.nan, np.nan, ""),
    ],
)
def test_the_finding_says_what_the_gain_says(gain, low, high, said):
    row = {"epsilon": 0.01, "gain": gain, "low": low, "high": high, "most": 0.3}
    found = overview.finding("VGG16", pd.DataFrame([row]))
    middle = " to move the heatmaps of VGG16 as far as the attack"
    expected = said.replace("|", middle)
    assert found.startswith(f"At ε = 0.01 noise must be {expected}" if said else "")
    assert bool(found) == bool(said)


def test_a_number_without_an_interval_has_no_brackets():
    assert interval(0.5, np.nan, np.nan) == "0.5000"
    assert interval(0.5, 0.4, np.nan) == "0.5000 [0.4000, –]"


def test_bounds_are_shown_as_bounds(summary):
    summary["gain"][["gain", "low"]] = np.inf
    summary["half_shift"]["half_shift"] = 0.0001
    numbers = shown(overview.of_arm(PLAN, summary)[0])
    assert numbers["Gain over noise"] == ("> 30 ×", "")
    assert numbers["Half-shift ε"] == ("< 0.001", "that of noise: 0.05 [0.04, ∞)")


@pytest.mark.parametrize("missing", ["accuracy", "mod", "gain", "half_shift"])
def test_a_table_that_is_not_there_yet_is_left_out(summary, missing):
    del summary[missing]
    card, _ = overview.of_arm(PLAN, summary)
    assert len(card.first) == 3
    assert [*card.findings] == ([0.01, 0.1] if missing != "gain" else [])
    assert bool(card.plot) == (missing != "half_shift")


@pytest.mark.parametrize(
    ("epsilons", "expected"), [((0.005, 0.05, 0.01), 0.01), ((0.2, 0.03), 0.03), ((0.1,), 0.1)]
)
def test_the_smallest_epsilon_that_the_paper_prints(epsilons, expected):
    assert overview.smallest(epsilons) == expected


def test_the_matrix_has_a_cell_per_judge_with_letter_and_words():
    on_run = pd.DataFrame(
        [
            {"claim": claim.name, "says": claim.says, "on": "run", "arm": arm, "detail": "why",
             "verdict": judge.HOLDS if arm == "plain" else judge.INCONCLUSIVE, "rule": "r",
             "effect": "", "p": np.nan, "p_holm": np.nan}
            for claim in CLAIMS for arm in (("both",) if claim.both else ("plain", "aligned"))
        ]
    )  # fmt: skip
    table = pd.concat([judge.judge_paper(), on_run], ignore_index=True)
    arms = {arm: plan_of(STUDY, arm) for arm in ("plain", "aligned")}
    found = {claim["name"]: claim for claim in verdicts.of_claims(arms, table)}
    assert list(found) == [claim.name for claim in CLAIMS]
    cells = found["accuracy_falls"]["cells"]
    assert list(cells) == ["paper", "plain", "aligned"]
    assert cells["plain"] == {"letters": "H", "kind": "holds", "words": "holds"}
    assert cells["aligned"] == {"letters": "?", "kind": "inconclusive", "words": "inconclusive"}
    counted = text.tally([found["accuracy_falls"]] * 3, "holds")
    assert counted == "paper 0, plain 3, aligned 0"
    # A claim about both arms has one verdict, in both columns.
    both = next(claim.name for claim in CLAIMS if claim.both)
    assert found[both]["cells"]["plain"] == found[both]["cells"]["aligned"]
    for claim in found.values():
        of_claim = table[table["claim"] == claim["name"]]
        assert [row["Verdict"] for row in claim["reached"]] == of_claim["verdict"].tolist()
        assert claim["reached"][-1]["p / p (Holm)"] == "–"


def test_different_verdicts_of_the_papers_tables_are_both_named():
    row = {"on": "paper", "effect": "", "detail": "", "rule": "", "p": np.nan, "p_holm": np.nan}
    table = pd.DataFrame(
        [
            row | {"claim": "accuracy_falls", "arm": arm, "verdict": verdict}
            for arm, verdict in (("plain", judge.HOLDS), ("aligned", judge.FAILS))
        ]
    )
    claim = verdicts.of_claims({}, table)[0]
    assert claim["cells"] == {
        "paper": {
            "letters": "H/N",
            "kind": "mixed",
            "words": "holds (Table 1); does not hold (Table 2)",
        }
    }
