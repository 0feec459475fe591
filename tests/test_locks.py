"""One process at a time works in a run; a dead one blocks nobody."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import command, command_here, write_photo

from gradcam_adv.runs import locks

HOLD = """
import sys, time
from pathlib import Path
from gradcam_adv.runs import locks
with locks.alone_in(Path(sys.argv[1])):
    print("inside", flush=True)
    time.sleep(120)
"""


@contextlib.contextmanager
def held(folder: Path):
    """Another process works in ``folder``; yields it."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, folder], stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline() == b"inside\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_second_process_is_refused_and_told_the_id_of_the_first(tmp_path):
    with held(tmp_path) as process:
        refusal = f"no other gradcam-adv at work in {tmp_path}. Received: process {process.pid} on "
        with pytest.raises(locks.Held, match=refusal), locks.alone_in(tmp_path):
            pytest.fail("two are inside")
        assert f"process {process.pid} on " in locks.holder(tmp_path)
        # The first one still holds the folder after that.
        with pytest.raises(locks.Held), locks.alone_in(tmp_path):
            pytest.fail("two are inside")
    assert locks.holder(tmp_path) is None


def test_the_lock_of_a_killed_process_does_not_block(tmp_path):
    with held(tmp_path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert (tmp_path / locks.LOCK).exists()
        assert locks.holder(tmp_path) is None
        with locks.alone_in(tmp_path):
            assert f"process {os.getpid()} on " in locks.holder(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_is_a_link_is_not_followed(tmp_path):
    mine = tmp_path / "mine.txt"
    mine.write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / locks.LOCK).symlink_to(mine)
    with pytest.raises(OSError, match="symbolic links"), locks.alone_in(tmp_path / "run"):
        pytest.fail("it was followed")
    assert mine.read_text() == "mine"
    assert locks.holder(tmp_path / "run") is None


def test_a_folder_made_for_the_lock_is_removed_if_it_stays_empty(tmp_path):
    with pytest.raises(RuntimeError), locks.alone_in(tmp_path / "new"):
        raise RuntimeError
    assert not (tmp_path / "new").exists()
    with locks.alone_in(tmp_path / "new"):
        (tmp_path / "new" / "result").write_text("")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["result"]


@pytest.mark.parametrize("at", ["mkdir", "open"])
def test_a_folder_removed_just_now_is_made_again(tmp_path, monkeypatch, at):
    """By another process, which had made it; between any two of our steps."""
    folder = tmp_path / "run"
    folder.mkdir()
    real, removed = getattr(os, at), []

    def after_its_removal(path, *rest, **more):
        if Path(path).is_relative_to(folder) and not removed:
            removed.append(folder.rmdir())
        return real(path, *rest, **more)

    monkeypatch.setattr(os, at, after_its_removal)
    with locks.alone_in(folder):
        assert f"process {os.getpid()} on " in locks.holder(folder)
    assert len(removed) == 1


def test_a_folder_that_can_not_be_made_is_an_error_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("file", "link"):
        with pytest.raises(FileExistsError, match=name), locks.alone_in(tmp_path / name):
            pytest.fail("it is no folder")
    with pytest.raises(FileExistsError, match="link"), locks.alone_in(tmp_path / "link" / "run"):
        pytest.fail("it is no folder")


def test_a_folder_on_a_full_disk_can_be_locked(tmp_path, monkeypatch):
    """``clean`` makes room, and locks, too."""

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with locks.alone_in(tmp_path):
        assert locks.holder(tmp_path) == "another process"


RACE = """
import os, sys, time
from pathlib import Path
from gradcam_adv.runs import locks
folder, inside = Path(sys.argv[1]), Path(sys.argv[2])
entered = refused = 0
while time.time() < float(sys.argv[3]):
    try:
        with locks.alone_in(folder):
            os.close(os.open(inside, os.O_CREAT | os.O_EXCL))  # two at once fail here
            entered += 1
            os.unlink(inside)
    except locks.Held as held:
        refused += 1
print(entered, refused)
"""


@pytest.mark.parametrize("kept", [True, False], ids=["existing folder", "new folder"])
def test_of_many_processes_that_start_together_one_at_a_time_is_inside(tmp_path, kept):
    folder = tmp_path / "run"
    if kept:
        folder.mkdir()
    arguments = [folder, tmp_path / "inside", str(time.time() + 4)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(6)
    ]
    said = [process.communicate() for process in processes]
    assert [error.decode() for _, error in said] == 6 * [""]
    counts = [tuple(map(int, text.split())) for text, _ in said]
    assert sum(entered for entered, _ in counts) > 100
    assert sum(refused for _, refused in counts) > 0


STUDY = """
name = "tiny"
photos = "people"
image_size = 48
networks = ["vgg16"]
source = "vgg16"
weights = "random"
arms = ["plain"]
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("locks")
    (folder / "study.toml").write_text(STUDY)
    for person, name in enumerate(("ann", "bob")):
        for number in range(4):
            write_photo(folder / "people" / name / f"{number}.png", 100 * person + number)
    assert command_here(folder, "data", "study.toml").returncode == 0
    return folder


def refusal(result, pid: int) -> str:
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: Expected no other gradcam-adv at work in ")
    assert f"Received: process {pid} on " in line
    return line


def test_commands_on_a_run_that_another_process_works_on(study):
    before = sorted(study.rglob("*"))
    with held(study / "runs" / "tiny") as process:
        assert "runs/tiny" in refusal(command(study, "train", "study.toml"), process.pid)
        assert "runs/tiny" in refusal(command_here(study, "clean", "study.toml"), process.pid)
        status = command_here(study, "status", "runs/tiny")
        assert status.returncode == 0, status.stderr
        assert f"at work: process {process.pid} on " in status.stdout
        assert "to continue this run" not in status.stdout
    (study / "runs" / "tiny" / locks.LOCK).unlink()
    assert sorted(study.rglob("*")) == before
    said = command_here(study, "status", "runs/tiny").stdout
    assert "at work" not in said
    assert "to continue this run: gradcam-adv reproduce study.toml" in said


def test_two_runs_with_one_folder_of_models_exclude_each_other(study):
    with held(study / "models" / "tiny") as process:
        result = command_here(study, "data", "study.toml", "--runs", "others")
        assert "models/tiny" in refusal(result, process.pid)
        assert not (study / "others" / "tiny").exists()
        other = command_here(
            study, "data", "study.toml", "--runs", "others", "--models", "elsewhere"
        )
        assert other.returncode == 0, other.stderr
