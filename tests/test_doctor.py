"""``gradcam-adv doctor`` says what it finds line by line, whatever is broken."""

import hashlib
import json
import math
import shutil
import sys
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import h5py
import pytest
from click.testing import CliRunner

from gradcam_adv import machine
from gradcam_adv.app import cli, doctor
from gradcam_adv.models import backbones, weights
from gradcam_adv.plots import fonts

STUDY = """
name = "small"
photos = "people"
image_size = 96
networks = ["vgg16", "xception"]
source = "vgg16"
arms = ["plain"]
seeds = [0, 1]
"""
LARGE = (64e9, 32e9)


@pytest.fixture
def place(photo_folder, tmp_path, monkeypatch):
    """A folder with a study and its photos, on a machine that lacks only the weights."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    for name in ("KERAS_BACKEND", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(doctor, "_gpus", list)
    monkeypatch.setattr(doctor, "_nvidia_seems_there", lambda: False)
    monkeypatch.setattr(machine, "memory", lambda: LARGE)
    monkeypatch.setattr(machine, "processor_quota", lambda: math.inf)
    monkeypatch.setattr(weights, "_unreachable", lambda url: "the server is off")
    (tmp_path / "study.toml").write_text(STUDY)
    return tmp_path


def examine(*options, status=0):
    """The lines that the command prints, without indentation."""
    result = CliRunner().invoke(cli.main, ["doctor", "study.toml", *options])
    assert result.exit_code == status, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return [" ".join(line.split()) for line in result.output.splitlines()]


def starting(start, lines):
    return [line for line in lines if line.startswith(start)]


def snapshot(folder):
    return sorted(folder.rglob("*"))


# --- Weights ---


def cache(folder, monkeypatch, *networks):
    """Put a file into Keras' cache for each network, and its checksum into the catalogue."""
    (folder / "keras" / "models").mkdir(parents=True)
    for network in networks:
        entry = backbones.BACKBONES[network]
        (folder / "keras" / "models" / entry.weights_url.rsplit("/", 1)[1]).write_bytes(b"whole")
        entry = replace(entry, weights_md5=hashlib.md5(b"whole").hexdigest())
        monkeypatch.setitem(backbones.BACKBONES, network, entry)


def test_a_study_that_can_run(place, monkeypatch):
    cache(place, monkeypatch, "vgg16", "xception")
    before = snapshot(place)
    lines = examine("--weights", "imagenet")
    assert "photos photos in people: 30 photos of 3 people in people" in lines
    assert "vgg16 available (Keras' cache)" in lines
    assert "xception available (Keras' cache)" in lines
    assert "gradcam-adv reproduce study.toml --weights imagenet can run." in lines
    assert "TensorFlow sees no GPU: networks run on the processor" in lines
    assert "memory 64.0 GB, 32.0 GB of it available" in lines
    assert not starting(("warning:", "problem:"), lines)
    assert snapshot(place) == before


def test_the_surroundings_are_looked_at(place, monkeypatch):
    lines = examine()
    assert "Keras usual settings" in lines
    assert f"home {place / 'keras'} can be written" in lines
    assert "terminal utf-8" in lines
    (place / "keras").mkdir()
    (place / "keras" / "keras.json").write_text('{"floatx": "float16", "epsilon": 1e-07}')
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", "1")
    monkeypatch.setattr(
        fonts, "families_of", lambda letters: dict.fromkeys(letters, "") | {"中": None}
    )
    lines = examine()
    (said,) = starting("Keras floatx", lines)
    assert said == (
        f"Keras floatx = float16 in {place / 'keras' / 'keras.json'}, TF_USE_LEGACY_KERAS = 1; "
        "commands set these aside"
    )
    assert "fonts none for Chinese: pictures show codes" in lines
    monkeypatch.setenv("KERAS_HOME", "/proc/keras")
    (said,) = starting("home", examine())
    assert said.startswith("home /proc/keras can't be written: no weights are downloaded")


