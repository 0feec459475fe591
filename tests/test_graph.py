"""Models of every kind give the heatmaps of the same network made flat by hand."""

import keras
import numpy as np
import pytest

from gradcam_adv import FGSM, GradCAM, flatten, layer_names, load_model, predict_logits
from gradcam_adv.explain.gradcam import compile_sums
from gradcam_adv.graph.activations import _tapped
from gradcam_adv.graph.layers import block_ends, find

SIZE = 24


def base() -> keras.Model:
    """A small residual network with batch norm, from (24, 24, 3) to (6, 6, 8)."""
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
    return keras.Model(inputs, x, name="base")


@pytest.fixture(scope="module")
def flat():
    keras.utils.set_random_seed(11)
    own = base()
    x = keras.layers.GlobalAveragePooling2D()(own.output)
    return keras.Model(own.inputs, keras.layers.Dense(4, name="logits")(x))


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(2).random((5, SIZE, SIZE, 3), np.float32)


@pytest.fixture(scope="module")
def expected(flat, pixels):
    """The heatmaps of all layers of the flat network."""
    return GradCAM(flat, "all")(pixels)


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
def test_nested_models_give_the_maps_of_the_flat_one(flat, pixels, expected, build, prefix):
    nested = build(flat)
    maps = GradCAM(nested, "all")(pixels)
    assert list(maps) == [prefix + name for name in expected]
    for name, values in expected.items():
        np.testing.assert_allclose(maps[prefix + name], values, atol=1e-6)
    labels = np.arange(5) % 4
    same = FGSM(nested).signs(pixels, labels) == FGSM(flat).signs(pixels, labels)
    assert same.mean() > 0.999


@pytest.mark.parametrize("build", [sequential, functional, two_levels])
@pytest.mark.parametrize("with_softmax", [False, True])
def test_every_kind_of_classifier_gives_logits(flat, pixels, build, with_softmax):
    model = build(flat)
    if with_softmax:
        model = keras.Sequential([model, keras.layers.Softmax()])
    logits = flat.predict(pixels, verbose=0)
    np.testing.assert_allclose(predict_logits(model, pixels, batch_size=2), logits, atol=1e-5)


def test_predict_logits_refuses_images_that_the_model_does_not_take(flat, pixels):
    with pytest.raises(ValueError, match=r"Expected images of shape .* Received: shape \(5, "):
        predict_logits(flat, pixels[:, 1:])
    with pytest.raises(ValueError, match=r"Expected images with values in \[0, 1\]"):
        predict_logits(flat, 255 * pixels)


def test_the_model_is_not_changed(flat, pixels, tmp_path):
    nested = sequential(flat)
    before, outputs = nested.predict(pixels, verbose=0), nested.layers[0].output
    GradCAM(nested, "all")(pixels)
    assert nested.layers[0].output is outputs
    nested.save(tmp_path / "nested.keras")
    again = load_model(tmp_path / "nested.keras")
    np.testing.assert_allclose(again.predict(pixels, verbose=0), before, atol=1e-6)
    # The flat graph shares the weights of the model.
    graph = flatten(nested)
    nested.layers[-1].set_weights([-w for w in nested.layers[-1].get_weights()])
    after = graph.classifier.predict(pixels, verbose=0)
    np.testing.assert_allclose(after, -before, atol=1e-6)


@keras.saving.register_keras_serializable("tests")
class OwnSoftmax(keras.layers.Layer):
    def call(self, x):
        return keras.ops.softmax(x)


