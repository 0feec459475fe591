"""Models as people have them: pixels, places and ends; beside Grad-CAM in plain TensorFlow."""

import operator

import keras
import numpy as np
import pytest
import tensorflow as tf

from benchmarks import applications
from gradcam_adv import (
    FGSM,
    GradCAM,
    ScoreCAM,
    dissimilarity,
    flatten,
    layer_names,
    load_model,
    predict_logits,
)
from gradcam_adv.graph.layers import find

pytestmark = pytest.mark.tensorflow

SIDE = 16
K = keras.layers


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (6, SIDE, SIDE, 3)).astype(np.float32) / 255


def plain_gradcam(place, logits, inputs, images, score):
    """Grad-CAM in plain TensorFlow: images as the model takes them, and a score of the logits."""
    both = keras.Model(inputs, [place, logits])
    with tf.GradientTape() as tape:
        activations, values = both(tf.constant(images), training=False)
        scores = score(values)
    gradients = tape.gradient(scores, activations).numpy()
    alpha = gradients.mean(axis=(1, 2), keepdims=True)
    maps = np.maximum((alpha * activations.numpy()).sum(axis=-1), 0)
    highest = maps.max(axis=(1, 2), keepdims=True)
    return maps / np.where(highest > 0, highest, 1)


def plain_signs(logits, inputs, images, labels):
    """FGSM's signs in plain TensorFlow, of the cross-entropy in double precision."""
    model = keras.Model(inputs, logits)
    with tf.GradientTape() as tape:
        given = tf.constant(images)
        tape.watch(given)
        values = tf.cast(model(given, training=False), "float64")
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, values)
    return np.sign(tape.gradient(loss, given).numpy())


def check_signs(signs, expected):
    """Where the cross-entropy's gradient has faded to zero, the reference says nothing."""
    told = expected != 0
    assert told.mean() > 0.5
    assert (signs == expected)[told].mean() > 0.999


def highest(values):
    return tf.reduce_max(values, axis=1)


def small(prepare, classes=4, dtype="float32", end=lambda x: x):
    """A network behind layers that prepare pixels: the model, its place and its logits."""
    keras.utils.set_random_seed(5)
    inputs = keras.Input((SIDE, SIDE, 3), dtype=dtype)
    place = K.Conv2D(6, 3, activation="relu", name="conv")(prepare(inputs))
    x = K.Conv2D(5, 3, strides=2, name="head")(K.MaxPooling2D()(place))
    logits = K.Dense(classes, name="logits")(K.Flatten()(K.LeakyReLU()(x)))
    return keras.Model(inputs, end(logits)), place, logits


def adapted(mean, deviation):
    return K.Normalization(mean=[mean] * 3, variance=[deviation**2] * 3)


def caffe(x):
    return x[..., ::-1] - np.array([103.939, 116.779, 123.68], np.float32)


def augmented(x):
    parts = [K.RandomFlip(), K.RandomRotation(0.1), K.GaussianNoise(0.1), K.Rescaling(1 / 255)]
    return keras.Sequential([keras.Input((SIDE, SIDE, 3)), *parts], name="augmentation")(x)


# What prepares the pixels, and the range that it takes.
PREPARED = {
    "rescaled": (K.Rescaling(1 / 255), "0..255"),
    "rescaled to -1..1": (K.Rescaling(1 / 127.5, offset=-1), "0..255"),
    "standardized": (adapted(120.0, 60.0), "0..255"),
    "of MNIST": (adapted(33.3, 78.6), "0..255"),
    "by operators": (lambda x: x / 127.5 - 1, "0..255"),
    "a mean less": (caffe, "0..255"),
    "augmented": (augmented, "0..255"),
    "resized": (lambda x: K.Rescaling(1 / 255)(K.Resizing(12, 12)(x)), "0..255"),
    "of 0..1": (adapted(0.45, 0.22), "0..1"),
    "to -1..1": (K.Rescaling(2.0, offset=-1), "0..1"),
    "to 0..255": (K.Rescaling(255), "0..1"),
    "of -1..1": (K.Rescaling(127.5, offset=127.5), "-1..1"),
}
AS_TAKEN = {"0..1": lambda x: x, "0..255": lambda x: 255 * x, "-1..1": lambda x: 2 * x - 1}


