"""The folders that a study names, in the manifest of its run: relative to the run's folder.

So a manifest names nobody's home, and a run that is moved with its photos still finds them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gradcam_adv.data import sources
from gradcam_adv.models import weights


def to_run(content: Mapping[str, Any], run: Path) -> dict[str, Any]:
    """Keys of a study, and "file", its own, with paths relative to the folder ``run``."""
    return _moved(content, lambda folder: os.path.relpath(folder, run))


def from_run(content: Mapping[str, Any], run: Path) -> dict[str, Any]:
    """Keys of a study out of the manifest in ``run``: what :func:`to_run` was given."""
    return _moved(content, lambda folder: os.path.normpath(run / folder))


def _moved(content: Mapping[str, Any], move: Callable[[str], str]) -> dict[str, Any]:
    moved = {"photos": sources.moved, "weights": weights.moved, "file": _path}
    # A manifest may come from anybody; what is no text is refused when the study is parsed.
    return {
        key: moved[key](value, move) if key in moved and isinstance(value, str) else value
        for key, value in content.items()
    }


def _path(path: str, move: Callable[[str], str]) -> str:
    return move(path)
