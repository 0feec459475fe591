"""Damaged and hostile files: each ends in one clear error, or is skipped by name.

The cases are written by hand, by the kind of file, in READERS and below; FUZZED adds random damage.
Photos have a file of their own, test_malformed.py.
"""

import io
import json
import os
import pickle
import shutil
import types

import click.testing
import numpy as np
import pandas as pd
import pytest
from bad_files import (
    ARCHIVES_OF_ARRAYS,
    ARRAYS,
    FIFO,
    FOLDER,
    HOSTILE,
    LAMBDA,
    MODELS,
    OBJECTS,
    STUDIES,
    TABLES,
    WEIGHTS,
    Payload,
    archive,
    described,
    hdf5,
    network,
    npy,
    npz,
    put,
)
from conftest import write_photo
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gradcam_adv import untrusted
from gradcam_adv.app.cli import main
from gradcam_adv.data import sources
from gradcam_adv.files import read
from gradcam_adv.models import weights
from gradcam_adv.models.classifiers import load_model
from gradcam_adv.report.compare import compare_runs, open_run
from gradcam_adv.runs import cleaning, records
from gradcam_adv.study import config, export
from gradcam_adv.untrusted import checks


@pytest.fixture(autouse=True)
def nothing_runs(tmp_path, monkeypatch):
    """Checks after every test that no payload has run."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    yield
    assert not (work / "ran").exists()


def named(cases):
    """Cases as parameters; the first item of each is its name."""
    return [pytest.param(*case[1:], id=case[0]) for case in cases]


# The files of bad_files.py, and who reads them.


def look_here(kind, copy):
    """The check of a file in this process, which takes less time than a child."""
    found = json.loads(json.dumps(checks.look(kind, copy)))
    if "refused" in found:
        raise ValueError(found["refused"])
    return found


@pytest.fixture(autouse=True)
def no_children(monkeypatch, request):
    if "command line" not in request.node.name:
        monkeypatch.setattr(untrusted, "_look_at", look_here)


def open_weights(path):
    with weights.opened(path, "VGG16"):
        pass


def first_of_archive(path):
    with read.arrays(path) as arrays:
        return arrays["a"]


# The name of the file, its reader, the error (with the file's name and the reason), and the cases.
READERS = {
    "weights": (
        "vgg16.h5",
        open_weights,
        "^Expected weights of VGG16 .*Received: .*FILE: .*WHY",
        WEIGHTS,
    ),
    "model": (
        "model.keras",
        load_model,
        r"(?s)^Expected a .keras model file.*Received: \S*FILE.*WHY",
        MODELS,
    ),
    "study": ("study.toml", config.read, "(?s)^(?=Expected ).*(WHY)", STUDIES),
    "array": ("a.npy", read.array, "(?i)^Expected an array in .*FILE. Received: .*(WHY)", ARRAYS),
    "archive of arrays": (
        "a.npz",
        first_of_archive,
        "^Expected an .*array.* in .*FILE. Received.*(WHY)",
        ARCHIVES_OF_ARRAYS,
    ),
    "table": ("t.csv", read.table, "^Expected a table in .*FILE. Received: .*(WHY)", TABLES),
    "JSON": ("m.json", read.json, "^Expected a JSON object in .*FILE. Received: .*WHY", OBJECTS),
}


def bad_files():
    for kind, (usual, reader, error, cases) in READERS.items():
        # A table is also refused in a program that ignores warnings.
        marks = [pytest.mark.filterwarnings("ignore")] if kind == "table" else []
        for name, content, why, *other in cases:
            file = other[0] if other else usual
            message = error.replace("FILE", file).replace("WHY", why)
            yield pytest.param(file, content, reader, message, id=f"{kind}: {name}", marks=marks)


@pytest.mark.parametrize(("file", "content", "reader", "message"), list(bad_files()))
def test_a_bad_file_ends_in_one_clear_error(tmp_path, file, content, reader, message):
    path = put(tmp_path / file, content)
    with pytest.raises(ValueError, match=message):
        reader(path)


def test_weights_with_a_circle_of_hard_links_are_accepted(tmp_path):
    path = put(tmp_path / "a.h5", hdf5(lambda f: f.__setitem__("layers/again", f["layers"])))
    with untrusted.checked(path, "weights") as (_, contents):
        assert contents.arrays == 1  # each is counted once


def test_a_study_with_a_byte_order_mark_is_read(tmp_path):
    path = put(tmp_path / "study.toml", b'\xef\xbb\xbfname = "a"\r\nseed = 3\r\n')
    assert config.read(path).seed == 3


def test_without_protection_the_payload_of_the_arrays_runs():
    np.load(io.BytesIO(npy(HOSTILE, allow_pickle=True)), allow_pickle=True)[0].close()
    assert os.path.exists("ran")
    os.remove("ran")


def test_good_arrays_are_read(tmp_path):
    (tmp_path / "a.npy").write_bytes(npy(np.arange(6).reshape(2, 3)))
    assert read.array(tmp_path / "a.npy").tolist() == [[0, 1, 2], [3, 4, 5]]
    (tmp_path / "a.npz").write_bytes(npz(a=np.ones(2), b=np.zeros(0)))
    with read.arrays(tmp_path / "a.npz") as arrays:
        assert {name: values.tolist() for name, values in arrays.items()} == {"a": [1, 1], "b": []}
        assert len(arrays) == 2 and "a" in arrays and "c" not in arrays
    with pytest.raises(FileNotFoundError):
        read.array(tmp_path / "none.npy")


# Names of people: a row of VGGFace2's identity_meta.csv and the name in it; None if it is damaged.

ROW = "n000001, {}, 424, 0, m\n"
PEOPLE = [
    ("script", ROW.format('"<script>alert(1)</script>"'), "<script>alert(1)</script>"),
    ("quotes", ROW.format('"A "B" C"'), 'A "B" C'),
    ("commas", ROW.format('"A, B", C, 1'), 'A, B", C, 1'),
    ("one quote", ROW.format('"'), None),
    ("no name", ROW.format(""), None),
    ("no number", "n000001, A, x, 0, m\n", None),
    ("too few cells", "n000001, A, 424\n", None),
    ("another class", "m000001, A, 424, 0, m\n", None),
    ("binary", "\0\x01\udcff\n", None),
    ("empty", "", None),
    ("a million blanks", "n000001, " + " " * 1_000_000 + "x\n", None),
    ("a million commas", "n000001, A" + "," * 1_000_000 + "\n", None),
]


def listed(folder, photos=None):
    """The listing of a folder with two people, three photos each."""
    for number, person in enumerate(("n000001", "n000002")):
        for photo in range(3):
            write_photo(folder / person / f"{photo}.png", 9 * number + photo)
    return sources.list_photos(photos or str(folder), classes=None, min_photos=3, seed=0)


@pytest.mark.parametrize(("text", "name"), named(PEOPLE))
def test_names_of_people_are_read_or_skipped(tmp_path, text, name):
    top = tmp_path / "v"
    top.mkdir()
    (top / "identity_meta.csv").write_bytes(text.encode(errors="surrogateescape"))
    listing = listed(top / "train", f"vggface2:{top}")
    assert listing.identities["name"].tolist() == [name or "n000001", "n000002"]


@pytest.mark.parametrize(
    ("folder", "title"),
    [
        ("<img src=x onerror=alert(1)>", "photos in ?img src=x onerror=alert(1)?"),
        ("[x](javascript:alert(1))", "photos in ?x?(javascript?alert(1))"),
        ("$\\frac$ `a` | *b*\n# c", "photos in ??frac? ?a? ? ?b??# c"),
        ("Ünder_1 (50 %), b", "photos in Ünder_1 (50 %), b"),
    ],
)
def test_the_title_of_a_folder_is_plain_text(tmp_path, folder, title):
    assert listed(tmp_path / folder).title == title


# Manifests of runs.

GOOD = {
    "study": {"name": "a", "networks": ["vgg16"], "source": "vgg16"},
    "weights": {"vgg16": {"origin": "random", "sha256": None}},
    "tasks": {"report": "report/0"},
}
RUNS = [
    ("empty", b""),
    ("nothing", {}),
    ("nested too deep", b'{"study":' * 100_000),
    *[(f"{key} {value!r}", GOOD | {key: value})
      for key in GOOD for value in ([], None, "x", {})],
    ("study of lists", GOOD | {"study": {"name": [], "networks": {}}}),
    ("study of another name", GOOD | {"study": GOOD["study"] | {"name": "../../x"}}),
    ("weights of lists", GOOD | {"weights": {"vgg16": []}}),
    ("report elsewhere", GOOD | {"tasks": {"report": "../../elsewhere"}}),
    ("report a number", GOOD | {"tasks": {"report": 1}}),
    ("report a null character", GOOD | {"tasks": {"report": "\0"}}),
]  # fmt: skip

FILES_OF_REPORTS = [
    ("a list", []),
    ("a number", 1),
    ("text", "x"),
    ("of numbers", {"../../tables/plain/predictions.csv": 1}),
    ("of nothing", {"../../tables/plain/predictions.csv": {}}),
    ("of texts", {"../../tables/plain/predictions.csv": {"size": "x", "sha256": 1}}),
]


@pytest.fixture
def run(tmp_path):
    """A run with a report of one table."""
    run = tmp_path / "run"
    (run / "report" / "0").mkdir(parents=True)
    (run / "tables" / "plain").mkdir(parents=True)
    put(run / "tables" / "plain" / "predictions.csv", b"photo\n")
    put(run / "manifest.json", GOOD)
    put(run / "report" / "0" / "manifest.json", {"files": {}})
    assert open_run(run).study.name == "a"
    return run


@pytest.mark.parametrize("content", named(RUNS))
def test_a_bad_manifest_of_a_run_ends_in_one_clear_error(run, content):
    put(run / "manifest.json", content)
    with pytest.raises(ValueError, match="^Expected .*Received: "):
        open_run(run)


@pytest.mark.parametrize("files", named(FILES_OF_REPORTS))
def test_a_bad_manifest_of_a_report_ends_in_one_clear_error(run, files):
    put(run / "report" / "0" / "manifest.json", {"files": files})
    with pytest.raises(ValueError, match="^Expected .*Received: "):
        compare_runs(run, run)


# Manifests of tasks.

TASK = {"task": "x", "seconds": 1.5, "needs": {}, "files": {}}
TASKS = [
    ("empty", b""),
    ("a list", []),
    ("nested too deep", b'{"files":' * 100_000),
    *[(f"{key} {value!r}", TASK | {key: value})
      for key, wrong in (("files", [[], None, "x", 1, {"a": 1}, {"a": None}, {"a": {}},
                                    {"a": {"size": "1", "mtime_ns": 1, "sha256": "x"}},
                                    {"a": {"size": 1, "mtime_ns": 1, "sha256": None}}]),
                         ("seconds", ["x", None, [], {}]),
                         ("needs", [[], None, "x", 1]))
      for value in wrong],
    *[(f"no {key}", {k: v for k, v in TASK.items() if k != key})
      for key in ("files", "seconds", "needs")],
]  # fmt: skip


@pytest.mark.parametrize("content", named(TASKS))
def test_a_bad_manifest_of_a_task_records_nothing(tmp_path, content):
    path = put(tmp_path / "manifest.json", content)
    assert records.manifest(tmp_path) is None
    assert cleaning.clean(tmp_path, tmp_path / "models", {"x": [records.Names()]}).removed == 0
    assert path.exists()


def test_a_good_manifest_of_a_task_is_read(tmp_path):
    put(tmp_path / "manifest.json", TASK | {"files": {"a": FACTS}})
    assert records.manifest(tmp_path).files == {"a": FACTS}


# Files that a hostile manifest in runs/a/x/0 asks to delete.
FACTS = {"size": 4, "mtime_ns": 0, "sha256": "x"}
DELETED = [
    ("above", "../../../../mine.txt"),
    ("absolute", "{root}/mine.txt"),
    ("a folder above", "../../../.."),
    ("itself", "."),
    ("through a link", "link/mine.txt"),
    ("no path", "\0"),
    ("too long", "x" * 5000),
    ("through links in a circle", "circle/x"),
    ("a null character on the way", "a\0/x"),
    ("a folder", "../../more"),
    ("of the run", "../../more/notes.txt"),
]


@pytest.mark.parametrize("name", named(DELETED))
@pytest.mark.parametrize("by", ["clean", "a task"])
def test_a_hostile_manifest_deletes_nothing(tmp_path, name, by):
    run = tmp_path / "runs" / "a"
    task = run / "x" / "0"
    task.mkdir(parents=True)
    (run / "more").mkdir()
    kept = tmp_path / "mine.txt", run / "more" / "notes.txt"
    for path in kept:
        path.write_text("mine")
    (task / "link").symlink_to(tmp_path)
    (task / "circle").symlink_to(task / "circle")
    content = TASK | {"files": {name.format(root=tmp_path): FACTS}}
    put(task / "manifest.json", content)
    places = (run, tmp_path / "models" / "a")
    if by == "clean":
        cleaning.clean(*places, {"x": [records.Names()]})
    else:  # the task now depends on something else, so its old files do not count
        with records.Journal(task, {"task": "x", "seed": 1}, places) as journal:
            assert journal.record.files == {}
    assert [path.read_text() for path in kept] == ["mine", "mine"]


# Names of files that other files contain.

NAMES = [
    ("above", "../x"),
    ("above by a way round", "a/../../x"),
    ("far above", "../../../../../../etc/passwd"),
    ("absolute", "/etc/passwd"),
    ("the folder", "."),
    ("the folder by a way round", "a/.."),
    ("nothing", ""),
    ("a null character", "a\0b"),
    ("through a link", "link/x"),
    ("a link", "file"),
    ("through links in a circle", "circle/x"),
    ("above through a folder", "a/./.././../x"),
]


@pytest.mark.parametrize("name", named(NAMES))
def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path, name):
    folder = tmp_path / "folder"
    (folder / "a").mkdir(parents=True)
    (folder / "link").symlink_to(tmp_path)
    (folder / "file").symlink_to(tmp_path / "x")
    (folder / "circle").symlink_to(folder / "circle")
    with pytest.raises(ValueError, match="^Expected the name of a file inside .*Received: "):
        read.inside(folder, name)


def test_a_good_name_is_a_path_below_the_folder(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    for folder in (tmp_path / "folder", tmp_path / "link", tmp_path / "not there"):
        for name in ("a", "a/b.png", "..a", "a/..b", "ü\n"):
            assert read.inside(folder, name) == folder / name


@pytest.mark.parametrize("photo", ["../x", "/tmp/x", "ann/../../x"])
def test_export_writes_only_into_its_folder(tmp_path, photo):
    photos = types.SimpleNamespace(test=pd.DataFrame({"photo": ["ann/1.jpg", photo]}))
    arm = types.SimpleNamespace(photos=photos)
    with pytest.raises(ValueError, match="^Expected the name of a file inside .*Received: "):
        export.write_png(arm, "vgg16", 0.1, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# Names of photos.

PHOTOS = [
    ("too long", "x" * 250 + ".png", "a name of more than 220 bytes"),
    ("too long in bytes", "ü" * 120 + ".png", "a name of more than 220 bytes"),
    ("a line break", "a\nb.png", "control characters"),
    ("an escape sequence", "\x1b[2J.png", "control characters"),
    ("a tab", "a\tb.png", "control characters"),
    ("no UTF-8", os.fsdecode(b"\xff.png"), "control characters or no UTF-8"),
    ("half of a character", os.fsdecode(b"\xc3.png"), "control characters or no UTF-8"),
    ("in a folder of no UTF-8", os.fsdecode(b"\xff/a.png"), "no UTF-8 in its name or a folder's"),
]


@pytest.fixture(scope="module")
def excluded(tmp_path_factory):
    """The photos left out by ``explain`` in a folder with all these names and three good ones."""
    import keras

    root = tmp_path_factory.mktemp("explained")
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(2, 3, name="conv")(inputs)
    outputs = keras.layers.Dense(2)(keras.layers.Flatten()(x))
    keras.Model(inputs, outputs).save(root / "good.keras")
    for number, name in enumerate(["good.png", "$x$.png", "x'\"<b>.png"]):
        write_photo(root / "photos" / name, number)
    for _, name, _ in PHOTOS:
        (root / "photos" / name).parent.mkdir(exist_ok=True)
        shutil.copy(root / "photos" / "good.png", root / "photos" / name)
    given = {"model": "good.keras", "images": "photos", "output": "out"}
    arguments = [word for key, name in given.items() for word in (f"--{key}", str(root / name))]
    result = click.testing.CliRunner().invoke(main, ["explain", *arguments, "--epsilon", "0.1"])
    assert result.exit_code == 0, result.output
    assert "3 images" in result.output
    assert len(list((root / "out" / "heatmaps").iterdir())) == 3
    return read.table(root / "out" / "excluded.csv", {"image"}).set_index("image")["reason"]


@pytest.mark.parametrize(("name", "why"), named(PHOTOS))
def test_a_photo_with_a_bad_name_is_left_out(excluded, name, why):
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)
    assert why in excluded[shown]


# Random damage: an error of ours, or a result of the right kind.


def damaged(content):
    """Strategy: some bytes replaced, and perhaps the end cut off."""
    places = st.integers(0, len(content) - 1)
    changes = st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=6)
    return st.builds(_damage, st.just(content), changes, st.none() | places)


def _damage(content, changes, end):
    changed = bytearray(content)
    for place, value in changes:
        changed[place] = value
    return bytes(changed[:end])


def spots(part):
    """Every place in nested lists and objects, as container and key."""
    pairs = part.items() if isinstance(part, dict) else enumerate(part)
    for key, value in pairs:
        yield part, key
        if isinstance(value, dict | list):
            yield from spots(value)


ODD = [None, True, -1, 2**70, 1e308, "", "x", "\0", [], {}, [[]], {"class_name": "x"}, LAMBDA]


def odd_model(place, odd):
    """A model whose description has something odd in one place, or lacks it."""
    description = network(described(), described("ReLU", config={"name": "b"}))
    places = list(spots(description))
    part, key = places[place % len(places)]
    if odd == "leave out":
        del part[key]
    else:
        part[key] = odd
    return archive(description)


ODD_MODELS = st.builds(odd_model, st.integers(0, 10_000), st.sampled_from([*ODD, "leave out"]))
STUDY_FILE = b'name = "a"\nseed = 3\nepsilons = [0.1, 0.2]\n[readings]\nvid_levels = "all"\n'
NPZ = npz(a=np.arange(12.0), b=np.ones(3))
CSV = b'photo,psnr,note\n"a,b",1.5,\nc,2,x\n'


def all_arrays(path):
    with read.arrays(path) as arrays:
        return list(arrays.values())


# How many examples, the file's name and bytes, its reader, and whether a result is right.
FUZZED = {
    "weights of a model": (
        60,
        "a.keras",
        damaged(hdf5()).map(lambda weights: archive(weights=weights)),
        load_model,
        lambda model: model.output_shape == (None, 2),
    ),
    "description of a model": (60, "a.keras", ODD_MODELS, load_model, lambda m: m.predict),
    "weights": (
        60,
        "a.h5",
        damaged(hdf5()),
        open_weights,
        lambda result: result is None,
    ),
    "study": (
        40,
        "a.toml",
        damaged(STUDY_FILE),
        config.read,
        lambda study: isinstance(study, config.Study),
    ),
    "array": (
        40,
        "a.npy",
        damaged(npy(np.arange(12.0).reshape(3, 4))),
        read.array,
        lambda array: isinstance(array, np.ndarray),
    ),
    "archive of arrays": (
        30,
        "a.npz",
        damaged(NPZ),
        all_arrays,
        lambda arrays: all(isinstance(array, np.ndarray) for array in arrays),
    ),
    "table": (20, "a.csv", damaged(CSV), read.table, lambda table: table.shape[1] >= 1),
    "JSON": (
        20,
        "a.json",
        damaged(b'{"a": [1, {"b": null}], "c": "d"}'),
        read.json,
        lambda content: isinstance(content, dict),
    ),
}


@pytest.mark.parametrize("kind", FUZZED)
def test_random_damage_ends_in_a_clear_error_or_a_result(tmp_path, kind):
    examples, file, contents, reader, is_right = FUZZED[kind]

    @settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(content=contents)
    def check(content):
        path = put(tmp_path / file, content)
        try:
            result = reader(path)
        except ValueError as error:
            assert str(error).startswith("Expected "), error
        else:
            assert is_right(result)

    check()


# At the command line.

STUDY = b'name = "a"\nphotos = "people"\nweights = "weights"\nnetworks = ["vgg16"]\n'
STUDY += b'source = "vgg16"\narms = ["plain"]\n'
MODELS_BY_NAME = {name: content for name, content, *_ in MODELS}
COMMANDS = [
    ("a model", "model.keras", MODELS_BY_NAME["Lambda"],
     ["layers", "model.keras"], "a Lambda layer"),
    ("a model to explain", "model.keras", MODELS_BY_NAME["name above"],
     ["explain", "--model", "model.keras", "--images", "people", "--output", "out"], "'../evil"),
    ("a SavedModel", "model", FOLDER,
     ["score", "--model", "model", "--images", "people", "--output", "out"], "SavedModel"),
    ("a pickle", "model.pkl", pickle.dumps(Payload()), ["layers", "model.pkl"], "a pickle runs"),
    ("a study", "study.toml", b"a = " + b"[" * 5000, ["data", "study.toml"], "nested too deep"),
    ("an escape sequence", "study.toml", b'"\\u001b[2J" = 1', ["data", "study.toml"], r"\x1b[2J"),
    ("a pipe", "study.toml", FIFO, ["reproduce", "study.toml"], "not a regular file"),
    ("a folder", "study.toml", FOLDER, ["clean", "study.toml"], "not a regular file"),
    ("weights", "weights/vgg16.h5", {n: c for n, c, _ in WEIGHTS}["whole model"],
     ["reproduce", "study.toml"], "weights of VGG16 without top.*a whole model"),
    ("a run", "run/manifest.json", b"[]", ["compare", "run", "run"], "a JSON object"),
    ("another run", "run/manifest.json", GOOD | {"tasks": 1},
     ["compare", "run", "run"], "no table tasks"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "arguments", "why"), named(COMMANDS))
def test_at_the_command_line_it_is_one_line_and_status_2(tmp_path, name, content, arguments, why):
    work = tmp_path / "work"
    for number in range(3):
        write_photo(work / "people" / "ann" / f"{number}.png", number)
        write_photo(work / "people" / "bob" / f"{number}.png", 9 + number)
    for folder in ("weights", "run"):
        (work / folder).mkdir()
    if name != "study.toml":
        put(work / "study.toml", STUDY)
    put(work / name, content)
    before = sorted(tmp_path.rglob("*"))
    result = click.testing.CliRunner().invoke(main, arguments)
    assert result.exit_code == 2, result.output
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert line.startswith("Error: Expected ")
    assert line.isprintable()
    assert "Received: " in line
    for part in why.split(".*"):
        assert part in line
    assert "Traceback" not in result.output
    assert sorted(tmp_path.rglob("*")) == before


def test_there_are_many_cases_and_none_hides_another_of_its_name():
    of_readers = {kind: cases for kind, (*_, cases) in READERS.items()}
    others = [PEOPLE, RUNS, FILES_OF_REPORTS, TASKS, DELETED, NAMES, PHOTOS]
    corpus = [*of_readers.values(), *others]
    for cases in corpus:
        assert len({name for name, *_ in cases}) == len(cases)
    assert sum(map(len, corpus)) >= 339
    assert sum(examples for examples, *_ in FUZZED.values()) >= 330
