"""The distance from the paper: a made-up paper is found again, its interval, roles and facts."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from gradcam_adv import statistics
from gradcam_adv.paper import draws, facts, printed, roles
from gradcam_adv.paper.distance import distances, fitting
from gradcam_adv.paper.draws import Photos

NETWORKS = ["vgg16", "resnet50"]
# By reading, accuracy and MOD of both networks at the paper's epsilons, 0 among them.
READINGS = {
    "default": ([0.8, 0.7, 0.5, 0.4, 0.3], [0, 0.10, 0.20, 0.22, 0.24]),
    "floor": ([0.8, 0.79, 0.77, 0.76, 0.75], [0, 0.10, 0.11, 0.12, 0.13]),
    "floor, louder": ([0.8, 0.79, 0.77, 0.76, 0.75], [0, 0.12, 0.13, 0.14, 0.15]),
    "silent": ([0.8, 0.8, 0.8, 0.79, 0.79], [0, 0.01, 0.02, 0.03, 0.03]),
}


def simulated(
    people: int, seed: int, photos_each: int = 3, networks: list[str] = NETWORKS
) -> dict[str, dict[str, Photos]]:
    """Photos of people who resemble each other, under each reading the same ones."""
    chance = np.random.default_rng(seed)
    index = pd.MultiIndex.from_product(
        [range(people), range(photos_each)], names=["identity", "photo"]
    )
    columns = pd.MultiIndex.from_product([networks, printed.EPSILONS], names=["network", "epsilon"])

    def mixed(spread: float) -> np.ndarray:
        """Normal numbers, (photos, 1), of which half of the variance is the person's."""
        person = np.repeat(chance.normal(size=people), photos_each)
        return spread * (person + chance.normal(size=len(index)))[:, None] / np.sqrt(2)

    # A photo is answered rightly up to its own difficulty, uniform in [0, 1].
    difficulty = scipy.stats.norm.cdf(mixed(1))
    louder = mixed(0.2)
    found = {}
    for name, (accuracy, mod) in READINGS.items():
        right = difficulty < np.tile(accuracy, len(networks))
        nissim = np.tile(mod, len(networks)) * (1 + louder)
        tables = (pd.DataFrame(t, index, columns) for t in (right.astype(float), nissim))
        found[name] = {"plain": Photos(*tables)}
    return found


@pytest.fixture
def made_up(monkeypatch):
    """A paper whose tables were made under the reading "floor"."""
    accuracy, mod = (
        pd.DataFrame(dict.fromkeys(printed.TABLE_3, values), pd.Index(printed.EPSILONS))
        for values in READINGS["floor"]
    )
    table_1 = dataclasses.replace(printed.ACCURACIES["plain"], table=accuracy)
    monkeypatch.setitem(printed.ACCURACIES, "plain", table_1)
    monkeypatch.setattr(printed, "TABLE_3", mod)


def compared(photos: dict[str, dict[str, Photos]], source: str = "resnet50") -> pd.DataFrame:
    return distances(*_drawn(photos, source)).set_index("reading", drop=False)


def _drawn(photos, source):
    drawn, people = draws.draw(photos, seed=0)
    return drawn, source, people


@pytest.mark.usefixtures("made_up")
def test_a_made_up_paper_is_found_again_if_there_are_photos_enough():
    found = compared(simulated(people=150, seed=1))
    assert fitting(found) == ["floor"]
    assert found.loc["floor", "distance"] < 0.005
    assert found.loc["floor", ["farther", "farther_low", "farther_high"]].tolist() == [0, 0, 0]
    others = found.drop(index="floor")
    assert (others["farther_low"] > 0).all()
    assert (others["p"] < 0.05).all()


@pytest.mark.usefixtures("made_up")
def test_with_few_photos_the_made_up_paper_is_not_found():
    found = compared(simulated(people=4, seed=1, photos_each=1))
    assert {"floor", "floor, louder"} <= set(fitting(found))
    assert len(fitting(found)) > 1


@pytest.mark.usefixtures("made_up")
def test_with_one_person_no_reading_is_left_out():
    found = compared(simulated(people=1, seed=1))
    assert len(fitting(found)) == len(READINGS)
    assert found[["low", "high", "farther_low", "p"]].isna().all(axis=None)
    assert found["distance"].notna().all()


