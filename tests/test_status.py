"""The state of a run by its records and inputs: how far it is, and why a stage is not done."""

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import command, command_here, write_photo

from gradcam_adv.app import status
from gradcam_adv.app.cli import main
from gradcam_adv.app.pipeline import Pipeline
from gradcam_adv.files import write
from gradcam_adv.models import weights
from gradcam_adv.runs import records
from gradcam_adv.runs.tasks import Task
from gradcam_adv.study import config, paths
from gradcam_adv.study.stages.explain import Explain

STUDY = """
name = "tiny"
photos = "people"
image_size = 48
networks = ["vgg16", "resnet50"]
weights = "random"
epsilons = [0.02, 0.1]
arms = ["plain"]
examples = 2
[layers]
vgg16 = ["block5_conv3"]
resnet50 = ["conv5_block3_out"]
"""


def opened(folder: Path) -> Pipeline:
    study = config.read(folder / "study.toml", photos=str(folder / "people"))
    given = {"file": str(folder / "study.toml"), "photos": str(folder / "people")}
    return Pipeline(study, folder / "runs" / "tiny", folder / "models" / "tiny", given=given)


def task_of(folder: Path, name: str) -> tuple[Pipeline, Task]:
    own = opened(folder)
    return own, next(task for task in own.tasks()[""] if task.name == name)


def finish(own: Pipeline, task: Task, text: str = "made") -> None:
    """Put a task on record as done, with a file of any content."""
    runner = own.runner
    with records.Journal(task.folder, runner.about(task), runner.places) as journal:
        files = [task.folder / "made.txt", *([task.outside] if task.outside else [])]
        with write.observed(journal):
            for path in files:
                write.text(path, text)
            if "/evaluate/" in task.name:  # a report asks how large the maps are
                files.append(task.folder / "last-0000000.npz")
                write.arrays(files[-1], {"clean": np.zeros((1, 3, 3, 3))})
        journal.finish(files)


def begin(own: Pipeline, task: Task, file: str, **about: int) -> None:
    """Put a task on record as interrupted, with one file of it."""
    (task.folder / records.MANIFEST).unlink()
    about = own.runner.about(task) | about
    with (
        records.Journal(task.folder, about, own.runner.places) as journal,
        write.observed(journal),
    ):
        write.text(task.folder / file, "a part")


@pytest.fixture
def folder(tmp_path) -> Path:
    """A run whose data is really done; of all else up to the scores only records say so."""
    (tmp_path / "study.toml").write_text(STUDY)
    for person, name in enumerate(("ann", "bob", "cem")):
        for number in range(4):
            write_photo(tmp_path / "people" / name / f"{number}.png", 100 * person + number)
    own = opened(tmp_path)
    own.run("data")
    for task in own.tasks()[""][1:]:
        finish(own, task)
    return tmp_path


def states(folder: Path) -> dict[str, str]:
    """By stage, its state and the detail in one line."""
    rows = status.stages(opened(folder))
    return {row["stage"]: f"{row['state']}: {row['detail']}" for _, row in rows.iterrows()}


BEFORE_REPORT = ("data", "train", "attack", "evaluate", "explain", "score")


def test_everything_but_the_report_is_done(folder):
    assert states(folder) == dict.fromkeys(BEFORE_REPORT, "done: ") | {"report": "missing: "}


def test_without_records_every_stage_is_missing(folder):
    for path in (folder / "runs" / "tiny").rglob(records.MANIFEST):
        path.unlink()
    assert set(status.stages(opened(folder))["state"]) == {"missing"}


def test_another_image_size_is_named(folder):
    (folder / "study.toml").write_text(STUDY.replace("image_size = 48", "image_size = 64"))
    found = states(folder)
    assert found["data"] == "done: "
    assert "features/vgg16: image_size was 48, is 64" in found["train"]


def test_other_epsilons_are_named_and_keep_what_does_not_depend_on_them(folder):
    (folder / "study.toml").write_text(STUDY.replace("0.02, 0.1", "0.1, 0.2"))
    found = states(folder)
    for stage in ("data", "train", "attack"):
        assert found[stage] == "done: ", stage
    assert found["evaluate"].startswith("stale: 0 of 4 done; ")
    assert (
        "evaluate/vgg16: black-box was [0.0, 0.02, 0.1], is [0.0, 0.1, 0.2]; "
        "white-box was [0.0, 0.001, 0.002, 0.005, 0.02, 0.1], is "
    ) in found["evaluate"]
    assert found["explain"] == (
        "stale: 0 of 2 done; explain/resnet50: depends on plain/evaluate/resnet50; "
        "explain/vgg16: depends on plain/evaluate/vgg16"
    )
    assert found["score"].startswith("stale: 0 of ")


@pytest.mark.parametrize(("text", "said"), [("edited", "changed"), (None, "deleted")])
def test_a_file_edited_or_deleted_by_hand_is_named(folder, text, said):
    named = {task.name: task for task in opened(folder).tasks()[""]}
    path = named["plain/layers/summary"].folder / "made.txt"
    path.unlink() if text is None else path.write_text(text)
    found = states(folder)
    assert f"layers/summary: {path} {said} by hand" in found["score"]
    assert {stage for stage, state in found.items() if state == "done: "} == {*BEFORE_REPORT} - {
        "score"
    }


