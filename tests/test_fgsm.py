"""FGSM against Foolbox and ART, perturbations and their bounds, and random signs."""

from typing import ClassVar

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from peers import art_classifier, foolbox_attack

from gradcam_adv import FGSM, RandomSigns, perturb
from gradcam_adv.attacks import SignPerturbations
from gradcam_adv.attacks.gradients import margin
from gradcam_adv.attacks.noise import random_signs

EPSILONS = (0.01, 0.05, 0.1)


def foolbox_fgsm(model, images, labels, epsilon):
    return foolbox_attack("LinfFastGradientAttack", model, images, labels, epsilon)


def art_fgsm(model, images, labels, epsilon):
    from art.attacks.evasion import FastGradientMethod

    attack = FastGradientMethod(art_classifier(model), eps=epsilon)
    return attack.generate(images, np.eye(model.output_shape[-1])[labels])


@pytest.fixture(scope="module")
def fgsm(small_cnn):
    return FGSM(small_cnn, batch_size=4)


@pytest.fixture(scope="module")
def signs(fgsm, images, labels):
    return fgsm.signs(images, labels)


@pytest.mark.parametrize(
    "peer", [foolbox_fgsm, pytest.param(art_fgsm, marks=pytest.mark.tensorflow)]
)
def test_equals_foolbox_and_art(small_cnn, fgsm, images, labels, peer):
    """Except where the gradient is at rounding level; its sign is another on some processors."""
    perturbations = fgsm(images, labels, EPSILONS)
    gradient, _ = fgsm._gradient(images, labels)
    for epsilon in EPSILONS:
        ours = perturb(images, perturbations[epsilon])
        differ = np.abs(ours - peer(small_cnn, images, labels, epsilon)) > 1e-7
        assert differ.sum() <= 2
        assert (np.abs(gradient[differ]) < 1e-5 * np.abs(gradient).mean()).all()


def test_the_cross_entropy_follows_from_the_margin():
    logits = np.float32([[1, 2, 4], [0, 0, 0], [-3, 5, 1]])
    labels = np.int32([1, 0, 1])
    ours = np.asarray(keras.ops.convert_to_numpy(margin(logits, labels)), float)
    by_hand = [np.log(np.e + np.e**4) - 2, np.log(2), np.log(np.e**-3 + np.e) - 5]
    np.testing.assert_allclose(ours, by_hand, rtol=1e-6)
    expected = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
    expected = keras.ops.convert_to_numpy(expected)
    np.testing.assert_allclose(np.log1p(np.exp(ours)), expected, rtol=1e-5)


class Counting(keras.layers.Layer):
    """Notes the batch size whenever Python calls it, which is only while TensorFlow compiles."""

    seen: ClassVar[list[int]] = []

    def call(self, inputs):
        self.seen.append(inputs.shape[0])
        return inputs


@pytest.mark.tensorflow
def test_one_batch_shape_is_compiled_once_and_serves_every_batch_and_call(images, labels):
    x = inputs = keras.Input(images.shape[1:])
    x = keras.layers.Flatten()(Counting()(x))
    attack = FGSM(keras.Model(inputs, keras.layers.Dense(5)(x)), batch_size=4)
    Counting.seen.clear()
    attack(images, labels, [0.1])  # batches of 4, 4 and 3
    attack(images[:5], labels[:5], [0.1])
    assert [size for size in Counting.seen if size] == [4]


def test_the_gradient_does_not_fade_when_the_network_is_sure(small_cnn, images):
    # With logits hundreds apart the cross-entropy's own gradient is zero in float32.
    inputs = keras.Input(small_cnn.input_shape[1:])
    sure = keras.Model(inputs, keras.layers.Rescaling(1e5)(small_cnn(inputs)))
    predicted = small_cnn.predict(images, verbose=0).argmax(axis=1)
    assert (foolbox_fgsm(sure, images, predicted, 0.1) == images).mean() > 0.5
    assert (FGSM(sure).signs(images, predicted) == 0).mean() < 1e-3


