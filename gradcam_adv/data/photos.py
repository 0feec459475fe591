"""One photo: read it whatever its kind, bring it to the study's size, store it as a file would."""

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

# Beyond this many pixels a file is refused before it is decoded (a decompression bomb).
MAXIMUM_PIXELS = 64_000_000
SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".bmp", ".tif", ".tiff", ".gif"),
    *(".pbm", ".pgm", ".ppm", ".pnm", ".mpo", ".dib"),
)
# Pictures by their name, which are not read: what to call them where the content says no more.
UNREAD = {
    **dict.fromkeys((".heic", ".heif", ".hif"), "HEIC"),
    **dict.fromkeys((".avif", ".avifs"), "AVIF"),
    **dict.fromkeys((".jp2", ".j2k", ".jpf", ".jpx"), "JPEG 2000"),
    ".jxl": "JPEG XL",
    ".psd": "PSD",
    ".tga": "TGA",
    ".svg": "SVG",
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
# What a file of another name begins with when it is a photo all the same.
_PHOTO = re.compile(rb"\xff\xd8\xff|\x89PNG|RIFF....WEBP|II\*\0|MM\0\*|GIF8|....ftyp[ham]", re.S)
_HEIF = re.compile(rb"....ftyp(heic|heix|hevc|heim|mif1|msf1|avif|avis)", re.DOTALL)


class _Unusable(ValueError):
    """A photo that can't be used; the message is the reason alone."""


class _File(io.BufferedReader):
    """A file that knows whether a read found fewer bytes than it asked for."""

    ended_early = False

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))

    def read(self, size: int | None = -1) -> bytes:
        content = super().read(size)
        if size is not None and len(content) < size:
            self.ended_early = True
        return content


def may_be_photo(path: Path) -> bool:
    """Whether a file is to be read, or listed as left out: by its name, or by its first bytes."""
    if path.suffix.lower() in SUFFIXES or path.suffix.lower() in UNREAD:
        return True
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for ever
            return False
        with path.open("rb") as file:
            return _PHOTO.match(file.read(16)) is not None
    except OSError:
        return False


def read(path: Path) -> tuple[Image.Image, str]:
    """The photo, 8-bit RGB in sRGB, upright by its EXIF orientation, at its own size.

    What is transparent becomes white; of several frames the first counts.

    Returns:
        The photo, and a note on what was passed over: mostly empty, else such as "first of 5
        frames".

    Raises:
        ValueError: the file can't be used (empty, not an image, truncated, damaged, of a kind that
            is not read, unreadable, over MAXIMUM_PIXELS); the message is the reason alone, without
            the path.
    """
    try:
        kind = UNREAD.get(path.suffix.lower(), "")
        if kind == "raw":  # some are TIFF files whose first image is a thumbnail
            raise _not_read(kind)
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for ever
            raise _Unusable("unreadable: not a regular file")
        with _File(path) as file, _open(file, kind) as image:
            if image.width * image.height > MAXIMUM_PIXELS:
                raise _too_many_pixels(f": {image.width} x {image.height}")
            image.load()
            upright, exif_note = _upright(image)
            colours, colour_note = _rgb(upright)
            notes = (_frames(image), exif_note, colour_note)
            return colours, "; ".join(note for note in notes if note)
    except _Unusable:
        raise
    except Image.DecompressionBombError:  # far over the limit, or a frame larger than its image
        raise _too_many_pixels() from None
    except MemoryError:
        raise _Unusable("not enough memory to decode it") from None
    except Exception as error:  # Pillow raises nearly anything on damaged files
        raise _Unusable(_why(error)) from None


def _open(file: _File, kind: str) -> Image.Image:
    """The image, its header read; what fails here fails for a reason found in the first bytes."""
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
        if isinstance(error, UnidentifiedImageError):  # whose message is no help
            raise _Unusable("damaged: its header makes no sense") from None
        raise


def _not_read(kind: str) -> _Unusable:
    return _Unusable(f"{kind} is not read: convert it to JPEG or PNG")


def _too_many_pixels(received: str = "") -> _Unusable:
    return _Unusable(f"more than {MAXIMUM_PIXELS:,} pixels{received}")


