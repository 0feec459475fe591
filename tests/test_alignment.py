"""What alignment changes for attacks, beside what it changes for noise and unrelated photos."""

from types import SimpleNamespace

import pandas as pd
import pytest

from gradcam_adv.report import alignment

KEYS = {"network": "vgg16", "target": "predicted", "size": "input"}
PHOTOS = {"photo": ["a1", "b1"], "identity": ["a", "b"]}
# NISSIM of the two photos at epsilon 0.1.
NISSIM = {
    "plain": {"black-box": (0.25, 0.5), "noise": (0.125, 0.25), "white-box": (0.5, 0.5)},
    "aligned": {"black-box": (0.5, 0.75), "noise": (0.25, 0.125), "white-box": (0.5, 0.5)},
}
# Whether the network was right on them.
RIGHT = {
    "plain": {"black-box": (0, 0), "noise": (1, 1)},
    "aligned": {"black-box": (1, 1), "noise": (0, 1)},
}
UNRELATED = {"plain": 0.45, "aligned": 0.4}


def nissim_of(arm: str) -> pd.DataFrame:
    own = [
        pd.DataFrame(PHOTOS).assign(**KEYS, attack=attack, epsilon=0.1, nissim=values)
        for attack, values in NISSIM[arm].items()
    ]
    # Of another class, which is not shown.
    return pd.concat([*own, *(table.assign(target="clean", nissim=0.99) for table in own)])


def plan_of(arm: str) -> SimpleNamespace:
    readings = SimpleNamespace(explained_class="predicted", heatmap_size="input")
    return SimpleNamespace(
        arm=arm,
        study=SimpleNamespace(networks=("vgg16",), source="vgg16", readings=readings, seed=0),
        photos=SimpleNamespace(test=pd.DataFrame(PHOTOS)),
        of_study=lambda network: nissim_of(arm),
    )


def summary_of(arm: str) -> dict[str, pd.DataFrame]:
    predictions = [
        pd.DataFrame(PHOTOS).assign(
            network="vgg16", attack=attack, epsilon=0.1, label=1, predicted=values
        )
        for attack, values in RIGHT[arm].items()
    ]
    mod = pd.DataFrame([KEYS | {"attack": attack} for attack in ("black-box", "white-box")])
    mod = mod.assign(unrelated=UNRELATED[arm])
    other = mod.assign(target="clean", unrelated=0.99)
    return {"predictions": pd.concat(predictions), "mod": pd.concat([other, mod])}


@pytest.fixture
def compared() -> tuple[dict, dict[str, pd.DataFrame]]:
    plans = {arm: plan_of(arm) for arm in ("plain", "aligned")}
    summaries = {arm: summary_of(arm) for arm in plans}
    return plans, alignment.compared(plans, summaries)


def test_the_table_of_mod_has_noise_and_the_unrelated_photos_of_both_arms(compared):
    _, tables = compared
    table = tables["arms_mod"].query("target == 'predicted'").set_index("attack")
    assert table["difference"].to_dict() == {"black-box": 0.25, "noise": 0, "white-box": 0}
    assert (table["unrelated_plain"] == 0.45).all()
    assert (table["unrelated_aligned"] == 0.4).all()
    assert len(tables["arms_mod"]) == 6  # three attacks, two classes, none twice


def test_noise_is_below_each_network_and_unrelated_photos_are_beside_mod(compared):
    shown = alignment.section(*compared)
    assert shown["accuracy"] == [
        # Of two people nothing is known: as shares of two photos, with t = 12.7, what rose is at
        # least 0.0122 and what fell at most 0.9878.
        {"Network": "VGG16", "ε = 0.1": "100.00 [-39.69, 100.00] ↑2 ↓0"},
        {"Network": "– random-sign noise", "ε = 0.1": "-50.00 [-99.85, 61.18] ↑0 ↓1"},
    ]
    unrelated = {"Unrelated": "0.4500 → 0.4000"}
    assert shown["mod"] == [
        {"Network": "VGG16", "ε = 0.1": "0.2500 [0.2500, 0.2500] ↑2 ↓0"} | unrelated,
        {"Network": "– random-sign noise", "ε = 0.1": "0.0000 [-1.0000, 1.0000] ↑1 ↓1"} | unrelated,
    ]
