"""The recipes of CONTRIBUTING.md work; names and facts that appear in two places agree."""

import re
import shutil
import subprocess
import sys
from configparser import ConfigParser
from importlib import metadata
from pathlib import Path

import pytest
import yaml

from gradcam_adv.paper import printed

TOP = Path(__file__).parents[1]

# By recipe and file of the package, the code to add. An explainer needs no change of the package.
ADDITIONS = {
    "network": {
        "models/backbones.py": """
BACKBONES["mobilenetv2"] = Backbone(
    name="mobilenetv2",
    title="MobileNetV2",
    application="MobileNetV2",
    minimum_size=32,
    last_activation="out_relu",
    preprocessing="tf",
    weights_url="https://weights.invalid/mobilenet_v2_no_top.h5",
    weights_md5="",
    weights_mb=9,
    multiply_adds=0.3,
)
"""
    },
    "attack": {
        "attacks/darken.py": """
import numpy as np


class Darken:
    def __init__(self, model, *, batch_size=None):
        pass

    def __call__(self, images, labels, epsilons, *, verbose=0):
        return {epsilon: np.full_like(images, -(epsilon**2)) for epsilon in epsilons}
""",
        "attacks/names.py": """
_KNOWN["darken"] = _Known("darken", "Darken", "darkening", {})
NAMES = tuple(_KNOWN)
TITLES = {name: known.title for name, known in _KNOWN.items()}
""",
    },
    "explainer": {},
    "data set": {
        "data/sources.py": """
def _yearbook(folder):
    return Source(
        "Yearbook",
        folder,
        (folder,),
        is_photo=lambda path: path.suffix == ".png",
        identity="class of .*",
        name=lambda identity: identity.removeprefix("class of ").replace("_", " ").title(),
    )


SOURCES["yearbook:DIR"] = _yearbook
"""
    },
    "claim": {
        "paper/on_run.py": """
def most_fail(run, arm):
    right = run.right_answers(arm)
    people = right.index.get_level_values("identity")
    wrong = {n: 1 - right[n].iloc[:, -1] for n in run.networks}
    return Findings(
        {n: effects.clustered_mean(w - 0.5, people, margin=0.02) for n, w in wrong.items()}
    )
""",
        "paper/claims.py": """
CLAIMS = (
    *CLAIMS,
    Claim(
        name="most_fail",
        title="Most photos fail",
        says="Every network fails on most photos.",
        place="nowhere",
        rule="Every network is wrong on more than half.",
        find=on_run.most_fail,
        unit="points",
        on_paper="list of photos",
    ),
)
""",
    },
    "metric": {
        "metrics/peaks.py": """
import numpy as np


def peak_distance(clean, perturbed):
    width = clean.shape[-1]
    at = [m.reshape(*m.shape[:-2], -1).argmax(axis=-1) for m in (clean, perturbed)]
    rows, columns = (a - b for a, b in zip(*(divmod(place, width) for place in at), strict=True))
    return np.hypot(rows, columns) / width
""",
        "metrics/__init__.py": """
from gradcam_adv.metrics.peaks import peak_distance
""",
    },
}


@pytest.fixture(scope="module")
def changed(tmp_path_factory):
    """A folder with a copy of the package, and in it one of each, as the recipes say."""
    folder = tmp_path_factory.mktemp("changed")
    package = shutil.copytree(TOP / "gradcam_adv", folder / "gradcam_adv")
    text = (TOP / "CONTRIBUTING.md").read_text()
    recipes = dict(re.findall(r"\*\*An? ([a-z ]+)\.\*\* (.*?)\n\n", text, re.DOTALL))
    assert set(recipes) == set(ADDITIONS)
    for recipe, files in ADDITIONS.items():
        assert len(files) <= 2
        for name, code in files.items():
            path = package / name
            # A new file is in a folder that the recipe names; of other files it has the name.
            named = name if path.exists() else f"{path.parent.name}/`"
            assert named in recipes[recipe]
            with path.open("a") as file:
                file.write(code)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("chosen", ["not slow", "slow"])
def test_the_recipes_work(changed, chosen):
    tests = Path(__file__).with_name("recipes.py")
    options = ["-p", "no:cacheprovider", "-c", str(TOP / "setup.cfg"), "-m", chosen]
    result = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(tests)],
        cwd=changed,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


# Facts in two places.


def version() -> str:
    setup = ConfigParser()
    setup.read(TOP / "setup.cfg")
    return setup["metadata"]["version"]


def test_the_version_is_written_in_one_place():
    assert re.fullmatch(r"\d+\.\d+\.\d+", version())
    assert metadata.version("gradcam-adv") == version()
    for path in [*TOP.glob("gradcam_adv/**/*.py"), TOP / "CITATION.cff", TOP / "pyproject.toml"]:
        assert not re.search(rf"(?m)^_*version_* *[:=].*{re.escape(version())}", path.read_text())


def test_citation_cff_cites_the_paper_as_the_report_does():
    citation = yaml.safe_load((TOP / "CITATION.cff").read_text())
    (paper,) = citation["references"]
    names = ", ".join(
        f"{person['given-names']} {person['family-names']}" for person in paper["authors"]
    )
    assert f"{names}: {paper['title']}" == printed.CITATION
    for said in (paper["doi"], paper["identifiers"][0]["value"], str(paper["year"])):
        assert said in printed.PLACE
    assert f"pages {paper['start']}-{paper['end']}" in printed.PLACE


def test_contributing_names_every_room_of_the_package_and_files_that_exist():
    text = (TOP / "CONTRIBUTING.md").read_text()
    package = TOP / "gradcam_adv"
    cells = re.findall(r"(?m)^\| (`.*?) \|", text)
    named = {name for cell in cells for name in re.findall(r"`(\w+/?)`", cell)}
    folders = {f"{path.parent.name}/" for path in package.glob("*/__init__.py")}
    modules = {path.stem for path in package.glob("*.py")} - {"__init__"}
    assert named == folders | modules
    for name in re.findall(r"`([\w/]+/\w+\.py)`", text):
        assert (TOP / name).is_file() or (package / name).is_file(), name
