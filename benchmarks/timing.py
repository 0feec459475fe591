"""Time two ways of doing the same thing side by side."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np


def seconds(call: Callable[[], Any]) -> float:
    """How long one call takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def paired(
    ours: Callable[[], Any], peer: Callable[[], Any], runs: int
) -> tuple[np.ndarray, np.ndarray]:
    """Seconds of ``runs`` calls of each, float64 (runs,), one of each a run.

    Every other run starts with the peer, so that a machine that warms up, or whose caches one
    side leaves to the other, favours neither.
    """
    times: dict[Callable[[], Any], list[float]] = {ours: [], peer: []}
    for run in range(runs):
        for call in (ours, peer) if run % 2 == 0 else (peer, ours):
            times[call].append(seconds(call))
    return np.array(times[ours]), np.array(times[peer])


def row(
    what: str, ours: np.ndarray, peer: np.ndarray, aim: str, *, faster: bool
) -> dict[str, str | int]:
    """One comparison as a row of the table, from the seconds of its paired runs.

    Args:
        what: is compared.
        ours: seconds, (runs,).
        peer: seconds, (runs,), of the same runs.
        aim: for the ratio.
        faster: the ratio is peer / ours ("so many times faster"), else ours / peer.
    """
    ratios = peer / ours if faster else ours / peer
    low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
    digits = 0 if middle >= 20 else 2
    return {
        "what": what,
        "ours (s)": f"{np.median(ours):.3g}",
        "peer (s)": f"{np.median(peer):.3g}",
        "ratio [quartiles]": f"{middle:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]",
        "of": "peer / ours" if faster else "ours / peer",
        "aim": aim,
        "runs": len(ratios),
    }