@pytest.mark.usefixtures("made_up")
def test_coverage_of_the_difference_and_of_the_set():
    """Of 45 people, in 95 of 100 cases; as is the test of all other intervals, see there."""
    ratio, mod = ({name: np.array(of[i][1:]) for name, of in READINGS.items()} for i in (0, 1))
    ratio = {name: values / 0.8 for name, values in ratio.items()}

    def true_distance(name: str) -> float:
        cells = [ratio[name] - ratio["floor"], mod[name] - mod["floor"]]
        return float(np.sqrt(np.square(cells).mean()))

    cases = 100
    covered, kept = 0, 0
    for seed in range(cases):
        photos = simulated(45, seed, photos_each=2, networks=["vgg16"])
        del photos["silent"]
        found = compared(photos)
        row = found.loc["default"]
        covered += row["farther_low"] <= true_distance("default") <= row["farther_high"]
        kept += bool(found.loc["floor", "near"])
    assert 0.9 <= covered / cases <= 0.99
    assert kept / cases >= 0.93


def test_the_variance_is_subtracted_from_the_squares():
    # The true distance is 0, and by chance the squares of means are above it.
    table = (printed.TABLE_1 / printed.TABLE_1.loc[0.0])["vgg16"]
    cells = {("vgg16", epsilon): np.array([table[epsilon] + 0.1]) for epsilon in (0.0, 0.1)}
    chance = np.random.default_rng(0).normal(size=2000)
    chance = 0.1 * (chance - chance.mean()) / chance.std()
    cells = {cell: np.append(value, value + chance) for cell, value in cells.items()}
    arm = draws.Draws(cells, {})
    found = distances({"default": {"plain": arm}}, "resnet50", 100)
    assert found["distance"].item() == pytest.approx(0, abs=1e-6)
    # The draws are around the distance: their squares, 0.02 on average, less 0.02.
    around = np.sqrt(np.maximum((0.1 + chance) ** 2 - 0.02, 0))
    ends = statistics.percentile_interval(around[:, None], 100)
    assert found[["low", "high"]].iloc[0].tolist() == pytest.approx([end[0] for end in ends])


@pytest.mark.parametrize(
    ("network", "source", "expected"),
    [
        ("resnet50", "resnet50", ["resnet50"]),
        ("resnet101", "resnet50", ["resnet101"]),
        ("resnet50", "resnet101", ["resnet101"]),
        ("resnet101", "resnet101", ["resnet50"]),
        ("vgg16", "vgg16", ["resnet50"]),
        ("xception", "vgg16", ["xception"]),
        ("resnet101", "vgg16", ["vgg16", "inceptionv3", "xception"]),
    ],
)
def test_the_papers_networks_in_the_same_role(network, source, expected):
    assert roles.counterparts(network, source) == expected
    column = roles.in_paper(printed.TABLE_3, [network], source)[network]
    np.testing.assert_allclose(column, printed.TABLE_3[expected].mean(axis=1))


def of_numbers(ratio: dict, mod: dict, *others: tuple[dict, dict]) -> draws.Draws:
    """As measured, then draws: numbers by network and epsilon."""
    every = [(ratio, mod), *others]
    return draws.Draws(
        *({cell: np.array([one[i][cell] for one in every]) for cell in every[0][i]} for i in (0, 1))
    )


KEPT = {("vgg16", 0.01): 0.99, ("vgg16", 0.1): 0.9}
MOVED = {("vgg16", 0.01): 0.1, ("vgg16", 0.1): 0.13}


def judged(drawn: draws.Draws, source="resnet50", arm="plain", psnr=(40.0, 40.0), unchanged=0):
    networks = ["vgg16", "resnet50"][: len(psnr)]
    curves = pd.DataFrame(
        {"reading": "default", "arm": "plain", "network": networks, "epsilon": 0.1, "psnr": psnr}
    ).assign(unchanged=unchanged)
    found = facts.judge({"default": {arm: drawn}}, curves, source)
    return dict(zip(found["fact"], found["verdict"] + ": " + found["detail"], strict=True))


