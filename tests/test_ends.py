"""How a command ends: in a result or in one line; it never hangs, and nothing is lost unseen.

What people give is here by kinds: models that can't be computed, folders and tables nested too
deep, pipes in the place of files, a machine without a home.
"""

import errno
import os
import pwd
import signal
import subprocess
import sys
from pathlib import Path

import click
import keras
import numpy as np
import pytest
from click.testing import CliRunner
from conftest import write_photo

import gradcam_adv
from gradcam_adv import machine
from gradcam_adv.app import cli, images, opening
from gradcam_adv.attacks import FGSM
from gradcam_adv.batching import PaddedBatches
from gradcam_adv.data import sources
from gradcam_adv.explain import GradCAM, GradCAMPlusPlus, LayerCAM, ScoreCAM
from gradcam_adv.files import read
from gradcam_adv.models.classifiers import check_classes
from gradcam_adv.runs import cleaning, locks, records
from gradcam_adv.study import config

# The last catch.


@pytest.fixture
def fails(monkeypatch):
    """Runs `layers x.keras` with an error inside."""

    def run(error, *options):
        def raise_it(path, **opening):
            raise error

        monkeypatch.setattr(opening, "layers_of", raise_it)
        monkeypatch.setattr(sys, "argv", ["gradcam-adv", "layers", "x.keras"])
        return CliRunner().invoke(cli.main, [*options, "layers", "x.keras"])

    return run


UNFORESEEN = [
    KeyError("a\n\x1b[2Jb"),
    TypeError("no\r\x07 type"),
    RecursionError("too deep"),
    AssertionError(),
    ZeroDivisionError("x" * 5000),
    StopIteration("\ud800"),
]


@pytest.mark.parametrize("error", UNFORESEEN, ids=lambda error: type(error).__name__)
def test_an_unforeseen_error_is_one_line_with_the_way_to_a_report(fails, error):
    result = fails(error)
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"Error: Expected no such error. Received: {type(error).__name__}")
    assert line.isprintable()
    assert len(line) < 500
    assert "gradcam-adv --traceback layers x.keras" in line


@pytest.mark.parametrize(
    ("error", "status"), [(KeyError("a"), 1), (ValueError("b"), 2), (OSError("c"), 1)]
)
def test_the_report_comes_before_the_line_and_changes_no_status(fails, error, status):
    result = fails(error, "--traceback")
    assert result.exit_code == status
    first, *_, last = result.stderr.splitlines()
    assert first == "Traceback (most recent call last):"
    assert "raise_it" in result.stderr
    assert last.startswith("Error: ")
    assert "--traceback" not in last


@pytest.mark.parametrize(
    ("error", "status", "stderr"),
    [
        (click.exceptions.Exit(3), 3, ""),
        (click.Abort(), 1, "Aborted!\n"),
        (KeyboardInterrupt(), 1, "\nAborted!\n"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 1, ""),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_click_handles_is_left_to_it(fails, error, status, stderr):
    result = fails(error)
    assert (result.exit_code, result.stderr) == (status, stderr)


def test_with_stderr_closed_nothing_else_gets_its_number():
    code = """
import os, sys
from gradcam_adv.app import cli, errors
assert sys.stderr is None
errors._prepare_streams()
print(open(os.devnull).fileno(), os.fstat(2).st_rdev == os.stat(os.devnull).st_rdev)
cli.main(["status", "nowhere"])
"""
    done = subprocess.run(
        ["bash", "-c", 'exec "$0" -c "$1" 2>&-', sys.executable, code],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    number, is_null = done.stdout.split()  # and no line "Error: ..." among the results
    assert int(number) > 2
    assert is_null == "True"
    assert done.returncode == 2


# Models.

PIXELS = np.random.default_rng(0).random((2, 8, 8, 3), np.float32)


def ending_in(y):
    return keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(y))


def through(middle, dtype="float32"):
    """A model with an operation between two convolutions."""
    images = keras.Input((8, 8, 3), dtype=dtype)
    before = keras.layers.Conv2D(4, 3)(keras.ops.cast(images, "float32"))
    return keras.Model(images, ending_in(keras.layers.Conv2D(4, 3, name="conv")(middle(before))))


NO_GRADIENT = {
    "stopped": keras.ops.stop_gradient,
    "whole numbers": lambda x: keras.ops.cast(keras.ops.cast(x, "int32"), "float32"),
    "order": lambda x: keras.ops.cast(keras.ops.argsort(x), "float32"),
}


@pytest.mark.tensorflow
@pytest.mark.parametrize("use", [FGSM, GradCAM, GradCAMPlusPlus, LayerCAM])
@pytest.mark.parametrize("kind", NO_GRADIENT)
def test_a_model_without_a_gradient_is_refused(kind, use):
    made = use(through(NO_GRADIENT[kind]))
    more = ([0, 1], [0.1]) if use is FGSM else ()
    with pytest.raises(ValueError, match="^Expected .*Received: "):
        made(PIXELS, *more)


def test_fgsm_says_that_there_is_no_gradient():
    with pytest.raises(ValueError, match="a gradient by the pixels. Received: none"):
        FGSM(through(NO_GRADIENT["stopped"]))(PIXELS, [0, 1], [0.1])


@pytest.mark.parametrize("dtype", ["string", "bool"])
def test_a_model_of_anything_but_numbers_is_refused(dtype):
    images = keras.Input((8, 8, 3), dtype=dtype)
    x = images if dtype != "string" else keras.layers.StringLookup(vocabulary=["a"])(images)
    model = keras.Model(images, ending_in(keras.ops.cast(x, "float32")))
    with pytest.raises(ValueError, match=f"whole numbers. Received: an input of dtype {dtype}"):
        gradcam_adv.layer_names(model)


def out_of_range(x):
    return keras.ops.take(x, [10**6], axis=1)


def of_another_batch(x):
    return keras.ops.reshape(x, (7, 6, 6, 4))


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("middle", "why"),
    [(out_of_range, r"1000000 is not in \[0, 6\)"), (of_another_batch, r"[Cc]annot reshape")],
)
@pytest.mark.parametrize("use", [FGSM, GradCAM, ScoreCAM, gradcam_adv.predict_logits])
def test_an_error_while_a_model_runs_names_the_reason(middle, why, use):
    images = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, name="conv")(images)
    model = keras.Model(images, keras.layers.Dense(2)(keras.layers.Flatten()(middle(x))))
    with pytest.raises(ValueError, match=f"^Expected a model that can be computed.*{why}") as told:
        if use is gradcam_adv.predict_logits:
            use(model, PIXELS)
        else:
            use(model)(PIXELS, *(([0, 1], [0.1]) if use is FGSM else ()))
    assert "\n" not in str(told.value)
    assert "\x1b" not in str(told.value)


