"""Which variations of a study there are, and what each shares with the study."""

import dataclasses
import re
from pathlib import Path

import pytest

from gradcam_adv.models.backbones import of_paper
from gradcam_adv.study import config, settings, variations

MODELS = Path("models/two")


def parse(**changes):
    content = {"name": "two", "networks": ["vgg16", "xception"], "source": "vgg16", **changes}
    return config.parse(content)


def named(own, **given):
    varied, _ = variations.of_readings(own, **{"native_fits": True, **given})
    return varied


def test_every_reading_is_varied_alone_and_in_pairs():
    varied = named(parse())
    assert list(varied) == [
        "epsilon_unit = network",
        "preprocessing = unit",
        "preprocessing = tf",
        "clean_resizing = nearest",
        "stored_perturbation = png",
        "stored_perturbation = jpeg",
        "perturbed_set = png",
        "perturbed_set = jpeg",
        "attacked_label = predicted",
        "attacked_label = next",
        "explained_score = hidden",
        "explained_class = clean",
        "explained_class = true",
        "compared = jet",
        "compared = overlays",
        "ssim = range 2",
        "ssim = gaussian",
        "pooling = flatten",
        "vid_levels = all",
        "heatmap_size = native",
        "image_size = 299",
        "preprocessing = tf, epsilon_unit = network",
        "epsilon_unit = network, perturbed_set = png",
        "epsilon_unit = network, perturbed_set = jpeg",
        "epsilon_unit = network, attacked_label = predicted",
        "epsilon_unit = network, attacked_label = next",
        "epsilon_unit = network, explained_class = clean",
        "epsilon_unit = network, explained_class = true",
        "epsilon_unit = network, vid_levels = all",
        "epsilon_unit = network, clean_resizing = nearest",
        "stored_perturbation = png, attacked_label = predicted",
        "stored_perturbation = png, attacked_label = next",
        "stored_perturbation = jpeg, attacked_label = predicted",
        "stored_perturbation = jpeg, attacked_label = next",
    ]
    for name, own in varied.items():
        for change in name.split(", "):
            key, value = change.split(" = ")
            if key == "image_size":
                assert own.image_size == int(value)
            else:
                assert getattr(own.readings, key) == value
    assert {key for name in varied for key in re.findall(r"(\w+) = ", name)} == {
        "image_size",
        *(field.name for field in dataclasses.fields(settings.Readings)),
    }


def test_a_reading_that_does_not_fit_the_study_is_left_out_with_the_reason():
    varied, left_out = variations.of_readings(
        parse(readings={"explained_class": "true", "heatmap_size": "native"}), native_fits=True
    )
    assert not {"explained_score = hidden", "compared = overlays"} & {*varied}
    assert set(left_out) == {
        "explained_score = hidden",
        "compared = overlays",
        "residual_networks = v2",
    }
    assert "whose units are no classes" in left_out["explained_score = hidden"]
    assert "heatmap_size as input" in left_out["compared = overlays"]


def test_version_2_of_the_residual_networks_stands_for_the_paper_s_where_there_are_any():
    own = parse(networks=["vgg16", "resnet50", "resnet101"], source="resnet50")
    varied, left_out = variations.of_readings(own, native_fits=True)
    second = varied["residual_networks = v2"]
    assert second.networks == ("vgg16", "resnet50v2", "resnet101v2")
    assert second.source == "resnet50v2" and second.threat_models == ()
    assert [*map(of_paper, second.networks)] == [*own.networks]
    assert left_out == {}
    _, left_out = variations.of_readings(parse(), native_fits=True)
    assert left_out == {
        "residual_networks = v2": "Expected ResNet50 or ResNet101 among the networks. "
        "Received: neither"
    }


def test_readings_are_varied_from_the_choices_of_the_study():
    varied = named(parse(readings={"epsilon_unit": "network", "perturbed_set": "jpeg"}))
    assert "epsilon_unit = pixel" in varied
    assert "epsilon_unit = network" not in varied
    assert varied["epsilon_unit = pixel"].readings.perturbed_set == "jpeg"
    assert varied["perturbed_set = png"].readings.epsilon_unit == "network"
    assert "epsilon_unit = pixel, perturbed_set = float32" in varied


def test_readings_that_change_no_perturbed_set_keep_all_attacks():
    own = parse()
    varied = named(own)
    for name in ("explained_class = true", "vid_levels = all", "heatmap_size = native"):
        assert varied[name].threat_models == own.threat_models == ("white-box", "transfer")
    for name in ("epsilon_unit = network", "preprocessing = unit", "ssim = gaussian"):
        assert varied[name].threat_models == ()
    paired = varied["epsilon_unit = network, explained_class = true"]
    assert paired.threat_models == varied["epsilon_unit = network"].threat_models


@pytest.mark.parametrize(
    ("size", "expected"),
    [(144, ["image_size = 299, heatmap_size = native", "image_size = 299"]), (299, [])],
)
def test_the_native_size_is_compared_on_larger_images_if_the_window_does_not_fit(size, expected):
    varied = named(parse(image_size=size), native_fits=False)
    assert [name for name in varied if "size" in name] == expected
    assert all(varied[name].image_size == 299 for name in expected)
    assert all(own.image_size in (size, 299) for own in varied.values())


def test_seeds_train_other_heads_with_only_the_attacks_needed():
    own = parse(seeds=[3, 1, 2])
    varied = variations.of_seeds(own)
    assert {seed: one.seeds for seed, one in varied.items()} == {1: (1,), 2: (2,)}
    for one in varied.values():
        assert one.seed == own.seed and one.threat_models == ("white-box",)
    two_seeds = dataclasses.replace(own, seeds=(0, 1), threat_models=())
    (without,) = variations.of_seeds(two_seeds).values()
    assert without.threat_models == ()
    assert variations.of_seeds(parse()) == {}
    assert {one.seeds for one in named(own).values()} == {(3,)}


def test_variations_with_other_models_have_an_own_folder_of_models():
    own = parse(seeds=[0, 7])
    varied = named(own, native_fits=False)
    folders = {
        name: variations.models_folder(MODELS, own, variation).relative_to(MODELS).as_posix()
        for name, variation in varied.items()
    }
    assert folders["preprocessing = unit"] == "preprocessing-unit"
    assert folders["image_size = 299"] == folders["image_size = 299, heatmap_size = native"]
    assert folders["image_size = 299"] == "image_size-299"
    others = {name for name, folder in folders.items() if folder != "."}
    assert others == {
        name for name in varied if re.search("preprocessing|image_size|pooling", name)
    }
    seed = variations.of_seeds(own)[7]
    assert variations.models_folder(MODELS, own, seed) == MODELS / "seed-7"