def test_the_attack_raises_the_loss_of_every_label(small_cnn, fgsm, images, labels):
    def loss(x):
        logits = small_cnn.predict(x, verbose=0)
        return keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)

    attacked = perturb(images, fgsm(images, labels, [0.01])[0.01])
    assert (np.asarray(loss(attacked)) > np.asarray(loss(images))).all()


@pytest.mark.parametrize("batch_size", [1, 3, 11, 32])
def test_signs_do_not_depend_on_the_batch_size(small_cnn, images, labels, signs, batch_size):
    other = FGSM(small_cnn, batch_size=batch_size).signs(images, labels)
    assert (other != signs).mean() < 1e-3


def test_a_softmax_at_the_end_changes_no_sign(small_cnn, images, labels, signs):
    softmax = keras.Model(small_cnn.inputs, keras.layers.Softmax()(small_cnn.output))
    np.testing.assert_array_equal(FGSM(softmax, batch_size=4).signs(images, labels), signs)


def test_one_array_of_signs_serves_every_epsilon(fgsm, images, labels, signs):
    perturbations = fgsm(images, labels, [0.1, 0, 0.025])
    assert list(perturbations) == [0.1, 0, 0.025]
    assert len(perturbations) == 3
    assert perturbations.signs.dtype == np.int8
    assert set(np.unique(perturbations.signs)) <= {-1, 0, 1}
    np.testing.assert_array_equal(perturbations.signs, signs)
    assert perturbations[0.1].dtype == np.float32
    np.testing.assert_array_equal(perturbations[0.1], np.float32(0.1) * signs)
    assert not perturbations[0].any()
    with pytest.raises(KeyError, match="0.05"):
        perturbations[0.05]


def bad_calls(images, labels):
    return {
        r"shape \(N, 24, 24, 3\). Received: shape \(11, 23, 24, 3\)": (images[:, 1:], labels),
        "as floats in": ((255 * images).astype(np.uint8), labels),
        r"values in \[0, 1\]. Received: from .* to 25": (images * 255, labels),
        "at least one image": (images[:0], labels[:0]),
        "labels as 11 integers": (images, labels[:5]),
        "one per image. .*dtype float64": (images, labels.astype(float)),
        "labels from 0 to 4, .*Received: from .* to 9": (images, np.full(11, 9)),
    }


@pytest.mark.parametrize("message", bad_calls(np.zeros((11, 24, 24, 3)), np.zeros(11, int)))
def test_refuses_images_and_labels(fgsm, images, labels, message):
    with pytest.raises(ValueError, match=message):
        fgsm(*bad_calls(images, labels)[message], [0.1])


@pytest.mark.parametrize("epsilon", [-0.1, 1.01, float("nan"), float("inf")])
@pytest.mark.parametrize("attack", ["fgsm", "noise"])
def test_attacks_refuse_epsilons(fgsm, images, labels, attack, epsilon):
    chosen = {"fgsm": fgsm, "noise": RandomSigns()}[attack]
    with pytest.raises(ValueError, match=r"epsilons from 0 to 1. Received: \[0.1, .*\]"):
        chosen(images[:1], labels[:1], [0.1, epsilon])


def test_stops_at_a_gradient_that_is_not_finite(small_cnn, images, labels):
    broken = keras.models.clone_model(small_cnn)
    broken.set_weights([np.full_like(w, np.nan) for w in small_cnn.get_weights()])
    with pytest.raises(ValueError, match="finite gradients"):
        FGSM(broken)(images, labels, [0.1])


@given(st.floats(0, 1), st.integers(0, 2**32))
def test_attacked_images_stay_within_epsilon_and_the_range(epsilon, seed):
    rng = np.random.default_rng(seed)
    images = rng.random((2, 4, 4, 3), dtype=np.float32)
    signs = rng.integers(-1, 2, images.shape).astype(np.int8)
    attacked = perturb(images, SignPerturbations(signs, [epsilon])[epsilon])
    assert attacked.dtype == np.float32
    assert attacked.min() >= 0
    assert attacked.max() <= 1
    assert np.abs(attacked.astype(np.float64) - images).max() <= np.float32(epsilon)


