"""Grad-CAM against tf-keras-vis, finite differences and a case worked by hand."""

import functools
import itertools

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradcam_adv import GradCAM, flatten, layer_names
from gradcam_adv.explain import normalize, resize
from gradcam_adv.explain.explainer import PREDICTED
from gradcam_adv.explain.gradcam import compile_sums
from gradcam_adv.graph.layers import find


def sums_of(model, images, layers, classes):
    """The weighted sums by layer, before the ReLU, which would hide half of a difference."""
    graph = flatten(model)
    run = compile_sums(graph, find(graph, layers), len(images), 1)
    maps, _ = run(images, np.asarray(classes)[:, None])
    return {name: values[:, 0] for name, values in zip(layers, maps, strict=True)}


def sums_of_peer(model, images, layer, classes):
    """The same by tf-keras-vis."""
    from tf_keras_vis.gradcam import Gradcam
    from tf_keras_vis.utils.scores import CategoricalScore

    return Gradcam(model, clone=True)(
        CategoricalScore(classes.tolist()),
        images,
        penultimate_layer=layer,
        seek_penultimate_conv_layer=False,
        activation_modifier=None,
        expand_cam=False,
        normalize_cam=False,
    )


def test_case_worked_by_hand():
    # An image of 0 to 15; two channels of 3 x 3 sums, less 50 and less 75. Flattened channel by
    # channel, the first five values are added and the last three are subtracted.
    inputs = keras.Input((4, 4, 1))
    conv = keras.layers.Conv2D(2, 3, name="conv1")
    relu = keras.layers.ReLU(name="relu1")(conv(inputs))
    flat = keras.layers.Flatten()(keras.layers.Permute((3, 1, 2))(relu))
    dense = keras.layers.Dense(4, use_bias=False, name="dense")
    model = keras.Model(inputs, keras.layers.ReLU()(dense(flat)))
    conv.set_weights([np.ones((3, 3, 1, 2)), np.array([-50.0, -75.0])])
    dense.set_weights([np.repeat([[1.0]] * 5 + [[-1.0]] * 3, 4, axis=1)])
    image = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
    sums = sums_of(model, image, ["conv1", "relu1"], [0])
    np.testing.assert_allclose(sums["conv1"][0], [[11.25, 13.5], [20.25, 22.5]])
    np.testing.assert_allclose(sums["relu1"][0], [[0, 4], [28, 32.5]])


@pytest.mark.tensorflow
def test_equals_tf_keras_vis_on_every_layer(small_cnn, images, labels):
    sums = sums_of(small_cnn, images, layer_names(small_cnn), labels)
    for name, ours in sums.items():
        theirs = sums_of_peer(small_cnn, images, name, labels)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=5e-6 * np.abs(theirs).max())


def test_weights_are_the_mean_derivatives_of_the_logit(small_cnn, images):
    # The bias of a convolution moves its whole channel. So the derivative by it, here by finite
    # differences, divided by the number of positions is Grad-CAM's weight.
    image, layer = images[:1], small_cnn.get_layer("conv_b")
    kernel, bias = layer.get_weights()
    activations = keras.Model(small_cnn.inputs, layer.output).predict(image, verbose=0)[0]
    step, weights = 1e-3, []
    for channel in range(len(bias)):
        ends = []
        for change in (step, -step):
            moved = bias.copy()
            moved[channel] += change
            layer.set_weights([kernel, moved])
            ends.append(small_cnn.predict(image, verbose=0)[0, 2])
        weights.append((ends[0] - ends[1]) / (2 * step) / activations[..., 0].size)
    layer.set_weights([kernel, bias])
    expected = activations @ np.array(weights)
    ours = sums_of(small_cnn, image, ["conv_b"], [2])["conv_b"][0]
    np.testing.assert_allclose(ours, expected, atol=1e-2 * np.abs(expected).max())