def test_an_unknown_end_that_can_not_run_is_refused():
    images = keras.Input((8, 8, 3))
    flat = keras.layers.Flatten()(keras.layers.Conv2D(4, 3)(images))
    with pytest.raises(ValueError, match="^Expected a model that can be computed"):
        gradcam_adv.layer_names(keras.Model(images, keras.ops.take(flat, [10**6, 0], axis=1)))


@pytest.mark.parametrize("error", [RuntimeError("a\n\x1b[1mb\x1b[0m"), ValueError("a b")])
def test_errors_of_models_are_one_kind(error):
    def run(*arrays):
        raise error

    with pytest.raises(ValueError, match="^Expected a model .*Received: .*Error: a b$") as told:
        list(PaddedBatches(lambda size: run, 2)(PIXELS))
    assert told.value.__cause__ is error


@pytest.mark.parametrize("error", [KeyError("a"), ValueError("Expected x. Received: y")])
def test_other_errors_stay_what_they_are(error):
    def run(*arrays):
        raise error

    with pytest.raises(type(error)) as told:
        list(PaddedBatches(lambda size: run, 2)(PIXELS))
    assert told.value is error


def test_a_sequential_that_is_not_built_is_refused(tmp_path):
    model = keras.Sequential([keras.layers.Conv2D(4, 3), keras.layers.Flatten()])
    for use in (gradcam_adv.flatten, FGSM, GradCAM, gradcam_adv.layer_names):
        with pytest.raises(ValueError, match="a Sequential one that is built. Received: "):
            use(model)
    with pytest.raises(ValueError, match="with 2 logits, one per class. Received: None"):
        check_classes(model, {"classes": ["a", "b"]}, ["a", "b"])


# Nested too deep.


@pytest.mark.parametrize("key", ["a", "readings", "layers", "networks", "photos", "split"])
@pytest.mark.parametrize("depth", [101, 950, 1000, 3000])
def test_a_study_of_deep_tables_is_refused(tmp_path, key, depth):
    path = tmp_path / "s.toml"
    path.write_text(".".join([key] + ["a"] * depth) + " = 1\n")
    with pytest.raises(ValueError, match="^Expected a study file in TOML.*: nested too deep$"):
        config.read(path)


@pytest.mark.parametrize("depth", [101, 500, 950])
@pytest.mark.parametrize(("opens", "closes"), [("[", "]"), ('{"a":', "}")])
def test_deep_json_is_refused(tmp_path, depth, opens, closes):
    path = tmp_path / "m.json"
    path.write_text(f'{{"needs": {opens * depth}1{closes * depth}}}')
    with pytest.raises(ValueError, match="Expected a JSON object in .*: nested too deep"):
        read.json(path)


