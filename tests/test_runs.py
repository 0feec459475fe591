"""Tasks and the runner, with a small made-up kind of task and without a study."""

import io
import logging
import os
import pickle
import re
import sys
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from gradcam_adv.batching import BatchHalved
from gradcam_adv.files import write
from gradcam_adv.runs import records
from gradcam_adv.runs.engines import Local, Sliced
from gradcam_adv.runs.progress import Bar, Whole
from gradcam_adv.runs.runner import Runner
from gradcam_adv.runs.tasks import Task, counted_as, not_an_input


@dataclass(frozen=True, kw_only=True)
class Options:
    size: int = 1
    place: Path = not_an_input()
    source: Task | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Joined(Task):
    """Writes a text and the texts of its sources into one file."""

    kind = "joined"
    stage = "joining"
    version = 1

    label: str
    text: str
    options: Options
    sources: Mapping[str, Task]
    pairs: tuple[object, ...]
    rows: pd.DataFrame = counted_as(len, travels=False)
    made: list[str] = counted_as(lambda _: None, travels=False)
    unused: object = not_an_input()

    @property
    def name(self) -> str:
        return f"joined/{self.label}"

    @property
    def file(self) -> Path:
        return self.folder / "text.txt"

    def make(self, engine):
        self.made.append(self.label)
        write.text(self.file, self.text + "".join(s.file.read_text() for s in self.needs))
        return [self.file]


class OnNetworks(Joined):
    runs_networks = True


@pytest.fixture
def joined(tmp_path):
    """A task with the inputs given; the labels of those that were made are in ``made``."""
    usual = {
        "run": tmp_path / "run",
        "text": "text",
        "options": Options(place=tmp_path),
        "sources": {},
        "pairs": (),
        "rows": pd.DataFrame({"a": [1, 2]}),
        "made": [],
        "unused": None,
    }

    def made(label: str = "a", kind: type[Joined] = Joined, **inputs):
        return kind(label=label, **(usual | inputs))

    return made


@pytest.fixture
def runner(tmp_path):
    """A runner that counts how often it starts the networks; a function of what is in common."""

    def made(started: list[bool] | None = None, **common):
        return Runner(
            tmp_path / "run",
            tmp_path / "models",
            common={"threads": 1} | common,
            engine=Local(),
            start=lambda: None if started is None else started.append(True),
        )

    return made


def test_the_fingerprint_follows_from_the_name_and_the_inputs(joined, tmp_path, monkeypatch):
    task = joined()
    assert task.folder == tmp_path / "run" / "joined" / "a" / task.fingerprint[:12]
    others = [
        joined("b"),
        joined(text="other"),
        joined(options=Options(size=2, place=tmp_path)),
        joined(options=Options(place=tmp_path, source=joined("b"))),
        joined(sources={"b": joined("b")}),
        joined(sources={"b": joined("b", text="other")}),
        joined(sources={"c": joined("b")}),
        joined(pairs=((1, joined("b")),)),
        joined(rows=pd.DataFrame({"a": [1, 2, 3]})),
    ]
    prints = [task.fingerprint, *(other.fingerprint for other in others)]
    assert len(set(prints)) == 1 + len(others)
    monkeypatch.setattr(Joined, "version", 2)
    assert joined().fingerprint not in prints


def test_the_fingerprint_does_not_depend_on_what_is_no_input(joined, tmp_path):
    same = joined(
        run=tmp_path / "elsewhere",
        options=Options(place=tmp_path / "elsewhere"),
        rows=pd.DataFrame({"a": [3, 4]}),
        made=["b"],
        unused=joined("b"),
    )
    assert same.fingerprint == joined().fingerprint


def test_needs_are_found_in_nested_values(joined, tmp_path):
    of_b = joined("b")
    needs = [joined(label, sources={"b": of_b}) for label in "cdefg"]
    c, d, e, f, g = needs
    task = joined(
        options=Options(place=tmp_path, source=c),
        sources={"d": d, "again": c},
        pairs=((1, e), {"x": {"y": f}}, Options(place=tmp_path, source=g)),
        unused=joined("no need"),
    )
    assert {need.name for need in task.needs} == {need.name for need in needs}
    assert len(task.needs) == 5
    assert of_b.needs == ()


def test_needs_of_the_same_name_are_all_found(joined):
    """Such as the scores of two seeds."""
    sources = {text: joined("b", text=text) for text in ("one", "two")}
    assert joined(sources=sources).needs == tuple(sources.values())


def test_a_pickled_task_keeps_its_fingerprint_and_drops_what_does_not_travel(joined):
    source = joined("b")
    task = joined(sources={"b": source})
    there = pickle.loads(pickle.dumps(task))
    assert (there.fingerprint, there.folder) == (task.fingerprint, task.folder)
    assert there.sources["b"].folder == source.folder
    assert (there.text, there.options, there.unused) == (task.text, task.options, None)
    for pickled in (there, there.sources["b"]):
        assert not hasattr(pickled, "rows")
        assert not hasattr(pickled, "made")


