"""Ten models of other people's tutorials in a few lines each, by the README's four lines.

Each function gives the model, the pixels that it takes, and, as tensors of a graph that begins at
the third, its default place and its logits.
"""

import keras
import numpy as np
import pytest
from test_own_models import AS_TAKEN, check_signs, highest, plain_gradcam, plain_signs

from gradcam_adv import FGSM, GradCAM, dissimilarity, flatten, load_model, perturb

pytestmark = pytest.mark.tensorflow

K = keras.layers


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
    """A nested base that is frozen, its preprocessing by operators, and one logit."""
    shape = (32, 32, 3)
    x = given = keras.Input(shape)
    for stride in (2, 1):
        x = K.BatchNormalization()(K.DepthwiseConv2D(3, strides=stride)(K.Conv2D(6, 1)(x)))
        x = K.ReLU(6.0)(x)
    base = keras.Model(given, x, trainable=False)
    inputs = keras.Input(shape)
    x = keras.applications.mobilenet_v2.preprocess_input(K.RandomFlip()(inputs))
    place = base(x, training=False)
    z = K.Dense(1)(K.Dropout(0.2)(K.GlobalAveragePooling2D()(place)))
    model = keras.Model(inputs, z)
    model.compile(loss=keras.losses.BinaryCrossentropy(from_logits=True))
    return model, "0..255", inputs, place, two_logits(z)


def cifar():
    """Two convolutions and a sum in front of each pooling; the softmax in the dense layer."""
    x = inputs = keras.Input((32, 32, 3))
    for channels in (4, 8):
        before = K.Conv2D(channels, 3, padding="same", activation="elu")(x)
        x = K.BatchNormalization()(K.Conv2D(channels, 3, padding="same")(before))
        place = keras.ops.relu(x + before)
        x = K.Dropout(0.2)(K.MaxPooling2D()(place))
    place, head = x, K.Dense(10)
    logits = head(K.Flatten()(place))
    probabilities = K.Dense(10, activation="softmax")
    model = keras.Model(inputs, probabilities(K.Flatten()(place)))
    probabilities.set_weights(head.get_weights())
    return model, "0..1", inputs, place, logits


def mnist():
    """One channel; pixels are divided by 255 outside."""
    place, logits = K.Conv2D(8, 3, activation="relu"), K.Dense(10)
    body = [K.Conv2D(4, 3, activation="relu"), K.MaxPooling2D(), place, K.MaxPooling2D()]
    layers = [*body, K.Flatten(), K.Dropout(0.5), logits, K.Softmax()]
    model = keras.Sequential([keras.Input((28, 28, 1)), *layers])
    return model, "0..1", model.inputs[0], place.output, logits.output


def pneumonia():
    """A gray X-ray, pooling between convolutions, and yes or no by one unit."""
    x = inputs = keras.Input((32, 32, 1))
    x = K.Rescaling(1.0 / 255)(x)
    for channels in (4, 8):
        place = K.SeparableConv2D(channels, 3, activation="relu", padding="same")(x)
        x = K.MaxPooling2D()(K.BatchNormalization()(place))
    place, z = x, K.Dense(1)
    flat = K.Dense(8, activation="relu")(K.Flatten()(K.Activation("linear")(place)))
    logits = two_logits(z(flat))
    end = K.Dense(1, activation="sigmoid")
    model = keras.Model(inputs, end(flat))
    end.set_weights(z.get_weights())
    return model, "0..255", inputs, place, logits


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


def film_posters():
    """Several genres at once, each by a sigmoid."""
    inputs = keras.Input((32, 24, 3))
    x = K.Conv2D(6, 5, activation="relu")(K.Rescaling(1.0 / 255)(inputs))
    place = K.Conv2D(6, 3, activation="relu")(K.Dropout(0.25)(K.MaxPooling2D()(x)))
    z = K.Dense(6)(K.Flatten()(K.MaxPooling2D()(place)))
    return keras.Model(inputs, K.Activation("sigmoid")(z)), "0..255", inputs, place, z


