"""What alignment changes stands beside what it changes for noise, and each arm's ceiling."""

from types import SimpleNamespace

import pandas as pd
import pytest

from gradcam_adv.report import report
from gradcam_adv.study.stages import score as scoring

KEYS = {"network": "vgg16", "target": "predicted", "size": "input"}
PHOTOS = {"photo": ["a1", "b1"], "identity": ["a", "b"]}
# NISSIM of both photos at epsilon 0.1.
NISSIM = {
    "plain": {"black-box": (0.25, 0.5), "noise": (0.125, 0.25), "white-box": (0.5, 0.5)},
    "aligned": {"black-box": (0.5, 0.75), "noise": (0.25, 0.125), "white-box": (0.5, 0.5)},
}
# And whether the networks were right on them.
RIGHT = {
    "plain": {"black-box": (0, 0), "noise": (1, 1)},
    "aligned": {"black-box": (1, 1), "noise": (0, 1)},
}
CEILINGS = {"plain": 0.45, "aligned": 0.4}


def setting_of(arm: str) -> SimpleNamespace:
    readings = SimpleNamespace(explained_class="predicted", heatmap_size="input")
    study = SimpleNamespace(networks=("vgg16",), source="vgg16", readings=readings, seed=0)
    return SimpleNamespace(arm=arm, study=study, test=pd.DataFrame(PHOTOS))


def nissim_of(setting: SimpleNamespace, network: str) -> pd.DataFrame:
    own = [
        pd.DataFrame(PHOTOS).assign(**KEYS, attack=attack, epsilon=0.1, nissim=values)
        for attack, values in NISSIM[setting.arm].items()
    ]
    # Of another class, which is not shown.
    return pd.concat([*own, *(table.assign(target="clean", nissim=0.99) for table in own)])


def summary_of(arm: str) -> dict[str, pd.DataFrame]:
    predictions = [
        pd.DataFrame(PHOTOS).assign(
            network="vgg16", attack=attack, epsilon=0.1, label=1, predicted=values
        )
        for attack, values in RIGHT[arm].items()
    ]
    mod = pd.DataFrame([KEYS | {"attack": attack} for attack in ("black-box", "white-box")])
    mod = mod.assign(ceiling=CEILINGS[arm])
    other = mod.assign(target="clean", ceiling=0.99)
    return {"predictions": pd.concat(predictions), "mod": pd.concat([other, mod])}


@pytest.fixture
def compared(monkeypatch) -> tuple[dict, dict[str, pd.DataFrame]]:
    monkeypatch.setattr(scoring, "scores", nissim_of)
    monkeypatch.setattr(report, "caveat", lambda setting: f"what {setting.arm} rests on")
    settings = {arm: setting_of(arm) for arm in ("plain", "aligned")}
    summaries = {arm: summary_of(arm) for arm in settings}
    return settings, report._compared(settings, summaries)


def test_the_table_of_mod_keeps_noise_and_has_the_ceilings_of_both_arms(compared):
    _, tables = compared
    table = tables["arms_mod"].query("target == 'predicted'").set_index("attack")
    assert table["difference"].to_dict() == {"black-box": 0.25, "noise": 0, "white-box": 0}
    assert (table["ceiling_plain"] == 0.45).all()
    assert (table["ceiling_aligned"] == 0.4).all()
    assert len(tables["arms_mod"]) == 6  # three attacks, two classes, none twice


def rows(markdown: str) -> list[list[str]]:
    """The cells of a table in Markdown, without the line below its head."""
    head, _, *lines = markdown.splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in (head, *lines)]


def test_noise_stands_below_each_network_and_the_ceilings_beside_mod(compared):
    accuracy, mod = (rows(part) for part in report._arms(*compared) if part.startswith("|"))
    assert accuracy == [
        ["Network", "ε = 0.1"],
        ["VGG16", "100.00 [100.00, 100.00] ↑2 ↓0"],
        ["– random-sign noise", "-50.00 [-100.00, 0.00] ↑0 ↓1"],
    ]
    assert mod == [
        ["Network", "ε = 0.1", "Ceiling"],
        ["VGG16", "0.2500 [0.2500, 0.2500] ↑2 ↓0", "0.4500 → 0.4000"],
        ["– random-sign noise", "0.0000 [-0.1250, 0.1250] ↑1 ↓1", "0.4500 → 0.4000"],
    ]
