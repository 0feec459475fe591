"""Records hold the files that are whole, whenever the process ended, and no others."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from disk import steps, watched
from hypothesis import given, settings
from hypothesis import strategies as st

from gradcam_adv.files import hashes, write
from gradcam_adv.runs import cleaning, records

ABOUT = {"task": "plain/fake/vgg16", "fingerprint": "f", "needs": {}, "threads": 2, "inputs": {}}
PARTS = 3
NAMES = records.Names(own=r"part-\d\.npy", models=r"plain/net\.json")
KINDS = {"fake": [NAMES]}


def places(root: Path) -> tuple[Path, Path]:
    """The folders of a run and of its models."""
    return root / "runs" / "tiny", root / "models" / "tiny"


def folder_of(root: Path) -> Path:
    return places(root)[0] / "plain" / "fake" / "vgg16" / "0123456789ab"


def paths_of(root: Path) -> list[Path]:
    parts = [folder_of(root) / f"part-{number}.npy" for number in range(PARTS)]
    return [*parts, places(root)[1] / "plain" / "net.json"]


def work(root: Path, about=ABOUT) -> list[str]:
    """Do a task of three arrays and a file in the models' folder; the names of files it made."""
    made = []
    with records.Journal(folder_of(root), about, places(root), NAMES) as journal:
        with write.observed(journal):
            for number, path in enumerate(paths_of(root)):
                if write.is_whole(path):
                    continue
                made.append(path.name)
                if path.suffix == ".npy":
                    write.array(path, np.full(4, number))
                else:
                    write.json(path, {"number": number})
        journal.finish(paths_of(root))
    return made


def is_done(root: Path, about=ABOUT) -> bool:
    """As the runner asks."""
    record = records.manifest(folder_of(root))
    if record is None or record.about != about:
        return False
    return all(record.holds(name, folder_of(root)) for name in record.files)