def test_windows_is_a_problem(place, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    (problem,) = starting("problem: system", examine(status=1))
    assert "Expected Linux or macOS for studies" in problem


def test_a_damaged_file_in_the_cache_is_not_available(place, monkeypatch):
    cache(place, monkeypatch, "vgg16")
    file = next((place / "keras" / "models").iterdir())
    file.write_bytes(b"half")
    assert "vgg16 not available: a random base" in examine()


def test_without_a_server_bases_are_random_and_it_says_what_that_means(place, monkeypatch):
    cache(place, monkeypatch, "vgg16")
    lines = examine()
    assert "vgg16 available (Keras' cache)" in lines
    assert "xception not available: a random base" in lines
    assert (
        "Heads will be trained on RANDOM bases for xception: their numbers say nothing about the "
        "paper's networks." in lines
    )
    assert (
        "ImageNet's weights for xception are missing or incomplete in Keras' cache "
        f"({place / 'keras' / 'models'}), and the server is off. "
        "Give a directory of weights files by --weights DIR." in lines
    )


def test_missing_imagenet_weights_are_one_problem_for_all_networks(place):
    lines = examine("--weights", "imagenet", status=1)
    assert "gradcam-adv reproduce study.toml --weights imagenet can't run." in lines
    assert "vgg16 not available" in lines
    assert (
        "problem: ImageNet's weights for vgg16, xception are missing or incomplete in Keras' cache "
        f"({place / 'keras' / 'models'}), and the server is off; "
        "give a directory of weights files by --weights DIR" in lines
    )


def test_weights_on_a_server_are_not_downloaded(place, weights_server, monkeypatch):
    served, address, requests = weights_server
    monkeypatch.undo()
    monkeypatch.chdir(place)
    monkeypatch.setenv("KERAS_HOME", str(place / "keras"))
    monkeypatch.setattr(doctor, "_gpus", list)
    for network in ("vgg16", "xception"):
        (served / f"{network}.h5").write_bytes(b"weights")
        entry = backbones.BACKBONES[network]
        entry = replace(
            entry,
            weights_url=f"{address}/{network}.h5",
            weights_md5=hashlib.md5(b"weights").hexdigest(),
        )
        monkeypatch.setitem(backbones.BACKBONES, network, entry)
    lines = examine("--weights", "imagenet")
    assert "vgg16 server answers: will be downloaded, about 59 MB" in lines
    assert "xception server answers: will be downloaded, about 84 MB" in lines
    assert "About 143 MB of weights will be downloaded first." in lines
    assert requests == ["/"]  # one request for both
    assert not list((place / "keras").rglob("*.h5"))


def test_weights_in_a_folder(place):
    (place / "files").mkdir()
    h5py.File(place / "files" / "vgg16_notop.h5", "w").close()
    lines = examine("--weights", "files", status=1)
    assert "vgg16 available (vgg16_notop.h5)" in lines
    assert "xception not available" in lines
    assert (
        "problem: weights: Expected one file xception*.h5 (weights without top) in files. "
        "Received: none" in lines
    )


def test_a_missing_folder_is_one_problem(place):
    lines = examine("--weights", "nowhere", status=1)
    assert starting("problem:", lines) == [
        "problem: weights: Expected weights 'imagenet', 'random', 'auto' or an existing directory. "
        "Received: 'nowhere'"
    ]


def test_random_bases_that_were_asked_for_are_not_missing_weights(place):
    lines = examine("--weights", "random")
    assert "vgg16 a random base, as asked for" in lines
    assert (
        "Heads will be trained on RANDOM bases for vgg16, xception: their numbers say nothing "
        "about the paper's networks." in lines
    )
    assert not [line for line in lines if "--weights DIR" in line]


# --- The study and its photos ---


def test_with_a_broken_study_the_machine_is_still_examined(place):
    (place / "study.toml").write_text("epoch = 3")
    lines = examine(status=1)
    assert "memory 64.0 GB, 32.0 GB of it available" in lines
    assert "file study.toml: can't be used" in lines
    (problem,) = starting("problem:", lines)
    assert problem.startswith("problem: study: Expected keys out of name, photos, ")
    assert problem.endswith("Received: epoch. Nearest: epochs.")


def test_missing_photos_are_a_problem(place):
    lines = examine("--photos", "lfw:nowhere", status=1)
    assert "photos lfw:nowhere: can't be used" in lines
    assert starting("problem:", lines) == [
        "problem: photos: Expected photos as 'orl', 'lfw', 'lfw:DIR', 'vggface2:DIR' or a folder "
        "of one folder per identity. Received: 'lfw:nowhere'; 'nowhere' is no folder"
    ]


def test_lfw_is_not_downloaded_and_no_folder_is_made(place, monkeypatch):
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(place / "home"))
    lines = examine("--photos", "lfw")
    assert (
        "photos Labeled Faces in the Wild: will be downloaded by scikit-learn, some 230 MB" in lines
    )
    (room,) = starting("run ", lines)
    assert room.endswith(" GB free, need not known yet")
    assert not (place / "home").exists()


