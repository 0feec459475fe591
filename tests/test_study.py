"""Study files: defaults, the files shipped, and errors that name the wrong key."""

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from gradcam_adv.paper import printed
from gradcam_adv.study import checks, config, settings
from gradcam_adv.study.attacks import (
    attacks_on,
    further_on,
    made_at,
    makers_of,
    of_study,
    settings_of,
    transfers_to,
    unit_of,
)
from gradcam_adv.study.stages.evaluate import Evaluate

SHIPPED = Path(__file__).parents[1] / "studies"


def parse(**content):
    return config.parse({"name": "x"} | content)


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.toml")), ids=lambda path: path.stem)
def test_a_shipped_study_can_be_read(path):
    assert config.read(path).name == path.stem


def test_the_study_of_the_paper_has_the_settings_of_the_paper():
    read = config.read(SHIPPED / "paper.toml")
    assert read.classes == 50
    assert read.split == (0.8, 0.1, 0.1)
    assert read.epochs == 60
    assert read.epsilons == printed.EPSILONS
    assert read.source == "resnet50"
    assert read.networks == tuple(printed.TABLE_1.columns)
    assert read.readings == settings.Readings()


def test_the_default_of_a_reading_is_its_first_choice():
    for name, value in vars(settings.Readings()).items():
        choices = settings.reading_choices(name)
        assert choices[0] == value
        assert len(choices) > 1


def test_a_study_without_a_name_is_named_after_its_file(tmp_path):
    (tmp_path / "mine.toml").write_text("epochs = 3")
    assert config.read(tmp_path / "mine.toml").name == "mine"


def test_overrides_replace_the_keys_of_the_file_unless_they_are_none(tmp_path):
    (tmp_path / "mine.toml").write_text('photos = "a"\nweights = "random"')
    read = config.read(tmp_path / "mine.toml", photos="b", weights=None)
    assert (read.photos, read.weights) == ("b", "random")


def test_epsilons_are_sorted_and_zero_is_always_among_them():
    read = parse(epsilons=[0.1, 0.05, 0.1])
    assert read.epsilons == (0.0, 0.05, 0.1)
    assert read.attacked_epsilons == read.vid_epsilons == (0.05, 0.1)
    with_zero = parse(epsilons=[0.1, 0.05], readings={"vid_levels": "all"})
    assert with_zero.vid_epsilons == (0.0, 0.05, 0.1)


def test_arms_and_threat_models_come_in_a_fixed_order():
    read = parse(arms=["aligned", "plain"], threat_models=["transfer", "white-box"])
    assert read.arms == ("plain", "aligned")
    assert read.threat_models == parse().threat_models == ("white-box", "transfer")
    assert parse(threat_models=["white-box"]).threat_models == ("white-box",)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("pgd", {"pgd": {}}),
        (["pgd", "fgsm"], {"pgd": {}, "fgsm": {}}),
        ({"pgd": {"steps": 3}, "fgsm": {}}, {"pgd": {"steps": 3}, "fgsm": {}}),
    ],
)
def test_attacks_are_a_name_a_list_or_a_table_of_settings(given, expected):
    study = parse(attack=given)
    assert study.attack == expected and list(study.attack) == list(expected)
    assert (study.own_attack, study.further_attacks) == (next(iter(expected)), tuple(expected)[1:])
    # As a manifest has it.
    assert parse(attack=json.loads(json.dumps(dataclasses.asdict(study)["attack"]))) == study


def test_fgsm_is_the_attack_by_default():
    assert parse().attack == parse(attack="fgsm").attack == {"fgsm": {}}
    assert parse().further_attacks == ()


def test_all_settings_of_an_attack():
    study = parse(attack={"mi-fgsm": {"decay": 0.5}}, seed=7)
    found = settings_of(study, "mi-fgsm")
    assert (found["decay"], found["steps"], found["seed"]) == (0.5, 10, 7)
    assert "targeted" not in found
    assert settings_of(parse(attack={"pgd": {"seed": 3}}, seed=7), "pgd")["seed"] == 3


def test_the_epsilons_at_which_an_attack_is_made():
    """For its own unit with those of the gain and the controls; on other networks the largest."""
    further = {"gain_epsilons": [0.01], "control_epsilons": [0.2]}
    units = {"readings": {"epsilon_unit": "network"}}
    study = parse(attack=["pgd", "mi-fgsm"], **THREE, **further, **units)
    of = {name: unit_of(study, name) for name in study.networks}
    assert of == {"vgg16": 1 / 255, "resnet50": 1 / 255, "xception": 1 / 2}
    assert made_at(study, "pgd", "vgg16", of["resnet50"]) == (0.01, 0.05, 0.1, 0.2)
    assert made_at(study, "pgd", "vgg16", of["xception"]) == (0.1,)
    assert made_at(study, "pgd", "resnet50", of["xception"]) == (0.05, 0.1)  # the source
    assert made_at(study, "mi-fgsm", "vgg16", of["vgg16"]) == (0.05, 0.1)
    variation = dataclasses.replace(study, threat_models=())
    assert made_at(variation, "pgd", "resnet50", of["resnet50"]) == (0.05, 0.1)


