"""Models of every make give the maps of the same network made flat by hand."""

import keras
import numpy as np
import pytest

import gradcam_adv
from gradcam_adv import backends as gradients
from gradcam_adv import flatten, heatmaps, sign

SIZE = 24


def base(name="base") -> keras.Model:
    """A little residual network with batch norm, from (24, 24, 3) to (6, 6, 8)."""
    inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Conv2D(8, 3, padding="same", activation="relu", name="stem")(inputs)
    x = keras.layers.MaxPooling2D(name="pool")(x)
    branch = keras.layers.Conv2D(8, 3, padding="same", name="conv1")(x)
    branch = keras.layers.BatchNormalization(name="norm1")(branch)
    x = keras.layers.Add(name="add1")([x, branch])
    x = keras.layers.ReLU(name="out1")(x)
    branch = keras.layers.Conv2D(8, 3, padding="same", name="conv2")(x)
    x = keras.layers.Add(name="add2")([x, branch])
    x = keras.layers.ReLU(name="out2")(x)
    x = keras.layers.AveragePooling2D(2, name="shrink")(x)
    return keras.Model(inputs, x, name=name)


@pytest.fixture(scope="module")
def flat():
    keras.utils.set_random_seed(11)
    own = base()
    x = keras.layers.GlobalAveragePooling2D()(own.output)
    return keras.Model(own.inputs, keras.layers.Dense(4, name="logits")(x))


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(2).random((5, SIZE, SIZE, 3), np.float32)


def head_of(flat) -> keras.layers.Layer:
    head = keras.layers.Dense(4)
    head.build((None, 8))
    head.set_weights(flat.get_layer("logits").get_weights())
    return head


def nested_base(flat) -> keras.Model:
    nested = base()
    nested.set_weights(flat.get_weights()[:-2])
    return nested


def sequential(flat):
    layers = [nested_base(flat), keras.layers.GlobalAveragePooling2D(), head_of(flat)]
    return keras.Sequential([keras.Input((SIZE, SIZE, 3)), *layers])


def functional(flat):
    inputs = keras.Input((SIZE, SIZE, 3))
    x = nested_base(flat)(inputs, training=False)
    return keras.Model(inputs, head_of(flat)(keras.layers.GlobalAveragePooling2D()(x)))


def two_levels(flat):
    inner = keras.Sequential([keras.Input((SIZE, SIZE, 3)), nested_base(flat)], name="outer")
    inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.GlobalAveragePooling2D()(inner(inputs))
    return keras.Model(inputs, head_of(flat)(x))


@pytest.mark.parametrize(
    ("build", "prefix"), [(sequential, "base/"), (functional, "base/"), (two_levels, "outer/base/")]
)
def test_nested_models_give_the_maps_of_the_flat_one(flat, pixels, build, prefix):
    nested = build(flat)
    expected = heatmaps(flat, pixels)
    maps = heatmaps(nested, pixels)
    assert list(maps) == [prefix + name for name in expected]
    for name, values in expected.items():
        np.testing.assert_allclose(maps[prefix + name], values, atol=1e-6)
    labels = np.arange(5) % 4
    assert (sign(nested, pixels, labels) == sign(flat, pixels, labels)).mean() > 0.999


@pytest.mark.parametrize("build", [sequential, functional, two_levels])
@pytest.mark.parametrize("with_softmax", [False, True])
def test_predictions_are_logits_of_whatever_classifier(flat, pixels, build, with_softmax):
    model = build(flat)
    if with_softmax:
        model = keras.Sequential([model, keras.layers.Softmax()])
    expected = flat.predict(pixels, verbose=0)
    np.testing.assert_allclose(gradcam_adv.predict(model, pixels, 2), expected, atol=1e-5)


def test_predict_refuses_what_the_model_does_not_take(flat, pixels):
    with pytest.raises(ValueError, match=r"Expected images of shape .* Received: shape \(5, "):
        gradcam_adv.predict(flat, pixels[:, 1:])
    with pytest.raises(ValueError, match=r"Expected images with values in \[0, 1\]"):
        gradcam_adv.predict(flat, 255 * pixels)


