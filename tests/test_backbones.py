"""The five networks: their preprocessing, their weights, and what happens without a network."""

import hashlib
import importlib
import io
import threading
from dataclasses import replace

import h5py
import keras
import numpy as np
import pytest

from gradcam_adv import layer_names
from gradcam_adv.models import backbones, bases, classifiers, weights
from gradcam_adv.models.backbones import BACKBONES
from gradcam_adv.models.weights import Weights

# An HDF5 file without groups, for the checks that come before a network is built.
_EMPTY = io.BytesIO()
h5py.File(_EMPTY, "w").close()
HDF5 = _EMPTY.getvalue()

MODULES = {"resnet101": "resnet", "inceptionv3": "inception_v3"}
RANDOM = Weights("random")


@pytest.mark.parametrize(
    "name",
    [
        "vgg16",
        "xception",
        *(pytest.param(name, marks=pytest.mark.slow) for name in MODULES | {"resnet50": ""}),
    ],
)
def test_base_equals_the_application_on_preprocessed_pixels(name, tmp_path):
    pixels = np.random.default_rng(0).random((2, 75, 75, 3), dtype=np.float32)
    application = getattr(keras.applications, BACKBONES[name].application)
    plain = application(include_top=False, weights=None, input_shape=(75, 75, 3))
    path = tmp_path / f"{name}.weights.h5"
    plain.save_weights(path)
    module = importlib.import_module(f"keras.applications.{MODULES.get(name, name)}")
    expected = plain.predict(module.preprocess_input(pixels * 255), verbose=0)

    base = bases.build(name, 75, weights.resolve(str(tmp_path), [name])[name])
    ours = base.predict(pixels, verbose=0)
    np.testing.assert_allclose(ours, expected, atol=1e-4 * np.abs(expected).max())
    assert not base.trainable_weights


def test_with_preprocessing_unit_the_base_gets_the_pixels_as_they_are():
    base = bases.build("vgg16", 32, RANDOM, preprocessing="unit", seed=3)
    keras.utils.set_random_seed(3)
    plain = keras.applications.VGG16(include_top=False, weights=None, input_shape=(32, 32, 3))
    pixels = np.random.default_rng(0).random((2, 32, 32, 3), dtype=np.float32)
    np.testing.assert_allclose(
        base.predict(pixels, verbose=0), plain.predict(pixels, verbose=0), atol=1e-6
    )


def test_random_weights_depend_on_the_seed():
    first, again, other = (
        bases.build("vgg16", 32, RANDOM, seed=seed).get_weights() for seed in (0, 0, 1)
    )
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])


def test_the_layers_of_vgg16_are_its_convolutions_and_poolings():
    base = bases.build("vgg16", 64, RANDOM)
    extractor = classifiers.features(base)
    head = classifiers.dense_head(extractor.output_shape[-1], 2, seed=0)
    names = layer_names(classifiers.assemble(extractor, head))
    assert len(names) == 18
    assert BACKBONES["vgg16"].last_activation in names


def test_calibrated_statistics_are_those_of_the_photos():
    inputs = keras.Input((4, 4, 3))
    norm = keras.layers.BatchNormalization(name="norm")
    model = keras.Model(inputs, keras.layers.ReLU()(norm(inputs)))
    norm.trainable = False
    photos = np.random.default_rng(0).normal(3, 2, (64, 4, 4, 3)).astype(np.float32)
    bases.calibrate_batch_norm(model, [photos] * 3)
    # The batches are equal, so these are their statistics, with no share of the initial 0 and 1.
    np.testing.assert_allclose(norm.moving_mean, photos.mean(axis=(0, 1, 2)), rtol=1e-4)
    damped = bases._DAMPING * photos.var(axis=(0, 1, 2))
    np.testing.assert_allclose(norm.moving_variance, damped, rtol=1e-4)
    assert not norm.trainable
    assert norm.momentum == keras.layers.BatchNormalization().momentum


@pytest.mark.parametrize(
    ("file", "network"),
    [
        ("vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5", "vgg16"),
        ("inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5", "inceptionv3"),
        ("InceptionV3.weights.h5", "inceptionv3"),
        ("resnet50_imagenet.weights.h5", "resnet50"),
        ("ResNet-101.h5", "resnet101"),
        ("vgg16_224.h5", "vgg16"),
    ],
)
def test_the_file_of_a_network_is_found(tmp_path, file, network):
    for other in ("vgg19.h5", "resnet50v2_notop.h5", "resnet50_v2.h5", "resnet1010.h5", file):
        (tmp_path / other).write_bytes(HDF5)
    found = weights.resolve(str(tmp_path), [network])[network]
    assert found.path == tmp_path / file
    assert found.sha256 == hashlib.sha256(HDF5).hexdigest()


def test_of_two_files_the_one_without_top_is_taken(tmp_path):
    for name in ("vgg16_weights.h5", "vgg16_weights_notop.h5"):
        (tmp_path / name).write_bytes(HDF5)
    found = weights.resolve(str(tmp_path), ["vgg16"])["vgg16"]
    assert found.path is not None
    assert found.path.name == "vgg16_weights_notop.h5"


