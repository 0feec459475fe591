"""Small doors: what is deleted, overwritten, followed and printed when others had a hand in it."""

import json
import logging
import os

import keras
import pandas as pd
import pytest
from click.testing import CliRunner
from conftest import write_photo

from gradcam_adv.app import terminal
from gradcam_adv.app.cli import main
from gradcam_adv.app.errors import LogLines
from gradcam_adv.app.folder import FolderWork
from gradcam_adv.app.pipeline import clean_run
from gradcam_adv.files import hashes
from gradcam_adv.report.report import WriteReport, keep_changed_pages
from gradcam_adv.runs import locks, records
from gradcam_adv.study.stages.train import Train

# Deleting. By the record that asks for it: files that a task of its kind writes, and others.
OURS = {
    "plain/train/vgg16": ["history.csv", "checkpoint.npz", "MODELS/plain/vgg16.keras",
                          "MODELS/seed-1/aligned/vgg16.json"],
    "aligned/data": ["crops-0000032.npy", "photos.csv"],
    "report": ["report.html", "RUN/report.md", "RUN/tables/plain/mod.csv", "RUN/tables/claims.csv",
               "RUN/figures/plain/layers_vgg16_blocks.png", "RUN/figures/plain/figure_1.svg"],
}  # fmt: skip
THEIRS = {
    "plain/train/vgg16": ["notes.txt", "more/history.csv", "history.csv.bak", "RUN/notes.txt",
                          "RUN/report.md", "RUN/manifest.json", "MODELS/plain/mine.keras",
                          "MODELS/vgg16.keras", "RUN/plain/train/vgg16/ba9876543210/history.csv"],
    "aligned/data": ["excluded.txt", "MODELS/plain/vgg16.keras"],
    "report": ["RUN/report-kept-1.md", "RUN/mine/report.html", "RUN/tables/mine.csv",
               "RUN/figures/holiday.png", "MODELS/plain/vgg16.keras"],
    "plain/unknown/vgg16": ["history.csv", "notes.txt"],
}  # fmt: skip
PLACE = "0123456789ab"


@pytest.fixture
def places(tmp_path):
    return tmp_path / "runs" / "a", tmp_path / "models" / "a"


