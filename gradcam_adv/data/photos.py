"""Reading photos of many file formats, resizing them, and rounding them as image files do."""

from __future__ import annotations

import contextlib
import io
import re
import stat
import struct
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import imagehash
import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from gradcam_adv import threads

# A file with more pixels may be a decompression bomb, and is refused before it is decoded.
MAXIMUM_PIXELS = 64_000_000
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
JPEG_QUALITY = 95

StoredAs = Literal["float32", "png", "jpeg"]

# "JPEG" includes MPO and "PPM" all of PBM, PGM, PPM.
_FORMATS = ("JPEG", "PNG", "PPM", "WEBP", "BMP", "TIFF", "GIF")
_FIRST_BYTES = re.compile(
    rb"\xff\xd8\xff|\x89PNG|P[1-6]\s|RIFF....WEBP|BM|II\*\0|MM\0\*|GIF8", re.DOTALL
)
# The first bytes by which a file with another suffix is known as a photo.
_PHOTO = re.compile(rb"\xff\xd8\xff|\x89PNG|RIFF....WEBP|II\*\0|MM\0\*|GIF8|....ftyp[ham]", re.S)
_HEIF = re.compile(rb"....ftyp(heic|heix|hevc|heim|mif1|msf1|avif|avis)", re.DOTALL)


class _Unusable(ValueError):
    """A photo can't be used. The message holds only the reason, without the path."""


class _File(io.BufferedReader):
    """A file that records whether a read returned fewer bytes than it asked for."""

    ended_early = False

    def read(self, size: int | None = -1) -> bytes:
        content = super().read(size)
        if size is not None and len(content) < size:
            self.ended_early = True
        return content


def may_be_photo(path: Path) -> bool:
    """Whether a file looks like a photo, to be read or listed as left out."""
    if path.suffix.lower() in SUFFIXES or path.suffix.lower() in UNREAD:
        return True
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait forever
            return False
        with path.open("rb") as file:
            return _PHOTO.match(file.read(16)) is not None
    except OSError:
        return False


def read(path: Path) -> tuple[Image.Image, str]:
    """Read a photo as 8-bit RGB in sRGB, upright by its EXIF orientation, at its original size.

    With a note on what was ignored, such as "first of 5 frames"; mostly empty. Transparent pixels
    become white. If a file can't be used, a ValueError holds only the reason, without the path.
    """
    try:
        kind = UNREAD.get(path.suffix.lower(), "")
        if kind == "raw":  # some are TIFF files whose first image is a thumbnail
            raise _not_read(kind)
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait forever
            raise _Unusable("unreadable: not a regular file")
        with _File(io.FileIO(path)) as file, _open(file, kind) as image:
            if image.width * image.height > MAXIMUM_PIXELS:
                size = f"{image.width} x {image.height}"
                raise _Unusable(f"more than {MAXIMUM_PIXELS:,} pixels: {size}")
            image.load()
            upright, exif_note = _upright(image)
            colours, colour_note = _rgb(upright)
            notes = (_frames(image), exif_note, colour_note)
            return colours, "; ".join(note for note in notes if note)
    except _Unusable:
        raise
    except Image.DecompressionBombError:  # far above the limit, or a frame larger than its image
        raise _Unusable(f"more than {MAXIMUM_PIXELS:,} pixels") from None
    except MemoryError:
        raise _Unusable("not enough memory to decode it") from None
    except Exception as error:  # Pillow raises errors of many types for damaged files
        if isinstance(error, OSError) and error.errno is not None:  # from the system
            raise _Unusable(f"unreadable: {error.strerror}") from None
        message = str(error) or type(error).__name__
        if re.search("truncated|not enough image data", message, re.IGNORECASE):
            raise _Unusable("truncated") from None
        raise _Unusable(f"damaged: {message}") from None


def _open(file: _File, kind: str) -> Image.Image:
    """Open an image and read its header; the first bytes tell the reasons why that may fail."""
    start = file.read(16)
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    if size == 0:
        raise _Unusable("empty file")
    if heif := _HEIF.match(start):
        raise _not_read("AVIF" if heif[1].startswith(b"avi") else "HEIC")
    if not _FIRST_BYTES.match(start):
        raise _not_read(kind) if kind else _Unusable("not an image")
    if start.startswith(b"RIFF") and struct.unpack_from("<I", start, 4)[0] + 8 > size:
        raise _Unusable("truncated")
    file.ended_early = False
    try:
        return Image.open(file, formats=_FORMATS)
    except (Image.DecompressionBombError, MemoryError):
        raise
    except Exception as error:  # as in read()
        if file.ended_early:
            raise _Unusable("truncated") from None
        if isinstance(error, UnidentifiedImageError):  # its message does not say why
            raise _Unusable("damaged: its header makes no sense") from None
        raise


