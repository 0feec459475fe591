"""Tests of what test_contributing.py adds to a copy of the package; it runs them on the copy."""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import write_photo
from gradcam_adv.attacks.darken import Darken

from gradcam_adv import FGSM, GradCAM, dissimilarity, metrics, perturb
from gradcam_adv.app.pipeline import Pipeline
from gradcam_adv.data import sources
from gradcam_adv.explain import resize
from gradcam_adv.models import backbones, bases, classifiers, weights
from gradcam_adv.paper import evidence, judge
from gradcam_adv.study import config
from gradcam_adv.study.columns import read_table

EPSILONS = [0.05, 0.1]


@pytest.fixture
def people(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for person, name in enumerate(("ann_lee", "bob_ray", "cem_oz")):
        for number in range(6):
            write_photo(Path("people", f"class of {name}", f"{number}.png"), 100 * person + number)
    write_photo(Path("people", "teachers", "0.png"), 1)


def brightness(images, targets):
    """An explainer of one "layer"."""
    return {"pixels": images.mean(axis=-1)}


def test_a_network_is_one_entry():
    base = bases.build("mobilenetv2", 64, weights.Weights("random"))
    extractor = classifiers.features(base)
    head = classifiers.dense_head(extractor.output_shape[-1], 3, seed=0)
    model = classifiers.assemble(extractor, head)
    images = np.random.default_rng(0).random((2, 64, 64, 3), np.float32)
    attacked = perturb(images, FGSM(model)(images, [0, 1], EPSILONS)[0.1])
    explain = GradCAM(model, backbones.find("mobilenetv2").last_activation)
    assert explain(attacked)["out_relu"].shape == (2, 2, 2)
    study = config.parse({"name": "a", "networks": ["mobilenetv2"], "source": "mobilenetv2"})
    assert backbones.title(*study.networks) == "MobileNetV2"


def test_an_attack_is_one_object(small_cnn, images):
    result = dissimilarity(
        small_cnn, images, epsilons=EPSILONS, attack=Darken(small_cnn), verbose=0
    )
    explain = GradCAM(small_cnn)
    for epsilon, rows in result.nissim.groupby("epsilon"):
        attacked = np.clip(images - np.float32(epsilon**2), 0, 1)
        maps = [resize(explain(pixels)["relu_b"], 24) for pixels in (images, attacked)]
        np.testing.assert_allclose(rows["nissim"], metrics.nissim(*maps), atol=1e-4)
        psnr = result.images.loc[result.images["epsilon"] == epsilon, "psnr"]
        np.testing.assert_allclose(psnr, metrics.psnr(images, attacked))


def test_an_explainer_is_one_function(small_cnn, images):
    result = dissimilarity(small_cnn, images, epsilons=EPSILONS, explainer=brightness, verbose=0)
    predicted = small_cnn.predict(images, verbose=0).argmax(axis=1)
    added = FGSM(small_cnn)(images, predicted, EPSILONS)
    for epsilon, rows in result.nissim.groupby("epsilon"):
        attacked = perturb(images, added[epsilon]).mean(axis=-1)
        np.testing.assert_allclose(
            rows["nissim"], metrics.nissim(images.mean(axis=-1), attacked), atol=1e-6
        )
    assert result.vid["layer"].tolist() == ["pixels"]


def test_a_data_set_is_one_entry(people):
    listing = sources.list_photos("yearbook:people", classes=None, min_photos=3, seed=0)
    assert listing.title == "Yearbook"
    assert listing.identities["name"].tolist() == ["Ann Lee", "Bob Ray", "Cem Oz"]
    assert len(listing.files) == 18
    with pytest.raises(ValueError, match="'vggface2:DIR', 'yearbook:DIR' or a folder .*no folder"):
        sources.list_photos("yearbook:nowhere", classes=None, min_photos=3, seed=0)


def made_up(wrong):
    """Evidence on one network: 20 people with 3 photos; at epsilon 0.1 a share is wrong."""
    rows = itertools.product(range(20), range(3), ("black-box", "noise"), (0.0, 0.1))
    table = pd.DataFrame(rows, columns=["identity", "photo", "attack", "epsilon"])
    table["photo"] += 3 * table["identity"]
    table = table.assign(network="resnet50", label=0, predicted_clean=0, target="predicted")
    fails = (table["epsilon"] > 0) & (table["identity"] >= 20 * (1 - wrong))
    table = table.assign(size="input", nissim=0.1, predicted=fails.astype(int))
    return evidence.Evidence(table, table)


@pytest.mark.parametrize(("wrong", "verdict"), [(0.9, "holds"), (0.1, "does not hold")])
def test_a_claim_is_its_words_its_rule_and_a_finding(wrong, verdict):
    study = config.parse({"name": "a", "networks": ["resnet50"], "arms": ["plain"]})
    table = judge.judge({"plain": made_up(wrong)}, study, {"resnet50": "imagenet"})
    found = table.set_index("claim").loc["most_fail"]
    assert (found["says"], found["verdict"]) == ("Every network fails on most photos.", verdict)
    assert found["rule"].startswith("Every network is wrong on more than half.")
    on_tables = judge.judge_paper().set_index("claim").loc["most_fail"]
    assert (on_tables["verdict"], on_tables["detail"]) == (
        "not judged",
        "the paper prints no list of photos",
    )


def test_a_metric_is_one_function_of_heatmaps(small_cnn, images):
    maps = GradCAM(small_cnn, "all")(images)["conv_a"]
    assert metrics.peak_distance(maps, maps).tolist() == [0] * len(images)
    moved = np.roll(maps[:1], 3, axis=-1)
    assert metrics.peak_distance(maps[:1], moved).item() in (3 / 24, 21 / 24)


STUDY = """
name = "six"
photos = "yearbook:people"
image_size = 64
networks = ["resnet50", "mobilenetv2"]
weights = "random"
epochs = 3
epsilons = [0.1]
arms = ["plain"]
examples = 1
attack = ["fgsm", "darken"]
layers = {resnet50 = ["conv5_block3_out"], mobilenetv2 = ["out_relu"]}
"""


@pytest.mark.slow
def test_a_network_an_attack_a_data_set_and_a_claim_reach_the_report(people, tmp_path):
    (tmp_path / "study.toml").write_text(STUDY)
    study = config.read(tmp_path / "study.toml")
    Pipeline(study, tmp_path / "run", tmp_path / "models").run()
    report = (tmp_path / "run" / "report.md").read_text()
    lines = report.splitlines()
    assert [line for line in lines if line.startswith("| MobileNetV2")]
    assert [line for line in lines if line.startswith("| Every network fails on most photos.")]
    assert "Yearbook" in report
    attacks = read_table(tmp_path / "run" / "tables" / "plain" / "attacks.csv")
    darkened = attacks[attacks["attack"] == "darken"]
    assert set(darkened["network"]) == {"resnet50", "mobilenetv2"}
    assert (darkened["mod"] > 0).all()
    assert [line for line in lines if "darkening" in line]
    mod = read_table(tmp_path / "run" / "tables" / "plain" / "mod.csv")
    rows = mod[(mod["network"] == "mobilenetv2") & (mod["epsilon"] > 0)]
    assert (rows["mod"] > 0).all() and len(rows)
    assert (tmp_path / "models" / "plain" / "mobilenetv2.keras").exists()
