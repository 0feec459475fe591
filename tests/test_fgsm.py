"""FGSM against Foolbox and ART, its invariants, and what it refuses."""

from typing import ClassVar

import art.attacks.evasion
import art.estimators.classification
import foolbox
import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradcam_adv import backends as gradients
from gradcam_adv import perturb, sign
from gradcam_adv.attacks import fgsm

EPSILONS = (0.01, 0.05, 0.1)


def foolbox_fgsm(model, images, labels, epsilon):
    if keras.backend.backend() == "torch":
        import torch

        tensors = torch.tensor(images), torch.tensor(labels)
        wrapped = foolbox.PyTorchModel(model.eval(), bounds=(0, 1), device="cpu")
    elif keras.backend.backend() == "jax":
        import jax

        tensors = jax.numpy.asarray(images), jax.numpy.asarray(labels)
        wrapped = foolbox.JAXModel(lambda x: model(x, training=False), bounds=(0, 1))
    else:
        import tensorflow as tf

        tensors = tf.constant(images), tf.constant(labels, tf.int64)
        wrapped = foolbox.TensorFlowModel(model, bounds=(0, 1))
    attack = foolbox.attacks.LinfFastGradientAttack()
    raw, _, _ = attack(wrapped, *tensors, epsilons=epsilon)
    return np.asarray(raw if keras.backend.backend() == "jax" else raw.numpy())


def art_fgsm(model, images, labels, epsilon):
    wrapped = art.estimators.classification.TensorFlowV2Classifier(
        model=model,
        nb_classes=model.output_shape[-1],
        input_shape=model.input_shape[1:],
        loss_object=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        clip_values=(0, 1),
    )
    attack = art.attacks.evasion.FastGradientMethod(wrapped, eps=epsilon)
    return attack.generate(images, np.eye(model.output_shape[-1])[labels])


@pytest.mark.parametrize(
    "peer", [foolbox_fgsm, pytest.param(art_fgsm, marks=pytest.mark.tensorflow)]
)
@pytest.mark.parametrize("epsilon", EPSILONS)
def test_equals_foolbox_and_art(small_cnn, images, labels, peer, epsilon):
    """But where the gradient is at rounding level, whose sign is another on some processors."""
    ours = perturb(images, sign(small_cnn, images, labels, batch_size=4), epsilon)
    differ = ours != peer(small_cnn, images, labels, epsilon)
    gradient, _ = gradients.loss_gradient(small_cnn, len(images))(images, labels)
    assert differ.sum() <= 2
    assert (np.abs(gradient[differ]) < 1e-5 * np.abs(gradient).mean()).all()


class Counting(keras.layers.Layer):
    """Notes the batch size whenever Python calls it, which is only while TensorFlow compiles."""

    seen: ClassVar[list[int]] = []

    def call(self, inputs):
        self.seen.append(inputs.shape[0])
        return inputs


@pytest.mark.tensorflow
def test_one_batch_shape_is_compiled_once_and_serves_the_smaller_last_batch(images, labels):
    x = inputs = keras.Input(images.shape[1:])
    x = keras.layers.Flatten()(Counting()(x))
    model = keras.Model(inputs, keras.layers.Dense(5)(x))
    Counting.seen.clear()
    sign(model, images, labels, batch_size=4)
    assert [size for size in Counting.seen if size] == [4]


def sure(model, factor):
    """The same network, ``factor`` times as sure of itself."""
    inputs = keras.Input(model.input_shape[1:])
    return keras.Model(inputs, keras.layers.Rescaling(factor)(model(inputs)))


def test_the_gradient_does_not_fade_when_the_network_is_sure(small_cnn, images):
    # With logit gaps of hundreds the cross-entropy's own gradient is zero in float32.
    saturated = sure(small_cnn, 1e5)
    predicted = small_cnn.predict(images, verbose=0).argmax(axis=1)
    assert (foolbox_fgsm(saturated, images, predicted, 0.1) == images).mean() > 0.5
    signs = sign(saturated, images, predicted)
    assert (signs == 0).mean() < 1e-3


def test_the_attack_lowers_the_label_against_the_others(small_cnn, images, labels):
    def loss(x):
        logits = small_cnn.predict(x, verbose=0)
        return keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)

    attacked = perturb(images, sign(small_cnn, images, labels), 0.01)
    assert (np.asarray(loss(attacked)) > np.asarray(loss(images))).all()


