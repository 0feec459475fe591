"""Damaged photos as real folders hold them: each is listed with its reason, the good are used."""

import io
import os
import re
import struct
import warnings
import zipfile
import zlib

import numpy as np
import pandas as pd
import pytest
from conftest import read_photo, write_photo
from PIL import Image

from gradcam_adv.data import datasets, photos, sources
from gradcam_adv.files import write
from gradcam_adv.study.columns import read_table

RNG = np.random.default_rng(0)
PHOTO = Image.fromarray(RNG.integers(0, 256, (64, 48, 3), np.uint8))
FORMATS = {
    "jpg": {"format": "JPEG"},
    "progressive.jpg": {"format": "JPEG", "progressive": True},
    "png": {"format": "PNG"},
    "webp": {"format": "WEBP"},
    "lossless.webp": {"format": "WEBP", "lossless": True},
    "bmp": {"format": "BMP"},
    "tif": {"format": "TIFF"},
    "gif": {"format": "GIF"},
    "ppm": {"format": "PPM"},
}


def encoded(image=PHOTO, **how):
    buffer = io.BytesIO()
    image.save(buffer, **how)
    return buffer.getvalue()


def chunk(name, content):
    body = name + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def png(width, height, *chunks):
    header = chunk(b"IHDR", struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(bytes(100)))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + data + chunk(b"IEND", b"")


def bmp(width, height):
    content = bytearray(encoded(format="BMP"))
    content[18:26] = struct.pack("<2i", width, height)
    return bytes(content)


def gif(width, height):
    content = bytearray(encoded(format="GIF"))
    content[6:10] = struct.pack("<2H", width, height)
    return bytes(content)


def jpeg(width, height):
    content = bytearray(encoded(format="JPEG"))
    start = content.index(b"\xff\xc0") + 5
    content[start : start + 4] = struct.pack(">2H", height, width)
    return bytes(content)


def overwritten(content, start, length):
    """``content`` with some bytes replaced by noise."""
    noise = np.random.default_rng(start).bytes(length)
    return content[:start] + noise + content[start + length :]


def zipped():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("photo.jpg", encoded(format="JPEG"))
    return buffer.getvalue()


def heif(brand):
    return struct.pack(">I4s4s4x4s4s", 24, b"ftyp", brand, b"mif1", brand) + RNG.bytes(500)


