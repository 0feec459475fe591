"""One photo: decode it, bring it to the study's size, store and read it back as a file would."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

# Beyond this many pixels a file is refused before it is decoded (a decompression bomb).
MAXIMUM_PIXELS = 64_000_000
SUFFIXES = (".jpg", ".jpeg", ".png", ".pgm", ".webp", ".bmp", ".tif", ".tiff")
JPEG_QUALITY = 95

StoredAs = Literal["float32", "png", "jpeg"]


def decode(path: Path, size: int) -> np.ndarray:
    """The photo as float32 (size, size, 3), RGB, values in [0, 1].

    Stretched to the square with Pillow's antialiased bilinear filter, upright by its EXIF
    orientation.

    Raises:
        ValueError: the file is empty, no image, damaged, or over MAXIMUM_PIXELS; the message
            is the reason alone, without the path.
    """
    try:
        if path.stat().st_size == 0:
            raise ValueError("empty file")
        with warnings.catch_warnings():
            # Pillow warns of big images; the limit here is ours.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(path)
        with image:
            if image.width * image.height > MAXIMUM_PIXELS:
                raise ValueError(
                    f"more than {MAXIMUM_PIXELS:,} pixels: {image.width} x {image.height}"
                )
            upright = _rgb(ImageOps.exif_transpose(image))
    except UnidentifiedImageError:
        raise ValueError("not an image") from None
    except Image.DecompressionBombError as error:
        raise ValueError(f"more than {MAXIMUM_PIXELS:,} pixels: {error}") from None
    except (OSError, SyntaxError, EOFError, TypeError, LookupError, struct.error) as error:
        # what Pillow raises for damaged files
        raise ValueError(f"unreadable: {error}") from None
    resized = upright.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(resized, np.float32) / 255


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("floating-point pixels, whose range is not known")
    if image.mode.startswith("I"):  # 16 bits a pixel, which convert() would cut off at 255
        grey = np.asarray(image.convert("I"), np.float64) / 257
        image = Image.fromarray(np.rint(grey.clip(0, 255)).astype(np.uint8))
    return image.convert("RGB")


def decode_all(paths: Iterable[Path], size: int) -> np.ndarray:
    """A batch of photos, float32 (N, size, size, 3); ValueError with the path of a bad one."""
    photos = []
    for path in paths:
        try:
            photos.append(decode(path, size))
        except ValueError as error:
            raise ValueError(f"Expected a readable photo. Received: {path}: {error}") from None
    return np.stack(photos)


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
