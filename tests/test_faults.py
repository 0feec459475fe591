"""Every write of a run fails once: one line of error, nothing whole is lost, the run continues."""

import contextlib
import errno
import functools
import os
import resource
import shutil
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from conftest import write_photo
from disk import watched
from keras.src.saving import saving_lib

from gradcam_adv import backends
from gradcam_adv.app import cli
from gradcam_adv.attacks.fgsm import FGSM
from gradcam_adv.data import photos
from gradcam_adv.explain import gradcam
from gradcam_adv.graph import predictor
from gradcam_adv.models import backbones, bases, training
from gradcam_adv.runs import engines, locks, records

STUDY = """
name = "tiny"
photos = "people"
image_size = 32
networks = ["vgg16", "resnet50"]
weights = "random"
epochs = 1
epsilons = [0.1]
examples = 2
arms = ["plain"]
[layers]
vgg16 = ["block5_conv3"]
resnet50 = ["conv5_block3_out"]
"""


def tiny_base(name, image_size, weights, *, preprocessing="own", seed=0):
    """Instead of a network of that name: two layers; the last one has the real one's name."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((image_size, image_size, 3))
    x = keras.layers.Conv2D(4, 3, strides=4, name="first")(inputs)
    x = keras.layers.BatchNormalization(name="norm")(x)
    last = backbones.BACKBONES[name].last_activation
    return keras.Model(inputs, keras.layers.ReLU(name=last)(x))


class CheapPredictor:
    """Instead of Predictor: nothing is compiled."""

    def __init__(self, model, batch_size, what="logits"):
        self._model = model

    def __call__(self, images):
        return np.asarray(self._model(images))


class CheapGradCAM:
    """Instead of Grad-CAM: the heatmaps are parts of the photos."""

    def __init__(self, model, layers, *, batch_size):
        self.layers = [layers] if isinstance(layers, str) else list(layers)

    def maps_and_logits(self, images, classes):
        maps = images[:, ::4, ::4, :1].transpose(0, 3, 1, 2).repeat(classes.shape[1], axis=1)
        logits = images.mean(axis=(1, 2))
        return dict.fromkeys(self.layers, maps / maps.max()), logits


def cheap_signs(_, pixels, labels):
    return np.sign(pixels - 0.5).astype(np.int8)


@pytest.fixture
def cheap(tmp_path, monkeypatch) -> Path:
    """A folder with a study and photos; everything slow in its stages is replaced.

    What is written, and when, is as always.
    """
    monkeypatch.setattr(engines, "SLICE", 2)
    monkeypatch.setattr(bases, "build", tiny_base)
    monkeypatch.setattr(bases, "calibrate_batch_norm", lambda *_, **__: None)
    monkeypatch.setattr(predictor, "Predictor", CheapPredictor)
    monkeypatch.setattr(gradcam, "GradCAM", CheapGradCAM)
    monkeypatch.setattr(FGSM, "signs", cheap_signs)
    monkeypatch.setattr(backends, "configure", lambda threads: None)
    # Otherwise Keras first writes to a file of its own if memory is short at that moment.
    monkeypatch.setattr(saving_lib, "is_memory_sufficient", lambda _: True)
    # Without the collection of garbage, which takes longer than all the rest.
    clear_session = functools.partial(keras.utils.clear_session, free_memory=False)
    monkeypatch.setattr(backends, "clear_session", clear_session)
    history = pd.DataFrame({"epoch": [1], "loss": [0.5], "val_loss": [0.5]})
    monkeypatch.setattr(training, "train_head", lambda *_, **__: history)
    folder = tmp_path / "work"
    for person, name in enumerate(("ann", "bob", "cem")):
        for number in range(4):
            write_photo(folder / "people" / name / f"{number}.png", 100 * person + number)
    (folder / "study.toml").write_text(STUDY)
    monkeypatch.chdir(folder)
    return folder


def run(stage: str = "score"):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return CliRunner().invoke(cli.main, [stage, "study.toml"])


def error_of(result) -> str:
    """The one line of error that a user saw."""
    assert result.exit_code == 1, (result.output, result.exception)
    lines = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1, result.stderr
    assert "Traceback" not in result.output + result.stderr
    return lines[0]


def files(folder: Path) -> dict[Path, bytes]:
    return {
        path: path.read_bytes()
        for place in ("runs", "models")
        for path in (folder / place).rglob("*")
        if path.is_file()
    }


def contents(folder: Path) -> dict[Path, bytes]:
    """All files of a finished run, except the manifests, which hold times."""
    return {
        path: content for path, content in files(folder).items() if path.name != records.MANIFEST
    }


def on_record(folder: Path) -> set[Path]:
    """The files that are whole, as manifests and journals say."""
    return {
        Path(os.path.normpath(path.parent / name))
        for path in (folder / "runs").rglob("*.json*")
        for record in (records.manifest(path.parent) or records.journal(path.parent),)
        if record is not None
        for name in record.files
    }


# The kind of a write, the file or folder, and the occasion if it is written more than once.
Point = tuple[str, Path, str]


class Fault:
    """Makes the first write fail that has not failed before.

    Attributes:
        points: all writes so far.
        failed: those that failed.
        only: which paths may fail.
    """

    def __init__(self, folder: Path, kind: str, fail: Callable[[Path], None] | None) -> None:
        self._folder = folder
        self._kind = kind
        self._fail = fail
        self.points: set[Point] = set()
        self.failed: set[Point] = set()
        self._written = ""
        self.only: Callable[[Path], bool] = lambda _: True

    def __call__(self, kind: str, path: Path, occasion: str = "") -> None:
        path = Path(os.path.normpath(self._folder / path))
        if kind != self._kind or not path.is_relative_to(self._folder):
            return
        if path.name in (locks.LOCK, records.JOURNAL) and kind == "open":
            return  # not a result; for the lines of a journal see "append"
        if kind == "rename":
            self._written = path.name
        if kind == "sync" and ".partial" not in path.name:  # a folder or a journal
            occasion = self._written
        point = (kind, path, occasion)
        self.points.add(point)
        if self._fail is not None and point not in self.failed and self.only(path):
            self.failed.add(point)
            self._fail(path)


@contextlib.contextmanager
def watching(fault: Fault) -> Iterator[None]:
    """Tell ``fault`` of every step on disk, and of every line of a journal."""
    append = records.Journal._append

    def appended(journal, entry):
        fault(
            "append", journal._folder / records.JOURNAL, "{}: {}".format(*next(iter(entry.items())))
        )
        append(journal, entry)

    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    with pytest.MonkeyPatch.context() as patch, watched(fault):
        patch.setattr(records.Journal, "_append", appended)
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)


def fail_with(number: int) -> Callable[[Path], None]:
    def fail(path: Path) -> None:
        raise OSError(number, os.strerror(number), str(path))

    return fail


def no_more_bytes(path: Path) -> None:
    """From now on the system writes a few bytes only, and then fails, whoever writes."""
    size = path.stat().st_size if path.exists() else 0
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 5, hard))


FAULTS = {
    "open": ("open", fail_with(errno.EACCES), "Received: Permission denied"),
    "sync": ("sync", fail_with(errno.EIO), "Received: Input/output error"),
    "rename": ("rename", fail_with(errno.EIO), "Received: Input/output error"),
    "write": ("open", no_more_bytes, "Expected to read or write "),
    "no space": ("open", no_more_bytes, "free some space and give the same command again"),
    "line of a journal": ("append", no_more_bytes, "Received: File too large"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_each_write_of_a_run_fails_once(cheap, monkeypatch, name):
    """All writes with no space on the disk, and with each other fault an eighth of the files."""
    kind, fail, message = FAULTS[name]

    def chosen(path: Path) -> bool:
        of_run = str(path.relative_to(cheap)).encode()
        return name in ("no space", "line of a journal") or zlib.crc32(of_run) % 8 == list(
            FAULTS
        ).index(name)

    undisturbed = Fault(cheap, kind, None)
    with watching(undisturbed):
        assert run().exit_code == 0
    expected = contents(cheap)
    assert len(undisturbed.points) > len(expected) > 60
    shutil.rmtree("runs")
    shutil.rmtree("models")

    if name == "no space":
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    fault = Fault(cheap, kind, fail)
    fault.only = chosen
    while True:
        failed, before, whole = len(fault.failed), files(cheap), on_record(cheap)
        with watching(fault):
            result = run()
        if len(fault.failed) == failed:
            break
        line = error_of(result)
        assert message in line
        # The error names the file, whatever the writer said.
        assert "runs/" in line or "models/" in line or kind == "append"
        after = files(cheap)
        assert {path: after[path] for path in whole} == {path: before[path] for path in whole}
        assert [path for path in after if ".partial" in path.name] == []
        assert locks.holder(cheap / "runs" / "tiny") is None
    assert result.exit_code == 0, result.stderr
    # A temporary file without a name gets a random one if the system refused it before.
    named = {point for point in fault.failed if point[1].name.startswith("tmp")}
    assert fault.failed - named == {p for p in undisturbed.points if chosen(p[1])}
    assert contents(cheap) == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sync", "rename", "no space"])
def test_a_report_that_can_not_be_written_leaves_the_one_before(cheap, monkeypatch, name):
    kind, fail, message = FAULTS[name]
    assert run("report").exit_code == 0
    expected = contents(cheap)
    # Edited by hand, so the report has to be made again.
    (cheap / "runs" / "tiny" / "tables" / "claims.csv").write_text("mine")
    before = files(cheap)
    if name == "no space":
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    fault = Fault(cheap, kind, fail)
    chosen = (".svg", ".png", ".md", ".html", ".csv")
    for suffix in chosen:  # the first file of each kind
        fault.only = lambda path, suffix=suffix: path.suffix == suffix and "report" in path.parts
        with watching(fault):
            result = run("report")
        assert message in error_of(result)
        after = files(cheap)
        shown = [path for path in expected if path.name != "claims.csv"]
        assert {path: after[path] for path in shown} == {path: before[path] for path in shown}
        assert [path for path in after if ".partial" in path.name] == []
    assert len(fault.failed) == len(chosen)
    assert run("report").exit_code == 0
    assert contents(cheap).keys() == expected.keys()
    for path, content in contents(cheap).items():
        if path.suffix in (".csv", ".png"):  # the others hold seconds
            assert content == expected[path], path


def test_photos_that_vanish_during_a_run_are_one_line(cheap, monkeypatch):
    read = photos.decode_all

    def vanish(*settings):
        shutil.move("people", "away")
        return read(*settings)

    with monkeypatch.context() as patch:
        patch.setattr(photos, "decode_all", vanish)
        result = run()
    assert result.exit_code in (1, 2), result.exception
    (line,) = (line for line in result.stderr.splitlines() if line.startswith("Error: "))
    assert "people/" in line
    whole = on_record(cheap)
    before = files(cheap)
    assert "'people' is no folder" in run().stderr
    shutil.move("away", "people")
    assert run().exit_code == 0
    assert {path: files(cheap)[path] for path in whole} == {path: before[path] for path in whole}


def test_a_runs_folder_that_vanishes_during_the_run_is_one_line(cheap, monkeypatch):
    def vanish(*given):
        shutil.rmtree("runs")
        return cheap_signs(*given)

    with monkeypatch.context() as patch:
        patch.setattr(FGSM, "signs", vanish)
        result = run()
    assert "Received: No such file or directory" in error_of(result)
    assert run().exit_code == 0


@pytest.mark.slow
def test_a_runs_folder_given_with_dots_in_its_path_keeps_its_report(cheap):
    arguments = ["report", "study.toml", "--runs", "people/../runs"]
    assert CliRunner().invoke(cli.main, arguments).exit_code == 0
    assert (cheap / "runs" / "tiny" / "report.md").is_file()
    assert "nothing to do" in CliRunner().invoke(cli.main, arguments).output


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_folder_that_may_not_be_written_to_is_one_line(cheap):
    assert run("data").exit_code == 0
    before = files(cheap)
    place = cheap / "runs" / "tiny" / "plain"
    place.chmod(0o500)
    assert "Received: Permission denied" in error_of(run())
    place.chmod(0o700)
    assert {path: files(cheap)[path] for path in before if path.name != "manifest.json"} == {
        path: content for path, content in before.items() if path.name != "manifest.json"
    }
    assert run().exit_code == 0
