"""The explanations of tf-keras-vis, with our layers, batches and scores."""

import keras
import numpy as np
import pytest
from tf_keras_vis.gradcam_plus_plus import GradcamPlusPlus
from tf_keras_vis.layercam import Layercam
from tf_keras_vis.scorecam import Scorecam
from tf_keras_vis.utils.scores import CategoricalScore

from gradcam_adv import GradCAM, GradCAMPlusPlus, LayerCAM, ScoreCAM, dissimilarity
from gradcam_adv.explain.explainer import PREDICTED

PEERS = {GradCAMPlusPlus: GradcamPlusPlus, LayerCAM: Layercam, ScoreCAM: Scorecam}


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
    explain = explainer(small_cnn, ["norm", "conv_b", "relu_b"], batch_size=4)
    assert explain.layers == ["norm", "conv_b", "relu_b"]
    ours = explain(images, labels)
    for layer, maps in ours.items():
        expected = maps_of_peer(explainer, small_cnn, images, labels, layer)
        assert expected.max() == 1
        np.testing.assert_allclose(maps, expected, atol=1e-5)
    maps, logits = explain.maps_and_logits(images, labels[:, None])
    np.testing.assert_allclose(logits, small_cnn.predict(images, verbose=0), atol=1e-5)
    np.testing.assert_array_equal(maps["norm"][:, 0], ours["norm"])


@pytest.mark.parametrize("explainer", PEERS)
def test_the_last_layer_and_the_predicted_class_are_the_defaults(small_cnn, images, explainer):
    explain = explainer(small_cnn)
    predicted = small_cnn.predict(images, verbose=0).argmax(axis=1)
    default, given = explain(images), explain(images, predicted)
    assert list(default) == ["relu_b"]
    np.testing.assert_array_equal(default["relu_b"], given["relu_b"])


@pytest.mark.parametrize("explainer", PEERS)
def test_nested_models_which_tf_keras_vis_cannot_take(small_cnn, images, explainer):
    inner = keras.models.clone_model(small_cnn)
    inner.set_weights(small_cnn.get_weights())
    base = keras.Model(inner.inputs, inner.get_layer("relu_b").output, name="base")
    head = keras.layers.Dense(5)
    nested = keras.Sequential([base, keras.layers.GlobalAveragePooling2D(), head])
    head.set_weights(inner.get_layer("logits").get_weights())
    maps = explainer(nested, ["base/conv_a", "base/relu_b"])(images)
    for name, values in explainer(small_cnn, ["conv_a", "relu_b"])(images).items():
        np.testing.assert_allclose(maps[f"base/{name}"], values, atol=1e-6)


def test_a_shared_layer_is_explained_at_each_of_its_calls(images):
    keras.utils.set_random_seed(3)
    inputs = keras.Input(images.shape[1:])
    conv = keras.layers.Conv2D(3, 3, padding="same", activation="relu", name="conv")
    x = keras.layers.GlobalAveragePooling2D()(conv(conv(inputs)))
    shared = keras.Model(inputs, keras.layers.Dense(3)(x))
    maps = LayerCAM(shared, "all")(images)
    twin = keras.layers.Conv2D(3, 3, padding="same", activation="relu", name="twin")
    head = keras.layers.Dense(3)
    apart = keras.Model(
        inputs, head(keras.layers.GlobalAveragePooling2D()(twin(shared.layers[1](inputs))))
    )
    twin.set_weights(conv.get_weights())
    head.set_weights(shared.layers[-1].get_weights())
    predicted = shared.predict(images, verbose=0).argmax(axis=1)
    expected = maps_of_peer(LayerCAM, apart, images, predicted, "twin")
    np.testing.assert_allclose(maps["conv#2"], expected, atol=1e-5)


def test_grad_cam_plus_plus_of_large_logits(small_cnn, images):
    # tf-keras-vis takes e to the power of the logit, which is infinite here.
    sure = keras.models.clone_model(small_cnn)
    weights = small_cnn.get_weights()
    sure.set_weights([*weights[:-2], 1e4 * weights[-2], 1e4 * weights[-1]])
    predicted = sure.predict(images, verbose=0).argmax(axis=1)
    theirs = maps_of_peer(GradCAMPlusPlus, sure, images, predicted, "relu_b")
    assert not theirs.any()  # all NaN, so no maximum is above zero
    assert GradCAMPlusPlus(sure)(images)["relu_b"].max() == 1


@pytest.mark.parametrize("explainer", [GradCAMPlusPlus, LayerCAM])
def test_a_function_of_the_logits(small_cnn, images, explainer):
    explain = explainer(small_cnn, batch_size=4)
    third = explain(images, lambda logits: logits[:, 3])
    expected = explain(images, np.full(11, 3))
    np.testing.assert_allclose(third["relu_b"], expected["relu_b"], atol=1e-6)


def test_mod_and_vid_of_another_explanation(small_cnn, images):
    options = {"epsilons": [0.1], "verbose": 0}
    ours, other = (
        dissimilarity(small_cnn, images, explainer=explain, **options)
        for explain in (GradCAM(small_cnn), GradCAMPlusPlus(small_cnn))
    )
    assert list(ours.mod.columns) == list(other.mod.columns)
    assert ours.images.equals(other.images)
    assert 0 < other.mod["mod"].item() < 1
    assert ours.mod["mod"].item() != other.mod["mod"].item()


def test_score_cam_prints_nothing(small_cnn, images, capfd):
    ScoreCAM(small_cnn).maps_and_logits(images[:1], np.array([[PREDICTED]]))
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "step" not in captured.err


@pytest.mark.parametrize(("verbose", "bar"), [(1, True), (0, False), ("auto", False)])
def test_verbose_decides_on_the_bar(small_cnn, images, capsys, verbose, bar):
    LayerCAM(small_cnn, batch_size=4)(images, verbose=verbose)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert ("LayerCAM: 100%" in captured.err) == bar


@pytest.mark.parametrize("explainer", PEERS)
def test_refuses_a_precision_that_tf_keras_vis_cannot_take(small_cnn, explainer):
    half = keras.models.clone_model(
        small_cnn,
        clone_function=lambda layer: type(layer).from_config(
            layer.get_config() | {"dtype": "mixed_bfloat16"}
        ),
    )
    message = f"float32 or mixed_float16 for {explainer.__name__}, .*bfloat16 at 'relu_b'"
    with pytest.raises(ValueError, match=message):
        explainer(half)


def test_refuses_another_backend(monkeypatch, small_cnn):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    with pytest.raises(ValueError, match="Keras on TensorFlow for LayerCAM, .*Received: .*'torch'"):
        LayerCAM(small_cnn)


@pytest.mark.parametrize(
    ("targets", "message"),
    [([0, 1], "targets as 11 integers"), ("predicted", "targets as None .*Received: 'predicted'")],
)
def test_refuses_targets(small_cnn, images, targets, message):
    with pytest.raises(ValueError, match=message):
        LayerCAM(small_cnn)(images, targets)