def test_a_result_is_the_content_of_the_files_and_gone_if_they_are_changed(joined, runner):
    task = joined()
    assert (task.record(), task.result(), task.files_due()) == (None, None, None)
    runner().do([task])
    result = task.result()
    assert result is not None
    assert task.record().about["fingerprint"] == task.fingerprint
    os.utime(task.file, ns=(1, 1))
    assert task.result() == result
    content = task.file.read_text()
    task.file.write_text("edit")
    assert task.result() is None
    task.file.write_text(content)
    assert task.result() == result
    task.file.unlink()
    assert task.result() is None


def test_the_runner_makes_what_is_not_done_and_nothing_else(joined, runner):
    made = []
    first, second = joined("first", made=made), joined("second", made=made)
    third = joined("third", sources={"first": first}, made=made)
    assert not runner().is_done(first)
    assert runner().do([first, second])
    assert runner().do([first, second, third])
    assert made == ["first", "second", "third"]
    assert third.file.read_text() == "texttext"
    assert not runner().do([first, second, third])
    # Made again with the same content, so what depends on it stays.
    first.file.write_text("edited")
    assert not runner().is_done(third)
    assert runner().do([first, second, third])
    assert made == ["first", "second", "third", "first"]


def test_what_depends_on_a_task_that_came_out_differently_is_made_again(joined, runner):
    made = []
    first = joined("first", made=made)
    second = joined("second", sources={"first": first}, made=made)
    runner().do([first, second])
    first.file.unlink()
    object.__setattr__(first, "text", "other ")  # its fingerprint stays
    runner().do([first, second])
    assert made == ["first", "second"] * 2
    assert second.file.read_text() == "textother "


def test_networks_are_started_for_tasks_that_run_them_and_are_not_done(joined, runner):
    started = []
    tasks = [joined("plain"), joined("networks", OnNetworks)]
    runner(started).do(tasks[:1])
    assert started == []
    runner(started).do(tasks)
    assert started == [True]
    runner(started).do(tasks)
    assert started == [True]


def test_a_done_task_has_its_record_and_no_journal(joined, runner):
    task = joined()
    runner().do([task])
    journal = task.folder / records.JOURNAL
    assert not journal.exists()
    journal.write_text("{}\n")  # as after a kill
    runner().do([task])
    assert not journal.exists()
    assert task.record().about == runner().about(task)
    assert task.record().about["threads"] == 1


class InSlices(Joined):
    """Writes the rows, one file per row; stops at the row ``stop``."""

    stop = None

    def make(self, engine):
        def begin():
            def write_slice(name, rows):
                if int(name) == self.stop:
                    raise KeyboardInterrupt
                self.made.append(name)
                write.table(self.folder / f"{name}.csv", rows)

            return write_slice

        return engine.run(Sliced(self.name, self.rows, self.files, begin, length=1))

    def files(self, name, _):
        return [self.folder / f"{name}.csv"]


@pytest.mark.parametrize(("threads", "again"), [(1, ["0000001"]), (2, ["0000000", "0000001"])])
def test_an_interrupted_task_continues_if_it_is_done_in_the_same_way(
    joined, runner, monkeypatch, caplog, threads, again
):
    task = joined(kind=InSlices)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(InSlices, "stop", 1)
        runner().do([task])
    task.made.clear()
    caplog.set_level(logging.INFO, "gradcam_adv")
    runner(threads=threads).do([task])
    assert task.made == again
    assert (f"{task.name}: goes on, 1 files are there" in caplog.text) == (threads == 1)
    assert len(task.record().files) == 2


class Warns(Joined):
    def make(self, engine):
        warnings.warn("batches of 4 instead of 8", BatchHalved, stacklevel=1)
        warnings.warn("of another kind", UserWarning, stacklevel=1)
        return super().make(engine)


def test_a_halved_batch_is_logged_and_recorded(joined, runner, caplog):
    task = joined(kind=Warns)
    with pytest.warns(UserWarning, match="of another kind"):
        runner().do([task])
    assert task.record().notes == ["batches of 4 instead of 8"]
    assert "warning: batches of 4 instead of 8" in caplog.text
    assert "of another kind" not in caplog.text


def test_a_task_may_not_write_outside_the_folders_of_run_and_models(joined, runner, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "joined").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="which a link leads out of it"):
        runner().do([joined()])
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_bar_tells_the_share_that_is_done(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    told = []
    with Bar("attack", pd.DataFrame(index=range(8)), told.append) as bar:
        bar.update(2)
        bar.update(6)
    assert told == [0.25, 1]


def test_the_bar_of_the_whole_run_has_the_time_left(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Whole("study, all of it", 10) as whole:
        time.sleep(0.2)
        with whole.task(4) as advance:
            advance(0.5)
            shown = terminal.getvalue()
    assert "study, all of it:  20%" in shown
    assert re.search(r"00:00 so far, 00:00 left", shown)


def test_a_task_that_is_done_counts_with_its_whole_effort(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with Whole("all", 10) as whole:
        with whole.task(4) as advance:
            advance(0.5)
        with whole.task(6):
            pass
        assert whole._bar.n == 10
