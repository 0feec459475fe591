"""Pairs of images compared by an embedder: similarity, its gradient, its heatmaps, its attack."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as K
from sklearn.metrics import roc_auc_score

from gradcam_adv import (
    FGSM,
    GradCAM,
    dissimilarity,
    flatten,
    perturb,
    predict_logits,
    verification,
    verifier,
)
from gradcam_adv.metrics import equal_error_threshold, verification_rates

SIDE = 12
COUNT = 6
PAIR = np.arange(COUNT)
YES = 2 * PAIR + 1
SAME = np.array([True, False] * 3)


@pytest.fixture(scope="module")
def embedder():
    """A smooth small network, so that finite differences say something."""
    keras.utils.set_random_seed(2)
    inputs = keras.Input((SIDE, SIDE, 3))
    x = K.Rescaling(2, -1)(inputs)
    x = K.Conv2D(6, 3, activation="tanh", name="early")(x)
    x = K.Conv2D(8, 3, strides=2, activation="tanh", name="late")(x)
    return keras.Model(inputs, K.Dense(5, name="features")(K.Flatten()(x)))


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).uniform(0.1, 0.9, (COUNT, SIDE, SIDE, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def others():
    return np.random.default_rng(1).random((COUNT, SIDE, SIDE, 3), np.float32)


def cosine(model, pixels, others):
    """By hand, float64 (N,)."""
    a, b = (np.asarray(model(given), np.float64) for given in (pixels, others))
    return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def test_the_logits_are_the_cosine_beside_the_threshold(embedder, pixels, others):
    logits = predict_logits(verifier(embedder, others, 0.25), pixels)
    assert logits.shape == (COUNT, 2 * COUNT)
    for shift in (0, 2):  # also of images of other pairs
        expected = cosine(embedder, pixels, np.roll(others, -shift, axis=0))
        asked = (YES + 2 * shift) % (2 * COUNT)
        np.testing.assert_allclose(logits[PAIR, asked], expected - 0.25, atol=1e-5)
        np.testing.assert_allclose(logits[PAIR, asked - 1], 0.25 - expected, atol=1e-5)


def test_the_attack_has_the_sign_of_finite_differences(embedder, pixels, others):
    graph = verifier(embedder, others)
    lowers, raises = (FGSM(graph).signs(pixels, answers) for answers in (YES, YES - 1))
    np.testing.assert_array_equal(lowers, -raises)
    step = np.float32(0.05)
    for place in ((0, 0, 0), (3, 5, 1), (6, 6, 2), (10, 10, 0)):
        moved = np.zeros_like(pixels)
        moved[:, *place] = step
        up, down = (cosine(embedder, pixels + sign * moved, others) for sign in (1, -1))
        slope = (up - down) / (2 * step)
        clear = np.abs(slope) > 1e-5
        assert clear.any()
        np.testing.assert_array_equal(raises[:, *place][clear], np.sign(slope)[clear])


def test_a_heatmap_is_that_of_plain_tensorflow(embedder, pixels, others):
    found = GradCAM(verifier(embedder, others, 0.3), "conv")(pixels, YES)
    for name in ("early", "late"):
        both = keras.Model(embedder.input, [embedder.get_layer(name).output, embedder.output])
        with tf.GradientTape() as tape:
            activations, features = both(pixels)
            score = -tf.keras.losses.cosine_similarity(embedder(others), features)
        alpha = tf.reduce_mean(tape.gradient(score, activations), axis=(1, 2), keepdims=True)
        maps = tf.nn.relu(tf.reduce_sum(alpha * activations, axis=-1)).numpy()
        assert (maps.max(axis=(1, 2)) > 0).all()
        expected = maps / maps.max(axis=(1, 2), keepdims=True)
        np.testing.assert_allclose(found[name], expected, atol=1e-4)


def test_an_attack_makes_matches_fail_and_impostors_pass(embedder, pixels, others):
    result = verification(embedder, pixels, others, SAME, epsilons=[0.005, 0.02], controls=False)
    clean, weak, strong = (
        result.pairs.query("epsilon == @e").sort_values("pair")["similarity"].to_numpy()
        for e in (0, 0.005, 0.02)
    )
    np.testing.assert_allclose(clean, cosine(embedder, pixels, others), atol=1e-5)
    assert (np.where(SAME, clean - weak, weak - clean) > 0).all()
    assert (np.where(SAME, weak - strong, strong - weak) > 0).all()
    graph = verifier(embedder, others)
    attacked = perturb(pixels, FGSM(graph)(pixels, 2 * PAIR + SAME, [0.02])[0.02])
    np.testing.assert_allclose(strong, cosine(embedder, attacked, others), atol=1e-5)
    rates = result.rates.set_index("epsilon")
    (threshold,) = rates["threshold"].unique()
    assert threshold == pytest.approx(equal_error_threshold(clean, SAME), abs=1e-6)
    assert rates.loc[0.02, "auc"] == roc_auc_score(SAME, strong) < rates.loc[0, "auc"]
    assert rates.loc[0.02, "false_rejects"] == (strong[SAME] < threshold).mean()
    assert rates.loc[0.02, "false_accepts"] == (strong[~SAME] >= threshold).mean()
    accepted = result.images["predicted"] % 2 == 1
    both = result.pairs.query("epsilon > 0")["accepted"]
    assert accepted.tolist() == both.tolist()


def test_the_measurement_is_that_of_the_pairs_alone(embedder, pixels, others):
    """All pairs together give what a model of a single pair gives."""
    options = {"epsilons": [0.05], "layers": "conv", "controls": False}
    whole = verification(embedder, pixels, others, SAME, threshold=0.2, **options)
    one = verifier(embedder, others[3:4], 0.2)
    alone = dissimilarity(one, pixels[3:4], [int(SAME[3])], targets=[1], **options)
    of_pair = whole.nissim.query("image == 3")["nissim"].to_numpy()
    np.testing.assert_allclose(of_pair, alone.nissim["nissim"], atol=1e-4)


def test_controls_are_of_the_same_similarity(embedder, pixels, others):
    result = verification(embedder, pixels, others, SAME, epsilons=[0.05], layers="late")
    assert result.gain["gain"].notna().all()
    assert (result.mod["unrelated_images"] == COUNT).all()
    with pytest.raises(ValueError, match="Expected targets as one class per image with pairs"):
        dissimilarity(verifier(embedder, others), pixels)


def test_threshold_and_rates_by_hand():
    similarity = [0.9, 0.8, 0.3, 0.5, 0.2, 0.1]
    same = [True, True, True, False, False, False]
    # Between 0.3 and 0.5 one of three is wrong on both sides.
    assert equal_error_threshold(similarity, same) == pytest.approx(0.4)
    rates = verification_rates(similarity, same, 0.25)
    assert rates.false_rejects == 0
    assert rates.false_accepts == pytest.approx(1 / 3)
    assert rates.accuracy == pytest.approx(5 / 6)
    assert rates.auc == pytest.approx(8 / 9)
    assert rates.equal_error == pytest.approx(1 / 3)
    only = verification_rates([0.5, 0.1], [True, True], 0.3)
    assert only.false_rejects == 0.5
    assert np.isnan([only.false_accepts, only.auc, only.equal_error]).all()


def test_what_pairs_can_not_be(embedder, pixels, others, small_cnn):
    maps = keras.Model(embedder.input, embedder.get_layer("late").output)
    with pytest.raises(ValueError, match=r"Expected an embedder.*GlobalAveragePooling2D makes"):
        verifier(maps, others)
    siamese = keras.Model([embedder.input, other := keras.Input(embedder.input_shape[1:])], other)
    with pytest.raises(ValueError, match="the part that both share, with --pairs"):
        verifier(siamese, others)
    classifier = keras.Model(small_cnn.input, K.Softmax()(small_cnn.output))
    with pytest.raises(ValueError, match="Expected an embedder.*Received: a classifier"):
        verifier(classifier, others)
    with pytest.raises(ValueError, match="Expected a threshold from -1 to 1. Received: 3"):
        verifier(embedder, others, 3)
    with pytest.raises(ValueError, match="Expected as many others as images.*6 images, 5 others"):
        verification(embedder, pixels, others[:5], SAME)
    with pytest.raises(ValueError, match="Expected as many others.*dtype int64"):
        verification(embedder, pixels, others, SAME.astype(np.int64))
    with pytest.raises(ValueError, match="Expected a threshold, or pairs.*6 of 6 pairs"):
        verification(embedder, pixels, others, np.ones(COUNT, bool))
    with pytest.raises(ValueError, match="Expected targets as one class per image with pairs"):
        GradCAM(verifier(embedder, others))(pixels)


def test_features_of_a_base_are_no_logits():
    base = keras.Sequential(
        [keras.Input((SIDE, SIDE, 3)), K.Conv2D(8, 3, activation="relu"), K.GlobalMaxPooling2D()]
    )
    with pytest.raises(ValueError, match=r"pooled features .*--pairs.* verifier\(model, others\)"):
        flatten(base)
    linear = keras.Sequential([keras.Input((SIDE, SIDE, 3)), K.Conv2D(8, 3), *base.layers[1:]])
    assert flatten(linear).classes == 8
