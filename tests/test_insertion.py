"""Insertion and deletion: areas by hand, of a second library, of a perfect map; their tables."""

import functools

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from gradcam_adv import flatten, predict_logits
from gradcam_adv.metrics import deletion, insertion
from gradcam_adv.report import sections
from gradcam_adv.study.stages.insertion import ORDERS, mean_areas

# Of four pixels; the probability of class 0 is their weighted sum, that of class 1 the rest.
WEIGHTS = np.array([0.4, 0.3, 0.1, 0.05])
ONES = np.ones((1, 2, 2, 1), np.float32)
BEST = WEIGHTS.reshape(1, 2, 2)


def weighted(images):
    share = np.asarray(images, np.float64).reshape(len(images), -1) @ WEIGHTS
    with np.errstate(divide="ignore"):
        return np.maximum(np.log(np.stack([share, 1 - share], axis=1)), -1e6)


def test_areas_by_hand():
    # In the best order the probability is 0, 0.4, 0.7, 0.8, 0.85; in the reverse 0, 0.05, 0.15,
    # 0.45, 0.85. Each area is the sum without half of the ends, by 4.
    assert insertion(weighted, ONES, BEST, [0], baseline=0, steps=4) == pytest.approx([2.325 / 4])
    assert insertion(weighted, ONES, -BEST, [0], baseline=0, steps=4) == pytest.approx([1.075 / 4])
    assert deletion(weighted, ONES, BEST, [0], steps=4) == pytest.approx([1.075 / 4])
    assert deletion(weighted, ONES, -BEST, [0], steps=4) == pytest.approx([2.325 / 4])
    # In two steps: 0.85, 0.15, 0.
    assert deletion(weighted, ONES, BEST, [0], steps=2) == pytest.approx([(0.425 + 0.15) / 2])


def test_several_classes_of_the_same_order():
    found = deletion(
        weighted, np.repeat(ONES, 6, axis=0), np.repeat(BEST, 6, axis=0), [[0, 1]] * 6, steps=4
    )
    assert found.shape == (6, 2)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    np.testing.assert_allclose(found[:, 0], found[0, 0])


def small_areas():
    """A nonlinear model of 6 x 5 images with two channels, and images with maps."""
    chance = np.random.default_rng(0)
    matrix = chance.normal(size=(60, 3))

    def logits_of(images):
        return np.tanh(images.reshape(len(images), -1) @ matrix)

    return logits_of, chance.random((9, 6, 5, 2)), chance.random((9, 6, 5))


def test_it_is_the_area_of_scikit_learn_under_a_loop_over_the_pixels():
    logits_of, images, maps = small_areas()
    baseline = np.full((2,), 0.25, np.float32)
    removed = deletion(logits_of, images, maps, [2] * 9, baseline=baseline, steps=10)
    put_in = insertion(logits_of, images, maps, [2] * 9, baseline=baseline, steps=10)
    for i, (image, values) in enumerate(zip(images, maps, strict=True)):
        order = sorted(np.ndindex(values.shape), key=lambda place: -values[place])
        for start, end, area in (
            (image, np.broadcast_to(baseline, image.shape), removed[i]),
            (np.broadcast_to(baseline, image.shape), image, put_in[i]),
        ):
            stage, curve = start.copy(), []
            for k in range(11):
                for place in order[max(0, 3 * k - 3) : 3 * k]:
                    stage[place] = end[place]
                powers = np.exp(logits_of(stage[None])[0])
                curve.append(powers[2] / powers.sum())
            assert area == pytest.approx(sklearn.metrics.auc(np.linspace(0, 1, 11), curve))


@given(arrays.arrays(np.float64, 30, elements=st.floats(0, 1 / 30)), st.integers(1, 30))
def test_a_perfect_map_beats_every_other(weights, steps):
    def logits_of(images):
        share = images.reshape(len(images), -1) @ weights
        return np.log(np.stack([share, 1 - share], axis=1) + 1e-12)

    images = np.ones((3, 6, 5, 1), np.float32)
    perfect = weights.reshape(6, 5)
    maps = np.stack([perfect, -perfect, np.random.default_rng(0).random((6, 5))])
    best, worst, other = insertion(logits_of, images, maps, [0] * 3, baseline=0.0, steps=steps)
    assert best >= other - 1e-6 and other >= worst - 1e-6
    best, worst, other = deletion(logits_of, images, maps, [0] * 3, steps=steps)
    assert best <= other + 1e-6 and other <= worst + 1e-6


def test_pixels_of_equal_value_come_in_random_order():
    """Also for a map that says nothing, the control; and an image does not depend on the others."""
    logits_of, images, maps = small_areas()
    constant = np.zeros_like(maps)
    first, second = (deletion(logits_of, images, constant, [0] * 9, seed=s) for s in (0, 1))
    assert (first != second).all()
    np.testing.assert_array_equal(first, deletion(logits_of, images, constant + 1, [0] * 9, seed=0))
    # Not row by row, nor column by column.
    y, x = np.mgrid[:6, :5]
    for order in (5 * y + x, 6 * x + y):
        ordered = deletion(logits_of, images, np.stack([-order] * 9), [0] * 9)
        assert (ordered != first).all()
    np.testing.assert_array_equal(
        first[5:6], deletion(logits_of, images[5:6], constant[5:6], [0], seed=0)
    )