def test_the_model_stays_what_it_was(flat, pixels, tmp_path):
    nested = sequential(flat)
    before, outputs = nested.predict(pixels, verbose=0), nested.layers[0].output
    heatmaps(nested, pixels)
    assert nested.layers[0].output is outputs
    nested.save(tmp_path / "nested.keras")
    again = gradcam_adv.load(tmp_path / "nested.keras")
    np.testing.assert_allclose(again.predict(pixels, verbose=0), before, atol=1e-6)
    # The flat graph shares the weights: a change of the model is a change of its heatmaps.
    network = flatten(nested)
    nested.layers[-1].set_weights([-w for w in nested.layers[-1].get_weights()])
    turned = network.classifier().predict(pixels, verbose=0)
    np.testing.assert_allclose(turned, -before, atol=1e-6)


SOFTMAX = {
    "a layer": lambda x: keras.layers.Softmax()(x),
    "an activation": lambda x: keras.layers.Activation("softmax")(x),
    "an operation": lambda x: keras.ops.softmax(x),
    "a logarithm": lambda x: keras.ops.log_softmax(x),
    "two of them": lambda x: keras.layers.Softmax()(keras.layers.Activation("softmax")(x)),
}


@pytest.mark.parametrize("kind", [*SOFTMAX, "a dense layer"])
def test_a_softmax_is_left_out(flat, pixels, kind):
    # Logits so far apart that probabilities have no gradient in float32.
    sure = keras.models.clone_model(flat)
    sure.set_weights(flat.get_weights())
    head = sure.get_layer("logits")
    head.set_weights([1000 * w for w in head.get_weights()])
    if kind == "a dense layer":
        end = keras.layers.Dense(4, activation="softmax")
        end.build((None, 8))
        end.set_weights(head.get_weights())
        softmax = keras.Model(sure.inputs, end(sure.layers[-2].output))
    else:
        softmax = keras.Model(sure.inputs, SOFTMAX[kind](sure.output))
    if kind in ("a layer", "a dense layer"):
        assert softmax.predict(pixels, verbose=0).max() > 0.999
    expected, maps = heatmaps(sure, pixels), heatmaps(softmax, pixels)
    for name, values in expected.items():
        np.testing.assert_allclose(maps[name], values, atol=1e-6)
    labels = softmax.predict(pixels, verbose=0).argmax(axis=1)
    assert (sign(softmax, pixels, labels) != 0).mean() > 0.5


def test_refuses_probabilities_whose_logits_it_cannot_reach(flat, pixels):
    @keras.saving.register_keras_serializable()
    class Own(keras.layers.Layer):
        def call(self, x):
            return keras.ops.softmax(x)

    hidden = keras.Model(flat.inputs, Own(name="own")(flat.output))
    with pytest.raises(ValueError, match="Received: probabilities out of 'own', a Own"):
        heatmaps(hidden, pixels)
    with pytest.raises(ValueError, match="Received: probabilities out of 'own'"):
        sign(hidden, pixels, np.zeros(5, int))


ENDS = {
    "activation 'sigmoid' at": lambda x: keras.ops.sigmoid(x),
    "activation 'tanh' at": lambda x: keras.ops.tanh(x),
    "a softmax over axis 0 at": lambda x: keras.layers.Softmax(axis=0)(x),
    "probabilities out of 'times'": lambda x: keras.layers.Rescaling(9.0, name="times")(
        keras.layers.Softmax()(x)
    ),
}


@pytest.mark.parametrize("received", ENDS)
def test_refuses_ends_whose_gradients_fade(flat, pixels, received):
    fading = keras.Model(flat.inputs, ENDS[received](flat.output))
    with pytest.raises(ValueError, match=f"logits.*Received: {received}"):
        heatmaps(fading, pixels)


@pytest.mark.parametrize("half", [0, 1])
def test_an_operation_of_several_outputs_hides_no_layer_before_it(pixels, half):
    inputs = keras.Input((SIZE, SIZE, 3))
    parts = keras.ops.split(keras.layers.Conv2D(8, 3, name="before")(inputs), 2, axis=-1)
    x = keras.layers.Conv2D(6, 3, name="after")(parts[half])
    model = keras.Model(inputs, keras.layers.Dense(5)(keras.layers.GlobalAveragePooling2D()(x)))
    assert gradcam_adv.layer_names(model) == ["before", "after"]
    assert heatmaps(model, pixels)["before"].max() == 1


