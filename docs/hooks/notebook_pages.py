"""Makes a page of each executed notebook, with the output and pictures of its cells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
from mkdocs.structure.files import File, Files
from nbconvert import MarkdownExporter

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


def _notebooks() -> list[Path]:
    return sorted(NOTEBOOKS.glob("*.ipynb"))


def page_of(path: Path) -> tuple[str, dict[str, bytes]]:
    """A notebook as Markdown, and its pictures by file name."""
    notebook = nbformat.read(path, as_version=4)
    names = {"unique_key": path.stem, "output_files_dir": f"{path.stem}_files"}
    text, made = MarkdownExporter().from_notebook_node(notebook, names)
    return text, made["outputs"]


def on_config(config: Any) -> Any:
    for entry in config.nav:
        if "Notebooks" in entry:
            entry["Notebooks"] += [f"notebooks/{path.stem}.md" for path in _notebooks()]
    return config


def on_files(files: Files, config: Any) -> Files:
    for path in _notebooks():
        text, pictures = page_of(path)
        for name, content in {f"{path.stem}.md": text, **pictures}.items():
            files.append(File.generated(config, f"notebooks/{name}", content=content))
    return files