def test_perturb_adds_any_perturbation_and_clips():
    images = np.float32([0.25, 0.9, 0.1]).reshape(1, 1, 1, 3)
    attacked = perturb(images, np.float32([0.125, 0.3, -5]).reshape(1, 1, 1, 3))
    np.testing.assert_array_equal(attacked.ravel(), [0.375, 1, 0])
    np.testing.assert_array_equal(perturb(images, np.zeros(images.shape)), images)


HALF = np.full((1, 4, 4, 3), 0.5)


@pytest.mark.parametrize(
    ("images", "perturbation", "message"),
    [
        (HALF.astype(np.uint8), HALF, "images as floats in .0, 1. .*dtype uint8"),
        (np.nan * HALF, HALF, "images with values in .0, 1.. Received: from nan"),
        (4 * HALF, HALF, "images with values in .0, 1.. Received: from 0 to 2"),
        (HALF, HALF[:, :2], r"shape of the images, \(1, 4, 4, 3\). Received: shape \(1, 2, 4, 3"),
        (HALF, HALF[0], r"shape of the images, .*Received: shape \(4, 4, 3\)"),
        (HALF, np.inf * HALF, "finite perturbation on image 0. Received: 48 of 48 values"),
    ],
)
def test_perturb_refuses(images, perturbation, message):
    with pytest.raises(ValueError, match=message):
        perturb(images, perturbation)


@pytest.mark.parametrize(
    ("signs", "message"),
    [
        (np.full((1, 2), 50, np.int8), "as integers, -1, 0 or 1. Received: int8 from 50 to 50"),
        (np.full((1, 2), -2), "Received: int64 from -2 to -2"),
        (np.full((1, 2), 0.5), "as integers, .*Received: float64 from 0.5 to 0.5"),
        (np.ones((1, 2), np.uint8), "as integers, .*Received: uint8 from 1 to 1"),
    ],
)
def test_sign_perturbations_refuse_other_values(signs, message):
    with pytest.raises(ValueError, match=message):
        SignPerturbations(signs, [0.1])


def test_random_signs_follow_from_the_image_s_key_and_the_seed():
    first = random_signs((50, 50, 3), 0, "ab" * 32)
    np.testing.assert_array_equal(first, random_signs((50, 50, 3), 0, "ab" * 32))
    assert (first != random_signs((50, 50, 3), 1, "ab" * 32)).any()
    assert (first != random_signs((50, 50, 3), 0, "cd" * 32)).any()
    assert set(np.unique(first)) == {-1, 1}
    assert abs(first.mean()) < 0.05


def test_noise_depends_on_the_image_alone(images):
    noise = RandomSigns(seed=3)
    whole = noise(images, None, [0.1])
    assert set(np.unique(whole.signs)) == {-1, 1}
    np.testing.assert_allclose(np.abs(whole[0.1]), 0.1)
    order = np.random.default_rng(0).permutation(len(images))
    np.testing.assert_array_equal(noise(images[order], None, [0.1]).signs, whole.signs[order])
    for start in range(0, len(images), 4):
        own = slice(start, start + 4)
        labels = np.zeros(len(images[own]), int)
        np.testing.assert_array_equal(noise(images[own], labels, [0.2]).signs, whole.signs[own])
    np.testing.assert_array_equal(noise(images.astype(float), None, [0.1]).signs, whole.signs)
    # Another image or another seed gets other signs.
    assert (whole.signs[0] != whole.signs[1]).any()
    assert (RandomSigns(seed=4)(images, None, [0.1]).signs != whole.signs).any()


def test_noise_refuses_pixels_that_are_no_floats():
    with pytest.raises(ValueError, match="images as floats in .*Received: dtype uint8"):
        RandomSigns()(np.zeros((1, 2, 2, 3), np.uint8), None, [0.1])