def test_further_attacks_on_a_network():
    study = parse(attack=["fgsm", "pgd"], **THREE)
    both = dict.fromkeys(("black-box pgd", "white-box pgd"), (0.0, 0.05, 0.1))
    assert further_on(study, "vgg16", "pgd") == both
    assert further_on(study, "resnet50", "pgd") == {"black-box pgd": (0.0, 0.05, 0.1)}
    assert list(attacks_on(study, "vgg16")) == list(attacks_on(parse(**THREE), "vgg16"))


def test_seeds_keep_the_order_given():
    assert parse(seeds=[2, 0, 1]).seeds == (2, 0, 1)


THREE = {"networks": ["vgg16", "resnet50", "xception"], "epsilons": [0.05, 0.1]}


@pytest.mark.parametrize(
    ("network", "made", "at_every_epsilon", "at_the_largest"),
    [
        ("vgg16", ["transfer"], ["black-box", "noise", "white-box"], ["from xception"]),
        ("vgg16", [], ["black-box", "noise", "white-box"], []),
        # On the source the black-box attack is the white-box attack.
        ("resnet50", ["transfer"], ["black-box", "noise"], ["from vgg16", "from xception"]),
    ],
)
def test_the_attacks_on_a_network_and_their_epsilons(
    network, made, at_every_epsilon, at_the_largest
):
    none = {key: [] for key in ("gain_epsilons", "noise_epsilons", "control_epsilons")}
    study = parse(threat_models=["white-box", *made], **THREE, **none)
    expected = dict.fromkeys(at_every_epsilon, (0.0, 0.05, 0.1))
    expected |= dict.fromkeys(at_the_largest, (0.1,))
    attacks = attacks_on(study, network) | transfers_to(study, network)
    assert {name: levels for name, levels in attacks.items() if levels} == expected


@pytest.mark.parametrize(
    ("network", "own"), [("vgg16", (0.0, 0.01, 0.05, 0.1)), ("resnet50", (0.01,))]
)
def test_the_further_epsilons_of_the_gain(network, own):
    """On the source the white-box attack at the study's epsilons is the black-box attack."""
    further = {"gain_epsilons": [0.05, 0.01], "noise_epsilons": [0.3, 0.01]}
    study = parse(threat_models=["white-box"], **THREE, **further, control_epsilons=[0.2])
    assert attacks_on(study, network) == {
        "black-box": (0.0, 0.05, 0.1),
        "noise": (0.0, 0.01, 0.05, 0.1, 0.3),
        "white-box": own,
        "mirrored": (0.2,),
        "other photo": (0.2,),
    }
    drawn_again = attacks_on(dataclasses.replace(study, noise_draws=3), network)
    assert drawn_again.keys() - attacks_on(study, network).keys() == {"noise 2", "noise 3"}
    assert drawn_again["noise 3"] == drawn_again["noise"]
    variation = dataclasses.replace(study, threat_models=(), noise_draws=3)
    assert attacks_on(variation, network) == dict.fromkeys(("black-box", "noise"), study.epsilons)


def test_the_rows_of_the_study_are_at_its_epsilons_and_not_the_gain_s_controls():
    attacks = ["noise", "noise", "mirrored", "other photo", "white-box"]
    table = pd.DataFrame({"attack": attacks, "epsilon": [0.1, 0.3, 0.1, 0.1, 0.1]})
    assert of_study(table, (0.0, 0.1)).index.tolist() == [0, 4]


def test_the_network_on_which_an_attack_is_made():
    made_on = {"black-box": "resnet50", "from xception": "xception"}
    made_on |= dict.fromkeys(("white-box", "mirrored", "other photo"), "vgg16")
    assert makers_of(parse(**THREE), "vgg16") == made_on


TWO = {"networks": ["vgg16", "xception"], "source": "vgg16"}


