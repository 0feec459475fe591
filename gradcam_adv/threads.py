"""``map`` in threads, for work that leaves the interpreter, such as decoding and hashing."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from gradcam_adv import machine

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """``map(function, items)`` in one thread per core, with the results in order.

    At most a few items per core are under way or waiting to be fetched, so the memory needed does
    not grow with the number of items.
    """
    threads = machine.cores()
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 4 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def map_one_ahead(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """``map(function, items)``; each result is computed while the caller uses the one before."""
    with ThreadPoolExecutor(1) as pool:
        coming: Future[Result] | None = None
        for item in items:
            before, coming = coming, pool.submit(function, item)
            if before is not None:
                yield before.result()
        if coming is not None:
            yield coming.result()
