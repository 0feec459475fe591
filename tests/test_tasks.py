"""The graph of tasks: what is one task, what is another, and when a model counts as made."""

import dataclasses
from pathlib import Path

import pandas as pd
import pytest

from gradcam_adv.data import sources
from gradcam_adv.files import artifacts
from gradcam_adv.models import weights
from gradcam_adv.runs import records
from gradcam_adv.study import config as study
from gradcam_adv.study import tasks, variations
from gradcam_adv.study.setting import Setting
from gradcam_adv.study.stages import photos as arms
from gradcam_adv.study.tasks import Graph, make_task

NETWORKS = ("vgg16", "resnet50", "xception")


def parse(**changes):
    return study.parse({"name": "tiny", "networks": NETWORKS, "weights": "random"} | changes)


@pytest.fixture
def graph(photo_folder):
    """From a study to its tasks by name, in one run's folder."""
    listing = sources.list_photos(str(photo_folder), classes=None, min_photos=3, seed=0)
    random = weights.resolve("random", NETWORKS)
    runs = photo_folder.parent / "runs"

    def made(own: study.Study, bases=random, **changed):
        models = photo_folder.parent / "models"
        found = dataclasses.replace(listing, **changed)
        settings = {
            arm: Setting(own, arm, models / arm, found, bases, {}, {})
            for arm in ("plain", "aligned")
        }
        return Graph(own, settings, runs, allow_left_out=False, layers=True).tasks

    return made


def differing(first, second, arm="plain") -> set[str]:
    """Tasks of an arm that are others in the second, without their arm."""
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
# From each kind of task on, what follows from it.
AFTER = {
    "explain": {"explain", "layers"},
    "evaluate": {"evaluate", "explain", "score", "layers"},
}
AFTER["train"] = {"train", "attack", *AFTER["evaluate"]}
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
        ("epsilons", [0.07], "evaluate"),
        ("layers", LAYERS, "explain"),
        ("examples", 1, "explain"),
    ],
)
def test_what_each_key_of_a_study_makes_anew(graph, key, value, kind):
    found = differing(graph(parse()), graph(parse(**{key: value})))
    assert kinds(found) == AFTER[kind]


def test_other_photos_weights_and_faces_make_anew_what_follows_from_them(graph, monkeypatch):
    first = graph(parse())
    files = first["plain/data"].inputs["files"]
    other = pd.DataFrame(files, columns=["photo", "identity", "sha256"])
    other.loc[3, "sha256"] = "0" * 64
    assert kinds(differing(first, graph(parse(), files=other))) == AFTER["data"]
    assert kinds(differing(first, graph(parse(), stray=("x.png",)))) == AFTER["data"]

    # Of one network: another file of weights, of the same origin.
    bases = [
        weights.resolve("random", NETWORKS) | {"vgg16": weights.Weights("file", None, sha256)}
        for sha256 in ("0" * 64, "1" * 64)
    ]
    found = differing(graph(parse(), bases[0]), graph(parse(), bases[1]))
    assert {"features/vgg16", "train/vgg16", "attack/vgg16", "evaluate/resnet50"} <= found
    assert not {"data", "features/resnet50", "train/resnet50", "attack/resnet50"} & found

    def of_aligned(second) -> set[str]:
        return kinds(differing(first, second, "aligned"))

    wide = graph(parse(margin=0.3))
    assert of_aligned(wide) == AFTER["data"] - {"faces"}
    assert differing(first, wide) == set()
    # Crops are cut to the networks' size.
    assert "data" in of_aligned(graph(parse(image_size=160)))
    monkeypatch.setattr(arms, "DETECTOR", "another")
    assert differing(first, graph(parse())) == {"faces"}
    assert of_aligned(graph(parse())) == AFTER["data"] - {"faces"}


