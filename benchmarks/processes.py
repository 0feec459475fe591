"""A process of its own for each comparison: nothing of the one before is left in it."""

from __future__ import annotations

import multiprocessing
import platform
import resource
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from gradcam_adv import batching as batches

Row = dict[str, str | int]
Comparison = Callable[[str], Row]
# The column of a row that says how much memory its process held at most.
PEAK = "peak RSS (GB)"


def alone(compare: Comparison, of: str) -> Row:
    """``compare(of)`` in a new process, so that the peak memory is the comparison's own."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=spawn) as executor:
        return executor.submit(measured, compare, of).result()


class Worker:
    """A script in another Python that answers every line with a line."""

    def __init__(self, python: Path, script: str, *arguments: str) -> None:
        if not python.is_file():
            raise ValueError(f"Expected {python}, which `make bench` makes. Received: no such file")
        self._command = [str(python), script, *arguments]

    def __enter__(self) -> Worker:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(self._command, stdin=pipe, stdout=pipe, text=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def ask(self) -> str:
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self.answer()

    def answer(self) -> str:
        line = self._process.stdout.readline().strip()
        if not line:
            raise ValueError(f"Expected an answer of {' '.join(self._command)}. Received: none")
        return line


def measured(compare: Comparison, of: str) -> Row:
    """``compare(of)``, set up as a study sets itself up, with the process' peak memory.

    A comparison that measures in processes of its own brings their peak along, which stays.
    """
    from gradcam_adv import backends as gradients

    gradients.configure(batches.cores())
    row = compare(of)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak *= 1 if sys.platform == "darwin" else 1024  # bytes there, kilobytes elsewhere
    return row | {PEAK: row.get(PEAK, f"{peak / 1e9:.2f}")}


def processor() -> str:
    """The processor's own name where the system tells it."""
    facts = Path("/proc/cpuinfo")
    if facts.is_file():
        for line in facts.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