def test_a_folder_without_the_file_of_the_network_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"one file vgg16\*.h5 .*Received: none"):
        weights.resolve(str(tmp_path), ["vgg16"])


def test_two_files_of_one_network_are_refused(tmp_path):
    for name in ("vgg16_a.h5", "vgg16_b.h5"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ValueError, match=r"Received: vgg16_a.h5, vgg16_b.h5"):
        weights.resolve(str(tmp_path), ["vgg16"])


def test_a_word_that_is_no_folder_is_refused():
    with pytest.raises(ValueError, match="'auto' or an existing directory. Received: 'imagnet'"):
        weights.resolve("imagnet", ["vgg16"])


def test_a_weights_file_of_another_network_is_refused(tmp_path):
    plain = keras.applications.ResNet50(include_top=False, weights=None, input_shape=(32, 32, 3))
    plain.save_weights(tmp_path / "vgg16.weights.h5")
    wrong = weights.resolve(str(tmp_path), ["vgg16"])["vgg16"]
    with pytest.raises(ValueError, match=r"weights of VGG16 without top. Received: .*vgg16"):
        bases.build("vgg16", 32, wrong)


def test_a_file_without_weights_is_refused(tmp_path):
    (tmp_path / "vgg16.h5").write_text("no HDF5")
    message = r"weights of VGG16 without top. Received: .*vgg16.h5: damaged or no HDF5"
    with pytest.raises(ValueError, match=message):
        weights.resolve(str(tmp_path), ["vgg16"])
    with pytest.raises(ValueError, match=message):
        bases.build("vgg16", 32, Weights("file", tmp_path / "vgg16.h5"))


def test_weights_are_downloaded_once_and_then_read_from_the_cache(weights_server, monkeypatch):
    served, address, requests = weights_server
    (served / "vgg16_notop.h5").write_bytes(b"weights")
    md5 = hashlib.md5(b"weights").hexdigest()
    entry = replace(BACKBONES["vgg16"], weights_url=f"{address}/vgg16_notop.h5", weights_md5=md5)
    monkeypatch.setitem(BACKBONES, "vgg16", entry)
    found = weights.resolve("imagenet", ["vgg16"])["vgg16"]
    assert found.origin == "imagenet"
    assert found.path is not None
    assert found.path.read_bytes() == b"weights"
    asked = len(requests)
    assert weights.resolve("auto", ["vgg16"])["vgg16"] == found
    assert len(requests) == asked


def test_a_damaged_download_is_refused_and_with_auto_noted(weights_server, monkeypatch):
    served, address, _ = weights_server
    (served / "vgg16_notop.h5").write_bytes(b"half of the wei")
    entry = replace(BACKBONES["vgg16"], weights_url=f"{address}/vgg16_notop.h5")
    monkeypatch.setitem(BACKBONES, "vgg16", entry)
    with pytest.raises(ValueError, match="the download failed: .*hash does not match"):
        weights.resolve("imagenet", ["vgg16"])
    found = weights.resolve("auto", ["vgg16"])["vgg16"]
    assert found.origin == "random"
    assert "download failed" in found.note


def test_after_a_failed_download_the_server_is_not_asked_again(weights_server, monkeypatch):
    _, address, requests = weights_server  # it answers, but has no file: 404
    for name in ("vgg16", "resnet50"):
        entry = replace(BACKBONES[name], weights_url=f"{address}/{name}.h5")
        monkeypatch.setitem(BACKBONES, name, entry)
    found = weights.resolve("auto", ["vgg16", "resnet50"])
    assert {chosen.origin for chosen in found.values()} == {"random"}
    assert {path for path in requests if path.endswith(".h5")} == {"/vgg16.h5"}


def test_without_a_network_connection_the_server_is_asked_once(weights_server, monkeypatch):
    looks = []

    def no_network(request, timeout):
        looks.append(request.full_url)
        raise OSError("no network")

    monkeypatch.setattr(weights.urllib.request, "urlopen", no_network)
    found = weights.resolve("auto", list(BACKBONES))
    assert {weights.origin for weights in found.values()} == {"random"}
    assert len(looks) == 1
    with pytest.raises(ValueError, match=r"ImageNet weights of VGG16.*no network.*--weights DIR"):
        weights.resolve("imagenet", ["vgg16"])


def test_a_server_that_never_answers_is_given_up_after_seconds(weights_server, monkeypatch):
    monkeypatch.setattr(weights, "PROBE_SECONDS", 0.05)
    release = threading.Event()

    def never(*_, **__):
        release.wait()
        raise OSError("too late")

    monkeypatch.setattr(weights.urllib.request, "urlopen", never)
    assert weights.resolve("auto", ["vgg16"])["vgg16"].origin == "random"
    release.set()


def test_epsilon_units():
    assert backbones.epsilon_unit("vgg16", "pixel", "own") == 1
    assert backbones.epsilon_unit("vgg16", "network", "own") == pytest.approx(1 / 255)
    assert backbones.epsilon_unit("xception", "network", "own") == 0.5
    assert backbones.epsilon_unit("xception", "network", "unit") == 1


def test_unknown_network_names_the_nearest():
    with pytest.raises(ValueError, match="Received: 'resnet52'. Nearest: resnet50"):
        backbones.find("resnet52")
