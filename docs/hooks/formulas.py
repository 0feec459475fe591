"""Turns formulas into MathML when the site is built, so browsers need no script for them.

Formulas are written as on GitHub: a ``math`` fence, or $`x`$ within a line.
"""

from __future__ import annotations

import re
from typing import Any

from latex2mathml import converter
from markdown import Extension, Markdown
from markdown.inlinepatterns import InlineProcessor

_NUMBER = re.compile(r"\\tag\{(.+?)\}")


def mathml(formula: str, display: str = "inline") -> str:
    return converter.convert(formula.strip(), display=display)


def block(source: str, *_: Any, **__: Any) -> str:
    """A formula of its own lines, with its number at the side if it has one."""
    number = _NUMBER.search(source)
    shown = f'<span class="number">({number[1]})</span>' if number else ""
    return f'<div class="formula">{mathml(_NUMBER.sub("", source), "block")}{shown}</div>'


class _Inline(InlineProcessor):
    def handleMatch(self, m: re.Match[str], data: str) -> tuple[str, int, int]:
        return self.md.htmlStash.store(mathml(m[1])), m.start(0), m.end(0)


class _Formulas(Extension):
    def extendMarkdown(self, md: Markdown) -> None:
        # Before the pattern of code, whose priority is 190.
        md.inlinePatterns.register(_Inline(r"\$`([^`]+)`\$", md), "formula", 195)


def on_config(config: Any) -> Any:
    config.markdown_extensions.append(_Formulas())
    fences = config.mdx_configs.setdefault("pymdownx.superfences", {})
    fences["custom_fences"] = [{"name": "math", "class": "formula", "format": block}]
    return config