@pytest.mark.parametrize("kind", PREPARED)
def test_the_first_layers_tell_which_pixels_a_model_takes(pixels, kind):
    prepare, taken = PREPARED[kind]
    model, place, logits = small(prepare)
    head = model.get_layer("logits")
    head.set_weights([0.02 * weights for weights in head.get_weights()])  # so nothing fades
    graph = flatten(model)
    assert (graph.pixels.range, graph.pixels.known) == (taken, True), graph.pixels
    assert layer_names(model)[0] == "conv"  # what prepares pixels is no place
    own = AS_TAKEN[taken](pixels)
    expected = plain_gradcam(place, logits, model.inputs, own, highest)
    np.testing.assert_allclose(GradCAM(model, "conv")(pixels)["conv"], expected, atol=1e-4)
    labels = np.arange(6) % 4
    signs = FGSM(model).signs(pixels, labels)
    check_signs(signs, plain_signs(logits, model.inputs, own, labels))


def clipped(x):
    return keras.ops.clip(4 * x, 0, 3)


@pytest.mark.parametrize("prepare", [lambda x: x, clipped, K.RandomFlip(), K.Rescaling(0.25)])
def test_pixels_that_the_first_layers_do_not_tell_are_assumed_or_given(pixels, prepare):
    model, place, logits = small(prepare)
    assert (flatten(model).pixels.range, flatten(model).pixels.known) == ("0..1", False)
    for taken, own in AS_TAKEN.items():
        graph = flatten(model, pixels=taken)
        expected = plain_gradcam(place, logits, model.inputs, own(pixels), highest)
        np.testing.assert_allclose(GradCAM(graph, "conv")(pixels)["conv"], expected, atol=1e-4)
    with pytest.raises(ValueError, match=r"Expected pixels as one of 0\.\.1, .* Received: '0-255'"):
        flatten(model, pixels="0-255")


def test_a_model_of_a_fixed_batch_size_tells_its_pixels():
    inputs = keras.Input(batch_shape=(2, SIDE, SIDE, 3))
    x = K.Conv2D(2, 3)(K.Rescaling(1 / 255)(inputs))
    model = keras.Model(inputs, K.Dense(2)(K.Flatten()(x)))
    assert flatten(model).pixels.range == "0..255"


def test_what_was_asked_for_overrules_the_layers(pixels):
    model, place, logits = small(K.Rescaling(1 / 255))
    expected = plain_gradcam(place, logits, model.inputs, pixels, highest)
    maps = GradCAM(flatten(model, pixels="0..1"), "conv")(pixels)["conv"]
    np.testing.assert_allclose(maps, expected, atol=1e-4)


@pytest.mark.parametrize("dtype", ["uint8", "int32"])
@pytest.mark.parametrize(
    "prepare", [K.Rescaling(1 / 255), lambda x: keras.ops.cast(x, "float32") / 255]
)
def test_a_model_of_whole_numbers_is_explained_through_the_cast(pixels, dtype, prepare):
    model, place, logits = small(prepare, dtype=dtype)
    own = np.rint(255 * pixels).astype(dtype)
    expected = plain_gradcam(place, logits, model.inputs, own, highest)
    np.testing.assert_allclose(GradCAM(model, "conv")(pixels)["conv"], expected, atol=1e-4)
    np.testing.assert_allclose(
        predict_logits(model, pixels), keras.Model(model.input, logits)(own), atol=1e-4
    )
    assert (FGSM(model).signs(pixels, np.zeros(6, int)) != 0).mean() > 0.9


def test_whole_numbers_that_are_not_the_same_as_floats_are_refused():
    keras.utils.set_random_seed(1)
    inputs = keras.Input((SIDE, SIDE, 3), dtype="uint8")
    around = keras.ops.cast(inputs + inputs, "float32")  # beyond 255 it begins at 0 again
    x = K.GlobalAveragePooling2D()(K.Conv2D(3, 3)(around))
    with pytest.raises(ValueError, match="gives the same for pixels of uint8 .*: other outputs"):
        flatten(keras.Model(inputs, K.Dense(2)(x)))


# Places.


def excited(x, name):
    """Squeeze and excite."""
    small = K.GlobalAveragePooling2D(keepdims=True, name=f"{name}_squeeze")(x)
    small = K.Conv2D(2, 1, activation="relu", name=f"{name}_reduce")(small)
    small = K.Conv2D(x.shape[-1], 1, activation="sigmoid", name=f"{name}_expand")(small)
    return K.Multiply(name=f"{name}_excite")([x, small])


