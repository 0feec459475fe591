"""What the checking child of ``gradcam-adv check`` says of files, and what it takes.

``python -m benchmarks.checking FILE...`` prints JSON. It must be a program of its own: the system
counts the memory of the process that starts a child as the child's, until the child's is larger.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gradcam_adv import untrusted

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Checked:
    """Why a file is refused (None if it is not), peak memory in MB, and processor time in s."""

    refused: str | None
    memory: float
    seconds: float


def checked(paths: Iterable[Path]) -> list[Checked]:
    """What the child says of each file, measured by a new program."""
    command = [sys.executable, "-m", "benchmarks.checking", *map(str, paths)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return [Checked(*row) for row in json.loads(done.stdout)]


def _checked(path: str) -> tuple[str | None, float, float]:
    refused = None
    try:
        kind = "weights" if path.endswith(".h5") else "model"
        with untrusted.checked(Path(path), kind):
            pass
    except ValueError as error:
        refused = str(error)
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)  # bytes there, KB elsewhere
    return refused, peak / 1e6, usage.ru_utime + usage.ru_stime


def main() -> None:
    # A process for each file, since the system knows the peak of all its children together.
    with multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1) as pool:
        json.dump(pool.map(_checked, sys.argv[1:], chunksize=1), sys.stdout)


if __name__ == "__main__":
    main()
