"""`compare` on runs whose tables are whole but odd: one line, or a result, never a traceback."""

import os
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from test_compare import STUDY, write_run

from gradcam_adv.app.cli import main
from gradcam_adv.files import hashes, read, write
from gradcam_adv.study.columns import TEXT, read_table

TABLES = ("photos.csv", "plain/predictions.csv", "plain/nissim.csv")


def put_into(run, name, change):
    """Change a table of a run, and have the report say that this is how it wrote it."""
    path = run / "tables" / name
    table = change(read_table(path))
    table.to_csv(path, index=False)
    report = run / "report" / "0a"
    manifest = read.json(report / "manifest.json")
    manifest["files"][os.path.relpath(path, report)] = hashes.facts(path)
    write.json(report / "manifest.json", manifest)


# What is done to one column, by name.
TO_A_COLUMN = {
    "renamed": lambda t, c: t.rename(columns={c: "other"}),
    "words": lambda t, c: t.assign(**{c: "word"}),
    "one word": lambda t, c: t.assign(**{c: ["word", *t[c].astype(str)[1:]]}),
    "empty": lambda t, c: t.assign(**{c: np.nan}),
    "truth values": lambda t, c: t.assign(**{c: True}),
    "infinite": lambda t, c: t.assign(**{c: np.inf}),
    "huge": lambda t, c: t.assign(**{c: "1" * 400}),
    "lists": lambda t, c: t.assign(**{c: "[1, 2]"}),
    "twice": lambda t, c: pd.concat([t, t[[c]]], axis=1),
}  # fmt: skip
# What is done to the whole table.
TO_A_TABLE = {
    "no rows": lambda t: t.iloc[:0],
    "one row": lambda t: t.iloc[:1],
    "each row twice": lambda t: pd.concat([t, t]),
    "half of the rows": lambda t: t.iloc[::2],
    "another order": lambda t: t.iloc[::-1],
    "one column": lambda t: t[["photo"]],
    "a further column": lambda t: t.assign(more=1),
}
COLUMNS = {
    "photos.csv": ["photo", "sha256"],
    "plain/predictions.csv": [
        *("photo", "identity", "network", "attack", "epsilon", "label", "predicted"),
    ],
    "plain/nissim.csv": [
        *("photo", "identity", "network", "attack", "epsilon", "target", "size", "nissim"),
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    study = replace(STUDY, networks=("resnet50",), epsilons=(0.0, 0.1))
    write_run(folder / "good", study)
    write_run(folder / "whole", study, seed=1)
    return folder


def compare(runs, name, change, order):
    shutil.rmtree(runs / "odd", ignore_errors=True)
    shutil.copytree(runs / "whole", runs / "odd")
    put_into(runs / "odd", name, change)
    return CliRunner().invoke(main, ["compare", *(str(runs / which) for which in order)])


def is_one_line_or_a_result(result):
    lines = [line for line in result.stderr.splitlines() if "Error" in line]
    if result.exit_code == 0:
        return not lines and "| " in result.stdout
    return (
        result.exit_code == 2
        and len(lines) == 1
        and lines[0].startswith("Error: Expected ")
        and "no such error" not in lines[0]
    )


@pytest.mark.parametrize("kind", TO_A_COLUMN)
@pytest.mark.parametrize("name", TABLES)
def test_an_odd_column_is_one_line_or_a_result(runs, name, kind):
    for column in COLUMNS[name]:
        result = compare(runs, name, lambda t, c=column: TO_A_COLUMN[kind](t, c), ["good", "odd"])
        assert is_one_line_or_a_result(result), (column, result.exception, result.output)


@pytest.mark.parametrize("kind", TO_A_TABLE)
@pytest.mark.parametrize("name", TABLES)
def test_an_odd_table_is_one_line_or_a_result(runs, name, kind):
    for order in (["good", "odd"], ["odd", "odd"]):
        result = compare(runs, name, TO_A_TABLE[kind], order)
        assert is_one_line_or_a_result(result), (order, result.exception, result.output)


@pytest.mark.parametrize(("name", "column"), [(n, c) for n in TABLES for c in COLUMNS[n]])
def test_a_column_that_is_missing_is_named(runs, name, column):
    result = compare(runs, name, lambda t: t.drop(columns=column), ["odd", "good"])
    assert result.exit_code == 2
    assert f"Expected a column {column} in" in result.stderr
    assert name in result.stderr


@pytest.mark.parametrize("name", TABLES)
def test_words_in_the_place_of_numbers_are_named(runs, name):
    for column in set(COLUMNS[name]) - TEXT:
        result = compare(runs, name, lambda t, c=column: t.assign(**{c: "word"}), ["odd", "good"])
        assert result.exit_code == 2
        assert f"Expected numbers in column {column} of" in result.stderr