def test_at_most_max_photos_of_each_person_count(place):
    (place / "study.toml").write_text(STUDY + "max_photos = 4\n")
    assert "photos photos in people: 12 photos of 3 people in people" in examine()


def test_an_existing_run_is_continued(place):
    sentence = "It continues runs/small; gradcam-adv status runs/small says how far it is."
    assert sentence not in examine()
    (place / "runs" / "small").mkdir(parents=True)
    (place / "runs" / "small" / "manifest.json").write_text("{}")
    assert sentence in examine()


def test_an_unknown_option_is_an_error(place):
    assert "Error: No such option '--no-such-option'." in examine("--no-such-option", status=2)


# --- Disk space ---


def test_the_space_needed_depends_on_the_study(place, monkeypatch):
    # Models: (59 + 84) MB for one arm and two seeds. Run: 100 MB, and 170 MB times 30 / 400
    # photos, (96 / 144)^2 pixels, 2 / 5 networks, 1 / 2 arms: 1.1 MB.
    usage = SimpleNamespace(free=150e6)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage)
    lines = examine()
    assert "run runs/small: 0.15 GB free, about 0.10 GB needed" in lines
    assert "models models/small: 0.15 GB free, about 0.29 GB needed" in lines
    assert starting("warning:", lines) == [
        "warning: models/small: 0.15 GB free, about 0.29 GB needed; that may be too little"
    ]


NEEDS_PROC = pytest.mark.skipif(
    not Path("/proc").is_dir(), reason="no /proc, a folder that nobody can write"
)


@pytest.mark.parametrize(
    "folder", ["people/ann/0.png/runs", pytest.param("/proc/gradcam-adv", marks=NEEDS_PROC)]
)
def test_a_folder_that_cannot_be_written_is_a_problem(place, folder):
    parent = folder.rsplit("/", 1)[0]
    lines = examine("--runs", folder, status=1)
    assert f"run {folder}/small: can't be written" in lines
    assert f"gradcam-adv reproduce study.toml --runs {folder} can't run." in lines
    (problem,) = starting("problem:", lines)
    expected = "problem: disk space: Expected a folder that files can be written into. Received: "
    assert problem.startswith(f"{expected}{place / parent}: ")


# --- The machine ---


def test_little_memory_is_a_warning(place, monkeypatch):
    monkeypatch.setattr(machine, "memory", lambda: (8e9, 2.5e9))
    lines = examine()
    assert "memory 8.00 GB, 2.50 GB of it available" in lines
    assert (
        "warning: 2.50 GB of memory may be too little: the default study's largest process needed "
        "3.30 GB; close other programs, or give the study a smaller batch_size" in lines
    )


def test_a_quota_below_the_threads_is_a_warning(place, monkeypatch):
    monkeypatch.setattr(machine, "processor_quota", lambda: 1.5)
    (place / "study.toml").write_text(STUDY + "threads = 3\n")
    lines = examine()
    assert "threads 3, as the study says" in lines
    assert (
        "warning: 3 threads share 1.5 cores, this container's quota; threads = 1 in "
        "the study keeps them from waiting for each other" in lines
    )


