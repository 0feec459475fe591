"""Checkpoints: files with the state of long work, so that it can continue after an interruption."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import numpy as np

from gradcam_adv.files import read, write

# The least time between two writes. An interruption costs about this much work.
SECONDS = 10.0


class Checkpoint:
    """A file that long work writes from time to time, and reads when it starts.

    It is not a result. Delete it when the result is on the disk.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written = time.monotonic()

    def read(self, names: Collection[str]) -> dict[str, np.ndarray]:
        """The arrays that were written last, by name; empty if there are none.

        ValueError if the file is damaged, or its arrays have other ``names``.
        """
        if not write.is_whole(self._path):
            return {}
        try:
            with read.arrays(self._path) as file:
                arrays = dict(file)
            if arrays.keys() != set(names):
                raise ValueError(f"the arrays {', '.join(arrays) or '(none)'}")
        except ValueError as error:
            raise ValueError(
                f"Expected the state of interrupted work in {self._path}; delete the file to "
                f"start that work again. Received: {error}"
            ) from error
        return arrays

    def write(self, state: Callable[[], Mapping[str, np.ndarray]]) -> None:
        """Write the arrays that ``state`` returns, if the last write was SECONDS ago or more."""
        if time.monotonic() - self._written >= SECONDS:
            write.arrays(self._path, state())
            self._written = time.monotonic()
