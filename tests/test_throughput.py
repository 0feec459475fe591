"""The count of a network's operations, and what is reckoned from measured rates, by hand."""

from dataclasses import replace

import keras
import pytest

from benchmarks import costs, flops, rates, scale, throughput
from gradcam_adv.study.config import Study


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


def test_a_layer_that_is_not_known_to_be_counted_is_refused():
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2DTranspose(4, 3, name="up")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(x)))
    with pytest.raises(ValueError, match="Received: up, a Conv2DTranspose"):
        flops.multiply_adds(model)


# He et al., 2016, table 1: Keras' ResNet50 is that one, with strides in the first convolution of a
# block. The later variant, of 4.1e9, has them in the second.
def test_operations_of_resnet50_are_those_published():
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


# The attack's source: black-box and noise, at two levels each.
STUDY = Study(
    "small", networks=("resnet50",), epsilons=(0.0, 0.1), attacks=("white-box",), examples=2
)
SIZE = costs.Size(people=50, photos=500)


def test_a_persons_photos_are_split_as_a_study_splits_them():
    assert SIZE.split(STUDY) == (400, 50)
    assert costs.Size(people=50, photos=2950).split(STUDY) == (2350, 300)
    assert costs.Size(people=2, photos=6).split(STUDY) == (2, 2)


def test_time_by_stage_by_hand(measured):
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
            # five strangers a photo and class.
            "score": (50 * 2 * 4 + 2 * 2 * 3) / 10 + 50 * 2 * 5 / 40,
        }
    )
    assert found["features"].flops == 500 * 2 * 10
    assert found["attack"].flops == 50 * 2 * 10 * 2
    assert found["train"].serial == found["train"].total


def test_a_network_that_is_not_the_source_has_an_attack_more(measured):
    both = replace(STUDY, networks=("vgg16", "resnet50"))
    assert costs.attacked_levels(both, "vgg16") == 3
    assert costs.attacked_levels(both, "resnet50") == 2
    time = costs.times(measured, both, SIZE)["evaluate"]
    assert time.network == pytest.approx(50 * (4 + 3) / 8)


def test_training_is_a_straight_line_through_what_was_measured(measured):
    assert costs.seconds_to_train(measured, 50) == pytest.approx(0.001)
    assert costs.seconds_to_train(measured, 9131) == pytest.approx(0.01)
    assert costs.seconds_to_train(measured, (50 + 9131) / 2) == pytest.approx(0.0055)


def test_disk_and_files_by_hand(measured):
    found = costs.disk(measured, STUDY, SIZE)
    # Signs of 224 x 224 x 3 bytes, and 128 bytes of header in each file of 32.
    assert found["attack"] == 50 * (150528 + 4)
    assert found["features"] == 500 * (6 * 4 + 4)
    # Three conditions, three classes, 7 x 7; rows: two attacks, and the white-box one once more.
    assert found["evaluate"] == 50 * (3 * (3 * 49 * 4 + 4) + 6 * 30)
    assert found["explain"] == 2 * 3 * (100 * 4 + 3 * 128)
    assert found["score"] == 50 * 6 * 2 * 2 * 50
    # 16 slices of features; signs, heatmaps, answers and scores of 2; two files of two examples.
    assert costs.files(STUDY, SIZE) == 16 + 4 * 2 + 2 * 2


def test_share_of_peak_counts_a_backward_pass_as_another_forward(measured):
    assert throughput.share_of_peak(measured, "vgg16", "forward") == pytest.approx(0.2)
    assert throughput.share_of_peak(measured, "vgg16", "attack") == pytest.approx(0.16)


def test_the_papers_study_with_some_networks_keeps_a_source():
    own = throughput.paper(["vgg16"], 4)
    assert (own.arms, own.source, own.batch_size) == (("plain",), "vgg16", 4)
    assert throughput.paper(["vgg16", "resnet50"], 4).source == "resnet50"


def test_rates_of_the_processor_are_of_photos_that_can_be_read(tmp_path):
    paths = rates.write_photos(tmp_path, 2, 1)
    assert len(paths) == len({path.read_bytes() for path in paths}) == 2
    assert rates.per_second(lambda: None, 1, 1) > 0


def test_hours_on_gpus_by_hand(measured):
    measured["cores"] = 2
    time = costs.Time(network=99, processor=7200, serial=3600, flops=7.2e16)
    assumed = scale.Assumed(tflops=10, price=2, cores=4)
    # Two hours of passes, 1 of the processor's, 1 that nobody can share.
    assert scale.hours(time, measured, 1, assumed) == pytest.approx(2 + 1 + 1)
    assert scale.hours(time, measured, 8, assumed) == pytest.approx(2 / 8 + 1 / 8 + 1)


def test_the_pages_tables_are_those_that_the_command_makes():
    page = scale.PAGE.read_text()
    found = {name: make(scale.read(), scale.Assumed()) for name, make in scale.TABLES.items()}
    assert all(f"<!-- made: {name} -->" in page for name in found)
    assert scale.filled(page, found) == page


def test_empty_places_one_after_another_are_each_filled():
    empty = "<!-- made: a -->\n<!-- end -->\nbetween\n<!-- made: b -->\n<!-- end -->\n"
    page = scale.filled(empty, {"a": "first", "b": "second"})
    assert [page.count(word) for word in ("first", "between", "second", "end")] == [1, 1, 1, 2]
    assert scale.filled(page, {"a": "first", "b": "second"}) == page
