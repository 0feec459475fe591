"""The explanation attack: by hand, against finite differences, and what it may not do."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradcam_adv import (
    FGSM,
    PGD,
    ExplanationAttack,
    GradCAM,
    backends,
    dissimilarity,
    metrics,
    perturb,
    predict_logits,
    verifier,
)
from gradcam_adv.attacks.map_gradient import Aim, MapGradient
from gradcam_adv.explain import resize
from gradcam_adv.graph.flat import flatten
from gradcam_adv.graph.layers import find

pytestmark = pytest.mark.tensorflow

SIDE = 12


def brightness(threshold):
    """Class 0 for an image whose mean is above the threshold; its map is the image itself."""
    inputs = keras.Input((SIDE, SIDE, 1))
    same = keras.layers.Conv2D(1, 1, use_bias=False, name="same")
    x = keras.layers.GlobalAveragePooling2D()(same(inputs))
    end = keras.layers.Dense(2)
    model = keras.Model(inputs, end(x))
    same.set_weights([np.ones((1, 1, 1, 1))])
    end.set_weights([np.float32([[100, 0]]), np.float32([0, 100 * threshold])])
    return model


def left():
    region = np.zeros((SIDE, SIDE), bool)
    region[:, : SIDE // 2] = True
    return region


@pytest.fixture(scope="module")
def blobs():
    """Smooth images, whose maps differ."""
    coarse = np.random.default_rng(0).random((12, 6, 6, 3))
    return np.kron(coarse, np.ones((1, 4, 4, 1))).astype(np.float32)


@pytest.fixture(scope="module")
def network(blobs):
    """Three convolutions and a head of two layers, whose answers to the blobs are balanced."""
    keras.utils.set_random_seed(6)
    x = inputs = keras.Input(blobs.shape[1:])
    for number, name in enumerate(("early", "middle", "late")):
        x = keras.layers.Conv2D(8 * (number + 1), 3, activation="relu", name=name)(x)
    x = keras.layers.Dense(16, activation="relu")(keras.layers.GlobalAveragePooling2D()(x))
    end = keras.layers.Dense(4)
    model = keras.Model(inputs, end(x))
    logits = model.predict(blobs, verbose=0)
    scale = 2 / logits.std(axis=0)
    kernel, _ = end.get_weights()
    end.set_weights([kernel * scale, -logits.mean(axis=0) * scale])
    return model


def lead_by_hand(logits, classes):
    """The largest other logit less that of the class."""
    own = np.eye(logits.shape[1], dtype=bool)[classes]
    return np.where(own, -np.inf, logits).max(axis=1) - logits[own]


@pytest.fixture
def grey():
    return np.full((1, SIDE, SIDE, 1), 0.5, np.float32)


def test_the_pull_of_a_grey_photo_by_hand(grey):
    """Its map is the photo, so half of it becomes brighter and half darker, as far as allowed."""
    attack = ExplanationAttack(brightness(0.45), towards=left(), steps=20)
    added = attack(grey, [0], [0.2])[0.2][0, :, :, 0]
    np.testing.assert_allclose(added, np.where(left(), 0.2, -0.2), atol=1e-6)
    reached = attack.success(grey, {0.2: added[None, :, :, None]})
    by_hand = np.where(left(), 1, 0.3 / 0.7)
    assert reached["nissim"].item() == pytest.approx(metrics.nissim(by_hand, left()).item())
    assert reached[["class_kept", "as_asked"]].all(axis=None)


def test_the_class_holds_the_pull_back_by_hand(grey):
    """The mean may fall by 0.01 only, though the best map has a mean of 0.42: a quarter is left."""
    quarter = left() & left().T
    free = ExplanationAttack(brightness(0.2), towards=quarter, steps=20)
    held = ExplanationAttack(brightness(0.49), towards=quarter, steps=20, weight=1)
    means = [perturb(grey, attack(grey, [0], [0.2])[0.2]).mean() for attack in (free, held)]
    assert means[0] < 0.45
    assert 0.49 < means[1] < 0.5
    reached = held.success(grey, held(grey, [0], [0.2]))
    assert reached["class_kept"].all()
    assert reached["nissim"].item() < held.success(grey, {0.2: 0 * grey})["nissim"].item() - 0.1


@pytest.mark.parametrize("layer", ["relu_a", "relu_b", "conv_a"])
def test_the_distance_is_that_of_the_network_itself(small_cnn, images, layer):
    graph = flatten(small_cnn)
    (call,) = find(graph, layer)
    classes = predict_logits(small_cnn, images).argmax(axis=1)
    given_maps = resize(GradCAM(small_cnn, layer)(images[::-1])[layer], images.shape[1:3])
    moved = MapGradient(graph, call, Aim(True, False, 0.2), 4, 10.0)(
        images, classes, np.zeros(len(images), np.float32), given_maps
    )
    own = resize(GradCAM(small_cnn, layer)(images, classes)[layer], images.shape[1:3])
    np.testing.assert_allclose(moved.distance, metrics.nissim(own, given_maps), atol=1e-5)
    np.testing.assert_allclose(moved.logits, predict_logits(small_cnn, images), atol=1e-5)


@pytest.mark.parametrize(("away", "flip"), [(True, False), (False, False), (False, True)])
def test_the_gradient_is_that_of_finite_differences(away, flip):
    """On a smooth network, of a map before and one behind the last convolution."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((SIDE, SIDE, 2))
    x = keras.layers.Conv2D(4, 3, activation="tanh", name="early")(inputs)
    x = keras.layers.Conv2D(4, 3, activation="tanh", name="late")(x)
    x = keras.layers.Dense(8, activation="tanh")(keras.layers.GlobalAveragePooling2D()(x))
    graph = flatten(keras.Model(inputs, keras.layers.Dense(3)(x)))
    images = np.random.default_rng(2).random((3, SIDE, SIDE, 2), np.float32)
    given_maps = np.random.default_rng(3).random((3, SIDE, SIDE), np.float32)
    classes = predict_logits(graph, images).argmax(axis=1)
    # So that the class counts: it is on the wrong side of the limit.
    limits = np.full(3, 9 if flip else -9, np.float32)
    direction = np.random.default_rng(4).normal(size=images.shape).astype(np.float32)
    for layer in find(graph, ["early", "late"]):
        aim = Aim(away, flip, 0.2)
        of = MapGradient(graph, layer, aim, 3, None)

        def value(step, of=of, layer=layer):
            shifted = images + step * direction
            moved = of(shifted, classes, limits, given_maps)
            lead = lead_by_hand(moved.logits, classes)
            wrong = np.maximum(limits - lead if flip else lead - limits, 0)
            return (1 if away else -1) * moved.distance - 0.2 * wrong

        numeric = (value(1e-3) - value(-1e-3)) / 2e-3
        found = of(images, classes, limits, given_maps).gradient
        by_direction = (found * direction).sum(axis=(1, 2, 3))
        np.testing.assert_allclose(by_direction, numeric, rtol=2e-2, atol=2e-3)


