"""Runs each comparison in a new process, and measures the peak memory of it."""

from __future__ import annotations

import multiprocessing
import platform
import resource
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from gradcam_adv import machine

Row = dict[str, str | int]
Comparison = Callable[[str], Row]
# The column with the largest memory of the process.
PEAK = "peak RSS (GB)"


def in_new_process(call: Callable[..., Row], *given: object) -> Row:
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=spawn) as executor:
        return executor.submit(call, *given).result()


def alone(compare: Comparison, of: str) -> Row:
    """``compare(of)`` in a new process, so that the peak memory is that of the comparison."""
    return in_new_process(measured, compare, of)


class Worker:
    """A script that runs in another Python and answers each line with a line."""

    def __init__(self, python: Path, script: str, *arguments: str) -> None:
        if not python.is_file():
            raise ValueError(f"Expected {python}, made by `make bench`. Received: no such file")
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
    """``compare(of)`` with the settings of a study, and the peak memory of this process.

    If the row has a peak already, of processes that the comparison started, it is kept.
    """
    from gradcam_adv import backends

    backends.configure(machine.cores())
    row = compare(of)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak *= 1 if sys.platform == "darwin" else 1024  # bytes there, kilobytes elsewhere
    return row | {PEAK: row.get(PEAK, f"{peak / 1e9:.2f}")}


def processor() -> str:
    """The name of the processor, if the system knows it."""
    facts = Path("/proc/cpuinfo")
    if facts.is_file():
        for line in facts.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
