"""Progress on a terminal: a bar of the work at hand, and below it one of the whole run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pandas as pd
from tqdm import tqdm

# Gets the share of a task's work that is done.
Advance = Callable[[float], None]

_OF_WHOLE = "{desc}: {percentage:3.0f}%|{bar}| {elapsed} so far, {remaining} left"


def untold(share: float) -> None:
    """Tells nobody."""


class Bar(tqdm):
    """A bar over rows, drawn only on a terminal. It also tells which share is done."""

    def __init__(self, what: str, rows: pd.DataFrame, advance: Advance = untold) -> None:
        super().__init__(total=len(rows), desc=what, unit="photo", disable=None, leave=False)
        self._advance = advance

    def update(self, n: float | None = 1) -> bool | None:
        drawn = super().update(n)
        if self.total:
            self._advance(self.n / self.total)
        return drawn


class Whole:
    """The bar of a whole run, with the time that is left.

    Args:
        what: its name.
        effort: of all tasks to do. Only the ratios of efforts count: the time left follows from how
            long the tasks took so far.
    """

    def __init__(self, what: str, effort: float) -> None:
        self._bar = tqdm(
            total=effort,
            desc=what,
            position=1,  # below the bar of the task
            leave=False,
            disable=None,
            smoothing=0,  # the mean speed so far, not that of the last minute
            bar_format=_OF_WHOLE,
        )

    def __enter__(self) -> Whole:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    @contextlib.contextmanager
    def task(self, effort: float) -> Iterator[Advance]:
        """Gives what takes the share of a task that is done; at the end that is all of it."""
        began = self._bar.n

        def advance(share: float) -> None:
            self._bar.update(began + effort * share - self._bar.n)

        yield advance
        advance(1)