@pytest.fixture
def cgroups(tmp_path, monkeypatch):
    """Writes control groups, on a machine with 20 GB of free memory."""
    monkeypatch.setattr(machine, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(machine, "OWN_CGROUPS", tmp_path / "own")
    monkeypatch.setattr(machine, "MEMORY_FACTS", tmp_path / "meminfo")
    monkeypatch.setattr(machine.os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 10**7}.get)
    (tmp_path / "meminfo").write_text("MemTotal: 40000000 kB\nMemAvailable: 20000000 kB\n")

    def write(own, **files):
        (tmp_path / "own").write_text(own)
        for name, text in files.items():
            path = tmp_path / "cgroup" / name.replace("__", "/").replace("_DOT_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    return write


def test_without_limits_the_whole_machine_counts(cgroups):
    cgroups("0::/\n")
    assert machine.memory() == (40.96e9, 20.48e9)
    assert machine.processor_quota() == math.inf


def test_limits_of_cgroups_of_version_2_and_of_the_outer_ones(cgroups):
    # The inner limit is lower, but the outer one has less free memory.
    cgroups(
        "0::/outer/inner\n",
        outer__memory_DOT_max="8000000000\n",
        outer__memory_DOT_current="7500000000\n",
        outer__memory_DOT_stat="anon 5\ninactive_file 500000000\n",
        outer__inner__memory_DOT_max="4000000000\n",
        outer__inner__memory_DOT_current="1000000000\n",
        outer__cpu_DOT_max="300000 100000\n",
        outer__inner__cpu_DOT_max="150000 100000\n",
    )
    assert machine.memory() == (4e9, 1e9)
    assert machine.processor_quota() == 1.5


def test_limits_of_cgroups_of_version_1(cgroups):
    # The path is valid outside the container only; inside, its own group is at the top.
    cgroups(
        "4:memory:/docker/f00\n3:cpu,cpuacct:/docker/f00\n0::/\n",
        memory__memory_DOT_limit_in_bytes="4000000000\n",
        memory__memory_DOT_usage_in_bytes="3000000000\n",
        memory__memory_DOT_stat="inactive_file 1\ntotal_inactive_file 2000000000\n",
        **{"cpu__cpu_DOT_cfs_quota_us": "50000\n", "cpu__cpu_DOT_cfs_period_us": "100000\n"},
    )
    assert machine.memory() == (4e9, 3e9)
    assert machine.processor_quota() == 0.5


def test_cgroups_of_version_1_without_limits(cgroups):
    cgroups(
        "4:memory:/\n3:cpu:/\n",
        memory__memory_DOT_limit_in_bytes="9223372036854771712\n",
        memory__memory_DOT_usage_in_bytes="3000000000\n",
        **{"cpu__cpu_DOT_cfs_quota_us": "-1\n", "cpu__cpu_DOT_cfs_period_us": "100000\n"},
    )
    assert machine.memory() == (40.96e9, 20.48e9)
    assert machine.processor_quota() == math.inf


# --- The backend ---


@pytest.mark.parametrize(
    ("variable", "configured", "expected"),
    [
        (None, None, "tensorflow"),
        ("", '{"backend": "torch"}', "torch"),
        ("torch", None, "torch"),
        ("jax", None, "jax"),
        ("tensorflow", '{"backend": "torch"}', "tensorflow"),
        (None, "[no JSON", "tensorflow"),
        (None, '{"floatx": "float32"}', "tensorflow"),
    ],
)
def test_the_backend_is_the_one_that_keras_would_start(
    tmp_path, monkeypatch, variable, configured, expected
):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    if variable is not None:
        monkeypatch.setenv("KERAS_BACKEND", variable)
    if configured is not None:
        (tmp_path / "keras.json").write_text(configured)
    assert machine.backend() == expected


def test_an_unknown_backend_in_keras_json_is_an_error_that_names_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    (tmp_path / "keras.json").write_text('{"backend": "numpy"}')
    with pytest.raises(ValueError, match=r"Expected .*keras.json to name .*Received: 'numpy'"):
        machine.backend()


def test_an_unknown_backend_is_a_problem_and_is_not_started(place, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "numpy")
    monkeypatch.setattr(doctor, "_gpus", lambda: pytest.fail("started"))
    lines = examine(status=1)
    assert (
        "problem: installation: Expected KERAS_BACKEND to name a backend of Keras out of "
        "tensorflow, torch, jax. Received: 'numpy'" in lines
    )


def test_faces_without_tensorflow_are_a_problem(place, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    (place / "study.toml").write_text(STUDY.replace('["plain"]', '["plain", "aligned"]'))
    real = metadata.version
    monkeypatch.setattr(machine, "version", lambda name: "2" if name == "torch" else real(name))
    monkeypatch.setattr(doctor, "_gpus", lambda: [])
    monkeypatch.setattr(doctor, "_nvidia_seems_there", lambda: True)
    lines = examine(status=1)
    assert "PyTorch sees no GPU: networks run on the processor" in lines
    assert "torch 2" in lines
    assert starting(("problem: KERAS", "warning: there"), lines) == [
        "problem: KERAS_BACKEND is 'torch', and MTCNN, which finds the faces of the aligned arm, "
        "needs TensorFlow; arms = ['plain'] in the study does without",
        "warning: there seems to be an NVIDIA GPU that PyTorch does not use: it needs a build of "
        "PyTorch for CUDA",
    ]


def test_gpus_are_named_and_an_unused_one_is_a_warning(place, monkeypatch):
    monkeypatch.setattr(doctor, "_nvidia_seems_there", lambda: True)
    assert (
        "warning: there seems to be an NVIDIA GPU that TensorFlow does not use: "
        'pip install ".[gpu]" installs what is missing' in examine()
    )
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert (
        "warning: there seems to be an NVIDIA GPU that TensorFlow does not use: "
        "CUDA_VISIBLE_DEVICES is '-1'" in examine()
    )
    monkeypatch.setattr(doctor, "_gpus", lambda: ["Some GPU"])
    lines = examine()
    assert "TensorFlow runs networks on Some GPU" in lines
    assert not [line for line in lines if "NVIDIA" in line]


def test_tensorflow_finds_no_hidden_gpu(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert doctor._gpus() == []


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGILL)", "SIGILL ended its process"),
        ("import time; time.sleep(60)", "did not start within 0.5 s"),
        ("", "it says nothing"),
        (doctor._BACKEND.replace("gpus()", "no_such()"), "AttributeError: module 'grad"),
    ],
)
def test_a_broken_tensorflow_says_why(monkeypatch, code, says):
    monkeypatch.setattr(doctor, "_BACKEND", code)
    if "sleep" in code:
        monkeypatch.setattr(doctor, "_BACKEND_SECONDS", 0.5)
    with pytest.raises(ValueError, match=says):
        doctor._gpus()