def test_equals_grad_cam_in_plain_numpy_by_finite_differences():
    keras.utils.set_random_seed(5)
    rng = np.random.default_rng(5)
    inputs = keras.Input((7, 7, 2))
    conv = keras.layers.Conv2D(3, 3, name="conv")
    norm = keras.layers.BatchNormalization(name="norm")
    last = keras.layers.Conv2D(4, 2, name="last")
    dense = keras.layers.Dense(3, name="logits")
    x = keras.layers.ReLU(name="relu")(norm(conv(inputs)))
    model = keras.Model(inputs, dense(keras.layers.Flatten()(last(x))))
    norm.set_weights([rng.uniform(0.5, 1.5, 3) for _ in range(4)])
    conv_kernel, conv_bias = (w.astype(float) for w in conv.get_weights())
    last_kernel, last_bias = (w.astype(float) for w in last.get_weights())
    dense_kernel, dense_bias = (w.astype(float) for w in dense.get_weights())
    gamma, beta, mean, variance = (w.astype(float) for w in norm.get_weights())

    def convolve(a, kernel, bias):
        windows = np.lib.stride_tricks.sliding_window_view(a, kernel.shape[:2], axis=(0, 1))
        return np.einsum("hwcij,ijcd->hwd", windows, kernel) + bias

    after = {
        "conv": lambda a: gamma * (a - mean) / np.sqrt(variance + norm.epsilon) + beta,
        "norm": lambda a: np.maximum(a, 0),
        "relu": lambda a: convolve(a, last_kernel, last_bias),
        "last": lambda a: a.ravel() @ dense_kernel + dense_bias,
    }
    image, target, step = rng.random((7, 7, 2), np.float32), 1, 1e-5
    activations = convolve(image.astype(float), conv_kernel, conv_bias)
    sums = sums_of(model, image[np.newaxis], list(after), [target])
    for name, following in after.items():
        rest = list(after.values())[list(after).index(name) :]
        slopes = np.empty_like(activations)
        for place in np.ndindex(*activations.shape):
            ends = []
            for change in (step, -step):
                moved = activations.copy()
                moved[place] += change
                ends.append(functools.reduce(lambda a, layer: layer(a), rest, moved)[target])
            slopes[place] = (ends[0] - ends[1]) / (2 * step)
        expected = activations @ slopes.mean(axis=(0, 1))
        atol = 1e-5 * np.abs(expected).max()
        np.testing.assert_allclose(sums[name][0], expected, rtol=0, atol=atol)
        activations = following(activations)


class Doubling(keras.layers.BatchNormalization):
    """A user's own kind, which does not do the same to every image."""

    def call(self, inputs, training=None, mask=None):
        return super().call(inputs, training=training) * keras.ops.mean(inputs, (1, 2, 3), True)


NORMALIZED = {
    "one reader": lambda x: keras.layers.BatchNormalization()(x),
    "no scale, no center": lambda x: keras.layers.BatchNormalization(scale=False, center=False)(x),
    "two readers": lambda x: keras.layers.Add()([keras.layers.BatchNormalization()(x), x]),
    "over rows": lambda x: keras.layers.BatchNormalization(axis=1)(x),
    "always training": lambda x: keras.layers.BatchNormalization()(x, training=True),
    "a subclass": lambda x: Doubling()(x),
}


@pytest.mark.tensorflow
@pytest.mark.parametrize("kind", NORMALIZED)
def test_a_layer_read_from_the_batch_normalization_behind_it_has_the_same_sums(kind, images):
    keras.utils.set_random_seed(8)
    inputs = keras.Input(images.shape[1:])
    x = keras.layers.Conv2D(6, 3, name="conv")(inputs)
    x = keras.layers.ReLU()(NORMALIZED[kind](x))
    x = keras.layers.Conv2D(4, 3, activation="tanh")(x)
    model = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(x)))
    rng = np.random.default_rng(4)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            values = [rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()]
            values[0][:1] *= -1  # one channel with another sign, and one switched off
            values[0][-1:] *= kind != "no scale, no center"
            layer.set_weights(values)
    labels = np.arange(len(images)) % 3
    theirs = sums_of_peer(model, images, "conv", labels)
    ours = sums_of(model, images, ["conv"], labels)["conv"]
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=5e-6 * np.abs(theirs).max())


@pytest.mark.tensorflow
# A small gain alone loses no digits; a large offset beside it does.
@pytest.mark.parametrize(
    "values", [{"beta": 1e6}, {"gamma": 1e-6, "beta": 1.0}, {"moving_mean": 1e5}]
)
def test_a_normalization_that_loses_digits_is_not_read_in_place_of_its_layer(images, values):
    keras.utils.set_random_seed(8)
    inputs = keras.Input(images.shape[1:])
    norm = keras.layers.BatchNormalization(epsilon=1e-12)
    x = keras.layers.ReLU()(norm(keras.layers.Conv2D(6, 3, name="conv", use_bias=False)(inputs)))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(x))
    model = keras.Model(inputs, keras.layers.Dense(3)(x))
    for name, value in values.items():
        # With another sign in half of the channels, so some are above the ReLU's zero.
        variable = getattr(norm, name)
        variable.assign(np.where(np.arange(6) < 3, -value, value))
    labels = np.arange(len(images)) % 3
    theirs = sums_of_peer(model, images, "conv", labels)
    ours = sums_of(model, images, ["conv"], labels)["conv"]
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * np.abs(theirs).max())


