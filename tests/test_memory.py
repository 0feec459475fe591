"""Out of memory: batches are halved down to one, from the batch at hand on, with a warning."""

import dataclasses
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from gradcam_adv import backends as gradients
from gradcam_adv import batching as batches
from gradcam_adv import flatten, heatmaps, machine, sign
from gradcam_adv.app import pipeline
from gradcam_adv.data import faces
from gradcam_adv.explain import gradcam
from gradcam_adv.explain import tf_keras_vis as explainers
from gradcam_adv.models import backbones
from gradcam_adv.runs import checkpoints, records
from gradcam_adv.study import config as study
from gradcam_adv.study.stages import networks as stages
from gradcam_adv.study.stages import photos as arms


class OutOfMemoryError(RuntimeError):
    """As PyTorch's on a GPU is called."""


ERRORS = {
    "python": MemoryError,
    "torch": OutOfMemoryError,
    "torch on a processor": lambda: RuntimeError("[enforce fail] DefaultCPUAllocator: can't"),
    "jax": lambda: RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9"),
    "tensorflow": lambda: tf.errors.ResourceExhaustedError(None, None, "OOM when allocating"),
    "onednn": lambda: tf.errors.AbortedError(None, None, "could not create a memory object"),
}


def doubled_up_to(limit, seen, error=MemoryError):
    """A ``make`` of functions that double numbers, and fail for batches above ``limit``."""

    def make(size):
        def double(numbers):
            seen.append(numbers.tolist())
            if len(numbers) > limit:
                raise error()
            return 2 * numbers

        return double

    return make


def halvings(caught) -> list[str]:
    return [str(own.message) for own in caught if issubclass(own.category, batches.BatchHalved)]


