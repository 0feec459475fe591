"""Slices done by this process, or by workers of Ray: the same bytes, whatever befalls a worker."""

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
from conftest import command

from gradcam_adv import batching as batches
from gradcam_adv.data import sources
from gradcam_adv.files import artifacts
from gradcam_adv.runs import engines, records, warden
from gradcam_adv.study import config as study
from gradcam_adv.study import setting

PHOTOS = pd.DataFrame({"photo": list("abcdefgh")})
SMALL = 'name = "x"\nphotos = "orl"\nclasses = 3\narms = ["plain"]\n'
NAMES = ["0000000", "0000003", "0000006"]


@pytest.fixture(scope="session")
def ray_engine():
    """Ray's engine; where Ray is missing the test is skipped, or fails where it is due."""
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
    """Slices of three photos, each a file; by default what writes them begins a file, too."""

    def begin_writing():
        (folder / f"begun-{os.getpid()}").touch()
        return lambda name, rows: artifacts.write_table(folder / f"{name}.csv", rows)

    return engines.Sliced(
        "work, plain", PHOTOS, lambda name, _: [folder / f"{name}.csv"], begin or begin_writing, 3
    )


def begun(folder: Path) -> int:
    return len(list(folder.glob("begun-*")))


def test_slices_are_named_after_the_index_of_their_first_photo():
    (first, _), (name, rows) = setting.cut(PHOTOS.iloc[[1, 2, 5, 7]], 2)
    assert (first, name) == ("0000001", "0000005")
    assert rows.index.tolist() == [0, 1]
    assert rows["photo"].tolist() == ["f", "h"]


def test_the_local_engine_prepares_itself_once_and_only_for_what_is_missing(tmp_path):
    work = sliced(tmp_path)
    files = [tmp_path / f"{name}.csv" for name in NAMES]
    assert engines.LOCAL.run(work) == files
    assert begun(tmp_path) == 1
    kept = files[0].stat().st_mtime_ns
    files[1].unlink()
    engines.LOCAL.run(work)
    assert artifacts.read_table(files[1])["photo"].tolist() == ["d", "e", "f"]
    assert files[0].stat().st_mtime_ns == kept
    nothing = dataclasses.replace(work, begin=None)
    assert engines.LOCAL.run(nothing) == files


def test_an_address_is_for_ray():
    with pytest.raises(ValueError, match="Expected --engine ray with --address. Received: --eng"):
        engines.choose("local", "auto", 1)


def test_missing_ray_is_one_line_on_how_to_get_it(tmp_path):
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
        'Error: Expected Ray for --engine ray; pip install "gradcam-adv[ray]" brings it. '
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


def test_clean_and_doctor_know_no_engine(tmp_path):
    for name in ("clean", "doctor"):
        assert "No such option" in command(tmp_path, name, "--engine", "ray").stderr


def test_a_setting_goes_to_workers_without_its_tables(photo_folder):
    listing = sources.list_photos(str(photo_folder), classes=None, min_photos=3, seed=0)
    own = setting.Setting(study.parse({"name": "x"}), "plain", Path("m"), listing, {}, {}, {})
    own.__dict__["table"] = listing.files
    there = pickle.loads(pickle.dumps(own))
    assert there.study == own.study
    assert there.listing.root == listing.root
    assert len(there.listing.files) == 0
    assert "table" not in vars(there)
    assert len(own.listing.files) == 30


def test_an_error_of_a_worker_is_the_one_that_it_raised():
    raised = batches.NotFiniteError("logits", 3, "1 of 4 values")
    came = pickle.loads(pickle.dumps(raised))
    assert (type(came), str(came), came.item) == (type(raised), str(raised), 3)


