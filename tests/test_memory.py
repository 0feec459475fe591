"""Out of memory: batches are halved down to one, from that batch on, with a warning."""

import logging
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradcam_adv import FGSM, GradCAM, LayerCAM, backends, machine
from gradcam_adv.app import Pipeline
from gradcam_adv.batching import BatchHalved, PaddedBatches, batch_size_for, out_of_memory
from gradcam_adv.data import faces
from gradcam_adv.graph.predictor import Predictor
from gradcam_adv.models import bases
from gradcam_adv.runs.engines import Local
from gradcam_adv.study.config import parse
from gradcam_adv.study.stages.data import ChoosePhotos
from gradcam_adv.study.stages.features import Features


class OutOfMemoryError(RuntimeError):
    """The name of PyTorch's own on a GPU."""


ERRORS = {
    "python": MemoryError,
    "torch": OutOfMemoryError,
    "torch on a processor": lambda: RuntimeError("[enforce fail] DefaultCPUAllocator: can't"),
    "jax": lambda: RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9"),
    "tensorflow": lambda: tf.errors.ResourceExhaustedError(None, None, "OOM when allocating"),
    "onednn": lambda: tf.errors.AbortedError(None, None, "could not create a memory object"),
}


def doubling_up_to(limit, seen, error=MemoryError):
    """Compiles functions that double numbers, and fail for batches above ``limit``."""

    def compile(size):
        def double(numbers):
            seen.append(numbers.tolist())
            if len(numbers) > limit:
                raise error()
            return 2 * numbers

        return double

    return compile


def halvings(caught) -> list[str]:
    return [str(own.message) for own in caught if issubclass(own.category, BatchHalved)]


@pytest.mark.parametrize("kind", ERRORS)
def test_batches_are_halved_until_they_fit_and_stay_small(kind):
    seen = []
    run = PaddedBatches(doubling_up_to(3, seen, ERRORS[kind]), 8)
    with pytest.warns(BatchHalved) as caught:
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
    """Batches that were done before are neither lost nor done again."""
    seen = []

    def compile(size):
        def run(numbers):
            seen.append(numbers.tolist())
            if len(numbers) == 4 and 5 in numbers:
                raise MemoryError
            return numbers

        return run

    with pytest.warns(BatchHalved):
        found = [
            values[: own.stop - own.start].tolist()
            for own, values in PaddedBatches(compile, 4)(np.arange(7))
        ]
    assert found == [[0, 1, 2, 3], [4, 5], [6]]
    assert seen == [[0, 1, 2, 3], [4, 5, 6, 6], [4, 5], [6, 6]]


def test_each_size_is_compiled_once_and_compiling_may_run_out_of_memory_too():
    compiled = []

    def compile(size):
        compiled.append(size)
        if size > 2:
            raise MemoryError
        return lambda numbers: numbers

    run = PaddedBatches(compile, 5)
    with pytest.warns(BatchHalved, match="of 5: going on with 2"):
        list(run(np.arange(9)))
    list(run(np.arange(9)))
    assert compiled == [5, 2]


def test_no_memory_for_one_image_is_an_error_of_one_line():
    run = PaddedBatches(doubling_up_to(0, []), 2)
    with (
        pytest.warns(BatchHalved) as caught,
        pytest.raises(MemoryError, match="^Expected enough memory for one image .*: out of memory"),
    ):
        list(run(np.arange(2)))
    assert len(halvings(caught)) == 1


@pytest.mark.parametrize(
    ("gigabytes", "side", "expected"),
    [(0, 224, 8), (80, 224, 64), (24, 224, 16), (80, 448, 16), (4, 224, 8), (80, None, 8)],
)
def test_without_a_batch_size_the_memory_of_the_gpu_decides(monkeypatch, gigabytes, side, expected):
    monkeypatch.setattr(machine, "gpu_memory", lambda: gigabytes * 2.0**30)
    assert batch_size_for(None, (None, side, side, 3)) == expected
    assert batch_size_for(5, (None, side, side, 3)) == 5
    with pytest.raises(ValueError, match="batch_size as a whole number above 0. Received: 0"):
        batch_size_for(0, (None, side, side, 3))


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
def test_the_driver_s_own_tool_knows_the_gpus(monkeypatch, tmp_path, says, visible, expected):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    if says is not None:
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{says}\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
    assert machine.gpu_memory() == expected


def test_other_errors_of_tensorflow_halve_no_batch():
    def compile(size):
        def run(numbers):
            raise tf.errors.InvalidArgumentError(None, None, "shapes differ")

        return run

    with pytest.raises(ValueError, match="Received: InvalidArgumentError: shapes differ"):
        list(PaddedBatches(compile, 8)(np.arange(2)))


def failing_above(limit, function, error=ERRORS["tensorflow"]):
    """``function`` of one or more arrays, out of memory above ``limit`` images."""

    def limited(*arrays, **options):
        if len(arrays[-1]) > limit:
            raise error()
        return function(*arrays, **options)

    return limited


def test_heatmaps_and_signs_of_halved_batches(monkeypatch, small_cnn, images, labels):
    expected = GradCAM(small_cnn, "all", batch_size=8)(images, labels)
    signs = FGSM(small_cnn, batch_size=8).signs(images, labels)
    compiled = backends.compiled

    def limited(*arguments):
        run = compiled(*arguments)
        return lambda pixels, *others: failing_above(3, lambda p: run(p, *others))(pixels)

    monkeypatch.setattr(backends, "compiled", limited)
    # Another model, since what is compiled for one is kept.
    other = keras.models.clone_model(small_cnn)
    other.set_weights(small_cnn.get_weights())
    with pytest.warns(BatchHalved) as caught:
        maps = GradCAM(other, "all", batch_size=8)(images, labels)
    assert len(halvings(caught)) == 2
    for name, values in expected.items():
        np.testing.assert_allclose(maps[name], values, rtol=0, atol=1e-5)
    with pytest.warns(BatchHalved) as caught:
        halved = FGSM(other, batch_size=8).signs(images, labels)
    assert len(halvings(caught)) == 2
    assert (halved != signs).mean() < 1e-3


