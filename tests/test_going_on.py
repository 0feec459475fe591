"""Stages that were interrupted continue where they stopped, and the results are the same."""

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from conftest import write_photo

from gradcam_adv import backends
from gradcam_adv.app.pipeline import Pipeline
from gradcam_adv.data import datasets, sources
from gradcam_adv.files import checkpoints, write
from gradcam_adv.models import classifiers, weights
from gradcam_adv.runs import records
from gradcam_adv.runs.engines import Local
from gradcam_adv.study import config
from gradcam_adv.study.plan import make_plan
from gradcam_adv.study.stages import data, features
from gradcam_adv.study.stages.score import ScoreLayers


def stopped_at_call(monkeypatch, owner, name, number):
    """Make ``owner.name`` end the work at its call of that number; the arguments of all calls."""
    function = getattr(owner, name)
    calls = []

    def counted(*arguments, **options):
        calls.append(arguments)
        if len(calls) == number:
            raise KeyboardInterrupt
        return function(*arguments, **options)

    monkeypatch.setattr(owner, name, counted)
    return calls


@pytest.fixture
def layers(photo_folder, tmp_path) -> ScoreLayers:
    """The layers of four example photos are to be scored; their heatmaps are of chance."""
    networks = ["vgg16", "resnet50"]
    study = config.parse(
        {"name": "x", "networks": networks, "source": "resnet50", "threat_models": ["white-box"],
         "epsilons": [0.1], "gain_epsilons": [], "noise_epsilons": [], "examples": 4,
         "image_size": 48, "batch_size": 8, "arms": ["plain"]}
    )  # fmt: skip
    listing = sources.list_photos(str(photo_folder), classes=None, min_photos=3, seed=0)
    bases = weights.resolve("random", networks)
    plan = make_plan(study, listing, bases, run=tmp_path / "run", models=tmp_path / "models")
    photos = pd.DataFrame({"photo": list("pqrs"), "identity": list("xyxy"), "split": "test"})
    write.table(plan.data.folder / "photos.csv", photos)
    task = plan.arms["plain"].layers["vgg16"]
    chance = np.random.default_rng(0)
    conditions = ["clean", *(f"{attack} 0.1" for attack in ("black-box", "white-box", "noise"))]
    for row in range(4):
        maps = {f"{c}/{layer}": chance.random((9, 9)) for c in conditions for layer in "ab"}
        write.arrays(task.explain.folder / f"example-{row:07d}.npz", maps)
    return task


def test_layers_are_scored_one_photo_at_a_time(layers, tmp_path, monkeypatch):
    undisturbed = replace(layers, run=tmp_path / "undisturbed").make(Local())
    assert len(undisturbed) == 5
    interrupted = replace(layers, run=tmp_path / "interrupted")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stopped_at_call(patch, ScoreLayers, "_scored", 3)
        interrupted.make(Local())
    calls = stopped_at_call(monkeypatch, ScoreLayers, "_scored", None)
    files = interrupted.make(Local())
    assert [row for _, row, _ in calls] == [2, 3]
    assert [path.name for path in files] == [path.name for path in undisturbed]
    for one, other in zip(files, undisturbed, strict=True):
        assert one.read_bytes() == other.read_bytes()


class Trained:
    """A study up to the stage "train", with batches and files of few photos."""

    def __init__(self, photos: Path, folder: Path) -> None:
        self.study = config.parse(
            {"name": "x", "photos": str(photos), "image_size": 48, "networks": ["resnet50"],
             "source": "resnet50", "weights": "random", "epochs": 3, "arms": ["plain"]}
        )  # fmt: skip
        self.folder = folder

    def run(self) -> "Trained":
        keras.utils.clear_session()  # layers get the names that they have in a new process
        Pipeline(self.study, self.folder / "run", self.folder / "models").run("train")
        return self

    def files(self) -> dict[str, bytes]:
        """All files except the records, which hold times."""
        return {
            str(path.relative_to(self.folder)): path.read_bytes()
            for path in self.folder.rglob("*")
            if path.is_file() and path.name not in (records.MANIFEST, records.JOURNAL)
        }


@pytest.fixture(scope="module")
def people(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("people")
    for person, name in enumerate(("ann", "bob", "cem")):
        for number in range(12):
            write_photo(root / name / f"{number}.png", 100 * person + number)
    return root


@pytest.fixture(autouse=True)
def small_steps(monkeypatch):
    monkeypatch.setattr(data, "CHECKED", 16)
    monkeypatch.setattr(features, "CALIBRATION_BATCH", 8)
    monkeypatch.setattr(checkpoints, "SECONDS", 0)
    # Its settings can't be undone for the tests after these.
    monkeypatch.setattr(backends, "configure", lambda threads: None)


@pytest.fixture
def undisturbed(people, tmp_path):
    return Trained(people, tmp_path / "undisturbed").run()


@pytest.mark.slow
def test_a_run_interrupted_before_its_model_was_saved_gives_the_same_files(
    undisturbed, people, tmp_path, monkeypatch
):
    batches = stopped_at_call(monkeypatch, keras.Model, "train_on_batch", None)
    run = Trained(people, tmp_path / "interrupted")
    for owner, name, number in (
        (datasets, "check_photos", 2),
        (checkpoints.Checkpoint, "write", 2),  # one batch of batch norm is kept,
        (checkpoints.Checkpoint, "write", 2),  # then the next one;
        (checkpoints.Checkpoint, "write", 4),  # after the last, two epochs are,
        (classifiers, "save_model", 1),  # and after the last, the model isn't saved.
    ):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            stopped_at_call(patch, owner, name, number)
            run.run()
    with monkeypatch.context() as patch:
        patch.setattr(keras.Model, "fit", None)
        run.run()
    assert len(batches) == 2 + 2 + 1
    assert run.files() == undisturbed.files()
    assert not [name for name in run.files() if name.endswith("checkpoint.npz")]


@pytest.mark.slow
def test_a_model_that_was_deleted_and_trained_again_is_the_same_file(undisturbed):
    before = undisturbed.files()
    (undisturbed.folder / "models" / "plain" / "resnet50.keras").unlink()
    assert undisturbed.run().files() == before
