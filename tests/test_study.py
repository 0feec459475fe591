"""Study files: defaults, the files shipped, and refusals that name the key."""

from pathlib import Path

import pytest

from gradcam_adv.paper import tables as paper
from gradcam_adv.study import config as study

SHIPPED = Path(__file__).parents[1] / "studies"


def test_the_shipped_studies_can_be_read():
    for path in SHIPPED.glob("*.toml"):
        assert study.read(path).name == path.stem


def test_papers_study_has_the_papers_settings():
    read = study.read(SHIPPED / "paper.toml")
    assert read.classes == 50
    assert read.split == (0.8, 0.1, 0.1)
    assert read.epochs == 60
    assert read.epsilons == paper.EPSILONS
    assert read.source == "resnet50"
    assert read.networks == tuple(paper.TABLE_1.columns)
    assert read.readings == study.Readings()


def test_defaults_of_readings_are_the_first_choices():
    for name, value in vars(study.Readings()).items():
        assert study.reading_choices(name)[0] == value


def test_name_is_the_files_without_one(tmp_path):
    (tmp_path / "mine.toml").write_text("epochs = 3")
    assert study.read(tmp_path / "mine.toml").name == "mine"


def test_overrides_replace_keys_but_none_does_not(tmp_path):
    (tmp_path / "mine.toml").write_text('photos = "a"\nweights = "random"')
    read = study.read(tmp_path / "mine.toml", photos="b", weights=None)
    assert (read.photos, read.weights) == ("b", "random")


def test_zero_is_always_a_level_and_levels_are_sorted():
    read = study.parse({"name": "x", "epsilons": [0.1, 0.05, 0.1]})
    assert read.epsilons == (0.0, 0.05, 0.1)
    assert read.attacked_epsilons == (0.05, 0.1)


def test_arms_and_attacks_come_in_their_own_order():
    read = study.parse({"name": "x", "arms": ["aligned", "plain"], "attacks": ["white-box"]})
    assert read.arms == ("plain", "aligned")
    assert read.attacks == ("white-box",)
    assert study.parse({"name": "x"}).attacks == ("white-box", "transfer")


def test_seeds_stay_in_the_order_given():
    assert study.parse({"name": "x", "seeds": [2, 0, 1]}).seeds == (2, 0, 1)


REFUSED = [
    ({"epoch": 3}, "Received: epoch. Nearest: epochs"),
    ({"readings": {"epsilon_units": "pixel"}}, r"readings\.epsilon_units. Nearest: .*epsilon_unit"),
    ({"readings": {"epsilon_unit": "volt"}}, "readings.epsilon_unit as one of pixel, network"),
    ({"readings": 3}, "readings as a table"),
    ({"name": "../x"}, "name as the name of a folder. Received: '../x'"),
    ({"name": ".."}, "name as the name of a folder"),
    ({"photos": ""}, "photos as text, not empty"),
    ({"weights": 3}, "weights as text"),
    ({"classes": 1}, "classes as a whole number, 2 or more. Received: 1"),
    ({"min_photos": 2}, "min_photos as a whole number, 3 or more. Received: 2"),
    ({"min_photos": 9, "max_photos": 8}, "max_photos as at least min_photos = 9. Received: 8"),
    ({"arms": []}, "arms as a list out of plain, aligned, each at most once"),
    ({"arms": ["cropped"]}, "arms as a list out of plain, aligned"),
    ({"arms": ["plain", "plain"]}, "each at most once"),
    ({"arms": [["plain"]]}, "arms as a list out of plain, aligned"),
    ({"attacks": ["noise"]}, "attacks as a list out of white-box, transfer, each at most once"),
    ({"attacks": "white-box"}, "attacks as a list out of"),
    ({"attacks": ["transfer"]}, r"attacks as a list with white-box. Received: \['transfer'\]"),
    ({"seeds": []}, r"seeds as a list of whole numbers, each once. Received: \[\]"),
    ({"seeds": 3}, "seeds as a list of whole numbers, each once. Received: 3"),
    ({"seeds": [1, 1]}, "seeds as a list of whole numbers, each once"),
    ({"seeds": [0, -1]}, "seeds as a whole number, 0 or more. Received: -1"),
    ({"seeds": [True]}, "seeds as a whole number, 0 or more. Received: True"),
    ({"margin": -0.1}, "margin as a number from 0 to 2. Received: -0.1"),
    ({"image_size": 224.0}, "image_size as a whole number"),
    ({"epochs": True}, "epochs as a whole number"),
    ({"precision": "half"}, "precision as one of float32, mixed_float16, mixed_bfloat16"),
    ({"batch_size": 0}, "batch_size as a whole number, 1 or more"),
    ({"split": [0.8, 0.1]}, "split as three positive shares"),
    ({"split": [0.8, 0.2, 0.0]}, "split as three positive shares"),
    ({"split": [0.8, 0.1, 0.2]}, "split as three positive shares .* of sum 1"),
    ({"epsilons": [0.1, -0.1]}, "epsilons as numbers from 0 to 1.*Received: -0.1"),
    ({"epsilons": [0.1, float("nan")]}, "epsilons as numbers .*Received: nan"),
    ({"epsilons": ["0.1"]}, "epsilons as numbers .*Received: '0.1'"),
    ({"epsilons": 0.1}, "epsilons as numbers"),
    ({"epsilons": [0]}, "at least one above 0"),
    ({"epsilons": [2]}, "from 0 to 1"),
    ({"networks": ["vgg61"]}, "network out of vgg16, .*Received: 'vgg61'. Nearest: .*vgg16"),
    ({"networks": []}, "networks as a list"),
    ({"networks": [["vgg16"]]}, r"a network out of .*Received: \['vgg16'\]"),
    ({"epsilons": [10**400]}, "epsilons as numbers"),
    ({"seed": 2**32}, "seed as a whole number below 2"),
    ({"source": "resnet5"}, "Nearest: resnet50"),
    ({"networks": ["vgg16", "vgg16"]}, "networks as a list of networks, each once"),
    ({"networks": ["vgg16"]}, "source as one of the study's networks, vgg16. Received: 'resnet50'"),
    ({"layers": "some"}, "layers as 'all' or a table"),
    (
        {"layers": {"vgg16": ["block1_conv1"]}},
        "layers of every network of the study, also resnet50",
    ),
    ({"image_size": 70}, "image_size of at least 75 for InceptionNet v3. Received: 70"),
    ({"image_size": 70, "networks": ["resnet50", "xception"]}, "at least 71 for XceptionNet"),
    ({"image_size": 31, "networks": ["resnet50"]}, "at least 32 for ResNet50"),
]


@pytest.mark.parametrize(("content", "message"), REFUSED)
def test_refuses(content, message):
    with pytest.raises(ValueError, match=message):
        study.parse({"name": "x"} | content)


def test_refuses_a_missing_file(tmp_path):
    with pytest.raises(ValueError, match="Expected a study file .*Received: .*none.toml"):
        study.read(tmp_path / "none.toml")


def test_refuses_what_is_no_toml(tmp_path):
    (tmp_path / "bad.toml").write_text("epochs = = 3")
    with pytest.raises(ValueError, match="study file in TOML. Received: .*bad.toml"):
        study.read(tmp_path / "bad.toml")
