"""The state of long work in one file, so that after an interruption it goes on and not anew."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import numpy as np

from gradcam_adv.files import artifacts

# How much work an interruption costs at most, and what bounds the time spent on writing.
SECONDS = 10.0


class Checkpoint:
    """A file that work writes now and then and reads when it starts; no result of its own.

    Whoever has brought the work's result to the disk deletes it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written = time.monotonic()

    def read(self, names: Collection[str]) -> dict[str, np.ndarray]:
        """The arrays last written; none when nothing was.

        Args:
            names: of the arrays that must be there.

        Raises:
            ValueError: the file is damaged, holds other arrays, or pickled objects.
        """
        if not artifacts.is_whole(self._path):
            return {}
        try:
            with artifacts.read_arrays(self._path) as file:
                arrays = dict(file)
        except ValueError as error:
            raise self._wrong(str(error)) from error
        if arrays.keys() != set(names):
            raise self._wrong(f"the arrays {', '.join(arrays) or '(none)'}")
        return arrays

    def _wrong(self, received: str) -> ValueError:
        return ValueError(
            f"Expected the state of interrupted work in {self._path}; deleting it starts that work "
            f"anew. Received: {received}"
        )

    def write(self, state: Callable[[], Mapping[str, np.ndarray]]) -> None:
        """Write what ``state`` returns, if SECONDS have passed since the last time."""
        if time.monotonic() - self._written >= SECONDS:
            artifacts.write_arrays(self._path, state())
            self._written = time.monotonic()
