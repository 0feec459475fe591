"""Which variations of a study there are, and what each shares with the study."""

import dataclasses
from pathlib import Path

import pytest

from gradcam_adv.study import config, variations

MODELS = Path("models/two")


def parse(**changes):
    content = {"name": "two", "networks": ["vgg16", "xception"], "source": "vgg16", **changes}
    return config.parse(content)


def test_every_reading_is_varied_alone_and_with_the_unit_of_epsilon():
    varied = variations.of_readings(parse(), native_fits=True)
    assert list(varied) == [
        "epsilon_unit = network",
        "preprocessing = unit",
        "perturbed_set = png",
        "perturbed_set = jpeg",
        "attacked_label = predicted",
        "explained_class = clean",
        "explained_class = true",
        "vid_levels = all",
        "heatmap_size = native",
        "epsilon_unit = network, perturbed_set = png",
        "epsilon_unit = network, perturbed_set = jpeg",
        "epsilon_unit = network, attacked_label = predicted",
        "epsilon_unit = network, explained_class = clean",
        "epsilon_unit = network, explained_class = true",
        "epsilon_unit = network, vid_levels = all",
    ]
    for name, own in varied.items():
        for change in name.split(", "):
            key, value = change.split(" = ")
            assert getattr(own.readings, key) == value


def test_readings_are_varied_from_the_choices_of_the_study():
    varied = variations.of_readings(
        parse(readings={"epsilon_unit": "network", "perturbed_set": "jpeg"}), native_fits=True
    )
    assert "epsilon_unit = pixel" in varied
    assert "epsilon_unit = network" not in varied
    assert varied["epsilon_unit = pixel"].readings.perturbed_set == "jpeg"
    assert varied["perturbed_set = png"].readings.epsilon_unit == "network"
    assert "epsilon_unit = pixel, perturbed_set = float32" in varied


def test_readings_that_change_no_perturbed_set_keep_all_attacks():
    own = parse()
    varied = variations.of_readings(own, native_fits=True)
    for name in ("explained_class = true", "vid_levels = all", "heatmap_size = native"):
        assert varied[name].threat_models == own.threat_models == ("white-box", "transfer")
    for name in ("epsilon_unit = network", "preprocessing = unit", "perturbed_set = png"):
        assert varied[name].threat_models == ()
    paired = varied["epsilon_unit = network, explained_class = true"]
    assert paired.threat_models == varied["epsilon_unit = network"].threat_models


@pytest.mark.parametrize(
    ("size", "expected"),
    [(144, ["image_size = 299", "image_size = 299, heatmap_size = native"]), (299, [])],
)
def test_the_native_size_is_compared_on_larger_images_if_the_window_does_not_fit(size, expected):
    varied = variations.of_readings(parse(image_size=size), native_fits=False)
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
    assert {one.seeds for one in variations.of_readings(own, native_fits=True).values()} == {(3,)}


def test_variations_with_other_models_have_an_own_folder_of_models():
    own = parse(seeds=[0, 7])
    varied = variations.of_readings(own, native_fits=False)
    folders = {
        name: variations.models_folder(MODELS, own, variation).relative_to(MODELS).as_posix()
        for name, variation in varied.items()
    }
    assert folders["preprocessing = unit"] == "preprocessing-unit"
    assert folders["image_size = 299"] == folders["image_size = 299, heatmap_size = native"]
    assert folders["image_size = 299"] == "image_size-299"
    others = {name for name, folder in folders.items() if folder != "."}
    assert others == {name for name in varied if "preprocessing" in name or "image_size" in name}
    seed = variations.of_seeds(own)[7]
    assert variations.models_folder(MODELS, own, seed) == MODELS / "seed-7"
