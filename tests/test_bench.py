"""``python -m benchmarks``: its names, and that some comparisons alone leave the page as it is."""

import importlib
import inspect

import pytest

from benchmarks import __main__ as bench
from benchmarks import processes, revisions


@pytest.mark.parametrize("name", bench.COMPARISONS)
def test_every_name_stands_for_a_function_of_one_argument(name):
    module, function = bench.COMPARISONS[name][0].split(".")
    compare = getattr(importlib.import_module(f"benchmarks.{module}"), function)
    annotations = [given.annotation for given in inspect.signature(compare).parameters.values()]
    assert annotations == ["str"]


def test_some_comparisons_are_printed_and_no_page_is_written(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(bench, "PAGE", tmp_path / "benchmarks.md")
    monkeypatch.setattr(
        processes, "alone", lambda compare, of: {"what": compare.__name__, "of": of}
    )
    bench.main(["faces", "nissim"])
    printed = capsys.readouterr().out
    rows = [line.split("|")[1:3] for line in printed.splitlines()[2:]]
    assert [[cell.strip() for cell in row] for row in rows] == [
        ["against_naive_loop", "112"],
        ["against_naive_loop", "250"],
        ["against_scikit_image", "7"],
        ["against_scikit_image", "224"],
    ]
    assert not list(tmp_path.iterdir())


def test_an_unknown_name_is_an_error_that_lists_the_names(capsys):
    with pytest.raises(SystemExit, match="2"):
        bench.main(["nisim"])
    assert "Expected names out of gradient, tf-keras-vis" in (said := capsys.readouterr().err)
    assert "Received: nisim" in said


def test_a_revision_runs_with_its_own_code_and_its_processor_time_counts(tmp_path):
    package = tmp_path / "checkout" / "gradcam_adv" / "app"
    package.mkdir(parents=True)
    (package / "cli.py").write_text(
        "import pathlib, sys, time\n"
        "def main():\n"
        "    while time.process_time() < 0.5: pass\n"
        "    time.sleep(0.2)\n"
        "    pathlib.Path('said').write_text(' '.join(sys.argv[1:]))\n"
    )
    for folder in (package.parent, package):
        (folder / "__init__.py").touch()
    work, file = tmp_path / "work", tmp_path / "small.toml"
    taken = revisions.study(tmp_path / "checkout", work, file, "train")
    assert (work / "said").read_text() == f"train {file}"
    assert taken["processor seconds"] == pytest.approx(0.5, abs=0.15)
    assert taken["seconds"] > taken["processor seconds"]


def test_files_of_other_bytes_or_of_one_side_differ_and_records_of_times_do_not(tmp_path):
    sides = {"old": {"a/x": "1", "a/y": "1", "z": "1"}, "new": {"a/x": "1", "a/y": "2", "w": "1"}}
    for side, contents in sides.items():
        for name, content in (contents | {"a/manifest.json": side, "report.html": side}).items():
            path = tmp_path / side / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
    assert revisions.differences(tmp_path / "old", tmp_path / "new") == ["a/y", "w", "z"]
