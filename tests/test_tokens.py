"""Vision transformers: their grids of tokens, places and blocks; beside plain TensorFlow."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradcam_adv import (
    PGD,
    ExplanationAttack,
    GradCAM,
    LayerCAM,
    flatten,
    layer_names,
    metrics,
    perturb,
    predict_logits,
)
from gradcam_adv.explain import resize
from gradcam_adv.graph.layers import find
from gradcam_adv.graph.tokens import Grid

pytestmark = pytest.mark.tensorflow

K = keras.layers
HEIGHT, WIDTH, PATCH = 12, 20, 4  # so 3 x 5 patches
GRID = (3, 5)


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).random((3, HEIGHT, WIDTH, 3), np.float32)


class ClassToken(K.Layer):
    """A token in front of the others, and maybe another one behind them."""

    def __init__(self, behind=0, **options):
        super().__init__(**options)
        self.behind = behind

    def build(self, shape):
        self.token = self.add_weight(shape=(1, 1, shape[-1]), initializer="normal")

    def call(self, x):
        token = keras.ops.repeat(self.token, keras.ops.shape(x)[0], axis=0)
        return keras.ops.concatenate([token, x, *[token] * self.behind], axis=1)


class Positions(K.Layer):
    def build(self, shape):
        self.table = self.add_weight(shape=(1, *shape[1:]), initializer="normal")

    def call(self, x):
        return x + self.table


class Patches(K.Layer):
    """Patches of pixels as tokens, in one layer, as in Keras' own tutorial."""

    def call(self, images):
        patches = keras.ops.image.extract_patches(images, PATCH)
        count, height, width, size = keras.ops.shape(patches)
        return keras.ops.reshape(patches, (count, height * width, size))


def by_convolution(x):
    x = K.Conv2D(8, PATCH, strides=PATCH, name="patches")(x)
    return K.Reshape((-1, 8), name="sequence")(x)


class Columns(K.Layer):
    """Tokens column by column."""

    def call(self, x):
        turned = keras.ops.transpose(x, (0, 2, 1, 3))
        count, width, height, channels = keras.ops.shape(turned)
        return keras.ops.reshape(turned, (count, width * height, channels))


def block(x, name):
    """A block of ViT: attention and two dense layers, each behind a normalization."""
    normal = K.LayerNormalization(name=f"{name}_norm1")(x)
    attended = K.MultiHeadAttention(2, 4, name=f"{name}_attention")(normal, normal)
    x = K.Add(name=f"{name}_middle")([x, attended])
    normal = K.LayerNormalization(name=f"{name}_norm2")(x)
    wide = K.Dense(16, activation="gelu", name=f"{name}_wide")(normal)
    return K.Add(name=f"{name}_end")([x, K.Dense(8, name=f"{name}_narrow")(wide)])


def vit(pooled, embed=by_convolution, behind=0):
    """Two blocks, and a head that reads the class token, or the mean of all tokens."""
    keras.utils.set_random_seed(3)
    inputs = keras.Input((HEIGHT, WIDTH, 3))
    x = embed(inputs)
    if pooled == "class token":
        x = ClassToken(behind, name="class_token")(x)
    x = Positions(name="positions")(x)
    for name in ("first", "second"):
        x = block(x, name)
    x = K.LayerNormalization(name="norm")(x)
    x = x[:, 0] if pooled == "class token" else K.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, K.Dense(4, name="logits")(x))


def plain(model, images, first, names):
    """By layer, Grad-CAM of the highest logit: in plain TensorFlow, with tokens as a grid.

    ``first`` is how many tokens stand before the patches where there are more than these.
    """
    outputs = [model.get_layer(name).output for name in names]
    with tf.GradientTape() as tape:
        *activations, logits = keras.Model(model.inputs, [*outputs, model.output])(images)
        score = tf.reduce_max(logits, axis=1)
    maps = {}
    for name, values, slopes in zip(
        names, activations, tape.gradient(score, activations), strict=True
    ):
        before = first if values.shape[1] > 15 else 0
        values, slopes = (
            given.numpy().reshape(len(images), -1, values.shape[-1])[:, before : before + 15]
            for given in (values, slopes)
        )
        sums = np.maximum(np.einsum("ntc,nc->nt", values, slopes.mean(axis=1)), 0)
        maps[name] = (sums / sums.max(axis=1, keepdims=True).clip(1e-30)).reshape(-1, *GRID)
    return maps