@pytest.fixture(scope="module")
def explain(small_cnn):
    """Grad-CAM of all layers, compiled once."""
    return GradCAM(small_cnn, "all", batch_size=4)


def test_heatmaps_of_all_layers(explain, images):
    maps = explain(images)
    assert list(maps) == explain.layers
    assert explain.layers == ["conv_a", "norm", "relu_a", "pool", "conv_b", "relu_b"]
    assert maps["pool"].shape == (11, 12, 12)
    for values in maps.values():
        assert values.dtype == np.float32
        highest = values.max(axis=(1, 2))
        assert ((highest == 1) | (highest == 0)).all()
        assert values.min() >= 0


def test_last_layer_and_predicted_class_are_the_defaults(small_cnn, images):
    predicted = small_cnn.predict(images, verbose=0).argmax(axis=1)
    explain = GradCAM(small_cnn)
    default = explain(images)
    assert list(default) == ["relu_b"]
    given = explain(images, predicted)["relu_b"]
    np.testing.assert_array_equal(default["relu_b"], given)
    other = explain(images, (predicted + 1) % 5)["relu_b"]
    assert np.abs(other - given).max() > 0.1


def test_layers_at_once_equal_layers_one_by_one(small_cnn, explain, images):
    for name, maps in explain(images).items():
        np.testing.assert_allclose(GradCAM(small_cnn, name)(images)[name], maps, atol=1e-5)


def test_several_targets_in_one_pass_equal_a_pass_for_each(small_cnn, explain, images, labels):
    classes = np.stack([labels, (labels + 1) % 5, np.full(11, PREDICTED)], axis=1)
    together, logits = explain.maps_and_logits(images, classes)
    np.testing.assert_allclose(logits, small_cnn.predict(images, verbose=0), atol=1e-5)
    for i, targets in enumerate((labels, (labels + 1) % 5, None)):
        for name, maps in explain(images, targets).items():
            np.testing.assert_allclose(together[name][:, i], maps, atol=1e-5)


@pytest.mark.tensorflow
def test_one_batch_shape_is_compiled_once_and_serves_every_batch_and_call(small_cnn, images):
    compiled = []

    def highest(logits):
        compiled.append(logits.shape[0])  # Python runs only while TensorFlow compiles
        return keras.ops.max(logits, axis=1)

    explain = GradCAM(small_cnn, batch_size=4)
    maps = explain(images, highest)  # batches of 4, 4 and 3
    part = explain(images[:5], highest)
    assert compiled == [4]
    np.testing.assert_array_equal(maps["relu_b"], explain(images)["relu_b"])
    np.testing.assert_array_equal(maps["relu_b"][:5], part["relu_b"])


@settings(max_examples=10)
@given(cuts=st.sets(st.integers(1, 10)))
def test_images_cut_into_slices_give_the_same_bits(explain, images, cuts):
    whole = explain(images)
    edges = [0, *sorted(cuts), len(images)]
    parts = [explain(images[start:stop]) for start, stop in itertools.pairwise(edges)]
    for name, maps in whole.items():
        np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), maps)


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_maps_do_not_depend_on_the_batch_size(small_cnn, explain, images, labels, batch_size):
    reference = explain(images, labels)
    for name, maps in GradCAM(small_cnn, "all", batch_size=batch_size)(images, labels).items():
        np.testing.assert_allclose(maps, reference[name], atol=1e-5)


@pytest.mark.parametrize(
    ("verbose", "count", "bar"),
    [(1, 11, True), (0, 11, False), ("auto", 11, False), (1, 4, False)],
)
def test_verbose_decides_on_the_bar(explain, images, capsys, verbose, count, bar):
    """ "auto" draws one on a terminal only, and a single batch needs none."""
    explain(images[:count], verbose=verbose)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert ("Grad-CAM: 100%" in captured.err) == bar
    assert bool(captured.err) == bar


@pytest.mark.parametrize("verbose", [2, "yes", None])
def test_refuses_another_verbose(explain, images, verbose):
    with pytest.raises(ValueError, match=f"verbose as 'auto', 0 or 1. Received: {verbose!r}"):
        explain(images, verbose=verbose)


