"""Checks the built site: no dead link, nothing loaded from another host, no raw role."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

_ROLE = re.compile(r":(?:func|class|mod|meth|attr|data|ref|doc):")
_log = logging.getLogger("mkdocs.hooks.checked")


@dataclass
class _Page(HTMLParser):
    """What a page contains: anchors, links, and what a browser loads for it."""

    anchors: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    roles: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif "href" in given:
            self.loaded.append(given["href"])
        self.loaded += [
            given[name] for name in ("src", "srcset", "data", "poster") if name in given
        ]

    def handle_data(self, data: str) -> None:
        self.roles += _ROLE.findall(data)


def problems(site: Path) -> list[str]:
    """What is wrong with the pages below a folder, one line each."""
    pages = {}
    for path in sorted(site.rglob("*.html")):
        pages[path.resolve()] = page = _Page()
        page.feed(path.read_text(encoding="utf-8"))
    found = []
    for path, page in pages.items():
        name = path.relative_to(site.resolve())
        found += [f"{name} shows a raw {role}" for role in page.roles]
        found += [f"{name} loads {address}" for address in page.loaded if _is_external(address)]
        for address in [*page.links, *page.loaded]:
            if not _is_external(address) and not _exists(address, path, pages):
                found.append(f"{name} links to {address}, which does not exist")
    return found


def _is_external(address: str) -> bool:
    parts = urlsplit(address)
    return bool(parts.scheme or parts.netloc) and parts.scheme != "data"


def _exists(address: str, page: Path, pages: dict[Path, _Page]) -> bool:
    """Whether a link of a page leads to a file, and to an anchor in it if it names one."""
    parts = urlsplit(address)
    # Links of 404.html begin at the root of the host.
    if parts.scheme == "data" or page.name == "404.html":
        return True
    target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    target = target / "index.html" if target.is_dir() else target
    if not target.exists():
        return False
    # "#" alone is the top of a page.
    return (
        not parts.fragment
        or target not in pages
        or (unquote(parts.fragment) in pages[target].anchors)
    )


def on_post_build(config: Any) -> None:
    for problem in problems(Path(config.site_dir)):
        _log.warning(problem)