def malformed():
    """By file name: the content, and the reason expected, as a regular expression."""
    files = {
        "empty.jpg": (b"", "empty file"),
        "empty.png": (b"", "empty file"),
        "empty.jpeg": (b"", "empty file"),
        "text.jpg": (b"no image at all", "not an image"),
        "text with blanks.jpg": (b"no image at all", "not an image"),
        "short.jpg": (b"\xff\xd8", "not an image"),
        "zeros.jpg": (bytes(5000), "not an image"),
        "noise.png": (b"\x07" + RNG.bytes(5000), "not an image"),
        "page.png": (b"<!DOCTYPE html><html><body>403 Forbidden</body></html>", "not an image"),
        "drawing.png": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "not an image"),
        "archive.jpg": (zipped(), "not an image"),
        "film.jpg": (struct.pack(">I4s4s", 24, b"ftyp", b"isom") + bytes(99), "not an image"),
        "IMG_1.HEIC": (heif(b"heic"), "HEIC is not read: convert it to JPEG or PNG"),
        "IMG_2.jpg": (heif(b"heic"), "HEIC is not read: convert it to JPEG or PNG"),
        "IMG_3.png": (heif(b"avif"), "AVIF is not read: convert it to JPEG or PNG"),
        "IMG_4.avif": (heif(b"avif"), "AVIF is not read: convert it to JPEG or PNG"),
        # a raw format is a TIFF file that begins with a thumbnail
        "raw.DNG": (encoded(format="TIFF"), "raw is not read: .*"),
        "layers.psd": (b"8BPS" + bytes(99), "PSD is not read: .*"),
        "vector.svg": (b"<svg/>", "SVG is not read: .*"),
        "bomb.png": (png(60_000, 60_000), "more than 64,000,000 pixels"),
        "bomb.bmp": (bmp(60_000, 60_000), "more than 64,000,000 pixels"),
        "bomb.pgm": (b"P5 60000 60000 255\n" + bytes(99), "more than 64,000,000 pixels"),
        "bomb.gif": (gif(60_000, 60_000), "more than 64,000,000 pixels"),
        "bomb.jpg": (jpeg(60_000, 60_000), "more than 64,000,000 pixels"),
        "large.png": (png(8001, 8000), "more than 64,000,000 pixels: 8001 x 8000"),
        "larger.jpg": (jpeg(10_000, 9_900), "more than 64,000,000 pixels: 10000 x 9900"),
        "width 0.png": (png(0, 10), "damaged: .*"),
        "height 0.png": (png(10, 0), "damaged: .*"),
        "width 0.bmp": (bmp(0, 10), "damaged: .*"),
        "width 0.pgm": (b"P5 0 10 255\n" + bytes(99), "damaged: .*"),
        "width 0.jpg": (jpeg(0, 10), "damaged: .*"),
        "nothing behind the header.pgm": (b"P5 # a comment\n10 10 15\n", "truncated"),
        "negative.pgm": (b"P5 -3 10 255\n" + bytes(99), "damaged: .*"),
        "letters.pgm": (b"P5 x y 255\n" + bytes(99), "damaged: .*"),
        "much text.png": (
            png(4, 4, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(9_000_000)))),
            "damaged: Decompressed data too large.*",
        ),
        "no palette.png": (png(4, 4).replace(b"\x08\x02", b"\x08\x09"), "damaged: .*"),
        "floating point.tif": (
            encoded(Image.fromarray(RNG.random((9, 9), np.float32)), format="TIFF"),
            "floating-point pixels.*",
        ),
        "32 bits.tif": (
            encoded(Image.fromarray(np.full((9, 9), 2**20, np.int32)), format="TIFF"),
            "pixels beyond 16 bits.*",
        ),
    }
    for name, how in FORMATS.items():
        content = encoded(**how)
        for share in (0.3, 0.6, 0.9):
            files[f"cut at {share}.{name}"] = (content[: int(share * len(content))], "truncated")
        # all the format's first bytes, and little more
        files[f"header.{name}"] = (content[:17], "truncated")
    # Noise in a JPEG's or BMP's pixels can't be told from pixels; here it can.
    for name in ("png", "gif"):
        content = encoded(**FORMATS[name])
        files[f"noise inside.{name}"] = (overwritten(content, len(content) // 2, 40), "damaged: .*")
    for name in ("jpg", "png", "webp"):
        noisy = overwritten(encoded(**FORMATS[name]), 17, 200)
        files[f"noise up front.{name}"] = (noisy, "damaged: .*|truncated")
    content = encoded(**FORMATS["png"])
    files["one bit.png"] = (
        content[:5000] + bytes([content[5000] ^ 1]) + content[5001:],
        "damaged.*",
    )
    return files


MALFORMED = malformed()


@pytest.fixture
def folder(tmp_path):
    for name in ("ann", "bob"):
        for number in range(8):
            write_photo(tmp_path / name / f"good {number}.png", 10 * ord(name[0]) + number)
    for number, (name, (content, _)) in enumerate(MALFORMED.items()):
        (tmp_path / ("ann", "bob")[number % 2] / name).write_bytes(content)
    ann = tmp_path / "ann"
    (ann / "old copy.png").write_bytes((ann / "good 0.png").read_bytes())
    (ann / "dangling.jpg").symlink_to("nowhere.jpg")
    (ann / "directory.jpg").mkdir()
    os.mkfifo(ann / "pipe.jpg")
    return tmp_path


def test_damaged_photos_are_listed_with_reasons_and_the_good_ones_are_used(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = datasets.make_table(
            sources.list_photos(str(folder), classes=None, min_photos=3, seed=0),
            classes=None,
            min_photos=3,
            max_photos=None,
            split=(0.8, 0.1, 0.1),
            seed=0,
        )
    expected = {name: reason for name, (_, reason) in MALFORMED.items()} | {
        "old copy.png": "exact duplicate of ann/good 0.png",
        "dangling.jpg": "unreadable: a link that leads nowhere",
        "pipe.jpg": "unreadable: not a regular file",
    }
    received = {
        photo.partition("/")[2]: reason
        for photo, reason in zip(result.excluded["photo"], result.excluded["reason"], strict=True)
    }
    assert received.keys() == expected.keys()
    wrong = {
        name: received[name]
        for name, reason in expected.items()
        if not re.fullmatch(reason, received[name])
    }
    assert wrong == {}
    assert len(result.excluded) == len(MALFORMED) + 3 >= 60
    assert result.kept["photo"].tolist() == [
        f"{name}/good {number}.png" for name in ("ann", "bob") for number in range(8)
    ]
    assert len(datasets.summary(result)) < 900


def test_photos_checked_in_parts_give_the_same_table(folder, tmp_path):
    with Image.open(folder / "bob" / "good 3.png") as image:
        image.point(lambda value: 0.9 * value).save(folder / "bob" / "darker.png")
    listing = sources.list_photos(str(folder), classes=None, min_photos=3, seed=0)
    choices = {"classes": None, "min_photos": 3, "max_photos": 9, "split": (0.8, 0.1, 0.1)}
    at_once = datasets.make_table(listing, **choices, seed=0)
    parts = []
    for start in range(0, len(listing.files), 7):
        part = datasets.check_photos(listing.root, listing.files.iloc[start : start + 7])
        write.table(tmp_path / "part.csv", part)
        parts.append(read_table(tmp_path / "part.csv"))
    checked = pd.concat(parts, ignore_index=True)
    in_parts = datasets.make_table(listing, **choices, seed=0, checked=checked)
    assert set(at_once.kept["group"]) == {"", "bob/darker.png"}
    for name in ("kept", "excluded", "identities"):
        pd.testing.assert_frame_equal(getattr(in_parts, name), getattr(at_once, name))
    with pytest.raises(ValueError, match="of the listing's .* photos, in their order"):
        datasets.make_table(listing, **choices, seed=0, checked=checked.iloc[::-1])


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_any_damage_gives_a_reason_or_a_photo(tmp_path, name):
    content = encoded(**FORMATS[name])
    path = tmp_path / f"a.{name}"
    read = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        damaged = bytearray(content[: rng.integers(1, len(content)) if seed % 3 else None])
        # half of the damage is in the header, where it has the most effect
        reach = len(damaged) if seed % 2 else min(len(damaged), 200)
        for place in rng.integers(0, reach, 3):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            image, _ = read_photo(path)
        except ValueError as error:
            assert str(tmp_path) not in str(error)
            assert str(error)
        else:
            assert image.mode == "RGB"
            read += 1
    assert read < 60


def test_warnings_of_pillow_are_not_shown(tmp_path):
    # More pixels than Pillow likes, fewer than it refuses.
    (tmp_path / "large.png").write_bytes(png(10_000, 10_000))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match="more than 64,000,000 pixels: 10000 x 10000"):
            photos.decode_all([tmp_path / "large.png"], 8)
