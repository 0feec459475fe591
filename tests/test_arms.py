"""The aligned arm: crops of the photos that have a face, the others listed, nothing found twice."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import write_photo
from PIL import Image

from gradcam_adv.data import faces, photos, sources
from gradcam_adv.files import artifacts
from gradcam_adv.study import config as study
from gradcam_adv.study import setting
from gradcam_adv.study.stages import photos as arms

PEOPLE, PHOTOS = 4, 8


@pytest.fixture(scope="module")
def people(tmp_path_factory) -> Path:
    """Real faces of the ORL set as PNG files, a folder a person."""
    root = tmp_path_factory.mktemp("orl")
    listing = sources.list_photos("orl", classes=PEOPLE, min_photos=3, seed=0)
    for identity, rows in listing.files.groupby("identity"):
        (root / identity).mkdir()
        for number, photo in enumerate(rows["photo"].iloc[:PHOTOS]):
            photos.read(listing.root / photo)[0].save(root / identity / f"{number}.png")
    return root


class Run:
    """The stage data of one study, with the folders it writes to."""

    def __init__(self, photos_of: Path, runs: Path, **content: object) -> None:
        self.study = study.parse(
            {"name": "x", "photos": str(photos_of), "image_size": 40, "networks": ["vgg16"],
             "source": "vgg16"} | content
        )  # fmt: skip
        listing = sources.list_photos(
            self.study.photos, classes=self.study.classes, min_photos=3, seed=0
        )
        self.plain, self.aligned = (
            setting.Setting(self.study, arm, runs / "models", listing, {}, {}, {})
            for arm in ("plain", "aligned")
        )
        self.runs = runs

    def data(self, fingerprint: str = "a") -> "Run":
        self.plain.folders["data"] = self.runs / "data" / fingerprint
        arms.data(self.plain, self.plain.folders["data"], allow_left_out=False)
        return self

    def detect(self, fingerprint: str = "a") -> "Run":
        self.plain.folders["faces"] = self.runs / "faces" / fingerprint
        arms.detect(self.plain, self.plain.folders["faces"])
        return self

    def crop(self, fingerprint: str = "a", allow_left_out: bool = False) -> "Run":
        self.aligned.folders["data"] = self.runs / "crops" / fingerprint
        arms.crop(self.plain, self.aligned.folders["data"], allow_left_out)
        return self


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
    run = Run(people, tmp_path).data().detect().crop()
    assert looked_at == [PEOPLE * PHOTOS]
    table = run.aligned.table
    assert table["photo"].tolist() == run.plain.table["photo"].tolist()
    assert table["split"].tolist() == run.plain.table["split"].tolist()
    # Rows in any order, as a shuffled batch has them.
    rows = table.iloc[[5, 30, 0]]
    found = faces.Detector()([faces.for_detection(Image.open(people / p)) for p in table["photo"]])
    expected = [
        faces.align(Image.open(people / rows["photo"].iloc[i]), found[row], 40, 0.1)
        for i, row in enumerate([5, 30, 0])
    ]
    pixels = run.aligned.pixels(rows)
    assert pixels.dtype == np.float32
    assert np.abs(pixels - np.stack(expected) / 255).max() < 0.2
    assert np.abs(pixels - np.stack(expected) / 255).mean() < 0.002


def test_photos_without_a_face_are_left_out_of_this_arm_and_listed(people, tmp_path):
    folder = tmp_path / "people"
    shutil.copytree(people, folder)
    first = sorted(path.name for path in folder.iterdir())[0]
    write_photo(folder / first / "noise1.png", 1)
    write_photo(folder / first / "noise2.png", 2)
    run = Run(folder, tmp_path / "runs").data().detect().crop()
    excluded = artifacts.read_table(run.aligned.folders["data"] / "excluded.csv")
    assert excluded["photo"].tolist() == [f"{first}/noise1.png", f"{first}/noise2.png"]
    assert set(excluded["reason"]) == {"no face found"}
    assert len(run.plain.table) == len(run.aligned.table) + 2
    # Those after the gap, in the same file and in later ones, still are themselves.
    whole = Run(people, tmp_path / "whole").data().detect().crop()
    expected = whole.aligned.table.set_index("photo").loc[run.aligned.table["photo"]]
    difference = run.aligned.pixels(run.aligned.table) - whole.aligned.pixels(expected)
    assert np.abs(difference).mean(axis=(1, 2, 3)).max() < 0.02


def test_too_many_without_a_face_is_an_error_unless_allowed(people, tmp_path):
    folder = tmp_path / "people"
    shutil.copytree(people, folder)
    first = sorted(folder.iterdir())[0]
    for number in range(5):
        write_photo(first / f"noise{number}.png", number)
    run = Run(folder, tmp_path / "runs").data().detect()
    with pytest.raises(ValueError, match=r"at most 10 % .*Received: 13.5 %, listed in .*excluded"):
        run.crop()
    listed = artifacts.read_table(run.aligned.folders["data"] / "excluded.csv")
    assert len(listed) == 5
    assert len(run.crop(allow_left_out=True).aligned.table) == 32


def test_too_many_unreadable_is_an_error_that_lists_them(people, tmp_path):
    folder = tmp_path / "people"
    shutil.copytree(people, folder)
    for identity in folder.iterdir():
        (identity / "broken.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"Received: 11.1 %, listed in .*--allow-left-out"):
        Run(folder, tmp_path / "runs").data()
    (listed,) = (tmp_path / "runs").rglob("excluded.csv")
    assert len(artifacts.read_table(listed)) == 4


def test_an_identity_without_a_face_to_train_on_is_an_error(people, tmp_path):
    folder = tmp_path / "people"
    shutil.copytree(people, folder)
    for number in range(5):
        write_photo(folder / "nobody" / f"{number}.png", number)
    run = Run(folder, tmp_path / "runs").data().detect()
    with pytest.raises(ValueError, match="face on a training photo .*none of nobody to train on"):
        run.crop(allow_left_out=True)


def test_an_aligned_test_set_of_one_person_is_an_error(people, tmp_path):
    folder = tmp_path / "people"
    first, second = sorted(path.name for path in people.iterdir())[:2]
    for name in (first, second):
        shutil.copytree(people / name, folder / name)
    tested = Run(folder, tmp_path / "once").data().plain.test
    for photo in tested.loc[tested["identity"] == first, "photo"]:
        write_photo(folder / photo, 5)
    run = Run(folder, tmp_path / "runs").data().detect()
    with pytest.raises(ValueError, match="test photos of two people. Received: 1 people to test"):
        run.crop(allow_left_out=True)


def files_in(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_interrupted_reading_goes_on_after_the_last_whole_file(people, tmp_path, monkeypatch):
    monkeypatch.setattr(arms, "CHECKED", 10)
    undisturbed = Run(people, tmp_path / "undisturbed").data()
    read, known = [], photos.read

    def stopped(path):
        read.append(path)
        if len(read) == 25:
            raise KeyboardInterrupt
        return known(path)

    monkeypatch.setattr(photos, "read", stopped)
    run = Run(people, tmp_path / "interrupted")
    with pytest.raises(KeyboardInterrupt):
        run.data()
    folder = run.plain.folders["data"]
    assert sorted(files_in(folder)) == ["checked/0000000.csv", "checked/0000010.csv"]
    read[:] = [""] * 25
    run.data()
    assert len(read) == 25 + 12
    assert files_in(folder) == files_in(undisturbed.plain.folders["data"])
    run.data()
    assert len(read) == 25 + 12


def test_what_a_failing_disk_left_out_is_read_again(people, tmp_path, monkeypatch):
    run = Run(people, tmp_path)
    with monkeypatch.context() as patch:
        known = photos.read

        def fails(path):
            if path.name == "0.png":
                raise ValueError("unreadable: Input/output error")
            return known(path)

        patch.setattr(photos, "read", fails)
        with pytest.raises(ValueError, match="of the photos to be left out. Received: 12.5 %"):
            run.data()
    run.data()
    assert len(run.plain.table) == PEOPLE * PHOTOS


def test_the_files_of_what_was_checked_are_the_stages_own(people, tmp_path):
    run = Run(people, tmp_path)
    folder = tmp_path / "data"
    files = arms.data(run.plain, folder, allow_left_out=False)
    assert {str(path.relative_to(folder)) for path in files} == files_in(folder).keys()


def test_an_interrupted_detection_goes_on_after_the_last_whole_file(
    people, tmp_path, looked_at, monkeypatch
):
    monkeypatch.setattr(setting, "SLICE", 10)
    run = Run(people, tmp_path).data().detect()
    assert looked_at == [10, 10, 10, 2]
    folder = run.plain.folders["faces"]
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    (folder / "faces-0000010.csv").unlink()
    run.detect()
    assert looked_at == [10, 10, 10, 2, 10]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_another_choice_of_photos_detects_only_what_is_new(people, tmp_path, looked_at):
    Run(people, tmp_path, max_photos=6).data("a").detect("a")
    looked_at.clear()
    Run(people, tmp_path, max_photos=5).data("b").detect("b")
    assert looked_at == []
    Run(people, tmp_path).data("c").detect("c")
    assert looked_at == [PEOPLE * PHOTOS]  # new photos in the slice, so the slice is looked at


def test_another_detector_is_not_taken_for_this_one(people, tmp_path, looked_at, monkeypatch):
    Run(people, tmp_path).data("a").detect("a")
    monkeypatch.setattr(arms, "DETECTOR", "mtcnn 9")
    Run(people, tmp_path).data("a").detect("b")
    assert looked_at == [PEOPLE * PHOTOS] * 2


def test_a_photo_that_vanishes_after_the_table_was_made_is_named(people, tmp_path):
    folder = tmp_path / "people"
    shutil.copytree(people, folder)
    run = Run(folder, tmp_path / "runs").data()
    gone = folder / run.plain.table["photo"].iloc[3]
    gone.unlink()
    with pytest.raises(ValueError, match=f"readable photo. Received: {gone}: .*No such file"):
        run.detect()