BEFORE_LAST = ["positions", "first_norm1", "first_attention", "first_middle", "first_norm2"]
BEFORE_LAST += ["first_wide", "first_narrow", "first_end", "second_norm1"]
BEHIND = ["second_attention", "second_middle", "second_norm2", "second_wide", "second_narrow"]
BEHIND += ["second_end", "norm"]


def test_a_class_token_is_no_patch_and_what_only_it_reads_is_no_place(pixels):
    model = vit("class token")
    graph = flatten(model)
    names = ["patches", "sequence", "class_token", *BEFORE_LAST]
    assert layer_names(graph) == names
    expected = plain(model, pixels, 1, [*names, *BEHIND])
    for name, values in GradCAM(graph, "all")(pixels).items():
        assert values.any(axis=(1, 2)).all()
        np.testing.assert_allclose(values, expected[name], atol=2e-4)
    for name in BEHIND:
        assert not expected[name].any()
        with pytest.raises(ValueError, match=f"'{name}', of which only other tokens than the pat"):
            find(graph, name)


def test_all_tokens_are_places_where_their_mean_is_read(pixels):
    model = vit("mean")
    maps = GradCAM(model, "all")(pixels)
    names = ["patches", "sequence", *BEFORE_LAST, *BEHIND]
    assert list(maps) == names
    expected = plain(model, pixels, 0, names)
    for name, values in maps.items():
        np.testing.assert_allclose(values, expected[name], atol=2e-4)


@pytest.mark.parametrize(
    ("pooled", "last", "blocks"),
    [
        ("class token", "second_norm1", ["positions", "first_end"]),
        ("mean", "norm", ["positions", "first_end", "norm"]),
    ],
)
def test_a_block_is_from_one_attention_to_the_next(pooled, last, blocks):
    graph = flatten(vit(pooled))
    assert [call.path for call in find(graph, "last")] == [last]
    assert [call.path for call in find(graph, "blocks")] == blocks


class Encoder(K.Layer):
    """A whole block in one layer, as KerasHub has them."""

    def __init__(self, **options):
        super().__init__(**options)
        self.attention = K.MultiHeadAttention(2, 4)

    def call(self, x):
        return x + self.attention(x, x)


def test_blocks_that_are_one_layer_each_end_at_each(pixels):
    inputs = keras.Input((HEIGHT, WIDTH, 3))
    x = ClassToken(name="token")(K.Dense(8, name="embed")(Patches(name="patches")(inputs)))
    for name in ("first", "second", "third"):
        x = Encoder(name=name)(x)
    model = keras.Model(inputs, K.Dense(4)(x[:, 0]))
    assert layer_names(model) == ["patches", "embed", "token", "first", "second"]
    graph = flatten(model)
    assert [call.path for call in find(graph, "blocks")] == ["token", "first", "second"]
    assert GradCAM(model).layers == ["second"]


@pytest.mark.parametrize(
    ("embed", "behind", "grid"),
    [
        (by_convolution, 0, Grid(1, GRID)),
        (lambda x: K.Dense(8)(Patches()(x)), 0, Grid(1, GRID)),
        (by_convolution, 3, Grid(1, GRID)),
        # Of two layers whose grids are not equal the last counts: 3 x 5 in 1 x 2 is 3 x 2.
        (lambda x: K.Reshape((6, 8))(K.MaxPooling2D((1, 2))(patchify(x))), 0, Grid(1, (3, 2))),
        # Not row by row, and one row that is a token.
        (lambda x: Columns()(patchify(x)), 0, None),
        (lambda x: K.Dense(8)(K.Reshape((3, 40))(patchify(x))), 0, None),
    ],
)
def test_the_grid_is_found_by_trying(embed, behind, grid):
    model = vit("class token", embed, behind)
    graph = flatten(model)
    tokens = next(call for call in graph.calls if call.path == "class_token")
    assert graph.places.grids.get(id(tokens.output)) == grid
    if grid is None:
        reason = f"whose {tokens.shape[1]} positions are not found to be a grid"
        with pytest.raises(ValueError, match=f"Received: 'positions', {reason}"):
            find(graph, "positions")


