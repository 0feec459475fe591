"""Ctrl-C and SIGTERM end the work within seconds, with one line on how to continue."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import pytest
from conftest import NOTICE, write_photo

from gradcam_adv.app import interrupts
from gradcam_adv.runs import locks

STUDY = """
name = "tiny"
photos = "people"
image_size = 48
networks = ["resnet50"]
weights = "random"
epochs = {epochs}
epsilons = [0.1]
arms = ["plain"]
layers = {{resnet50 = ["conv5_block3_out"]}}
"""
LOST = "nothing that is done is lost. To continue"
STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143}


@pytest.fixture(autouse=True)
def not_ignored():
    """A background job ignores Ctrl-C, and so do its children: not in these tests."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def folder(tmp_path) -> Path:
    for person, name in enumerate(("ann", "bob", "cem")):
        for number in range(40):
            write_photo(tmp_path / "people" / name / f"{number}.png", 100 * person + number)
    return tmp_path


@pytest.fixture
def begin(folder):
    """Starts the command; none outlives the test."""
    begun = []

    def begin_one(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [str(Path(sys.executable).parent / "gradcam-adv"), *arguments],
            cwd=folder,
            env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        begun.append(process)
        return process

    yield begin_one
    for process in begun:
        process.kill()
        process.communicate()


def wait_for(process: subprocess.Popen[str], folder: Path, pattern: str, since: float = 0) -> None:
    """Wait until there is such a file, written after ``since``."""
    while not any(path.stat().st_mtime >= since for path in folder.glob(pattern)):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def said_at_the_end(process: subprocess.Popen[str], lost: str = LOST) -> str:
    """The command in the one line on stderr."""
    _, errors = process.communicate()
    lines = [line for line in errors.splitlines() if line and not NOTICE.match(line)]
    assert len(lines) == 1, errors
    return re.fullmatch(rf"Stopped; {re.escape(lost)}: (gradcam-adv .+)", lines[0])[1]


TRAINING = "my runs/tiny/plain/train/*/*/journal.jsonl"
# The file that shows the moment, and how many seconds later it is: TensorFlow is loading or photos
# are read; features are computed; the head is trained.
MOMENTS = {
    "start-up": ("my runs/tiny/manifest.json", 0.3),
    "features": ("my runs/tiny/plain/features/*/*/journal.jsonl", 1.0),
    "training": (TRAINING, 1.0),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("moment", "number"),
    [*((moment, signal.SIGINT) for moment in MOMENTS), ("training", signal.SIGTERM)],
)
def test_a_signal_ends_the_work_within_three_seconds(folder, begin, number, moment):
    (folder / "study.toml").write_text(STUDY.format(epochs=100_000))
    shown_by, later = MOMENTS[moment]
    arguments = ["train", "study.toml", "--runs", "my runs"]
    process = begin(*arguments)
    wait_for(process, folder, shown_by)
    time.sleep(later)
    sent = time.perf_counter()
    process.send_signal(number)
    assert process.wait(30) == STATUS[number]
    seconds = time.perf_counter() - sent
    continues = said_at_the_end(process)
    assert shlex.split(continues) == ["gradcam-adv", *arguments]
    assert locks.holder(folder / "my runs" / "tiny") is None

    # It continues where it was: photos that were chosen are not chosen again.
    chosen = list(folder.glob("my runs/tiny/plain/data/*/manifest.json"))
    before = [path.stat().st_mtime_ns for path in chosen]
    began = time.time()
    again = begin(*shlex.split(continues)[1:])
    wait_for(again, folder, TRAINING, since=began)
    assert [path.stat().st_mtime_ns for path in chosen] == before
    again.send_signal(number)
    assert again.wait(30) == STATUS[number]
    assert said_at_the_end(again) == continues
    assert seconds < 3


@pytest.mark.slow
def test_a_signal_ends_the_explanation_of_a_user_s_model(folder, begin):
    inputs = keras.Input((224, 224, 3))
    x = inputs
    for number in range(12):
        x = keras.layers.Conv2D(64, 3, padding="same", activation="relu", name=f"c{number}")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    keras.Model(inputs, keras.layers.Dense(3)(x)).save(folder / "own.keras")
    arguments = ["--model", "own.keras", "--images", "people", "--layers", "all", "--output", "out"]
    arguments += ["--pixels", "0..1"]
    process = begin("explain", *arguments)
    wait_for(process, folder, "out/heatmaps/*/*.npz")
    sent = time.perf_counter()
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert time.perf_counter() - sent < 3
    again = said_at_the_end(process, "all files are complete. To start again")
    assert shlex.split(again) == ["gradcam-adv", "explain", *arguments]


# Work that Python cannot interrupt by itself, and work that takes long to end.
WORK = """
import hashlib, sys, time
from gradcam_adv.app import interrupts
interrupts.GRACE_SECONDS = {grace}
with interrupts.ending_with("To continue: gradcam-adv x"):
    try:
        print("at work", flush=True)  # in here, so that every signal reaches the finally
        {work}
    finally:
        {ending}
"""


def begin_work(work: str, ending: str = "pass", grace: float = 0.5) -> subprocess.Popen[str]:
    script = WORK.format(work=work, ending=ending, grace=grace)
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "at work\n"
    return process


def end_of(process: subprocess.Popen[str]) -> tuple[int, str, float]:
    """Exit status, what was said on stderr, and the seconds it took."""
    began = time.perf_counter()
    try:
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    return process.returncode, errors, time.perf_counter() - began


@pytest.mark.parametrize("number", STATUS)
def test_work_that_python_cannot_interrupt_is_ended(number):
    """Like a batch on a large network, this is one step of the interpreter that takes minutes."""
    process = begin_work(
        "hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)", grace=interrupts.GRACE_SECONDS
    )
    time.sleep(0.2)
    process.send_signal(number)
    status, said, seconds = end_of(process)
    assert (status, said) == (STATUS[number], "\nTo continue: gradcam-adv x\n")
    assert seconds < 3


@pytest.mark.parametrize("number", STATUS)
def test_in_tensorflow_nothing_is_raised(number):
    """While TensorFlow traces a graph its C++ calls Python, and crashes if that raises."""
    loop = "while True: int()"
    traced = f"try:\n  {loop}\nexcept BaseException:\n  print('raised', flush=True)\n  {loop}"
    module = {"__name__": "tensorflow.python.framework.ops"}
    process = begin_work(f"exec({traced!r}, {module!r})", grace=20)
    time.sleep(0.2)
    process.send_signal(number)
    began = time.perf_counter()
    assert process.communicate(timeout=30) == ("", "\nTo continue: gradcam-adv x\n")
    assert process.returncode == STATUS[number]
    assert time.perf_counter() - began < 3


def test_an_error_that_c_code_makes_of_the_signal_is_not_shown():
    work = "\n        ".join(
        [
            "try: time.sleep(60)",
            "except BaseException: raise SystemError('a function returned with an exception set')",
        ]
    )
    process = begin_work(work, grace=20)
    process.send_signal(signal.SIGTERM)
    status, said, seconds = end_of(process)
    assert (status, said) == (143, "\nTo continue: gradcam-adv x\n")
    assert seconds < 3


def test_a_clean_up_that_takes_too_long_is_ended():
    process = begin_work("time.sleep(60)", ending="time.sleep(60)")
    process.send_signal(signal.SIGINT)
    status, said, seconds = end_of(process)
    assert (status, said) == (130, "\nTo continue: gradcam-adv x\n")
    assert seconds < 10


def test_a_second_ctrl_c_during_the_clean_up_changes_nothing():
    process = begin_work(
        "time.sleep(60)", ending="time.sleep(0.6); print('tidied', flush=True)", grace=20
    )
    for _ in range(5):
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)
    assert process.stdout.readline() == "tidied\n"
    status, said, _ = end_of(process)
    assert (status, said) == (130, "\nTo continue: gradcam-adv x\n")


def test_a_signal_that_was_ignored_from_the_start_stays_ignored():
    """Shells start background jobs so, since Ctrl-C is for the job in the foreground."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    process = begin_work("time.sleep(0.6); print('done', flush=True)", grace=0.1)
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "done\n"
    assert end_of(process)[:2] == (0, "")


def test_work_that_ends_by_itself_leaves_signals_as_they_were():
    both = "[signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]"
    script = (
        f"import signal\nbefore = {both}\n"
        + WORK.format(work="pass", ending="pass", grace=0.5)
        + f"assert {both} == before\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
