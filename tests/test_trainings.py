"""Networks of a study that are trained with layers of their base, or against attacks."""

import dataclasses
import json

import keras
import numpy as np
import pandas as pd
import pytest
from conftest import write_photo

from gradcam_adv import load_model
from gradcam_adv.app import Pipeline
from gradcam_adv.files import checkpoints
from gradcam_adv.files.checkpoints import Checkpoint
from gradcam_adv.graph.flat import flatten
from gradcam_adv.models import backbones, bases, classifiers, training
from gradcam_adv.models.weights import Weights, resolve
from gradcam_adv.study import config
from gradcam_adv.study.stages.train import Train, TrainNetwork

NETWORKS = ("smallresnet", "smallresnet@pgd", "smallresnet@map")
STUDY = {
    "name": "tiny", "photos": "people", "image_size": 32, "networks": list(NETWORKS),
    "source": "smallresnet", "weights": "random", "epochs": 1, "trainable": "all",
    "learning_rate": 0.001, "arms": ["plain"], "examples": 1, "layers": "last",
    "training": {"pgd": {"steps": 1}, "map": {"method": "fgsm-rs", "map_weight": 1.0}},
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trainings")
    for person, name in enumerate(("ann", "bob", "cem")):
        for number in range(10):
            write_photo(folder / "people" / name / f"{number}.png", 100 * person + number)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


def planned(folder, name, **changes):
    study = config.parse(STUDY | changes)
    return Pipeline(study, folder / name / "runs", folder / name / "models")


@pytest.fixture(scope="module")
def trained(folder):
    pipeline = planned(folder, "all")
    pipeline.run("train")
    return pipeline


def test_networks_of_one_backbone_share_features_and_are_trained_in_their_ways(trained):
    plan = trained.plan.arms["plain"]
    assert len({task.folder for task in plan.features.values()}) == 1
    assert sum(task.kind == "features" for part in plan.parts for task in part) == 1
    weights = {}
    for network in NETWORKS:
        path = trained.models / "plain" / f"{network}.keras"
        facts = json.loads(path.with_suffix(".json").read_text())
        assert facts["network"] == network
        assert facts["accuracy"]["test"]["photos"] == 3
        weights[network] = load_model(path).get_layer("block2_b_conv").get_weights()[0]
        record = plan.train[network].record()
        assert record.about["inputs"]["trainable"] == "all"
    built = plan.features["smallresnet"].extractor()
    assert len({w.tobytes() for w in weights.values()}) == 3
    for trained_weights in weights.values():
        before = built.get_layer("block2_b_conv").get_weights()[0]
        assert not np.array_equal(trained_weights, before)
    model = load_model(trained.models / "plain" / "smallresnet@pgd.keras")
    assert [layer.name for layer in model.layers[-4:]] == ["pooling", "hidden", "dropout", "logits"]


@pytest.mark.slow
def test_the_same_study_gives_the_same_models(trained, folder):
    again = planned(folder, "again")
    again.run("train")
    for network in NETWORKS:
        one, other = (p.models / "plain" / f"{network}.keras" for p in (trained, again))
        assert one.read_bytes() == other.read_bytes()


def test_a_study_of_heads_has_the_tasks_that_it_had(folder):
    content = {
        key: value for key, value in STUDY.items() if key not in ("trainable", "learning_rate")
    }
    study = config.parse(content | {"networks": ["smallresnet"]})
    pipeline = Pipeline(study, folder / "heads" / "runs", folder / "heads" / "models")
    (task,) = pipeline.plan.arms["plain"].train.values()
    assert type(task) is Train
    assert not {"trainable", "against", "learning_rate"} & task.inputs.keys()
    faster = dataclasses.replace(study, learning_rate=0.01)
    pipeline = Pipeline(faster, folder / "heads" / "runs", folder / "heads" / "models")
    (other,) = pipeline.plan.arms["plain"].train.values()
    assert type(other) is Train  # on features, too
    assert other.inputs["learning_rate"] == 0.01 and other.fingerprint != task.fingerprint


def test_each_seed_draws_the_base_anew_if_all_of_it_is_trained(folder):
    for trainable, seeds in (("all", {0, 1}), ("last block", {0})):
        pipeline = planned(folder, "seeds", trainable=trainable, seeds=[0, 1])
        plans = [pipeline.plan, *pipeline._seeds.values()]
        features = [plan.arms["plain"].features["smallresnet@pgd"] for plan in plans]
        assert {task.seed for task in features} == seeds


def test_all_settings_of_a_training_are_inputs(folder):
    task = planned(folder, "inputs").plan.arms["plain"].train["smallresnet@map"]
    assert isinstance(task, TrainNetwork)
    expected = {"method": "fgsm-rs", "epsilon": 8 / 255, "steps": None, "beta": 6.0}
    assert task.inputs["against"] == expected | {"map_weight": 1.0}
    other = planned(folder, "inputs", training={"map": {"method": "fgsm-rs"}})
    assert other.plan.arms["plain"].train["smallresnet@map"].fingerprint != task.fingerprint


# Training from photos, on a base of two blocks.


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "SECONDS", 0)
    return tmp_path / "checkpoint.npz"