def test_what_is_nested_as_deep_as_we_need_is_read():
    content = [1]
    for _ in range(read.DEEPEST - 2):
        content = [content]
    read.check_nesting(content)
    with pytest.raises(ValueError, match="nested too deep"):
        read.check_nesting([[content]])


def nest(folder: Path, depth: int) -> None:
    """Folders in folders; the path of the last would be too long for one call."""
    folder.mkdir(parents=True, exist_ok=True)
    here = os.getcwd()
    os.chdir(folder)
    try:
        for _ in range(depth):
            os.mkdir("d")
            os.chdir("d")
    finally:
        os.chdir(here)


@pytest.fixture
def deep(tmp_path):
    """1,900 folders in each other, and no trace of them: shutil.rmtree would fail at them."""
    nest(tmp_path / "deep" / "ann", 1900)
    yield tmp_path / "deep"
    subprocess.run(["rm", "-rf", str(tmp_path / "deep")], check=True)


def test_folders_nested_too_deep_are_refused(deep, tmp_path, small_cnn):
    with pytest.raises(ValueError, match="^Expected folders nested less than 100 deep. Received"):
        list(sources._photos(sources.Source("x", deep, (deep,)), [str(deep / "ann")]))
    with pytest.raises(ValueError, match="^Expected folders nested less than 100 deep. Received"):
        images.images_of(deep, small_cnn)
    with pytest.raises(ValueError, match="^Expected folders nested less than 100 deep. Received"):
        cleaning.clean(deep, tmp_path / "models", {})


def test_folders_nested_a_little_are_walked(tmp_path, small_cnn):
    nest(tmp_path / "photos", 90)
    write_photo(tmp_path / "photos" / "/".join("d" * 90) / "x.png", 0)
    usable, excluded = images.images_of(tmp_path / "photos", small_cnn)
    assert len(usable) == 1
    assert excluded.empty


# Pipes in the place of files.


@pytest.fixture
def in_time():
    """A test that waits on a pipe fails after some seconds."""

    before = signal.signal(signal.SIGALRM, lambda *_: pytest.fail("it waits forever"))
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def test_a_pipe_is_no_journal(tmp_path, in_time):
    os.mkfifo(tmp_path / records.JOURNAL)
    assert records.journal(tmp_path) is None
    assert cleaning.clean(tmp_path, tmp_path / "models", {}).removed == 0
    with records.Journal(tmp_path, {"task": "x"}, [tmp_path]):
        assert (tmp_path / records.JOURNAL).is_file()  # in the place of the pipe


def test_a_pipe_is_no_lock(tmp_path, in_time):
    os.mkfifo(tmp_path / locks.LOCK)
    assert locks.holder(tmp_path) is None
    with pytest.raises(OSError, match="not a regular file"), locks.alone_in(tmp_path):
        pass
    assert (tmp_path / locks.LOCK).is_fifo()


# Keras' folder and settings.


def test_nobody_has_a_home(monkeypatch):
    def nobody(number):
        raise KeyError(number)

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("KERAS_HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    assert machine.keras_home() == Path("/tmp/.keras")
    assert machine.backend() in machine.TITLES
    assert sources._lfw_root().name == "lfw_funneled"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("[]", "Expected a JSON object in .*keras.json, Keras' settings. Received: list"),
        ("null", "Received: NoneType"),
        ('"x"', "Received: str"),
        ("5", "Received: int"),
        ("[" * 5000, "Received: nested too deep"),
        ('{"backend": ["torch"]}', r"keras.json to name a backend .* Received: \['torch'\]"),
        ('{"floatx": "float8"}', "floatx in .* as one of float16, .* Received: 'float8'"),
        ('{"floatx": []}', r"floatx in .* Received: \[\]"),
        ('{"image_data_format": 1}', "image_data_format in .* Received: 1"),
        ('{"epsilon": 1}', "epsilon in .* as a number such as 1e-07. Received: 1"),
        (None, "Received: no regular file"),
    ],
)
def test_settings_with_which_keras_does_not_start_are_one_line(
    tmp_path, monkeypatch, in_time, content, why
):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    path = tmp_path / "keras.json"
    os.mkfifo(path) if content is None else path.write_text(content)
    with pytest.raises(ValueError, match=why):
        machine.backend()
    result = CliRunner().invoke(cli.main, ["layers", "x.keras"])
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["KERAS_MAX_EPOCHS", "KERAS_MAX_STEPS_PER_EPOCH"])
@pytest.mark.parametrize("value", ["x", "", "1.5"])
def test_a_limit_that_is_no_number_is_one_line(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=f"^Expected {name} as a whole number, or not set"):
        machine.backend()