@pytest.fixture(scope="module")
def pooled():
    """A network with a squeeze and excite, and convolutions behind global pooling."""
    keras.utils.set_random_seed(2)
    inputs = keras.Input((SIDE, SIDE, 3))
    x = K.Conv2D(4, 3, activation="relu", name="conv")(inputs)
    x = K.Activation("relu", name="end")(excited(x, "se"))
    x = K.Reshape((1, 1, 4), name="grid")(K.GlobalAveragePooling2D()(x))
    x = K.Conv2D(5, 1, name="preds")(K.Dropout(0.1)(x))
    wide = K.Reshape((2, 2, 3), name="wide")(K.Dense(12)(K.Flatten()(x)))
    wide = K.Conv2D(5, 1, name="decoded")(wide)
    wide = K.Reshape((20,))(wide)
    x = K.Dense(5)(K.Concatenate()([K.Reshape((5,))(x), wide]))
    return keras.Model(inputs, K.Activation("softmax")(x))


def test_behind_global_pooling_there_is_no_place(pooled, pixels):
    assert layer_names(pooled) == ["conv", "se_excite", "end"]
    for group in ("last", "blocks", "all", "conv"):
        assert {call.path for call in find(flatten(pooled), group)} <= {"conv", "se_excite", "end"}
    assert GradCAM(pooled).layers == ["end"]
    for name in ("se_squeeze", "se_reduce", "grid", "preds", "wide", "decoded"):
        with pytest.raises(ValueError, match=f"'{name}', whose . x . positions .*global pooling"):
            GradCAM(pooled, name)


def test_what_has_no_heatmap_is_refused_by_name_with_the_reason(pixels):
    inputs = keras.Input((SIDE, SIDE, 3))
    x = K.Conv2D(4, 3, name="conv")(K.RandomFlip(name="flip")(inputs))
    K.Conv2D(4, 3, name="aside")(x)
    half = K.Flatten()(K.ReLU()(keras.ops.split(x, 2, axis=-1)[0]))
    model = keras.Model(inputs, K.Dense(2, name="dense")(half))
    for name, reason in {
        "flip": "which only prepares the pixels",
        "dense": r"whose output of shape \(None, 2\) is not",
        "split": "which has 2 outputs",
    }.items():
        with pytest.raises(ValueError, match=f"that has a heatmap. Received: '{name}', {reason}"):
            GradCAM(model, name)


def test_sums_and_activations_by_operators_are_places(pixels):
    keras.utils.set_random_seed(8)
    inputs = keras.Input((SIDE, SIDE, 3))
    first = K.Conv2D(6, 3, padding="same", name="first")(inputs)
    second = K.Conv2D(6, 3, padding="same", name="second")(keras.ops.relu(first))
    end = keras.ops.relu(first + second)
    logits = K.Dense(4)(K.Flatten()(K.Dropout(0.5)(K.AveragePooling2D(2)(end))))
    model = keras.Model(inputs, logits)
    names = layer_names(model)
    assert [name.split("_")[0] for name in names] == [
        *("first", "relu", "second", "add", "relu", "average", "dropout")
    ]
    # As the same network made of layers, and as plain TensorFlow.
    assert [call.path for call in find(flatten(model), "blocks")] == ["first", names[4], names[6]]
    (maps,) = GradCAM(model, names[4])(pixels).values()
    expected = plain_gradcam(end, logits, inputs, pixels, highest)
    np.testing.assert_allclose(maps, expected, atol=1e-4)
    short = keras.Model(inputs, K.Dense(4)(K.GlobalAveragePooling2D()(end)))
    assert GradCAM(short).layers == [names[4]]


# Ends.

ENDS = {
    "linear": lambda z: K.Activation("linear")(K.Softmax()(z)),
    "dropped": lambda z: K.Dropout(0.5)(K.Softmax()(z)),
    "flat": lambda z: K.Flatten()(K.Activation("softmax")(K.Reshape((1, 1, 4))(z))),
    "shaped": lambda z: K.Reshape((4,))(keras.ops.softmax(K.Reshape((1, 4))(z))),
    "cast": lambda z: K.Activation("linear", dtype="float32")(K.Softmax()(z)),
    "TensorFlow's": lambda z: K.Activation(tf.nn.softmax)(z),
    "a user's": lambda z: K.Activation(lambda z: tf.exp(z) / tf.reduce_sum(tf.exp(z), -1, True))(z),
}