def put(places, task, names, kind):
    """Files, and a record of a task that names them; the files by name."""
    run, models = places
    folder = run / task / PLACE
    folder.mkdir(parents=True)
    files = {}
    for name in names:
        top = {"RUN": run, "MODELS": models}.get(name.partition("/")[0], folder)
        path = top / name.removeprefix("RUN/").removeprefix("MODELS/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("made")
        files[name] = path
    named = [os.path.relpath(path, folder) for path in files.values()]
    about = {"task": task, "fingerprint": PLACE, "needs": {}}
    if kind == "journal":
        lines = [{"about": about}, *({"writing": name} for name in named)]
        (folder / records.JOURNAL).write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    else:
        facts = {name: hashes.facts(folder / name) for name in named}
        content = about | {"seconds": 1, "files": facts}
        (folder / records.MANIFEST).write_text(json.dumps(content))
    return files


@pytest.mark.parametrize("kind", ["journal", "manifest"])
@pytest.mark.parametrize("task", THEIRS)
def test_clean_deletes_what_a_task_writes_and_nothing_else(places, task, kind):
    ours = OURS.get(task, [])
    files = put(places, task, [*ours, *THEIRS[task]], kind)
    clean_run(*places)
    assert [name for name, path in files.items() if path.exists()] == THEIRS[task]


@pytest.mark.parametrize("to", ["mine", "plain/train/mine"])
def test_a_record_that_was_moved_deletes_nothing(places, to):
    files = put(places, "plain/train/vgg16", ["history.csv"], "journal")
    moved = places[0] / to / PLACE
    moved.parent.mkdir()
    files["history.csv"].parent.rename(moved)
    assert clean_run(*places).removed == 0
    assert (moved / "history.csv").exists()


def test_a_task_that_starts_again_deletes_only_its_own_files(places):
    task = "plain/train/vgg16"
    files = put(places, task, [*OURS[task], *THEIRS[task]], "journal")
    about = {"task": task, "needs": {}, "threads": 9}
    with records.Journal(places[0] / task / PLACE, about, places, Train.names):
        pass
    assert [name for name, path in files.items() if path.exists()] == THEIRS[task]


def test_a_report_deletes_only_files_of_an_earlier_report(places):
    files = put(places, "report", [*OURS["report"], *THEIRS["report"]], "journal")
    now = places[0] / "report.md"
    report = object.__new__(WriteReport)
    vars(report).update(run=places[0], models=places[1])
    report._remove_earlier([now])
    left = [name for name, path in files.items() if path.exists()]
    assert left == ["RUN/report.md", *THEIRS["report"]]


# Overwriting.


def test_a_page_that_somebody_changed_or_made_is_kept(places, caplog):
    run = places[0]
    put(places, "report", ["RUN/report.md", "RUN/report.html"], "manifest")
    with caplog.at_level(logging.WARNING):
        keep_changed_pages(run)
        assert (run / "report.html").read_text() == "made" and not caplog.messages
        for number, content in enumerate(("edited", "edited again"), 1):
            (run / "report.html").write_text(content)
            keep_changed_pages(run)
            assert (run / f"report-kept-{number}.html").read_text() == content
    assert not (run / "report.html").exists() and (run / "report.md").exists()
    assert len(caplog.messages) == 2 and "report-kept-1.html" in caplog.messages[0]


def test_a_page_that_a_killed_report_was_moving_is_ours(places):
    put(places, "report", ["RUN/report.md"], "journal")
    keep_changed_pages(places[0])
    assert (places[0] / "report.md").exists()


# Following links, and two at a time.


@pytest.fixture
def work(tmp_path):
    """Work on two images with a small model, into the folder "out"."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Flatten()(keras.layers.Conv2D(2, 3)(inputs))
    keras.Model(inputs, keras.layers.Dense(2)(x)).save(tmp_path / "m.keras")
    for number in range(2):
        write_photo(tmp_path / "photos" / f"{number}.png", number)
    return FolderWork(
        tmp_path / "m.keras",
        tmp_path / "photos",
        tmp_path / "out",
        layers="last",
        epsilons=[0.1],
        explainer="gradcam",
        batch_size=2,
    )


def test_explain_follows_no_link_out_of_its_output_and_works_alone(tmp_path, work):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "out").mkdir()
    for place in ("heatmaps", "overlays"):
        link = tmp_path / "out" / place
        link.symlink_to(elsewhere)
        with pytest.raises(ValueError, match=f"^Expected .* inside .*out. Received: '{place}'"):
            work.explain()
        link.unlink()
    with locks.alone_in(tmp_path / "out"):
        for do in (work.explain, work.score):
            with pytest.raises(locks.Held, match="^Expected no other gradcam-adv at work in .*out"):
                do()
    (tmp_path / "out" / "images.csv").symlink_to(tmp_path / "mine.csv")
    (tmp_path / "mine.csv").write_text("mine")
    work.explain()
    assert (tmp_path / "mine.csv").read_text() == "mine"
    assert list(elsewhere.iterdir()) == []
    assert not (tmp_path / "out" / locks.LOCK).exists()


# One folder for two things, and models without heatmaps.


@pytest.mark.parametrize("name", ["data", "reproduce", "clean"])
def test_one_folder_for_runs_and_models_is_refused(tmp_path, name):
    (tmp_path / "x").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "x")
    both = ["--runs", str(tmp_path / "x"), "--models", str(tmp_path / "link")]
    result = CliRunner().invoke(main, [name, "study.toml", *both])
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: Expected two folders as --runs and --models.")


@pytest.mark.parametrize(
    "layers",
    [
        [keras.Input((8, 8, 3)), keras.layers.Flatten()],
        [
            keras.Input((8, 8, 3)),
            keras.layers.Reshape((64, 3)),
            keras.layers.Conv1D(2, 3),
            keras.layers.Flatten(),
        ],
    ],
)
def test_a_model_without_layers_to_explain_is_told_in_one_line(tmp_path, layers):
    keras.Sequential([*layers, keras.layers.Dense(2)]).save(tmp_path / "m.keras")
    result = CliRunner().invoke(main, ["layers", str(tmp_path / "m.keras")])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Error: Expected a model with layers of output (N, H, W, C).")


def test_layers_of_a_model_without_convolutions_are_listed(tmp_path):
    layers = [keras.Input((8, 8, 3)), keras.layers.MaxPooling2D(name="p"), keras.layers.Flatten()]
    keras.Sequential([*layers, keras.layers.Dense(2)]).save(tmp_path / "m.keras")
    result = CliRunner().invoke(main, ["layers", str(tmp_path / "m.keras")])
    assert result.exit_code == 0
    assert "| p " in result.stdout


# The terminal.

HOSTILE = "a\nError: b\x1b]0;x\x07\x9b2J\u202e" + "x" * 10_000


def printed(capsys):
    told = capsys.readouterr()
    lines = (told.out + told.err).removesuffix("\n").split("\n")
    assert all(line.isprintable() and len(line) <= 500 for line in lines), lines
    return lines


def test_names_reach_the_terminal_as_text(capsys):
    terminal.say(HOSTILE, err=True)
    assert len(printed(capsys)) == 1
    terminal.say(*terminal.table_lines(pd.DataFrame({"layer": [HOSTILE, "b"], "n": [1, 20]})))
    assert [line[-5:] for line in printed(capsys)] == ["  n |", "---:|", "  1 |", " 20 |"]
    record = logging.LogRecord("x", logging.WARNING, "", 0, "warning: %s", (HOSTILE,), None)
    LogLines().emit(record)
    assert len(printed(capsys)) == 1


def test_json_acts_on_no_terminal_and_loses_nothing(capsys):
    terminal.say_json({"name": HOSTILE, "table": pd.DataFrame({"x": ["é\x9b"]})})
    told = capsys.readouterr().out
    assert told.replace("\n", "").isprintable()
    assert json.loads(told) == {"name": HOSTILE, "table": [{"x": "é\x9b"}]}


@pytest.mark.parametrize("arguments", [["layers"], ["data"], ["status"], ["compare", "x"]])
def test_errors_are_one_line_that_acts_on_no_terminal(arguments):
    result = CliRunner().invoke(main, [*arguments, "\x1b[2J\x9b\u202ea\nError: b"])
    assert result.exit_code in (1, 2)
    assert result.stderr.startswith("Error: Expected")
    assert result.stderr.removesuffix("\n").isprintable()


def test_prose_is_cut_between_words_and_nothing_is_lost():
    prose = f"# a\n\n{'word ' * 300}\n| {'x' * 400} |"
    lines = terminal.in_lines(prose)
    assert max(map(len, lines)) <= 500
    assert " ".join(lines).split() == prose.split()
