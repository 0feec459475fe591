"""Stages that were interrupted go on where they stopped and come out the same."""

from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pandas as pd
import pytest
from conftest import write_photo

from gradcam_adv import backends as gradients
from gradcam_adv.app import pipeline
from gradcam_adv.data import datasets
from gradcam_adv.files import artifacts
from gradcam_adv.models import classifiers
from gradcam_adv.runs import checkpoints, records
from gradcam_adv.study import config as study
from gradcam_adv.study.stages import networks as stages
from gradcam_adv.study.stages import photos as arms
from gradcam_adv.study.stages import score as scoring


def stopped_at_call(monkeypatch, module, name, number):
    """Make ``module.name`` end the work at its ``number``-th call; the calls made are counted."""
    function = getattr(module, name)
    calls = []

    def counted(*arguments, **options):
        calls.append(arguments)
        if len(calls) == number:
            raise KeyboardInterrupt
        return function(*arguments, **options)

    monkeypatch.setattr(module, name, counted)
    return calls


@pytest.fixture
def explained(tmp_path):
    """A setting whose four example photos have heatmaps of two layers under white-box attacks."""
    folder = tmp_path / "explained"
    folder.mkdir()
    chance = np.random.default_rng(0)
    conditions = ["clean", *(f"{attack} 0.1" for attack in ("black-box", "white-box", "noise"))]
    for row in range(4):
        maps = {f"{c}/{layer}": chance.random((9, 9)) for c in conditions for layer in "ab"}
        np.savez(folder / f"example-{row:07d}.npz", **maps)
    return SimpleNamespace(
        arm="plain",
        folders={"explain/net": folder},
        study=SimpleNamespace(
            attacks=("white-box",),
            attacked_epsilons=(0.1,),
            examples=4,
            image_size=16,
            source="other",
        ),
        test=pd.DataFrame({"photo": list("pqrs"), "identity": list("xyxy")}),
    )


def test_layers_are_scored_a_photo_at_a_time(explained, tmp_path, monkeypatch):
    undisturbed = scoring.layers(explained, tmp_path / "undisturbed", "net")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stopped_at_call(patch, scoring, "_score_layers", 3)
        scoring.layers(explained, tmp_path / "interrupted", "net")
    calls = stopped_at_call(monkeypatch, scoring, "_score_layers", None)
    files = scoring.layers(explained, tmp_path / "interrupted", "net")
    assert [row for _, _, row in calls] == [2, 3]
    assert [path.name for path in files] == [path.name for path in undisturbed]
    for one, other in zip(files, undisturbed, strict=True):
        assert one.read_bytes() == other.read_bytes()


class Trained:
    """A study up to the stage train, with batches and files of few photos."""

    def __init__(self, photos: Path, folder: Path) -> None:
        self.study = study.parse(
            {"name": "x", "photos": str(photos), "image_size": 48, "networks": ["resnet50"],
             "source": "resnet50", "weights": "random", "epochs": 3, "arms": ["plain"]}
        )  # fmt: skip
        self.folder = folder

    def run(self) -> "Trained":
        keras.utils.clear_session()  # layers are named as in a process of its own
        pipeline.Pipeline(self.study, self.folder / "run", self.folder / "models").run("train")
        return self

    def files(self) -> dict[str, bytes]:
        """All but the records, which tell of times."""
        return {
            str(path.relative_to(self.folder)): path.read_bytes()
            for path in self.folder.rglob("*")
            if path.is_file() and path.name not in (artifacts.MANIFEST, records.JOURNAL)
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
    monkeypatch.setattr(arms, "CHECKED", 16)
    monkeypatch.setattr(stages, "CALIBRATION_BATCH", 8)
    monkeypatch.setattr(checkpoints, "SECONDS", 0)
    # What it switches on can't be switched off again for the tests after these.
    monkeypatch.setattr(gradients, "configure", lambda threads: None)


@pytest.fixture
def undisturbed(people, tmp_path):
    return Trained(people, tmp_path / "undisturbed").run()


@pytest.mark.slow
def test_what_was_interrupted_up_to_the_trained_model_comes_out_the_same(
    undisturbed, people, tmp_path, monkeypatch
):
    batches = stopped_at_call(monkeypatch, keras.Model, "train_on_batch", None)
    run = Trained(people, tmp_path / "interrupted")
    for module, name, number in (
        (datasets, "check_photos", 2),
        (checkpoints.Checkpoint, "write", 2),  # one batch of batch norm is kept,
        (checkpoints.Checkpoint, "write", 2),  # then the next one;
        (checkpoints.Checkpoint, "write", 4),  # after the last, two epochs are,
        (classifiers, "save", 1),  # and after the last, the model isn't saved.
    ):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            stopped_at_call(patch, module, name, number)
            run.run()
    with monkeypatch.context() as patch:
        patch.setattr(keras.Model, "fit", None)
        run.run()
    assert len(batches) == 2 + 2 + 1
    assert run.files() == undisturbed.files()
    assert not [name for name in run.files() if name.endswith(stages.CHECKPOINT)]


@pytest.mark.slow
def test_a_model_deleted_and_trained_anew_is_the_same_file(undisturbed):
    before = undisturbed.files()
    (undisturbed.folder / "models" / "plain" / "resnet50.keras").unlink()
    assert undisturbed.run().files() == before
