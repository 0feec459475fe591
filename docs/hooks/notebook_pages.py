"""A page for each executed notebook, with what its cells printed and drew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
from mkdocs.structure.files import File, Files
from nbconvert import MarkdownExporter

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


def _executed() -> list[Path]:
    """Of those that are there, not of one that has gone or has another name now."""
    wanted = [NOTEBOOKS / "executed" / f"{path.stem}.ipynb" for path in NOTEBOOKS.glob("*.py")]
    return sorted(path for path in wanted if path.exists())


def page_of(path: Path) -> tuple[str, dict[str, bytes]]:
    """An executed notebook in Markdown, and its pictures by their names beside that page.

    Without what its cells wrote to stderr: notices and bars of progress.
    """
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [out for out in cell.outputs if out.get("name") != "stderr"]
    names = {"unique_key": path.stem, "output_files_dir": f"{path.stem}_files"}
    text, made = MarkdownExporter().from_notebook_node(notebook, names)
    return text, made["outputs"]


def on_config(config: Any) -> Any:
    for entry in config.nav:
        if "Notebooks" in entry:
            entry["Notebooks"] += [f"notebooks/{path.stem}.md" for path in _executed()]
    return config


def on_files(files: Files, config: Any) -> Files:
    for path in _executed():
        text, pictures = page_of(path)
        for name, content in {f"{path.stem}.md": text, **pictures}.items():
            files.append(File.generated(config, f"notebooks/{name}", content=content))
    return files
