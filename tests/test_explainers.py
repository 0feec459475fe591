"""The explanations of tf-keras-vis, through our places, batches and scores."""

import keras
import numpy as np
import pytest
from tf_keras_vis.gradcam_plus_plus import GradcamPlusPlus
from tf_keras_vis.layercam import Layercam
from tf_keras_vis.scorecam import Scorecam
from tf_keras_vis.utils.scores import CategoricalScore

from gradcam_adv import backends as gradients
from gradcam_adv import dissimilarity, flatten
from gradcam_adv.explain import tf_keras_vis as explainers

PEERS = {"gradcam++": GradcamPlusPlus, "layercam": Layercam, "scorecam": Scorecam}
PREDICTED = np.full((11, 1), gradients.PREDICTED)


def maps_of(explainer, model, images, classes=PREDICTED, layers="all"):
    return explainers.compiled(explainer, flatten(model), layers, 4)(images, classes)


def maps_of_peer(explainer, model, images, classes, layer):
    maps = PEERS[explainer](model, clone=False)(
        CategoricalScore(classes.tolist()),
        images,
        penultimate_layer=layer,
        seek_penultimate_conv_layer=False,
        expand_cam=False,
        normalize_cam=False,
    )
    highest = np.max(maps, axis=(1, 2), keepdims=True)
    return np.divide(maps, highest, out=np.zeros(maps.shape, np.float32), where=highest > 0)


@pytest.mark.parametrize("explainer", PEERS)
def test_maps_are_those_of_tf_keras_vis(small_cnn, images, labels, explainer):
    ours, logits = maps_of(explainer, small_cnn, images, labels[:, None])
    np.testing.assert_allclose(logits, small_cnn.predict(images, verbose=0), atol=1e-5)
    for layer in ("norm", "conv_b", "relu_b"):
        expected = maps_of_peer(explainer, small_cnn, images, labels, layer)
        assert expected.max() == 1
        np.testing.assert_allclose(ours[layer][:, 0], expected, atol=1e-5)


@pytest.mark.parametrize("explainer", PEERS)
def test_nested_models_which_tf_keras_vis_cannot_take(small_cnn, images, explainer):
    inner = keras.models.clone_model(small_cnn)
    inner.set_weights(small_cnn.get_weights())
    base = keras.Model(inner.inputs, inner.get_layer("relu_b").output, name="base")
    head = keras.layers.Dense(5)
    nested = keras.Sequential([base, keras.layers.GlobalAveragePooling2D(), head])
    head.set_weights(inner.get_layer("logits").get_weights())
    expected, _ = maps_of(explainer, small_cnn, images, layers=["conv_a", "relu_b"])
    maps, _ = maps_of(explainer, nested, images, layers=["base/conv_a", "base/relu_b"])
    for name, values in expected.items():
        np.testing.assert_allclose(maps[f"base/{name}"], values, atol=1e-6)


def test_a_shared_layer_is_explained_at_each_of_its_calls(images):
    keras.utils.set_random_seed(3)
    inputs = keras.Input(images.shape[1:])
    conv = keras.layers.Conv2D(3, 3, padding="same", activation="relu", name="conv")
    x = keras.layers.GlobalAveragePooling2D()(conv(conv(inputs)))
    shared = keras.Model(inputs, keras.layers.Dense(3)(x))
    maps, _ = maps_of("layercam", shared, images)
    twin = keras.layers.Conv2D(3, 3, padding="same", activation="relu", name="twin")
    head = keras.layers.Dense(3)
    apart = keras.Model(
        inputs, head(keras.layers.GlobalAveragePooling2D()(twin(shared.layers[1](inputs))))
    )
    twin.set_weights(conv.get_weights())
    head.set_weights(shared.layers[-1].get_weights())
    predicted = shared.predict(images, verbose=0).argmax(axis=1)
    expected = maps_of_peer("layercam", apart, images, predicted, "twin")
    np.testing.assert_allclose(maps["conv#2"][:, 0], expected, atol=1e-5)


def test_grad_cam_plus_plus_of_large_logits(small_cnn, images):
    # tf-keras-vis takes e to the power of the logit, which is infinite here.
    sure = keras.models.clone_model(small_cnn)
    weights = small_cnn.get_weights()
    sure.set_weights([*weights[:-2], 1e4 * weights[-2], 1e4 * weights[-1]])
    predicted = sure.predict(images, verbose=0).argmax(axis=1)
    theirs = maps_of_peer("gradcam++", sure, images, predicted, "relu_b")
    assert not theirs.any()  # no number among them, so no maximum above zero either
    maps, _ = maps_of("gradcam++", sure, images, layers="last")
    assert all(values.max() == 1 for values in maps.values())


def test_mod_and_vid_of_another_explanation(small_cnn, images):
    options = {"epsilons": [0.1], "layers": "last", "progress": False}
    ours = dissimilarity(small_cnn, images, **options)
    other = dissimilarity(small_cnn, images, explainer="gradcam++", **options)
    assert list(ours.mod.columns) == list(other.mod.columns)
    assert ours.images.equals(other.images)
    assert 0 < other.mod["mod"].item() < 1
    assert ours.mod["mod"].item() != other.mod["mod"].item()


@pytest.mark.parametrize("explainer", ["gradcam++", "layercam"])
def test_a_function_of_the_logits(small_cnn, images, explainer):
    third = explainers.compiled(
        explainer, flatten(small_cnn), "last", 4, lambda logits: logits[:, 3]
    )
    expected, _ = maps_of(explainer, small_cnn, images, np.full((11, 1), 3), "last")
    np.testing.assert_allclose(third(images, PREDICTED)[0]["relu_b"], expected["relu_b"], atol=1e-6)


def test_scorecam_prints_nothing(small_cnn, images, capfd):
    maps_of("scorecam", small_cnn, images[:1], PREDICTED[:1], "last")
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "step" not in captured.err


def test_refuses_another_explainer(small_cnn, images):
    with pytest.raises(ValueError, match=r"one of gradcam, gradcam\+\+, .*Received: 'lime'"):
        dissimilarity(small_cnn, images, explainer="lime")
