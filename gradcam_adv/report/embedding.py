"""Pictures inside the page: the report's figures out of its folder, and any image as WebP."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

# A larger SVG holds photos, which are smaller as WebP.
DRAWN = 300_000
# Figures are drawn with more pixels than they are shown.
SCALE = 0.64


@dataclass(frozen=True)
class Figure:
    """A figure as the page holds it.

    Attributes:
        source: a data URI.
        width, height: at which it is shown, in pixels.
        sheet: whether it is a sheet of pictures, shown pixel by pixel, or its labels can't be read.
    """

    source: str
    width: int
    height: int
    sheet: bool


def figure(path: Path) -> Figure | None:
    """A PNG file, or the SVG file beside it if there is a small one; None if it was not drawn."""
    if not path.exists():
        return None
    drawn = path.with_suffix(".svg")
    with Image.open(path) as pixels:
        scale = SCALE if drawn.exists() else 1
        size = round(scale * pixels.width), round(scale * pixels.height)
        about = *size, not drawn.exists()
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