@pytest.mark.parametrize(
    ("layer", "values", "slopes"),
    [
        # x in units of its standard deviation, 1: softplus' second derivative b s (1 - s).
        (keras.layers.ReLU(), [-1, 1], [2 * 0.104994, 2 * 0.104994]),
        # Units of 4: at 2 and 10 with b = 1/2, of the steps at 0 and at 6.
        (keras.layers.ReLU(max_value=6), [2, 10], [0.5 * (0.196612 - 0.104994), -0.5 * 0.098307]),
    ],
)
def test_the_surrogate_by_hand(layer, values, slopes):
    """The value is the sum of all first derivatives, so its gradient is the second one."""

    def forward(images):
        return [images], [keras.ops.sum(layer(images), axis=(1, 2, 3))], None

    def value(tensors, gradients, rest):
        return keras.ops.sum(gradients[0], axis=(1, 2, 3)), gradients[0]

    images = np.float32(values).reshape(1, 2, 1, 1)
    shape = (images.shape, "float32")

    def twice(sharpness):
        def of(images):
            return backends.differentiate_twice(forward, value, images, sharpness)

        return [array.ravel() for array in backends.compiled(of, shape)(images)]

    smooth, first = twice(2.0)
    np.testing.assert_allclose(smooth, slopes, rtol=1e-4, atol=1e-4)
    hard, true = twice(None)
    np.testing.assert_array_equal(hard, 0)
    np.testing.assert_array_equal(first, true)


def raising(name):
    """A layer that is differentiated once, but not twice."""
    import tensorflow as tf

    class Once(keras.layers.Layer):
        def call(self, inputs):
            @tf.custom_gradient
            def first(by_output):
                def second(*_):
                    raise AssertionError("differentiated twice")

                return tf.identity(by_output), second

            @tf.custom_gradient
            def same(x):
                return tf.identity(x), first

            return same(inputs)

    return Once(name=name)


@pytest.mark.parametrize(("layer", "passes"), [("late", True), ("early", False)])
def test_nothing_before_the_layer_is_differentiated_twice(images, layer, passes):
    inputs = keras.Input(images.shape[1:])
    x = keras.layers.Conv2D(4, 3, activation="relu", name="early")(inputs)
    x = keras.layers.Conv2D(4, 3, activation="relu", name="late")(raising("once")(x))
    x = keras.layers.GlobalAveragePooling2D()(x)
    attack = ExplanationAttack(keras.Model(inputs, keras.layers.Dense(3)(x)), layer, steps=1)
    if passes:
        attack(images, [0] * len(images), [0.1])
    else:
        with pytest.raises(AssertionError, match="differentiated twice"):
            attack(images, [0] * len(images), [0.1])


