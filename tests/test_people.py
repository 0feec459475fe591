"""Photos, labels and splits of a folder in one call."""

import numpy as np
import pytest

from gradcam_adv.data import datasets, people, photos, sources


def test_every_photo_has_its_pixels_its_label_and_one_split(photo_folder):
    found = people.read_people(str(photo_folder), 12, seed=3)
    assert found.names == ("ann", "bob", "cem")
    assert found.images.shape == (30, 12, 12, 3)
    split = np.concatenate([found.train, found.validation, found.test])
    assert sorted(split) == list(range(30))
    assert [len(found.train), len(found.validation), len(found.test)] == [24, 3, 3]
    for i in (0, 17, 29):
        path = photo_folder / found.table.kept["photo"][i]
        np.testing.assert_array_equal(found.images[i], photos.decode_all([path], 12)[0])
        assert path.parent.name == found.names[found.labels[i]]


def test_the_photos_are_those_a_study_would_choose(photo_folder):
    settings = {"classes": 2, "min_photos": 4, "max_photos": 6, "split": (0.5, 0.2, 0.3), "seed": 7}
    listed = {name: settings[name] for name in ("classes", "min_photos", "seed")}
    listing = sources.list_photos(str(photo_folder), **listed)
    expected = datasets.make_table(listing, **settings).kept
    found = people.read_people(str(photo_folder), 8, **settings)
    assert found.table.kept.equals(expected)
    assert set(expected["identity"]) == set(found.names)
    for name, rows in zip(
        datasets.SPLITS, (found.train, found.validation, found.test), strict=True
    ):
        assert (expected["split"].iloc[rows] == name).all()
        assert len(rows) == (expected["split"] == name).sum()


def test_a_photo_that_cannot_be_read_is_left_out_and_listed(photo_folder):
    (photo_folder / "bob" / "4.png").write_bytes(b"no picture")
    found = people.read_people(str(photo_folder), 8)
    assert len(found.images) == len(found.labels) == 29
    assert found.table.excluded["photo"].tolist() == ["bob/4.png"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 0}, "size as 1 or more. Received: 0"),
        ({"size": 8.5}, "size as 1 or more. Received: 8.5"),
        ({"classes": 1}, "classes as 2 or more. Received: 1"),
        ({"min_photos": None}, "min_photos as 3 or more. Received: None"),
        ({"max_photos": 2}, "max_photos as 3 or more. Received: 2"),
        ({"seed": -1}, "seed as 0 or more. Received: -1"),
        ({"split": (0.8, 0.2)}, "split as three positive shares"),
        ({"split": (0.8, 0.2, 0)}, "split as three positive shares"),
        ({"split": (0.8, 0.2, 0.2)}, "split as three positive shares"),
        ({"split": (0.8, float("nan"), 0.2)}, "split as three positive shares"),
    ],
)
def test_an_impossible_choice_is_refused(photo_folder, change, message):
    arguments = {"source": str(photo_folder), "size": 8} | change
    with pytest.raises(ValueError, match="Expected " + message):
        people.read_people(**arguments)