def problem():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((16, 16, 3), name="pixels")
    x = keras.layers.Conv2D(4, 3, strides=2, padding="same", name="first")(inputs)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.ReLU(name="relu")(x)
    x = keras.layers.Conv2D(6, 3, strides=2, padding="same", name="second")(x)
    x = keras.layers.ReLU(name="last")(x)
    base = keras.Model(inputs, x)
    base.trainable = False
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    images = rng.uniform(0, 0.5, (60, 16, 16, 3)) + 0.4 * np.eye(3)[labels][:, None, None]
    return base, images.astype(np.float32), labels


def train_network(trainable="all", against=None, checkpoint=None, epochs=3, rate=1e-2):
    base, images, labels = problem()
    extractor = classifiers.features(base)
    head = classifiers.dense_head(6, 3, seed=0)
    rows = np.arange(40)
    features = extractor.predict(images, verbose=0)
    history = training.train_network(
        extractor, head, images.__getitem__, labels, rows, np.arange(40, 50),
        scale=training.feature_scale([features], rows), trainable=trainable, learning_rate=rate,
        against=against, epochs=epochs, seed=0, checkpoint=checkpoint,
    )  # fmt: skip
    return classifiers.assemble(extractor, head), history


@pytest.mark.parametrize(
    ("trainable", "changed"),
    [("head", set()), ("last block", {"second"}), ("all", {"first", "second"})],
)
def test_what_is_trainable_is_trained_and_nothing_else(trainable, changed):
    base, images, labels = problem()
    model, _ = train_network(trainable, epochs=10)
    for layer in base.layers:
        for before, after in zip(
            layer.get_weights(), model.get_layer(layer.name).get_weights(), strict=True
        ):
            assert np.array_equal(before, after) == (layer.name not in changed)
    right = model.predict(images, verbose=0).argmax(axis=1) == labels
    assert right[50:].mean() == 1


def test_the_last_block_of_a_real_network_is_its_last():
    base = bases.build("resnet50", 64, Weights("random"))  # of 32 the last maps are 1 x 1
    extractor = classifiers.features(base)
    model = keras.Model(extractor.inputs, classifiers.dense_head(2048, 2, 0)(extractor.output))
    training._choose_trainable(model, extractor, "last block")
    trained = [layer.name for layer in base.layers if layer.trainable and layer.weights]
    assert trained == [f"conv5_block3_{i}_conv" for i in (1, 2, 3)]


@pytest.mark.parametrize("against", [None, {"method": "pgd", "steps": 2, "epsilon": 0.02}])
def test_a_training_interrupted_at_every_epoch_ends_the_same_to_the_last_bit(path, against):
    class Interrupted(Checkpoint):
        def write(self, state):
            super().write(state)
            raise KeyboardInterrupt

    undisturbed, history = train_network(against=against)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            train_network(against=against, checkpoint=Interrupted(path))
    model, same = train_network(against=against, checkpoint=Checkpoint(path))
    assert history.equals(same)
    for mine, theirs in zip(model.get_weights(), undisturbed.get_weights(), strict=True):
        assert mine.tobytes() == theirs.tobytes()


def test_without_a_rate_the_usual_one_is_taken(monkeypatch):
    rates = []

    class Adam(keras.optimizers.Adam):
        def __init__(self, rate):
            rates.append(rate)
            super().__init__(rate)

    monkeypatch.setattr(keras.optimizers, "Adam", Adam)
    for trainable in training.TRAINABLE:
        train_network(trainable, rate=None, epochs=1)
    assert rates == [1e-3, 1e-4, 1e-4]


# The small network.