def test_a_broken_tensorflow_is_a_problem(place, monkeypatch):
    def broken():
        raise ValueError("ImportError: no libthis\n  for that")

    monkeypatch.setattr(doctor, "_gpus", broken)
    lines = examine(status=1)
    assert "TensorFlow can't be used" in lines
    assert "problem: TensorFlow: ImportError: no libthis for that" in lines


# --- The installation ---


def test_a_version_outside_the_required_range_is_a_warning(place, monkeypatch):
    real = metadata.version
    monkeypatch.setattr(
        metadata, "version", lambda name: "2.1.0" if name == "scipy" else real(name)
    )
    assert "warning: scipy is 2.1.0, outside of <2,>=1.15" in examine()


def test_a_missing_package_is_a_problem(place, monkeypatch):
    real = metadata.version

    def version(name):
        if name == "tabulate":
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(metadata, "version", version)
    lines = examine(status=1)
    assert "gradcam-adv reproduce study.toml can't run." in lines
    assert "problem: installation: No package metadata was found for tabulate" in lines


def test_json_says_the_same_as_the_text(place):
    lines = examine("--weights", "nowhere", status=1)
    result = CliRunner().invoke(
        cli.main, ["doctor", "study.toml", "--weights", "nowhere", "--json"]
    )
    told = json.loads(result.stdout)
    assert result.exit_code == 1
    assert (told["can_run"], told["command"]) == (
        False,
        "gradcam-adv reproduce study.toml --weights nowhere",
    )
    assert [f"problem: {problem}" for problem in told["problems"]] == starting("problem: ", lines)
    found = [f"{label} {value}" for part in told["found"].values() for label, value in part.items()]
    assert [line for line in lines if line in found] == [" ".join(line.split()) for line in found]
