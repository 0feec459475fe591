"""The tasks of a plan: which of them another study, reading or version shares, and which not."""

import dataclasses
import gc
import os
import weakref
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

from gradcam_adv import GradCAM
from gradcam_adv.data import sources
from gradcam_adv.files import hashes, write
from gradcam_adv.models import weights
from gradcam_adv.runs import records, tasks
from gradcam_adv.study import config, plan, settings, variations
from gradcam_adv.study.stages.evaluate import Evaluate
from gradcam_adv.study.stages.network_task import close_model, open_model

NETWORKS = ("vgg16", "resnet50", "xception")


def parse(**changes):
    usual = {"name": "tiny", "networks": NETWORKS, "weights": "random", "batch_size": 8}
    return config.parse(usual | changes)


@pytest.fixture
def planned(photo_folder):
    """From a study to its tasks by name, in one run's folder."""
    listing = sources.list_photos(str(photo_folder), classes=None, min_photos=3, seed=0)
    random = weights.resolve("random", NETWORKS)
    folder = photo_folder.parent

    def made(study: settings.Study, bases=random, **changed):
        found = dataclasses.replace(listing, **changed)
        own = plan.make_plan(study, found, bases, run=folder / "runs", models=folder / "models")
        return {task.name: task for task in own.tasks}

    return made


def differing(first, second, arm="plain") -> set[str]:
    """The tasks of an arm, without its name, that have another folder in the second plan."""
    return {
        name.removeprefix(f"{arm}/")
        for name, task in second.items()
        if name.startswith(f"{arm}/") and name in first and first[name].folder != task.folder
    }


def kinds(names: set[str]) -> set[str]:
    return {name.split("/")[0] for name in names}


LAYERS = {
    "vgg16": ["block5_conv3"],
    "resnet50": ["conv1_relu"],
    "xception": ["block14_sepconv2_act"],
}
# By kind of task, the kinds that depend on it, and itself.
AFTER = {
    "explain": {"explain", "layers"},
    "evaluate": {"evaluate", "transfer", "transfer_score", "explain", "score", "layers"},
}
AFTER["attack"] = {"attack", *AFTER["evaluate"]}
AFTER["train"] = {"train", *AFTER["attack"]}
AFTER["features"] = {"features", *AFTER["train"]}
AFTER["data"] = {"data", "faces", *AFTER["features"]}


@pytest.mark.parametrize(
    ("key", "value", "kind"),
    [
        ("classes", 2, "data"),
        ("min_photos", 4, "data"),
        ("max_photos", 9, "data"),
        ("split", [0.5, 0.25, 0.25], "data"),
        ("seed", 1, "data"),
        ("image_size", 160, "features"),
        ("batch_size", 4, "features"),
        ("readings", {"pooling": "flatten"}, "features"),
        ("epochs", 7, "train"),
        ("precision", "mixed_float16", "attack"),
        ("epsilons", [0.07], "evaluate"),
        ("layers", LAYERS, "explain"),
        ("examples", 1, "explain"),
    ],
)
def test_which_tasks_depend_on_each_key_of_a_study(planned, key, value, kind):
    found = differing(planned(parse()), planned(parse(**{key: value})))
    assert kinds(found) == AFTER[kind]


def test_which_tasks_depend_on_photos_weights_and_faces(planned, monkeypatch):
    first = planned(parse())
    files = first["plain/data"].inputs["listing"]["files"]
    other = pd.DataFrame(files, columns=["photo", "identity", "sha256"])
    other.loc[3, "sha256"] = "0" * 64
    assert kinds(differing(first, planned(parse(), files=other))) == AFTER["data"]
    assert kinds(differing(first, planned(parse(), stray=("x.png",)))) == AFTER["data"]

    # Another file of weights for one network, of the same origin.
    bases = [
        weights.resolve("random", NETWORKS) | {"vgg16": weights.Weights("file", None, sha256)}
        for sha256 in ("0" * 64, "1" * 64)
    ]
    found = differing(planned(parse(), bases[0]), planned(parse(), bases[1]))
    assert {"features/vgg16", "train/vgg16", "attack/vgg16", "transfer/resnet50"} <= found
    assert not {"data", "features/resnet50", "train/resnet50", "attack/resnet50"} & found

    def of_aligned(second) -> set[str]:
        return kinds(differing(first, second, "aligned"))

    wide = planned(parse(margin=0.3))
    assert of_aligned(wide) == AFTER["data"] - {"faces"}
    assert differing(first, wide) == set()
    # Crops are cut to the networks' size.
    assert "data" in of_aligned(planned(parse(image_size=160)))
    monkeypatch.setattr(plan, "DETECTOR", "another")
    assert kinds(differing(first, planned(parse()))) == {"faces", "score", "transfer_score"}
    assert of_aligned(planned(parse())) == AFTER["data"] - {"faces"}


