"""Slices done by this process or by workers of Ray: the same bytes, also if a worker dies."""

import contextlib
import dataclasses
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import pandas as pd
import pytest
import torture
from conftest import command, command_here

from gradcam_adv import machine
from gradcam_adv.app import cli
from gradcam_adv.data import sources
from gradcam_adv.files import read, write
from gradcam_adv.models import weights
from gradcam_adv.runs import engines, records, warden
from gradcam_adv.study import config
from gradcam_adv.study.plan import make_plan
from gradcam_adv.validation import NotFiniteError

PHOTOS = pd.DataFrame({"photo": list("abcdefgh")})
SMALL = 'name = "x"\nphotos = "orl"\nclasses = 3\narms = ["plain"]\n'
NAMES = ["0000000", "0000003", "0000006"]


@pytest.fixture(scope="session")
def ray_engine():
    """Ray's engine; without Ray the test is skipped, or fails if Ray is required."""
    try:
        from gradcam_adv.runs import ray_engine
    except ModuleNotFoundError:
        reason = "no Ray, so nothing is computed on its workers"
        if os.environ.get("GRADCAM_ADV_NEEDS_RAY") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return ray_engine


@pytest.fixture(scope="module")
def workers(ray_engine):
    """Two workers of a local Ray."""
    with contextlib.closing(ray_engine.Ray(1)) as engine:
        yield engine


def sliced(folder: Path, begin=None) -> engines.Sliced:
    """Slices of three photos, one file per slice; the default ``begin`` leaves a file, too."""

    def begin_writing():
        (folder / f"begun-{os.getpid()}").touch()
        return lambda name, rows: write.table(folder / f"{name}.csv", rows)

    return engines.Sliced(
        "work, plain", PHOTOS, lambda name, _: [folder / f"{name}.csv"], begin or begin_writing, 3
    )


def begun(folder: Path) -> int:
    return len(list(folder.glob("begun-*")))


def test_slices_are_named_after_the_index_of_their_first_row():
    (first, _), (name, rows) = engines.cut(PHOTOS.iloc[[1, 2, 5, 7]], 2)
    assert (first, name) == ("0000001", "0000005")
    assert rows.index.tolist() == [0, 1]
    assert rows["photo"].tolist() == ["f", "h"]


def test_the_usual_length_of_slices_is_read_when_they_are_cut(tmp_path, monkeypatch):
    work = dataclasses.replace(sliced(tmp_path), length=None)
    assert work.files_due() == 1
    monkeypatch.setattr(engines, "SLICE", 5)
    assert [part.name for part in work.slices()] == ["0000000", "0000005"]
    assert work.files_due() == 2


def test_the_local_engine_begins_once_and_only_if_a_file_is_missing(tmp_path):
    work = sliced(tmp_path)
    files = [tmp_path / f"{name}.csv" for name in NAMES]
    assert engines.Local().run(work) == files
    assert begun(tmp_path) == 1
    kept = files[0].stat().st_mtime_ns
    files[1].unlink()
    engines.Local().run(work)
    assert read.table(files[1])["photo"].tolist() == ["d", "e", "f"]
    assert files[0].stat().st_mtime_ns == kept
    nothing = dataclasses.replace(work, begin=None)
    assert engines.Local().run(nothing) == files


def test_an_address_needs_ray():
    with pytest.raises(ValueError, match="Expected --engine ray with --address. Received: --eng"):
        cli._engine("local", "auto", 1)


def test_missing_ray_is_one_line_that_says_how_to_install_it(tmp_path):
    script = (
        "import sys; sys.modules['ray'] = None; from gradcam_adv.app import cli; "
        "cli.main(['data', 'study.toml', '--engine', 'ray'])"
    )
    (tmp_path / "study.toml").touch()
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert result.stderr == (
        'Error: Expected Ray for --engine ray; pip install "gradcam-adv[ray]" installs it. '
        "Received: no module named ray\n"
    )


