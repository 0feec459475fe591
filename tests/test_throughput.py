"""Counts of operations and the costs of a study, compared with values computed by hand."""

import re
from dataclasses import replace

import keras
import numpy as np
import pytest

from benchmarks import costs, determinism, flops, rates, scale, throughput
from gradcam_adv.data import list_photos
from gradcam_adv.models import Weights
from gradcam_adv.models.backbones import title
from gradcam_adv.study import make_plan, parse
from gradcam_adv.study.settings import Study


def test_operations_of_a_tiny_network_by_hand():
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, padding="same")(inputs)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.DepthwiseConv2D(3, strides=2, padding="same", depth_multiplier=2)(x)
    x = keras.layers.SeparableConv2D(5, 3, strides=2, padding="same")(x)
    x = keras.layers.Conv2D(10, 1, groups=5)(x)
    model = keras.Model(inputs, keras.layers.Dense(7)(keras.layers.GlobalAveragePooling2D()(x)))
    convolution = 8 * 8 * (3 * 3 * 3 * 4)
    depthwise = 4 * 4 * (3 * 3 * 4 * 2)
    separable = 2 * 2 * (3 * 3 * 8 + 8 * 5)
    grouped = 2 * 2 * (5 // 5 * 10)
    expected = convolution + depthwise + separable + grouped + 10 * 7
    assert flops.multiply_adds(model) == expected


def test_a_layer_with_an_unknown_kernel_is_refused():
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2DTranspose(4, 3, name="up")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(x)))
    with pytest.raises(ValueError, match="Received: up, a Conv2DTranspose"):
        flops.multiply_adds(model)


# He et al., 2016, table 1. Keras' ResNet50 is the network of that paper, with strides in the first
# convolution of a block. The later variant has them in the second, and 4.1e9 operations.
def test_operations_of_resnet50_are_those_of_its_paper():
    model = keras.applications.ResNet50(weights=None, classifier_activation=None)
    assert flops.multiply_adds(model) == pytest.approx(3.8e9, rel=0.05)


@pytest.fixture
def measured():
    network = {"multiply_adds": 10, "layers": 3, "features": 6, "last_side": 7, "positions": 100}
    network |= {"forward": 10.0, "attack": 4.0, "last": 8.0, "all": 2.0}
    processor = {"data": 100.0, "read": 50.0, "perturb": 20.0, "nissim": 40.0, "score": 10.0}
    rows = {"evaluate": {"disk": 30.0, "memory": 90.0}, "score": {"disk": 50.0, "memory": 150.0}}
    return {
        "networks": {"vgg16": network, "resnet50": network},
        "processor": processor,
        "training": {"train": {"50": 0.001, "9131": 0.01}},
        "device": {"peak_flops": 1000.0},
        "rows": rows,
    }


# The attack's source: black-box and noise, at two epsilons each, and nothing more for the gain.
STUDY = Study(
    "small",
    networks=("resnet50",),
    epsilons=(0.0, 0.1),
    gain_epsilons=(),
    noise_epsilons=(),
    control_epsilons=(),
    threat_models=("white-box",),
    examples=2,
)
SIZE = costs.Size(people=50, photos=500)


def test_photos_are_split_as_in_a_study():
    assert SIZE.split(STUDY) == (400, 50)
    assert costs.Size(people=50, photos=2950).split(STUDY) == (2350, 300)
    assert costs.Size(people=2, photos=6).split(STUDY) == (2, 2)


def test_time_by_stage(measured):
    found = costs.times(measured, STUDY, SIZE)
    assert {stage: time.total for stage, time in found.items()} == pytest.approx(
        {
            "data": 500 / 100,
            "features": 500 / 10 + 500 / 50,
            "train": 60 * 400 * 0.001,
            "attack": 50 / 4 + 50 / 50,
            # Clean, and one level of two attacks.
            "evaluate": 50 * 3 / 8 + 50 / 50 + 50 * 2 / 20,
            "explain": 2 * 3 / 2,
            # Two classes at two levels of two attacks; three layers of two photos, attacked twice;
            # five unrelated photos for each photo and class.
            "score": (50 * 2 * 4 + 2 * 2 * 3) / 10 + 50 * 2 * 5 / 40,
        }
    )
    assert found["features"].flops == 500 * 2 * 10
    assert found["attack"].flops == 50 * 2 * 10 * 2
    assert found["train"].serial == found["train"].total


def test_a_network_other_than_the_source_has_one_more_attack(measured):
    both = replace(STUDY, networks=("vgg16", "resnet50"))
    assert costs.attacked_levels(both, "vgg16") == 3
    assert costs.attacked_levels(both, "resnet50") == 2
    time = costs.times(measured, both, SIZE)["evaluate"]
    assert time.network == pytest.approx(50 * (4 + 3) / 8)