@pytest.mark.parametrize("batch_size", [1, 3, 11, 32])
def test_signs_do_not_hang_on_the_batch(small_cnn, images, labels, batch_size):
    reference = sign(small_cnn, images, labels, batch_size=4)
    assert (sign(small_cnn, images, labels, batch_size=batch_size) != reference).mean() < 1e-3


def test_signs_are_int8_of_the_shape_of_the_images(small_cnn, images, labels):
    signs = sign(small_cnn, images, labels)
    assert signs.dtype == np.int8
    assert signs.shape == images.shape
    assert set(np.unique(signs)) <= {-1, 0, 1}


@given(st.floats(0, 1), st.integers(0, 2**32))
def test_perturbations_stay_within_epsilon_and_the_range(epsilon, seed):
    rng = np.random.default_rng(seed)
    images = rng.random((2, 4, 4, 3), dtype=np.float32)
    signs = rng.integers(-1, 2, images.shape).astype(np.int8)
    attacked = perturb(images, signs, epsilon)
    assert attacked.dtype == np.float32
    assert attacked.min() >= 0
    assert attacked.max() <= 1
    assert np.abs(attacked - images).max() <= epsilon + 1e-6


def test_epsilon_zero_changes_nothing(images):
    signs = np.ones(images.shape, np.int8)
    np.testing.assert_array_equal(perturb(images, signs, 0), images)


@pytest.mark.parametrize("epsilon", [-0.1, float("nan"), float("inf")])
def test_perturb_refuses_epsilons(images, epsilon):
    with pytest.raises(ValueError, match="epsilon as a finite number, 0 or more"):
        perturb(images, np.zeros(images.shape, np.int8), epsilon)


def test_perturb_refuses_other_shapes(images):
    with pytest.raises(ValueError, match="signs of the shape of the images"):
        perturb(images, np.zeros((1, 2, 2, 3), np.int8), 0.1)


def bad_calls(images, labels):
    return {
        r"shape \(N, 24, 24, 3\). Received: shape \(11, 23, 24, 3\)": (images[:, 1:], labels),
        "as floats in": ((255 * images).astype(np.uint8), labels),
        r"values in \[0, 1\]. Received: from .* to 25": (images * 255, labels),
        "at least one image": (images[:0], labels[:0]),
        "labels as 11 integers": (images, labels[:5]),
        "one an image. .*dtype float64": (images, labels.astype(float)),
        "labels from 0 to 4, .*Received: from .* to 9": (images, np.full(11, 9)),
    }


@pytest.mark.parametrize("message", bad_calls(np.zeros((11, 24, 24, 3)), np.zeros(11, int)))
def test_sign_refuses(small_cnn, images, labels, message):
    with pytest.raises(ValueError, match=message):
        sign(small_cnn, *bad_calls(images, labels)[message])


def test_a_softmax_at_the_end_changes_no_sign(small_cnn, images, labels):
    softmax = keras.Model(small_cnn.inputs, keras.layers.Softmax()(small_cnn.output))
    np.testing.assert_array_equal(sign(softmax, images, labels), sign(small_cnn, images, labels))


def test_sign_stops_at_a_gradient_that_is_no_number(small_cnn, images, labels):
    broken = keras.models.clone_model(small_cnn)
    broken.set_weights([np.full_like(w, np.nan) for w in small_cnn.get_weights()])
    with pytest.raises(ValueError, match="finite gradients"):
        sign(broken, images, labels)


def test_random_signs_follow_from_photo_and_seed():
    first = fgsm.random_sign((50, 50, 3), 0, "ab" * 32)
    np.testing.assert_array_equal(first, fgsm.random_sign((50, 50, 3), 0, "ab" * 32))
    assert (first != fgsm.random_sign((50, 50, 3), 1, "ab" * 32)).any()
    assert (first != fgsm.random_sign((50, 50, 3), 0, "cd" * 32)).any()
    assert set(np.unique(first)) == {-1, 1}
    assert abs(first.mean()) < 0.05


@pytest.mark.parametrize(
    ("images", "signs", "message"),
    [
        (np.zeros((1, 4, 4, 3), np.uint8), 1, "images as floats in .0, 1. .*dtype uint8"),
        (np.full((1, 4, 4, 3), np.nan), 1, "images with values in .0, 1.. Received: from nan"),
        (np.full((1, 4, 4, 3), 0.5), 50, "signs from -1 to 1. Received: from 50 to 50"),
    ],
)
def test_perturb_refuses_values_out_of_range(images, signs, message):
    with pytest.raises(ValueError, match=message):
        perturb(images, np.full((1, 4, 4, 3), signs), 0.1)