def test_the_local_engine_imports_no_ray(tmp_path):
    (tmp_path / "study.toml").write_text(SMALL)
    script = (
        "import sys; from gradcam_adv.app import cli\n"
        "try: cli.main(['data', 'study.toml'])\n"
        "except SystemExit as stop: assert not stop.code\n"
        "assert 'ray' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)


def test_clean_and_doctor_take_no_engine(tmp_path):
    for name in ("clean", "doctor"):
        assert "No such option" in command_here(tmp_path, name, "--engine", "ray").stderr


def test_tasks_go_to_workers_without_tables(photo_folder):
    study = config.parse({"name": "x", "networks": ["vgg16"], "source": "vgg16", "batch_size": 8})
    listing = sources.list_photos(str(photo_folder), classes=None, min_photos=3, seed=0)
    bases = weights.resolve("random", ["vgg16"])
    run, models = photo_folder / "run", photo_folder / "models"
    task = make_plan(study, listing, bases, run=run, models=models).arms["plain"].evaluate["vgg16"]
    write.table(task.photos.data.folder / "photos.csv", listing.files.assign(split="test"))
    assert (len(task.photos.test), len(task.photos.identities)) == (30, 3)
    there = pickle.loads(pickle.dumps(task))
    assert (there.name, there.folder, there.seed) == (task.name, task.folder, task.seed)
    assert there.photos.root == listing.root
    assert {"table", "test", "identities"}.isdisjoint(vars(there.photos))
    assert not hasattr(there.photos.data, "listing")
    assert len(there.photos.test) == 30


def test_an_error_for_a_photo_can_be_pickled():
    raised = NotFiniteError("logits", 3, "1 of 4 values")
    came = pickle.loads(pickle.dumps(raised))
    assert (type(came), str(came), came.item) == (type(raised), str(raised), 3)


def test_processes_end_with_the_process_that_started_them():
    if not Path("/proc").is_dir():
        pytest.skip("no /proc, in which processes are found")
    script = (
        "import subprocess, sys, time; from gradcam_adv.runs import warden\n"
        "with warden.ending_all():\n"
        "    child = subprocess.Popen(['sleep', '100'], start_new_session=True)\n"
        "    print(child.pid, flush=True); time.sleep(100)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    child = int(process.stdout.readline())
    process.kill()
    process.communicate()
    assert ends(child)
    with warden.ending_all():
        child = subprocess.Popen(["sleep", "100"], start_new_session=True)
    assert child.wait(10) == -signal.SIGKILL


def test_a_slice_is_read_while_the_one_before_is_written(tmp_path):
    reading = {name: threading.Event() for name in "adg"}  # their first photos

    def read_rows(rows):
        reading[rows["photo"][0]].set()
        return "".join(rows["photo"])

    def begin():
        def write_slice(name, rows, given):
            following = {"a": "d", "d": "g"}.get(rows["photo"][0])
            assert following is None or reading[following].wait(5)
            assert following != "d" or not reading["g"].is_set()  # one slice ahead, not two
            (tmp_path / f"{name}.csv").write_text(given)

        return write_slice

    files = engines.Local().run(dataclasses.replace(sliced(tmp_path, begin), read=read_rows))
    assert [path.read_text() for path in files] == ["abc", "def", "gh"]
    reading["d"].clear()
    files[1].unlink()
    engines.Local().run(dataclasses.replace(sliced(tmp_path, begin), read=read_rows))
    assert reading["d"].is_set()


def test_an_error_of_reading_is_raised_when_its_slice_is_to_be_written(tmp_path):
    def read_rows(rows):
        if rows["photo"][0] == "d":
            raise FileNotFoundError(2, "No such file", "d.png")
        return None

    def begin():
        return lambda name, rows, _: (tmp_path / f"{name}.csv").write_text("whole")

    with pytest.raises(FileNotFoundError, match="No such file: 'd.png'"):
        engines.Local().run(dataclasses.replace(sliced(tmp_path, begin), read=read_rows))
    assert [path.stem for path in tmp_path.glob("*.csv")] == NAMES[:1]


def ends(pid: int, seconds: float = 10) -> bool:
    until = time.monotonic() + seconds
    while Path(f"/proc/{pid}/cmdline").exists() and time.monotonic() < until:
        time.sleep(0.05)
    return not Path(f"/proc/{pid}/cmdline").exists()


@pytest.mark.slow
def test_workers_write_the_same_files_as_this_process(workers, tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()

    def begin():
        (there / f"begun-{os.getpid()}").touch()

        def write_slice(name, rows):
            while len(list(there.glob("begun-*"))) < 2:  # so that each gets a slice
                time.sleep(0.05)
            write.table(there / f"{name}.csv", rows)

        return write_slice

    assert [path.stem for path in engines.Local().run(sliced(here))] == NAMES
    files = workers.run(sliced(there, begin))
    assert [path.stem for path in files] == NAMES
    for path in files:
        assert path.read_bytes() == (here / path.name).read_bytes()
    assert begun(there) == 2
    nothing = dataclasses.replace(sliced(there), begin=None)
    assert workers.run(nothing) == files


@pytest.mark.slow
def test_an_error_of_a_worker_is_raised_here(workers, tmp_path):
    missing = tmp_path / "nothing"
    problems = [
        NotFiniteError("logits of vgg16", "ann/1.png", "1 of 4 values"),
        FileNotFoundError(2, "No such file or directory", str(missing)),
        MemoryError("Expected enough memory. Received: little"),
    ]
    for problem in problems:

        def begin(problem=problem):
            def write_slice(name, rows):
                raise problem

            return write_slice

        raised = []
        for engine in (engines.Local(), workers):
            with pytest.raises(type(problem)) as caught:
                engine.run(sliced(tmp_path, begin))
            raised.append(caught.value)
        here, there = raised
        assert type(here) is type(there)
        assert str(here) == str(there)
        assert getattr(there, "filename", None) == getattr(here, "filename", None)


@pytest.mark.slow
def test_a_slice_in_which_every_worker_dies_is_named(workers, tmp_path):
    def begin():
        def write_slice(name, rows):
            if name == NAMES[1]:
                os.kill(os.getpid(), signal.SIGKILL)
            write.table(tmp_path / f"{name}.csv", rows)

        return write_slice

    message = "through slice 0000003 of 'work, plain'. Received: 3 of them died in it"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(ChildProcessError, match=message):
            workers.run(sliced(tmp_path, begin))
    lost = [str(w.message) for w in caught if w.category is engines.WorkerLost]
    assert (
        lost
        == ["a worker died in slice 0000003 of 'work, plain', which is done again by a new one"] * 2
    )
    assert (tmp_path / f"{NAMES[0]}.csv").exists()


@pytest.mark.slow
def test_a_beginning_in_which_every_worker_dies_is_named(workers, tmp_path):
    def begin():
        os.kill(os.getpid(), signal.SIGKILL)

    with (
        pytest.warns(engines.WorkerLost, match="in the beginning of 'work, plain'"),
        pytest.raises(ChildProcessError, match="the beginning of 'work, plain'. Received: 3"),
    ):
        workers.run(sliced(tmp_path, begin))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"folder": Path("/no/such")}, "Expected the folder /no/such, .*: No such file or dir"),
        ({"versions": {}}, "Expected .* None, as here, on every machine .*Received: .* on "),
    ],
)
def test_a_worker_on_a_different_machine_is_refused(ray_engine, changed, message):
    terms = ray_engine.Terms(1, Path.cwd(), {}, machine.versions())
    with pytest.raises(ValueError, match=message):
        ray_engine.Worker(dataclasses.replace(terms, **changed)).begin(None, None)


