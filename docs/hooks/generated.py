"""Tables and texts that are made from the package: commands, study keys, readings, public names.

A page asks for one of them by a comment such as ``<!-- make docs: commands -->``.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

import gradcam_adv
from gradcam_adv.app import cli
from gradcam_adv.study import settings

_MARKER = re.compile(r"<!-- make docs: (\w+) -->")
_ROLE = re.compile(r":\w+:(`[^`]+`)")
_TOP = Path(gradcam_adv.__file__).parent
# The packages whose names are public, in the order of the table.
PACKAGES = (
    *("", "attacks", "explain", "metrics", "plots", "training"),
    *("data", "models", "study", "app"),
)


def commands() -> str:
    """The help text of every command."""
    parts = []
    top = click.Context(cli.main, info_name="gradcam-adv", **cli.main.context_settings)
    for name, command in cli.main.commands.items():
        context = click.Context(command, parent=top, info_name=name, terminal_width=80)
        parts.append(f"## {name}\n\n```text\n{command.get_help(context)}\n```\n")
    return "\n".join(parts)


def study_keys() -> str:
    """A row for each key of a study's file."""
    meaning = _attributes(settings.Study)
    rows = [
        (f"`{field.name}`", _default(field), meaning[field.name])
        for field in dataclasses.fields(settings.Study)
        if field.name != "readings"
    ]
    return _table(("Key", "Default", "Meaning"), rows)


def readings() -> str:
    """A row for each reading of the paper."""
    rows = []
    for field in dataclasses.fields(settings.Readings):
        choices = [f"`{choice}`" for choice in settings.reading_choices(field.name)]
        question, unoffered = field.metadata["question"], field.metadata["unoffered"]
        rows.append((f"`{field.name}`", question, ", ".join(choices), unoffered))
    return _table(("Key", "Question", "Choices, the default first", "Not offered"), rows)


def public_names() -> str:
    """A row for each public name: a link to it, and the first line of its docstring.

    A name of several packages is listed once, in the first of them.
    """
    rows = {}
    for package in PACKAGES:
        for name in _names(_TOP / package):
            target, text = _definition(_TOP / package, name)
            shown = ".".join(filter(None, ("gradcam_adv", package, name)))
            if target is not None:
                row = (f"[`{shown}`][{target}]", _ROLE.sub(r"\1", text))
                rows.setdefault(target, row)
    return _table(("Name", "What it is"), list(rows.values()))


def _attributes(of: type) -> dict[str, str]:
    """The texts under "Attributes" in a Google-style docstring, by name."""
    text = (inspect.getdoc(of) or "").split("Attributes:\n")[1]
    entries = re.findall(r"^    (\w+): (.+(?:\n        .+)*)", text, re.MULTILINE)
    return {name: " ".join(meaning.split()) for name, meaning in entries}


def _default(field: dataclasses.Field) -> str:
    if field.default_factory is not dataclasses.MISSING:  # a table, whose keys may be a list
        return "".join(f'`"{name}"`' for name in field.default_factory()) or "none"
    if field.default is dataclasses.MISSING:
        return "the file's name"
    value = field.default
    if value is None:
        return "none"
    # As TOML writes it.
    return f"`{list(value) if isinstance(value, tuple) else value!r}`".replace("'", '"')


def _parsed(package: Path) -> ast.Module:
    """The stub of a package, or its ``__init__.py`` if it has none."""
    stub = package / "__init__.pyi"
    return ast.parse((stub if stub.exists() else package / "__init__.py").read_text())


def _names(package: Path) -> list[str]:
    """What the ``__all__`` of a package lists."""
    for node in _parsed(package).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return ast.literal_eval(node.value)
    raise ValueError(f"Expected a package with __all__. Received: {package}")


def _definition(package: Path, name: str) -> tuple[str | None, str]:
    """The full path of a public name and the first line of its docstring; None for a package."""
    for node in _parsed(package).body:
        if isinstance(node, ast.ImportFrom) and name in (alias.name for alias in node.names):
            if node.module is None:
                return None, ""
            parts = node.module.removeprefix("gradcam_adv.").split(".")
            target = (package if node.level else _TOP).joinpath(*parts)
            if target.is_dir():
                return _definition(target, name)
            module = ".".join(("gradcam_adv", *target.relative_to(_TOP).parts))
            return f"{module}.{name}", _first_lines(target.with_suffix(".py"))[name]
    raise ValueError(f"Expected an import of {name}. Received: none in {package}")


def _first_lines(module: Path) -> dict[str, str]:
    """The first lines of the docstrings of a module's functions, classes and constants."""
    body = ast.parse(module.read_text()).body
    found = {}
    for node, following in zip(body, [*body[1:], None], strict=True):
        match node, following:
            case ((ast.FunctionDef() | ast.ClassDef()), _):
                found[node.name] = ast.get_docstring(node) or ""
            case (
                ast.Assign([ast.Name(name)]) | ast.AnnAssign(ast.Name(name)),
                ast.Expr(ast.Constant(str(text))),
            ):
                found[name] = text
    return {name: text.split("\n")[0] for name, text in found.items()}


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


MADE: dict[str, Callable[[], str]] = {
    made.__name__: made for made in (commands, study_keys, readings, public_names)
}


def on_page_markdown(markdown: str, **_: Any) -> str:
    return _MARKER.sub(lambda marker: MADE[marker[1]](), markdown)
