"""The command line: every help has examples that work, and --json prints JSON."""

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

# In the order in which a user needs them; each example uses what the ones before it made.
COMMANDS = (
    "doctor", "data", "train", "attack", "evaluate", "explain", "score", "report", "reproduce",
    "status", "export", "readings", "compare", "layers", "check", "clean",
)  # fmt: skip


def examples(name: str | None) -> list[list[str]]:
    """The arguments of each example in the help of a command, or of the program without a name."""
    of = main if name is None else main.commands[name]
    paragraphs = (" ".join(part.split()) for part in re.split(r"\n\s*\n", of.help))
    told = [part.removeprefix("Example: ") for part in paragraphs if part.startswith("Example: ")]
    typed = [shlex.split(line) for line in told]
    assert all(words[0] == "gradcam-adv" for words in typed)
    return [words[1:] for words in typed]


def test_the_list_of_commands_is_complete():
    assert set(COMMANDS) == set(main.commands)


@pytest.mark.parametrize("name", [None, *COMMANDS])
def test_every_help_has_examples_with_valid_options(name):
    found = examples(name)
    assert found
    for of, *arguments in found:
        assert name in (None, of)
        main.commands[of].make_context(of, arguments)  # raises click.UsageError otherwise


def test_every_option_has_a_help_text():
    for name, of in main.commands.items():
        for parameter in of.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, f"{name} {parameter.name}"


STUDY = """
name = "{name}"
photos = "people"
image_size = 48
networks = ["resnet50"]
source = "resnet50"
weights = "random"
epochs = 2
epsilons = [0.1]
arms = ["plain"]
examples = 1
layers = "last"
"""


@pytest.fixture
def folder(tmp_path, small_cnn) -> Path:
    """A folder with everything that the examples name."""
    for person, name in enumerate(("ann", "bob", "cem")):
        for number in range(6):
            write_photo(tmp_path / "people" / name / f"{number}.png", 100 * person + number)
    (tmp_path / "studies").mkdir()
    for name in ("quick", "paper"):
        (tmp_path / "studies" / f"{name}.toml").write_text(STUDY.format(name=name))
    shutil.copytree(tmp_path / "people" / "ann", tmp_path / "photos")
    small_cnn.save(tmp_path / "my.keras")
    (tmp_path / "weights").mkdir()
    base = keras.applications.VGG16(weights=None, include_top=False)
    base.save_weights(tmp_path / "weights" / "vgg16.weights.h5")
    layers = [keras.Input((24, 24, 3)), keras.layers.Conv2D(4, 3), keras.layers.Flatten()]
    keras.Sequential([*layers, keras.layers.Dense(8)]).save(tmp_path / "embedder.keras")
    one, two, three = sorted((tmp_path / "photos").rglob("*.png"))[:3]
    pairs = f"image,other,same\n{one},{two},1\n{one},{three},0\n"
    (tmp_path / "pairs.csv").write_text(pairs)
    return tmp_path


@pytest.mark.slow
def test_every_example_works(folder):
    """Except that of readings, which takes minutes; test_variations_run.py runs it."""
    for name in COMMANDS:
        if name == "readings":
            continue
        if name == "compare":
            shutil.copytree(folder / "runs" / "quick", folder / "runs" / "other")
        for arguments in examples(name):
            if "--output" in arguments:
                output = folder / arguments[arguments.index("--output") + 1]
                shutil.rmtree(output, ignore_errors=True)
            done = command(folder, *arguments)
            assert done.returncode == 0, (arguments, done.stderr)
            assert "--output" not in arguments or any(output.iterdir())
    assert not (folder / "runs" / "quick").exists()  # the last command is clean


def test_layers_are_printed_as_json(tmp_path, small_cnn):
    small_cnn.save(tmp_path / "my.keras")
    result = CliRunner().invoke(main, ["layers", str(tmp_path / "my.keras"), "--json"])
    rows = {row["layer"]: row for row in json.loads(result.stdout)}
    assert rows["conv_b"]["shape"] == "12 x 12 x 12"


def test_json_without_a_model_is_refused(tmp_path):
    result = CliRunner().invoke(main, ["score", "--json"])
    assert (result.exit_code, result.stderr) == (
        2,
        "Error: Expected --model with --json. Received: no --model\n",
    )


def test_a_model_together_with_options_of_a_study_is_refused(tmp_path):
    arguments = ["--model", "m.keras", "--images", "photos", "--output", "out", "--weights", "w"]
    result = CliRunner().invoke(main, ["explain", "study.toml", *arguments])
    assert (result.exit_code, result.stderr) == (
        2,
        "Error: Expected --model or a study. Received: --model and --weights, STUDY\n",
    )
