"""The table of photos: who, which split, and what is left out with its reason."""

import contextlib
import os
import shutil
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from conftest import write_photo
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gradcam_adv.data import datasets, photos, sources

SHARES = (0.8, 0.1, 0.1)


def table(folder, **changes):
    settings = {"classes": None, "min_photos": 3, "max_photos": None, "split": SHARES, "seed": 0}
    settings |= changes
    listed = {name: settings[name] for name in ("classes", "min_photos", "seed")}
    return datasets.make_table(sources.list_photos(str(folder), **listed), **settings)


def near_duplicate(path, of, brightness):
    with Image.open(of) as image:
        image.point(lambda value: brightness * value).save(path)


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


def test_columns_and_order(photo_folder):
    result = table(photo_folder)
    assert list(result.kept.columns) == [
        *("photo", "identity", "label", "split", "sha256", "group", "note")
    ]
    assert list(result.excluded.columns) == ["photo", "identity", "sha256", "reason"]
    assert list(result.identities.columns) == [
        *("identity", "name", "photos", "chosen", "reason", "usable")
    ]
    assert result.kept["photo"].is_monotonic_increasing
    assert (result.kept[["group", "note"]] == "").all(axis=None)
    assert len(result.excluded) == 0
    assert result.identities["usable"].tolist() == [10, 10, 10]


def test_the_split_depends_on_the_seed(photo_folder):
    first = table(photo_folder).kept
    assert first.equals(table(photo_folder).kept)
    assert not first.equals(table(photo_folder, seed=1).kept)


def test_the_split_of_a_folder_without_near_duplicates(photo_folder):
    # A random order from the seed and the name, cut into the splits.
    kept = table(photo_folder, seed=5).kept
    ann = kept[kept["identity"] == "ann"]
    order = np.random.default_rng([5, *b"ann"]).permutation(10)
    expected = dict(zip(order, ["train"] * 8 + ["validation", "test"], strict=True))
    assert ann["split"].tolist() == [expected[number] for number in range(10)]


def test_an_identitys_split_does_not_depend_on_the_others(photo_folder):
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


def test_exact_duplicates_are_left_out(photo_folder):
    for number in range(8):
        shutil.copy(photo_folder / "ann" / "0.png", photo_folder / "ann" / f"copy{number}.png")
    shutil.copy(photo_folder / "ann" / "1.png", photo_folder / "bob" / "same.png")
    result = table(photo_folder)
    assert result.kept["sha256"].is_unique
    reasons = result.excluded.set_index("photo")["reason"]
    assert reasons["ann/copy3.png"] == "exact duplicate of ann/0.png"
    assert reasons["bob/same.png"] == "exact duplicate of ann/1.png"
    assert len(reasons) == 9


def test_of_two_copies_the_one_that_can_be_read_is_kept(photo_folder):
    os.rename(photo_folder / "ann" / "0.png", photo_folder / "ann" / "0.nef")
    shutil.copy(photo_folder / "ann" / "0.nef", photo_folder / "ann" / "z.png")
    result = table(photo_folder)
    assert result.excluded["photo"].tolist() == ["ann/0.nef"]
    assert "ann/z.png" in set(result.kept["photo"])


def test_a_photo_without_a_hash_is_left_out(photo_folder, monkeypatch):
    open_file = sources.open_file

    def fails_once(path):
        if path.name == "0.png":
            raise OSError(5, "Input/output error")
        return open_file(path)

    monkeypatch.setattr(sources, "open_file", fails_once)
    result = table(photo_folder)
    assert len(result.kept) == 27
    assert set(result.excluded["reason"]) == {"unreadable: its SHA-256 is missing"}


def test_what_cannot_be_read_is_listed_with_its_reason(photo_folder):
    (photo_folder / "ann" / "empty.jpg").write_bytes(b"")
    (photo_folder / "bob" / "text.png").write_text("words")
    (photo_folder / "cem" / "gone.png").symlink_to(photo_folder / "nowhere.png")
    write_photo(photo_folder / "alone.png", 700)
    result = table(photo_folder)
    assert result.excluded[["photo", "identity", "reason"]].to_numpy().tolist() == [
        ["alone.png", "", "in no identity's folder"],
        ["ann/empty.jpg", "ann", "empty file"],
        ["bob/text.png", "bob", "not an image"],
        ["cem/gone.png", "cem", "unreadable: a link that leads nowhere"],
    ]
    assert len(result.kept) == 30
    assert result.identities["photos"].tolist() == [11, 11, 11]
    assert result.identities["usable"].tolist() == [10, 10, 10]