SOFTMAX = {
    "a layer": lambda x: keras.layers.Softmax()(x),
    "an activation": lambda x: keras.layers.Activation("softmax")(x),
    "an operation": lambda x: keras.ops.softmax(x),
    "a logarithm": lambda x: keras.ops.log_softmax(x),
    "a user's own": lambda x: OwnSoftmax()(x),
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
    maps = GradCAM(softmax, "all")(pixels)
    for name, values in GradCAM(sure, "all")(pixels).items():
        np.testing.assert_allclose(maps[name], values, atol=1e-6)
    labels = softmax.predict(pixels, verbose=0).argmax(axis=1)
    assert (FGSM(softmax).signs(pixels, labels) != 0).mean() > 0.5


ENDS = {
    "activation 'tanh' at": lambda x: keras.ops.tanh(x),
    "a softmax over axis 0 at": lambda x: keras.layers.Softmax(axis=0)(x),
    "activation 'relu' at": lambda x: keras.layers.Activation("relu")(x),
    "a softmax of sigmoids at": lambda x: keras.ops.softmax(keras.ops.sigmoid(x)),
    "probabilities from 'times', a Rescaling;": lambda x: keras.layers.Rescaling(9.0, name="times")(
        keras.layers.Softmax()(x)
    ),
}


@pytest.mark.parametrize("received", ENDS)
@pytest.mark.parametrize("use", [GradCAM, FGSM])
def test_refuses_ends_whose_gradients_fade(flat, use, received):
    fading = keras.Model(flat.inputs, ENDS[received](flat.output))
    with pytest.raises(ValueError, match=f"logits.*Received: {received}"):
        use(fading)


@pytest.mark.parametrize("half", [0, 1])
def test_layers_before_an_operation_of_several_outputs_have_heatmaps(pixels, half):
    inputs = keras.Input((SIZE, SIZE, 3))
    parts = keras.ops.split(keras.layers.Conv2D(8, 3, name="before")(inputs), 2, axis=-1)
    x = keras.layers.Conv2D(6, 3, name="after")(parts[half])
    model = keras.Model(inputs, keras.layers.Dense(5)(keras.layers.GlobalAveragePooling2D()(x)))
    assert layer_names(model) == ["before", "after"]
    assert GradCAM(model, "before")(pixels)["before"].max() == 1


def test_a_nested_model_called_by_keyword(flat, pixels, expected):
    inputs = keras.Input((SIZE, SIZE, 3))
    named = keras.Model(inputs, nested_base(flat)(inputs=inputs))
    x = keras.layers.GlobalAveragePooling2D()(named.output)
    maps = GradCAM(keras.Model(inputs, head_of(flat)(x)), "conv")(pixels)
    np.testing.assert_allclose(maps["base/conv2"], expected["conv2"], atol=1e-6)


@pytest.mark.parametrize("layers", [None, 1.5, True, ["conv1", ["conv2"]]])
def test_refuses_layers_that_are_no_names(flat, layers):
    with pytest.raises(ValueError, match="layers as names or indices. Received: "):
        GradCAM(flat, layers)


@pytest.mark.parametrize("batch_size", [0, -1, 2.5, "8", True])
@pytest.mark.parametrize("use", [GradCAM, FGSM])
def test_refuses_batch_sizes(flat, use, batch_size):
    with pytest.raises(ValueError, match="batch_size as a whole number above 0. Received: "):
        use(flat, batch_size=batch_size)


@pytest.mark.parametrize(
    ("score", "received"),
    [
        (lambda z: None, "NoneType"),
        (lambda z: [0.0] * 8, "list"),
        (lambda z: keras.ops.argmax(z, axis=1), r"shape \(8,\), int"),
        (lambda z: z, r"shape \(8, 4\), float32"),
    ],
)
def test_refuses_targets_that_give_no_score(flat, pixels, score, received):
    message = rf"one score, float32, for each image of a batch: shape \(8,\). Received: {received}"
    with pytest.raises(ValueError, match=message):
        GradCAM(flat)(pixels, score)


def test_a_shared_layer_has_a_path_for_each_call(pixels):
    keras.utils.set_random_seed(3)
    inputs = keras.Input((SIZE, SIZE, 3))
    conv = keras.layers.Conv2D(3, 3, padding="same", name="conv")
    first = conv(inputs)
    second = conv(keras.layers.ReLU(name="relu")(first))
    x = keras.layers.GlobalAveragePooling2D()(second)
    model = keras.Model(inputs, keras.layers.Dense(2)(x))
    maps = GradCAM(model, "all")(pixels)
    assert list(maps) == ["conv", "relu", "conv#2"]
    assert np.abs(maps["conv"] - maps["conv#2"]).max() > 0.1
    # The same network with two layers of equal weights.
    one, two = (keras.layers.Conv2D(3, 3, padding="same", name=n) for n in ("one", "two"))
    x = keras.layers.GlobalAveragePooling2D()(two(keras.layers.ReLU()(one(inputs))))
    apart = keras.Model(inputs, keras.layers.Dense(2, name="end")(x))
    for layer in (one, two):
        layer.set_weights(conv.get_weights())
    apart.get_layer("end").set_weights(model.layers[-1].get_weights())
    expected = GradCAM(apart, ["one", "two"])(pixels)
    np.testing.assert_allclose(maps["conv"], expected["one"], atol=1e-6)
    np.testing.assert_allclose(maps["conv#2"], expected["two"], atol=1e-6)


def test_a_nested_model_called_twice():
    inner = keras.Sequential(
        [keras.Input((SIZE, SIZE, 3)), keras.layers.Conv2D(3, 3, padding="same", name="conv")],
        name="twice",
    )
    inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.GlobalAveragePooling2D()(inner(inner(inputs)))
    model = keras.Model(inputs, keras.layers.Dense(2)(x))
    assert layer_names(model) == ["twice/conv", "twice#2/conv"]


def test_a_tap_is_added_to_the_output_of_its_layer(pixels):
    """In front of a softmax, in a nested model, and at each call of a shared layer."""
    inputs = keras.Input((SIZE, SIZE, 3))
    shared = keras.layers.Conv2D(8, 3, padding="same", name="shared")
    x = base()(inputs)
    x = keras.layers.Add(name="sum")([shared(x), shared(shared(x))])
    x = keras.layers.GlobalAveragePooling2D()(x)
    graph = flatten(keras.Model(inputs, keras.layers.Dense(4, activation="softmax")(x)))
    layers = graph.layers
    assert {"base/out1", "shared", "shared#2", "shared#3", "sum"} <= {call.path for call in layers}
    plain = keras.Model(graph.input, [*(call.output for call in layers), graph.logits])
    expected = plain.predict_on_batch(pixels)
    tapped = _tapped(graph, layers)
    # Keras' own choice, "add", may be the name of a layer already, as in Xception.
    own = {operation.name for operation in plain.operations}
    new = {operation.name for operation in tapped.operations} - own
    assert len(new) == 2 * len(layers)
    assert all("_of_layers" in name for name in new)
    taps = [np.zeros((len(pixels), *call.shape[1:]), np.float32) for call in layers]
    for ours, theirs in zip(tapped.predict_on_batch([pixels, *taps]), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for number, tap in enumerate(taps):
        tap += 1
        *maps, logits = tapped.predict_on_batch([pixels, *taps])
        tap -= 1
        np.testing.assert_allclose(maps[number], expected[number] + 1, atol=1e-5)
        for ours, theirs in zip(maps[:number], expected[:number], strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-5)
        assert np.abs(logits - expected[-1]).max() > 1e-3, layers[number].path


def test_layers_by_path_index_and_group(flat):
    nested = flatten(sequential(flat))
    names = layer_names(nested)
    assert names[0] == "base/stem"
    conv = ["base/stem", "base/conv1", "base/conv2"]
    for layers, paths in {
        "base/add1": ["base/add1"],
        2: [names[2]],
        "all": names,
        "conv": conv,
        "last": ["base/out2"],
        (0, -1, "base/add1"): [names[0], names[-1], "base/add1"],
        ("conv", "base/conv1", 1): [*conv, "base/pool"],
    }.items():
        assert [call.path for call in find(nested, layers)] == paths
    assert GradCAM(nested, np.int64(1)).layers == ["base/pool"]


def test_blocks_end_before_forks_and_before_maps_shrink(flat):
    graph = flatten(flat)
    ends = ["stem", "pool", "out1", "out2", "shrink"]
    assert [call.path for call in find(graph, "blocks")] == ends
    assert [call.path for call in block_ends(graph)] == ends


@pytest.mark.parametrize("layer", ["conv3", 99, -11, "base/conv1", "batch"])
def test_refuses_layers_that_it_does_not_have(flat, layer):
    with pytest.raises(ValueError, match=f"index from -10 to 9.*Received: {layer!r}"):
        GradCAM(flat, layer)


def test_targets_as_a_function_of_the_logits(flat, pixels, expected):
    explain = GradCAM(flat, "conv2")
    highest = explain(pixels, lambda z: keras.ops.max(z, axis=-1))["conv2"]
    np.testing.assert_allclose(highest, expected["conv2"], atol=1e-6)
    gap = explain(pixels, lambda z: z[:, 0] - z[:, 1])["conv2"]
    other = explain(pixels, lambda z: z[:, 1] - z[:, 0])["conv2"]
    assert ((gap == 0) | (other == 0)).all()  # a position speaks for one class or for the other
    assert gap.any()


def test_one_of_several_outputs_is_chosen_by_name(flat, pixels, expected):
    other = keras.layers.Dense(3, name="other")(flat.layers[-2].output)
    both = keras.Model(flat.inputs, [flat.output, other])
    with pytest.raises(ValueError, match="output as one of logits, other.*Received: None"):
        GradCAM(both)
    with pytest.raises(ValueError, match="output as one of logits, other,.*Received: 'age'"):
        flatten(both, output="age")
    maps = GradCAM(flatten(both, output="logits"), "conv2")(pixels)["conv2"]
    np.testing.assert_allclose(maps, expected["conv2"], atol=1e-6)
    assert flatten(both, output="other").classes == 3


def half_precision(head: str | None = None) -> keras.Model:
    """The flat network in half precision; the head may be in another."""
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
    labels = np.zeros(5, int)
    maps = GradCAM(half, "all")(pixels, labels)
    for name, values in GradCAM(flat, "all")(pixels, labels).items():
        assert maps[name].dtype == np.float32
        np.testing.assert_allclose(maps[name], values, atol=0.03)
    same = FGSM(half).signs(pixels, labels) == FGSM(flat).signs(pixels, labels)
    assert same.mean() > 0.95


def full_and_half(flat, factor) -> list[keras.Model]:
    """The network in both precisions, with float32 heads whose kernels are scaled by a factor."""
    models = [keras.models.clone_model(flat), half_precision("float32")]
    *weights, kernel, _ = flat.get_weights()
    for model in models:
        model.set_weights([*weights, factor * kernel, np.zeros(4)])
    return models


def test_gradients_of_half_precision_do_not_fade_to_zero(flat, pixels):
    # Derivatives of about 1e-8, below the smallest number of half precision.
    sums = []
    for model in full_and_half(flat, 1e-5):
        graph = flatten(model)
        run = compile_sums(graph, find(graph, "out1"), 5, 1)
        sums.append(run(pixels, np.zeros((5, 1)))[0][0])
    scale = np.abs(sums[0]).max()
    assert scale > 0
    np.testing.assert_allclose(sums[1] / scale, sums[0] / scale, atol=0.05)


def test_gradients_of_half_precision_that_overflow_are_scaled_less(flat, pixels):
    # The largest number of half precision is 65504: derivatives of about 1000, times 1024.
    full, half = (GradCAM(m, "out1")(pixels, [0] * 5)["out1"] for m in full_and_half(flat, 4e5))
    np.testing.assert_allclose(half, full, atol=0.03)


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
        r"two classes or more, or a sigmoid. Received: \(None, 1\), one unit": keras.Model(
            one, keras.layers.Dense(1)(pooled)
        ),
        "Received: activation 'tanh' at 'end'": keras.Model(
            one, keras.layers.Dense(2, activation="tanh", name="end")(pooled)
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


@pytest.mark.parametrize("use", [GradCAM, FGSM])
@pytest.mark.parametrize("message", refused())
def test_refuses_models_that_it_cannot_explain_or_attack(message, use):
    with pytest.raises(ValueError, match=message):
        use(refused()[message])
