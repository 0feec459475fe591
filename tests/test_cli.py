"""The command's help: its examples work, and what is printed for programs is JSON."""

import json
import re
import shlex
import shutil
from pathlib import Path

import click
import keras
import pytest
from click.testing import CliRunner
from conftest import command, write_photo

from gradcam_adv.app.cli import main

# In the order in which somebody would come to them.
COMMANDS = (
    "doctor", "data", "train", "attack", "evaluate", "explain", "score", "report", "reproduce",
    "status", "export", "readings", "compare", "layers", "clean",
)  # fmt: skip


def examples(name: str | None) -> list[list[str]]:
    """The arguments of each example in a command's help; of the program's own without a name."""
    of = main if name is None else main.commands[name]
    paragraphs = (" ".join(part.split()) for part in re.split(r"\n\s*\n", of.help))
    told = [part.removeprefix("Example: ") for part in paragraphs if part.startswith("Example: ")]
    typed = [shlex.split(line) for line in told]
    assert all(words[0] == "gradcam-adv" for words in typed)
    return [words[1:] for words in typed]


def test_every_command_is_here():
    assert set(COMMANDS) == set(main.commands)


@pytest.mark.parametrize("name", [None, *COMMANDS])
def test_every_help_has_an_example_that_is_understood(name):
    found = examples(name)
    assert found
    for of, *arguments in found:
        assert name in (None, of)
        main.commands[of].make_context(of, arguments)  # raises click.UsageError otherwise


def test_every_option_says_what_it_is():
    for name, of in main.commands.items():
        for parameter in of.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, f"{name} {parameter.name}"


STUDY = """
name = "{name}"
photos = "people"
image_size = 48
networks = {networks}
source = "vgg16"
weights = "random"
epochs = 2
epsilons = [0.1]
arms = ["plain"]
examples = 1
"""
LAYERS = {"vgg16": "block5_conv3", "resnet50": "conv5_block3_out"}


@pytest.fixture
def folder(tmp_path, small_cnn) -> Path:
    """Where the examples find what they name."""
    for person, name in enumerate(("ann", "bob", "cem")):
        for number in range(6):
            write_photo(tmp_path / "people" / name / f"{number}.png", 100 * person + number)
    (tmp_path / "studies").mkdir()
    for name, networks in (
        ("quick", ["vgg16", "resnet50"]),
        ("two", ["vgg16"]),  # of which all readings are made
        ("paper", ["vgg16"]),
    ):
        text = STUDY.format(name=name, networks=networks)
        text += "".join(f'layers.{network} = ["{LAYERS[network]}"]\n' for network in networks)
        (tmp_path / "studies" / f"{name}.toml").write_text(text)
    shutil.copytree(tmp_path / "people" / "ann", tmp_path / "photos")
    small_cnn.save(tmp_path / "my.keras")
    (tmp_path / "weights").mkdir()
    base = keras.applications.VGG16(weights=None, include_top=False)
    base.save_weights(tmp_path / "weights" / "vgg16.weights.h5")
    return tmp_path


@pytest.mark.slow
def test_every_example_does_what_it_says(folder):
    for name in COMMANDS:
        if name == "compare":
            shutil.copytree(folder / "runs" / "quick", folder / "runs" / "other")
        for arguments in examples(name):
            if "--output" in arguments:
                output = folder / arguments[arguments.index("--output") + 1]
                shutil.rmtree(output, ignore_errors=True)
            done = command(folder, *arguments)
            assert done.returncode == 0, (arguments, done.stderr)
            assert "--output" not in arguments or any(output.iterdir())
        if name == "export":  # which does not make the report, so is no way to go on with the run
            manifest = json.loads((folder / "runs" / "quick" / "manifest.json").read_text())
            assert manifest["given"]["command"] == "gradcam-adv reproduce studies/quick.toml"
    assert not (folder / "runs" / "quick").exists()  # the last one is clean
    assert (folder / "runs" / "two" / "report.html").exists()


def test_layers_as_json(tmp_path, small_cnn):
    small_cnn.save(tmp_path / "my.keras")
    result = CliRunner().invoke(main, ["layers", str(tmp_path / "my.keras"), "--json"])
    rows = {row["layer"]: row for row in json.loads(result.stdout)}
    assert rows["conv_b"]["shape"] == "12 x 12 x 12"


def test_json_of_a_study_is_refused(tmp_path):
    result = CliRunner().invoke(main, ["score", "--json"])
    assert (result.exit_code, result.stderr) == (
        2,
        "Error: Expected --model with --json. Received: no --model\n",
    )


def test_a_model_and_what_is_of_a_study_are_refused(tmp_path):
    arguments = ["--model", "m.keras", "--images", "photos", "--output", "out", "--weights", "w"]
    result = CliRunner().invoke(main, ["explain", "study.toml", *arguments])
    assert (result.exit_code, result.stderr) == (
        2,
        "Error: Expected --model or a study. Received: --model and --weights, STUDY\n",
    )