def test_max_photos_are_chosen_by_the_seed_and_the_others_are_not_left_out(photo_folder):
    result = table(photo_folder, max_photos=6)
    assert (result.kept.groupby("identity").size() == 6).all()
    assert result.identities["usable"].tolist() == [10, 10, 10]
    assert datasets.share_left_out(result) == 0
    assert set(result.kept["photo"]) != set(table(photo_folder, max_photos=6, seed=1).kept["photo"])


def test_only_chosen_identities_are_in_the_table():
    result = table("orl", classes=3)
    chosen = result.identities[result.identities["chosen"]]
    assert result.kept["identity"].unique().tolist() == chosen["identity"].tolist()
    assert chosen["usable"].tolist() == [10, 10, 10]
    assert result.identities["usable"].isna().sum() == 37


def test_the_table_has_the_notes_on_photos(photo_folder):
    frames = [Image.new("L", (9, 9), colour) for colour in (0, 90)]
    frames[0].save(photo_folder / "ann" / "film.gif", save_all=True, append_images=frames[1:])
    result = table(photo_folder)
    assert result.kept.set_index("photo")["note"]["ann/film.gif"] == "first of 2 frames"
    assert datasets.summary(result).endswith("; 1 with a note (1 first of several frames)")


# --- near-duplicates ---


@pytest.mark.parametrize("seed", range(5))
def test_near_duplicates_of_an_identity_stay_together(photo_folder, seed):
    ann = photo_folder / "ann"
    for number in range(4):
        near_duplicate(ann / f"darker{number}.png", ann / "0.png", 0.99 - 0.01 * number)
    near_duplicate(ann / "5 darker.png", ann / "5.png", 0.98)
    near_duplicate(photo_folder / "bob" / "ann.png", ann / "7.png", 0.98)
    kept = table(photo_folder, seed=seed).kept
    grouped = kept[kept["group"] != ""]
    assert grouped.groupby("group")["photo"].apply(list).to_dict() == {
        "ann/0.png": ["ann/0.png", *(f"ann/darker{number}.png" for number in range(4))],
        "ann/5 darker.png": ["ann/5 darker.png", "ann/5.png"],
    }
    assert len(grouped.drop_duplicates(["group", "split"])) == 2
    # 15 photos: 11, 2 and 2 as without near-duplicates
    assert Counter(kept["split"][kept["identity"] == "ann"]) == {
        "train": 11,
        "validation": 2,
        "test": 2,
    }


def test_near_duplicates_are_linked_in_chains():
    bits = np.zeros((5, 64), bool)
    bits[1, :4] = True  # 4 bits from photo 0
    bits[2, :8] = True  # 4 bits from photo 1, 8 from photo 0
    bits[3, 20:25] = True  # 5 bits from photo 0
    bits[4] = True
    groups = datasets.near_duplicates(bits)
    assert groups[0] == groups[1] == groups[2]
    assert len(set(groups)) == 3
    assert len(datasets.near_duplicates(bits[:0])) == 0


groupings = st.lists(st.integers(0, 12), min_size=3, max_size=60).filter(
    lambda groups: len(set(groups)) >= 3
)
share = st.floats(0.01, 1)
shares = st.tuples(share, share, share).map(
    lambda weights: tuple(weight / sum(weights) for weight in weights)
)


@given(groupings, shares)
def test_a_group_stays_in_one_split_and_no_split_is_empty(groups, split):
    made = datasets.assign(np.array(groups), split)
    assert len({*zip(groups, made, strict=True)}) == len(set(groups))
    assert set(made) == set(datasets.SPLITS)


@given(st.integers(3, 200), shares)
def test_photos_without_near_duplicates_are_cut_in_order(count, split):
    made = datasets.assign(np.arange(count), split)
    assert set(made) == set(datasets.SPLITS)
    assert made == sorted(made, key=datasets.SPLITS.index)
    for name, share in zip(datasets.SPLITS[1:], split[1:], strict=True):
        wanted = max(1, round(count * share))
        assert made.count(name) == wanted or made.count("train") <= 2


@pytest.mark.parametrize(
    ("groups", "counts"),
    [
        ([0] * 4 + [1] * 4 + [2, 3], (8, 1, 1)),
        ([0, 0, 1, 1, 2, 2, 3, 3, 4, 4], (6, 2, 2)),
        ([0] * 8 + [1, 2], (8, 1, 1)),
        ([0, 1] + [2] * 18, (18, 1, 1)),
        ([*range(14), *[14] * 3, *[15] * 3], (16, 2, 2)),
    ],
)
def test_shares_are_met_as_nearly_as_groups_allow(groups, counts):
    made = datasets.assign(np.array(groups), SHARES)
    assert tuple(made.count(name) for name in datasets.SPLITS) == counts


