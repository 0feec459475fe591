"""Prepares docstrings for the site: roles, such as :func:`name`, become links; examples, code."""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Iterator
from typing import Any

import griffe

ROLE = re.compile(r":(?:func|class|mod|meth|attr|data):`([\w.]+)`")
# mkdocstrings knows this section by another name.
EXAMPLE = re.compile(r"^Example:$", re.MULTILINE)

# A child of "mkdocs", since a strict build fails on the warnings of that logger.
_log = logging.getLogger("mkdocs.hooks.roles")


class Roles(griffe.Extension):
    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        for thing in _below(pkg):
            if thing.docstring:
                link = functools.partial(_link, thing)
                text = EXAMPLE.sub("Examples:", thing.docstring.value)
                thing.docstring.value = ROLE.sub(link, text)


def _below(thing: griffe.Object) -> Iterator[griffe.Object]:
    yield thing
    for member in thing.members.values():
        if not member.is_alias:
            yield from _below(member)


def _link(thing: griffe.Object, role: re.Match[str]) -> str:
    target = _target(thing, role[1])
    name = role[1].lstrip(".")
    if target is None:
        _log.warning(f"{thing.path}: its docstring names {name}, which does not exist")
    # Objects without a docstring and private ones are on no page.
    shown = target is not None and target.docstring and "._" not in target.path
    return f"[`{name}`][{target.path}]" if shown else f"`{name}`"


def _target(thing: griffe.Object, name: str) -> griffe.Object | None:
    """The object that a docstring means by ``name``: in its own scopes, or a full path."""
    scopes = [thing, thing.module, thing.module.package]
    if thing.is_function and thing.parent is not None:
        scopes.insert(0, thing.parent)  # the class of a method
    if name.startswith("."):
        scopes = [thing.module.parent or thing.module]
    if name.startswith("gradcam_adv."):
        scopes, name = [thing.module.package], name.removeprefix("gradcam_adv.")
    for scope in scopes:
        try:
            found = scope[name.lstrip(".")]
            return found.final_target if found.is_alias else found
        except (KeyError, griffe.AliasResolutionError):
            continue
    return None
