"""The files of photos: opened once, and bounded before and while Pillow reads them."""

from __future__ import annotations

import io
import re
import struct
from pathlib import Path
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

from gradcam_adv.files.regular import open_regular

# A file with more pixels may be a decompression bomb, and is refused before it is decoded.
MAXIMUM_PIXELS = 64_000_000
# Cameras write JPEGs of up to some 60 MB, and TIFFs of up to 140 MB (45 megapixels). MAXIMUM_PIXELS
# in 8-bit RGB take 192 MB without compression.
MAXIMUM_BYTES = 256_000_000
# Parts of a file: how often Pillow may ask for its next bytes. It takes some microseconds for each,
# and a file can have millions. It asks 94,000 times for a PNG of MAXIMUM_BYTES in chunks of 8 kB.
MAXIMUM_PARTS = 120_000
# Each scan of a progressive JPEG goes over the whole image. Usual are 10; libjpeg's own tests stop
# at 500. 20 over MAXIMUM_PIXELS take some two seconds.
MAXIMUM_SCANS = 500
_SCANNED_PIXELS = 20 * MAXIMUM_PIXELS
# Parts that Pillow unpacks or takes apart in Python, some milliseconds each, by their first bytes.
_COSTLY = {
    b"\xff\xd8": (b"Exif\0\0", b"Photoshop 3.0\0"),
    b"\x89P": (b"iCCP", b"zTXt", b"iTXt"),
    **dict.fromkeys((b"P1", b"P2", b"P3"), (b"#",)),  # comments among the numbers
}
MAXIMUM_COSTLY = 100
# Some encodings are decoded in Python, a microsecond for each value: run-length encoded BMPs, and
# PPMs that are written in digits or whose largest value is not 255.
MAXIMUM_SLOW_PIXELS = 1_000_000
# A tile of a TIFF may be larger than its image, up to this many pixels.
LARGEST_TILE = 4096 * 4096

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".bmp", ".tif", ".tiff", ".gif"),
    *(".pbm", ".pgm", ".ppm", ".pnm", ".mpo", ".dib"),
)
# Image formats that are not supported, by suffix, with their names for the message.
UNREAD = {
    **dict.fromkeys((".heic", ".heif", ".hif"), "HEIC"),
    **dict.fromkeys((".avif", ".avifs"), "AVIF"),
    **dict.fromkeys((".jp2", ".j2k", ".jpf", ".jpx"), "JPEG 2000"),
    **{".jxl": "JPEG XL", ".psd": "PSD", ".tga": "TGA", ".svg": "SVG"},
    **dict.fromkeys((".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".sr2"), "raw"),
    **dict.fromkeys((".orf", ".rw2", ".raf", ".pef", ".srw", ".x3f", ".3fr", ".iiq"), "raw"),
}

# "JPEG" includes MPO and "PPM" all of PBM, PGM, PPM.
_FORMATS = ("JPEG", "PNG", "PPM", "WEBP", "BMP", "TIFF", "GIF")
_FIRST_BYTES = re.compile(
    rb"\xff\xd8\xff|\x89PNG|P[1-6]\s|RIFF....WEBP|BM|II\*\0|MM\0\*|GIF8", re.DOTALL
)
# The first bytes by which a file with another suffix is known as a photo.
_PHOTO = re.compile(rb"\xff\xd8\xff|\x89PNG|RIFF....WEBP|II\*\0|MM\0\*|GIF8|....ftyp[ham]", re.S)
_HEIF = re.compile(rb"....ftyp(heic|heix|hevc|heim|mif1|msf1|avif|avis)", re.DOTALL)
# The markers of a JPEG that end its data. FF 00 is a byte of the data, FF D0 to D7 are inside it.
_MARKER = re.compile(rb"\xff([\xc0-\xcf\xd8-\xfe])", re.DOTALL)
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9


class Unusable(ValueError):
    """A photo can't be used. The message holds only the reason, without the path."""


class Content(io.BytesIO):
    """A file's bytes. Counts how often it is read, and records a read of less than asked for."""

    ended_early = False
    parts = 0

    def read(self, size: int | None = -1) -> bytes:
        self.parts += 1
        if self.parts > MAXIMUM_PARTS:
            raise _too_many_parts()
        content = super().read(size)
        if size is not None and len(content) < size:
            self.ended_early = True
        return content


def may_be_photo(path: Path) -> bool:
    """Whether a file looks like a photo, to be read or listed as left out.

    A broken link does: nobody knows what it led to.
    """
    if path.suffix.lower() in SUFFIXES or path.suffix.lower() in UNREAD:
        return True
    try:
        file, _ = open_regular(path)
        with file:
            return _PHOTO.match(file.read(16) or b"") is not None
    except (OSError, ValueError):
        return path.is_symlink() and not path.exists()


def open_file(path: Path) -> tuple[BinaryIO, int]:
    """A photo's file and its size in bytes, of which no more is read; Unusable if it is too large.

    All that reads photos opens them here.
    """
    try:
        file, size = open_regular(path)
    except OSError as error:
        broken = isinstance(error, FileNotFoundError) and path.is_symlink()
        why = "a link that leads nowhere" if broken else error.strerror
        raise Unusable(f"unreadable: {why}") from None
    except ValueError as error:
        raise Unusable(f"unreadable: {error}") from None
    if size > MAXIMUM_BYTES:
        file.close()
        raise Unusable(f"more than {MAXIMUM_BYTES // 1_000_000} MB")
    return file, size


def content(file: BinaryIO, size: int, kind: str) -> Content:
    """The bytes of an opened file, if they may be an image that is read.

    ``kind`` is the format of which its suffix speaks if that one is not read, or empty.
    """
    if size == 0:  # nothing is read, since a file below /proc may have no end
        raise Unusable("empty file")
    start = file.read(16)
    if heif := _HEIF.match(start):
        raise not_read("AVIF" if heif[1].startswith(b"avi") else "HEIC")
    if not _FIRST_BYTES.match(start):
        raise not_read(kind) if kind else Unusable("not an image")
    if start.startswith(b"RIFF") and struct.unpack_from("<I", start, 4)[0] + 8 > size:
        raise Unusable("truncated")
    file.seek(0)
    found = file.read(size)
    if sum(map(found.count, _COSTLY.get(found[:2], ()))) > MAXIMUM_COSTLY:
        raise Unusable(f"more than {MAXIMUM_COSTLY} blocks of text, EXIF or colour profiles")
    return Content(found)


def open_image(file: Content) -> Image.Image:
    """An image whose header is read and whose pixels are not; Unusable if they cost too much."""
    try:
        image = Image.open(file, formats=_FORMATS)
    except (Unusable, Image.DecompressionBombError, MemoryError):
        raise
    except Exception as error:  # Pillow raises errors of many types for damaged files
        if file.ended_early:
            raise Unusable("truncated") from None
        if isinstance(error, UnidentifiedImageError):  # its message does not say why
            raise Unusable("damaged: its header makes no sense") from None
        raise
    pixels = image.width * image.height
    if pixels > MAXIMUM_PIXELS:
        raise Unusable(f"more than {MAXIMUM_PIXELS:,} pixels: {image.width} x {image.height}")
    tags = getattr(image, "tag_v2", {})  # of a TIFF, whose tiles are decoded as a whole
    match tags.get(322), tags.get(323):
        case int(width), int(height) if width * height > max(pixels, LARGEST_TILE):
            raise Unusable(f"tiles far larger than the image: {width} x {height} pixels")
    if pixels > MAXIMUM_SLOW_PIXELS and any(tile[0] in Image.DECODERS for tile in image.tile):
        raise Unusable(f"more than {MAXIMUM_SLOW_PIXELS:,} pixels in an encoding slow to decode")
    if image.format in ("JPEG", "MPO"):
        allowed = min(MAXIMUM_SCANS, _SCANNED_PIXELS // pixels)
        if _scans(file.getvalue()) > allowed:
            size = f"{image.width} x {image.height}"
            raise Unusable(f"too many scans: more than {allowed} for {size} pixels")
    return image


def _scans(jpeg: bytes) -> int:
    """How many scans a JPEG has, found as libjpeg finds them: from marker to marker."""
    scans, place = 0, 2
    for _ in range(MAXIMUM_PARTS):
        found = _MARKER.search(jpeg, place)
        if found is None or found[1][0] == _END_OF_IMAGE:
            return scans
        scans += found[1][0] == _START_OF_SCAN
        place = found.end() + int.from_bytes(jpeg[found.end() : found.end() + 2])
    raise _too_many_parts()


def _too_many_parts() -> Unusable:
    return Unusable(f"made of more than {MAXIMUM_PARTS:,} parts")


def not_read(kind: str) -> Unusable:
    return Unusable(f"{kind} is not read: convert it to JPEG or PNG")
