"""Damaged and hostile files: each ends in one clear error, or is skipped by name.

Every kind of file in READERS meets every damage, the cases of its own, and random damage. Photos
have a file of their own, test_malformed.py.
"""

import json
import os
import shutil
import types
import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import bad_files as bad
import click.testing
import numpy as np
import pandas as pd
import pytest
from bad_files import FACTS, FIFO, FOLDER, GOOD, RUN, TASK, archive, put
from conftest import write_photo
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gradcam_adv import untrusted
from gradcam_adv.app.cli import main
from gradcam_adv.data import sources
from gradcam_adv.files import read
from gradcam_adv.models import weights
from gradcam_adv.models.classifiers import load_model
from gradcam_adv.report.compare import open_run
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


# Kinds of files, and who reads them.


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


class Reader(NamedTuple):
    """A file's name, the function that reads it, the start of its error, and cases of its own."""

    file: str
    read: Callable
    error: str
    cases: Sequence = ()
    within: Callable = lambda content: content  # from a part of the file to the whole


def open_weights(path):
    with weights.opened(path, "VGG16"):
        return True


def all_arrays(path):
    with read.arrays(path) as arrays:
        return dict(arrays)


def published(suffix):
    return [(name, content, why) for name, of, content, why in bad.PUBLISHED if of.endswith(suffix)]


def run_with(path, place):
    """A run with a report of one table, in which the file is the manifest at ``place``."""
    run = path.parent / "run"
    shutil.rmtree(run, ignore_errors=True)
    for folder in ("report/0", "tables/plain"):
        (run / folder).mkdir(parents=True)
    put(run / "tables/plain/predictions.csv", bad.TABLE)
    for manifest, content in (("manifest.json", RUN), ("report/0/manifest.json", {"files": {}})):
        if manifest != place:
            put(run / manifest, content)
    path.rename(run / place)
    return run


def read_run(path):
    return open_run(run_with(path, "manifest.json"))


def read_report(path):
    run = open_run(run_with(path, "report/0/manifest.json"))
    return run.table("plain/predictions.csv", ["photo"])


def read_task(path):
    """The files of a task's record, none of which is deleted for it."""
    kinds = {"x": [records.Names()]}
    assert cleaning.clean(path.parent, path.parent / "models", kinds).removed == 0
    if (found := records.manifest(path.parent)) is None:
        raise ValueError(f"Expected a manifest. Received: {path}, which records nothing")
    return found.files


def read_journal(path):
    if (found := records.journal(path.parent)) in (None, records.Record()):
        raise ValueError(f"Expected a journal. Received: {path}, which records nothing")
    return found


OF_KERAS = r"Expected a \.keras model file.*Received: \S*{}"
READERS = {
    "weights": Reader("vgg16.h5", open_weights, "Expected weights of VGG16 .*{}: ",
                      [*bad.WEIGHTS, *published(".h5")]),
    "model": Reader("model.keras", load_model, OF_KERAS, [*bad.MODELS, *published(".keras")]),
    "weights of a model": Reader("a.keras", load_model, OF_KERAS,
                                 within=lambda part: archive(weights=part)),
    "description of a model": Reader("a.keras", load_model, OF_KERAS, within=archive),
    "study": Reader("study.toml", config.read, "Expected a study file.*{}: "),
    "array": Reader("a.npy", read.array, "Expected an array in .*{}. Received: ", bad.ARRAYS),
    "archive of arrays": Reader("a.npz", all_arrays, "Expected an .*array.* in .*{}. Received: ",
                                bad.ARCHIVES_OF_ARRAYS),
    "table": Reader("t.csv", read.table, "Expected a table in .*{}. Received: ", bad.TABLES),
    "JSON": Reader("m.json", read.json, "Expected a JSON object in .*{}. Received: "),
    "run": Reader("manifest.json", read_run, "Expected .*Received: ", bad.RUNS),
    "report": Reader("manifest.json", read_report, "Expected .*Received: ", bad.REPORTS),
    "task": Reader("manifest.json", read_task, "Expected a manifest.*{}", bad.TASKS),
    "journal": Reader(records.JOURNAL, read_journal, "Expected a journal.*{}"),
}  # fmt: skip


def bad_contents():
    for kind, reader in READERS.items():
        for name, content, why, *other in reader.cases:
            yield pytest.param(kind, content, why, *(other or [reader.file]), id=f"{kind}: {name}")
        for name, content in bad.damages(kind):
            if isinstance(content, bytes) or not kind.endswith("of a model"):
                whole = reader.within(content)
                yield pytest.param(kind, whole, "", reader.file, id=f"{kind}: {name}")


@pytest.mark.parametrize(("kind", "content", "why", "file"), list(bad_contents()))
def test_a_bad_file_ends_in_one_clear_error(tmp_path, capsys, kind, content, why, file):
    """In a program that shows every warning and makes none an error."""
    path = put(tmp_path / file, content)
    message = f"(?is)^{READERS[kind].error.format(file)}.*({why})"
    with warnings.catch_warnings(record=True) as said, pytest.raises(ValueError, match=message):
        warnings.simplefilter("always")
        READERS[kind].read(path)
    unseen = (DeprecationWarning, ResourceWarning)  # by default, programs do not show these
    assert [w for w in said if not issubclass(w.category, unseen)] == []
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("kind", READERS)
def test_a_good_file_of_every_kind_is_read(tmp_path, kind):
    reader = READERS[kind]
    assert reader.read(put(tmp_path / reader.file, reader.within(GOOD[kind]))) is not None


