"""What is compiled for a model is kept, right whatever happens to the model, and bounded."""

import gc
import itertools
import weakref
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradcam_adv import FGSM, GradCAM, backends, dissimilarity, flatten, load_model, predict_logits
from gradcam_adv.graph import flat, kept
from gradcam_adv.graph.pixels import RANGES

K = keras.layers
SIDE = 8


def small(*end, prepare=()) -> keras.Model:
    """A convolution "conv", a batch normalization, and a dense layer of three classes."""
    keras.utils.set_random_seed(5)
    parts = [K.Conv2D(4, 3, name="conv"), K.BatchNormalization(name="norm"), K.ReLU()]
    end = end or (K.Dense(3, activation="softmax", name="end"),)
    head = [K.GlobalAveragePooling2D(name="average"), *end]
    return keras.Sequential([keras.Input((SIDE, SIDE, 3)), *prepare, *parts, *head])


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(2).random((2, SIDE, SIDE, 3), np.float32)


@pytest.fixture
def compiled(monkeypatch):
    """Counts what is compiled."""
    counted, compile = [], backends.compiled

    def counting(*arguments):
        counted.append(arguments)
        return compile(*arguments)

    monkeypatch.setattr(backends, "compiled", counting)
    return counted


def plain(model: keras.Model, pixels: np.ndarray, of_pixels=lambda x: x) -> np.ndarray:
    """Grad-CAM of the predicted class at "conv" in TensorFlow alone, of the logits at "end"."""
    conv, end = model.get_layer("conv"), model.get_layer("end")
    behind = model.layers[model.layers.index(conv) + 1 : -1]
    with tf.GradientTape() as tape:
        activations = conv(of_pixels(tf.constant(pixels)))
        tape.watch(activations)
        x = activations
        for layer in behind:
            x = layer(x, training=False) if layer.name == "norm" else layer(x)
        best = tf.reduce_max(x @ end.kernel + end.bias, axis=1)
    weights = tf.reduce_mean(tape.gradient(best, activations), axis=(1, 2), keepdims=True)
    sums = np.maximum(tf.reduce_sum(weights * activations, axis=-1).numpy(), 0)
    return sums / np.maximum(sums.max(axis=(1, 2), keepdims=True), 1e-12)


def test_calls_on_single_images_compile_once_and_leave_nothing_behind(pixels, compiled):
    model = small()
    for _ in range(4):
        maps = GradCAM(model, "conv")(pixels[:1])["conv"]
        FGSM(model)(pixels[:1], [0], [0.1])
        dissimilarity(model, pixels[:1], epsilons=[0.1], controls=False, verbose=0)
        predict_logits(model, pixels[:1])
    assert len(compiled) == 3  # at "conv" and at the last layer, and FGSM
    nodes = [len(layer._inbound_nodes) for layer in model.layers]
    assert flatten(model) is flatten(model)
    assert nodes == [len(layer._inbound_nodes) for layer in model.layers]
    np.testing.assert_allclose(maps, plain(model, pixels[:1]), atol=1e-5)


def test_what_is_kept_is_bounded():
    model = small()
    for size in range(1, kept.MOST + 3):
        FGSM(model, batch_size=size)
    assert len(flatten(model).compiled) == kept.MOST
    for pixels, one_logit in itertools.product((None, *RANGES), (None, True, False)):
        flatten(model, pixels=pixels, one_logit=one_logit)
    assert len(vars(model)[flat._Graphs.ATTRIBUTE].made) == kept.MOST
    entries = {}
    for number in (*range(kept.MOST), 0, kept.MOST):  # 0 is used once more, so 1 goes
        kept.kept(entries, number, lambda number=number: number)
    assert list(entries) == [*range(2, kept.MOST), 0, kept.MOST]


def test_new_weights_are_seen(pixels, compiled):
    model = small()
    GradCAM(model, "conv")(pixels)
    FGSM(model)(pixels, [0, 1], [0.1])
    rng = np.random.default_rng(9)
    model.set_weights([rng.uniform(0.1, 1.5, w.shape) for w in model.get_weights()])
    np.testing.assert_allclose(
        GradCAM(model, "conv")(pixels)["conv"], plain(model, pixels), atol=1e-5
    )
    fresh = keras.models.clone_model(model)
    fresh.set_weights(model.get_weights())
    expected = FGSM(fresh)(pixels, [0, 1], [0.1]).signs
    count = len(compiled)
    np.testing.assert_array_equal(FGSM(model)(pixels, [0, 1], [0.1]).signs, expected)
    assert len(compiled) == count
    np.testing.assert_allclose(
        keras.ops.softmax(predict_logits(model, pixels)),
        model.predict(pixels, verbose=0),
        atol=1e-6,
    )


