"""Every source of photos, and everything that folders of people may hold."""

import hashlib
import os
import shutil
import tarfile
import unicodedata
import urllib.error

import numpy as np
import pytest
import sklearn.datasets
from conftest import write_photo
from sklearn.datasets import _base, _lfw

from gradcam_adv.data import sources


def listing(photos, **changes):
    settings = {"classes": None, "min_photos": 3, "seed": 0}
    return sources.list_photos(str(photos), **settings | changes)


def people(root, **counts):
    """``counts`` photos of each identity, called 0.png, 1.png, ..."""
    for seed, (name, count) in enumerate(counts.items()):
        for number in range(count):
            write_photo(root / name / f"{number}.png", 100 * seed + number, (8, 8))
    return root


def names_of(result, identity):
    files = result.files
    return files["photo"][files["identity"] == identity].tolist()


def test_orl_is_there_without_a_network():
    result = listing("orl")
    assert result.title == "ORL faces"
    assert len(result.files) == 400
    assert result.files["identity"].nunique() == 40
    assert result.files["sha256"].nunique() == 400
    assert result.stray == ()


def test_a_folder_of_folders(photo_folder):
    result = listing(photo_folder)
    assert result.title == "photos in people"
    assert result.root == photo_folder
    assert result.files["photo"].tolist() == sorted(
        f"{name}/{number}.png" for name in ("ann", "bob", "cem") for number in range(10)
    )
    content = (photo_folder / "bob" / "3.png").read_bytes()
    row = result.files.set_index("photo").loc["bob/3.png"]
    assert row.to_dict() == {"identity": "bob", "sha256": hashlib.sha256(content).hexdigest()}
    assert result.identities.to_dict("list") == {
        "identity": ["ann", "bob", "cem"],
        "name": ["ann", "bob", "cem"],
        "photos": [10, 10, 10],
        "chosen": [True] * 3,
        "reason": [""] * 3,
    }


def test_a_folder_given_as_a_dot_has_a_name(photo_folder, monkeypatch):
    monkeypatch.chdir(photo_folder)
    result = listing(".")
    assert result.title == "photos in people"
    assert result.files["photo"].iloc[0] == "ann/0.png"


@pytest.mark.parametrize("photos", ["lfq:somewhere", "nowhere", "lfw:nowhere", "vggface2:", "lfw:"])
def test_what_is_no_folder_is_refused_with_the_possible_forms(tmp_path, monkeypatch, photos):
    monkeypatch.chdir(tmp_path)
    match = f"'orl', 'lfw', 'lfw:DIR', 'vggface2:DIR' or a folder .*Received: '{photos}'.*no folder"
    with pytest.raises(ValueError, match=match):
        listing(photos)


def test_a_folder_without_photos_is_refused(tmp_path):
    (tmp_path / "ann").mkdir()
    with pytest.raises(ValueError, match=r"Expected photos \(.jpg.*Received: none$"):
        listing(tmp_path)
    write_photo(tmp_path / "alone.png", 0)
    with pytest.raises(ValueError, match=r"Received: none, 1 beside folders$"):
        listing(tmp_path)


# --- which identities ---


def test_identities_are_chosen_by_the_seed():
    chosen = {seed: listing("orl", classes=5, seed=seed) for seed in range(3)}
    names = {seed: tuple(result.files["identity"].unique()) for seed, result in chosen.items()}
    assert len(set(names.values())) == 3
    everyone = sorted(chosen[1].identities["identity"])
    assert list(names[1]) == sorted(np.random.default_rng(1).permutation(everyone)[:5])
    table = chosen[1].identities.set_index("identity")
    assert table.index[table["chosen"]].tolist() == list(names[1])
    others = table["reason"][~table["chosen"]]
    assert set(others) == {"not among the 5 chosen at random with seed 1"}
    assert len(others) == 35


def test_an_identity_with_too_few_photos_is_listed_and_never_chosen(tmp_path):
    people(tmp_path, ann=5, bob=1, cem=5, dan=4)
    table = listing(tmp_path, min_photos=5, classes=2).identities.set_index("identity")
    assert table["reason"].to_dict() == {
        "ann": "",
        "bob": "1 photo, fewer than min_photos = 5",
        "cem": "",
        "dan": "4 photos, fewer than min_photos = 5",
    }
    assert table["photos"].tolist() == [5, 1, 5, 4]