@pytest.mark.parametrize("kind", ENDS)
def test_a_softmax_is_found_behind_what_changes_no_value(pixels, kind):
    model, place, logits = small(lambda x: x, end=ENDS[kind])
    expected = plain_gradcam(place, logits, model.inputs, pixels, highest)
    np.testing.assert_allclose(GradCAM(model, "conv")(pixels)["conv"], expected, atol=1e-4)
    own = keras.Model(model.input, logits)(pixels)
    np.testing.assert_allclose(predict_logits(model, pixels), own, atol=1e-5)
    labels = np.arange(6) % 4
    signs = FGSM(model).signs(pixels, labels)
    check_signs(signs, plain_signs(logits, model.inputs, pixels, labels))


def test_a_dense_layer_with_tensorflows_softmax(pixels):
    model, place, logits = small(lambda x: x)
    end = K.Dense(4, activation=tf.nn.softmax)
    probabilities = end(model.layers[-2].output)
    end.set_weights(model.layers[-1].get_weights())
    expected = plain_gradcam(place, logits, model.inputs, pixels, highest)
    maps = GradCAM(keras.Model(model.inputs, probabilities), "conv")(pixels)["conv"]
    np.testing.assert_allclose(maps, expected, atol=1e-4)


def two_of(model):
    """The network of one unit with two logits, -z / 2 and z / 2."""
    *_, before, last = model.layers
    two = K.Dense(2)
    logits = two(before.output)
    kernel, bias = last.get_weights()
    two.set_weights([kernel * [[-0.5, 0.5]], bias * [-0.5, 0.5]])
    return logits


SIGMOIDS = {
    "in the dense layer": lambda x: K.Dense(1, activation="sigmoid")(x),
    "a layer": lambda x: K.Activation("sigmoid")(K.Dense(1)(x)),
    "an operation": lambda x: keras.ops.sigmoid(K.Dense(1)(x)),
    "flat": lambda x: K.Flatten()(K.Dropout(0.2)(K.Dense(1, activation=tf.nn.sigmoid)(x))),
}


@pytest.mark.parametrize("kind", SIGMOIDS)
def test_one_sigmoid_unit_is_a_model_of_two_classes(pixels, kind):
    whole, place, z = small(lambda x: x, classes=1)
    model = keras.Model(whole.inputs, SIGMOIDS[kind](whole.layers[-2].output))
    # With logits of both signs.
    kernel, _ = whole.layers[-1].get_weights()
    bias = -np.median(whole.predict(pixels, verbose=0), axis=0)
    for one in (whole, model):
        one.set_weights([*one.get_weights()[:-2], kernel, bias])
    values = whole.predict(pixels, verbose=0)[:, 0]
    assert {True, False} == set(values > 0)
    given = predict_logits(model, pixels)
    np.testing.assert_allclose(given, np.stack([-values / 2, values / 2], 1), atol=1e-6)
    chances = keras.ops.softmax(given)[:, 1]
    np.testing.assert_allclose(chances, model.predict(pixels, verbose=0)[:, 0], atol=1e-6)
    # Grad-CAM and FGSM are those of the same network with two logits, for both classes.
    two = two_of(whole)
    expected = plain_gradcam(place, two, whole.inputs, pixels, highest)
    maps = GradCAM(model, "conv")(pixels)["conv"]
    np.testing.assert_allclose(maps, expected, atol=1e-4)
    assert (maps.max(axis=(1, 2)) == 1).all()
    of_yes = plain_gradcam(place, z, whole.inputs, pixels, lambda z: z[:, 0])
    np.testing.assert_allclose(GradCAM(model, "conv")(pixels, [1] * 6)["conv"], of_yes, atol=1e-4)
    labels = np.array([0, 1, 1, 0, 1, 0])
    signs = FGSM(model).signs(pixels, labels)
    check_signs(signs, plain_signs(two, whole.inputs, pixels, labels))
    zero_and_z = keras.ops.concatenate([keras.ops.zeros_like(z), z], axis=-1)
    check_signs(signs, plain_signs(zero_and_z, whole.inputs, pixels, labels))