@pytest.mark.parametrize(
    ("layers", "of_vgg16", "of_xception"),
    [
        ("all", "all", "all"),
        ("blocks", "blocks", "blocks"),
        (["conv", "last"], ("conv", "last"), ("conv", "last")),
        ([0, -1, "blocks"], (0, -1, "blocks"), (0, -1, "blocks")),
        (
            {"vgg16": ["block1_conv2", -1, "last"], "xception": "blocks"},
            ("block1_conv2", -1, "last"),
            ("blocks",),
        ),
    ],
)
def test_layers_are_a_group_a_list_or_a_table_of_networks(layers, of_vgg16, of_xception):
    read = parse(layers=layers, **TWO)
    assert (read.layers_of("vgg16"), read.layers_of("xception")) == (of_vgg16, of_xception)


def test_all_layers_are_the_default():
    assert parse().layers_of("vgg16") == "all"


@pytest.mark.parametrize("layers", ["blocks", ["block1_conv2", "last"], [0, -1, 17]])
def test_layers_that_a_network_has_pass_the_check(layers):
    table = {"vgg16": layers}
    checks.check_layers(parse(layers=table, image_size=64, networks=["vgg16"], source="vgg16"))


@pytest.mark.parametrize(
    ("layer", "received"),
    [
        ("block1_conv9", r"'block1_conv9'. Nearest: block1_conv\d"),
        (18, "18. Nearest"),
        (-19, "-19. Nearest"),
    ],
)
def test_a_layer_that_a_network_does_not_have_is_refused(layer, received):
    table = {"vgg16": ["last", layer]}
    own = parse(layers=table, image_size=64, networks=["vgg16"], source="vgg16")
    with pytest.raises(ValueError, match=rf"its index from -18 to 17, .*Received: {received}"):
        checks.check_layers(own)


def test_a_network_whose_last_maps_have_one_position_is_refused():
    own = parse(image_size=32, networks=["resnet50"], source="resnet50")
    with pytest.raises(ValueError, match="'conv5_block3_out', whose 1 x 1 positions are none of"):
        checks.check_layers(own)