@pytest.fixture(scope="module")
def pushed(network, blobs):
    attack = ExplanationAttack(network, steps=10, batch_size=4)
    return attack, attack(blobs, [0] * len(blobs), [0.02, 0.1])


def test_maps_move_further_than_under_other_attacks_and_every_class_stays(network, blobs, pushed):
    attack, perturbations = pushed
    classes = predict_logits(network, blobs).argmax(axis=1)
    ours = attack.success(blobs, perturbations).groupby("epsilon").mean()
    assert (ours["class_kept"] == 1).all()
    for other in (FGSM(network), PGD(network)):
        theirs = attack.success(blobs, other(blobs, classes, [0.02, 0.1]))
        assert (ours["nissim"] > 1.5 * theirs.groupby("epsilon").mean()["nissim"]).all()
        assert theirs["class_kept"].mean() < 0.8
    assert ours["as_asked"].loc[0.1] > ours["as_asked"].loc[0.02]


def test_in_l2_maps_move_further_than_under_pgd_and_no_norm_exceeds_epsilon(network, blobs):
    epsilon = 0.05
    attack = ExplanationAttack(network, norm="l2", steps=10, batch_size=4)
    added = attack(blobs, [0] * len(blobs), [epsilon])
    norms = np.sqrt(np.square(added[epsilon], dtype=np.float64).mean(axis=(1, 2, 3)))
    assert (norms <= epsilon).all() and norms.mean() > 0.9 * epsilon
    assert np.abs(added[epsilon]).max() > 1.5 * epsilon  # so this is no ball of L-infinity
    classes = predict_logits(network, blobs).argmax(axis=1)
    theirs = attack.success(blobs, PGD(network, norm="l2")(blobs, classes, [epsilon]))
    ours = attack.success(blobs, added)
    assert ours["class_kept"].all()
    assert ours["nissim"].mean() > 1.5 * theirs["nissim"].mean()


def test_a_step_keeps_three_quarters_of_the_direction_so_far(network, blobs):
    region = np.zeros(blobs.shape[1:3], bool)
    region[:, :12] = True
    attack = ExplanationAttack(network, "middle", towards=region, steps=2)
    ascent = attack._objective(blobs, np.zeros(len(blobs))).ascent
    zero, first, second = (d for d, _ in attack._climb(blobs, np.zeros(len(blobs)), 0.05))
    assert not zero.any()
    moved = perturb(blobs, first)
    start, then = (
        gradient / np.abs(gradient).mean(axis=(1, 2, 3), keepdims=True)
        for gradient, _ in map(ascent, (blobs, moved))
    )
    step = 2.5 / 2 * 0.05 * np.sign(0.75 * start + then)
    expected = np.clip(moved - blobs + step, -0.05, 0.05)
    assert (np.abs(second - expected) > 1e-6).mean() < 1e-3


def test_an_empty_map_is_not_kept(grey):
    """It is far from any other, and says nothing: the map of a black photo, which is the photo."""
    objective = ExplanationAttack(brightness(-1))._objective(grey, np.array([0]))
    for photo, allowed in ((0 * grey, False), (grey, True)):
        for values in (objective.values(photo), objective.ascent(photo)[1]):
            assert np.isfinite(values).tolist() == [allowed]


def test_an_image_gets_the_same_whatever_images_come_with_it(network, blobs, pushed):
    attack, perturbations = pushed
    alone = attack(blobs[5:6], [0], [0.1])[0.1]
    np.testing.assert_array_equal(alone, perturbations[0.1][5:6])


@settings(max_examples=8)
@given(epsilon=st.floats(1e-4, 0.5), seed=st.integers(0, 99), flip=st.booleans())
def test_no_pixel_moves_further_than_epsilon_or_out_of_its_range(network, epsilon, seed, flip):
    pixels = np.random.default_rng(seed).choice([0, 0.3, 1], (2, 24, 24, 3)).astype(np.float32)
    attack = ExplanationAttack(network, flip=flip, steps=3, step_size=1.0, batch_size=2)
    added = attack(pixels, [0, 0], [epsilon])[epsilon]
    assert np.abs(added).max() <= np.float32(epsilon)
    attacked = perturb(pixels, added)
    assert attacked.min() >= 0 and attacked.max() <= 1


