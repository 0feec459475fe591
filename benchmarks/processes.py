"""A process of its own for each comparison: nothing of the one before is left in it."""

from __future__ import annotations

import multiprocessing
import resource
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

from gradcam_adv import batches

Row = dict[str, str | int]
Comparison = Callable[[str], Row]


def alone(compare: Comparison, of: str) -> Row:
    """``compare(of)`` in a new process, so that the peak memory is the comparison's own."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=spawn) as executor:
        return executor.submit(measured, compare, of).result()


def measured(compare: Comparison, of: str) -> Row:
    """``compare(of)``, set up as a study sets itself up, with the process' peak memory."""
    from gradcam_adv import gradients

    gradients.configure(batches.cores())
    row = compare(of)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak *= 1 if sys.platform == "darwin" else 1024  # bytes there, kilobytes elsewhere
    return row | {"peak RSS (GB)": f"{peak / 1e9:.1f}"}
