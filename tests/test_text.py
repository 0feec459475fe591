"""Text out of files: on a line that acts on no terminal, and in tables that start no formula."""

import io

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradcam_adv.files import read, text, write

# Every kind of character that does not print as itself, and what people really call their files.
ACTING = st.sampled_from(
    "\x00\x07\x08\t\n\r\x1b\x7f\x85\x9b\u00a0\u200b\u2028\u2029\u202e\u2066\ud800"
)
names = st.text(st.one_of(ACTING, st.characters()), max_size=60)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("Zoë 7 (50 %)", "Zoë 7 (50 %)"),
        ("a\nError: b", r"a\nError: b"),
        ("\x1b[2J\x9b1m\x07", r"\x1b[2J\x9b1m\x07"),
        ("gnp.\u202eexe", r"gnp.\u202eexe"),
        ("\udcff", r"\udcff"),
        ("x" * 201, f"{'x' * 99} … {'x' * 98}"),
        (17, "17"),
    ],
)
def test_a_name_is_shown_on_one_line(name, line):
    assert text.shown(name) == line


@given(names, st.integers(5, 30))
def test_what_is_shown_prints_as_itself_and_has_its_length(name, most):
    shown = text.shown(name, most)
    assert shown.isprintable() and len(shown) <= most
    assert text.shown(shown, most) == shown
    if name.isprintable() and len(name) <= most:
        assert shown == name


formulas = st.text("'=+-@\t\r\n0a", max_size=5)
# What a table can hold: no halves of characters, which are no UTF-8, and no null.
cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=9)


@given(formulas | cells)
def test_a_cell_is_no_formula_and_is_undone(name):
    cell = text.as_cell(name)
    assert not cell.startswith(tuple("=+-@\t\r\n"))
    assert text.from_cell(cell) == name
    assert cell in (name, f"'{name}")


@given(st.lists(st.tuples(formulas | cells, st.floats(allow_nan=False)), min_size=1, max_size=5))
def test_a_table_is_read_as_it_was_written(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("tables") / "t.csv"
    table = pd.DataFrame(rows, columns=["photo", "number"])
    write.table(path, table)
    found = read.table(path, {"photo"})
    assert found["photo"].tolist() == table["photo"].tolist()
    assert found["number"].tolist() == table["number"].tolist()
    # As a spreadsheet sees it.
    raw = pd.read_csv(io.StringIO(path.read_bytes().decode()), dtype=str, keep_default_na=False)
    assert not any(cell.startswith(tuple("=+-@\t\r\n")) for cell in raw["photo"])


def test_numbers_and_parts_of_tables_are_written_as_they_are(tmp_path):
    parts = [pd.DataFrame({"photo": [name], "x": [-0.5]}) for name in ("-a", "b")]
    write.table_in_parts(tmp_path / "t.csv", parts)
    assert (tmp_path / "t.csv").read_text() == "photo,x\n'-a,-0.5\nb,-0.5\n"
    # A column of names is undone also where nobody says that it is text.
    assert read.table(tmp_path / "t.csv")["photo"].tolist() == ["-a", "b"]