def patchify(x):
    return K.Conv2D(8, PATCH, strides=PATCH)(x)


def test_axes_that_are_no_positions_have_no_map():
    """Tokens turned for mixing (MLP-Mixer), heads, and weights of attention."""
    inputs = keras.Input((32, 32, 3))
    x = K.Reshape((16, 16), name="tokens")(K.Conv2D(16, 8, strides=8, name="conv")(inputs))
    mixed = K.Dense(16, name="over_tokens")(K.Permute((2, 1), name="turned")(x))
    x = K.Add(name="mixed")([x, K.Permute((2, 1), name="back")(mixed)])
    x = K.Add(name="channels")([x, K.Dense(16, name="over_channels")(x)])
    heads = K.Reshape((16, 2, 8), name="heads")(x)
    weights = K.Softmax(name="weights")(keras.ops.einsum("nthd,nshd->nhts", heads, heads))
    heads = keras.ops.einsum("nhts,nshd->nthd", weights, heads)
    x = K.Add(name="attended")([x, K.Reshape((16, 16), name="joined")(heads)])
    model = keras.Model(inputs, K.Dense(4)(K.GlobalAveragePooling1D()(x)))
    places = ["conv", "tokens", "mixed", "over_channels", "channels", "attended"]
    assert layer_names(model) == places
    blocks = [call.path for call in find(flatten(model), "blocks")]
    assert blocks == ["tokens", "channels", "attended"]
    with pytest.raises(ValueError, match="'heads', whose 16 x 2 positions are none of the image"):
        GradCAM(model, "heads")


def test_normalized_tokens_are_read_as_they_are(pixels):
    """Grad-CAM of a layer in front of a batch normalization is folded for maps alone."""
    inputs = keras.Input((HEIGHT, WIDTH, 3))
    x = K.BatchNormalization(name="norm")(K.Dense(6, name="dense")(by_convolution(inputs)))
    model = keras.Model(inputs, K.Dense(4)(K.Flatten()(K.ReLU()(x))))
    norm = model.get_layer("norm")
    norm.set_weights([np.linspace(0.5, 1.5, 6)] * 4)
    expected = plain(model, pixels, 0, ["dense", "norm"])
    for name, values in GradCAM(model, ["dense", "norm"])(pixels).items():
        np.testing.assert_allclose(values, expected[name], atol=2e-4)


def test_the_explanation_attack_moves_maps_of_tokens(pixels):
    model = vit("class token")
    attack = ExplanationAttack(model, "first_end", steps=10)
    added = attack(pixels, [0] * len(pixels), [0.1])
    reached = attack.success(pixels, added)
    assert reached["class_kept"].all()
    classes = predict_logits(model, pixels).argmax(axis=1)
    explain = GradCAM(model, "first_end")
    before, after = (
        resize(explain(images, classes)["first_end"], (HEIGHT, WIDTH))
        for images in (pixels, perturb(pixels, added[0.1]))
    )
    np.testing.assert_allclose(reached["nissim"], metrics.nissim(before, after), atol=1e-5)
    other = attack.success(pixels, PGD(model)(pixels, classes, [0.1]))
    assert (reached["nissim"] > 1.2 * other["nissim"]).all()
    moved = attack._movement(pixels, classes, np.zeros(3, np.float32), after)
    np.testing.assert_allclose(moved.distance, reached["nissim"], atol=1e-5)


def test_tf_keras_vis_does_not_take_tokens():
    with pytest.raises(ValueError, match="for LayerCAM.*Received: tokens, .* at 'first_end'"):
        LayerCAM(vit("mean"), "first_end")