def test_one_linear_unit_is_a_logit_only_if_somebody_says_so(pixels, tmp_path):
    model, place, _ = small(lambda x: x, classes=1)
    with pytest.raises(ValueError, match="may be a regression; one_logit=True"):
        flatten(model)
    model.compile(loss="binary_crossentropy")
    with pytest.raises(ValueError, match="may be a regression"):
        flatten(model)
    expected = plain_gradcam(place, two_of(model), model.inputs, pixels, highest)
    maps = GradCAM(flatten(model, one_logit=True), "conv")(pixels)["conv"]
    np.testing.assert_allclose(maps, expected, atol=1e-4)
    model.compile(loss=keras.losses.BinaryCrossentropy(from_logits=True))
    np.testing.assert_allclose(GradCAM(model, "conv")(pixels)["conv"], expected, atol=1e-4)
    # A file tells it, too.
    model.save(tmp_path / "one.keras")
    again = load_model(tmp_path / "one.keras")
    np.testing.assert_allclose(GradCAM(again, "conv")(pixels)["conv"], expected, atol=1e-4)
    for said in (None, True):
        with pytest.raises(ValueError, match="one unit, which is always 1 behind its softmax"):
            flatten(keras.Model(model.inputs, K.Softmax()(model.output)), one_logit=said)


def test_each_label_of_several_sigmoids_is_its_own_question(pixels):
    model, place, logits = small(lambda x: x, end=K.Activation("sigmoid"))
    labels = np.arange(6) % 4
    np.testing.assert_allclose(
        predict_logits(model, pixels), keras.Model(model.input, logits)(pixels), atol=1e-5
    )
    for label in range(4):
        maps = GradCAM(model, "conv")(pixels, [label] * 6)["conv"]
        score = operator.itemgetter((slice(None), label))
        expected = plain_gradcam(place, logits, model.inputs, pixels, score)
        np.testing.assert_allclose(maps, expected, atol=1e-4)
    # The attack lowers the logit of its label, whatever the others are.
    whole = keras.Model(model.input, logits)
    with tf.GradientTape() as tape:
        given = tf.constant(pixels)
        tape.watch(given)
        chosen = tf.gather(whole(given), labels, batch_dims=1)
        loss = tf.nn.sigmoid_cross_entropy_with_logits(tf.ones_like(chosen), chosen)
    expected = np.sign(tape.gradient(loss, given).numpy())
    check_signs(FGSM(model).signs(pixels, labels), expected)
    assert dissimilarity(model, pixels, epsilons=[0.1], controls=False).mod["mod"].notna().all()
    with pytest.raises(ValueError, match="for ScoreCAM.*Received: labels that are independent"):
        ScoreCAM(model)


def test_an_embedding_network_is_no_classifier():
    for end in (
        K.UnitNormalization(),
        K.BatchNormalization(),
        lambda z: keras.ops.normalize(z, axis=-1),
        lambda z: z / keras.ops.sqrt(keras.ops.sum(z**2, axis=-1, keepdims=True)),
    ):
        model, *_ = small(lambda x: x, classes=8, end=end)
        with pytest.raises(ValueError, match="an embedding network, which has no classes"):
            flatten(model)
    # In front of a softmax it is part of a classifier.
    model, *_ = small(lambda x: x, end=lambda z: K.Softmax()(K.BatchNormalization()(z)))
    assert flatten(model).classes == 4


def test_a_model_of_any_size_gets_one(pixels):
    keras.utils.set_random_seed(4)
    inputs = keras.Input((None, None, 3))
    place = K.Conv2D(4, 3, name="conv")(inputs)
    logits = K.Dense(3)(K.GlobalAveragePooling2D()(place))
    model = keras.Model(inputs, logits)
    graph = flatten(model, size=(SIDE, SIDE))
    assert graph.input.shape == (None, SIDE, SIDE, 3)
    expected = plain_gradcam(place, logits, inputs, pixels, highest)
    for given in (model, graph):
        np.testing.assert_allclose(GradCAM(given)(pixels)["conv"], expected, atol=1e-4)
    with pytest.raises(ValueError, match="Expected size as the model's, 16 x 16. Received: 8 x 16"):
        flatten(small(lambda x: x)[0], size=(8, 16))


# Models of tutorials in a few lines. Each gives the model, the pixels that it takes, its default
# place, and its logits; these two as tensors of a graph that begins at the third.