@pytest.mark.parametrize("kind", ERRORS)
def test_halved_until_it_fits_and_smaller_for_good(kind):
    seen = []
    run = batches.Batches(doubled_up_to(3, seen, ERRORS[kind]), 8)
    with pytest.warns(batches.BatchHalved) as caught:
        found = list(run(np.arange(5)))
    assert halvings(caught) == [
        "out of memory with batches of 8: going on with 4",
        "out of memory with batches of 4: going on with 2",
    ]
    assert [(own, values.tolist()) for own, values in found] == [
        (slice(0, 2), [0, 2]), (slice(2, 4), [4, 6]), (slice(4, 5), [8, 8]),
    ]  # fmt: skip
    assert seen == [[0, 1, 2, 3, 4, 4, 4, 4], [0, 1, 2, 3], [0, 1], [2, 3], [4, 4]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [own for own, _ in run(np.arange(3))] == [slice(0, 2), slice(2, 3)]


def test_goes_on_from_the_batch_at_hand():
    """What was done before memory ended is neither done again nor thrown away."""
    seen = []

    def make(size):
        def run(numbers):
            seen.append(numbers.tolist())
            if len(numbers) == 4 and 5 in numbers:
                raise MemoryError
            return numbers

        return run

    with pytest.warns(batches.BatchHalved):
        found = [
            values[: own.stop - own.start].tolist()
            for own, values in batches.Batches(make, 4)(np.arange(7))
        ]
    assert found == [[0, 1, 2, 3], [4, 5], [6]]
    assert seen == [[0, 1, 2, 3], [4, 5, 6, 6], [4, 5], [6, 6]]


def test_compiled_once_a_size_and_a_compilation_may_run_out_too():
    made = []

    def make(size):
        made.append(size)
        if size > 2:
            raise MemoryError
        return lambda numbers: numbers

    run = batches.Batches(make, 5)
    with pytest.warns(batches.BatchHalved, match="of 5: going on with 2"):
        list(run(np.arange(9)))
    list(run(np.arange(9)))
    assert made == [5, 2]


def test_not_even_one_is_an_error_of_one_line():
    run = batches.Batches(doubled_up_to(0, []), 2)
    with (
        pytest.warns(batches.BatchHalved) as caught,
        pytest.raises(MemoryError, match="^Expected enough memory for one image .*: out of memory"),
    ):
        list(run(np.arange(2)))
    assert len(halvings(caught)) == 1


@pytest.mark.parametrize(
    ("gigabytes", "side", "expected"),
    [(0, 224, 8), (80, 224, 64), (24, 224, 16), (80, 448, 16), (4, 224, 8), (80, None, 8)],
)
def test_a_gpus_memory_decides_where_no_batch_size_is_given(monkeypatch, gigabytes, side, expected):
    monkeypatch.setattr(machine, "gpu_memory", lambda: gigabytes * 2.0**30)
    assert batches.size_for(None, (None, side, side, 3)) == expected
    assert batches.size_for(5, (None, side, side, 3)) == 5
    with pytest.raises(ValueError, match="batch_size as a whole number above 0. Received: 0"):
        batches.size_for(0, (None, side, side, 3))


@pytest.mark.parametrize(
    ("says", "visible", "expected"),
    [
        ("echo 81559; echo 40960", None, 40960 * 2**20),
        ('[ "$3" = --id=1 ] && echo 81559', "1", 81559 * 2**20),
        ("echo 81559", "-1", 0),
        ("echo 81559", "", 0),
        ("echo no devices were found; exit 6", None, 0),
        ("echo", None, 0),
        (None, None, 0),
    ],
)
def test_the_drivers_own_tool_tells_of_gpus(monkeypatch, tmp_path, says, visible, expected):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    if says is not None:
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{says}\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
    assert machine.gpu_memory() == expected


def test_other_errors_are_not_taken_for_it():
    def make(size):
        def run(numbers):
            raise tf.errors.InvalidArgumentError(None, None, "shapes differ")

        return run

    with pytest.raises(tf.errors.InvalidArgumentError, match="shapes differ"):
        list(batches.Batches(make, 8)(np.arange(2)))


def failing(function, limit):
    """A compiler of ``gradients`` whose functions run out of memory above ``limit`` images."""

    def compile_(*arguments):
        run = function(*arguments)

        def limited(images, classes):
            if len(images) > limit:
                raise ERRORS["tensorflow"]()
            return run(images, classes)

        return limited

    return compile_


def test_heatmaps_and_signs_of_halved_batches(monkeypatch, small_cnn, images, labels):
    expected = heatmaps(small_cnn, images, targets=labels, batch_size=8)
    signs = sign(small_cnn, images, labels, batch_size=8)
    for name in ("gradcam_sums", "loss_gradient"):
        monkeypatch.setattr(gradients, name, failing(getattr(gradients, name), 3))
    with pytest.warns(batches.BatchHalved) as caught:
        maps = heatmaps(small_cnn, images, targets=labels, batch_size=8)
    assert len(halvings(caught)) == 2
    for name, values in expected.items():
        np.testing.assert_allclose(maps[name], values, rtol=0, atol=1e-5)
    with pytest.warns(batches.BatchHalved) as caught:
        halved = sign(small_cnn, images, labels, batch_size=8)
    assert len(halvings(caught)) == 2
    assert (halved != signs).mean() < 1e-3


def test_logits_and_other_explanations_of_halved_batches(monkeypatch, small_cnn, images):
    expected = small_cnn.predict(images, verbose=0)
    predict = small_cnn.predict_on_batch

    def limited(pixels):
        if len(pixels) > 2:
            raise ERRORS["tensorflow"]()
        return predict(pixels)

    monkeypatch.setattr(small_cnn, "predict_on_batch", limited)
    predictor = gradcam.Predictor(small_cnn, 4)
    with pytest.warns(batches.BatchHalved, match="of 4: going on with 2"):
        np.testing.assert_allclose(predictor(images), expected, atol=1e-5)

    explain = explainers.compiled("layercam", flatten(small_cnn), "last", 4)
    classes = np.zeros((len(images), 1), int)
    whole, _ = explain(images, classes)
    peer = explain._peer

    def limited_peer(score, pixels, **options):
        if len(pixels) > 2:
            raise MemoryError
        return peer(score, pixels, **options)

    monkeypatch.setattr(explain, "_peer", limited_peer)
    with pytest.warns(batches.BatchHalved, match="of 4: going on with 2"):
        halved, _ = explain(images, classes)
    np.testing.assert_allclose(halved["relu_b"], whole["relu_b"], atol=1e-5)


def test_faces_of_halved_batches(monkeypatch):
    """Nothing fills up a batch of photos, where it would be searched for faces as well."""
    seen = []

    class Mtcnn:
        def detect_faces(self, images, **_):
            seen.append(len(images))
            if len(images) > 8:
                raise MemoryError
            # One face a photo, whose confidence is the photo's colour.
            rows = np.ones((len(images), 16))
            rows[:, 0] = np.arange(len(images))
            rows[:, 5] = [image.max() for image in images]
            return rows

    monkeypatch.setattr("mtcnn.MTCNN", Mtcnn)
    colours = [7, 3, 9, 1, 8, 2, 6, 4, 5, 11, 12]
    photos = [np.full((30 + colour % 3, 30, 3), colour, np.uint8) for colour in colours]
    with pytest.warns(batches.BatchHalved, match="of 16: going on with 8"):
        found = faces.Detector()(photos)
    assert [face.confidence for face in found] == colours
    assert seen == [11, 8, 3]


def test_statistics_that_do_not_fit_say_what_to_lower(monkeypatch, tmp_path):
    def out(*_, **__):
        raise ERRORS["tensorflow"]()

    monkeypatch.setattr(backbones, "calibrate_batch_norm", out)
    monkeypatch.setattr(backbones, "batch_norm_statistics", lambda base: {})
    own = study.parse({"name": "x", "networks": ["resnet50"], "image_size": 96})

    @dataclasses.dataclass
    class Few:
        study: object
        table: object

    few = Few(own, pd.DataFrame({"split": ["train"]}))
    checkpoint = checkpoints.Checkpoint(tmp_path / "checkpoint.npz")
    with pytest.raises(MemoryError, match="statistics of resnet50 .*image_size = 96; lower it"):
        stages._calibrate(few, None, "resnet50", checkpoint)


def test_a_study_says_so_and_writes_it_into_the_task_s_manifest(
    photo_folder, tmp_path, monkeypatch, capsys
):
    choose = arms.data

    def halving(*arguments, **options):
        list(batches.Batches(doubled_up_to(2, []), 4)(np.arange(3)))
        return choose(*arguments, **options)

    monkeypatch.setattr(arms, "data", halving)
    content = {"name": "x", "photos": str(photo_folder), "weights": "random", "arms": ["plain"]}
    own = study.parse(content)
    run = pipeline.Pipeline(own, tmp_path / "run", tmp_path / "models")
    run.run("data")
    message = "out of memory with batches of 4: going on with 2"
    assert records.manifest(run.settings["plain"].folders["data"]).notes == [message]
    assert capsys.readouterr().err == f"warning: {message}\n"


def test_more_than_the_system_has_is_refused_before_it_is_used(small_cnn):
    with pytest.raises(Exception, match="OOM when allocating") as refused:
        gradients.reserve(small_cnn, 2**33)
    assert batches.out_of_memory(refused.value)


LIMITED = """
import resource, sys, warnings
import keras, numpy as np
from gradcam_adv.models import backbones, weights
from gradcam_adv import batching as batches, backends as gradients
from gradcam_adv.attacks import fgsm
from gradcam_adv.explain import gradcam
from gradcam_adv.graph import network as networks
base = backbones.build("vgg16", 224, weights.Weights("random"))
x = keras.layers.GlobalAveragePooling2D()(base.output)
model = keras.Model(base.inputs, keras.layers.Dense(3)(x))
network = networks.flatten(model)
images = np.random.default_rng(0).random((32, 224, 224, 3), np.float32)
labels = np.zeros(32, np.int32)
run = {
    "explain": lambda size: gradcam.Explainer(network, "all", size)(images, labels[:, None])[1],
    "sign": lambda size: fgsm.compiled_sign(network, size)(images, labels),
    "predict": lambda size: gradcam.predict(model, images, size),
}[sys.argv[1]]
expected = run(1) if sys.argv[1] == "predict" else None
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[2]) * 2**20,) * 2)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always", batches.BatchHalved)
    found = run(32)
print([str(w.message) for w in caught if issubclass(w.category, batches.BatchHalved)])
if expected is not None:
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
@pytest.mark.parametrize("what", ["explain", "sign", "predict"])
def test_vgg16_with_little_memory(what):
    """Without gradients.reserve the process ends by a segmentation fault inside of oneDNN."""
    result = subprocess.run(
        [sys.executable, "-c", LIMITED, what, "1500"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-1000:]
    assert "out of memory with batches of 32: going on with 16" in result.stdout
