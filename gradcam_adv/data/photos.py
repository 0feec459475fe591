"""Reading photos of many file formats, resizing them, and rounding them as image files do."""

from __future__ import annotations

import contextlib
import io
import re
import threading
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import imagehash
import numpy as np
from PIL import ExifTags, Image, ImageCms

from gradcam_adv import threads
from gradcam_adv.data import image_files
from gradcam_adv.data.image_files import UNREAD, Unusable

# One larger photo at a time is in memory, whatever the number of threads. Below are most phones'
# photos, which take at most some 200 MB each while they are read.
LARGE_PIXELS = 16_000_000
LARGE_BYTES = 32_000_000
_ONE_LARGE = threading.RLock()  # for a large file, and again for its large image
# Pillow takes an image's memory in blocks of this size. The C library gives blocks above 32 MB back
# to the system; smaller ones would stay with each thread that once read a large photo.
Image.core.set_block_size(64 * 2**20)  # type: ignore[attr-defined]
JPEG_QUALITY = 95

StoredAs = Literal["float32", "png", "jpeg"]
Resizing = Literal["bilinear", "nearest"]
# Keras' ``load_img`` takes the nearest pixel.
RESIZING = {"bilinear": Image.Resampling.BILINEAR, "nearest": Image.Resampling.NEAREST}

_TO_8_BITS = [(value + 128) // 257 for value in range(65536)]  # value / 257, rounded
# How a photo is turned upright, by its EXIF orientation.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@contextlib.contextmanager
def opened(path: Path) -> Iterator[tuple[Image.Image, str]]:
    """A photo as 8-bit RGB in sRGB, upright by its EXIF orientation, at its original size.

    With a note on what was ignored, such as "first of 5 frames"; mostly empty. Transparent pixels
    become white. If a file can't be used, a ValueError holds only the reason, without the path.

    While a large photo is open, other threads wait with theirs.
    """
    with contextlib.ExitStack() as turn:
        yield _read(path, turn)


@contextlib.contextmanager
def known(path: Path) -> Iterator[Image.Image]:
    """A photo as in :func:`opened`, without the note; a ValueError has the path too."""
    with contextlib.ExitStack() as turn:
        try:
            image, _ = _read(path, turn)
        except ValueError as error:
            raise ValueError(f"Expected a readable photo. Received: {path}: {error}") from None
        yield image


def _read(path: Path, turn: contextlib.ExitStack) -> tuple[Image.Image, str]:
    """The image and the note of :func:`opened`. ``turn`` ends when the image is no longer used."""
    try:
        kind = UNREAD.get(path.suffix.lower(), "")
        if kind == "raw":  # some are TIFF files whose first image is a thumbnail
            raise image_files.not_read(kind)
        file, size = image_files.open_file(path)
        with file:
            if size > LARGE_BYTES:
                turn.enter_context(_ONE_LARGE)
            content = image_files.content(file, size, kind)
        image = image_files.open_image(content)
        if image.width * image.height > LARGE_PIXELS:
            turn.enter_context(_ONE_LARGE)
        image.load()
        upright, exif_note = _upright(image)
        colours, colour_note = _rgb(upright)
        if colours is image:  # which is another frame while frames are counted
            colours = image.copy()
        notes = (_frames(image), exif_note, colour_note)
        return colours, "; ".join(note for note in notes if note)
    except Unusable:
        raise
    except Image.DecompressionBombError:  # far above the limit, or a frame larger than its image
        raise Unusable(f"more than {image_files.MAXIMUM_PIXELS:,} pixels") from None
    except MemoryError:
        raise Unusable("not enough memory to decode it") from None
    except Exception as error:  # Pillow raises errors of many types for damaged files
        if isinstance(error, OSError) and error.errno is not None:  # from the system
            raise Unusable(f"unreadable: {error.strerror}") from None
        message = str(error) or type(error).__name__
        if re.search("truncated|not enough image data", message, re.IGNORECASE):
            raise Unusable("truncated") from None
        raise Unusable(f"damaged: {message}") from None


def _frames(image: Image.Image) -> str:
    """A note if the file has several frames."""
    if image.format == "MPO":  # from phones: its other frames are a preview or a stereo view
        return ""
    try:
        frames = getattr(image, "n_frames", 1)
    except Unusable:  # too many to be counted
        return "first of several frames"
    except Exception:  # as in _read(); the first frame is decoded already
        return "first of several frames, of which some are damaged"
    return f"first of {frames} frames" if frames > 1 else ""


def _upright(image: Image.Image) -> tuple[Image.Image, str]:
    """The image turned by its EXIF orientation, and a note."""
    try:
        method = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # as in _read(); the pixels are decoded already
        return image, "damaged EXIF ignored"
    return (image if method is None else image.transpose(method)), ""


def _rgb(image: Image.Image) -> tuple[Image.Image, str]:
    """The image as 8-bit RGB on a white background, and a note."""
    profile = image.info.get("icc_profile")
    if image.mode == "F":
        raise Unusable("floating-point pixels, whose range is not known")
    if image.mode.startswith("I"):  # Pillow's convert("L") would clip values above 255
        image = _converted(image, "I")
        extremes = np.array(image.getextrema())
        if extremes.min() < 0 or extremes.max() > 65535:
            raise Unusable("pixels beyond 16 bits, whose range is not known")
        image = image.point(_TO_8_BITS, "L")
    mode = {"CMYK": "CMYK", "1": "L", "L": "L", "LA": "L"}.get(image.mode, "RGB")
    if not image.has_transparency_data:
        return _srgb(_converted(image, mode), profile)
    rgba = _converted(image, "RGBA")
    colours, note = _srgb(rgba.convert(mode), profile)
    white = Image.new("RGB", colours.size, "white")
    white.paste(colours, mask=rgba.getchannel("A"))
    return white, note


def _converted(image: Image.Image, mode: str) -> Image.Image:
    """The image in another mode, or the image itself; Pillow would copy it."""
    return image if image.mode == mode else image.convert(mode)


def _srgb(image: Image.Image, profile: bytes | None) -> tuple[Image.Image, str]:
    """An L, RGB or CMYK image in sRGB, by its embedded profile if it has one; and a note."""
    if not profile:
        return _converted(image, "RGB"), ""
    try:
        # The elements of such a transform can be repeated so often that it takes minutes. No camera
        # writes them.
        if b"mpet" in profile:
            raise ValueError("a profile of elements")
        embedded = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if image.mode == "L" and embedded.profile.xcolor_space.strip() == "RGB":
            image = image.convert("RGB")
        srgb = ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, embedded, srgb, outputMode="RGB")
    except Exception:  # as in _read(); the pixels are decoded already
        return _converted(image, "RGB"), "unusable colour profile ignored"
    assert converted is not None  # it is None only for a conversion in place
    return converted, ""


