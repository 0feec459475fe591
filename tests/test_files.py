"""Files are whole or not there, and a changed file is noticed."""

import os

import numpy as np
import pandas as pd
import pytest

from gradcam_adv.files import hashes, read, write


def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")

    def fail():
        with write.whole_file(path) as temporary:
            temporary.write_text("half of the n")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_new_file_takes_the_place_of_the_old_one_only_when_it_is_whole(tmp_path):
    path = tmp_path / "deep" / "table.csv"
    with write.whole_file(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
        assert temporary.suffix == ".csv"
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def test_columns_of_text_stay_text_and_others_are_numbers(tmp_path):
    path = tmp_path / "t.csv"
    table = pd.DataFrame(
        {
            "identity": ["NA", "007", "nan"],
            "photo": ["a,b.png", 'c"d.png', "é.png"],
            "hash": ["0000000000000012", "12345678901234e5", ""],
            "psnr": [np.inf, np.nan, 1.5],
            "flipped": [True, False, True],
        }
    )
    write.table(path, table)
    found = read.table(path, text=["identity", "photo", "hash", "not there"])
    pd.testing.assert_frame_equal(found, table, check_dtype=False)
    assert read.table(path)["hash"].isna().tolist() == [False, False, True]


def test_a_table_written_in_parts_is_the_same_file(tmp_path):
    table = pd.DataFrame({"photo": ["a,b.png", "c.png", "d.png"], "psnr": [1.5, np.nan, np.inf]})
    write.table(tmp_path / "whole.csv", table)
    write.table_in_parts(tmp_path / "parts.csv", (table[i : i + 1] for i in range(3)))
    assert (tmp_path / "parts.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_arrays_come_back(tmp_path):
    arrays = {"clean": np.arange(6).reshape(2, 3), "black-box 0.1/a": np.ones(2, np.int8)}
    write.arrays(tmp_path / "a.npz", arrays)
    with read.arrays(tmp_path / "a.npz") as found:
        assert list(found) == list(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[name], array)


def test_a_changed_file_is_noticed_and_a_touched_one_is_not(tmp_path):
    path = tmp_path / "a" / "x.txt"
    write.text(path, "abc")
    facts = hashes.facts(path)
    assert hashes.is_unchanged(path, facts)
    os.utime(path, ns=(1, 1))
    assert hashes.is_unchanged(path, facts)
    path.write_text("abd")
    assert not hashes.is_unchanged(path, facts)
    path.unlink()
    assert not hashes.is_unchanged(path, facts)


def test_fingerprints_follow_from_the_content():
    first = hashes.fingerprint({"a": 1, "b": [2.0]})
    assert first == hashes.fingerprint({"b": [2.0], "a": 1})
    assert first != hashes.fingerprint({"a": 2, "b": [2.0]})


@pytest.mark.parametrize("text", ["{", "[1]", "\x00"])
def test_json_that_is_no_object_is_refused(tmp_path, text):
    (tmp_path / "m.json").write_text(text)
    with pytest.raises(ValueError, match=r"JSON object in .*m.json. Received"):
        read.json(tmp_path / "m.json")