def _why(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno is not None:  # the file system's, not Pillow's
        return f"unreadable: {error.strerror}"
    message = str(error) or type(error).__name__
    if re.search("truncated|not enough image data", message, re.IGNORECASE):
        return "truncated"
    return f"damaged: {message}"


def _frames(image: Image.Image) -> str:
    if image.format == "MPO":  # what phones write: a preview or the second eye's view behind it
        return ""
    try:
        frames = getattr(image, "n_frames", 1)
    except Exception:  # as in read(); the first frame is there already
        return "first of several frames, of which some are damaged"
    return f"first of {frames} frames" if frames > 1 else ""


def _upright(image: Image.Image) -> tuple[Image.Image, str]:
    try:
        return ImageOps.exif_transpose(image), ""
    except Exception:  # as in read(); the pixels are there already
        return image, "damaged EXIF ignored"


def _rgb(image: Image.Image) -> tuple[Image.Image, str]:
    """8-bit RGB on white, and a note."""
    profile = image.info.get("icc_profile")
    if image.mode == "F":
        raise _Unusable("floating-point pixels, whose range is not known")
    if image.mode.startswith("I"):
        image = _8_bit_grey(image)
    alpha = None
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        alpha = rgba.getchannel("A")
    mode = {"CMYK": "CMYK", "1": "L", "L": "L", "LA": "L"}.get(image.mode, "RGB")
    colours, note = _srgb((image if alpha is None else rgba).convert(mode), profile)
    if alpha is not None:
        colours = Image.composite(colours, Image.new("RGB", colours.size, "white"), alpha)
    return colours, note


def _8_bit_grey(image: Image.Image) -> Image.Image:
    """16 bits a pixel scaled to 8, where convert() would cut off at 255."""
    grey = np.asarray(image.convert("I"))
    if grey.min() < 0 or grey.max() > 65535:
        raise _Unusable("pixels beyond 16 bits, whose range is not known")
    return Image.fromarray(np.rint(grey / 257).astype(np.uint8))


def _srgb(image: Image.Image, profile: bytes | None) -> tuple[Image.Image, str]:
    """Colours of an L, RGB or CMYK image as sRGB, by its embedded profile where there is one."""
    if not profile:
        return image.convert("RGB"), ""
    try:
        embedded = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if image.mode == "L" and embedded.profile.xcolor_space.strip() == "RGB":
            image = image.convert("RGB")
        srgb = ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, embedded, srgb, outputMode="RGB")
    except Exception:  # as in read(); the pixels are there already
        return image.convert("RGB"), "unusable colour profile ignored"
    assert converted is not None  # it is None only when asked to convert in place
    return converted, ""


def perceptual_hash(image: Image.Image) -> np.ndarray:
    """bool (64,): few of them differ between copies of a photo of other size or compression."""
    return imagehash.phash(image).hash.ravel()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Pillow warns of oddities in files; here a photo ends with a reason or a note instead.

    To be put around the threads that read and not inside: the filters belong to the process.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def decode(path: Path, size: int) -> np.ndarray:
    """The photo as float32 (size, size, 3), RGB, values in [0, 1].

    Stretched to the square with Pillow's antialiased bilinear filter.

    Raises:
        ValueError: as :func:`read`.
    """
    return _pixels(read(path)[0], size)


def read_known(path: Path) -> Image.Image:
    """A photo that could be read before, as :func:`read`; ValueError names its path if it can't."""
    try:
        return read(path)[0]
    except ValueError as error:
        raise ValueError(f"Expected a readable photo. Received: {path}: {error}") from None


def decode_all(paths: Iterable[Path], size: int) -> np.ndarray:
    """A batch of photos, float32 (N, size, size, 3); ValueError with the path of a bad one."""
    with quiet():
        return np.stack(list(threads.ordered(lambda path: _pixels(read_known(path), size), paths)))


def _pixels(image: Image.Image, size: int) -> np.ndarray:
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR), np.float32) / 255


def as_stored(images: np.ndarray, stored_as: StoredAs) -> np.ndarray:
    """Images (N, H, W, 3) in [0, 1] as they come back from files of this kind, float32."""
    if stored_as == "float32":
        return images
    pixels = to_8bit(images)
    if stored_as == "jpeg":
        pixels = np.stack([_through_jpeg(image) for image in pixels])
    return pixels.astype(np.float32) / 255


def to_8bit(images: np.ndarray) -> np.ndarray:
    """Images in [0, 1] rounded to uint8, 0-255."""
    return np.rint(images * 255).astype(np.uint8)


def _through_jpeg(pixels: np.ndarray) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return np.asarray(Image.open(buffer))