def test_what_was_begun_ends_with_who_began_it():
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

    def read(rows):
        reading[rows["photo"][0]].set()
        return "".join(rows["photo"])

    def begin():
        def write(name, rows, given):
            following = {"a": "d", "d": "g"}.get(rows["photo"][0])
            assert following is None or reading[following].wait(5)
            assert following != "d" or not reading["g"].is_set()  # and no further ahead
            (tmp_path / f"{name}.csv").write_text(given)

        return write

    files = engines.LOCAL.run(dataclasses.replace(sliced(tmp_path, begin), read=read))
    assert [path.read_text() for path in files] == ["abc", "def", "gh"]
    reading["d"].clear()
    files[1].unlink()
    engines.LOCAL.run(dataclasses.replace(sliced(tmp_path, begin), read=read))
    assert reading["d"].is_set()


def test_what_reading_raises_is_raised_where_the_slice_is_due(tmp_path):
    def read(rows):
        if rows["photo"][0] == "d":
            raise FileNotFoundError(2, "No such file", "d.png")
        return None

    def begin():
        return lambda name, rows, _: (tmp_path / f"{name}.csv").write_text("whole")

    with pytest.raises(FileNotFoundError, match="No such file: 'd.png'"):
        engines.LOCAL.run(dataclasses.replace(sliced(tmp_path, begin), read=read))
    assert [path.stem for path in tmp_path.glob("*.csv")] == NAMES[:1]


def ends(pid: int, seconds: float = 10) -> bool:
    until = time.monotonic() + seconds
    while Path(f"/proc/{pid}/cmdline").exists() and time.monotonic() < until:
        time.sleep(0.05)
    return not Path(f"/proc/{pid}/cmdline").exists()


