"""Times two ways of doing the same thing in turn."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.processes import Row

Call = Callable[[], Any]


def seconds(call: Call) -> float:
    """How long one call takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def compare(
    what: str,
    ours: Call,
    peer: Call,
    runs: int,
    aim: str,
    *,
    first: float,
    faster: bool = True,
    times: float = 1,
) -> Row:
    """Time both sides in turn, and give the row of the table.

    Every second run starts with the peer. So caches, and a machine that warms up, favour neither.

    Args:
        what: the two sides, in words.
        aim: what the ratio should be.
        first: seconds of our first call.
        faster: the ratio is peer / ours ("so many times faster"), else ours / peer.
        times: factor for the peer's seconds, if the peer does only a part of the work.
    """
    taken: dict[Call, list[float]] = {ours: [], peer: []}
    for run in range(runs):
        for call in (ours, peer) if run % 2 == 0 else (peer, ours):
            taken[call].append(seconds(call))
    of_ours, of_peer = np.array(taken[ours]), times * np.array(taken[peer])
    ratios = of_peer / of_ours if faster else of_ours / of_peer
    low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
    digits = 0 if middle >= 20 else 2
    return {
        "what": what,
        "ours (s)": f"{np.median(of_ours):.3g}",
        "peer (s)": f"{np.median(of_peer):.3g}",
        "ratio [quartiles]": f"{middle:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]",
        "ratio of": "peer / ours" if faster else "ours / peer",
        "aim": aim,
        "runs": runs,
        "first call (s)": f"{first:.3g}",
    }