def test_which_tasks_depend_on_each_reading(planned):
    own = parse()
    first = planned(own)

    def dependent(**readings) -> set[str]:
        changed = dataclasses.replace(own.readings, **readings)
        return differing(first, planned(dataclasses.replace(own, readings=changed)))

    assert kinds(dependent(preprocessing="unit")) == AFTER["features"]
    assert kinds(dependent(preprocessing="tf")) == AFTER["features"]
    assert kinds(dependent(attacked_label="predicted")) == AFTER["attack"]
    assert kinds(dependent(epsilon_unit="network")) == AFTER["evaluate"]
    assert kinds(dependent(perturbed_set="jpeg")) == AFTER["evaluate"]
    assert kinds(dependent(stored_perturbation="png")) == AFTER["evaluate"]
    assert kinds(dependent(clean_resizing="nearest")) == AFTER["evaluate"]
    assert kinds(dependent(explained_score="hidden")) == AFTER["evaluate"]
    assert kinds(dependent(attacked_label="next")) == AFTER["attack"]
    for scoring in ({"ssim": "gaussian"}, {"compared": "jet"}):
        assert kinds(dependent(**scoring)) == {"score", "transfer_score"}
    explained = {"explain", "score", "transfer_score", "layers"}
    assert kinds(dependent(explained_class="true")) == explained
    assert dependent(vid_levels="all") == {"score/summary"}
    assert dependent(heatmap_size="native") == set()


def test_only_scores_depend_on_the_measure_and_by_default_they_are_as_before(planned):
    first = planned(parse())
    found = differing(first, planned(parse(measure="hog")))
    assert kinds(found) == {"score", "transfer_score", "layers"}
    assert "score/vgg16" in found
    scores = [task for task in first.values() if hasattr(task, "measure")]
    assert scores
    assert not any("measure" in task.inputs for task in scores)


def test_an_input_that_came_later_counts_only_where_it_is_not_the_default():
    @dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
    class Before(tasks.Task):
        kind = stage = "before"

        seed: int

        def make(self, engine):
            return []

    @dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
    class Now(Before):
        form: str | None = tasks.later(None)

    before, now = Before(run=Path("runs"), seed=1), Now(run=Path("runs"), seed=1)
    assert now.inputs == {"version": 1, "seed": 1}
    assert now.folder == before.folder
    other = dataclasses.replace(now, form="x")
    assert other.inputs == {"version": 1, "seed": 1, "form": "x"}
    assert other.folder != before.folder


def test_crops_of_other_clean_photos_are_cut_from_the_same_faces(planned):
    own = parse()
    changed = dataclasses.replace(own.readings, clean_resizing="nearest")
    first, other = planned(own), planned(dataclasses.replace(own, readings=changed))
    clean = other["aligned/evaluate/vgg16"].clean
    assert clean.resizing == clean.data.resizing == "nearest"
    assert clean.data.faces.folder == first["plain/faces"].folder
    assert clean.data.folder != first["aligned/data"].folder
    assert first["aligned/evaluate/vgg16"].photos.data.folder == first["aligned/data"].folder


def test_photos_and_features_do_not_depend_on_the_seed_of_the_heads(planned):
    own = parse()
    found = differing(planned(own), planned(dataclasses.replace(own, seeds=(1,))))
    assert kinds(found) == AFTER["train"]
    other = differing(planned(own), planned(dataclasses.replace(own, seed=1)))
    assert {"data", "features/vgg16"} <= other


def test_signs_are_computed_only_if_a_network_gets_them(planned):
    def attacked(own) -> list[str]:
        return [name for name in planned(own) if name.startswith("plain/attack/")]

    assert sorted(attacked(parse())) == [f"plain/attack/{network}" for network in sorted(NETWORKS)]
    varied, _ = variations.of_readings(parse(), native_fits=True)
    assert attacked(varied["epsilon_unit = network"]) == ["plain/attack/resnet50"]


