"""Printing: tables and lines of the commands, through one filter for names out of files."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gradcam_adv.files import text

if TYPE_CHECKING:
    import pandas as pd


def say(*lines: str, err: bool = False) -> None:
    """Print lines on stdout or stderr, each of them on one line that is not too long."""
    for line in lines:
        click.echo(text.shown(line, text.LINE), err=err)


def say_json(content: Any) -> None:
    """Print JSON for programs: in full, and in ASCII, so that no character acts on a terminal."""
    click.echo(json.dumps(content, indent=2, default=_for_json))


def _for_json(value: Any) -> Any:
    """A table as rows: numbers in full, null for a missing one; a path as text."""
    if isinstance(value, Path):
        return str(value)
    return json.loads(value.to_json(orient="records", double_precision=15))


def table_lines(table: pd.DataFrame, style: str = "pipe") -> list[str]:
    """The lines of a table; a text in it stays in its row, and as it is."""
    cells = text.in_texts(table, text.shown)
    texts = [place for place, kind in enumerate(cells.dtypes) if kind.kind not in "iuf"]
    shown = cells.to_markdown(index=False, tablefmt=style, disable_numparse=texts)
    return str(shown).split("\n")


def in_lines(prose: str) -> list[str]:
    """The lines of a text, too long ones cut between words."""
    parts = (
        [line] if len(line) <= text.LINE else textwrap.wrap(line, text.LINE)
        for line in prose.split("\n")
    )
    return [line for part in parts for line in part]
