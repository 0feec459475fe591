"""Grad-CAM against tf-keras-vis, finite differences and a case worked by hand."""

import functools
import itertools

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradcam_adv import backends as gradients
from gradcam_adv import heatmaps, layer_names, resize
from gradcam_adv.explain import gradcam
from gradcam_adv.graph import network as networks


def sums_of(model, images, layers, classes):
    network = networks.flatten(model)
    run = gradients.gradcam_sums(network, network.find(layers), len(images))
    maps, _ = run(images, np.asarray(classes)[:, None])
    return {name: values[:, 0] for name, values in zip(layers, maps, strict=True)}


def sums_of_peer(model, images, layer, classes):
    """The weighted sums of tf-keras-vis, before the ReLU, which would hide half of a difference."""
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
    # An image of 0..15; two channels of 3x3 sums less 50 and 75; flattened channel by channel
    # into outputs that add the first five and take away the last three.
    inputs = keras.Input((4, 4, 1))
    conv = keras.layers.Conv2D(2, 3, name="conv1")
    relu = keras.layers.ReLU(name="relu1")(conv(inputs))
    flat = keras.layers.Flatten()(keras.layers.Permute((3, 1, 2))(relu))
    dense = keras.layers.Dense(4, activation="relu", use_bias=False, name="dense")
    model = keras.Model(inputs, keras.layers.Activation("linear")(dense(flat)))
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
    # A convolution's bias moves its whole channel, so the derivative by it, over the number of
    # positions, is Grad-CAM's weight: taken here by finite differences.
    image, layer = images[:1], small_cnn.get_layer("conv_b")
    kernel, bias = layer.get_weights()
    activations = keras.Model(small_cnn.inputs, layer.output).predict(image, verbose=0)[0]
    step, weights = 1e-3, []
    for channel in range(len(bias)):
        ends = []
        for way in (step, -step):
            moved = bias.copy()
            moved[channel] += way
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
            for way in (step, -step):
                moved = activations.copy()
                moved[place] += way
                ends.append(functools.reduce(lambda a, layer: layer(a), rest, moved)[target])
            slopes[place] = (ends[0] - ends[1]) / (2 * step)
        expected = activations @ slopes.mean(axis=(0, 1))
        atol = 1e-5 * np.abs(expected).max()
        np.testing.assert_allclose(sums[name][0], expected, rtol=0, atol=atol)
        activations = following(activations)


class Doubling(keras.layers.BatchNormalization):
    """A user's own kind, which is not the same map for every photo."""

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
def test_what_is_read_off_a_batch_normalization_is_what_the_layer_itself_gives(kind, images):
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
            values[0][:1] *= -1  # of channels turned round, and one switched off
            values[0][-1:] *= kind != "no scale, no center"
            layer.set_weights(values)
    labels = np.arange(len(images)) % 3
    theirs = sums_of_peer(model, images, "conv", labels)
    ours = sums_of(model, images, ["conv"], labels)["conv"]
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=5e-6 * np.abs(theirs).max())


@pytest.mark.tensorflow
# A small gain alone loses nothing: it takes an offset to drown what is small.
@pytest.mark.parametrize(
    "values", [{"beta": 1e6}, {"gamma": 1e-6, "beta": 1.0}, {"moving_mean": 1e5}]
)
def test_a_normalization_that_drowns_its_layer_is_not_read_in_its_place(images, values):
    keras.utils.set_random_seed(8)
    inputs = keras.Input(images.shape[1:])
    norm = keras.layers.BatchNormalization(epsilon=1e-12)
    x = keras.layers.ReLU()(norm(keras.layers.Conv2D(6, 3, name="conv", use_bias=False)(inputs)))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(x))
    model = keras.Model(inputs, keras.layers.Dense(3)(x))
    for name, value in values.items():
        # Half of the channels, so that some of the others are beyond their ReLU's zero.
        variable = getattr(norm, name)
        variable.assign(np.where(np.arange(6) < 3, -value, value))
    labels = np.arange(len(images)) % 3
    theirs = sums_of_peer(model, images, "conv", labels)
    ours = sums_of(model, images, ["conv"], labels)["conv"]
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * np.abs(theirs).max())


def test_heatmaps_of_all_layers(small_cnn, images):
    maps = heatmaps(small_cnn, images, batch_size=4)
    assert list(maps) == ["conv_a", "norm", "relu_a", "pool", "conv_b", "relu_b"]
    assert maps["pool"].shape == (11, 12, 12)
    for values in maps.values():
        highest = values.max(axis=(1, 2))
        assert ((highest == 1) | (highest == 0)).all()
        assert values.min() >= 0


def test_predicted_class_is_the_default(small_cnn, images):
    predicted = small_cnn.predict(images, verbose=0).argmax(axis=1)
    default = heatmaps(small_cnn, images, "relu_b")["relu_b"]
    given = heatmaps(small_cnn, images, "relu_b", predicted)["relu_b"]
    np.testing.assert_array_equal(default, given)
    other = heatmaps(small_cnn, images, "relu_b", (predicted + 1) % 5)["relu_b"]
    assert np.abs(other - given).max() > 0.1


def test_layers_at_once_equal_layers_one_by_one(small_cnn, images):
    together = heatmaps(small_cnn, images)
    for name in together:
        alone = heatmaps(small_cnn, images, name)[name]
        np.testing.assert_allclose(together[name], alone, atol=1e-5)