def test_weights_that_allow_no_folding_any_more_are_seen(pixels):
    """An offset far above the scale leaves no digits in B - t; see ``graph.folding``."""
    model = small()
    GradCAM(model, "conv")(pixels)
    gamma, beta, mean, variance = model.get_layer("norm").get_weights()
    model.get_layer("norm").set_weights([gamma, beta + 1e7, mean, variance])
    np.testing.assert_allclose(
        GradCAM(model, "conv")(pixels)["conv"], plain(model, pixels), atol=1e-5
    )


def test_another_activation_layer_or_adapted_mean_is_seen(pixels):
    model = small()
    assert not flatten(model).independent
    model.get_layer("end").activation = keras.activations.sigmoid
    assert flatten(model).independent
    longer = small(K.Dense(4, name="end"))
    assert flatten(longer).classes == 4
    longer.add(K.Dense(2))
    assert flatten(longer).classes == 2
    normalize = K.Normalization(mean=[0.0] * 3, variance=[1.0] * 3)
    model = small(prepare=[normalize])
    GradCAM(model, "conv")(pixels)
    normalize.mean = normalize.mean + 0.4
    maps = GradCAM(flatten(model, pixels="0..1"), "conv")(pixels)["conv"]
    np.testing.assert_allclose(maps, plain(model, pixels, normalize), atol=1e-5)
    one = small(K.Dense(1, name="end"))
    with pytest.raises(ValueError, match="may be a regression"):
        flatten(one)
    one.compile(loss=keras.losses.BinaryCrossentropy(from_logits=True))
    assert flatten(one).classes == 2


def test_a_model_that_nobody_holds_is_freed_and_the_next_one_gets_its_own_maps(pixels):
    """Also one that is a layer of another, whose graph leads to both of them."""
    gone = []
    for seed in range(2):
        model = small()
        rng = np.random.default_rng(seed)
        model.set_weights([rng.uniform(0.1, 1.5, w.shape) for w in model.get_weights()])
        maps = GradCAM(model, "conv")(pixels)["conv"]
        np.testing.assert_allclose(maps, plain(model, pixels), atol=1e-5)
        outer = keras.Sequential([keras.Input((SIDE, SIDE, 3)), model])
        assert flatten(outer).classes == 3
        gone += map(weakref.ref, (model, outer))
    del model, outer
    gc.collect()
    assert [model() for model in gone] == [None] * 4


def test_what_is_kept_is_not_saved(tmp_path, pixels):
    model = small()
    model.save(tmp_path / "before.keras")
    maps = GradCAM(model, "conv")(pixels)["conv"]
    model.save(tmp_path / "after.keras")
    saved = []
    for name in ("before.keras", "after.keras"):
        with zipfile.ZipFile(tmp_path / name) as file:
            saved.append((file.read("config.json"), len(file.read("model.weights.h5"))))
    assert saved[0] == saved[1]
    opened = load_model(tmp_path / "after.keras")
    np.testing.assert_array_equal(GradCAM(opened, "conv")(pixels)["conv"], maps)


def test_the_graph_of_two_normalizations_that_are_added_is_freed(pixels):
    given = keras.Input((SIDE, SIDE, 3))
    parts = [K.BatchNormalization(name=name)(K.Conv2D(4, 3)(given)) for name in ("one", "two")]
    pooled = K.GlobalAveragePooling2D()(K.ReLU()(K.Add()(parts)))
    model = keras.Model(given, K.Dense(3)(pooled))
    traced = []

    def score(logits):
        traced.append(weakref.ref(tf.compat.v1.get_default_graph()))
        return logits[:, 0]

    GradCAM(model, ["one", "two"])(pixels, score)
    del model, parts, pooled, given
    backends.clear_session()
    assert [graph() for graph in traced] == [None]
