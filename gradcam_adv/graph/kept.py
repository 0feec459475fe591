"""A small cache: the last few things that were made are kept for the next call."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TypeVar

Made = TypeVar("Made")

# How many are kept. A compiled function of a large network takes tens of megabytes.
MOST = 8


def kept(entries: dict[Hashable, Made], key: Hashable, make: Callable[[], Made]) -> Made:
    """What ``entries`` holds for a key; it is made if it is missing. Of all, the last used stay."""
    made = entries.pop(key) if key in entries else make()
    entries[key] = made
    while len(entries) > MOST:
        del entries[next(iter(entries))]
    return made