def test_a_map_without_support_is_empty():
    sums = np.array([[[-1.0, -2.0], [-3.0, 0.0]], [[1.0, 4.0], [-2.0, 0.0]]])
    np.testing.assert_array_equal(normalize(sums), [[[0, 0], [0, 0]], [[0.25, 1], [0, 0]]])


def test_resize_is_bilinear_between_pixel_centres():
    resized = resize(np.array([[[0.0, 1.0]]]), 4)
    np.testing.assert_allclose(resized[0, 0], [0, 0.25, 0.75, 1])
    assert resized.shape == (1, 4, 4)
    assert resize(np.zeros((2, 3, 5, 5)), (4, 6)).shape == (2, 3, 4, 6)


@pytest.mark.parametrize("shape", [(1, 2), (5, 3), (7, 7), (9, 20)])
@pytest.mark.parametrize("size", [(9, 8), (24, 31), (224, 224)])
def test_resize_is_that_of_keras(shape, size):
    maps = np.random.default_rng(0).random((2, 3, *shape), np.float32)
    of_keras = keras.ops.image.resize(
        maps.reshape(6, *shape, 1), size, antialias=False, data_format="channels_last"
    )
    expected = keras.ops.convert_to_numpy(of_keras).reshape(2, 3, *size)
    np.testing.assert_allclose(resize(maps, size), expected, rtol=0, atol=2e-6)


def test_layers_that_prepare_the_pixels_have_no_heatmap():
    inputs = keras.Input((8, 8, 3))
    x = keras.ops.flip(keras.layers.Rescaling(2.0)(inputs), axis=-1)
    x = keras.layers.Conv2D(2, 3, name="conv")(x)
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(x)))
    assert layer_names(model) == ["conv"]


def test_a_layer_named_twice_is_one_layer(small_cnn, images):
    explain = GradCAM(small_cnn, ["relu_b", "relu_b"])
    assert explain.layers == ["relu_b"]
    assert explain(images)["relu_b"].shape == (11, 12, 12)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ("conv_c", "Received: 'conv_c'. Nearest: conv_"),
        (["relu_b", "logits"], r"Received: 'logits', whose output of .* is not \(N, H, W, C\)"),
        ([], "at least one layer. Received: none"),
    ],
)
def test_refuses_layers(small_cnn, layers, message):
    with pytest.raises(ValueError, match=message):
        GradCAM(small_cnn, layers)


def bad_images(images):
    return {
        r"shape \(N, 24, 24, 3\). Received: shape \(11, 23, 24, 3\)": images[:, 1:],
        "as floats in": (255 * images).astype(np.uint8),
        r"values in \[0, 1\]. Received: from .* to 25": images * 255,
        "at least one image": images[:0],
    }


@pytest.mark.parametrize("message", bad_images(np.zeros((11, 24, 24, 3))))
def test_refuses_images(explain, images, message):
    with pytest.raises(ValueError, match=message):
        explain(bad_images(images)[message])


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ([0, 1], r"targets as 11 integers.*Received: shape \(2,\)"),
        ([0.5] * 11, "targets as 11 integers.*dtype float64"),
        ([5] * 11, "targets from 0 to 4, .*Received: from 5 to 5"),
        ([-1] * 11, "targets from 0 to 4, .*Received: from -1 to -1"),
        ("predicted", r"targets as None \(the predicted class\), .*Received: 'predicted'"),
    ],
)
def test_refuses_targets(explain, images, targets, message):
    with pytest.raises(ValueError, match=message):
        explain(images, targets)


def test_refuses_a_layer_that_the_logits_do_not_depend_on():
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(2, 3, name="used")(inputs)
    stopped = keras.layers.Lambda(
        lambda t: keras.ops.stop_gradient(t), output_shape=x.shape[1:], name="stopped"
    )(x)
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(stopped)))
    with pytest.raises(ValueError, match="the scores depend on. Received: used, by which"):
        GradCAM(model, "used")(np.zeros((1, 8, 8, 3), np.float32))


def test_stops_at_maps_that_are_not_finite(small_cnn, images):
    broken = keras.models.clone_model(small_cnn)
    broken.set_weights([np.full_like(w, np.nan) for w in small_cnn.get_weights()])
    with pytest.raises(ValueError, match="finite Grad-CAM sums of layer 'conv_a'"):
        GradCAM(broken, "all")(images)
