"""The report's Markdown parts as sections of HTML, with every figure inside them."""

from __future__ import annotations

import base64
import html
import io
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token
from PIL import Image

PROSE = MarkdownIt("commonmark", {"html": False})
# Names of photos and people stand in tables. Whatever they hold is text there.
TABLE = MarkdownIt("zero").enable(["table", "escape"])
# Longer cells hold text, which may wrap; numbers and names do not.
LONG = 45
# A larger SVG holds photos, which are smaller as WebP.
DRAWN = 300_000


@dataclass
class Section:
    """The content below one top heading of the report.

    Attributes:
        anchor: of the section, unique in the page.
        title: its heading.
        body: HTML of what follows the heading.
        headings: anchor and title of the headings in it.
    """

    anchor: str
    title: str
    body: str = ""
    headings: list[tuple[str, str]] = field(default_factory=list)


def sections_of(parts: Sequence[str], folder: Path) -> list[Section]:
    """Cut the report at its top headings; a level-2 heading becomes an h3, and so on.

    Args:
        parts: Markdown; every heading and table is a part of its own, the first a top heading.
        folder: that the paths of figures are relative to.
    """
    found: list[Section] = []
    heading = ""
    for part in parts:
        if part.startswith("# "):
            heading = part.removeprefix("# ")
            found.append(Section(slug(heading), heading))
        elif part.startswith("|"):
            found[-1].body += _table(part, heading)
        else:
            tokens = PROSE.parse(part)
            for opened, text in itertools.pairwise(tokens):
                if opened.type == "heading_open":
                    heading = text.content
                    anchor = f"{found[-1].anchor}-{slug(heading)}"
                    opened.attrSet("id", anchor)
                    if opened.tag == "h2":
                        found[-1].headings.append((anchor, heading))
            for before, token in itertools.pairwise(tokens):
                for child in token.children or []:
                    if child.type == "image":
                        _embed(child, before, folder)
            for token in tokens:
                if token.type.startswith("heading"):
                    token.tag = f"h{int(token.tag[1]) + 1}"
            found[-1].body += PROSE.renderer.render(tokens, PROSE.options, {})
    return found


def slug(text: str) -> str:
    return re.sub(r"\W+", "-", text.lower()).strip("-")


def _table(part: str, heading: str) -> str:
    """A table with row and column headers, in a box that scrolls."""
    tokens = TABLE.parse(part)
    # A cell is three tokens: its opening, its text and its close.
    for place, token in enumerate(tokens):
        if token.type == "th_open":
            token.attrSet("scope", "col")
        elif token.type == "td_open":
            if tokens[place - 1].type == "tr_open":
                token.tag = tokens[place + 2].tag = "th"
                token.attrSet("scope", "row")
            if len(tokens[place + 1].content) > LONG:
                token.attrSet("class", "long")
    inner = TABLE.renderer.render(tokens, TABLE.options, {})
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{html.escape(heading)}">'
        f"\n{inner}</div>\n"
    )


def _embed(image: Token, paragraph: Token, folder: Path) -> None:
    """Put a figure's file into the page: as SVG if there is a small one, otherwise as WebP."""
    # On a small screen a figure scrolls in its box, also by keys.
    for name, value in (("role", "region"), ("tabindex", "0"), ("aria-label", image.content)):
        paragraph.attrSet(name, value)
    path = folder / str(image.attrGet("src"))
    drawn = path.with_suffix(".svg")
    if drawn.exists() and drawn.stat().st_size <= DRAWN:
        image.attrSet("src", data_uri(drawn.read_bytes(), "image/svg+xml"))
        return
    with Image.open(path) as pixels:
        image.attrSet("src", data_uri(encode_image(pixels.convert("RGB")), "image/webp"))
        image.attrSet("width", str(pixels.width))
        image.attrSet("height", str(pixels.height))
    if not drawn.exists():
        # A sheet is shown at full size, or its labels can't be read.
        image.attrSet("class", "full")


def encode_image(image: Image.Image) -> bytes:
    """An image as WebP."""
    file = io.BytesIO()
    image.save(file, "WEBP", quality=80)
    return file.getvalue()


def data_uri(content: bytes, kind: str) -> str:
    """Content as a URI that holds it, so that nothing is fetched."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