@pytest.mark.slow
@pytest.mark.parametrize("address", ["127.0.0.1:9", "ray://127.0.0.1:9", "nowhere", "a b:1"])
def test_an_address_without_a_cluster_is_refused_within_seconds(ray_engine, tmp_path, address):
    began = time.monotonic()
    message = f"Expected a Ray cluster at --address, .* Received: {address}: "
    with pytest.raises(ConnectionError, match=message):
        ray_engine.Ray(1, address).run(sliced(tmp_path))
    assert time.monotonic() - began < 10


@pytest.mark.slow
def test_a_cluster_of_two_machines_is_joined(ray_engine, tmp_path):
    from ray.cluster_utils import Cluster

    (tmp_path / "study.toml").write_text(SMALL + "threads = 1\n")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        cluster.add_node(num_cpus=1)
        address = ("--engine", "ray", "--address", cluster.address)
        result = command(tmp_path, "data", "study.toml", *address)
        assert result.returncode == 0, result.stderr
        said = f"Ray on {cluster.address}: workers 2, threads of each 1\n"
        assert said in result.stdout
    finally:
        cluster.shutdown()


# The command in small slices. One kills its worker after its files are written, but before this is
# recorded; each of these slices also warns of too little memory.
DISTURBED = """
import dataclasses, os, signal, warnings
from pathlib import Path
from gradcam_adv.app import cli
from gradcam_adv.batching import BatchHalved
from gradcam_adv.runs import engines
from gradcam_adv.study.stages.attack import Attack
engines.SLICE = 3
sliced = Attack.sliced

def sliced_disturbed(task):
    begin = sliced(task).begin
    def begin_disturbed():
        write = begin()
        def disturbed(name, rows, *read):
            write(name, rows, *read)
            if name == "0000003":
                warnings.warn("out of memory with batches of 8", BatchHalved)
                if not Path("killed").exists():
                    Path("killed").touch()
                    os.kill(os.getpid(), signal.SIGKILL)
        return disturbed
    return dataclasses.replace(sliced(task), begin=begin_disturbed)

Attack.sliced = sliced_disturbed
cli.main()
"""


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """A folder with a study, and in it the results of the local engine on one thread."""
    folder = torture.new_folder(tmp_path_factory.mktemp("study"), ["vgg16"], ["plain"])
    text = (folder / "study.toml").read_text()
    (folder / "study.toml").write_text(text.replace("threads = 2", "threads = 1"))
    torture.undisturbed(folder)
    return folder


