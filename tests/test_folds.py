"""Cross-fitted heads: photos are dealt into folds, and no head is tested on what it has seen."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradcam_adv.data.datasets import deal
from gradcam_adv.files import read, write
from gradcam_adv.models import classifiers
from gradcam_adv.study import config
from gradcam_adv.study.photos import Photos, by_fold, in_one
from gradcam_adv.study.stages.attack import SignAttack
from gradcam_adv.study.stages.train import Train


def table_of(counts: list[int], groups: list[list[int]] | None = None) -> pd.DataFrame:
    """Photos of people; each of ``groups`` lists the rows of near-duplicates."""
    people = np.repeat([f"person {i}" for i in range(len(counts))], counts)
    table = pd.DataFrame(
        {"identity": people, "photo": [f"{i:03d}.png" for i in range(len(people))]}
    )
    table["group"] = ""
    for rows in groups or []:
        table.loc[rows, "group"] = table["photo"][rows[0]]
    return table


@given(st.lists(st.integers(3, 14), min_size=2, max_size=8), st.integers(3, 6), st.integers(0, 99))
def test_folds_are_even_by_person_and_keep_near_duplicates_together(counts, folds, seed):
    twin = int(np.random.default_rng(seed).integers(0, counts[0] - 1))
    table = table_of(counts, [[twin, twin + 1]])
    if sum(counts) - 1 < folds:
        return
    fold = deal(table, folds)
    assert set(fold) == set(range(folds))
    assert fold[twin] == fold[twin + 1]
    for _, of_person in pd.Series(fold).groupby(table["identity"].to_numpy()):
        sizes = of_person.value_counts().reindex(range(folds), fill_value=0)
        assert sizes.max() - sizes.min() <= 2
        # However two folds are left out, one photo remains to train on.
        if of_person.index[0] > 0:
            assert of_person.nunique() >= 3
    in_all = np.bincount(fold)
    assert in_all.max() - in_all.min() <= 3


def test_too_few_photos_for_the_folds_are_an_error():
    with pytest.raises(ValueError, match="photos for each of 10 folds. Received: 6 photos"):
        deal(table_of([3, 3]), 10)
    with pytest.raises(ValueError, match="folds as a whole number, 3 or more. Received: 2"):
        config.parse({"name": "x", "folds": 2})


@pytest.mark.parametrize(
    "more", [{"trainable": "all"}, {"networks": ["resnet50", "resnet50@pgd"]}], ids=str
)
def test_folds_are_of_heads_alone(more):
    with pytest.raises(ValueError, match="folds as no key where more than heads on clean photos"):
        config.parse({"name": "x", "folds": 3} | more)


@pytest.fixture
def photos(tmp_path):
    table = table_of([6, 5, 4]).assign(split="train", sha256="0")
    table["label"] = table["identity"].str[-1].astype(int)
    table["fold"] = deal(table, 3)
    write.table(tmp_path / "photos.csv", table)
    return Photos(arm="plain", data=SimpleNamespace(folder=tmp_path), root=tmp_path, image_size=24)


def test_every_photo_is_tested_once_by_a_head_that_was_not_trained_on_it(photos):
    splits = photos.splits()
    assert list(splits) == [0, 1, 2]
    tested = np.concatenate([split["test"] for split in splits.values()])
    assert sorted(tested) == list(range(15))
    for fold, split in splits.items():
        assert sorted(np.concatenate([*split.values()])) == list(range(15))
        assert (photos.table["fold"][split["test"]] == fold).all()
        assert (photos.table["fold"][split["validation"]] == (fold + 1) % 3).all()
    # The test set comes fold by fold, with all photos.
    assert sorted(photos.test["photo"]) == sorted(photos.table["photo"])
    assert photos.test["fold"].is_monotonic_increasing
    assert photos.test.index.tolist() == list(range(15))


def test_without_folds_the_split_counts(tmp_path):
    table = table_of([3]).assign(split=["train", "validation", "test"])
    write.table(tmp_path / "photos.csv", table)
    photos = Photos(arm="plain", data=SimpleNamespace(folder=tmp_path), root=tmp_path, image_size=8)
    (split,) = photos.splits().values()
    assert {name: rows.tolist() for name, rows in split.items()} == {
        "train": [0], "validation": [1], "test": [2]
    }  # fmt: skip
    assert photos.test["photo"].tolist() == ["002.png"]
    assert list(by_fold(photos.test)) == [(None, slice(0, 1))]


def test_rows_are_cut_where_the_fold_changes():
    rows = pd.DataFrame({"fold": [1, 1, 2, 4, 4]})
    assert list(by_fold(rows)) == [(1, slice(0, 2)), (2, slice(2, 3)), (4, slice(3, 5))]
    first, second = {"a": np.zeros((2, 3))}, {"a": np.ones((1, 3))}
    np.testing.assert_array_equal(in_one([first, second])["a"][:, 0], [0, 0, 1])


class Features:
    """Features of two-dimensional clouds, one around each label."""

    batch_size = 4

    def __init__(self, photos):
        chance = np.random.default_rng(0)
        centres = np.eye(3, 12, dtype=np.float32)
        noise = 0.1 * chance.standard_normal((15, 12)).astype(np.float32)
        self.values = centres[photos.table["label"]] + noise

    def slices(self):
        return [self.values]


def task(photos, folder):
    made = object.__new__(Train)
    fields = {"photos": photos, "features": Features(photos), "epochs": 3, "seed": 0}
    for name, value in {**fields, "network": "vgg16", "run": folder, "arm": "plain"}.items():
        object.__setattr__(made, name, value)
    object.__setattr__(made, "fingerprint", "0" * 64)
    return made


def test_each_fold_has_a_head_of_its_own_that_is_kept(photos, tmp_path):
    train = task(photos, tmp_path)
    train.folder.mkdir(parents=True)
    labels = photos.table["label"].to_numpy()
    heads = {}
    for fold, split in photos.splits().items():
        head = classifiers.dense_head(12, 3, seed=0)
        files = train._fit(None, head, train.features.slices(), labels, fold, split)
        assert [path.name for path in files] == [f"history-{fold}.csv", f"head-{fold}.npz"]
        heads[fold] = classifiers.head_weights(head)
        with read.arrays(files[1]) as kept:
            for name, values in heads[fold].items():
                np.testing.assert_array_equal(kept[name], values)
    assert not np.allclose(heads[0]["logits 0"], heads[1]["logits 0"])
    assert not train._checkpoint.exists()
    # A finished fold is not trained again.
    again = classifiers.dense_head(12, 3, seed=9)
    train.__dict__["epochs"] = None
    train._fit(None, again, train.features.slices(), labels, 1, photos.splits()[1])
    np.testing.assert_array_equal(classifiers.head_weights(again)["logits 0"], heads[1]["logits 0"])


def test_a_person_without_a_training_photo_is_an_error(photos, tmp_path):
    train = task(photos, tmp_path)
    split = photos.splits()[0]
    labels = photos.table["label"].to_numpy()
    split["train"] = split["train"][labels[split["train"]] != 2]
    head = classifiers.dense_head(12, 3, seed=0)
    with pytest.raises(ValueError, match="none of person 2, outside folds 0 and the next"):
        train._fit(None, head, train.features.slices(), labels, 0, split)


def test_each_photo_is_attacked_on_the_model_of_its_fold(small_cnn, images, tmp_path):
    asked = []

    def made(model, batch_size):
        return lambda pixels, labels: {"signs": np.full(pixels.shape, model, np.int8)}

    attack = SimpleNamespace(
        train=SimpleNamespace(
            features=SimpleNamespace(batch_size=4),
            model=lambda precision, fold: asked.append(fold) or fold,
        ),
        precision="float32", attacked_label="true", network="vgg16", _prepared=made,
        path=lambda name: tmp_path / f"{name}.npy",
        _write=lambda path, arrays: write.array(path, arrays["signs"]),
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gradcam_adv.graph.predictor.Predictor", lambda *_: None)
        write_slice = SignAttack.begin(attack)
        for name, folds in (("0", [0, 0, 1]), ("3", [1, 2, 2])):
            rows = pd.DataFrame({"photo": [f"{i}" for i in range(3)], "label": 0, "fold": folds})
            write_slice(name, rows, images[:3])
            found = read.array(tmp_path / f"{name}.npy")
            assert (found == np.array(folds)[:, None, None, None]).all()
    assert asked == [0, 1, 2]  # each model is opened once, since photos come fold by fold