def two_logits(z):
    return keras.ops.concatenate([-z / 2, z / 2], axis=-1)


def cats_and_dogs():
    """Augmentation inside, and one sigmoid unit."""
    augment = keras.Sequential([K.RandomFlip("horizontal"), K.RandomRotation(0.1)])
    inputs = keras.Input((32, 32, 3))
    x = K.Conv2D(8, 3, strides=2)(K.Rescaling(1.0 / 255)(augment(inputs)))
    x = K.Activation("relu")(K.BatchNormalization()(x))
    place = K.SeparableConv2D(8, 3, padding="same")(x)
    z = K.Dense(1)(K.Dropout(0.25)(K.GlobalAveragePooling2D()(place)))
    return keras.Model(inputs, keras.ops.sigmoid(z)), "0..255", inputs, place, two_logits(z)


def flowers():
    """Sequential, with a dense layer of logits; the last layer with a heatmap is a dropout."""
    place = K.Dropout(0.2)
    body = [K.Conv2D(8, 3, activation="relu"), K.MaxPooling2D(), place, K.Flatten()]
    layers = [K.RandomZoom(0.1), K.Rescaling(1.0 / 255), *body, K.Dense(16, activation="relu")]
    model = keras.Sequential([keras.Input((32, 32, 3)), *layers, K.Dense(5)])
    return model, "0..255", model.inputs[0], place.output, model.outputs[0]


def transfer_learning():
    """A nested base, its preprocessing by operators, and one logit."""
    shape = (64, 64, 3)
    base = keras.applications.MobileNetV2(shape, alpha=0.35, include_top=False, weights=None)
    inputs = keras.Input(shape)
    x = keras.applications.mobilenet_v2.preprocess_input(K.RandomFlip()(inputs))
    place = base(x, training=False)
    z = K.Dense(1)(K.Dropout(0.2)(K.GlobalAveragePooling2D()(place)))
    model = keras.Model(inputs, z)
    model.compile(loss=keras.losses.BinaryCrossentropy(from_logits=True))
    return model, "0..255", inputs, place, two_logits(z)


def mnist():
    """One channel; pixels are divided by 255 outside."""
    place, logits = K.Conv2D(8, 3, activation="relu"), K.Dense(10)
    body = [K.Conv2D(4, 3, activation="relu"), K.MaxPooling2D(), place, K.MaxPooling2D()]
    layers = [*body, K.Flatten(), K.Dropout(0.5), logits, K.Softmax()]
    model = keras.Sequential([keras.Input((28, 28, 1)), *layers])
    return model, "0..1", model.inputs[0], place.output, logits.output


def teachable_machine():
    """Two Sequential models in a third."""
    inputs = keras.Input((32, 32, 3))
    features = keras.Sequential([keras.Input((32, 32, 3)), K.Conv2D(8, 3, strides=2), K.ReLU(6.0)])
    head = [K.GlobalAveragePooling2D(), K.Dense(10, activation="relu"), K.Dense(3, use_bias=False)]
    model = keras.Sequential([features, keras.Sequential([*head, K.Softmax()])])
    model.build((None, 32, 32, 3))
    place = x = features(inputs)
    for layer in head:
        x = layer(x)
    return model, "0..1", inputs, place, x


def transformer():
    """Patches as tokens, an attention block, and the usual reshape of tokens to a grid."""
    inputs = keras.Input((32, 32, 3))
    patches = K.Conv2D(16, 8, strides=8)(K.Rescaling(1 / 127.5, offset=-1)(inputs))
    tokens = K.Reshape((16, 16))(patches)
    normal = K.LayerNormalization()(tokens)
    tokens = K.LayerNormalization()(tokens + K.MultiHeadAttention(2, 8)(normal, normal))
    place = K.Reshape((4, 4, 16))(tokens)
    z = K.Dense(4)(K.GlobalAveragePooling2D()(place))
    return keras.Model(inputs, z), "0..255", inputs, place, z


TUTORIALS = (
    cats_and_dogs,
    flowers,
    pytest.param(transfer_learning, marks=pytest.mark.slow),
    mnist,
    teachable_machine,
    transformer,
)