def test_what_the_source_writes_depends_on_whether_there_is_a_white_box_attack(planned):
    own = parse(threat_models=["white-box"])
    without = dataclasses.replace(own, threat_models=())
    assert "evaluate/resnet50" in differing(planned(own), planned(without))


def test_an_evaluation_needs_every_attack_whose_signs_it_reads(planned):
    tasks = planned(parse())
    needs = {need.name for need in tasks["plain/transfer/vgg16"].needs}
    assert needs == {"plain/train/vgg16", "plain/attack/xception"}
    needs = {need.name for need in tasks["plain/evaluate/vgg16"].needs}
    assert needs == {"plain/train/vgg16", "plain/attack/vgg16", "plain/attack/resnet50"}


def test_a_model_in_the_folder_of_another_study_does_not_count(planned):
    task = planned(parse())["plain/train/vgg16"]
    write.text(task.outside, "a head of seed 1")
    files = {os.path.relpath(task.outside, task.folder): hashes.facts(task.outside)}
    record = {**task.about(), "files": files, "needs": {}, "seconds": 1}
    write.json(task.folder / records.MANIFEST, record)
    assert task.result() is not None

    # A study of that seed alone has the same head, but keeps it elsewhere.
    moved = dataclasses.replace(task, models=task.models.parent / "seed-1")
    assert moved.folder == task.folder
    assert moved.result() is None
    about = moved.about() | {"needs": {}}
    places = (moved.run, task.models.parent)
    with records.Journal(moved.folder, about, places, task.names) as journal:
        assert not journal.record.files
    assert not task.outside.exists()


def test_a_newer_version_of_a_stage_changes_its_tasks_and_what_depends_on_them(
    planned, monkeypatch
):
    before = planned(parse())
    assert all(task.fingerprint for task in before.values())  # computed now, and kept
    monkeypatch.setattr(Evaluate, "version", Evaluate.version + 1)
    assert kinds(differing(before, planned(parse()))) == AFTER["evaluate"]


def test_a_networks_part_of_the_plan_needs_no_other_network_but_the_source(photo_folder):
    listing = sources.list_photos(str(photo_folder), classes=None, min_photos=3, seed=0)
    study = parse(source="xception")
    bases = weights.resolve("random", NETWORKS)
    run = photo_folder.parent
    made = plan.make_plan(study, listing, bases, run=run / "runs", models=run / "models")
    there: set[str] = set()
    for number, part in enumerate(made.parts):
        for task in part:
            assert {need.fingerprint for need in task.needs} <= there
            there.add(task.fingerprint)
        if 1 <= number <= len(NETWORKS):
            found = {task.network for task in part}
            assert len(found) == 1
            assert (found == {"xception"}) == (number == 1)
    assert len(there) == len(made.tasks)


def test_the_plan_of_some_networks_has_the_same_tasks(planned):
    study = parse()
    own = planned(study)
    some = planned(variations.of_networks(study, ("resnet50", "xception")))
    same = {name for name, task in some.items() if own[name].folder == task.folder}
    assert {name for name in some if not name.endswith("/summary")} <= same
    assert kinds({name.removeprefix("plain/") for name in same}).isdisjoint({"transfer"})


def test_a_model_is_opened_once_until_its_file_is_another(small_cnn, tmp_path):
    path = tmp_path / "small.keras"
    small_cnn.save(path)
    first = open_model(path, "float32")
    assert open_model(path, "float32") is first
    assert open_model(path, "mixed_float16").get_layer("conv_a").compute_dtype == "float16"
    again = open_model(path, "float32")  # only one is kept
    assert again is not first
    changed = keras.models.clone_model(small_cnn)
    changed.set_weights([2 * values for values in small_cnn.get_weights()])
    changed.save(path)
    other = open_model(path, "float32")
    np.testing.assert_array_equal(other.get_weights()[0], changed.get_weights()[0])
    path.unlink()
    with pytest.raises(ValueError, match="Expected a .keras model file. Received: .*no file"):
        open_model(path, "float32")


def test_a_closed_model_is_freed_with_what_is_compiled_for_it(small_cnn, tmp_path):
    path = tmp_path / "small.keras"
    small_cnn.save(path)
    images = np.zeros((2, *small_cnn.input_shape[1:]), np.float32)
    GradCAM(open_model(path, "float32"))(images)
    freed = weakref.ref(open_model(path, "float32"))
    gc.collect()
    assert freed() is not None
    close_model()
    assert freed() is None
