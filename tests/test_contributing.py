"""What CONTRIBUTING.md promises: a network is one entry; what must agree with each other does."""

import re
from configparser import ConfigParser
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from conftest import write_photo

from gradcam_adv.app import pipeline
from gradcam_adv.files import artifacts
from gradcam_adv.models import backbones
from gradcam_adv.paper import tables as paper
from gradcam_adv.study import config as study

TOP = Path(__file__).parents[1]
STUDY = """
name = "six"
photos = "people"
image_size = 64
networks = ["resnet50", "mobilenetv2"]
weights = "random"
epochs = 3
epsilons = [0.1]
arms = ["plain"]
examples = 1
layers = {resnet50 = ["conv5_block3_out"], mobilenetv2 = ["out_relu"]}
"""
MOBILENET = backbones.Backbone(
    name="mobilenetv2",
    title="MobileNetV2",
    application="MobileNetV2",
    minimum_size=32,
    last_activation="out_relu",
    preprocessing="tf",
    weights_url="https://weights.invalid/mobilenet_v2_no_top.h5",
    weights_md5="",
    weights_mb=9,
)


@pytest.mark.slow
def test_one_entry_is_a_network_from_the_study_to_the_report(tmp_path, monkeypatch):
    monkeypatch.setitem(backbones.BACKBONES, "mobilenetv2", MOBILENET)
    monkeypatch.chdir(tmp_path)
    for person, name in enumerate(("ann", "bob", "cem")):
        for number in range(6):
            write_photo(tmp_path / "people" / name / f"{number}.png", 100 * person + number)
    (tmp_path / "study.toml").write_text(STUDY)
    read = study.read(tmp_path / "study.toml")
    pipeline.Pipeline(read, tmp_path / "run", tmp_path / "models").run()
    report = (tmp_path / "run" / "report.md").read_text()
    rows = [line for line in report.splitlines() if line.startswith("| MobileNetV2")]
    assert rows
    mod = artifacts.read_table(tmp_path / "run" / "tables" / "plain" / "mod.csv")
    own = mod[(mod["network"] == "mobilenetv2") & (mod["epsilon"] > 0)]
    assert (own["mod"] > 0).all() and len(own)
    assert (tmp_path / "models" / "plain" / "mobilenetv2.keras").exists()


def version() -> str:
    setup = ConfigParser()
    setup.read(TOP / "setup.cfg")
    return setup["metadata"]["version"]


def test_the_version_stands_in_one_place():
    assert re.fullmatch(r"\d+\.\d+\.\d+", version())
    assert metadata.version("gradcam-adv") == version()
    for path in [*TOP.glob("gradcam_adv/**/*.py"), TOP / "CITATION.cff", TOP / "pyproject.toml"]:
        assert not re.search(rf"(?m)^_*version_* *[:=].*{re.escape(version())}", path.read_text())


def test_the_paper_is_cited_as_the_report_cites_it():
    citation = yaml.safe_load((TOP / "CITATION.cff").read_text())
    (of,) = citation["references"]
    names = ", ".join(
        f"{person['given-names']} {person['family-names']}" for person in of["authors"]
    )
    assert f"{names}: {of['title']}" == paper.CITATION
    for said in (of["doi"], of["identifiers"][0]["value"], str(of["year"])):
        assert said in paper.PLACE
    assert f"pages {of['start']}-{of['end']}" in paper.PLACE


def test_rooms_in_contributing_are_the_package_s():
    text = (TOP / "CONTRIBUTING.md").read_text()
    rooms = {path.parent.name for path in (TOP / "gradcam_adv").glob("*/__init__.py")}
    assert set(re.findall(r"\| `gradcam_adv/(\w+)/` \|", text)) == rooms
    for name in re.findall(r"`(gradcam_adv/[\w/]+\.py)`", text):
        assert (TOP / name).is_file(), name
