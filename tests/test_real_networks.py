"""On a real network at a real size: FGSM against Foolbox, Grad-CAM against tf-keras-vis."""

import numpy as np
import pytest
import tensorflow as tf
from real_networks import LAYERS, classifier, orl_photos, sums_and_scales
from test_fgsm import foolbox_fgsm
from tf_keras_vis.gradcam import Gradcam
from tf_keras_vis.utils.scores import CategoricalScore

from gradcam_adv import backends as gradients
from gradcam_adv import sign
from gradcam_adv.explain import gradcam
from gradcam_adv.graph import network as networks
from gradcam_adv.models import backbones

pytestmark = pytest.mark.slow

# The peer goes through the network anew for each layer: half a second of it, so not for all 977.
# Prime to the 3 and 7 or so layers that a block repeats.
EVERY = 11


@pytest.fixture(scope="module")
def pixels():
    return orl_photos(20)


@pytest.fixture(scope="module")
def resnet(pixels):
    return classifier("resnet50", pixels)


@pytest.fixture(scope="module")
def inside(pixels):
    """Photos away from 0 and 1, so that a perturbation shows its sign everywhere."""
    return np.clip(pixels[:8], 0.1, 0.9)


def test_signs_equal_foolboxs_on_vgg16(pixels, inside):
    model, labels = classifier("vgg16", pixels), np.arange(8)
    theirs = np.sign(foolbox_fgsm(model, inside, labels, 0.05) - inside)
    assert (sign(model, inside, labels, batch_size=8) != theirs).mean() <= 1e-4


def test_signs_equal_the_cross_entropys_on_resnet50(resnet, inside):
    """In one compiled function; Foolbox' eager one rounds otherwise here and there."""
    labels = np.arange(8)
    signs = sign(resnet, inside, labels, batch_size=8)

    @tf.function
    def cross_entropy_gradient(images):
        with tf.GradientTape() as tape:
            tape.watch(images)
            logits = resnet(images, training=False)
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        return tape.gradient(loss, images)

    gradient = cross_entropy_gradient(tf.constant(inside)).numpy()
    scale = np.abs(gradient).mean(axis=(1, 2, 3), keepdims=True)
    # Bit for bit on some processors; on others a gradient within rounding of zero may turn.
    otherwise = signs != np.sign(gradient)
    assert otherwise.mean() <= 1e-5
    assert (np.abs(gradient / scale)[otherwise] < 1e-3).all()

    differ = signs != np.sign(foolbox_fgsm(resnet, inside, labels, 0.05) - inside)
    assert differ.mean() <= 3e-4
    # Where they differ the gradient is small beside the photo's mean: rounding decides.
    assert (np.abs(gradient / scale)[differ] < 0.05).all()


@pytest.mark.parametrize("name", LAYERS)
def test_raw_maps_equal_the_equations_at_every_layer_and_those_of_tf_keras_vis(name, pixels):
    tf.keras.utils.clear_session()
    small = tf.image.resize(pixels, (80, 80)).numpy()  # which halves the peer's time
    model, images, classes = classifier(name, small), small[:2], [3, 7]
    network = networks.flatten(model)
    sums, _ = gradients.gradcam_sums(network, network.places, 2)(images, np.array(classes)[:, None])
    peer = Gradcam(model, clone=False)
    places = zip(network.places, sums, sums_and_scales(network, images, classes), strict=True)
    for number, (place, ours, (expected, scale)) in enumerate(places):
        difference = np.abs(ours[:, 0] - expected).max(axis=(1, 2))
        assert (difference <= 2e-6 * scale).all(), (place.path, difference / scale)
        if number % EVERY:
            continue
        theirs = peer(
            CategoricalScore(classes),
            images,
            penultimate_layer=place.path,
            seek_penultimate_conv_layer=False,
            activation_modifier=None,
            expand_cam=False,
            normalize_cam=False,
        )
        difference = np.abs(ours[:, 0] - theirs).max(axis=(1, 2))
        assert (difference <= 2e-6 * scale).all(), (place.path, difference / scale)
    assert number + 1 == LAYERS[name]


@pytest.mark.parametrize("name", LAYERS)
def test_every_network_is_explained_at_every_layer_in_one_pass(name, pixels):
    tf.keras.utils.clear_session()
    model = classifier(name, pixels)
    maps = gradcam.heatmaps(model, pixels[:3], batch_size=4)
    assert len(maps) == LAYERS[name]
    assert list(maps) == gradcam.layer_names(model)
    last = maps[backbones.BACKBONES[name].last_activation]
    assert last.shape[1] == last.shape[2] >= 3
    assert np.isfinite(np.concatenate([m.ravel() for m in maps.values()])).all()
    assert (last.max(axis=(1, 2)) == 1).all()
