"""A page for each executed notebook, with what its cells printed and drew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
from mkdocs.structure.files import File, Files
from nbconvert import MarkdownExporter

EXECUTED = Path(__file__).parents[2] / "notebooks" / "executed"


def _executed() -> list[Path]:
    return sorted(EXECUTED.glob("*.ipynb"))


def _read(path: Path) -> Any:
    """A notebook without what its cells wrote to stderr: notices and bars of progress."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [out for out in cell.outputs if out.get("name") != "stderr"]
    return notebook


def on_config(config: Any) -> Any:
    pages = [f"notebooks/{path.stem}.md" for path in _executed()]
    for entry in config.nav:
        if "Notebooks" in entry:
            entry["Notebooks"] += pages
    return config


def on_files(files: Files, config: Any) -> Files:
    for path in _executed():
        # Pictures beside the page, called after it.
        resources = {"unique_key": path.stem, "output_files_dir": f"{path.stem}_files"}
        text, made = MarkdownExporter().from_notebook_node(_read(path), resources)
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=text))
        for name, content in made["outputs"].items():
            files.append(File.generated(config, f"notebooks/{name}", content=content))
    return files
