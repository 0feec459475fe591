"""Text out of files: fit to be shown on a line, and to be a cell of a table that others open."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

# Characters of a name, and of a line of output.
NAME, LINE = 200, 500
# A spreadsheet takes such a cell for a formula; behind an apostrophe it is text.
_FORMULA = re.compile(r"'*[=+\-@\t\r\n]")


def shown(value: object, most: int = NAME) -> str:
    r"""A text on one line of at most ``most`` characters; a longer one loses its middle.

    What does not print as itself is escaped, as of :func:`escaped`.

    Example:
        >>> print(shown("ann\n\x1b[2J"), shown("a" * 9, 5))
        ann\n\x1b[2J a … a
    """
    text = escaped(str(value))
    if len(text) <= most:
        return text
    kept = most - len(" … ")
    return f"{text[: kept - kept // 2]} … {text[len(text) - kept // 2 :]}"


def escaped(text: str) -> str:
    """A text with escapes for all that does not print as itself.

    These are line ends, escape sequences of terminals, marks that turn the direction of writing,
    and halves of characters.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def as_cell(text: str) -> str:
    """The cell of a CSV file for a text, which no spreadsheet takes for a formula.

    Example:
        >>> as_cell("=1+1"), as_cell("ann"), as_cell("'=1+1")
        ("'=1+1", 'ann', "''=1+1")
    """
    return f"'{text}" if _FORMULA.match(text) else text


def from_cell(cell: str) -> str:
    """The text that :func:`as_cell` was given."""
    return cell[1:] if cell[:1] == "'" and _FORMULA.match(cell) else cell


def in_texts(table: pd.DataFrame, change: Callable[[str], str]) -> pd.DataFrame:
    """The table with ``change`` made to every text in it; numbers stay as they are."""
    other = {text: new for text in texts_in(table) if (new := change(text)) != text}
    return table.map(lambda value: other.get(value, value)) if other else table


def texts_in(table: pd.DataFrame) -> set[str]:
    """The different texts in a table: few, also among millions of cells."""
    others = table.select_dtypes(exclude=["number", "bool"])
    found = (column.unique() for _, column in others.items())
    return {value for values in found for value in values if isinstance(value, str)}