KNOWN_READINGS = (
    "Expected keys out of epsilon_unit, preprocessing, pooling, attacked_label, "
    "stored_perturbation, clean_resizing, explained_score, explained_class, perturbed_set, "
    "heatmap_size, compared, ssim, vid_levels. Received: readings."
)
LAYERS = "layers as one of all, conv, blocks, last, a list of these, or a table of network = list"

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
    ({"threat_models": ["noise"]}, "threat_models as a list out of white-box, transfer, each at"),
    ({"threat_models": "white-box"}, "threat_models as a list out of"),
    ({"threat_models": ["transfer"]}, r"as a list with white-box. Received: \['transfer'\]"),
    ({"attack": "cw"}, "attack as one of fgsm, pgd, .*Received: 'cw'"),
    ({"attack": []}, r"attack as the name of an attack, a list of names, or a table .*: \[\]"),
    ({"attack": {}}, r"attack as the name of an attack, .*Received: \{\}"),
    ({"attack": ["pgd", "pgd"]}, "attack as the name of an attack, a list of names"),
    ({"attack": [["pgd"]]}, "attack as one of fgsm"),
    ({"attack": {"pgd": 3}}, "attack.pgd as a table of settings. Received: 3"),
    ({"attack": {"pgd": {"stepz": 3}}}, "attack.pgd.stepz. Nearest: attack.pgd.steps."),
    ({"attack": {"pgd": {"targeted": True}}}, "keys out of norm, .*Received: attack.pgd.targeted"),
    ({"attack": {"fgsm": {"steps": 3}}}, "no keys of attack.fgsm. Received: attack.fgsm.steps"),
    ({"seeds": []}, r"seeds as a list of whole numbers, each once. Received: \[\]"),
    ({"seeds": 3}, "seeds as a list of whole numbers, each once. Received: 3"),
    ({"seeds": [1, 1]}, "seeds as a list of whole numbers, each once"),
    ({"seeds": [0, -1]}, "seeds as a whole number, 0 or more. Received: -1"),
    ({"seeds": [True]}, "seeds as a whole number, 0 or more. Received: True"),
    ({"margin": -0.1}, "margin as a number from 0 to 2. Received: -0.1"),
    ({"image_size": 224.0}, "image_size as a whole number"),
    ({"epochs": True}, "epochs as a whole number"),
    ({"precision": "half"}, "precision as one of float32, mixed_float16, mixed_bfloat16"),
    ({"measure": "ssim"}, "measure as one of nissim, spearman, top, region"),
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
    ({"gain_epsilons": 0.1}, "gain_epsilons as a list of numbers above 0"),
    ({"noise_epsilons": [0.1, 0]}, "noise_epsilons as numbers above 0, at most 1. Received: 0"),
    ({"noise_draws": 0}, "noise_draws as a whole number, 1 or more. Received: 0"),
    (
        {"insertion_epsilons": [0.01, 0.02]},
        "insertion_epsilons as sizes out of epsilons and "
        r"gain_epsilons, 0.001, .*, 0.1. Received: \[0.01, 0.02\]",
    ),
    ({"control_epsilons": [1.5]}, "control_epsilons as numbers above 0, at most 1. Received: 1.5"),
    ({"networks": ["vgg61"]}, "network out of vgg16, .*Received: 'vgg61'. Nearest: .*vgg16"),
    ({"networks": []}, "networks as a list"),
    ({"networks": [["vgg16"]]}, r"a network out of .*Received: \['vgg16'\]"),
    ({"epsilons": [10**400]}, "epsilons as numbers"),
    ({"seed": 2**32}, "seed as a whole number below 2"),
    ({"source": "resnet5"}, "Nearest: resnet50"),
    ({"networks": ["vgg16", "vgg16"]}, "networks as a list of networks, each once"),
    ({"networks": ["vgg16"]}, "source as one of the study's networks, vgg16. Received: 'resnet50'"),
    ({"readings": {"heatmap_layer": "last activation"}}, KNOWN_READINGS + "heatmap_layer"),
    (
        {"readings": {"ssim": "uniform 7"}},
        "readings.ssim as one of uniform, range 2, gaussian. Received: 'uniform 7'",
    ),
    (
        {"readings": {"explained_score": "hidden", "explained_class": "clean"}},
        "readings.explained_class as predicted where explained_score = hidden.*Received: 'clean'",
    ),
    (
        {"measure": "hog", "readings": {"compared": "jet"}},
        "measure as nissim where compared = jet and ssim = uniform. Received: 'hog'",
    ),
    (
        {"readings": {"compared": "overlays", "heatmap_size": "native"}},
        "readings.heatmap_size as input where compared = overlays. Received: 'native'",
    ),
    ({"layers": "some"}, LAYERS + r". Received: 'some'"),
    ({"layers": "block1_conv1"}, LAYERS + r". Received: 'block1_conv1'"),
    ({"layers": ["conv", "block1_conv1"]}, LAYERS + r". Received: \['conv', 'block1_conv1'\]"),
    ({"layers": {}}, LAYERS + r". Received: \{\}"),
    ({"layers": []}, r"layers as a list of groups, names or indices, not empty. Received: \[\]"),
    ({"layers": 3}, "layers as a list of groups, names or indices, not empty. Received: 3"),
    ({"layers": [True]}, "layers as a list of groups, names or indices.*Received: .True"),
    ({"layers": [1.0]}, "layers as a list of groups, names or indices.*Received: .1.0"),
    ({"layers": {"vgg16": []}}, "layers as a list of groups, names or indices"),
    ({"layers": {"vgg16": [["last"]]}}, "layers as a list of groups, names or indices"),
    ({"layers": {"vgg61": "all"}}, "network out of vgg16, .*Received: 'vgg61'. Nearest: vgg16"),
    (
        {"layers": {"vgg16": ["block1_conv1"]}},
        "layers of every network of the study, also resnet50",
    ),
    ({"image_size": 70}, "image_size of at least 75 for InceptionNet v3. Received: 70"),
    ({"image_size": 70, "networks": ["resnet50", "xception"]}, "at least 71 for XceptionNet"),
    ({"image_size": 31, "networks": ["resnet50"]}, "at least 32 for ResNet50"),
]


@pytest.mark.parametrize(("content", "message"), REFUSED)
def test_a_wrong_value_is_refused(content, message):
    with pytest.raises(ValueError, match=message):
        parse(**content)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match="Expected a study file.*Received: .*none.toml"):
        config.read(tmp_path / "none.toml")


def test_a_file_that_is_no_toml_is_refused(tmp_path):
    (tmp_path / "bad.toml").write_text("epochs = = 3")
    with pytest.raises(ValueError, match="study file in TOML. Received: .*bad.toml"):
        config.read(tmp_path / "bad.toml")


@pytest.mark.parametrize(
    ("people", "others"),
    [
        ("aabbcc", [3, 4, 5, 0, 1, 2]),
        # Half of the set away is the same person, so the next one of another person is taken.
        ("aaab", [3, 3, 3, 1]),
        ("aabaa", [2, 2, 4, 2, 2]),
    ],
)
def test_the_other_photo_is_of_another_person_half_of_the_set_away(people, others):
    photos = SimpleNamespace(test=pd.DataFrame({"identity": list(people)}))
    task = SimpleNamespace(photos=photos)
    assert [Evaluate.of_another(task, row) for row in range(len(people))] == others