@pytest.mark.slow
def test_workers_write_what_this_process_does(workers, tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()

    def begin():
        (there / f"begun-{os.getpid()}").touch()

        def write(name, rows):
            while len(list(there.glob("begun-*"))) < 2:  # so that either has its share
                time.sleep(0.05)
            artifacts.write_table(there / f"{name}.csv", rows)

        return write

    assert [path.stem for path in engines.LOCAL.run(sliced(here))] == NAMES
    files = workers.run(sliced(there, begin))
    assert [path.stem for path in files] == NAMES
    for path in files:
        assert path.read_bytes() == (here / path.name).read_bytes()
    assert begun(there) == 2
    nothing = dataclasses.replace(sliced(there), begin=None)
    assert workers.run(nothing) == files


@pytest.mark.slow
def test_what_a_worker_raises_is_raised_here(workers, tmp_path):
    missing = tmp_path / "nothing"
    problems = [
        batches.NotFiniteError("logits of vgg16", "ann/1.png", "1 of 4 values"),
        FileNotFoundError(2, "No such file or directory", str(missing)),
        MemoryError("Expected enough memory. Received: little"),
    ]
    for problem in problems:

        def begin(problem=problem):
            def write(name, rows):
                raise problem

            return write

        raised = []
        for engine in (engines.LOCAL, workers):
            with pytest.raises(type(problem)) as caught:
                engine.run(sliced(tmp_path, begin))
            raised.append(caught.value)
        here, there = raised
        assert type(here) is type(there)
        assert str(here) == str(there)
        assert getattr(there, "filename", None) == getattr(here, "filename", None)


@pytest.mark.slow
def test_a_slice_that_ends_every_worker_is_named(workers, tmp_path):
    def begin():
        def write(name, rows):
            if name == NAMES[1]:
                os.kill(os.getpid(), signal.SIGKILL)
            artifacts.write_table(tmp_path / f"{name}.csv", rows)

        return write

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
def test_a_beginning_that_ends_every_worker_is_named(workers, tmp_path):
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
def test_a_worker_that_can_not_be_alike_says_so(ray_engine, changed, message):
    terms = ray_engine.Terms(1, Path.cwd(), {}, setting.versions())
    with pytest.raises(ValueError, match=message):
        ray_engine.Worker(dataclasses.replace(terms, **changed)).begin(None, None)


@pytest.mark.slow
@pytest.mark.parametrize("address", ["127.0.0.1:9", "ray://127.0.0.1:9", "nowhere", "a b:1"])
def test_no_cluster_at_an_address_is_said_within_seconds(ray_engine, tmp_path, address):
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


# The command in small slices, of which one ends its worker after it has written, but not told of,
# its files, and another has too little memory.
BEFALLEN = """
import os, signal, warnings
from pathlib import Path
from gradcam_adv import batching as batches
from gradcam_adv.app import cli
from gradcam_adv.study import setting
from gradcam_adv.study.stages import networks as stages
setting.SLICE = 3
begin = stages._begin_attack

def begin_befallen(*given):
    write = begin(*given)
    def befallen(name, rows, *read):
        write(name, rows, *read)
        if name == "0000003":
            warnings.warn("out of memory with batches of 8", batches.BatchHalved)
            if not Path("killed").exists():
                Path("killed").touch()
                os.kill(os.getpid(), signal.SIGKILL)
    return befallen

stages._begin_attack = begin_befallen
cli.main()
"""


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """A folder with a study and, aside, what the local engine made of it on one thread."""
    folder = torture.new_folder(tmp_path_factory.mktemp("study"), both_arms=True)
    text = (folder / "study.toml").read_text()
    (folder / "study.toml").write_text(text.replace("threads = 2", "threads = 1"))
    torture.undisturbed(folder)
    return folder


@pytest.fixture
def again(local):
    """The same folder, in which the study can be done anew."""
    yield local
    for name in ("runs", "models"):
        shutil.rmtree(local / name, ignore_errors=True)


def other_than_local(folder: Path) -> list[str]:
    """What differs from the local run, but for the command in the run's own manifest."""
    found = torture.differing(folder / "undisturbed", folder)
    first, second = (
        artifacts.read_json(place / "runs" / "tortured" / "manifest.json")
        for place in (folder / "undisturbed", folder)
    )
    assert first["given"].pop("command") != second["given"].pop("command")
    assert first == second
    return [line for line in found if line != "other content: runs/tortured/manifest.json"]


@pytest.mark.slow
def test_two_workers_one_of_them_killed_give_the_bytes_of_this_process(
    again, ray_engine, monkeypatch
):
    """All of them but the notes of what befell the workers, in the attacks' manifests."""
    monkeypatch.setattr(torture, "COMMAND", BEFALLEN)
    torture.check(again, torture.begin(again, "reproduce", "study.toml", "--engine", "ray"))
    assert (again / "killed").exists()
    attacks = list(again.glob("runs/tortured/*/attack/*/*/manifest.json"))
    different = {f"other content: {path.relative_to(again)}" for path in attacks}
    assert set(other_than_local(again)) == different
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
def test_ended_in_the_middle_it_leaves_no_process_and_the_local_engine_goes_on(
    again, ray_engine, number
):
    others = marked()
    process = torture.begin(again, "reproduce", "study.toml", "--engine", "ray")
    pattern = "runs/tortured/plain/evaluate/resnet50/*/*.csv"
    while not list(again.glob(pattern)):
        assert process.poll() is None
        time.sleep(0.02)
    of_ray = marked() - others - {process.pid}
    assert len(of_ray) > 4
    sent = time.monotonic()
    os.killpg(process.pid, number)  # as a terminal does with Ctrl-C
    assert process.wait(10) == (130 if number == signal.SIGINT else -number)
    assert time.monotonic() - sent < 3
    assert all(map(ends, of_ray))
    assert marked() <= others
    state = command(again, "status", "runs/tortured")
    assert state.returncode == 0, state.stderr
    if number == signal.SIGINT:  # which leaves no less than the other
        return
    torture.check(again, torture.begin(again, "reproduce", "study.toml"))
    assert torture.differing(again / "undisturbed", again) == []


def marked() -> set[int]:
    """The processes that a warden would end, of whatever mark."""
    found = set()
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"{warden.MARK}=".encode() in (place / "environ").read_bytes():
                found.add(int(place.name))
    return found