@pytest.mark.parametrize(
    ("ratio", "mod", "floor", "flat"),
    [
        ({}, {}, "yes: ratio 0.990, MOD 0.100", "yes: MOD 0.100 to 0.130"),
        ({0.01: 0.97}, {}, "no: ratio 0.970, MOD 0.100", "yes"),
        ({}, {0.01: 0.04, 0.1: 0.05}, "no: ratio 0.990, MOD 0.040", "yes"),
        ({}, {0.1: 0.151}, "yes", "no: MOD 0.100 to 0.151"),
        ({}, {0.1: 0.15}, "yes", "yes"),
        # Heatmaps that do not move at all are no floor.
        ({}, {0.01: 0.0, 0.1: 0.0}, "no", "no"),
        ({0.01: np.nan, 0.1: np.nan}, {}, "not judged: VGG16 is right on no clean photo", "yes"),
    ],
)  # fmt: skip
def test_the_facts_about_vgg16_by_hand(ratio, mod, floor, flat):
    ratio, mod = ({("vgg16", e): v for e, v in of.items()} for of in (ratio, mod))
    found = judged(of_numbers(KEPT | ratio, MOVED | mod))
    assert found["floor"].startswith(floor)
    assert found["flat"].startswith(flat)
    assert found["source"].startswith("not judged: the run has no other network of the family of")


@pytest.mark.parametrize(
    ("own", "other", "verdict"),
    [(0.8, 0.7, "yes: ratio 0.800, ResNet101 0.700"), (0.7, 0.8, "no"), (0.7, 0.7, "yes")],
)
def test_the_fact_about_the_source_by_hand(own, other, verdict):
    drawn = of_numbers({("resnet50", 0.1): own, ("resnet101", 0.1): other}, {})
    assert judged(drawn)["source"].startswith(verdict)


def test_a_fact_is_unclear_if_draws_often_say_the_other():
    lost = (KEPT | {("vgg16", 0.01): 0.9}, MOVED)
    kept = (KEPT, MOVED)
    assert judged(of_numbers(*kept, *[kept] * 19, lost))["floor"].startswith("yes")
    assert judged(of_numbers(*kept, *[kept] * 18, lost))["floor"].startswith("unclear")
    assert judged(of_numbers(*lost, *[lost] * 18, kept))["floor"].startswith("unclear")
    assert judged(of_numbers(*lost, *[lost] * 19, kept))["floor"].startswith("no")


def test_one_perturbed_set_for_all_networks():
    drawn = of_numbers(KEPT, MOVED)
    assert judged(drawn)["one_set"] == "yes: PSNR 40.0 to 40.0 dB"
    assert judged(drawn, psnr=(88.1, 46.0))["one_set"] == "no: PSNR 46.0 to 88.1 dB"
    assert judged(drawn, psnr=(np.inf, np.inf))["one_set"].startswith("yes")
    assert judged(drawn, unchanged=[0, 3])["one_set"].startswith("no")
    assert judged(drawn, psnr=(40.0,))["one_set"] == "not judged: the run has one network"


def test_facts_that_cannot_be_judged_say_why():
    drawn = of_numbers(KEPT, MOVED)
    assert "VGG16 is the source here" in judged(drawn, source="vgg16")["floor"]
    only = of_numbers({("vgg16", 0.1): 0.9}, {("vgg16", 0.1): 0.1})
    assert judged(only)["floor"] == "not judged: the run has no VGG16 at ε = 0.01"
    assert judged(drawn, arm="aligned")["floor"] == "not judged: the run has no photos as they are"


def test_people_without_photos_in_an_arm_count_in_none():
    both = simulated(people=5, seed=0)["default"]["plain"]
    keep = both.people != 4
    fewer = Photos(both.right[keep], both.nissim[keep])
    drawn, people = draws.draw({"default": {"plain": both, "aligned": fewer}}, seed=0)
    assert people == 4
    for cell, numbers in drawn["default"]["plain"].mod.items():
        np.testing.assert_array_equal(numbers, drawn["default"]["aligned"].mod[cell])
