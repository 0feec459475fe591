"""Keras on PyTorch or JAX, with imports of TensorFlow blocked, against TensorFlow elsewhere."""

import importlib
import logging
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from real_networks import LAYERS, classifier, orl_photos, sums_and_scales

from gradcam_adv import FGSM, LayerCAM, backends, flatten, load_model, machine, predict_logits
from gradcam_adv.app import Pipeline
from gradcam_adv.batching import out_of_memory
from gradcam_adv.explain.gradcam import compile_sums
from gradcam_adv.files import read
from gradcam_adv.models import save_model
from gradcam_adv.study import Study, parse

pytestmark = pytest.mark.backends

BACKEND = keras.backend.backend()

# Computes the same with TensorFlow, of the model and the images in a folder.
REFERENCE = """
import sys
from pathlib import Path
import keras
from test_backends import save_results
save_results(Path(sys.argv[1]))
assert keras.backend.backend() == "tensorflow"
"""


def sums_of(model, images, explained=1) -> dict[str, np.ndarray]:
    """Grad-CAM's weighted sums by layer; of the classes 0, 1, 2 and so on."""
    graph, count = flatten(model), len(images)
    labels = np.arange(count) % graph.classes
    sums, _ = compile_sums(graph, graph.layers, count, explained)(images, labels[:, None])
    return {call.path: own[:, 0] for call, own in zip(graph.layers, sums, strict=True)}


def results(model, images) -> dict[str, np.ndarray]:
    """Logits, FGSM signs, and the weighted sums of each layer."""
    count = len(images)
    labels = np.arange(count) % model.output_shape[-1]
    signs = FGSM(model, batch_size=count).signs(images, labels)
    logits = predict_logits(model, images, batch_size=count)
    maps = {f"map {path}": own for path, own in sums_of(model, images).items()}
    return {"logits": logits, "signs": signs} | maps


def save_results(folder: Path) -> None:
    model, images = load_model(folder / "model.keras"), np.load(folder / "images.npy")
    graph = flatten(model)
    found = sums_and_scales(graph, images, np.arange(len(images)) % graph.classes)
    scales = {f"scale {c.path}": own for c, (_, own) in zip(graph.layers, found, strict=True)}
    np.savez(folder / "reference.npz", **results(model, images), **scales)


def compare_with_tensorflow(folder, model, images) -> int:
    """Check that both backends give the same; return how many layers were compared.

    On most photos sums differ by rounding only. The gradient jumps where a ReLU's input is within
    rounding of zero, or where two values of a max pooling are equal up to rounding. There each
    backend's float32 is as far from float64 as from the other backend's (docs/determinism.md).
    """
    save_model(model, folder / "model.keras", {})
    np.save(folder / "images.npy", images)
    subprocess.run(
        [sys.executable, "-c", REFERENCE, str(folder)],
        cwd=Path(__file__).parent,
        env=os.environ | {"KERAS_BACKEND": "tensorflow"},
        check=True,
    )
    ours = results(load_model(folder / "model.keras"), images)
    layers = [name.removeprefix("map ") for name in ours if name.startswith("map ")]
    with read.arrays(folder / "reference.npz") as theirs:
        logits = theirs["logits"]
        np.testing.assert_allclose(ours["logits"], logits, rtol=0, atol=1e-4 * np.abs(logits).max())
        np.testing.assert_array_equal(ours["logits"].argmax(axis=1), logits.argmax(axis=1))
        same = (ours["signs"] == theirs["signs"]).mean(axis=(1, 2, 3))  # per photo
        assert np.median(same) >= 0.999, same
        assert same.min() >= 0.98, same
        for layer in layers:
            difference = np.abs(ours[f"map {layer}"] - theirs[f"map {layer}"]).max(axis=(1, 2))
            of_scale = difference / theirs[f"scale {layer}"]
            assert np.median(of_scale) <= 1e-3, (layer, of_scale)
            assert of_scale.max() <= 1e-2, (layer, of_scale)
        assert len(theirs) == 2 + 2 * len(layers)
    return len(layers)