def test_insertion_begins_with_a_blurred_image():
    """A single step has two stages, the blurred image and the image."""
    edge = np.zeros((1, 224, 224, 1), np.float32)
    edge[:, :, 112:] = 1
    seen = []

    def logits_of(images):
        seen.append(images)
        return np.zeros((len(images), 2))

    assert insertion(logits_of, edge, edge[..., 0], [1], steps=1) == pytest.approx([0.5])
    blurred, whole = seen[0]
    np.testing.assert_array_equal(whole, edge[0])
    # The edge becomes the normal distribution of deviation 5: at 5.5 pixels from it 0.864.
    np.testing.assert_allclose(blurred[100, [50, 117, 180], 0], [0, 0.864, 1], atol=1e-3)


def test_on_a_model_of_keras(small_cnn, images):
    graph = flatten(small_cnn)
    maps = np.zeros(images.shape[:3])
    logits = predict_logits(graph, images)
    classes = logits.argmax(axis=1)
    found = insertion(
        functools.partial(predict_logits, graph), images, maps, classes, baseline=images, steps=3
    )  # nothing changes
    powers = np.exp(logits.astype(np.float64))
    expected = powers.max(axis=1) / powers.sum(axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"images": np.ones((2, 2))},
            r"images of shape \(N, H, W, C\), not empty. Received: .*2",
        ),
        ({"images": 2 * ONES}, r"images with values in \[0, 1\]. Received: from 0 to 2"),
        (
            {"maps": BEST[:, :1]},
            r"maps of the size of the images, \(1, 2, 2\). Received: .*1, 1, 2",
        ),
        ({"maps": BEST * np.nan}, "Expected finite maps on image 0"),
        ({"classes": [0, 1]}, r"classes as integers, \(1,\) or \(1, T\). Received: shape \(2,\)"),
        ({"classes": [0.0]}, "classes as integers, .*Received: shape .*float64"),
        ({"classes": [2]}, "classes from 0 to 1. Received: from 2 to 2"),
        ({"baseline": np.ones((3, 3))}, r"a baseline of the shape of the images, .*\(3, 3\)"),
        ({"baseline": 2.0}, r"baseline with values in \[0, 1\]"),
        ({"steps": 5}, "steps from 1 to 4, the pixels. Received: 5"),
        ({"logits_of": lambda images: np.full((len(images), 2), np.nan)}, "Expected finite logits"),
    ],
)
@pytest.mark.parametrize("measure", [insertion, deletion])
def test_what_does_not_fit_is_refused(measure, changed, message):
    given = {"logits_of": weighted, "images": ONES, "maps": BEST, "classes": [0], "steps": 4}
    given |= {"baseline": 0.0} | changed
    with pytest.raises(ValueError, match=message):
        measure(**given)


@pytest.fixture
def areas():
    """Of two photos; the attacked photo's own map is 0.1 and 0.3 above the others."""
    rows = [
        ("a", order, 0.5 if order == "attacked" else 0.4, measure)
        for order in ORDERS
        for measure in ("insertion", "deletion")
    ]
    rows += [("b", order, 0.7 if order == "attacked" else 0.4, m) for _, order, _, m in rows]
    table = pd.DataFrame(rows, columns=["photo", "order", "area", "measure"])
    about = {"network": "vgg16", "epsilon": 0.01, "target": "clean"}
    return table.assign(identity=table["photo"], **about).sample(frac=1, random_state=0)


def test_areas_are_compared_photo_by_photo(areas):
    table = mean_areas(areas).set_index(["measure", "order"])
    assert len(table) == 8
    own, clean = table.loc["insertion", "attacked"], table.loc["insertion", "clean"]
    assert own[["photos", "area", "difference"]].tolist() == pytest.approx([2, 0.6, 0])
    assert own["low"] < 0.6 < own["high"]
    assert clean[["area", "low", "high"]].tolist() == pytest.approx([0.4] * 3)
    assert clean["difference"] == pytest.approx(0.2)
    # Of two people Student's t has one degree of freedom, 12.7; the error is 0.1.
    assert clean[["difference_low", "difference_high"]].tolist() == [-1, 1]


def test_the_report_shows_how_far_the_own_map_is_above_the_others(areas):
    table = mean_areas(areas)
    table.loc[table["order"] == "random", ["difference", "difference_low"]] = [0.25, 0.125]
    first, second = sections._insertion(table)
    assert {first["Measure"], second["Measure"]} == {"insertion", "deletion"}
    assert (first["Network"], first["Class"], first["ε"]) == ("VGG16", "clean", "0.01")
    assert first["Area"].startswith("0.6000 [")
    assert first["Above clean photo's"] == "0.2000 [-1.0000, 1.0000]"
    assert first["Above random order"] == "0.2500 [0.1250, 1.0000]"