def test_logits_and_other_explanations_of_halved_batches(monkeypatch, small_cnn, images):
    expected = small_cnn.predict(images, verbose=0)
    limited = failing_above(2, small_cnn.predict_on_batch)
    monkeypatch.setattr(small_cnn, "predict_on_batch", limited)
    predictor = Predictor(small_cnn, 4)
    with pytest.warns(BatchHalved, match="of 4: going on with 2"):
        np.testing.assert_allclose(predictor(images), expected, atol=1e-5)

    explain = LayerCAM(small_cnn, batch_size=4)
    whole = explain(images)
    monkeypatch.setattr(explain, "_peer", failing_above(2, explain._peer, MemoryError))
    with pytest.warns(BatchHalved, match="of 4: going on with 2"):
        halved = explain(images)
    np.testing.assert_allclose(halved["relu_b"], whole["relu_b"], atol=1e-5)


def test_faces_of_halved_batches(monkeypatch):
    """Batches of photos are not padded, since MTCNN would search the padding, too."""
    seen = []

    class Mtcnn:
        def detect_faces(self, images, **_):
            seen.append(len(images))
            if len(images) > 8:
                raise MemoryError
            # One face per photo; its confidence is the photo's colour.
            rows = np.ones((len(images), 16))
            rows[:, 0] = np.arange(len(images))
            rows[:, 5] = [image.max() for image in images]
            return rows

    monkeypatch.setattr("mtcnn.MTCNN", Mtcnn)
    colours = [7, 3, 9, 1, 8, 2, 6, 4, 5, 11, 12]
    photos = [np.full((30 + colour % 3, 30, 3), colour, np.uint8) for colour in colours]
    with pytest.warns(BatchHalved, match="of 16: going on with 8"):
        found = faces.Detector()(photos)
    assert [face.confidence for face in found] == colours
    assert seen == [11, 8, 3]


@pytest.fixture
def pipeline(photo_folder, tmp_path):
    """Of one network with random weights; nothing is done yet."""
    content = {"name": "x", "photos": str(photo_folder), "weights": "random", "arms": ["plain"]}
    study = parse(content | {"networks": ["resnet50"], "source": "resnet50", "image_size": 96})
    return Pipeline(study, tmp_path / "run", tmp_path / "models")


def test_statistics_that_do_not_fit_say_what_to_lower(monkeypatch, pipeline):
    def out(*_, **__):
        raise ERRORS["tensorflow"]()

    pipeline.run("data")
    monkeypatch.setattr(bases, "calibrate_batch_norm", out)
    monkeypatch.setattr(bases, "batch_norm_statistics", lambda base: {})
    monkeypatch.setattr(Features, "_built", lambda own: None)
    with pytest.raises(MemoryError, match="statistics of resnet50 .*image_size = 96; lower it"):
        pipeline.plan.arms["plain"].features["resnet50"].make(Local())


def test_a_halved_batch_is_logged_and_noted_in_the_task_s_record(monkeypatch, pipeline, caplog):
    choose = ChoosePhotos.make

    def halving(task, engine):
        list(PaddedBatches(doubling_up_to(2, []), 4)(np.arange(3)))
        return choose(task, engine)

    monkeypatch.setattr(ChoosePhotos, "make", halving)
    with caplog.at_level(logging.WARNING, logger="gradcam_adv"):
        pipeline.run("data")
    message = "out of memory with batches of 4: going on with 2"
    assert pipeline.plan.data.record().notes == [message]
    assert caplog.messages == [f"warning: {message}"]


def test_more_than_the_system_has_is_refused_before_it_is_used(small_cnn):
    with pytest.raises(Exception, match="OOM when allocating") as refused:
        backends.reserve(small_cnn, 2**33)
    assert out_of_memory(refused.value)


LIMITED = """
import resource, sys, warnings
import keras, numpy as np
from gradcam_adv import FGSM, GradCAM, predict_logits
from gradcam_adv.batching import BatchHalved
from gradcam_adv.models import Weights, build
base = build("vgg16", 224, Weights("random"))
x = keras.layers.GlobalAveragePooling2D()(base.output)
model = keras.Model(base.inputs, keras.layers.Dense(3)(x))
images = np.random.default_rng(0).random((32, 224, 224, 3), np.float32)
labels = np.zeros(32, np.int32)
run = {
    "explain": lambda size: GradCAM(model, "all", batch_size=size)(images, labels),
    "attack": lambda size: FGSM(model, batch_size=size).signs(images, labels),
    "predict": lambda size: predict_logits(model, images, batch_size=size),
}[sys.argv[1]]
expected = run(1) if sys.argv[1] == "predict" else None
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[2]) * 2**20,) * 2)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always", BatchHalved)
    found = run(32)
print([str(w.message) for w in caught if issubclass(w.category, BatchHalved)])
if expected is not None:
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
@pytest.mark.parametrize("what", ["explain", "attack", "predict"])
def test_vgg16_with_little_memory(what):
    """Without backends.reserve the process ends by a segmentation fault in oneDNN."""
    result = subprocess.run(
        [sys.executable, "-c", LIMITED, what, "1500"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-1000:]
    assert "out of memory with batches of 32: going on with 16" in result.stdout