def test_a_group_goes_where_it_fits():
    made = datasets.assign(np.array([0, 0, 0, 1, 1, 1, 2, 3, 4, 5]), (0.4, 0.3, 0.3))
    assert tuple(made.count(name) for name in datasets.SPLITS) == (4, 3, 3)


# --- too few ---


def keep_two_of_bob(root):
    for number in range(2, 10):
        (root / "bob" / f"{number}.png").write_bytes(b"")


def test_an_identity_with_too_few_usable_photos_is_left_out(photo_folder):
    keep_two_of_bob(photo_folder)
    result = table(photo_folder)
    assert result.kept.groupby("identity")["label"].first().to_dict() == {"ann": 0, "cem": 1}
    bob = result.identities.set_index("identity").loc["bob"]
    assert not bob["chosen"]
    assert bob["reason"] == "only 2 usable photos"
    assert bob["usable"] == 2
    reasons = result.excluded.set_index("photo")["reason"]
    assert reasons["bob/1.png"] == "its identity has only 2 usable photos"
    assert reasons["bob/2.png"] == "empty file"
    assert len(reasons) == 10
    assert datasets.share_left_out(result) == 10 / 30


def test_an_identity_of_near_duplicates_is_left_out(photo_folder):
    bob = photo_folder / "bob"
    for number in range(1, 9):
        near_duplicate(bob / f"{number}.png", bob / "0.png", 1 - 0.005 * number)
    result = table(photo_folder)
    assert set(result.excluded["reason"]) == {
        "its identity has only 2 photos, near-duplicates counted once"
    }
    assert len(result.excluded) == 10


def test_an_identity_with_too_few_is_an_error_if_classes_are_given(photo_folder):
    keep_two_of_bob(photo_folder)
    match = (
        "Expected 3 identities with three or more .*fewer classes, or min_photos above 4.*"
        "Received: 'bob' with only 2 usable photos$"
    )
    with pytest.raises(ValueError, match=match):
        table(photo_folder, classes=3, min_photos=4)


def test_one_identity_left_is_refused(photo_folder):
    keep_two_of_bob(photo_folder)
    shutil.rmtree(photo_folder / "ann")
    with pytest.raises(ValueError, match=r"at least two identities .*Received: 1 \(cem\)$"):
        table(photo_folder)


def test_no_identity_left_is_refused(tmp_path):
    for name in ("ann", "bob"):
        (tmp_path / name).mkdir()
        for number in range(3):
            (tmp_path / name / f"{number}.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"at least two identities .*Received: 0 \(\)$"):
        table(tmp_path)


def test_a_folder_that_is_gone_while_it_is_read_is_an_error(photo_folder, monkeypatch):
    read = photos.opened

    def then_gone(path):
        if path.parent.name == "cem":
            with contextlib.suppress(FileNotFoundError):  # another thread was first
                photo_folder.rename(photo_folder.with_name("moved"))
        return read(path)

    monkeypatch.setattr(photos, "opened", then_gone)
    with pytest.raises(ValueError, match="folder of photos, .*people, to stay .*it is gone$"):
        table(photo_folder)


def test_the_summary(photo_folder):
    keep_two_of_bob(photo_folder)
    shutil.copy(photo_folder / "ann" / "0.png", photo_folder / "ann" / "a: b.png")
    shutil.copy(photo_folder / "ann" / "0.png", photo_folder / "cem" / "copy.png")
    (photo_folder / "cem" / "gone.png").symlink_to("nowhere.png")
    near_duplicate(photo_folder / "cem" / "dark.png", photo_folder / "cem" / "3.png", 0.98)
    assert datasets.summary(table(photo_folder)) == (
        "21 photos of 2 people; 13 left out (8 empty file, 2 exact duplicate, "
        "2 its identity has only 2 usable photos, 1 unreadable); "
        "1 group of near-duplicates (2 photos), each in one split"
    )


def test_the_summary_of_a_clean_folder(photo_folder):
    assert datasets.summary(table(photo_folder)) == "30 photos of 3 people; 0 left out"


def test_the_share_left_out():
    identities = pd.DataFrame(
        {"chosen": [True, False], "usable": pd.array([19, pd.NA], dtype="Int64")}
    )
    excluded = pd.DataFrame({"reason": ["empty file"]})
    result = datasets.Table(pd.DataFrame(), excluded, identities)
    assert datasets.share_left_out(result) == 0.05