def test_more_classes_than_there_are_is_refused(tmp_path):
    people(tmp_path, ann=5, bob=3, cem=5)
    match = "classes of at most 2, the number of .*min_photos = 4.*Received: 3$"
    with pytest.raises(ValueError, match=match):
        listing(tmp_path, min_photos=4, classes=3)


def test_one_identity_is_refused(tmp_path):
    people(tmp_path, ann=5, bob=2)
    with pytest.raises(ValueError, match=r"at least two identities .*Received: 1 \(ann\)$"):
        listing(tmp_path)


def test_only_the_chosen_are_hashed(tmp_path, monkeypatch):
    people(tmp_path, ann=3, bob=3, cem=3, dan=3)
    hashed = []
    open_file = sources.open_file
    monkeypatch.setattr(
        sources, "open_file", lambda path: hashed.append(path.parent.name) or open_file(path)
    )
    result = listing(tmp_path, classes=2)
    assert sorted(hashed) == result.files["identity"].tolist()
    assert len(hashed) == 6


# --- what folders hold ---


def test_photos_in_nested_folders(photo_folder):
    write_photo(photo_folder / "ann" / "2019" / "May" / "b.png", 500)
    assert "ann/2019/May/b.png" in names_of(listing(photo_folder), "ann")


def test_hidden_files_and_files_of_other_kinds_are_no_photos(photo_folder):
    (photo_folder / "Thumbs.db").write_text("x")
    for name in ("Thumbs.db", "desktop.ini", ".DS_Store", "._0.png", "notes.txt", "film.mp4"):
        (photo_folder / "ann" / name).write_text("x")
    write_photo(photo_folder / ".trash" / "a.png", 500)
    write_photo(photo_folder / "ann" / ".thumbnails" / "a.png", 501)
    result = listing(photo_folder)
    assert len(result.files) == 30
    assert result.stray == ()
    assert len(result.identities) == 3


def test_a_file_with_another_name_may_be_a_photo_by_its_first_bytes(photo_folder):
    for name in ("photo.jpg_large", "IMG_0001"):
        write_photo(photo_folder / "ann" / "x.png", 77)
        (photo_folder / "ann" / "x.png").rename(photo_folder / "ann" / name)
    (photo_folder / "README").write_text("Photos of three people")
    (photo_folder / "ann" / "BMW.txt").write_text("BMW")
    os.mkfifo(photo_folder / "ann" / "pipe")
    result = listing(photo_folder)
    names = names_of(result, "ann")
    assert {"ann/photo.jpg_large", "ann/IMG_0001"} <= set(names)
    assert len(names) == 12
    assert result.stray == ()


@pytest.mark.parametrize("name", ["new\rline.png", "new\nline.png", "bell\a.png"])
def test_a_name_that_would_break_a_table_is_refused(photo_folder, name):
    write_photo(photo_folder / "ann" / "x.png", 78)
    (photo_folder / "ann" / "x.png").rename(photo_folder / "ann" / name)
    with pytest.raises(ValueError, match="without control characters. Received: 'ann/"):
        listing(photo_folder)


def test_the_icon_of_a_mac_folder_is_no_photo(photo_folder):
    (photo_folder / "ann" / "Icon\r").write_bytes(b"")
    assert len(listing(photo_folder).files) == 30


@pytest.mark.parametrize(
    "name", ["A.JPG", "b.Jpeg", "IMG_1.HEIC", "raw.NEF", "c.mpo", "d.tga", "g.gif"]
)
def test_a_file_that_may_be_a_photo_is_listed(photo_folder, name):
    (photo_folder / "ann" / name).write_text("x")
    assert f"ann/{name}" in names_of(listing(photo_folder), "ann")


def test_photos_beside_the_folders_are_listed_as_stray(photo_folder):
    write_photo(photo_folder / "group photo.png", 500)
    result = listing(photo_folder)
    assert result.stray == ("group photo.png",)
    assert len(result.files) == 30


