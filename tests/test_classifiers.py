"""Base and head as one flat graph, and saved files that plain Keras opens."""

import datetime
import subprocess
import sys
import time
import zipfile

import keras
import numpy as np
import pytest

from gradcam_adv import load_model, predict_logits
from gradcam_adv.models import bases, classifiers, save_model, weights


@pytest.fixture(scope="module")
def parts():
    base = bases.build("vgg16", 32, weights.Weights("random"))
    extractor = classifiers.features(base)
    head = classifiers.dense_head(512, 4, seed=0)
    return extractor, head, classifiers.assemble(extractor, head)


def test_the_classifier_gives_the_logits_of_its_head(parts):
    extractor, head, model = parts
    pixels = np.random.default_rng(0).random((3, 32, 32, 3), dtype=np.float32)
    expected = head.predict(extractor.predict(pixels, verbose=0), verbose=0)
    ours = predict_logits(model, pixels, batch_size=2)
    np.testing.assert_allclose(ours, expected, atol=1e-4 * np.abs(expected).max())


def test_the_classifier_is_one_flat_graph_that_ends_in_logits(parts):
    *_, model = parts
    assert not any(isinstance(layer, keras.Model) for layer in model.layers)
    assert model.layers[-1].name == "logits"
    assert model.layers[-1].activation is keras.activations.linear
    trainable = {weight.path.split("/")[0] for weight in model.trainable_weights}
    assert trainable == {"hidden", "logits"}


@pytest.mark.parametrize(("precision", "digits"), [("mixed_bfloat16", 0.05), ("float64", 1e-5)])
def test_a_classifier_in_another_precision_is_the_same_network(parts, precision, digits):
    *_, model = parts
    other = classifiers.in_precision(model, precision)
    computed = precision.removeprefix("mixed_")
    assert other.get_layer("block3_conv1").output.dtype == computed
    assert [layer.name for layer in other.layers] == [layer.name for layer in model.layers]
    pixels = np.random.default_rng(0).random((3, 32, 32, 3), dtype=np.float32)
    expected = predict_logits(model, pixels, batch_size=2)
    np.testing.assert_allclose(
        predict_logits(other, pixels, batch_size=2), expected, atol=digits * np.abs(expected).max()
    )
    assert model.get_layer("block3_conv1").output.dtype == "float32"


def test_flattened_features():
    base = bases.build("vgg16", 64, weights.Weights("random"))
    assert classifiers.features(base, "flatten").output_shape == (None, 2 * 2 * 512)


def test_a_head_depends_on_the_seed():
    first, again, other = (classifiers.dense_head(6, 3, seed).get_weights() for seed in (0, 0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])
    assert not np.array_equal(first[0][:3, :3], first[2][:3, :3])


def test_plain_keras_opens_a_saved_model_in_safe_mode_without_our_package(parts, tmp_path):
    *_, model = parts
    path = tmp_path / "vgg16.keras"
    save_model(model, path, {"classes": ["a"]})
    pixels = np.random.default_rng(0).random((2, 32, 32, 3), dtype=np.float32)
    np.save(tmp_path / "pixels.npy", pixels)
    script = (
        "import sys, numpy, keras\n"
        "model = keras.saving.load_model(sys.argv[1], safe_mode=True)\n"
        "logits = model.predict(numpy.load(sys.argv[2]), verbose=0)\n"
        "assert 'gradcam_adv' not in sys.modules\n"
        "numpy.save(sys.argv[3], logits)\n"
    )
    arguments = [str(path), str(tmp_path / "pixels.npy"), str(tmp_path / "logits.npy")]
    subprocess.run([sys.executable, "-c", script, *arguments], check=True, cwd=tmp_path)
    expected = model.predict(pixels, verbose=0)
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(load_model(path).predict(pixels, verbose=0), expected)
    assert [file.name for file in tmp_path.glob(".*")] == []


def test_the_same_model_saved_at_another_time_is_the_same_file(parts, tmp_path):
    *_, model = parts
    save_model(model, tmp_path / "first.keras", {})
    time.sleep(2.1)  # a zip archive counts in steps of two seconds
    save_model(model, tmp_path / "second.keras", {})
    first = (tmp_path / "first.keras").read_bytes()
    assert first == (tmp_path / "second.keras").read_bytes()
    assert str(datetime.date.today()).encode() not in first
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("first.json", "first.keras", "second.json", "second.keras")
    ]


def test_a_file_that_is_no_model_is_refused(tmp_path):
    (tmp_path / "text.keras").write_text("no archive")
    (tmp_path / "model.h5").write_bytes(b"x")
    with zipfile.ZipFile(tmp_path / "empty.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    for name, message in (
        ("none.keras", "which is no file"),
        ("text.keras", "which is not in that format"),
        ("model.h5", "which is not in that format"),
        ("empty.keras", "that Keras opens in safe mode"),
    ):
        with pytest.raises(ValueError, match=message):
            load_model(tmp_path / name)


def test_a_model_with_a_lambda_is_refused(tmp_path):
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Lambda(lambda x: x * 2)(inputs))
    model.save(tmp_path / "lambda.keras")
    with pytest.raises(ValueError, match="opens in safe mode. Received: .*lambda.keras"):
        load_model(tmp_path / "lambda.keras")


def test_the_classes_of_a_model_must_be_the_identities(parts):
    *_, model = parts
    names = ["a", "b", "c", "d"]
    classifiers.check_classes(model, {"classes": names}, names)
    with pytest.raises(ValueError, match=r"the 3 identities .*Received: one with 4 classes"):
        classifiers.check_classes(model, {"classes": names}, names[:3])
    with pytest.raises(ValueError, match="Received: one with 0 classes"):
        classifiers.check_classes(model, {}, names)
    with pytest.raises(ValueError, match="a model with 2 logits, one per class. Received: 4"):
        classifiers.check_classes(model, {"classes": names[:2]}, names[:2])
