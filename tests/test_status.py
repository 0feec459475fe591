"""How far a run is, and why a stage is not done, as far as its records and its inputs tell."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from conftest import command, write_photo

from gradcam_adv.app import pipeline, status
from gradcam_adv.files import artifacts
from gradcam_adv.models import weights
from gradcam_adv.runs import records
from gradcam_adv.study import config as study
from gradcam_adv.study import tasks

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


def opened(folder: Path) -> pipeline.Pipeline:
    read = study.read(folder / "study.toml", photos=str(folder / "people"))
    given = {"study": str(folder / "study.toml"), "photos": str(folder / "people")}
    given |= {"command": "gradcam-adv reproduce study.toml"}
    return pipeline.Pipeline(
        read, folder / "runs" / "tiny", folder / "models" / "tiny", given=given
    )


def finish(own: pipeline.Pipeline, task: tasks.Task, text: str = "made") -> None:
    """Put a task on record as done, with a file of any content."""
    places = (own.folder, own.models)
    with records.Journal(task.folder, own.about(task), places) as journal:
        files = [task.folder / "made.txt", *([task.model] if task.model else [])]
        with artifacts.observed(journal):
            for path in files:
                artifacts.write_text(path, text)
            if "/evaluate/" in task.name:  # a report asks how large the maps are
                files.append(task.folder / "last-0000000.npz")
                artifacts.write_arrays(files[-1], {"clean": np.zeros((1, 3, 3, 3))})
        journal.finish(files)


@pytest.fixture
def folder(tmp_path) -> Path:
    """A run of which data is done for real, and all else up to score as far as records tell."""
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
    """By stage, its state and the detail in one line, as they are now."""
    rows = status.stages(opened(folder))
    return {row["stage"]: f"{row['state']}: {row['detail']}" for _, row in rows.iterrows()}


BEFORE_REPORT = ("data", "train", "attack", "evaluate", "explain", "score")


def test_done_up_to_the_report(folder):
    assert states(folder) == dict.fromkeys(BEFORE_REPORT, "done: ") | {"report": "missing: "}


def test_nothing_begun(folder):
    (folder / "study.toml").write_text(STUDY.replace("image_size = 48", "image_size = 64"))
    found = states(folder)
    assert found["data"] == "done: "
    assert "image_size was 48, is 64" in found["train"]
    fresh = opened(folder)
    for path in (folder / "runs" / "tiny").rglob("manifest.json"):
        path.unlink()
    assert set(status.stages(fresh)["state"]) == {"missing"}


def test_other_epsilons_say_so_and_keep_what_does_not_hang_on_them(folder):
    (folder / "study.toml").write_text(STUDY.replace("0.02, 0.1", "0.1, 0.2"))
    found = states(folder)
    for stage in ("data", "train", "attack"):
        assert found[stage] == "done: ", stage
    assert found["evaluate"].startswith("stale: 0 of 3 done; ")
    assert "other levels" in found["evaluate"]
    assert found["explain"] == (
        "stale: 0 of 2 done; explain/vgg16: hangs on plain/evaluate/vgg16; "
        "explain/resnet50: hangs on plain/evaluate/resnet50"
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


def test_what_hangs_on_an_edited_file_is_stale_as_well(folder):
    path = folder / "models" / "tiny" / "plain" / "vgg16.keras"
    path.write_text("edited")
    found = states(folder)
    assert f"train/vgg16: {path} changed by hand" in found["train"]
    assert found["train"].startswith("stale: 3 of 4 done; ")
    assert found["attack"] == (
        "stale: 1 of 2 done; attack/vgg16: plain/train/vgg16 to be made anew, or made anew since"
    )


def test_other_weights_say_so(folder, monkeypatch):
    given = weights.Weights("file", Path("any.h5"), "0" * 64)
    monkeypatch.setattr(weights, "resolve", lambda _, names: dict.fromkeys(names, given))
    found = states(folder)
    assert found["data"] == "done: "
    assert "features/vgg16: weights was ['random', None], is " in found["train"] or (
        "features/vgg16: other weights" in found["train"]
    )
    assert found["attack"].startswith(
        "stale: 0 of 2 done; attack/vgg16: hangs on plain/train/vgg16"
    )


def test_another_version_of_a_stage_says_so(folder, monkeypatch):
    monkeypatch.setitem(tasks.VERSIONS, "explain", tasks.VERSIONS["explain"] + 1)
    found = states(folder)
    assert "explain/vgg16: made by an earlier version of the stage" in found["explain"]
    assert found["evaluate"] == "done: "
    assert "layers/vgg16: hangs on plain/explain/vgg16" in found["score"]


def test_a_changed_photo_makes_everything_stale(folder):
    write_photo(folder / "people" / "ann" / "0.png", 999)
    found = states(folder)
    assert found["data"] == "stale: data: other files"
    for stage in BEFORE_REPORT[1:]:
        assert found[stage].startswith("stale: 0 of "), stage


def test_partly_done_says_how_far(folder):
    own = opened(folder)
    task = next(t for t in own.tasks()[""] if t.name == "plain/evaluate/vgg16")
    (task.folder / artifacts.MANIFEST).unlink()
    with (
        records.Journal(task.folder, own.about(task), (own.folder, own.models)) as journal,
        artifacts.observed(journal),
    ):
        artifacts.write_text(task.folder / "last-0000000.npz", "a part")
    found = states(folder)
    assert "evaluate/vgg16: 1 of 2 files" in found["evaluate"]
    # What hangs on it was made of what it was before.
    assert found["train"] == "done: "


def test_what_was_begun_otherwise_is_stale(folder, monkeypatch):
    own = opened(folder)
    task = next(t for t in own.tasks()[""] if t.name == "plain/score/vgg16")
    (task.folder / artifacts.MANIFEST).unlink()
    about = own.about(task) | {"threads": 63}
    with (
        records.Journal(task.folder, about, (own.folder, own.models)) as journal,
        artifacts.observed(journal),
    ):
        artifacts.write_text(task.folder / "nissim-0000000.csv", "a part")
    assert (
        "score/vgg16: it was begun with other threads, versions or inputs"
        in (states(folder)["score"])
    )


def test_the_command_judges_by_the_study_s_file_and_says_how_to_go_on(folder):
    result = command(folder, "status", "runs/tiny")
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0] == f"runs/tiny: study tiny, photos {folder / 'people'}"
    assert re.search(r"^plain +data +done", result.stdout, re.MULTILINE)
    assert lines[-1] == (
        "the command of this run, which goes on from here: gradcam-adv reproduce study.toml"
    )


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
def test_a_folder_that_is_no_run_s_is_refused(tmp_path, content, message):
    if content is not None:
        (tmp_path / artifacts.MANIFEST).write_text(content)
    with pytest.raises(ValueError, match=re.escape(message)):
        status.of_run(tmp_path)


def test_as_json_it_is_what_the_table_says(folder):
    result = command(folder, "status", "runs/tiny", "--json")
    told = json.loads(result.stdout)
    state = status.of_run(folder / "runs" / "tiny")
    assert told["stages"] == state.stages.to_dict("records")
    assert {row["stage"]: row["state"] for row in told["stages"]} == {
        **dict.fromkeys(BEFORE_REPORT, "done"),
        "report": "missing",
    }
    assert (told["study"], told["at_work"], told["done"]) == ("tiny", None, False)
    assert told["command"] == "gradcam-adv reproduce study.toml"