def test_names_with_blanks_and_in_any_script(tmp_path):
    people(tmp_path, **{"Zoë de Wit": 3, "Ольга": 3, "李 娜": 3})
    os.rename(tmp_path / "李 娜" / "0.png", tmp_path / "李 娜" / "早 上.png")
    result = listing(tmp_path)
    assert result.identities["identity"].tolist() == ["Zoë de Wit", "Ольга", "李 娜"]
    assert names_of(result, "李 娜") == ["李 娜/1.png", "李 娜/2.png", "李 娜/早 上.png"]
    assert (result.files["sha256"].str.len() == 64).all()


def test_a_name_that_is_no_utf8_is_refused(photo_folder):
    os.rename(photo_folder / "ann" / "0.png", os.fsencode(photo_folder) + b"/ann/an\xff.png")
    match = r"names of photos and identities in UTF-8, .*Received: 'ann/an"
    with pytest.raises(ValueError, match=match):
        listing(photo_folder)
    shutil.rmtree(photo_folder / "ann")
    os.rename(photo_folder / "bob", os.fsencode(photo_folder) + b"/b\xff")
    with pytest.raises(ValueError, match=r"in UTF-8, .*Received: 'b"):
        listing(photo_folder)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Ann", "ann"),
        ("Straße", "STRASSE"),
        (unicodedata.normalize("NFC", "Zoë"), unicodedata.normalize("NFD", "Zoë")),
    ],
)
def test_identities_that_look_the_same_are_refused(tmp_path, one, other):
    people(tmp_path, **{one: 3, "bob": 3, other: 3})
    with pytest.raises(ValueError, match="more than case or Unicode form. Received: ") as caught:
        listing(tmp_path)
    assert ascii(one) in str(caught.value)
    assert ascii(other) in str(caught.value)


def test_links_are_followed(tmp_path):
    people(tmp_path / "elsewhere", dan=3, more=2)
    root = people(tmp_path / "people", ann=3, bob=3)
    (root / "dan").symlink_to(tmp_path / "elsewhere" / "dan")
    (root / "bob" / "more").symlink_to(tmp_path / "elsewhere" / "more")
    write_photo(tmp_path / "x.png", 900)
    (root / "bob" / "linked.png").symlink_to(tmp_path / "x.png")
    result = listing(root)
    assert names_of(result, "dan") == ["dan/0.png", "dan/1.png", "dan/2.png"]
    assert names_of(result, "bob")[3:] == ["bob/linked.png", "bob/more/0.png", "bob/more/1.png"]
    assert (result.files["sha256"] != "").all()


def test_links_in_a_circle_are_followed_once(photo_folder):
    (photo_folder / "ann" / "again").symlink_to(photo_folder / "ann")
    (photo_folder / "ann" / "everyone").symlink_to(photo_folder)
    (photo_folder / "bob" / "deep").mkdir()
    (photo_folder / "bob" / "deep" / "up").symlink_to("..")
    assert len(listing(photo_folder).files) == 30


def test_what_cannot_be_opened_is_listed_without_a_hash(photo_folder):
    (photo_folder / "ann" / "gone.png").symlink_to(photo_folder / "nowhere.png")
    (photo_folder / "ann" / "itself.png").symlink_to("itself.png")
    os.mkfifo(photo_folder / "ann" / "pipe.png")
    files = listing(photo_folder).files.set_index("photo")
    assert files.index[files["sha256"] == ""].tolist() == [
        "ann/gone.png",
        "ann/itself.png",
        "ann/pipe.png",
    ]


def test_a_folder_called_like_a_photo_is_a_folder(photo_folder):
    (photo_folder / "ann" / "folder.png").mkdir()
    assert len(listing(photo_folder).files) == 30


def test_a_read_only_folder_is_left_as_it_is(photo_folder):
    before = {path: path.stat().st_mtime_ns for path in photo_folder.rglob("*")}
    paths = [photo_folder, *(path for path in photo_folder.iterdir())]
    for path in paths:
        path.chmod(0o555)
    try:
        assert len(listing(photo_folder).files) == 30
    finally:
        for path in paths:
            path.chmod(0o755)
    assert before == {path: path.stat().st_mtime_ns for path in photo_folder.rglob("*")}