def test_what_depends_on_an_edited_file_is_stale_as_well(folder):
    path = folder / "models" / "tiny" / "plain" / "vgg16.keras"
    path.write_text("edited")
    found = states(folder)
    assert f"train/vgg16: {path} changed by hand" in found["train"]
    assert found["train"].startswith("stale: 3 of 4 done; ")
    assert found["attack"] == (
        "stale: 1 of 2 done; attack/vgg16: plain/train/vgg16 to be made again, or made again since"
    )


def test_other_weights_are_named(folder, monkeypatch):
    given = weights.Weights("file", Path("any.h5"), "0" * 64)
    monkeypatch.setattr(weights, "resolve", lambda _, names, **how: dict.fromkeys(names, given))
    found = states(folder)
    assert found["data"] == "done: "
    assert "features/vgg16: other weights; " in found["train"]
    assert found["attack"].startswith(
        "stale: 0 of 2 done; attack/resnet50: depends on plain/train/resnet50"
    )


def test_another_version_of_a_stage_is_named(folder, monkeypatch):
    monkeypatch.setattr(Explain, "version", Explain.version + 1)
    found = states(folder)
    assert "explain/vgg16: made by an earlier version of the stage" in found["explain"]
    assert found["evaluate"] == "done: "
    assert "layers/vgg16: depends on plain/explain/vgg16" in found["score"]


def test_a_changed_photo_makes_everything_stale(folder):
    write_photo(folder / "people" / "ann" / "0.png", 999)
    found = states(folder)
    assert found["data"] == "stale: data: other files"
    for stage in BEFORE_REPORT[1:]:
        assert found[stage].startswith("stale: 0 of "), stage


def test_a_task_that_is_partly_done_says_how_far(folder):
    begin(*task_of(folder, "plain/evaluate/vgg16"), "last-0000000.npz")
    found = states(folder)
    assert "evaluate/vgg16: 1 of 2 files" in found["evaluate"]
    assert found["attack"] == "done: "


def test_what_was_begun_with_other_threads_is_stale(folder):
    begin(*task_of(folder, "plain/score/vgg16"), "nissim-0000000.csv", threads=63)
    expected = "score/vgg16: it was begun with other threads, versions or inputs"
    assert expected in states(folder)["score"]


def test_the_command_shows_the_stages_and_how_to_continue(folder):
    result = command_here(folder, "status", "runs/tiny")
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0] == "runs/tiny: study tiny, photos people"
    assert re.search(r"^plain +data +done", result.stdout, re.MULTILINE)
    command_line = "gradcam-adv reproduce study.toml --photos people"
    assert lines[-1] == f"to continue this run: {command_line}"


def test_the_manifest_names_no_absolute_path_and_is_found_again_elsewhere(folder):
    own = opened(folder)
    own._write_manifest()
    text = (own.folder / records.MANIFEST).read_text()
    assert str(folder) not in text
    paths = [value for value in texts_in(json.loads(text)) if value.startswith("/")]
    assert paths == []
    moved = folder.with_name(f"{folder.name}-moved")
    folder.rename(moved)
    state = status.of_run(moved / "runs" / "tiny")
    assert state.photos == str(moved / "people")
    assert {row["stage"]: row["state"] for row in state.stages.to_dict("records")} == {
        **dict.fromkeys(BEFORE_REPORT, "done"),
        "report": "missing",
    }


def texts_in(content: object) -> Iterator[str]:
    if isinstance(content, dict | list):
        for item in content.values() if isinstance(content, dict) else content:
            yield from texts_in(item)
    elif isinstance(content, str):
        yield content


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ({"photos": "orl", "weights": "auto"}, {"photos": "orl", "weights": "auto"}),
        ({"photos": "lfw", "weights": None}, {"photos": "lfw", "weights": None}),
        ({"photos": "lfw:/data/l"}, {"photos": "lfw:../../../data/l"}),
        ({"photos": "/h/p", "weights": "/h/w"}, {"photos": "../p", "weights": "../w"}),
        ({"photos": "/h/r/orl", "weights": "/h/r/auto"}, {"photos": "./orl", "weights": "./auto"}),
        ({"photos": "/h/r/lfw:x"}, {"photos": "./lfw:x"}),
        ({"photos": 3, "classes": 4}, {"photos": 3, "classes": 4}),
    ],
)
def test_paths_of_a_study_are_relative_to_the_run_and_come_back(typed, kept):
    run = Path("/h/r")
    if "/data" in str(typed):
        run = Path("/h/r/q")
    assert paths.to_run(typed, run) == kept
    assert paths.from_run(kept, run) == typed