def _not_read(kind: str) -> _Unusable:
    return _Unusable(f"{kind} is not read: convert it to JPEG or PNG")


def _frames(image: Image.Image) -> str:
    """A note if the file has several frames."""
    if image.format == "MPO":  # from phones: its other frames are a preview or a stereo view
        return ""
    try:
        frames = getattr(image, "n_frames", 1)
    except Exception:  # as in read(); the first frame is decoded already
        return "first of several frames, of which some are damaged"
    return f"first of {frames} frames" if frames > 1 else ""


def _upright(image: Image.Image) -> tuple[Image.Image, str]:
    """The image turned by its EXIF orientation, and a note."""
    try:
        return ImageOps.exif_transpose(image), ""
    except Exception:  # as in read(); the pixels are decoded already
        return image, "damaged EXIF ignored"


def _rgb(image: Image.Image) -> tuple[Image.Image, str]:
    """The image as 8-bit RGB on a white background, and a note."""
    profile = image.info.get("icc_profile")
    if image.mode == "F":
        raise _Unusable("floating-point pixels, whose range is not known")
    if image.mode.startswith("I"):  # Pillow's convert("L") would clip values above 255
        grey = np.asarray(image.convert("I"))
        if grey.min() < 0 or grey.max() > 65535:
            raise _Unusable("pixels beyond 16 bits, whose range is not known")
        image = Image.fromarray(np.rint(grey / 257).astype(np.uint8))
    mode = {"CMYK": "CMYK", "1": "L", "L": "L", "LA": "L"}.get(image.mode, "RGB")
    if not image.has_transparency_data:
        return _srgb(image.convert(mode), profile)
    rgba = image.convert("RGBA")
    colours, note = _srgb(rgba.convert(mode), profile)
    white = Image.new("RGB", colours.size, "white")
    return Image.composite(colours, white, rgba.getchannel("A")), note


def _srgb(image: Image.Image, profile: bytes | None) -> tuple[Image.Image, str]:
    """An L, RGB or CMYK image in sRGB, by its embedded profile if it has one; and a note."""
    if not profile:
        return image.convert("RGB"), ""
    try:
        embedded = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if image.mode == "L" and embedded.profile.xcolor_space.strip() == "RGB":
            image = image.convert("RGB")
        srgb = ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, embedded, srgb, outputMode="RGB")
    except Exception:  # as in read(); the pixels are decoded already
        return image.convert("RGB"), "unusable colour profile ignored"
    assert converted is not None  # it is None only for a conversion in place
    return converted, ""


def perceptual_hash(image: Image.Image) -> np.ndarray:
    """bool (64,): copies of a photo in another size or compression differ in few bits."""
    return imagehash.phash(image).hash.ravel()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence Pillow's warnings about files; :func:`read` gives a reason or a note instead.

    Use it around the threads that read, not inside them: warning filters belong to the process.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def read_known(path: Path) -> Image.Image:
    """A photo from :func:`read`, without the note; ValueError with its path if it can't be used."""
    try:
        return read(path)[0]
    except ValueError as error:
        raise ValueError(f"Expected a readable photo. Received: {path}: {error}") from None


def decode_all(paths: Iterable[Path], size: int) -> np.ndarray:
    """Read photos in threads and stretch them to squares with an antialiased bilinear filter.

    Returns:
        float32 (N, size, size, 3), RGB, values in [0, 1].

    Raises:
        ValueError: a file can't be used; the message holds its path and the reason.
    """

    def pixels(path: Path) -> np.ndarray:
        image = read_known(path).resize((size, size), Image.Resampling.BILINEAR)
        return np.asarray(image, np.float32) / 255

    with quiet():
        return np.stack(list(threads.map_in_threads(pixels, paths)))


def as_stored(images: np.ndarray, stored_as: StoredAs) -> np.ndarray:
    """Images, float32 (N, H, W, 3) in [0, 1], as they are after saving and reading them again.

    ``stored_as`` is "float32" (unchanged), "png" (rounded to 8 bits) or "jpeg" (quality 95).
    """
    if stored_as == "float32":
        return images
    pixels = to_8bit(images)
    if stored_as == "jpeg":
        for i, image in enumerate(pixels):
            buffer = io.BytesIO()
            Image.fromarray(image).save(buffer, "JPEG", quality=JPEG_QUALITY)
            pixels[i] = np.asarray(Image.open(buffer))
    return pixels.astype(np.float32) / 255


def to_8bit(images: np.ndarray) -> np.ndarray:
    """Images in [0, 1], rounded to uint8 in 0-255, of the same shape."""
    return np.rint(images * 255).astype(np.uint8)