def test_a_nested_model_called_by_keyword(flat, pixels):
    inputs = keras.Input((SIZE, SIZE, 3))
    named = keras.Model(inputs, nested_base(flat)(inputs=inputs))
    x = keras.layers.GlobalAveragePooling2D()(named.output)
    maps = heatmaps(keras.Model(inputs, head_of(flat)(x)), pixels, "conv")
    np.testing.assert_allclose(
        maps["base/conv2"], heatmaps(flat, pixels, "conv2")["conv2"], atol=1e-6
    )


@pytest.mark.parametrize("layers", [None, 1.5, True, ["conv1", ["conv2"]]])
def test_refuses_layers_that_are_no_names(flat, pixels, layers):
    with pytest.raises(ValueError, match="layers as names or indices"):
        heatmaps(flat, pixels, layers)


@pytest.mark.parametrize("batch_size", [0, -1, 2.5, "8", True])
def test_refuses_batch_sizes(flat, pixels, batch_size):
    with pytest.raises(ValueError, match="batch_size as a whole number above 0. Received: "):
        heatmaps(flat, pixels, batch_size=batch_size)


@pytest.mark.parametrize(
    "score", [lambda z: None, lambda z: [0.0] * 8, lambda z: keras.ops.argmax(z, axis=1)]
)
def test_refuses_targets_that_give_no_score(flat, pixels, score):
    with pytest.raises(ValueError, match="one score, float32, for each image of a batch"):
        heatmaps(flat, pixels, "last", score)


def test_a_shared_layer_has_an_address_for_each_call(pixels):
    keras.utils.set_random_seed(3)
    inputs = keras.Input((SIZE, SIZE, 3))
    conv = keras.layers.Conv2D(3, 3, padding="same", name="conv")
    first = conv(inputs)
    second = conv(keras.layers.ReLU(name="relu")(first))
    x = keras.layers.GlobalAveragePooling2D()(second)
    model = keras.Model(inputs, keras.layers.Dense(2)(x))
    maps = heatmaps(model, pixels)
    assert list(maps) == ["conv", "relu", "conv#2"]
    assert np.abs(maps["conv"] - maps["conv#2"]).max() > 0.1
    # The same network with two layers of equal weights.
    one, two = (keras.layers.Conv2D(3, 3, padding="same", name=n) for n in ("one", "two"))
    x = keras.layers.GlobalAveragePooling2D()(two(keras.layers.ReLU()(one(inputs))))
    apart = keras.Model(inputs, keras.layers.Dense(2, name="end")(x))
    for layer in (one, two):
        layer.set_weights(conv.get_weights())
    apart.get_layer("end").set_weights(model.layers[-1].get_weights())
    expected = heatmaps(apart, pixels)
    np.testing.assert_allclose(maps["conv"], expected["one"], atol=1e-6)
    np.testing.assert_allclose(maps["conv#2"], expected["two"], atol=1e-6)


def test_a_nested_model_called_twice(flat, pixels):
    inner = keras.Sequential(
        [keras.Input((SIZE, SIZE, 3)), keras.layers.Conv2D(3, 3, padding="same", name="conv")],
        name="twice",
    )
    inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.GlobalAveragePooling2D()(inner(inner(inputs)))
    model = keras.Model(inputs, keras.layers.Dense(2)(x))
    assert list(heatmaps(model, pixels)) == ["twice/conv", "twice#2/conv"]