def test_two_targets_in_one_pass_equal_two_passes(small_cnn, images, labels):
    explain = gradcam.Explainer(networks.flatten(small_cnn), ["conv_b", "relu_b"], 4, targets=2)
    both, logits = explain(images, np.stack([labels, (labels + 1) % 5], axis=1))
    for name, maps in both.items():
        for target in range(2):
            alone = heatmaps(small_cnn, images, name, (labels + target) % 5, batch_size=4)[name]
            np.testing.assert_allclose(maps[:, target], alone, atol=1e-6)
    np.testing.assert_allclose(logits, small_cnn.predict(images, verbose=0), atol=1e-5)


def test_a_padded_batch_gives_the_same_bits(small_cnn, images, labels):
    whole = heatmaps(small_cnn, images, targets=labels, batch_size=4)
    part = heatmaps(small_cnn, images[:6], targets=labels[:6], batch_size=4)
    for name in whole:
        np.testing.assert_array_equal(whole[name][:6], part[name])


@pytest.mark.tensorflow
def test_one_batch_shape_is_compiled_once_and_serves_the_smaller_last_batch(small_cnn, images):
    compiled = []

    def highest(logits):
        compiled.append(logits.shape[0])  # Python runs while TensorFlow compiles, and then no more
        return keras.ops.max(logits, axis=1)

    maps = heatmaps(small_cnn, images, "relu_b", highest, batch_size=4)  # batches of 4, 4 and 3
    assert compiled == [4]
    np.testing.assert_array_equal(
        maps["relu_b"], heatmaps(small_cnn, images, "relu_b", batch_size=4)["relu_b"]
    )


@settings(max_examples=10, deadline=None)
@given(cuts=st.sets(st.integers(1, 10)))
def test_images_cut_into_slices_give_the_same_bits(small_cnn, images, cuts):
    explain = gradcam.Explainer(networks.flatten(small_cnn), "all", 4)
    classes = np.full((len(images), 1), gradients.PREDICTED)
    whole, _ = explain(images, classes)
    edges = [0, *sorted(cuts), len(images)]
    slices = [slice(*edge) for edge in itertools.pairwise(edges)]
    parts = [explain(images[own], classes[own])[0] for own in slices]
    for name, maps in whole.items():
        np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), maps)


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_maps_do_not_hang_on_the_batch(small_cnn, images, labels, batch_size):
    reference = heatmaps(small_cnn, images, targets=labels, batch_size=11)
    for name, maps in heatmaps(small_cnn, images, targets=labels, batch_size=batch_size).items():
        np.testing.assert_allclose(maps, reference[name], atol=1e-5)


def test_a_map_without_support_is_empty():
    sums = np.array([[[-1.0, -2.0], [-3.0, 0.0]], [[1.0, 4.0], [-2.0, 0.0]]])
    np.testing.assert_array_equal(gradcam.normalize(sums), [[[0, 0], [0, 0]], [[0.25, 1], [0, 0]]])


def test_resize_is_bilinear_between_pixel_centres():
    resized = resize(np.array([[[0.0, 1.0]]]), 4)
    np.testing.assert_allclose(resized[0, 0], [0, 0.25, 0.75, 1])
    assert resized.shape == (1, 4, 4)


def test_preprocessing_has_no_heatmap():
    inputs = keras.Input((8, 8, 3))
    x = keras.ops.flip(keras.layers.Rescaling(2.0)(inputs), axis=-1)
    x = keras.layers.Conv2D(2, 3, name="conv")(x)
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(x)))
    assert layer_names(model) == ["conv"]


def test_a_layer_named_twice_is_one_layer(small_cnn, images):
    maps = heatmaps(small_cnn, images, ["relu_b", "relu_b"])
    assert maps["relu_b"].shape == (11, 12, 12)


def test_refuses_an_unknown_layer_with_the_nearest_names(small_cnn, images):
    with pytest.raises(ValueError, match=r"Received: 'conv_c'. Nearest: conv_"):
        heatmaps(small_cnn, images, "conv_c")


def test_refuses_a_layer_without_positions(small_cnn, images):
    with pytest.raises(ValueError, match=r"shape \(N, H, W, C\).*Received: 'logits'"):
        heatmaps(small_cnn, images, ["relu_b", "logits"])


def test_refuses_no_layers_at_all(small_cnn, images):
    with pytest.raises(ValueError, match="at least one layer"):
        heatmaps(small_cnn, images, [])


def test_refuses_too_few_classes(small_cnn, images):
    with pytest.raises(ValueError, match=r"targets as 11 integers.*Received: shape \(2,\)"):
        heatmaps(small_cnn, images, targets=[0, 1])


def test_refuses_a_layer_beside_the_path_to_the_logits():
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(2, 3, name="used")(inputs)
    stopped = keras.layers.Lambda(
        lambda t: keras.ops.stop_gradient(t), output_shape=x.shape[1:], name="stopped"
    )(x)
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(stopped)))
    with pytest.raises(ValueError, match="layers that the scores depend on"):
        heatmaps(model, np.zeros((1, 8, 8, 3), np.float32), "used")


def test_stops_at_maps_that_are_no_numbers(small_cnn, images):
    broken = keras.models.clone_model(small_cnn)
    broken.set_weights([np.full_like(w, np.nan) for w in small_cnn.get_weights()])
    with pytest.raises(ValueError, match="finite Grad-CAM sums of layer 'conv_a'"):
        heatmaps(broken, images)
