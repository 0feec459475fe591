"""Names in any script in pictures: fonts that have their letters, or else escapes."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from matplotlib import font_manager
from matplotlib.text import Text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)

# By letter, the family of a font that has it: "" for the usual one, None if there is none.
_FAMILIES: dict[str, str | None] = {}


def families_of(letters: Iterable[str]) -> dict[str, str | None]:
    """By letter, the first family of this machine's fonts that has it.

    "" stands for the usual font, None for no font.
    """
    wanted = dict.fromkeys(letters)
    missing = {letter for letter in wanted if letter not in _FAMILIES and letter.isprintable()}
    # Matplotlib's own "Last Resort" has a box for every letter.
    fonts = [font for font in font_manager.fontManager.ttflist if font.name[:11] != "Last Resort"]
    fonts.sort(key=lambda font: (font.style != "normal", font.weight != 400, font.name))
    usual = font_manager.findfont(font_manager.FontProperties())
    for path, name in ((usual, ""), *((font.fname, font.name) for font in fonts)):
        if not missing:
            break
        with contextlib.suppress(RuntimeError, OSError):  # a font that can't be drawn
            font = font_manager.get_font(path)
            has = {letter for letter in missing if font.get_char_index(ord(letter))}
            _FAMILIES.update(dict.fromkeys(has, name))
            missing -= has
    _FAMILIES.update(dict.fromkeys(missing))
    return {letter: _FAMILIES.get(letter, "") for letter in wanted}


def drawable(text: str) -> str:
    """A text with escapes for the letters that no font has; the first time the log says so."""
    if text.isascii():
        return text
    lacking = [letter for letter, family in families_of(text).items() if family is None]
    if lacking:
        _warn()
    for letter in lacking:
        text = text.replace(letter, letter.encode("unicode_escape").decode())
    return text


@functools.cache
def _warn() -> None:
    """Once in a process."""
    logger.warning(
        "Warning: no font on this machine has some letters of the names, so pictures show their "
        "codes; an installed font that has them, such as Noto Sans CJK, is found"
    )


def legible(figure: Figure) -> Figure:
    """Give every text of a figure fonts that have its letters; others become escapes."""
    for text in figure.findobj(Text):
        if not text.get_text().isascii():
            text.set_text(drawable(text.get_text()))
            families = filter(None, families_of(text.get_text()).values())
            text.set_fontfamily(list(dict.fromkeys((*text.get_fontfamily(), *families))))
    return figure
