"""On real networks at a real size: FGSM against Foolbox, Grad-CAM against tf-keras-vis."""

import numpy as np
import pytest
import tensorflow as tf
from real_networks import LAYERS, classifier, orl_photos, sums_and_scales
from test_fgsm import foolbox_fgsm
from tf_keras_vis.gradcam import Gradcam
from tf_keras_vis.utils.scores import CategoricalScore

from gradcam_adv import FGSM, GradCAM, flatten, layer_names
from gradcam_adv.explain.gradcam import compile_sums
from gradcam_adv.models import BACKBONES

pytestmark = pytest.mark.slow

# tf-keras-vis goes through the network again for each layer, half a second each, so not for all
# 977. Blocks repeat every 3 or 7 layers or so; with a prime number all kinds come up.
EVERY = 11


@pytest.fixture(scope="module")
def pixels():
    return orl_photos(20)


@pytest.fixture(scope="module")
def inside(pixels):
    """Photos away from 0 and 1, so that clipping hides no sign."""
    return np.clip(pixels[:8], 0.1, 0.9)


def test_signs_equal_those_of_foolbox_on_vgg16(pixels, inside):
    model, labels = classifier("vgg16", pixels), np.arange(8)
    theirs = np.sign(foolbox_fgsm(model, inside, labels, 0.05) - inside)
    assert (FGSM(model, batch_size=8).signs(inside, labels) != theirs).mean() <= 1e-4


def test_signs_equal_those_of_the_cross_entropy_on_resnet50(pixels, inside):
    """In one compiled function; in a few places Foolbox, which is eager, rounds differently."""
    resnet, labels = classifier("resnet50", pixels), np.arange(8)
    signs = FGSM(resnet, batch_size=8).signs(inside, labels)

    @tf.function
    def cross_entropy_gradient(images):
        with tf.GradientTape() as tape:
            tape.watch(images)
            logits = resnet(images, training=False)
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        return tape.gradient(loss, images)

    gradient = cross_entropy_gradient(tf.constant(inside)).numpy()
    scale = np.abs(gradient).mean(axis=(1, 2, 3), keepdims=True)
    # Equal on some processors; on others a gradient within rounding of zero may change its sign.
    differ = signs != np.sign(gradient)
    assert differ.mean() <= 1e-5
    assert (np.abs(gradient / scale)[differ] < 1e-3).all()

    differ = signs != np.sign(foolbox_fgsm(resnet, inside, labels, 0.05) - inside)
    assert differ.mean() <= 3e-4
    # Where they differ the gradient is small beside the photo's mean, so rounding decides.
    assert (np.abs(gradient / scale)[differ] < 0.05).all()


@pytest.mark.parametrize("name", LAYERS)
def test_sums_equal_the_equations_at_every_layer_and_those_of_tf_keras_vis(name, pixels):
    tf.keras.utils.clear_session()
    small = tf.image.resize(pixels, (80, 80)).numpy()  # in half of the time
    model, images, classes = classifier(name, small), small[:2], [3, 7]
    graph = flatten(model)
    sums, _ = compile_sums(graph, graph.layers, 2, 1)(images, np.array(classes)[:, None])
    peer = Gradcam(model, clone=False)
    by_layer = zip(graph.layers, sums, sums_and_scales(graph, images, classes), strict=True)
    for number, (layer, ours, (expected, scale)) in enumerate(by_layer):
        difference = np.abs(ours[:, 0] - expected).max(axis=(1, 2))
        assert (difference <= 2e-6 * scale).all(), (layer.path, difference / scale)
        if number % EVERY:
            continue
        theirs = peer(
            CategoricalScore(classes),
            images,
            penultimate_layer=layer.path,
            seek_penultimate_conv_layer=False,
            activation_modifier=None,
            expand_cam=False,
            normalize_cam=False,
        )
        difference = np.abs(ours[:, 0] - theirs).max(axis=(1, 2))
        assert (difference <= 2e-6 * scale).all(), (layer.path, difference / scale)
    # At this size the last maps of InceptionV3 are 1 x 1, which are no places.
    assert 0.7 * LAYERS[name] < number + 1 <= LAYERS[name]


@pytest.mark.parametrize("name", LAYERS)
def test_every_network_is_explained_at_every_layer_in_one_pass(name, pixels):
    tf.keras.utils.clear_session()
    model = classifier(name, pixels)
    maps = GradCAM(model, "all", batch_size=4)(pixels[:3])
    assert len(maps) == LAYERS[name]
    assert list(maps) == layer_names(model)
    last = maps[BACKBONES[name].last_activation]
    assert last.shape[1] == last.shape[2] >= 3
    assert np.isfinite(np.concatenate([m.ravel() for m in maps.values()])).all()
    assert (last.max(axis=(1, 2)) == 1).all()