@pytest.mark.parametrize(("text", "error"), named(bad.STUDIES))
def test_a_bad_study_ends_in_an_error_that_names_the_key(tmp_path, text, error):
    with pytest.raises(ValueError, match=f"(?s)^(?=Expected ).*({error})"):
        config.read(put(tmp_path / "study.toml", text))


def test_weights_with_a_circle_of_hard_links_are_accepted(tmp_path):
    content = bad.hdf5(lambda f: f.__setitem__("layers/again", f["layers"]))
    with untrusted.checked(put(tmp_path / "a.h5", content), "weights") as (_, contents):
        assert contents.arrays == 2  # each is counted once


def test_a_study_with_a_byte_order_mark_is_read(tmp_path):
    path = put(tmp_path / "study.toml", b'\xef\xbb\xbfname = "a"\r\nseed = 3\r\n')
    assert config.read(path).seed == 3


def test_without_protection_the_payload_of_the_arrays_runs(tmp_path):
    path = put(tmp_path / "a.npy", bad.DAMAGE["objects"])
    np.load(path, allow_pickle=True)[0].close()
    assert os.path.exists("ran")
    os.remove("ran")


def test_arrays_are_read_by_name(tmp_path):
    assert read.array(put(tmp_path / "a.npy", GOOD["array"])).tolist()[1] == [4, 5, 6, 7]
    with read.arrays(put(tmp_path / "a.npz", GOOD["archive of arrays"])) as arrays:
        assert {name: values.sum() for name, values in arrays.items()} == {"a": 66, "b": 3}
        assert len(arrays) == 2 and "a" in arrays and "c" not in arrays
        with pytest.raises(ValueError, match="^Expected an array 'c' in .*a.npz. Received: .*c is"):
            arrays["c"]
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
    ("a million blanks", "n000001, " + " " * 1_000_000 + "x\n", None),
    ("a million commas", "n000001, A" + "," * 1_000_000 + "\n", None),
    *[(name, content, None) for name, content in bad.DAMAGE.items()
      if isinstance(content, bytes)],
]  # fmt: skip


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
    put(top / "identity_meta.csv", text if isinstance(text, bytes) else text.encode())
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


# Names of files that other files contain, in a folder with a folder "a" and with links: "link" and
# "file" lead out of it, and "circle" to itself.

NAMES = {
    "above": "../mine.txt",
    "above by a way round": "a/../../x",
    "above through a folder": "a/./.././../x",
    "far above": "../../../../../../etc/passwd",
    "absolute": "{above}/mine.txt",
    "a folder above": "..",
    "the folder": ".",
    "the folder by a way round": "a/..",
    "nothing": "",
    "a null character": "a\0b",
    "through a link": "link/mine.txt",
    "a link": "file",
    "through links in a circle": "circle/x",
}
# A task's folder is x/0 in its run, so these are other tasks' files.
OF_OTHERS = {"a folder": "../../more", "of the run": "../../more/notes.txt", "too long": "x" * 5000}


def with_links(folder, above):
    """Make the folder, and files that nobody may touch."""
    (folder / "a").mkdir(parents=True)
    for link, to in {"link": above, "file": above / "mine.txt", "circle": "circle"}.items():
        (folder / link).symlink_to(to)
    return [put(place / "mine.txt", b"mine") for place in {folder.parent, above}]


@pytest.mark.parametrize("name", named(NAMES.items()))
def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path, name):
    with_links(tmp_path / "folder", tmp_path)
    with pytest.raises(ValueError, match="^Expected the name of a file inside .*Received: "):
        read.inside(tmp_path / "folder", name.format(above=tmp_path))