@pytest.mark.parametrize("build", TUTORIALS)
def test_a_model_of_a_tutorial_gives_the_maps_of_plain_tensorflow(build, tmp_path):
    keras.utils.set_random_seed(6)
    model, taken, inputs, place, logits = build()
    model.save(tmp_path / "my.keras")
    model = load_model(tmp_path / "my.keras")
    images = np.random.default_rng(0).random((4, *inputs.shape[1:]), np.float32)
    assert flatten(model).pixels.range == taken
    (maps,) = GradCAM(model)(images).values()
    expected = plain_gradcam(place, logits, inputs, AS_TAKEN[taken](images), highest)
    np.testing.assert_allclose(maps, expected, atol=2e-4)
    assert maps.any()
    result = dissimilarity(model, images, epsilons=[0.1], layers="blocks", controls=False)
    assert result.mod["mod"].notna().all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "pixels", "last"),
    [
        ("MobileNet", "0..1, assumed", "conv_pw_13_relu"),
        ("MobileNetV3Small", "0..255", "activation_"),
        ("EfficientNetB0", "0..255", "top_activation"),
        ("EfficientNetV2B0", "0..255", "top_activation"),
        ("ConvNeXtTiny", "0..255", "add_"),
        ("DenseNet121", "0..1, assumed", "relu"),
    ],
)
def test_a_network_of_keras_gives_the_maps_of_plain_tensorflow(name, pixels, last):
    (_, _, *cells), apart = applications.measure(name)
    assert cells[0] == pixels
    assert cells[1].startswith(f"`{last}")
    assert apart < 1e-3


def test_a_siamese_network_is_refused_in_one_line():
    one, two = keras.Input((SIDE, SIDE, 3)), keras.Input((SIDE, SIDE, 3))
    base = keras.Sequential([K.Conv2D(4, 3), K.GlobalAveragePooling2D()])
    end = K.Dense(1, activation="sigmoid")(K.Subtract()([base(one), base(two)]))
    with pytest.raises(
        ValueError, match=r"one input \(N, H, W, C\). Received: inputs \[.*, .*\]; to compare two"
    ):
        flatten(keras.Model([one, two], end))


# Empty heatmaps.


def test_empty_heatmaps_are_counted_and_are_no_mod_of_zero(pixels):
    model, *_ = small(lambda x: x)
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([0 * kernel, bias])
    result = dissimilarity(model, pixels, epsilons=[0.05, 0.1], layers="conv")
    assert result.nissim[["empty_clean", "empty_perturbed"]].all(axis=None)
    assert result.mod[["empty_clean", "empty_perturbed", "both_empty"]].eq(6).all(axis=None)
    assert result.mod["mod"].isna().all()
    assert result.vid["vid"].isna().all()
    assert result.gain[["equivalent", "gain", "low", "high"]].isna().all(axis=None)
    assert len(result.gain) == 4 and result.half_shift.empty


def test_some_empty_heatmaps_are_counted_as_they_are():
    parts = [keras.Input((8, 8, 3)), K.Conv2D(2, 1, name="conv"), K.Flatten(), K.Dense(2)]
    model = keras.Sequential(parts)
    images = np.random.default_rng(1).random((4, 8, 8, 3), np.float32)

    def explain(given, targets):
        maps = np.ones((len(given), 8, 8))
        maps[given[:, 0, 0, 0] > 0.5] = 0
        return {"own": maps}

    result = dissimilarity(model, images, epsilons=[0.2], explainer=explain, controls=False)
    first = images[:, 0, 0, 0] > 0.5
    assert first.any() and not first.all()
    assert result.nissim["empty_clean"].tolist() == first.tolist()
    row = result.mod.iloc[0]
    assert row["empty_clean"] == first.sum()
    assert row["both_empty"] == result.nissim.eval("empty_clean and empty_perturbed").sum()
    assert row["mod"] == pytest.approx(result.nissim["nissim"].mean())


def test_the_log_names_the_pixels_where_the_accuracy_is_near_chance(pixels, caplog):
    model, *_ = small(K.Rescaling(1 / 255))
    predicted = predict_logits(model, pixels).argmax(axis=1)
    with caplog.at_level("WARNING", "gradcam_adv"):
        dissimilarity(model, pixels, predicted, epsilons=[0.1], controls=False)
        assert not caplog.records
        dissimilarity(model, pixels, (predicted + 1) % 4, epsilons=[0.1], controls=False)
    assert "0 % of the clean images are predicted right, near chance" in caplog.text
    assert "(pixels 0..255, since 'rescaling" in caplog.text