def test_a_folder_that_cannot_be_listed_is_an_error(photo_folder, monkeypatch):
    scandir = os.scandir

    def refused(path):
        if str(path).endswith("bob"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(ValueError, match="can be listed. Received: .*bob: Permission denied$"):
        listing(photo_folder)


# --- LFW ---


def lfw(root):
    people(root, Ann_Lee=4, Bo_van_Dam=3, Cem=1)
    return root


@pytest.mark.parametrize("inside", ["", "lfw", "lfw_funneled", "lfw-deepfunneled"])
def test_an_unpacked_lfw(tmp_path, inside):
    root = lfw(tmp_path / "here" / inside)
    result = listing(f"lfw:{tmp_path / 'here'}")
    assert result.title == "Labeled Faces in the Wild"
    assert result.root == root
    assert result.identities["name"].tolist() == ["Ann Lee", "Bo van Dam", "Cem"]
    assert result.identities["chosen"].tolist() == [True, True, False]
    assert names_of(result, "Bo_van_Dam")[0] == "Bo_van_Dam/0.png"


def test_two_unpacked_lfws_are_refused(tmp_path):
    lfw(tmp_path / "lfw")
    lfw(tmp_path / "lfw_funneled")
    with pytest.raises(ValueError, match="one LFW folder .*Received: lfw, lfw_funneled$"):
        listing(f"lfw:{tmp_path}")


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A local replacement for the server of LFW, and an own data home for scikit-learn."""
    home = tmp_path / "home"
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(home))
    (home / "lfw_home").mkdir(parents=True)
    for target in _lfw.TARGETS:
        (home / "lfw_home" / target.filename).write_text("")
    lfw(tmp_path / "lfw_funneled")
    archive = tmp_path / "served.tgz"
    with tarfile.open(archive, "w:gz") as file:
        file.add(tmp_path / "lfw_funneled", "lfw_funneled")
    checksum = hashlib.sha256(archive.read_bytes()).hexdigest()
    served = _lfw.FUNNELED_ARCHIVE._replace(url=archive.as_uri(), checksum=checksum)
    monkeypatch.setattr(_lfw, "FUNNELED_ARCHIVE", served)
    monkeypatch.setattr(_base.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(sources, "LFW_PHOTOS", 8)
    monkeypatch.setattr(sources, "LFW_PEOPLE", 3)
    return archive


def test_lfw_is_fetched_once(server, tmp_path):
    result = listing("lfw")
    assert result.title == "Labeled Faces in the Wild"
    assert result.root == tmp_path / "home" / "lfw_home" / "lfw_funneled"
    assert result.identities["photos"].tolist() == [4, 3, 1]
    server.unlink()
    assert listing("lfw").files.equals(result.files)


@pytest.mark.parametrize(
    ("missing", "received"), [("Cem", "7 photos of 2"), ("Ann_Lee/3.png", "7 photos of 3")]
)
def test_an_lfw_that_is_unpacked_in_part_is_refused(
    server, tmp_path, monkeypatch, missing, received
):
    listing("lfw")
    path = tmp_path / "home" / "lfw_home" / "lfw_funneled" / missing
    path.unlink() if path.suffix else shutil.rmtree(path)

    def never(**_):
        raise AssertionError("an LFW that is there in part is not downloaded again")

    monkeypatch.setattr(sklearn.datasets, "fetch_lfw_people", never)
    match = f"Expected 8 photos of 3 people in .*lfw_funneled; delete .*Received: {received}$"
    with pytest.raises(ValueError, match=match):
        listing("lfw")


@pytest.mark.filterwarnings("ignore:Retry downloading")
def test_a_failed_download_says_how_to_do_without(server):
    server.unlink()
    match = "Expected a download .*give lfw:DIR. Received: <urlopen error .*No such file"
    with pytest.raises(ValueError, match=match):
        listing("lfw")


def test_a_download_of_something_else_is_refused(server):
    server.write_bytes(b"a portal's page")
    with pytest.raises(ValueError, match=r"give lfw:DIR. Received: The SHA256 checksum of"):
        listing("lfw")


def test_a_damaged_archive_is_refused(server, tmp_path):
    (tmp_path / "home" / "lfw_home" / "lfw-funneled.tgz").write_bytes(server.read_bytes()[:90])
    with pytest.raises(ValueError, match=r"give lfw:DIR. Received: "):
        listing("lfw")


def test_an_error_of_the_server_is_reported(server, monkeypatch):
    def refused(*_, **__):
        raise urllib.error.HTTPError("http://x", 403, "Forbidden", {}, None)

    monkeypatch.setattr(sklearn.datasets, "fetch_lfw_people", refused)
    with pytest.raises(ValueError, match=r"Received: HTTP Error 403: Forbidden$"):
        listing("lfw")


# --- VGGFace2 ---


@pytest.fixture
def vggface2(tmp_path):
    root = tmp_path / "VGGFace2"
    people(root / "train", n000002=4, n000003=3)
    people(root / "test", n000001=3, n000003=2)
    return root


def test_vggface2_of_both_splits(vggface2):
    result = listing(f"vggface2:{vggface2}")
    assert result.title == "VGGFace2"
    assert result.root == vggface2
    assert result.identities["identity"].tolist() == ["n000001", "n000002", "n000003"]
    assert result.identities["name"].tolist() == ["n000001", "n000002", "n000003"]
    assert result.identities["photos"].tolist() == [3, 4, 5]
    assert names_of(result, "n000003") == [
        "test/n000003/0.png",
        "test/n000003/1.png",
        "train/n000003/0.png",
        "train/n000003/1.png",
        "train/n000003/2.png",
    ]


def test_vggface2_of_one_split(vggface2):
    shutil.rmtree(vggface2 / "test")
    assert len(listing(f"vggface2:{vggface2}").files) == 7
    within = listing(f"vggface2:{vggface2 / 'train'}")
    assert names_of(within, "n000003")[0] == "n000003/0.png"


NAMES = (
    "Class_ID, Name, Sample_Num, Flag, Gender\n"
    'n000001, "14th_Dalai_Lama", 424, 0, m\n'
    'n000002, "Sammy_Davis,_Jr.", 3, 1, m\r\n'
    "half a row\n"
    'n000004, "never closed, 1, 1, f\n'
    "n000003, Zoë_Saldaña, 5, 1, f\n"
)


@pytest.mark.parametrize("place", [".", "..", "meta"])
def test_names_of_vggface2(vggface2, place):
    (vggface2 / "meta").mkdir()
    (vggface2 / place / "identity_meta.csv").write_bytes(NAMES.encode())
    result = listing(f"vggface2:{vggface2}")
    assert result.identities["name"].tolist() == [
        "14th Dalai Lama",
        "Sammy Davis, Jr.",
        "Zoë Saldaña",
    ]
    assert result.identities["identity"].tolist() == ["n000001", "n000002", "n000003"]


def test_the_table_of_names_in_the_folder_itself_comes_first(vggface2):
    (vggface2 / "identity_meta.csv").write_text(NAMES)
    (vggface2.parent / "identity_meta.csv").write_text("n000001, Somebody Else, 1, 1, f")
    assert listing(f"vggface2:{vggface2}").identities["name"].iloc[0] == "14th Dalai Lama"


def test_names_of_vggface2_in_another_encoding(vggface2):
    (vggface2 / "identity_meta.csv").write_bytes(NAMES.encode("latin-1"))
    assert listing(f"vggface2:{vggface2}").identities["name"].iloc[0] == "14th Dalai Lama"


def test_in_vggface2_only_folders_of_class_ids_count(vggface2):
    people(vggface2 / "train", notes=3, n0000011=3)
    write_photo(vggface2 / "train" / "sheet.png", 800)
    result = listing(f"vggface2:{vggface2}")
    assert result.identities["identity"].tolist() == ["n000001", "n000002", "n000003"]
    assert result.stray == ("train/sheet.png",)


def test_a_folder_without_vggface2s_layout_is_refused(photo_folder):
    with pytest.raises(ValueError, match="VGGFace2's layout, DIR/train/n000001/.*Received: no fol"):
        listing(f"vggface2:{photo_folder}")
