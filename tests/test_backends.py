"""Keras on PyTorch or JAX, TensorFlow's import blocked, against TensorFlow in another process."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from real_networks import LAYERS, classifier, orl_photos, sums_and_scales

from gradcam_adv import backends as gradients
from gradcam_adv import batching as batches
from gradcam_adv import dissimilarity, predict, sign
from gradcam_adv.app import pipeline
from gradcam_adv.files import artifacts
from gradcam_adv.graph import network as networks
from gradcam_adv.models import classifiers
from gradcam_adv.study import config as study
from gradcam_adv.study import setting

pytestmark = pytest.mark.backends

BACKEND = keras.backend.backend()

# What TensorFlow makes of the model and the images in a folder.
REFERENCE = """
import sys
from pathlib import Path
import keras
from test_backends import save_results
save_results(Path(sys.argv[1]))
assert keras.backend.backend() == "tensorflow"
"""


def results(model, images) -> dict[str, np.ndarray]:
    """Logits, FGSM signs, and the weighted sums of each layer."""
    network, count = networks.flatten(model), len(images)
    labels = np.arange(count) % network.classes
    sums, _ = gradients.gradcam_sums(network, network.places, count)(images, labels[:, None])
    maps = {f"map {place.path}": own[:, 0] for place, own in zip(network.places, sums, strict=True)}
    signs = sign(model, images, labels, batch_size=count)
    return {"logits": predict(model, images, count), "signs": signs} | maps


def save_results(folder: Path) -> None:
    model, images = classifiers.load(folder / "model.keras"), np.load(folder / "images.npy")
    network = networks.flatten(model)
    labels = np.arange(len(images)) % network.classes
    found = sums_and_scales(network, images, labels)
    named = {f"scale {p.path}": own for p, (_, own) in zip(network.places, found, strict=True)}
    np.savez(folder / "reference.npz", **results(model, images), **named)


def compare_with_tensorflow(folder, model, images) -> int:
    """Checks that both backends say the same; how many layers were compared.

    On most photos sums differ by rounding alone. Where a ReLU's input is within rounding of zero or
    two values of a max pooling are equal up to it, the gradient jumps, in float32 on either backend
    as far from float64's as from each other (docs/determinism.md).
    """
    classifiers.save(model, folder / "model.keras", {})
    np.save(folder / "images.npy", images)
    subprocess.run(
        [sys.executable, "-c", REFERENCE, str(folder)],
        cwd=Path(__file__).parent,
        env=os.environ | {"KERAS_BACKEND": "tensorflow"},
        check=True,
    )
    ours = results(classifiers.load(folder / "model.keras"), images)
    layers = [name.removeprefix("map ") for name in ours if name.startswith("map ")]
    with artifacts.read_arrays(folder / "reference.npz") as theirs:
        logits = theirs["logits"]
        np.testing.assert_allclose(ours["logits"], logits, rtol=0, atol=1e-4 * np.abs(logits).max())
        np.testing.assert_array_equal(ours["logits"].argmax(axis=1), logits.argmax(axis=1))
        assert (ours["signs"] == theirs["signs"]).mean() >= 0.999
        for layer in layers:
            difference = np.abs(ours[f"map {layer}"] - theirs[f"map {layer}"]).max(axis=(1, 2))
            of_scale = difference / theirs[f"scale {layer}"]
            assert np.median(of_scale) <= 1e-4, (layer, of_scale)
            assert of_scale.max() <= 1e-2, (layer, of_scale)
        assert len(theirs) == 2 + 2 * len(layers)
    return len(layers)


def test_tensorflow_is_blocked_and_only_asked_for():
    with pytest.raises(ImportError, match="tensorflow is blocked"):
        importlib.import_module("tensorflow")
    assert BACKEND in ("torch", "jax")


def test_a_small_network_gives_what_it_gives_on_tensorflow(tmp_path, small_cnn, images):
    assert compare_with_tensorflow(tmp_path, small_cnn, images) == 6


@pytest.mark.skipif(BACKEND != "jax", reason="PyTorch can be told at any time")
def test_jax_is_told_once_how_many_threads_it_has():
    script = "from gradcam_adv import backends\nfor n in (2, 2, 3): backends.configure(n)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "Expected JAX to run with 3 threads. Received: it has already been told" in done.stderr


# XLA takes its minutes to compile the two with the most layers.
@pytest.mark.parametrize(
    "name", [n for n in LAYERS if BACKEND != "jax" or n not in ("resnet101", "inceptionv3")]
)
def test_a_real_network_gives_what_it_gives_on_tensorflow(tmp_path, name):
    pixels = orl_photos(20)[:, ::2, ::2]
    layers = compare_with_tensorflow(tmp_path, classifier(name, pixels), pixels[:5])
    assert layers == LAYERS[name]


def test_mixed_precision_is_scaled_up_here_too(small_cnn, images, labels):
    """Half-precision gradients of a factor that drowns them are those of the same network."""
    whole = networks.flatten(small_cnn)
    half = keras.models.clone_model(
        small_cnn,
        clone_function=lambda layer: type(layer).from_config(
            layer.get_config() | {"dtype": "mixed_float16"}
        ),
    )
    half.set_weights(small_cnn.get_weights())
    network = networks.flatten(half)
    sums, expected = (
        gradients.gradcam_sums(own, own.places, 11)(images, labels[:, None])[0]
        for own in (network, whole)
    )
    for ours, theirs in zip(sums, expected, strict=True):
        assert np.abs(ours - theirs).max() <= 0.02 * np.abs(theirs).max()


def test_what_does_not_reach_the_score_is_refused(small_cnn, images):
    network = networks.flatten(small_cnn)
    constant = gradients.gradcam_sums(
        network, network.places, 2, lambda logits: keras.ops.zeros((2,))
    )
    with pytest.raises(ValueError, match="layers that the scores depend on. Received: norm"):
        constant(images[:2], np.zeros((2, 1), int))


def test_no_memory_is_known_by_whatever_says_so(small_cnn):
    with pytest.raises(Exception, match="DefaultCPUAllocator|Unable to allocate") as refused:
        gradients.reserve(small_cnn, 2**36)
    assert batches.out_of_memory(refused.value)


def test_explanations_of_tf_keras_vis_are_refused(small_cnn, images):
    with pytest.raises(
        ValueError, match=f"Keras on TensorFlow for explainer 'layercam'.*'{BACKEND}'"
    ):
        dissimilarity(small_cnn, images, explainer="layercam")


def parsed(folder, **keys) -> study.Study:
    content = {
        "name": "tiny",
        "photos": str(folder),
        "image_size": 48,
        "networks": ["vgg16", "resnet50"],
        "weights": "random",
        "epochs": 2,
        "epsilons": [0.02, 0.1],
        "examples": 2,
        "layers": {"vgg16": ["block5_conv3"], "resnet50": ["conv1_relu", "conv5_block3_out"]},
    }
    return study.parse(content | keys)


def test_aligned_faces_are_refused_before_work_starts(tmp_path, photo_folder):
    run = pipeline.Pipeline(parsed(photo_folder), tmp_path / "run", tmp_path / "models")
    said = f"TensorFlow for the aligned arm.*'{BACKEND}'; arms ="
    with pytest.raises(ValueError, match=said):
        run.run()
    assert not (tmp_path / "run").exists()


def test_a_study_from_photos_to_the_report(tmp_path, photo_folder, capsys):
    tiny = parsed(photo_folder, arms=["plain"])
    pipeline.Pipeline(tiny, tmp_path / "run", tmp_path / "models").run()
    assert BACKEND in setting.versions()
    assert "tensorflow" not in setting.versions()
    facts = artifacts.read_json(tmp_path / "run" / "manifest.json")
    assert facts["versions"][BACKEND]
    mod = artifacts.read_table(tmp_path / "run" / "tables" / "plain" / "mod.csv")
    assert set(mod["network"]) == {"vgg16", "resnet50"}
    assert (mod.loc[mod["epsilon"] > 0, "mod"] > 0).all()
    assert (tmp_path / "run" / "report.html").is_file()
    capsys.readouterr()
    pipeline.Pipeline(tiny, tmp_path / "run", tmp_path / "models").run()
    assert "nothing to do" in capsys.readouterr().out
    assert "tensorflow" not in sys.modules
