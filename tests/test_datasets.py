"""The table of photos: who, which split, and what is left out with its reason."""

import os
import shutil

import pytest
from conftest import write_photo
from hypothesis import given
from hypothesis import strategies as st

from gradcam_adv import datasets


def table(source, **changes):
    settings = {
        "identities": None,
        "maximum_photos": None,
        "split": (0.8, 0.1, 0.1),
        "image_size": 16,
        "seed": 0,
    }
    return datasets.make_table(datasets.list_photos(str(source)), **settings | changes)


def test_orl_is_there_without_a_network():
    listing = datasets.list_photos("orl")
    assert len(listing.files) == 400
    assert listing.files["identity"].nunique() == 40
    assert listing.files["sha256"].nunique() == 400


def test_split_is_stratified(photo_folder):
    kept = table(photo_folder).kept
    counts = kept.groupby(["identity", "split"]).size().unstack()
    assert (counts["train"] == 8).all()
    assert (counts["validation"] == 1).all()
    assert (counts["test"] == 1).all()
    assert kept.groupby("identity")["label"].unique().map(list).to_dict() == {
        "ann": [0],
        "bob": [1],
        "cem": [2],
    }


def test_split_follows_from_the_seed(photo_folder):
    first = table(photo_folder).kept
    assert first.equals(table(photo_folder).kept)
    assert not first.equals(table(photo_folder, seed=1).kept)


def test_an_identitys_split_does_not_hang_on_the_others(photo_folder):
    whole = table(photo_folder).kept
    shutil.rmtree(photo_folder / "bob")
    fewer = table(photo_folder).kept
    cem = whole[whole["identity"] == "cem"].set_index("photo")["split"]
    assert cem.equals(fewer[fewer["identity"] == "cem"].set_index("photo")["split"])


def test_three_photos_are_one_for_each_split(tmp_path):
    for name in ("a", "b"):
        for number in range(3):
            write_photo(tmp_path / name / f"{number}.png", 10 * ord(name) + number)
    assert (
        sorted(table(tmp_path).kept["split"])
        == ["test", "test", "train", "train"] + ["validation"] * 2
    )


def test_exact_duplicates_never_straddle_splits(photo_folder):
    for number in range(8):
        shutil.copy(photo_folder / "ann" / "0.png", photo_folder / "ann" / f"copy{number}.png")
    shutil.copy(photo_folder / "ann" / "1.png", photo_folder / "bob" / "same.png")
    result = table(photo_folder)
    assert result.kept["sha256"].is_unique
    reasons = result.excluded.set_index("photo")["reason"]
    assert reasons["ann/copy3.png"] == "exact duplicate of ann/0.png"
    assert reasons["bob/same.png"] == "exact duplicate of ann/1.png"
    assert len(reasons) == 9


def test_what_cannot_be_read_is_listed_with_its_reason(photo_folder):
    (photo_folder / "ann" / "empty.jpg").write_bytes(b"")
    (photo_folder / "bob" / "text.png").write_text("words")
    result = table(photo_folder)
    assert dict(zip(result.excluded["photo"], result.excluded["reason"], strict=True)) == {
        "ann/empty.jpg": "empty file",
        "bob/text.png": "not an image",
    }
    assert len(result.kept) == 30


def test_identities_are_chosen_by_the_seed():
    chosen = {
        seed: tuple(table("orl", identities=5, seed=seed).kept["identity"].unique())
        for seed in range(3)
    }
    assert all(len(names) == 5 for names in chosen.values())
    assert len(set(chosen.values())) == 3


def test_maximum_photos(photo_folder):
    assert (table(photo_folder, maximum_photos=6).kept.groupby("identity").size() == 6).all()


def test_hidden_files_and_other_files_are_no_photos(photo_folder):
    (photo_folder / "Thumbs.db").write_text("x")
    (photo_folder / ".git").mkdir()
    (photo_folder / "ann" / "notes.txt").write_text("x")
    (photo_folder / "ann" / "._0.png").write_text("x")
    assert len(datasets.list_photos(str(photo_folder)).files) == 30


def test_refuses_no_folder(tmp_path):
    with pytest.raises(ValueError, match="photos 'orl' or a folder .*which is no folder"):
        datasets.list_photos(str(tmp_path / "none"))


def test_refuses_a_folder_without_photos(tmp_path):
    (tmp_path / "ann").mkdir()
    with pytest.raises(ValueError, match=r"Expected photos \(.jpg.*Received: none"):
        datasets.list_photos(str(tmp_path))


def test_refuses_one_identity(photo_folder):
    shutil.rmtree(photo_folder / "ann")
    shutil.rmtree(photo_folder / "bob")
    with pytest.raises(ValueError, match=r"at least two identities .*Received: 1 \(cem\)"):
        table(photo_folder)


def test_refuses_too_few_photos_of_an_identity(photo_folder):
    for number in range(8):
        (photo_folder / "bob" / f"{number}.png").unlink()
    with pytest.raises(ValueError, match="at least 3 usable photos .*Received: 2 of 'bob'"):
        table(photo_folder)


def test_refuses_more_identities_than_there_are(photo_folder):
    with pytest.raises(ValueError, match="identities of at most 3.*Received: 4"):
        table(photo_folder, identities=4)


shares = st.floats(0.01, 1)


@given(st.integers(3, 200), st.tuples(shares, shares, shares))
def test_every_split_gets_a_photo_whatever_the_shares(count, weights):
    split = tuple(weight / sum(weights) for weight in weights)
    made = datasets._splits(count, split)
    assert len(made) == count
    assert set(made) == set(datasets.SPLITS)


def test_files_that_cannot_be_opened_are_listed(photo_folder):
    (photo_folder / "ann" / "gone.png").symlink_to(photo_folder / "nowhere.png")
    (photo_folder / "ann" / "folder.png").mkdir()
    excluded = table(photo_folder).excluded
    assert excluded["photo"].tolist() == ["ann/gone.png"]
    assert "No such file" in excluded["reason"].item()


def test_refuses_names_that_are_no_utf8(photo_folder):
    os.rename(photo_folder / "ann", os.fsencode(photo_folder) + b"/an\xff")
    with pytest.raises(ValueError, match=r"names of photos and identities in UTF-8. Received: 'an"):
        datasets.list_photos(str(photo_folder))