def test_a_pull_raises_the_share_of_heat_in_a_region(network, blobs):
    region = np.zeros(blobs.shape[1:3], bool)
    region[:, :12] = True
    attack = ExplanationAttack(network, "middle", towards=region, steps=10)
    added = attack(blobs, [0] * len(blobs), [0.1])
    explain = GradCAM(network, "middle")
    classes = predict_logits(network, blobs).argmax(axis=1)
    maps = [explain(pixels, classes)["middle"] for pixels in (blobs, perturb(blobs, added[0.1]))]
    before, after = (m[:, :, :10].sum(axis=(1, 2)) / m.sum(axis=(1, 2)) for m in maps)
    assert (after > before).all()
    assert (after - before).mean() > 0.1
    assert attack.success(blobs, added)["class_kept"].all()


def test_the_class_flips_while_the_map_stays(network, blobs):
    attack = ExplanationAttack(network, flip=True, steps=20)
    added = attack(blobs, [0] * len(blobs), [0.1])
    reached = attack.success(blobs, added)
    classes = predict_logits(network, blobs).argmax(axis=1)
    plain = attack.success(blobs, PGD(network, steps=20)(blobs, classes, [0.1]))
    assert reached["class_kept"].mean() < 0.2
    assert reached["nissim"].mean() < 0.8 * plain["nissim"].mean()
    assert reached["as_asked"].mean() > plain["as_asked"].mean()


def test_the_surrogate_moves_maps_of_early_layers_further(network, blobs):
    moved = {}
    for sharpness in (None, 10.0):
        attack = ExplanationAttack(network, "early", sharpness=sharpness, steps=10)
        added = attack(blobs, [0] * len(blobs), [0.1])
        moved[sharpness] = attack.success(blobs, added)["nissim"].mean()
    assert moved[10.0] > 1.1 * moved[None]


def test_the_lead_stays_that_is_to_be_kept(network, blobs):
    classes = predict_logits(network, blobs).argmax(axis=1)
    clean = lead_by_hand(predict_logits(network, blobs), classes)
    left = {}
    for keep in (0.0, 0.5, 1.0):
        attack = ExplanationAttack(network, keep_margin=keep, steps=10)
        added = attack(blobs, classes, [0.1])[0.1]
        assert added.any(axis=(1, 2, 3)).mean() > 0.5
        left[keep] = lead_by_hand(predict_logits(network, perturb(blobs, added)), classes) / clean
        assert (left[keep] >= keep - 1e-5).all()
    assert (left[0.0] < 0.5).any() and (left[0.5] < 1).any()


def test_dissimilarity_takes_it_like_any_attack(network, blobs):
    attack = ExplanationAttack(network, layer="last", steps=5)
    result = dissimilarity(network, blobs, epsilons=[0.05], attack=attack, controls=False)
    rows = result.images
    assert (rows["predicted"] == rows["predicted_clean"]).all()
    own = attack.success(blobs, attack(blobs, [0] * len(blobs), [0.05]))
    np.testing.assert_allclose(result.nissim["nissim"], own["nissim"], atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layer": "all"}, "Expected one layer. Received: early, middle"),
        ({"layer": "nowhere"}, "Expected a layer of the model .*'nowhere'"),
        ({"towards": np.zeros((4, 4))}, "Expected towards as one map .*zeros"),
        ({"towards": np.ones((1, 4, 4))}, r"Expected towards as one map .*shape \(1, 4, 4\)"),
        ({"towards": 2 * np.ones((4, 4))}, "Expected towards"),
        ({"flip": True, "keep_margin": 0.5}, "Expected keep_margin .* 0 with flip. Received: 0.5"),
        ({"keep_margin": -1}, "Expected keep_margin as a number of 0 or more"),
        ({"targeted": True}, "Expected flip or towards"),
        ({"weight": -1}, "Expected weight as a number of 0 or more. Received: -1"),
        ({"sharpness": 0}, "Expected sharpness as a number above 0. Received: 0"),
        ({"steps": 0}, "Expected steps as a whole number above 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(network, arguments, message):
    with pytest.raises(ValueError, match=message):
        ExplanationAttack(network, **arguments)


def test_other_models_and_backends_are_refused(network, blobs, monkeypatch):
    embedder = keras.Model(network.inputs, network.layers[4].output)
    with pytest.raises(ValueError, match="Expected a model with one class an image"):
        ExplanationAttack(verifier(embedder, blobs[:2], threshold=0.5))
    for size in ((None, None), (6, 8)):
        inputs = keras.Input((*size, 3))
        x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(inputs))
        with pytest.raises(ValueError, match=r"Expected a model of images of one size, 7 x 7"):
            ExplanationAttack(keras.Model(inputs, keras.layers.Dense(2)(x)))
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(ValueError, match="Expected Keras on TensorFlow .* Received: torch"):
        backends.differentiate_twice(None, None, blobs)
