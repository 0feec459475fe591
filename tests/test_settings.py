"""What Keras and its backends read from outside changes no result unseen."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import pandas as pd
import pytest
from click.testing import CliRunner
from conftest import command, write_photo

from gradcam_adv import backends, dissimilarity, machine, models
from gradcam_adv.app import Pipeline, cli
from gradcam_adv.study.settings import Study


def settings():
    return {
        "floatx": keras.config.floatx(),
        "policy": keras.config.dtype_policy().name,
        "epsilon": keras.config.epsilon(),
        "format": keras.config.image_data_format(),
        "epochs": keras.config.max_epochs(),
        "steps": keras.config.max_steps_per_epoch(),
    }


USUAL = {
    "floatx": "float32",
    "policy": "float32",
    "epsilon": 1e-7,
    "format": "channels_last",
    "epochs": None,
    "steps": None,
}


@pytest.fixture
def unusual():
    """Settings as keras.json and variables would make them."""
    keras.config.set_floatx("float16")
    keras.config.set_dtype_policy("mixed_float16")
    keras.config.set_epsilon(0.1)
    keras.config.set_image_data_format("channels_first")
    keras.config.set_max_epochs(1)
    keras.config.set_max_steps_per_epoch(1)
    assert all(value != USUAL[name] for name, value in settings().items())
    yield
    backends.set_keras()


def test_a_run_sets_what_keras_reads_from_outside(unusual, monkeypatch):
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", "1")  # MTCNN would not start, or on another Keras
    backends.configure(machine.cores())
    assert settings() == USUAL
    assert "TF_USE_LEGACY_KERAS" not in os.environ


def test_commands_on_a_saved_model_set_it_too(unusual, tmp_path, small_cnn):
    small_cnn.save(tmp_path / "my.keras")
    result = CliRunner().invoke(cli.main, ["layers", str(tmp_path / "my.keras")])
    assert result.exit_code == 0
    assert settings() == USUAL


def test_the_library_changes_no_setting_of_a_program(unusual, tmp_path, small_cnn, images):
    before = settings()
    base = keras.Model(small_cnn.inputs, small_cnn.get_layer("relu_b").output)
    labels = [0, 1] * 3
    with pytest.raises(ValueError, match="^Expected no limit on epochs in Keras .* Received: 1"):
        models.train(
            base, images[:6], labels, train=[0, 1, 2, 3], validation=[4, 5], epochs=2, seed=0
        )
    assert settings() == before


def test_every_setting_of_keras_is_known():
    """A new one in Keras, which could change numbers, is noticed here."""
    names = {name.removeprefix("set_") for name in dir(keras.config) if name.startswith("set_")}
    assert names == {
        *("floatx", "epsilon", "image_data_format", "max_epochs", "max_steps_per_epoch"),
        *("dtype_policy", "backend"),
    }  # fmt: skip
    file = sys.modules["keras.src.backend.config"].__file__
    text = Path(file).read_text()
    found = {part.split('"')[0] for part in text.split('os.environ["')[1:]}
    assert found == {
        *("KERAS_BACKEND", "KERAS_MAX_EPOCHS", "KERAS_MAX_STEPS_PER_EPOCH"),
        *("KERAS_NNX_ENABLED", "TF_FORCE_GPU_ALLOW_GROWTH"),
    }  # fmt: skip


@pytest.fixture
def environment(monkeypatch):
    """Sets variables as a user does before the start."""
    machine.numeric_environment.cache_clear()
    for name in machine.numeric_environment():
        monkeypatch.delenv(name)
    machine.numeric_environment.cache_clear()
    yield monkeypatch.setenv
    machine.numeric_environment.cache_clear()


def common_of(folder: Path) -> dict:
    study = Study("a", photos=str(folder / "people"), weights="random", networks=("vgg16",),
                  source="vgg16", arms=("plain",))  # fmt: skip
    pipeline = Pipeline(study, folder / "runs", folder / "models")
    pipeline._write_manifest()
    manifest = json.loads((folder / "runs" / "manifest.json").read_text())
    task = pipeline.plan.tasks[0]
    return {
        "fingerprint": task.fingerprint,
        "of all": manifest.get("environment"),
        "of a task": pipeline.runner.about(task).get("environment"),
    }


def test_variables_that_change_numbers_are_recorded(tmp_path, photo_folder, environment):
    usual = common_of(tmp_path)
    assert usual["of all"] is usual["of a task"] is None
    machine.numeric_environment.cache_clear()
    environment("ONEDNN_MAX_CPU_ISA", "AVX2")
    environment("TF_CPP_MIN_LOG_LEVEL", "1")  # changes no number
    changed = common_of(tmp_path)
    assert changed["of all"] == changed["of a task"] == {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    assert changed["fingerprint"] == usual["fingerprint"]


STUDY = """
photos = "people"
networks = ["vgg16"]
source = "vgg16"
weights = "random"
image_size = 48
epochs = 8
arms = ["plain"]
epsilons = [0.05]
threat_models = ["white-box"]
examples = 1
layers = "last"
"""


@pytest.mark.slow
def test_a_study_gives_the_same_bytes_under_any_settings(tmp_path):
    for person, name in enumerate(("ann", "bob", "cem")):
        for number in range(10):
            write_photo(tmp_path / "people" / name / f"{number}.png", 100 * person + number)
    (tmp_path / "s.toml").write_text(STUDY)
    content = {"floatx": "float16", "image_data_format": "channels_first", "epsilon": 0.1}
    (tmp_path / "keras").mkdir()
    (tmp_path / "keras" / "keras.json").write_text(json.dumps(content))
    made = {}
    for name, variables in {
        "usual": {},
        "unusual": {
            "KERAS_HOME": str(tmp_path / "keras"),
            "KERAS_MAX_EPOCHS": "1",
            "KERAS_MAX_STEPS_PER_EPOCH": "1",
        },
    }.items():
        places = ["--runs", f"runs-{name}", "--models", f"models-{name}"]
        with pytest.MonkeyPatch.context() as patch:
            for variable, value in variables.items():
                patch.setenv(variable, value)
            done = command(tmp_path, "evaluate", "s.toml", *places)
        assert done.returncode == 0, done.stderr
        made[name] = {
            path.relative_to(tmp_path / f"runs-{name}"): path.read_bytes()
            for path in (tmp_path / f"runs-{name}").rglob("*.csv")
        }
    assert made["usual"]
    assert made["usual"] == made["unusual"]


@pytest.mark.slow
def test_an_import_changes_no_setting(tmp_path):
    (tmp_path / "keras.json").write_text('{"floatx": "float64"}')
    code = (
        "import gradcam_adv, keras; gradcam_adv.flatten, gradcam_adv.models.train; "
        "from gradcam_adv.app import cli, folder; "
        "print(keras.config.floatx(), keras.config.max_epochs())"
    )
    variables = {"KERAS_HOME": str(tmp_path), "KERAS_MAX_EPOCHS": "3"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["float64", "3"]


def test_the_library_gives_the_same_numbers_under_any_settings(unusual, small_cnn, images):
    measured = []
    for _ in range(2):
        model = keras.models.clone_model(small_cnn)  # for which nothing is compiled yet
        model.set_weights(small_cnn.get_weights())
        result = dissimilarity(model, images[:3], epsilons=[0.1], layers="all", verbose=0)
        measured.append(result.nissim)
        backends.set_keras()
    pd.testing.assert_frame_equal(*measured)
