"""``python -m benchmarks``: its names, and that some comparisons alone leave the page as it is."""

import importlib
import inspect

import pytest

from benchmarks import __main__ as bench
from benchmarks import processes


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
