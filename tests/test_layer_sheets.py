"""Sheets of heatmaps layer by layer, of made-up examples."""

import numpy as np
import pytest
from PIL import Image

from gradcam_adv.explain.heatmaps import resize
from gradcam_adv.plots import overlays
from gradcam_adv.report import layer_sheets
from gradcam_adv.report.example_photos import Example
from gradcam_adv.report.layer_sheets import GAP, LABEL, LAYERS_A_COLUMN, MARGIN, TILE

EPSILONS = (0.0, 0.01, 0.1)


def examples(layers: int) -> list[Example]:
    """Photos of one grey each, and maps of one value each, all different."""
    return [
        Example(
            "white-box" if epsilon else "clean",
            epsilon,
            np.full((48, 48, 3), 0.2 + 0.3 * column, np.float32),
            {f"layer{i}": np.full((3, 3), (i + column) / (layers + 3)) for i in range(layers)},
            "Ann",
        )
        for column, epsilon in enumerate(EPSILONS)
    ]


def sheet(layers: int, heading: str = "title") -> Image.Image:
    labels = {f"layer{i}": f"{i}" for i in range(layers)}
    return layer_sheets.sheet(examples(layers), labels, heading)


def tile(image: Image.Image, row: int, column: int, rows: int) -> np.ndarray:
    """A tile of the first column of ``rows``, counted from the image's foot."""
    y = image.height - MARGIN - (rows - row) * (TILE + GAP)
    x = MARGIN + LABEL + column * (TILE + GAP)
    return np.asarray(image)[y : y + TILE, x : x + TILE] / 255


def test_every_tile_is_the_map_of_its_layer_and_epsilon_over_the_photo_of_that_epsilon():
    image = sheet(4)
    for column, level in enumerate(examples(4)):
        photo = np.full((TILE, TILE, 3), level.pixels[0, 0])
        np.testing.assert_allclose(tile(image, 0, column, 5), photo, atol=0.003)
        for i in range(4):
            large = np.full((TILE, TILE), level.maps[f"layer{i}"][0, 0])
            expected = overlays.mixed(photo, large)
            np.testing.assert_allclose(tile(image, i + 1, column, 5), expected, atol=0.005)


def test_maps_are_enlarged_as_heatmaps_are_scored():
    values = np.random.default_rng(0).random((7, 7), np.float32)
    np.testing.assert_allclose(layer_sheets._large(values), resize(values, TILE), atol=1e-5)


def test_many_layers_stand_in_columns_each_with_its_label():
    one, two = (np.asarray(sheet(count)) for count in (LAYERS_A_COLUMN, LAYERS_A_COLUMN + 2))
    assert one.shape[0] == two.shape[0]
    group = 2 * MARGIN + LABEL + len(EPSILONS) * (TILE + GAP)
    assert two.shape[1] == max(2 * group, layer_sheets.WIDTH)
    y = one.shape[0] - MARGIN - (LAYERS_A_COLUMN - 1) * (TILE + GAP)
    # The second column has its own labels in black, and ends after two layers.
    label = two[y : y + TILE, group : group + LABEL]
    assert label.min() < 100
    assert (two[-MARGIN - TILE :, group:] == 255).all()


@pytest.mark.parametrize("words", [2, 40])
def test_a_heading_of_any_length_fits(words):
    text = " ".join(["Labeled"] * words)
    image = np.asarray(sheet(1, text))
    assert (image[:, -MARGIN // 2 :] == 255).all()
    assert (image[: MARGIN // 2] == 255).all()
