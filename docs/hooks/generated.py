"""What a page says by a marker is made from the package: commands, keys, public names."""

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
from gradcam_adv.study import config as study

_MARKER = re.compile(r"<!-- make docs: (\w+) -->")
_ROLE = re.compile(r":\w+:(`[^`]+`)")
_PACKAGE = Path(gradcam_adv.__file__).parent


def commands() -> str:
    """The help of every command, as it prints it."""
    parts = []
    top = click.Context(cli.main, info_name="gradcam-adv", **cli.main.context_settings)
    for name, command in cli.main.commands.items():
        context = click.Context(command, parent=top, info_name=name, terminal_width=80)
        parts.append(f"## {name}\n\n```text\n{command.get_help(context)}\n```\n")
    return "\n".join(parts)


def study_keys() -> str:
    said = _attributes(study.Study)
    rows = [
        (f"`{field.name}`", _default(field), said[field.name])
        for field in dataclasses.fields(study.Study)
        if field.name != "readings"
    ]
    return _table(("Key", "Default", "What it says"), rows)


def readings() -> str:
    rows = []
    for field in dataclasses.fields(study.Readings):
        choices = [f"`{choice}`" for choice in study.reading_choices(field.name)]
        question, unoffered = field.metadata["question"], field.metadata["unoffered"]
        rows.append((f"`{field.name}`", question, ", ".join(choices), unoffered))
    return _table(("Key", "Question", "Readings, the default first", "Not offered"), rows)


def public_names() -> str:
    """What each stub names, with the first line of its docstring and a link to the rest."""
    rows = []
    for stub in sorted(_PACKAGE.rglob("__init__.pyi")):
        package = ".".join(("gradcam_adv", *stub.parent.relative_to(_PACKAGE).parts))
        for node in ast.parse(stub.read_text()).body:
            if isinstance(node, ast.ImportFrom):
                said = _first_lines(stub.parent / f"{node.module.replace('.', '/')}.py")
                for name in (alias.name for alias in node.names):
                    link = f"[`{package}.{name}`][{package}.{node.module}.{name}]"
                    rows.append((link, _ROLE.sub(r"\1", said[name])))
    return _table(("Name", "What it is"), rows)


def _attributes(of: type) -> dict[str, str]:
    """What a docstring of Google's style says of each attribute."""
    text = inspect.getdoc(of).split("Attributes:\n")[1]
    entries = re.findall(r"^    (\w+): (.+(?:\n        .+)*)", text, re.MULTILINE)
    return {name: " ".join(said.split()) for name, said in entries}


def _default(field: dataclasses.Field) -> str:
    if field.default is dataclasses.MISSING:
        return "the file's own"
    value = field.default
    if value is None:
        return "none"
    # As TOML has it.
    return f"`{list(value) if isinstance(value, tuple) else value!r}`".replace("'", '"')


def _first_lines(module: Path) -> dict[str, str]:
    """What a module's functions, classes and constants are, in a line each."""
    body = ast.parse(module.read_text()).body
    said = {}
    for node, following in zip(body, [*body[1:], None], strict=True):
        match node, following:
            case ((ast.FunctionDef() | ast.ClassDef()), _):
                said[node.name] = ast.get_docstring(node) or ""
            case ast.Assign([ast.Name(name)]), ast.Expr(ast.Constant(str(text))):
                said[name] = text
    return {name: text.split("\n")[0] for name, text in said.items()}


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


MADE: dict[str, Callable[[], str]] = {
    made.__name__: made for made in (commands, study_keys, readings, public_names)
}


def on_page_markdown(markdown: str, **_: Any) -> str:
    return _MARKER.sub(lambda marker: MADE[marker[1]](), markdown)
