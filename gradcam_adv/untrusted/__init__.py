"""Checks of model and weights files that may come from anybody, before Keras opens them.

Keras' safe mode refuses code in a file, but it was bypassed several times. Here a file is copied,
and a child process looks at the copy: if a library crashes on a damaged file, the child dies and
the file is refused. The child is not a sandbox: see SECURITY.md.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gradcam_adv import machine
from gradcam_adv.files.regular import open_regular
from gradcam_adv.untrusted import checks

# Larger files are not read. The largest of Keras' applications, ConvNeXtXLarge, has 1.4 GB.
MOST_BYTES = 4_000_000_000
# The time that a check may take. It reads the file once, which takes a second per GB or so.
SECONDS = 120


@dataclass(frozen=True)
class Contents:
    """What a file holds.

    Attributes:
        arrays: how many arrays of weights.
        bytes: their size in memory.
        layers: for a model, the number of Keras' layers by class.
        inputs: for a model, the shapes of its inputs, None for a size that is not fixed.
        registered: whether it has classes or functions that this program registered with Keras.
    """

    arrays: int
    bytes: int
    layers: dict[str, int] = field(default_factory=dict)
    inputs: list[list[int | None]] = field(default_factory=list)
    registered: bool = False


@contextlib.contextmanager
def checked(path: Path, kind: Literal["model", "weights"]) -> Iterator[tuple[Path, Contents]]:
    """A private copy of a file, and what it holds, for as long as the context lasts.

    Open the copy, not the file: nobody can change it after the check.

    Args:
        path: a ``.keras`` file, or an HDF5 file of weights.
        kind: which of the two.

    Raises:
        ValueError: no regular file, too large, damaged, or with anything that Keras does not write
            for its own layers; the message is only the reason, without the path.
        OSError: a system on which the child can't be limited.
    """
    machine.check_system()
    with tempfile.TemporaryDirectory(prefix="gradcam-adv-") as name:
        copy = Path(name, "copy.keras" if kind == "model" else "copy.weights.h5")
        _copy(path, copy)
        found = _look_at(kind, copy)
        unknown = found.pop("unknown", {})
        keras = sys.modules.get("keras")  # without it, the program has registered nothing
        for registered, why in unknown.items():
            if keras is None or keras.saving.get_registered_object(registered) is None:
                raise ValueError(why)
        yield copy, Contents(**found, registered=bool(unknown))


def _copy(path: Path, copy: Path) -> None:
    file, size = open_regular(path)
    with file, copy.open("wb") as into:
        if size > MOST_BYTES:
            raise ValueError(f"a file of {size:,} bytes, more than {MOST_BYTES:,}")
        shutil.copyfileobj(file, into, 1 << 20)


def _look_at(kind: str, copy: Path) -> dict[str, Any]:
    """What the program :mod:`gradcam_adv.untrusted.checks` says of a file."""
    program = [sys.executable, "-P", checks.__file__, kind, str(copy)]
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # each thread would take memory
    try:
        done = subprocess.run(
            program, capture_output=True, stdin=subprocess.DEVNULL, env=environment, timeout=SECONDS
        )
    except subprocess.TimeoutExpired:
        raise ValueError(f"a file that takes more than {SECONDS} s to look at") from None
    if done.returncode:
        raise ValueError("a damaged file, on which the program that looks at it crashed")
    found: dict[str, Any] = json.loads(done.stdout)
    if "refused" in found:
        raise ValueError(found["refused"])
    return found