def test_the_command_comes_from_the_study_and_what_is_printed_is_text(folder):
    own = opened(folder)
    own._write_manifest()
    path = own.folder / records.MANIFEST
    content = json.loads(path.read_text())
    content["given"] |= {"command": "rm -rf ~", "photos": "no\n\x1b[2Jphotos; rm -rf ~"}
    content["given"] |= {"engine": "ray; rm -rf ~", "readings": "; rm -rf ~"}
    content["command"] = "rm -rf ~"
    write.json(path, content)
    (own.folder / "no\n\x1b[2Jphotos; rm -rf ~").symlink_to(folder / "people")
    state = status.of_run(own.folder)
    found = state.command.replace(str(folder), "HERE")
    assert found == (
        "gradcam-adv reproduce HERE/study.toml --runs HERE/runs --models HERE/models "
        "--photos 'HERE/runs/tiny/no\n\x1b[2Jphotos; rm -rf ~'"
    )
    result = CliRunner().invoke(main, ["status", str(own.folder)])
    assert result.exit_code == 0, result.output
    lines = result.stdout.removesuffix("\n").split("\n")
    assert all(line.isprintable() and len(line) <= 500 for line in lines)
    assert r"no\n\x1b[2Jphotos" in lines[0]


def test_the_command_has_the_engine_and_the_readings_but_no_address(folder):
    given = ["study.toml", "--photos", "people", "--runs", "runs", "--models", "models"]
    with contextlib.chdir(folder):
        assert CliRunner().invoke(main, ["data", *given]).exit_code == 0
    path = folder / "runs" / "tiny" / records.MANIFEST
    content = json.loads(path.read_text())
    assert content["given"] == {
        **{"file": "../../study.toml", "photos": "../../people", "weights": None},
        **{"engine": "local", "allow_left_out": False, "readings": False},
    }
    content["given"] |= {"engine": "ray", "address": "ray://elsewhere", "readings": True}
    write.json(path, content)
    with contextlib.chdir(folder):
        lines = status.of_run(Path("runs/tiny")).lines()
    command_line = "gradcam-adv readings study.toml --photos people --engine ray"
    assert lines[-2] == f"to continue this run: {command_line}"
    assert "add --address" in lines[-1]
    assert not any("elsewhere" in line for line in lines)


def test_readings_that_were_asked_for_have_lines_once_the_study_is_scored(folder):
    own = opened(folder)
    assert set(status.stages(own)["arm"]) == {"plain", ""}
    found = status.stages(own, all_readings=True).set_index(["arm", "stage"])["state"]
    assert found["plain, readings", "evaluate"] == found["readings", "score"] == "missing"
    (folder / "models" / "tiny" / "plain" / "vgg16.keras").unlink()
    assert set(status.stages(opened(folder), all_readings=True)["arm"]) == {"plain", ""}


def test_status_downloads_nothing(folder, monkeypatch, tmp_path):
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path / "nothing"))
    resolved = weights.resolve
    asked = []
    monkeypatch.setattr(
        weights, "resolve", lambda *of, **how: asked.append(how) or resolved(*of, **how)
    )
    own = opened(folder)
    own._write_manifest()
    asked.clear()
    status.of_run(own.folder)
    assert asked == [{"download": False}]
    path = own.folder / records.MANIFEST
    content = json.loads(path.read_text())
    content["given"]["photos"] = "lfw"
    write.json(path, content)
    with pytest.raises(ValueError, match="^Expected Labeled Faces in the Wild in .*nothing/lfw"):
        status.of_run(own.folder)
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("content", ['{"name": "My site", "icons": []}', "[]", "no JSON"])
def test_the_manifest_of_something_else_is_not_overwritten(folder, content):
    own = opened(folder)
    path = own.folder / records.MANIFEST
    path.write_text(content)
    with pytest.raises(ValueError, match=r"^Expected .*manifest\.json to be a run's, or not there"):
        own.run("data")
    assert path.read_text() == content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "which has no manifest.json"),
        ("{", "Expected a JSON object in"),
        ('{"study": {}, "models": "m"}', "Expected the manifest of a run of this version"),
        ('{"study": {"name": "../x"}, "models": "m", "given": {}}', "Expected name as the name of"),
        ('{"study": {"name": "x", "y": 1}, "models": "m", "given": {}}', "Expected keys out of"),
        ('{"study": {"name": "x", "photos": "no"}, "models": "m", "given": {}}', "is no folder"),
    ],
)
def test_a_folder_without_a_run_is_refused(tmp_path, content, message):
    if content is not None:
        (tmp_path / records.MANIFEST).write_text(content)
    with pytest.raises(ValueError, match=re.escape(message)):
        status.of_run(tmp_path)


def test_json_holds_the_same_as_the_table(folder):
    result = command(folder, "status", "runs/tiny", "--json")
    told = json.loads(result.stdout)
    state = status.of_run(folder / "runs" / "tiny")
    assert told["stages"] == state.stages.to_dict("records")
    assert {row["stage"]: row["state"] for row in told["stages"]} == {
        **dict.fromkeys(BEFORE_REPORT, "done"),
        "report": "missing",
    }
    assert (told["study"], told["at_work"], told["done"]) == ("tiny", None, False)
    assert told["command"] == "gradcam-adv reproduce study.toml --photos people"
