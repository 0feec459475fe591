"""Files are whole or not there, and a changed file is noticed."""

import os

import numpy as np
import pandas as pd
import pytest

from gradcam_adv.files import artifacts


def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")

    def fail():
        with artifacts.whole_file(path) as temporary:
            temporary.write_text("half of the n")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_new_file_takes_the_place_only_when_whole(tmp_path):
    path = tmp_path / "deep" / "table.csv"
    with artifacts.whole_file(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
        assert temporary.suffix == ".csv"
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def test_tables_keep_text_as_text(tmp_path):
    table = pd.DataFrame(
        {
            "identity": ["NA", "007", "nan"],
            "photo": ["a,b.png", 'c"d.png', "é.png"],
            "hash": ["0000000000000012", "12345678901234e5", ""],
            "psnr": [np.inf, np.nan, 1.5],
            "flipped": [True, False, True],
        }
    )
    artifacts.write_table(tmp_path / "t.csv", table)
    pd.testing.assert_frame_equal(
        artifacts.read_table(tmp_path / "t.csv"), table, check_dtype=False
    )


def test_arrays_come_back(tmp_path):
    arrays = {"clean": np.arange(6).reshape(2, 3), "black-box 0.1/a": np.ones(2, np.int8)}
    artifacts.write_arrays(tmp_path / "a.npz", arrays)
    with np.load(tmp_path / "a.npz") as loaded:
        for name, array in arrays.items():
            np.testing.assert_array_equal(loaded[name], array)


def test_changed_files_are_noticed_and_touched_ones_are_not(tmp_path):
    path = tmp_path / "a" / "x.txt"
    artifacts.write_text(path, "abc")
    described = artifacts.describe_files([path], tmp_path / "b")
    assert artifacts.files_intact(described, tmp_path / "b")
    os.utime(path, ns=(1, 1))
    assert artifacts.files_intact(described, tmp_path / "b")
    path.write_text("abd")
    assert not artifacts.files_intact(described, tmp_path / "b")
    path.unlink()
    assert not artifacts.files_intact(described, tmp_path / "b")


def test_fingerprints_follow_from_the_content():
    assert artifacts.fingerprint({"a": 1, "b": [2.0]}) == artifacts.fingerprint(
        {"b": [2.0], "a": 1}
    )
    assert artifacts.fingerprint({"a": 1}) != artifacts.fingerprint({"a": 2})


@pytest.mark.parametrize("text", ["{", "[1]", "\x00"])
def test_json_that_is_no_object_is_refused(tmp_path, text):
    (tmp_path / "m.json").write_text(text)
    with pytest.raises(ValueError, match=r"JSON object in .*m.json. Received"):
        artifacts.read_json(tmp_path / "m.json")
