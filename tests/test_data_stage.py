"""The stage "data": photos are chosen and checked, faces found once and cropped."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import read_photo, write_photo
from PIL import Image

from gradcam_adv.data import faces, photos, sources
from gradcam_adv.models.weights import Weights
from gradcam_adv.runs import engines
from gradcam_adv.study import config
from gradcam_adv.study.columns import read_table
from gradcam_adv.study.photos import Photos
from gradcam_adv.study.plan import make_plan
from gradcam_adv.study.stages import data as stage

PEOPLE, PHOTOS = 4, 8


@pytest.fixture(scope="module")
def people(tmp_path_factory) -> Path:
    """Real faces of the ORL set as PNG files, one folder per person."""
    root = tmp_path_factory.mktemp("orl")
    listing = sources.list_photos("orl", classes=PEOPLE, min_photos=3, seed=0)
    for identity, rows in listing.files.groupby("identity"):
        (root / identity).mkdir()
        for number, photo in enumerate(rows["photo"].iloc[:PHOTOS]):
            read_photo(listing.root / photo)[0].save(root / identity / f"{number}.png")
    return root


@pytest.fixture
def changed(people, tmp_path) -> Path:
    """A copy of ``people`` for tests that add or delete photos."""
    return shutil.copytree(people, tmp_path / "people")


class Run:
    """The tasks of the stage "data" of one study; a study of the same inputs shares their files."""

    def __init__(self, photos_of: Path, runs: Path, **content: object) -> None:
        common = {"name": "x", "photos": str(photos_of), "image_size": 40, "batch_size": 8}
        study = config.parse(common | {"networks": ["vgg16"], "source": "vgg16"} | content)
        listing = sources.list_photos(study.photos, classes=study.classes, min_photos=3, seed=0)
        weights = {"vgg16": Weights("random")}
        plan = make_plan(study, listing, weights, run=runs, models=runs / "models")
        self.chosen = plan.data
        self.faces, self.crops = plan.faces
        self.plain, self.aligned = (plan.arms[arm].photos for arm in ("plain", "aligned"))

    def choose(self) -> "Run":
        self.chosen.make(engines.Local())
        return self

    def find(self) -> "Run":
        self.faces.make(engines.Local())
        return self

    def crop(self, *, allow_left_out: bool = False) -> Photos:
        """The photos of the aligned arm."""
        allowed = dataclasses.replace(self.crops, allow_left_out=allow_left_out)
        assert allowed.folder == self.crops.folder
        allowed.make(engines.Local())
        return self.aligned


@pytest.fixture
def looked_at(monkeypatch) -> list[int]:
    """How many photos each call of the detector was given."""
    counts = []
    detect = faces.Detector.__call__

    def counting(self, images):
        counts.append(len(images))
        return detect(self, images)

    monkeypatch.setattr(faces.Detector, "__call__", counting)
    return counts


def test_crops_are_the_aligned_photos_in_the_order_of_the_table(people, tmp_path, looked_at):
    run = Run(people, tmp_path).choose().find()
    aligned = run.crop()
    assert looked_at == [PEOPLE * PHOTOS]
    table = aligned.table
    assert table["photo"].tolist() == run.plain.table["photo"].tolist()
    assert table["split"].tolist() == run.plain.table["split"].tolist()
    # In any order, as in a shuffled batch.
    rows = table.iloc[[5, 30, 0]]
    found = faces.Detector()([faces.for_detection(Image.open(people / p)) for p in table["photo"]])
    expected = [
        faces.align(Image.open(people / photo), found[row], 40, 0.1)
        for row, photo in rows["photo"].items()
    ]
    pixels = aligned.pixels(rows)
    assert pixels.dtype == np.float32
    difference = np.abs(pixels - np.stack(expected) / 255)
    assert difference.max() < 0.2
    assert difference.mean() < 0.002


def test_photos_without_a_face_are_listed_and_only_in_the_plain_arm(people, changed, tmp_path):
    first = sorted(path.name for path in changed.iterdir())[0]
    for number in (1, 2):
        write_photo(changed / first / f"noise{number}.png", number)
    run = Run(changed, tmp_path / "runs").choose().find()
    aligned = run.crop()
    excluded = read_table(run.crops.folder / "excluded.csv")
    assert excluded["photo"].tolist() == [f"{first}/noise1.png", f"{first}/noise2.png"]
    assert set(excluded["reason"]) == {"no face found"}
    assert len(run.plain.table) == len(aligned.table) + 2
    # The photos after the gap, in the same file and in later ones, still have their own crops.
    whole = Run(people, tmp_path / "whole").choose().find().crop()
    expected = whole.table.set_index("photo").loc[aligned.table["photo"]]
    difference = aligned.pixels(aligned.table) - whole.pixels(expected)
    assert np.abs(difference).mean(axis=(1, 2, 3)).max() < 0.02


def test_too_many_photos_without_a_face_are_an_error_unless_allowed(changed, tmp_path):
    first = sorted(changed.iterdir())[0]
    for number in range(5):
        write_photo(first / f"noise{number}.png", number)
    run = Run(changed, tmp_path / "runs").choose().find()
    with pytest.raises(ValueError, match=r"at most 10 % .*Received: 13.5 %, listed in .*excluded"):
        run.crop()
    assert len(read_table(run.crops.folder / "excluded.csv")) == 5
    assert len(run.crop(allow_left_out=True).table) == 32


def test_too_many_unreadable_photos_are_an_error_that_lists_them(changed, tmp_path):
    for identity in changed.iterdir():
        (identity / "broken.png").write_bytes(b"")
    run = Run(changed, tmp_path / "runs")
    with pytest.raises(ValueError, match=r"Received: 11.1 %, listed in .*--allow-left-out"):
        run.choose()
    assert len(read_table(run.chosen.folder / "excluded.csv")) == 4


def test_an_identity_without_a_face_to_train_on_is_an_error(changed, tmp_path):
    for number in range(5):
        write_photo(changed / "nobody" / f"{number}.png", number)
    run = Run(changed, tmp_path / "runs").choose().find()
    with pytest.raises(ValueError, match="face on a training photo .*none of nobody to train on"):
        run.crop(allow_left_out=True)


def test_an_aligned_test_set_of_one_person_is_an_error(changed, tmp_path):
    first, _, *others = sorted(changed.iterdir())
    for folder in others:
        shutil.rmtree(folder)
    tested = Run(changed, tmp_path / "once").choose().plain.test
    for photo in tested.loc[tested["identity"] == first.name, "photo"]:
        write_photo(changed / photo, 5)
    run = Run(changed, tmp_path / "runs").choose().find()
    with pytest.raises(ValueError, match="test photos of two people. Received: 1 people to test"):
        run.crop(allow_left_out=True)


def files_in(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_interrupted_reading_goes_on_after_the_last_whole_file(people, tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "CHECKED", 10)
    undisturbed = Run(people, tmp_path / "undisturbed").choose()
    read, known = [], photos.opened

    def stopped(path):
        read.append(path)
        if len(read) == 25:
            raise KeyboardInterrupt
        return known(path)

    monkeypatch.setattr(photos, "opened", stopped)
    run = Run(people, tmp_path / "interrupted")
    with pytest.raises(KeyboardInterrupt):
        run.choose()
    folder = run.chosen.folder
    assert sorted(files_in(folder)) == ["checked/0000000.csv", "checked/0000010.csv"]
    read[:] = [""] * 25
    run.choose()
    assert len(read) == 25 + 12
    assert files_in(folder) == files_in(undisturbed.chosen.folder)
    run.choose()
    assert len(read) == 25 + 12


def test_photos_that_a_failing_disk_left_out_are_read_again(people, tmp_path, monkeypatch):
    run = Run(people, tmp_path)
    with monkeypatch.context() as patch:
        known = photos.opened

        def fails(path):
            if path.name == "0.png":
                raise ValueError("unreadable: Input/output error")
            return known(path)

        patch.setattr(photos, "opened", fails)
        with pytest.raises(ValueError, match="of the photos to be left out. Received: 12.5 %"):
            run.choose()
    assert len(run.choose().plain.table) == PEOPLE * PHOTOS


def test_the_files_of_the_check_belong_to_the_result(people, tmp_path):
    chosen = Run(people, tmp_path).chosen
    files = chosen.make(engines.Local())
    assert {str(path.relative_to(chosen.folder)) for path in files} == files_in(
        chosen.folder
    ).keys()


def test_interrupted_detection_goes_on_after_the_last_whole_file(
    people, tmp_path, looked_at, monkeypatch
):
    monkeypatch.setattr(engines, "SLICE", 10)
    run = Run(people, tmp_path).choose().find()
    assert looked_at == [10, 10, 10, 2]
    before = files_in(run.faces.folder)
    (run.faces.folder / "faces-0000010.csv").unlink()
    run.find()
    assert looked_at == [10, 10, 10, 2, 10]
    assert files_in(run.faces.folder) == before


def test_another_choice_of_photos_searches_only_slices_with_new_photos(people, tmp_path, looked_at):
    folders = {Run(people, tmp_path, max_photos=6).choose().find().faces.folder}
    looked_at.clear()
    folders.add(Run(people, tmp_path, max_photos=5).choose().find().faces.folder)
    assert looked_at == []
    folders.add(Run(people, tmp_path).choose().find().faces.folder)
    assert looked_at == [PEOPLE * PHOTOS]
    assert len(folders) == 3


def test_faces_of_another_detector_are_found_anew(people, tmp_path, looked_at):
    run = Run(people, tmp_path).choose().find()
    dataclasses.replace(run.faces, detector="mtcnn 9").make(engines.Local())
    assert looked_at == [PEOPLE * PHOTOS] * 2


def test_a_photo_that_is_gone_after_the_table_was_made_is_named(changed, tmp_path):
    run = Run(changed, tmp_path / "runs").choose()
    gone = changed / run.plain.table["photo"].iloc[3]
    gone.unlink()
    with pytest.raises(ValueError, match=f"readable photo. Received: {gone}: .*No such file"):
        run.find()


def test_places_of_faces_are_known_by_photo(changed, tmp_path):
    write_photo(changed / sorted(path.name for path in changed.iterdir())[0] / "no-face.png", 7)
    run = Run(changed, tmp_path).choose().find()
    places = run.faces.places()
    assert list(places.columns) == ["left", "top", "right", "bottom", "eyes"]
    assert list(places.index) == run.plain.table["photo"].tolist()
    none = places.index.str.contains("no-face")
    assert places[none].isna().all(axis=None)
    found = places[~none]
    # The eyes are within the face, and most of it within the photo.
    assert ((found["top"] < found["eyes"]) & (found["eyes"] < found["bottom"])).all()
    assert ((found["left"] > -0.3) & (found["right"] < 1.3)).all()
    run.crop(allow_left_out=True)
    crops = run.crops.places()
    assert list(crops.index) == found.index.tolist()
    assert crops.drop_duplicates().to_dict("records") == [faces.place_in_crop(run.crops.margin)]