def test_the_small_network_costs_what_its_entry_says():
    entry = backbones.BACKBONES["smallresnet"]
    base = bases.build("smallresnet", 64, Weights("random"))
    operations = 0
    for layer in base.layers:
        if isinstance(layer, keras.layers.Conv2D):
            operations += np.prod(layer.kernel.shape) * np.prod(layer.output.shape[1:3])
    assert operations < 25e6
    assert operations / 1e9 * (224 / 64) ** 2 == pytest.approx(entry.multiply_adds, rel=0.02)
    assert base.output_shape == (None, 8, 8, base.output_shape[-1])
    assert base.layers[-1].name == entry.last_activation
    head = classifiers.dense_head(base.output_shape[-1], 2, 0)
    graph = flatten(classifiers.assemble(classifiers.features(base), head))
    assert graph.pixels.range == "0..1"


def test_the_small_network_has_no_imagenet_weights():
    assert resolve("auto", ["smallresnet"])["smallresnet"].note == "not made for Small ResNet"
    with pytest.raises(ValueError, match="with ImageNet weights.*Received: smallresnet"):
        resolve("imagenet", ["smallresnet@pgd"])


def test_a_network_trained_in_another_way_has_its_backbone_and_a_title():
    assert backbones.title("vgg16@pgd") == "VGG16 (pgd)"
    assert backbones.find("vgg16@pgd") is backbones.find("vgg16")
    assert backbones.epsilon_unit("xception@pgd", "network", "own") == 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"networks": ["vgg16@x"], "source": "vgg16@x"}, "backbone@training, one of .*'vgg16@x'"),
        ({"networks": ["vgg16@"], "source": "vgg16@"}, "backbone@training, one of .*'vgg16@'"),
        ({"training": 3}, "training as a table of name = settings. Received: 3"),
        ({"training": {"a/b": {}}}, r"training as names of letters, .* Received: 'a/b'"),
        ({"training": {"a": 1}}, "training.a as a table of settings. Received: 1"),
        ({"training": {"a": {}}}, "method as one of .*Received: 'a', in training.a"),
        ({"training": {"pgd": {"step": 3}}}, "Received: training.pgd.step. Nearest: training.pgd"),
        ({"training": {"pgd": {"epsilon": 2}}}, "epsilon above 0.*Received: 2, in training.pgd"),
        ({"trainable": "base"}, "trainable as one of head, last block, all. Received: 'base'"),
        ({"learning_rate": 0}, "learning_rate as a number above 0, at most 1. Received: 0"),
    ],
)
def test_a_wrong_key_is_refused(change, message):
    with pytest.raises(ValueError, match="Expected .*" + message):
        config.parse({"name": "x", **change})


@pytest.mark.slow
def test_a_study_over_seeds_has_a_table_of_each_networks_own_attack(folder):
    networks = list(NETWORKS[:2])
    changes = {"seeds": [0, 1], "attack": {"pgd": {"steps": 2}}, "networks": networks}
    pipeline = planned(folder, "report", **changes)
    pipeline.run()
    tables = pipeline.folder / "tables"
    own = pd.read_csv(tables / "seeds_own.csv")
    assert set(own["network"]) == set(networks)
    parts = [pipeline.plan, *pipeline._seeds.values()]
    for network in networks:
        of_network = own[own["network"] == network].set_index(["quantity", "epsilon"])
        accuracies = [plan.arms["plain"].accuracy.table("accuracy") for plan in parts]
        shares = [
            t[(t["network"] == network) & (t["attack"] == "white-box") & (t["epsilon"] == 0.1)]
            for t in accuracies
        ]
        values = [float(share["accuracy"].iloc[0]) for share in shares]
        row = of_network.loc[("accuracy", 0.1)]
        assert row["mean"] == pytest.approx(np.mean(values))
        assert (row["least"], row["greatest"]) == (min(values), max(values))
        halves = [plan.arms["plain"].mod.table("half_shift") for plan in parts]
        halves = [
            plan.arms["plain"].headline(t[(t["network"] == network) & (t["attack"] == "white-box")])
            for plan, t in zip(parts, halves, strict=True)
        ]
        expected = np.mean([float(half["half_shift"].iloc[0]) for half in halves])
        (row,) = own[(own["network"] == network) & (own["quantity"] == "half_shift")].itertuples()
        assert row.mean == pytest.approx(expected)
    page = (pipeline.folder / "report.html").read_text()
    assert "Each training under the attack made on its own network" in page
    assert "Small ResNet (pgd)" in page