@pytest.fixture
def again(local):
    """The same folder, in which the study can be done again."""
    yield local
    for name in ("runs", "models"):
        shutil.rmtree(local / name, ignore_errors=True)


def other_than_local(folder: Path) -> list[str]:
    """What differs from the local run."""
    return torture.differing(folder / "undisturbed", folder)


@pytest.mark.slow
def test_two_workers_of_which_one_is_killed_write_the_same_bytes_as_this_process(
    again, ray_engine, monkeypatch
):
    """Except the notes about it, in the attacks' manifests, and the engine's name, in the run's."""
    monkeypatch.setattr(torture, "COMMAND", DISTURBED)
    torture.check(again, torture.begin(again, "reproduce", "study.toml", "--engine", "ray"))
    assert (again / "killed").exists()
    attacks = list(again.glob("runs/tortured/*/attack/*/*/manifest.json"))
    different = {f"other content: {path.relative_to(again)}" for path in attacks}
    assert set(other_than_local(again)) == {
        "other content: runs/tortured/manifest.json",
        *different,
    }
    notes = sorted(note for path in attacks for note in records.manifest(path.parent).notes)
    died = [note for note in notes if "died" in note]
    assert len(died) == 1
    assert "a worker died in slice 0000003 of 'attack " in died[0]
    assert notes == [*died, *["out of memory with batches of 8"] * len(attacks)]
    said = (again / "log.txt").read_text()
    assert "workers 2, threads of each 1" in said
    assert f"warning: {died[0]}" in said
    assert "warning: out of memory with batches of 8" in said


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_run_leaves_no_process_and_the_local_engine_continues_it(
    again, ray_engine, number
):
    others = marked()
    process = torture.begin(again, "reproduce", "study.toml", "--engine", "ray")
    pattern = "runs/tortured/plain/evaluate/vgg16/*/*.csv"
    while not list(again.glob(pattern)):
        assert process.poll() is None
        time.sleep(0.02)
    of_ray = marked() - others - {process.pid}
    assert len(of_ray) > 4
    os.killpg(process.pid, number)  # as a terminal does with Ctrl-C
    assert process.wait(60) == (130 if number == signal.SIGINT else -number)
    assert all(map(ends, of_ray))
    assert marked() <= others
    state = command(again, "status", "runs/tortured")
    assert state.returncode == 0, state.stderr
    if number == signal.SIGINT:  # SIGKILL leaves no more behind
        return
    torture.check(again, torture.begin(again, "reproduce", "study.toml"))
    assert torture.differing(again / "undisturbed", again) == []


def marked() -> set[int]:
    """The processes that any warden would end."""
    found = set()
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"{warden.MARK}=".encode() in (place / "environ").read_bytes():
                found.add(int(place.name))
    return found