def perceptual_hash(image: Image.Image) -> np.ndarray:
    """bool (64,): copies of a photo in another size or compression differ in few bits."""
    return imagehash.phash(image).hash.ravel()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence Pillow's warnings about files; :func:`opened` gives a reason or a note instead.

    Use it around the threads that read, not inside them: warning filters belong to the process.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def decode_all(paths: Iterable[Path], size: int, resizing: Resizing = "bilinear") -> np.ndarray:
    """Read photos in threads and stretch them to squares.

    ``resizing`` is "bilinear", with an antialiased filter, or "nearest".

    Returns:
        float32 (N, size, size, 3), RGB, values in [0, 1].

    Raises:
        ValueError: a file can't be used; the message holds its path and the reason.
    """

    def pixels(path: Path) -> np.ndarray:
        with known(path) as image:
            small = image.resize((size, size), RESIZING[resizing])
        return np.asarray(small, np.float32) / 255

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


def perturbation_as_stored(
    added: np.ndarray, size: float, stored_as: Literal["exact", "png", "jpeg"]
) -> np.ndarray:
    """A perturbation, float32 (N, H, W, 3) in [-size, size], after its sign was kept as a picture.

    The sign s, in [-1, 1], becomes the picture ``0.5 s + 0.5``, as it is shown in tutorials. If it
    is read again as 0 to 1, ``size`` times that is added: never less than 0, size / 2 in the mean.
    "exact" is the perturbation itself.
    """
    if stored_as == "exact":
        return added
    return np.float32(size) * as_stored(np.clip(0.5 * added / size + 0.5, 0, 1), stored_as)


def to_8bit(images: np.ndarray) -> np.ndarray:
    """Images in [0, 1], rounded to uint8 in 0-255, of the same shape."""
    return np.rint(images * 255).astype(np.uint8)