def test_what_each_reading_makes_anew(graph):
    own = parse()
    first = graph(own)

    def anew(**readings) -> set[str]:
        changed = dataclasses.replace(own.readings, **readings)
        return differing(first, graph(dataclasses.replace(own, readings=changed)))

    after_evaluate = {"evaluate", "explain", "score", "layers"}
    assert kinds(anew(epsilon_unit="network")) == after_evaluate
    assert kinds(anew(perturbed_set="jpeg")) == after_evaluate
    assert kinds(anew(attacked_label="predicted")) == {"attack", *after_evaluate}
    assert kinds(anew(explained_class="true")) == {"explain", "score", "layers"}
    assert anew(vid_levels="all") == {"score/summary"}
    assert anew(heatmap_size="native") == set()
    assert kinds(anew(preprocessing="unit")) == {"features", "train", "attack", *after_evaluate}


def test_another_seed_of_the_heads_keeps_photos_and_features(graph):
    own = parse()
    found = differing(graph(own), graph(dataclasses.replace(own, seeds=(1,))))
    assert kinds(found) == {"train", "attack", "evaluate", "explain", "score", "layers"}
    other = differing(graph(own), graph(dataclasses.replace(own, seed=1)))
    assert {"data", "features/vgg16"} <= other


def test_signs_are_taken_where_somebody_gets_them(graph):
    def attacked(own) -> list[str]:
        return [name for name in graph(own) if name.startswith("plain/attack/")]

    assert attacked(parse()) == [f"plain/attack/{network}" for network in NETWORKS]
    (variation,) = variations.of_seeds(parse(seeds=[0, 1])).values()
    assert attacked(variation) == ["plain/attack/resnet50"]


def test_what_the_source_writes_hangs_on_whether_there_is_a_white_box_attack(graph):
    own = parse(attacks=["white-box"])
    without = dataclasses.replace(own, attacks=())
    assert "evaluate/resnet50" in differing(graph(own), graph(without))


def test_evaluate_needs_every_attack_whose_signs_it_reads(graph):
    tasks = graph(parse())
    needs = {need.name for need in tasks["plain/evaluate/vgg16"].needs}
    assert needs == {"plain/train/vgg16", *(f"plain/attack/{network}" for network in NETWORKS)}
    tasks = graph(parse(attacks=["white-box"]))
    needs = {need.name for need in tasks["plain/evaluate/vgg16"].needs}
    assert needs == {"plain/train/vgg16", "plain/attack/vgg16", "plain/attack/resnet50"}


def trained(folder: Path, model: Path, inputs: int = 0):
    return make_task(
        folder, "plain/train/vgg16", "train", {"inputs": inputs}, lambda _: [], (), model=model
    )


def test_a_model_that_another_study_keeps_elsewhere_is_not_one_s_own(tmp_path):
    own, other = (tmp_path / "models" / name / "vgg16.keras" for name in ("plain", "seed-1"))
    other.parent.mkdir(parents=True)
    other.write_bytes(b"a head of seed 1")
    task = trained(tmp_path / "runs", other)
    files = artifacts.describe_files([other], task.folder)
    record = {**task.about(), "files": files, "needs": {}, "seconds": 1}
    artifacts.write_json(task.folder / artifacts.MANIFEST, record)
    assert task.result() is not None

    # A study of that seed alone: the same head, which must now lie at its own place.
    moved = trained(tmp_path / "runs", own)
    assert moved.folder == task.folder
    assert moved.result() is None
    places = (tmp_path / "runs", tmp_path / "models")
    with records.Journal(moved.folder, moved.about() | {"needs": {}}, places) as journal:
        assert not journal.record.files
    assert not other.exists()


def test_a_newer_stage_makes_itself_and_what_follows_anew(graph, monkeypatch):
    before = graph(parse())
    monkeypatch.setitem(tasks.VERSIONS, "report", tasks.VERSIONS["report"] + 1)
    assert differing(before, graph(parse())) == set()
    monkeypatch.setitem(tasks.VERSIONS, "evaluate", tasks.VERSIONS["evaluate"] + 1)
    newer = kinds(differing(before, graph(parse())))
    assert newer == {"evaluate", "explain", "score", "layers"}
