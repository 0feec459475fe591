"""Pictures inside the page: the report's figures out of its folder, and any image as WebP."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

# A larger SVG holds photos, which are smaller as WebP.
DRAWN = 300_000


@dataclass(frozen=True)
class Figure:
    """A figure as the page holds it.

    Attributes:
        source: a data URI.
        title: what the figure shows; the files have it in their metadata.
        width, height: in pixels, of the PNG file.
        sheet: whether it is a sheet of pictures, shown at full size, or its labels can't be read.
    """

    source: str
    title: str
    width: int
    height: int
    sheet: bool


def figure(path: Path) -> Figure | None:
    """A PNG file, or the SVG file beside it if there is a small one; None if it was not drawn."""
    if not path.exists():
        return None
    drawn = path.with_suffix(".svg")
    with Image.open(path) as pixels:
        about = pixels.info.get("Title", ""), pixels.width, pixels.height, not drawn.exists()
        if drawn.exists() and drawn.stat().st_size <= DRAWN:
            return Figure(data_uri(drawn.read_bytes(), "image/svg+xml"), *about)
        return Figure(data_uri(encode_image(pixels.convert("RGB")), "image/webp"), *about)


def encode_image(image: Image.Image) -> bytes:
    """An image as WebP."""
    file = io.BytesIO()
    image.save(file, "WEBP", quality=80)
    return file.getvalue()


def data_uri(content: bytes, kind: str) -> str:
    """Content as a URI that holds it, so that nothing is fetched."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