@pytest.mark.parametrize("photo", ["../x", "/tmp/x", "ann/../../x"])
def test_export_writes_only_into_its_folder(tmp_path, photo):
    photos = types.SimpleNamespace(test=pd.DataFrame({"photo": ["ann/1.jpg", photo]}))
    arm = types.SimpleNamespace(photos=photos)
    with pytest.raises(ValueError, match="^Expected the name of a file inside .*Received: "):
        export.write_png(arm, "vgg16", 0.1, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_good_name_is_a_path_below_the_folder(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    for folder in (tmp_path / "folder", tmp_path / "link", tmp_path / "not there"):
        for name in ("a", "a/b.png", "..a", "a/..b", "ü\n"):
            assert read.inside(folder, name) == folder / name


@pytest.mark.parametrize("name", named((NAMES | OF_OTHERS).items()))
@pytest.mark.parametrize("by", ["clean", "a task"])
def test_a_hostile_manifest_deletes_nothing(tmp_path, name, by):
    run = tmp_path / "runs" / "a"
    task = run / "x" / "0"
    kept = with_links(task, tmp_path)
    (run / "more").mkdir()
    kept.append(put(run / "more" / "notes.txt", b"mine"))
    put(task / "manifest.json", TASK | {"files": {name.format(above=tmp_path): FACTS}})
    places = (run, tmp_path / "models" / "a")
    if by == "clean":
        cleaning.clean(*places, {"x": [records.Names()]})
    else:  # the task now depends on something else, so its old files do not count
        with records.Journal(task, {"task": "x", "seed": 1}, places) as journal:
            assert journal.record.files == {}
    assert {path.read_text() for path in kept} == {"mine"}


# Names of photos.

PHOTOS = [
    *[(name, name + ".png", "a name of more than 220 bytes") for name in ("x" * 250, "ü" * 120)],
    *[(repr(name), os.fsdecode(name + b".png"), "control characters or no UTF-8")
      for name in (b"a\nb", b"\x1b[2J", b"a\tb", b"\xff", b"\xc3")],
    ("in a folder of no UTF-8", os.fsdecode(b"\xff/a.png"), "no UTF-8 in its name or a folder's"),
]  # fmt: skip


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


# Random damage: an error of ours, or a result.


def randomly(content):
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


LEAVE_OUT = object()
ODD = [None, True, -1, 2**70, 1e308, "", "x", "\0", [], {}, [[]], {"class_name": "x"}, bad.LAMBDA]


def odd(content, place, value):
    """Bytes of JSON with something odd in one place, or nothing there."""
    content = json.loads(content)
    places = list(spots(content))
    part, key = places[place % len(places)]
    part[key] = value
    if value is LEAVE_OUT:
        del part[key]
    return json.dumps(content).encode()


def damage(kind):
    """Strategy: a kind of file with random damage."""
    if kind in ("description of a model", "run", "report", "task"):
        values = st.sampled_from([*ODD, LEAVE_OUT])
        return st.builds(odd, st.just(GOOD[kind]), st.integers(0, 10_000), values)
    return randomly(GOOD[kind])


@pytest.mark.parametrize("kind", READERS)
def test_random_damage_ends_in_a_clear_error_or_a_result(tmp_path, kind):
    reader = READERS[kind]

    @settings(max_examples=60, derandomize=True, database=None, deadline=None,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(content=damage(kind))
    def check(content):
        path = put(tmp_path / reader.file, reader.within(content))
        try:
            assert reader.read(path) is not None
        except ValueError as error:
            assert str(error).startswith("Expected "), error

    check()


# At the command line.

STUDY = b'name = "a"\nphotos = "people"\nweights = "weights"\nnetworks = ["vgg16"]\n'
STUDY += b'source = "vgg16"\narms = ["plain"]\n'
BY_NAME = {name: content for name, content, *_ in bad.MODELS + bad.WEIGHTS}
EXPLAIN = "--images people --output out"
COMMANDS = [
    ("model.keras", BY_NAME["Lambda"], "layers model.keras", "a Lambda layer"),
    ("model.keras", BY_NAME["file ../evil.py"], f"explain --model model.keras {EXPLAIN}", "'../ev"),
    ("model", FOLDER, f"score --model model {EXPLAIN}", "SavedModel"),
    ("model.pkl", bad.DAMAGE["pickle"], "layers model.pkl", "a pickle runs"),
    ("study.toml", b"a = " + b"[" * 5000, "data study.toml", "nested too deep"),
    ("study.toml", b'"\\u001b[2J" = 1', "data study.toml", r"\x1b[2J"),
    ("study.toml", FIFO, "reproduce study.toml", "not a regular file"),
    ("study.toml", FOLDER, "clean study.toml", "not a regular file"),
    ("weights/vgg16.h5", BY_NAME["whole model"], "reproduce study.toml", "a whole model"),
    ("weights/vgg16.h5", b"", "reproduce study.toml", "weights of VGG16 without top"),
    ("run/manifest.json", b"[]", "compare run run", "a JSON object"),
    ("run/manifest.json", RUN | {"tasks": 1}, "compare run run", "no table tasks"),
]


@pytest.mark.parametrize(
    ("name", "content", "arguments", "why"), named((case[2], *case) for case in COMMANDS)
)
def test_at_the_command_line_it_is_one_line_and_status_2(tmp_path, name, content, arguments, why):
    work = tmp_path / "work"
    for number in range(6):
        write_photo(work / "people" / ("ann", "bob")[number % 2] / f"{number}.png", number)
    for folder in ("weights", "run"):
        (work / folder).mkdir()
    if name != "study.toml":
        put(work / "study.toml", STUDY)
    put(work / name, content)
    before = sorted(tmp_path.rglob("*"))
    result = click.testing.CliRunner().invoke(main, arguments.split())
    assert result.exit_code == 2, result.output
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert line.startswith("Error: Expected ") and line.isprintable()
    assert "Received: " in line and why in line
    assert "Traceback" not in result.output
    assert sorted(tmp_path.rglob("*")) == before


def test_there_are_many_cases_and_none_hides_another_of_its_name():
    ids = [case.id for case in bad_contents()]
    assert len({*ids}) == len(ids) >= 600