def contents(root: Path) -> dict[str, bytes]:
    """Every file by its path, except the manifest, which holds times."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and path.name != records.MANIFEST
    }


@pytest.fixture
def undisturbed(tmp_path) -> dict[str, bytes]:
    work(tmp_path / "undisturbed")
    return contents(tmp_path / "undisturbed")


def test_a_task_killed_at_any_step_continues_and_ends_the_same(tmp_path, undisturbed):
    with steps() as all_of_them:
        work(tmp_path / "counted")
    assert all_of_them.count > 6 * (PARTS + 1)
    made_before = PARTS + 1
    for last in range(all_of_them.count):
        root = tmp_path / str(last)
        with steps(last):
            work(root)
        if is_done(root):
            made = []
        else:
            record = records.journal(folder_of(root))
            whole = set(record.files) if record else set()
            before = {name: (folder_of(root) / name).stat().st_mtime_ns for name in whole}
            made = work(root)
            # What was on record is kept; all other files are made again.
            assert len(made) == PARTS + 1 - len(whole)
            assert before == {n: (folder_of(root) / n).stat().st_mtime_ns for n in whole}
        assert is_done(root)
        left = contents(root)
        if not made:
            left.pop(f"{folder_of(Path())}/{records.JOURNAL}", None)
        assert left == undisturbed, last
        assert len(made) <= made_before, "a later death cost more"
        made_before = len(made)
    assert made_before == 0


def test_clean_removes_what_a_task_killed_at_any_step_left(tmp_path):
    with steps() as all_of_them:
        work(tmp_path / "counted")
    with steps() as to_begin:
        records.Journal(folder_of(tmp_path / "begun"), ABOUT, places(tmp_path / "begun"))
    for last in range(all_of_them.count):
        root = tmp_path / str(last)
        with steps(last):
            work(root)
        cleaning.clean(*places(root), KINDS)
        left = [path.name for path in root.rglob("*") if path.is_file()]
        # Before the first journal has its name, nothing tells who made that file.
        assert left == [] or (left == [".journal.partial.jsonl"] and last < to_begin.count), last


def test_a_task_that_continues_may_be_killed_again(tmp_path, undisturbed):
    """Each attempt has one step more than the one before; in the end one finishes."""
    root = tmp_path / "run"
    attempts = 0
    while not is_done(root):
        with steps(attempts):
            work(root)
        attempts += 1
        assert attempts < 200
    assert attempts > 5
    left = contents(root)
    left.pop(f"{folder_of(Path())}/{records.JOURNAL}", None)
    assert left == undisturbed


def test_a_task_killed_after_its_manifest_was_written_is_done(tmp_path):
    """The journal is still there; the manifest counts."""
    work(tmp_path)
    journal = folder_of(tmp_path) / records.JOURNAL
    journal.write_text(json.dumps({"about": {}}) + "\n")
    assert is_done(tmp_path)
    assert work(tmp_path) == []
    assert not journal.exists()


@pytest.fixture
def interrupted(tmp_path) -> Path:
    """A task stopped when three of its files were whole and a fourth was half-written."""
    root = tmp_path / "interrupted"
    try:
        with (
            records.Journal(folder_of(root), ABOUT, places(root)) as journal,
            write.observed(journal),
        ):
            for number, path in enumerate(paths_of(root)[:PARTS]):
                write.array(path, np.full(4, number))
            with write.whole_file(paths_of(root)[-1]) as temporary:
                temporary.write_text("half")
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        return root


def test_a_journal_cut_off_at_any_byte_holds_what_was_whole_by_then(interrupted):
    path = folder_of(interrupted) / records.JOURNAL
    full = path.read_bytes()
    for length in range(len(full) + 1):
        path.write_bytes(full[:length])
        # A line counts when it is whole, with or without its line feed.
        lines = [
            json.loads(line) for line in full.splitlines() if full.find(line) + len(line) <= length
        ]
        record = records.journal(folder_of(interrupted))
        assert list(record.files) == [line["file"] for line in lines if "file" in line]
        assert record.begun == {line["writing"] for line in lines if "writing" in line}
        assert record.about == (ABOUT if lines else {})


def test_files_missing_from_a_cut_off_journal_are_made_again(interrupted, undisturbed):
    path = folder_of(interrupted) / records.JOURNAL
    full = path.read_bytes()
    last = full.rindex(b'{"file": "part-2.npy"')
    path.write_bytes(full[: last + 30])
    assert work(interrupted) == ["part-2.npy", "net.json"]
    assert contents(interrupted) == undisturbed


def test_a_file_that_is_not_in_the_journal_does_not_count(interrupted, undisturbed):
    """After a power cut a file may have its name, but not all of its bytes and no line."""
    path = folder_of(interrupted) / records.JOURNAL
    full = path.read_bytes()
    path.write_bytes(full[: full.index(b'{"writing": "part-2.npy"')])
    (folder_of(interrupted) / "part-2.npy").write_bytes(b"half")
    assert work(interrupted) == ["part-2.npy", "net.json"]
    assert contents(interrupted) == undisturbed


def test_files_edited_deleted_or_half_written_are_made_again(interrupted, undisturbed):
    edited, deleted, _, _ = paths_of(interrupted)
    content = bytearray(edited.read_bytes())
    content[-1] ^= 1
    edited.write_bytes(content)
    deleted.unlink()
    assert work(interrupted) == ["part-0.npy", "part-1.npy", "net.json"]
    assert contents(interrupted) == undisturbed


def test_a_file_that_was_being_written_does_not_count(interrupted, undisturbed):
    """It has its name, as after a rename, but the journal does not say yet that it is whole."""
    half = paths_of(interrupted)[-1]
    half.parent.mkdir(parents=True, exist_ok=True)
    half.write_text("anything")
    assert work(interrupted) == ["net.json"]
    assert contents(interrupted) == undisturbed


@pytest.mark.parametrize(
    "changed", [{"threads": 1}, {"versions": {"keras": "0"}}, {"needs": {"data": "other"}}]
)
def test_files_that_depend_on_something_else_are_deleted(interrupted, changed):
    other = {**ABOUT, **changed}
    with records.Journal(folder_of(interrupted), other, places(interrupted)) as journal:
        assert journal.record.files == {}
        assert [path for path in paths_of(interrupted) if path.exists()] == []
    assert work(interrupted, other) == [path.name for path in paths_of(interrupted)]
    # And the same when the first inputs come back.
    assert len(work(interrupted)) == PARTS + 1


def test_a_finished_task_that_is_done_again_keeps_its_unchanged_files(tmp_path, undisturbed):
    work(tmp_path)
    (folder_of(tmp_path) / "part-1.npy").unlink()
    assert work(tmp_path) == ["part-1.npy"]
    left = contents(tmp_path)
    assert {name: left[name] for name in undisturbed} == undisturbed


def test_notes_and_seconds_survive_an_interruption(interrupted):
    path = folder_of(interrupted) / records.JOURNAL
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[-2]["seconds"] = 1000.5  # of the last whole file
    lines.append({"note": "batches of 4 instead of 8"})
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    for _ in range(2):  # a second interruption adds nothing
        with records.Journal(folder_of(interrupted), ABOUT, places(interrupted)) as journal:
            assert journal.record.notes == ["batches of 4 instead of 8"]
            assert journal.record.seconds == 1000.5
    work(interrupted)
    record = records.manifest(folder_of(interrupted))
    assert record.notes == ["batches of 4 instead of 8"]
    assert 1000.5 < record.seconds < 1100


HOSTILE = (
    "../" * 8 + "outside/x.txt",
    "{outside}/x.txt",
    "link/x.txt",
    "\0",
    "x" * 5000,
    "\ud800",
    "",
    ".",
)


@pytest.mark.parametrize("kind", ["journal, begun", "journal, file", "manifest"])
@pytest.mark.parametrize("name", HOSTILE)
def test_an_untrusted_record_deletes_nothing_outside(tmp_path, undisturbed, kind, name):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "x.txt").write_text("mine")
    folder = folder_of(tmp_path)
    folder.mkdir(parents=True)
    (folder / "link").symlink_to(outside)
    name = name.format(outside=outside)
    if name.startswith("../"):
        name = os.path.relpath(outside / "x.txt", folder)
    facts = hashes.facts(outside / "x.txt")
    if kind == "manifest":
        made = {**ABOUT, "seconds": 1, "files": {name: facts}}
        (folder / records.MANIFEST).write_text(json.dumps(made))
    else:
        line = (
            {"writing": name} if "begun" in kind else {"file": name, "facts": facts, "seconds": 1}
        )
        (folder / records.JOURNAL).write_text(
            f"{json.dumps({'about': ABOUT})}\n{json.dumps(line)}\n"
        )
    copy = shutil.copytree(tmp_path, tmp_path.parent / f"{tmp_path.name}-copy", symlinks=True)
    for root, about in ((tmp_path, {**ABOUT, "threads": 9}), (copy, ABOUT)):
        work(root, about)
        assert {path.name for path in paths_of(root)} <= {p.name for p in root.rglob("*")}
    cleaning.clean(*places(tmp_path), KINDS)
    cleaning.clean(*places(copy), KINDS)
    assert (outside / "x.txt").read_text() == "mine"


def test_nothing_is_written_through_a_link_that_leads_out(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    place = paths_of(tmp_path)[-1].parent
    place.parent.mkdir(parents=True)
    place.symlink_to(outside)
    with pytest.raises(ValueError, match="which a link leads out of it"):
        work(tmp_path)
    assert list(outside.iterdir()) == []


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
FACTS = {"size": 1, "mtime_ns": 1, "sha256": "0"}
# Similar to a real record, so that every line of the reader is reached.
keys = st.sampled_from(
    ["about", "writing", "file", "facts", "seconds", "note", "files", "needs", "notes", "task"]
)
facts = st.just(FACTS) | st.fixed_dictionaries({key: json_values for key in FACTS})
near = st.dictionaries(keys, json_values | st.dictionaries(st.text(), facts | json_values))


@given(lines=st.lists(near | json_values))
@settings(max_examples=60)
def test_any_journal_can_be_read(tmp_path_factory, lines):
    folder = tmp_path_factory.mktemp("strange")
    (folder / records.JOURNAL).write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert isinstance(records.journal(folder), records.Record)


@given(content=near | json_values)
@settings(max_examples=60)
def test_any_manifest_can_be_read(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("strange")
    (folder / records.MANIFEST).write_text(json.dumps(content))
    record = records.manifest(folder)
    assert record is None or isinstance(record.about["needs"], dict)


@given(content=st.binary())
@settings(max_examples=60)
def test_any_bytes_record_nothing(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("strange")
    for name in (records.MANIFEST, records.JOURNAL):
        (folder / name).write_bytes(content)
    assert records.manifest(folder) is None
    assert records.journal(folder).files == {}


HUGE = "1" + 400 * "0"


@pytest.mark.parametrize(
    "seconds", [HUGE, f"-{HUGE}", "NaN", "Infinity", "true", f"{HUGE}{12 * HUGE}"]
)
def test_a_record_with_impossible_seconds_does_not_count(tmp_path, seconds):
    facts = json.dumps(FACTS)
    line = f'{{"file": "x", "facts": {facts}, "seconds": {seconds}}}\n'
    (tmp_path / records.JOURNAL).write_text(line)
    assert records.journal(tmp_path).files == {}
    manifest = f'{{"needs": {{}}, "files": {{"x": {facts}}}, "seconds": {seconds}}}'
    (tmp_path / records.MANIFEST).write_text(manifest)
    assert records.manifest(tmp_path) is None


def test_a_record_nested_too_deep_records_nothing(tmp_path):
    for name in (records.MANIFEST, records.JOURNAL):
        (tmp_path / name).write_text(100_000 * '{"needs":' + "1" + 100_000 * "}")
    assert records.manifest(tmp_path) is None
    assert records.journal(tmp_path) == records.Record()


def test_folders_with_the_names_of_records_record_nothing(tmp_path):
    for name in (records.MANIFEST, records.JOURNAL):
        (tmp_path / name).mkdir()
    assert records.manifest(tmp_path) is None
    assert records.journal(tmp_path) is None


def test_bytes_are_on_the_disk_before_the_name_and_both_before_the_record(tmp_path):
    """So a power cut never leaves a record of a file that is not whole."""
    told = []
    root, path = tmp_path, paths_of(tmp_path)[0]
    with (
        records.Journal(folder_of(root), ABOUT, places(root)) as journal,
        write.observed(journal),
    ):
        with watched(lambda kind, at: told.append((kind, at.name))):
            write.array(path, np.zeros(3))
        assert path in {folder_of(root) / name for name in journal.record.files}
    assert [step for step in told if step[0] in ("sync", "rename")] == [
        ("sync", ".part-0.partial.npy"),
        ("rename", "part-0.npy"),
        ("sync", folder_of(root).name),
        ("sync", "journal.jsonl"),
    ]


def test_a_published_file_has_its_new_name_on_the_disk_before_the_record_says_so(tmp_path):
    path, target = folder_of(tmp_path) / "report.md", places(tmp_path)[0] / "report.md"
    write.text(path, "new")
    write.text(target, "old")
    told = []
    with (
        records.Journal(folder_of(tmp_path), ABOUT, places(tmp_path)) as journal,
        write.observed(journal),
        watched(lambda kind, at: told.append((kind, at.name))),
    ):
        write.publish(path, target)
    assert [step for step in told if step[0] != "make folder"] == [
        ("rename", "report.md"),
        ("sync", "tiny"),
        ("sync", "journal.jsonl"),
    ]
    assert (path.exists(), target.read_text()) == (False, "new")
    assert journal.record.files.keys() == {"../../../../report.md"}