@keras.saving.register_keras_serializable("tutorials")
class Patches(K.Layer):
    """Patches of the image as tokens."""

    def call(self, images):
        patches = keras.ops.image.extract_patches(images, 8)
        count, height, width, size = keras.ops.shape(patches)
        return keras.ops.reshape(patches, (count, height * width, size))


@keras.saving.register_keras_serializable("tutorials")
class PatchEncoder(K.Layer):
    """A projection, and an embedding of where the patch is."""

    def __init__(self, **options):
        super().__init__(**options)
        self.projection, self.position = K.Dense(8), K.Embedding(16, 8)

    def build(self, shape):
        self.projection.build(shape)
        self.position.build()

    def call(self, patches):
        return self.projection(patches) + self.position(keras.ops.arange(16)[None])


def transformer():
    """Keras' own vision transformer: layers of one's own, and a head on all tokens made flat."""
    inputs = keras.Input((32, 32, 3))
    x = PatchEncoder()(Patches()(K.RandomFlip()(K.Rescaling(1.0 / 127.5, offset=-1)(inputs))))
    normal = K.LayerNormalization(epsilon=1e-6)(x)
    x = K.Add()([K.MultiHeadAttention(2, 4, dropout=0.1)(normal, normal), x])
    wide = K.Dense(16, activation="gelu")(K.LayerNormalization(epsilon=1e-6)(x))
    x = K.Add()([K.Dropout(0.1)(K.Dense(8)(wide)), x])
    place = K.LayerNormalization(epsilon=1e-6)(x)
    z = K.Dense(10)(K.Dropout(0.5)(K.Flatten()(place)))
    return keras.Model(inputs, z), "0..255", inputs, place, z


TUTORIALS = (
    *(cats_and_dogs, flowers, transfer_learning, cifar, mnist, pneumonia, teachable_machine),
    *(film_posters, transformer),
)


@pytest.mark.parametrize("build", TUTORIALS)
def test_a_model_of_a_tutorial_gives_the_maps_and_signs_of_plain_tensorflow(build, tmp_path):
    keras.utils.set_random_seed(6)
    model, taken, inputs, place, logits = build()
    model.save(tmp_path / "my.keras")
    model = load_model(tmp_path / "my.keras")
    images = np.random.default_rng(0).random((4, *inputs.shape[1:]), np.float32)
    own = AS_TAKEN[taken](images)
    graph = flatten(model)
    assert graph.pixels.range == taken
    explain = GradCAM(graph, ["last", "blocks"], batch_size=4)
    maps = explain(images)[explain.layers[0]]
    expected = plain_gradcam(place, logits, inputs, own, highest)
    np.testing.assert_allclose(maps, expected.reshape(maps.shape), atol=2e-4)
    assert maps.any()
    labels = np.arange(4) % graph.classes
    attack = FGSM(graph, batch_size=4)
    if not graph.independent:
        check_signs(attack.signs(images, labels), plain_signs(logits, inputs, own, labels))
    attacked = perturb(images, attack(images, labels, epsilons=[0.1])[0.1])
    assert np.abs(attacked - images).max() == pytest.approx(0.1)
    result = dissimilarity(
        graph, images, epsilons=[0.1], attack=attack, explainer=explain, controls=False
    )
    assert result.mod["mod"].notna().all()


def test_a_siamese_network_is_refused_in_one_line():
    one, two = keras.Input((16, 16, 3)), keras.Input((16, 16, 3))
    base = keras.Sequential([K.Conv2D(4, 3), K.GlobalAveragePooling2D()])
    end = K.Dense(1, activation="sigmoid")(K.Subtract()([base(one), base(two)]))
    with pytest.raises(
        ValueError, match=r"one input \(N, H, W, C\). Received: inputs \[.*, .*\]; to compare two"
    ):
        flatten(keras.Model([one, two], end))