def test_counts_and_stages_are_those_of_the_tasks(photo_folder, tmp_path, measured):
    networks = ("vgg16", "resnet50", "xception")
    study = parse({"name": "a", "networks": networks, "batch_size": 8, "arms": ["plain"]})
    listing = list_photos(str(photo_folder), classes=None, min_photos=3, seed=0)
    chosen = dict.fromkeys(networks, Weights("random"))
    plan = make_plan(study, listing, chosen, run=tmp_path / "run", models=tmp_path / "models")
    arm = plan.arms["plain"]
    for network in networks:
        evaluated = arm.evaluate[network].epsilons | arm.transfer[network].epsilons
        levels = evaluated.values()
        assert costs.scored_levels(study, network) == sum(map(len, levels))
        assert costs.attacked_levels(study, network) == sum(map(np.count_nonzero, levels))
        assert costs.explained_conditions(study, network) == len(arm.explain[network].conditions)
        assert costs.scored_targets(study) == len(arm.score[network].targets)
    stages = {throughput.stage_of(task) for task in plan.tasks}
    assert stages == {*costs.times(measured, STUDY, SIZE), "summaries"}


def test_training_time_is_a_straight_line_through_the_measured_points(measured):
    assert costs.seconds_to_train(measured, 50) == pytest.approx(0.001)
    assert costs.seconds_to_train(measured, 9131) == pytest.approx(0.01)
    assert costs.seconds_to_train(measured, (50 + 9131) / 2) == pytest.approx(0.0055)


def test_disk_and_files(measured):
    found = costs.disk(measured, STUDY, SIZE)
    # Signs of 224 x 224 x 3 bytes, and a header of 128 bytes in each file of 32 photos.
    assert found["attack"] == 50 * (150528 + 4)
    assert found["features"] == 500 * (6 * 4 + 4)
    # Three conditions, three classes, 7 x 7. Rows: two attacks, one of them under two names.
    assert found["evaluate"] == 50 * (3 * (3 * 49 * 4 + 4) + 6 * 30)
    assert found["explain"] == 2 * 3 * (100 * 4 + 3 * 128)
    assert found["score"] == 50 * 6 * 2 * 2 * 50
    # 16 slices of features; signs, heatmaps, predictions and scores of 2; 2 files of 2 examples.
    assert costs.files(STUDY, SIZE) == 16 + 4 * 2 + 2 * 2


def test_share_of_peak_counts_a_backward_pass_as_another_forward(measured):
    assert throughput.share_of_peak(measured, "vgg16", "forward") == pytest.approx(0.2)
    assert throughput.share_of_peak(measured, "vgg16", "attack") == pytest.approx(0.16)


def test_the_papers_study_with_some_of_its_networks_has_a_source():
    study = throughput.paper(["vgg16"], 4)
    assert (study.arms, study.source, study.batch_size) == (("plain",), "vgg16", 4)
    assert throughput.paper(["vgg16", "resnet50"], 4).source == "resnet50"


def test_photos_of_noise_are_different_files(tmp_path):
    paths = rates.write_photos(tmp_path, 2, 1)
    assert len(paths) == len({path.read_bytes() for path in paths}) == 2
    assert rates.per_second(lambda: None, 1, 1) > 0


def test_hours_on_gpus(measured):
    measured["cores"] = 2
    time = costs.Time(network=99, processor=7200, serial=3600, flops=7.2e16)
    assumed = scale.Assumed(tflops=10, price=2, cores=4)
    # Two hours of passes, one on the processor, and one that only one process can work.
    assert scale.hours(time, measured, 1, assumed) == pytest.approx(2 + 1 + 1)
    assert scale.hours(time, measured, 8, assumed) == pytest.approx(2 / 8 + 1 / 8 + 1)


def test_the_tables_of_the_page_are_up_to_date():
    page = scale.PAGE.read_text()
    found = {
        name: make(scale.measurements(), scale.Assumed()) for name, make in scale.TABLES.items()
    }
    assert all(f"<!-- made: {name} -->" in page for name in found)
    assert scale.filled(page, found) == page


def test_the_table_of_determinism_has_the_labels_of_its_page():
    rows = re.findall(r"(?m)^\|.*\|$", scale.PAGE.with_name("determinism.md").read_text())
    header, _, *rows = ([cell.strip() for cell in row.split("|")[1:-1]] for row in rows)
    run = dict.fromkeys(("logits", "signs", "nissim", "head", "head right", "map a"), np.ones(1))
    assert header == ["network", "change", *determinism.differences(run, run)]
    titles = [title(network) for network in determinism.NETWORKS]
    assert [row[:2] for row in rows] == [[t, c] for t in titles for c in determinism.CHANGES]


def test_each_of_several_empty_places_is_filled():
    empty = "<!-- made: a -->\n<!-- end -->\nbetween\n<!-- made: b -->\n<!-- end -->\n"
    page = scale.filled(empty, {"a": "first", "b": "second"})
    assert [page.count(word) for word in ("first", "between", "second", "end")] == [1, 1, 1, 2]
    assert scale.filled(page, {"a": "first", "b": "second"}) == page