def test_a_tap_is_added_to_what_its_place_gives(pixels):
    """In front of a softmax, in a nested model, and at each call of a shared layer."""
    inputs = keras.Input((SIZE, SIZE, 3))
    shared = keras.layers.Conv2D(8, 3, padding="same", name="shared")
    x = base()(inputs)
    x = keras.layers.Add(name="sum")([shared(x), shared(shared(x))])
    x = keras.layers.GlobalAveragePooling2D()(x)
    network = flatten(keras.Model(inputs, keras.layers.Dense(4, activation="softmax")(x)))
    places = network.places
    assert {"base/out1", "shared", "shared#2", "shared#3", "sum"} <= {p.path for p in places}
    expected = network.extractor(places).predict_on_batch(pixels)
    tapped = network.tapped(places)
    # Keras' own choice, "add", may be the name of a layer already: one of Xception's, for instance.
    own = {operation.name for operation in network.extractor(places).operations}
    new = {operation.name for operation in tapped.operations} - own
    assert len(new) == 2 * len(places)
    assert all("_of_places" in name for name in new)
    taps = [np.zeros((len(pixels), *place.shape[1:]), np.float32) for place in places]
    for own, other in zip(tapped.predict_on_batch([pixels, *taps]), expected, strict=True):
        np.testing.assert_array_equal(own, other)
    for number, tap in enumerate(taps):
        tap += 1
        *maps, logits = tapped.predict_on_batch([pixels, *taps])
        tap -= 1
        np.testing.assert_allclose(maps[number], expected[number] + 1, atol=1e-5)
        for own, other in zip(maps[:number], expected[:number], strict=True):
            np.testing.assert_allclose(own, other, atol=1e-5)
        assert np.abs(logits - expected[-1]).max() > 1e-3, places[number].path


def test_layers_by_name_path_index_and_group(flat, pixels):
    nested = sequential(flat)
    names = gradcam_adv.layer_names(nested)
    assert names[0] == "base/stem"
    assert list(heatmaps(nested, pixels, [0, -1, "base/add1"])) == [
        names[0],
        names[-1],
        "base/add1",
    ]
    conv = ["base/stem", "base/conv1", "base/conv2"]
    assert list(heatmaps(nested, pixels, "conv")) == conv
    assert list(heatmaps(nested, pixels, "last")) == ["base/out2"]
    assert list(heatmaps(nested, pixels, ["conv", "base/conv1", 1])) == [*conv, "base/pool"]


def test_blocks_end_before_forks_and_before_maps_shrink(flat):
    ends = [step.path for step in flatten(flat).find("blocks")]
    assert ends == ["stem", "pool", "out1", "out2", "shrink"]


@pytest.mark.parametrize("layer", ["conv3", 99, "base/conv1", "batch"])
def test_refuses_layers_it_does_not_have(flat, pixels, layer):
    with pytest.raises(ValueError, match=f"index from -10 to 9.*Received: {layer!r}"):
        heatmaps(flat, pixels, layer)


def test_targets_as_a_function_of_the_logits(flat, pixels):
    predicted = heatmaps(flat, pixels, "conv2")["conv2"]
    given = heatmaps(flat, pixels, "conv2", lambda z: keras.ops.max(z, axis=-1))["conv2"]
    np.testing.assert_allclose(given, predicted, atol=1e-6)
    gap = heatmaps(flat, pixels, "conv2", lambda z: z[:, 0] - z[:, 1])["conv2"]
    other = heatmaps(flat, pixels, "conv2", lambda z: z[:, 1] - z[:, 0])["conv2"]
    assert ((gap == 0) | (other == 0)).all()  # what speaks for one speaks against the other
    assert gap.any()


def test_refuses_targets(flat, pixels):
    with pytest.raises(
        ValueError, match=r"one score, float32, .*: shape \(8,\). Received: shape \(8, 4"
    ):
        heatmaps(flat, pixels, "conv2", lambda z: z)
    with pytest.raises(ValueError, match="Expected targets as 'predicted'.*Received: 'clean'"):
        heatmaps(flat, pixels, "conv2", "clean")
    with pytest.raises(ValueError, match="targets from 0 to 3"):
        heatmaps(flat, pixels, "conv2", [0, 1, 2, 3, 4])


def test_one_of_several_outputs_is_chosen_by_name(flat, pixels):
    other = keras.layers.Dense(3, name="other")(flat.layers[-2].output)
    both = keras.Model(flat.inputs, [flat.output, other])
    with pytest.raises(ValueError, match="output as one of logits, other.*Received: None"):
        heatmaps(both, pixels)
    with pytest.raises(ValueError, match="output as one of logits, other. Received: 'age'"):
        flatten(both, output="age")
    maps = heatmaps(flatten(both, output="logits"), pixels, "conv2")["conv2"]
    np.testing.assert_allclose(maps, heatmaps(flat, pixels, "conv2")["conv2"], atol=1e-6)
    assert flatten(both, output="other").classes == 3


