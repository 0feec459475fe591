"""Tabs of the report page, rendered alone, as blocks of text and rows of tables."""

from __future__ import annotations

import html.parser
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gradcam_adv.report import contents, page
from gradcam_adv.report.text import TEMPLATES

HEADINGS = ("h2", "h3", "h4", "summary")


@dataclass
class Block:
    """What stands below a heading or in a ``details``, up to the next one."""

    heading: str = ""
    text: str = ""
    rows: list[list[str]] = field(default_factory=list)

    def cells(self, *starts: str) -> list[str]:
        """The other cells of the one table row that begins with these."""
        (row,) = (row for row in self.rows if row[: len(starts)] == list(starts))
        return row[len(starts) :]


class _Blocks(html.parser.HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.blocks, self.inside = [Block()], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag in HEADINGS:
            self.blocks.append(Block())
        if tag == "tr":
            self.blocks[-1].rows.append([])
        if tag in ("th", "td"):
            self.blocks[-1].rows[-1].append("")
        if tag in (*HEADINGS, "th", "td"):
            self.inside = tag

    def handle_endtag(self, tag):
        if tag == self.inside:
            self.inside = ""

    def handle_data(self, data):
        block = self.blocks[-1]
        if self.inside in HEADINGS:
            block.heading = f"{block.heading}{data}"
        elif self.inside:
            block.rows[-1][-1] += data
        else:
            block.text = " ".join(f"{block.text} {data}".split())


@dataclass
class Tab:
    html: str
    blocks: list[Block]

    @property
    def text(self) -> str:
        return " ".join(f"{block.heading} {block.text}" for block in self.blocks)

    def below(self, heading: str) -> Block:
        """The one block whose heading begins so."""
        (block,) = (block for block in self.blocks if block.heading.startswith(heading))
        return block


_TAB = """\
{% from "macros.html.j2" import figure, table, term with context %}
{% include tab ~ ".html.j2" %}"""


def tab(name: str, figures: Path = Path("nowhere"), **values: Any) -> Tab:
    """The template of a tab with what it shows; everything else is missing."""
    usual = dict.fromkeys(contents.PARTS) | {
        "caveats": {},
        "captions": {},
        "arms": {},
        "weights": {},
    }
    known = usual | values | {"tab": name, "embed": page.figures_in(figures)}
    text = TEMPLATES.from_string(_TAB).render(known)
    return Tab(text, _Blocks(text).blocks)