def test_tensorflow_is_blocked():
    with pytest.raises(ImportError, match="tensorflow is blocked"):
        importlib.import_module("tensorflow")
    assert BACKEND in ("torch", "jax")
    assert machine.backend() == BACKEND


def test_a_small_network_gives_what_it_gives_on_tensorflow(tmp_path, small_cnn, images):
    assert compare_with_tensorflow(tmp_path, small_cnn, images) == 6


@pytest.mark.skipif(BACKEND != "jax", reason="PyTorch can be told at any time")
def test_jax_is_told_once_how_many_threads_it_has():
    script = "from gradcam_adv import backends\nfor n in (2, 2, 3): backends.configure(n)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "Expected JAX to run with 3 threads. Received: it has already been told" in done.stderr


# XLA takes minutes to compile a network with many layers. ResNet101 has ResNet50's kinds of layers.
REAL = {"torch": ("vgg16", "resnet50", "inceptionv3"), "jax": ("vgg16", "xception")}


@pytest.mark.parametrize("name", REAL.get(BACKEND, ()))
def test_a_real_network_gives_what_it_gives_on_tensorflow(tmp_path, name):
    pixels = orl_photos(20)[:, ::2, ::2]
    layers = compare_with_tensorflow(tmp_path, classifier(name, pixels), pixels[:5])
    # At this size the last maps are 1 x 1, which are no places.
    assert 0.7 * LAYERS[name] < layers <= LAYERS[name]


def test_scores_of_half_precision_are_scaled_up_here_too(small_cnn, images):
    """Without that, half precision loses gradients as small as these."""
    half = keras.models.clone_model(
        small_cnn,
        clone_function=lambda layer: type(layer).from_config(
            layer.get_config() | {"dtype": "mixed_float16"}
        ),
    )
    half.set_weights(small_cnn.get_weights())
    expected = sums_of(small_cnn, images)
    for name, ours in sums_of(half, images).items():
        assert np.abs(ours - expected[name]).max() <= 0.02 * np.abs(expected[name]).max()


def test_a_score_that_does_not_depend_on_the_layers_is_refused(small_cnn, images):
    with pytest.raises(ValueError, match="layers that the scores depend on. Received: norm"):
        sums_of(small_cnn, images[:2], lambda logits: keras.ops.zeros((2,)))


def test_the_backend_s_own_error_says_that_memory_ran_out(small_cnn):
    with pytest.raises(Exception, match="DefaultCPUAllocator|Unable to allocate") as refused:
        backends.reserve(small_cnn, 2**36)
    assert out_of_memory(refused.value)


def test_explanations_of_tf_keras_vis_are_refused(small_cnn):
    with pytest.raises(ValueError, match=f"Keras on TensorFlow for LayerCAM,.*'{BACKEND}'"):
        LayerCAM(small_cnn)


def tiny(folder, **keys) -> Study:
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
    return parse(content | keys)


def test_aligned_faces_are_refused_before_work_starts(tmp_path, photo_folder):
    pipeline = Pipeline(tiny(photo_folder), tmp_path / "run", tmp_path / "models")
    with pytest.raises(ValueError, match=f"TensorFlow for the aligned arm.*'{BACKEND}'; arms ="):
        pipeline.run()
    assert not (tmp_path / "run").exists()


def test_a_study_from_photos_to_the_report(tmp_path, photo_folder, caplog):
    study, run = tiny(photo_folder, arms=["plain"]), tmp_path / "run"
    Pipeline(study, run, tmp_path / "models").run()
    assert BACKEND in machine.versions()
    assert "tensorflow" not in machine.versions()
    assert read.json(run / "manifest.json")["versions"][BACKEND]
    mod = read.table(run / "tables" / "plain" / "mod.csv")
    assert set(mod["network"]) == {"vgg16", "resnet50"}
    assert (mod.loc[mod["epsilon"] > 0, "mod"] > 0).all()
    assert (run / "report.html").is_file()
    with caplog.at_level(logging.INFO, logger="gradcam_adv"):
        Pipeline(study, run, tmp_path / "models").run()
    assert "tiny: nothing to do, every stage up to report is done" in caplog.messages
    assert "tensorflow" not in sys.modules