def half_precision(head: str | None = None) -> keras.Model:
    """The flat network in half precision, its head where asked in another."""
    keras.config.set_dtype_policy("mixed_float16")
    try:
        own = base()
        x = keras.layers.GlobalAveragePooling2D()(own.output)
        return keras.Model(own.inputs, keras.layers.Dense(4, dtype=head)(x))
    finally:
        keras.config.set_dtype_policy("float32")


def test_mixed_precision_gives_nearly_the_maps_of_full(flat, pixels):
    half = half_precision()
    half.set_weights(flat.get_weights())
    expected, maps = (
        heatmaps(flat, pixels, targets=[0] * 5),
        heatmaps(half, pixels, targets=[0] * 5),
    )
    for name, values in expected.items():
        assert maps[name].dtype == np.float32
        np.testing.assert_allclose(maps[name], values, atol=0.03)
    labels = np.zeros(5, int)
    assert (sign(half, pixels, labels) == sign(flat, pixels, labels)).mean() > 0.95


def test_gradients_of_half_precision_do_not_fade_to_zero(flat, pixels):
    # Derivatives of some 1e-8, below half precision's smallest number.
    half = half_precision("float32")
    full = keras.models.clone_model(flat)
    for model in (full, half):
        model.set_weights([*flat.get_weights()[:-2], 1e-5 * flat.get_weights()[-2], np.zeros(4)])
    sums = []
    for model in (full, half):
        network = flatten(model)
        run = gradients.gradcam_sums(network, network.find("out1"), 5)
        sums.append(run(pixels, np.zeros((5, 1)))[0][0])
    scale = np.abs(sums[0]).max()
    assert scale > 0
    np.testing.assert_allclose(sums[1] / scale, sums[0] / scale, atol=0.05)


class Subclassed(keras.Model):
    def call(self, x):
        return x


def refused():
    one, two = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(one)
    return {
        "Received: Subclassed .*subclassed model has no graph": Subclassed(),
        "a Sequential one that is built": keras.Sequential([keras.layers.Dense(3)]),
        r"one input \(N, H, W, C\). Received: inputs .*, .*": keras.Model(
            [one, two], keras.layers.Dense(2)(keras.layers.Flatten()(one + two))
        ),
        r"one input \(N, H, W, C\). Received: inputs \[\(None, 5\)\]": keras.Sequential(
            [keras.Input((5,)), keras.layers.Dense(2)]
        ),
        r"\(N, classes\), two classes or more. Received: \(None, 1\)": keras.Model(
            one, keras.layers.Dense(1)(pooled)
        ),
        "Received: activation 'sigmoid' at 'end'": keras.Model(
            one, keras.layers.Dense(2, activation="sigmoid", name="end")(pooled)
        ),
        r"\(N, classes\).*Received: \(None, 6, 6, 2\)": keras.Model(
            one, keras.layers.Conv2D(2, 3)(one)
        ),
        "channels first at 'first'": keras.Model(
            one,
            keras.layers.Dense(2)(
                keras.layers.Flatten()(
                    keras.layers.MaxPooling2D(data_format="channels_first", name="first")(one)
                )
            ),
        ),
    }


@pytest.mark.parametrize("message", refused())
def test_refuses_models_that_it_cannot_explain(message):
    model = refused()[message]
    images = np.zeros((1, 8, 8, 3), np.float32)
    with pytest.raises(ValueError, match=message):
        heatmaps(model, images)
    with pytest.raises(ValueError, match=message):
        sign(model, images, [0])


def test_gradients_of_half_precision_that_overflow_are_scaled_less(flat, pixels):
    half = half_precision("float32")
    # The largest number of half precision is 65504: derivatives of some 1000, times 1024.
    full = keras.models.clone_model(flat)
    for model in (full, half):
        model.set_weights([*flat.get_weights()[:-2], 4e5 * flat.get_weights()[-2], np.zeros(4)])
    expected, maps = (heatmaps(m, pixels, "out1", [0] * 5)["out1"] for m in (full, half))
    np.testing.assert_allclose(maps, expected, atol=0.03)
