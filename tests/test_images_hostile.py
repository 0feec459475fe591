"""Image files made to cost hours or gigabytes: refused or bounded, and listed with the reason."""

import os
import re
import subprocess
import sys
import threading
import time
import zlib

import hostile_images as hostile
import keras
import numpy as np
import pytest
from conftest import read_photo, write_photo
from fuzz import images as fuzzed
from PIL import Image

from gradcam_adv.app.images import images_of
from gradcam_adv.data import datasets, image_files, photos, sources
from gradcam_adv.files import regular

SCANS, PARTS = "too many scans: more than ", "made of more than 120,000 parts"
COSTLY = "more than 100 blocks of text, EXIF or colour profiles"
SLOW = "more than 1,000,000 pixels in an encoding slow to decode"
MANY = 150_000
# By name: what makes the file, and the reason it is refused with.
REFUSED = {
    "scans": (lambda: hostile.jpeg_of_scans(491), SCANS + "500 for 64 x 64 pixels"),
    "scans of a large JPEG": (
        lambda: hostile.jpeg_of_scans(200, 3000, 3000), SCANS + "142 for 3000 x 3000 pixels"
    ),
    "scans behind markers without a length": (
        lambda: hostile.jpeg_of_scans(600, between=b"\xff\x02\xff\xff"), SCANS
    ),
    "comments of a JPEG": (lambda: hostile.jpeg_with(b"\xff\xfe\0\2" * MANY), PARTS),
    "comments between scans": (
        lambda: hostile.jpeg()[:-2] + b"\xff\xfe\0\2" * MANY + b"\xff\xd9", PARTS
    ),
    "bytes between markers": (lambda: hostile.jpeg_with(b"\xff\xfe\0\2" + bytes(MANY)), PARTS),
    "EXIF of a JPEG": (
        lambda: hostile.jpeg_with((b"\xff\xe1\xff\xff" + b"Exif\0\0".ljust(65533, b"a")) * 101),
        COSTLY,
    ),
    "Photoshop's blocks": (
        lambda: hostile.jpeg_with((b"\xff\xed\0\x20" + b"Photoshop 3.0\0".ljust(30)) * 101), COSTLY
    ),
    "chunks": (lambda: hostile.png(chunks=hostile.chunk(b"teSt", b"") * MANY), PARTS),
    "chunks after the pixels": (
        lambda: hostile.png(after=hostile.chunk(b"teSt", b"") * MANY), PARTS
    ),
    "profiles": (lambda: hostile.png_of_profiles(101), COSTLY),
    "a tile": (lambda: hostile.tiff_of_a_tile(40_000), "tiles far larger.*: 40000 x 40000 pixels"),
    "comments of a GIF": (lambda: hostile.gif_of_comments(MANY), PARTS),
    "canvas of a WebP": (
        lambda: hostile.webp_of_frames(1, 9000, 9000), "more than 64,000,000 pixels: 9000 x 9000"
    ),
    "runs": (lambda: hostile.bmp_of_runs(2000, 2000), SLOW),
    "another maximum": (lambda: hostile.pgm(1100, 1000, 254, data=bytes(1_100_000)), SLOW),
    "digits": (lambda: hostile.pgm(1100, 1000, 255, b"P2", b"0 " * 1_100_000), SLOW),
    "comments among digits": (lambda: hostile.pgm(9, 9, 255, b"P2", b"#\n" * 200_000), COSTLY),
    "a long comment": (lambda: b"P5 #" + b"a" * MANY + b"\n8 8 255\n" + bytes(64), PARTS),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_a_costly_file_is_refused_at_once(tmp_path, kind):
    make, reason = REFUSED[kind]
    (tmp_path / "a").write_bytes(make())
    start = time.process_time()
    with pytest.raises(ValueError, match=f"^{reason}"):
        read_photo(tmp_path / "a")
    assert time.process_time() - start < 2


PACKED = zlib.compress(bytes(64))
# By name: what makes the file, and the note that it is read with.
READ = {
    "as many scans as are allowed": (lambda: hostile.jpeg_of_scans(490), ""),
    "scans in a thumbnail": (
        lambda: hostile.jpeg_with(b"\xff\xe1\x07\xd2" + b"\xff\xda" * 1000), ""
    ),
    "scans after the end": (lambda: hostile.jpeg() + hostile.jpeg_of_scans(600), ""),
    "directories": (lambda: hostile.tiff_of_directories(60_000), "first of several frames"),
    "frames of a GIF": (lambda: hostile.gif_of_frames(MANY), "first of several frames"),
    "frames of a WebP": (lambda: hostile.webp_of_frames(MANY), "first of 150002 frames"),
    "overlapping tags": (lambda: hostile.tiff_of_overlapping_tags(2000, 4_000_000), ""),
    "rows of a strip": (
        lambda: hostile.tiff(
            hostile.grey(8, 8, (278, 4, 1, 10**9), size=len(PACKED), compression=8), data=PACKED
        ),
        "",
    ),
    "a tile larger than the image": (
        lambda: hostile.tiff_of_a_tile(256, zlib.compress(bytes(65_536))), ""
    ),
    "elements of a profile": (
        lambda: hostile.encoded(
            Image.new("RGB", (8, 8)), format="TIFF", icc_profile=hostile.profile_of_elements(50_000)
        ),
        "unusable colour profile ignored",
    ),
    "runs of a small BMP": (lambda: hostile.bmp_of_runs(64, 64), None),
    "digits of a small PGM": (lambda: hostile.pgm(100, 100, 9, b"P2", b"5 " * 10_000), ""),
}  # fmt: skip


@pytest.mark.parametrize("kind", READ)
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_what_can_be_bounded_is_read(tmp_path, kind):
    make, note = READ[kind]
    (tmp_path / "a").write_bytes(make())
    start = time.process_time()
    if note is None:  # this file ends early
        with pytest.raises(ValueError, match="^truncated$"):
            read_photo(tmp_path / "a")
    else:
        image, received = read_photo(tmp_path / "a")
        assert received == note
        assert image.mode == "RGB"
    assert time.process_time() - start < 3


MEGABYTES = """
import resource, sys, warnings
from pathlib import Path
from gradcam_adv import machine, threads
from gradcam_adv.data import faces, photos

def used():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

def look(path):
    try:
        with photos.opened(path) as (photo, _):
            faces.for_detection(photo)
    except ValueError:
        return
    assert path.name.startswith("large"), path

machine.cores = lambda: 8
warnings.simplefilter("ignore")
before = used()
list(threads.map_in_threads(look, sorted(Path(sys.argv[1]).iterdir())))
print(used() - before)
"""


def megabytes(folder):
    """What reading the files of a folder in eight threads, as for detection, takes at most."""
    arguments = [sys.executable, "-c", MEGABYTES, folder]
    return int(subprocess.run(arguments, capture_output=True, text=True, check=True).stdout)


def test_refusals_take_little_memory(tmp_path):
    for number, (make, _) in enumerate(REFUSED.values()):
        (tmp_path / f"{number}").write_bytes(make())
    assert megabytes(tmp_path) < 150


@pytest.mark.slow
def test_eight_threads_with_the_largest_photos_take_the_memory_of_one(tmp_path):
    content = hostile.jpeg(8000, 8000)
    for number in range(16):
        (tmp_path / f"large {number}").write_bytes(content)
    assert megabytes(tmp_path) < 800


# What is no regular file, or has no end.


def swift(function, *arguments):
    """The result of a call that may not wait; an AssertionError if it does."""
    results = []

    def run():
        try:
            results.append(function(*arguments))
        except ValueError as error:
            results.append(str(error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(20)
    assert results, "it waits"
    return results[0]


SPECIAL = {
    "/dev/zero": "unreadable: not a regular file",
    "/dev/tty": "unreadable: .*",
    "/proc/self/environ": "empty file",
    "/proc/self/mem": "empty file",
    "/proc/kmsg": "empty file|unreadable: .*",
}


@pytest.fixture
def special(tmp_path):
    """A folder of two people with good photos, and beside them what never ends."""
    for name in ("ann", "bob"):
        for number in range(4):
            write_photo(tmp_path / name / f"{number}.png", 10 * ord(name[0]) + number)
    reasons = {"pipe.jpg": "unreadable: not a regular file", "sparse.jpg": "more than 256 MB"}
    os.mkfifo(tmp_path / "ann" / "pipe.jpg")
    os.mkfifo(tmp_path / "ann" / "pipe")  # not known as a photo without being opened
    (tmp_path / "ann" / "sparse.jpg").write_bytes(hostile.jpeg())
    os.truncate(tmp_path / "ann" / "sparse.jpg", 2**40)
    for number, (target, reason) in enumerate(SPECIAL.items()):
        if os.path.exists(target):
            (tmp_path / "ann" / f"special {number}.jpg").symlink_to(target)
            reasons[f"special {number}.jpg"] = reason
    return tmp_path, reasons


def check_reasons(received, expected):
    assert received.keys() == expected.keys()
    for name, reason in expected.items():
        assert re.fullmatch(reason, received[name]), (name, received[name])


def test_a_study_lists_what_never_ends_and_goes_on(special):
    root, reasons = special

    def table():
        listing = sources.list_photos(str(root), classes=None, min_photos=3, seed=0)
        return datasets.make_table(
            listing, classes=None, min_photos=3, max_photos=None, split=(0.6, 0.2, 0.2), seed=0
        )

    result = swift(table)
    assert len(result.kept) == 8
    photo = result.excluded["photo"].str.removeprefix("ann/")
    check_reasons(dict(zip(photo, result.excluded["reason"], strict=True)), reasons)


def test_a_folder_run_lists_what_never_ends_and_goes_on(special):
    root, reasons = special
    layers = [keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(2)]
    model = keras.Sequential(layers)
    images, excluded = swift(images_of, root, model)
    assert len(images) == 8
    names = excluded["image"].str.removeprefix("ann/")
    check_reasons(dict(zip(names, excluded["reason"], strict=True)), reasons)


def test_a_pipe_put_in_the_place_of_a_photo_is_not_waited_for(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_bytes(hostile.jpeg())
    seen = os.stat(tmp_path / "b.jpg")
    with monkeypatch.context() as patch:
        patch.setattr(regular.os, "stat", lambda path: seen)
        result = swift(read_photo, tmp_path / "a.jpg")
    assert result == "unreadable: not a regular file"


def test_the_bytes_that_are_checked_are_decoded(tmp_path, monkeypatch):
    Image.new("RGB", (8, 8), "red").save(tmp_path / "a.png")
    check = image_files.content

    def replaced(*arguments):
        found = check(*arguments)
        (tmp_path / "a.png").write_bytes(hostile.png(9000, 9000, data=b""))
        return found

    monkeypatch.setattr(image_files, "content", replaced)
    image, _ = read_photo(tmp_path / "a.png")
    assert np.asarray(image)[0, 0].tolist() == [255, 0, 0]


def test_a_large_file_is_refused_by_its_size_alone(tmp_path, monkeypatch):
    (tmp_path / "a.jpg").write_bytes(hostile.jpeg())
    monkeypatch.setattr(image_files, "MAXIMUM_BYTES", 3_000_000)
    os.truncate(tmp_path / "a.jpg", 3_000_000)
    assert read_photo(tmp_path / "a.jpg")[0].size == (64, 64)
    os.truncate(tmp_path / "a.jpg", 3_000_001)
    with pytest.raises(ValueError, match="^more than 3 MB$"):
        read_photo(tmp_path / "a.jpg")


# One large photo at a time.


@pytest.mark.parametrize("limit", ["LARGE_PIXELS", "LARGE_BYTES"])
def test_one_large_photo_is_open_at_a_time(tmp_path, monkeypatch, limit):
    write_photo(tmp_path / "large.png", 0, (60, 60))
    write_photo(tmp_path / "small.png", 1, (20, 20))
    monkeypatch.setattr(photos, limit, {"LARGE_PIXELS": 1000, "LARGE_BYTES": 5000}[limit])
    done = threading.Event()

    def open_large():
        with photos.opened(tmp_path / "large.png"):
            done.set()

    other = threading.Thread(target=open_large, daemon=True)
    with photos.opened(tmp_path / "large.png"):
        other.start()
        assert swift(read_photo, tmp_path / "small.png")[0].size == (20, 20)
        assert not done.wait(0.2)
    assert done.wait(20)
    other.join()


def test_a_refused_large_photo_lets_the_next_one_in(tmp_path, monkeypatch):
    monkeypatch.setattr(photos, "LARGE_PIXELS", 1000)
    content = hostile.png(60, 60)
    (tmp_path / "cut.png").write_bytes(content[: content.index(b"IDAT") + 8])
    (tmp_path / "whole.png").write_bytes(content)
    with pytest.raises(ValueError, match=r"^truncated$"):
        read_photo(tmp_path / "cut.png")
    assert swift(read_photo, tmp_path / "whole.png")[0].size == (60, 60)


# Mutated files.


def test_mutated_images_are_read_or_refused():
    found, read = fuzzed.faults(range(400))
    assert found == []
    assert 40 < read < 360


@pytest.mark.slow
def test_many_mutated_images_are_read_or_refused():
    assert fuzzed.faults(range(1_000_000, 1_002_000))[0] == []
