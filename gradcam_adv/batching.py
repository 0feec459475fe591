"""One padded batch shape, halved where memory ends; checks of what a user hands in."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gradcam_adv import machine

# On a processor more at a time is no faster, and the memory may be needed for other things.
BATCH_SIZE = 8
# On a GPU at most, and what an image may need there a pixel: twice the outputs of all layers of
# ResNet101, the hungriest of the five networks (4.5 kB), and a little.
_LARGEST_SIZE = 64
_BYTES_A_PIXEL = 10_000


def size_for(given: int | None, shape: Sequence[int | None]) -> int:
    """The batch size given; where none is, what suits images of a shape, (N, H, W, C).

    That is BATCH_SIZE, and where there is a GPU the power of two from there to 64 with which the
    five networks take half of its memory at most.

    Raises:
        ValueError: it is given and no whole number above 0.
    """
    if given is not None:
        return check_size(given)
    height, width = shape[1:3]
    needed = _BYTES_A_PIXEL * (height or 0) * (width or 0)
    memory = machine.gpu_memory()
    size = BATCH_SIZE
    while needed and 2 * size <= _LARGEST_SIZE and 2 * size * needed <= memory / 2:
        size *= 2
    return size


def cores() -> int:
    """How many cores this process may use: the default number of threads."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check_size(batch_size: Any) -> int:
    """``batch_size``; ValueError where it is no whole number above 0."""
    whole = isinstance(batch_size, int | np.integer) and not isinstance(batch_size, bool)
    if not whole or int(batch_size) < 1:
        raise ValueError(f"Expected batch_size as a whole number above 0. Received: {batch_size!r}")
    return int(batch_size)


class BatchHalved(UserWarning):
    """Memory ended: work goes on with batches half as large.

    Logits agree with those of whole batches to 1e-5 of their scale, not to the bit; of gradients
    and heatmaps a few differ by more: docs/determinism.md.
    """


class Batches:
    """A function compiled for one batch size, run over batches of exactly that size.

    One shape means one compilation, and results that do not hang on how photos were cut. Where
    memory does not suffice the size is halved, with a warning BatchHalved, and work goes on from
    the batch at hand; the size stays so for later calls.

    Out of memory is what :func:`out_of_memory` knows. A process that the system kills for memory,
    as Linux does where it promised more than it has, can't know of it: see
    :func:`gradcam_adv.backends.reserve` for what is asked beforehand.
    """

    def __init__(self, make: Callable[[int], Callable[..., Any]], batch_size: int) -> None:
        """``make`` compiles the function, of arrays of (batch_size, ...), for a batch size."""
        self.size = check_size(batch_size)
        self._make = make
        self._run: Callable[..., Any] | None = None

    def __call__(self, *arrays: np.ndarray) -> Iterator[tuple[slice, Any]]:
        """Run over items, (N, ...) in each array, the last batch filled up with its own last item.

        Yields:
            Which items a batch holds (without the filling), and what the function gives for it.

        Raises:
            MemoryError: not even one item fits into memory.
        """
        start, total = 0, len(arrays[0])
        while start < total:
            rows = np.minimum(np.arange(start, start + self.size), total - 1)
            problem = None
            try:
                self._run = self._run or self._make(self.size)
                result = self._run(*(array[rows] for array in arrays))
            except Exception as error:
                if not out_of_memory(error):
                    raise
                # Not the error itself, which holds on to what was in memory.
                problem = type(error).__name__
            if problem:
                self._halve(problem)
                continue
            own = slice(start, min(start + self.size, total))
            yield own, result
            start = own.stop

    def _halve(self, problem: str) -> None:
        if self.size == 1:
            raise MemoryError(
                "Expected enough memory for one image at a time. "
                f"Received: out of memory ({problem})"
            )
        message = f"out of memory with batches of {self.size}: going on with {self.size // 2}"
        warnings.warn(message, BatchHalved, stacklevel=3)
        self.size //= 2
        self._run = None


def out_of_memory(error: Exception) -> bool:
    """Whether an error of Python's, NumPy's or a backend's says that memory did not suffice.

    By the names of the backends' errors, which are not imported for it. AbortedError is what
    oneDNN's operations make of any failure in TensorFlow, nearly always of one to get memory. On a
    processor PyTorch has no error of its own for it, but words, and so has JAX anywhere.
    """
    names = {kind.__name__ for kind in type(error).__mro__}
    known = {"MemoryError", "ResourceExhaustedError", "AbortedError", "OutOfMemoryError"}
    return bool(names & known) or any(
        words in str(error) for words in ("DefaultCPUAllocator", "RESOURCE_EXHAUSTED")
    )


def check_images(shape: Sequence[int | None], images: npt.ArrayLike) -> np.ndarray:
    """``images`` as float32 (N, H, W, C) in [0, 1]; ValueError for what ``shape`` can't take."""
    array = np.asarray(images)
    expected = shape[1:]
    if array.ndim != 4 or any(
        want is not None and want != got
        for want, got in zip(expected, array.shape[1:], strict=True)
    ):
        raise ValueError(
            f"Expected images of shape (N, {', '.join(map(str, expected))}). "
            f"Received: shape {array.shape}"
        )
    if len(array) == 0:
        raise ValueError("Expected at least one image. Received: none")
    return check_pixels(array)


def check_pixels(array: np.ndarray, name: str = "images") -> np.ndarray:
    """``array`` as float32; ValueError for values that are no floats in [0, 1]."""
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(
            f"Expected {name} as floats in [0, 1] (divide 8-bit pixels by 255). "
            f"Received: dtype {array.dtype}"
        )
    check_range(array, name)
    return array.astype(np.float32, copy=False)


def check_range(array: np.ndarray, name: str) -> None:
    """ValueError for values outside of [0, 1]."""
    low, high = array.min(initial=0), array.max(initial=0)
    if not (low >= 0 and high <= 1):  # NaN fails this, too
        raise ValueError(
            f"Expected {name} with values in [0, 1]. Received: from {low:g} to {high:g}"
        )


def check_labels(labels: npt.ArrayLike, count: int, classes: int, name: str) -> np.ndarray:
    """``labels`` as int32 (count,), each below ``classes``; ValueError otherwise."""
    array = np.asarray(labels)
    if array.shape != (count,) or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(
            f"Expected {name} as {count} integers, one an image. "
            f"Received: shape {array.shape}, dtype {array.dtype}"
        )
    if array.min() < 0 or array.max() >= classes:
        raise ValueError(
            f"Expected {name} from 0 to {classes - 1}, the model's classes. "
            f"Received: from {array.min()} to {array.max()}"
        )
    return array.astype(np.int32)


class NotFiniteError(ValueError):
    """Values that are NaN or infinite.

    Attributes:
        what: they are, such as "logits".
        item: that they are of: the number of an image, or a name.
        received: how many of how many values.
    """

    def __init__(self, what: str, item: int | str, received: str) -> None:
        of = f"image {item}" if isinstance(item, int) else item
        super().__init__(f"Expected finite {what} on {of}. Received: {received} NaN or infinite")
        self.what = what
        self.item = item
        self.received = received

    def __reduce__(self) -> tuple[type[NotFiniteError], tuple[str, int | str, str]]:
        return type(self), (self.what, self.item, self.received)  # for a worker's to come here


def check_finite(values: np.ndarray, what: str, first: int = 0) -> np.ndarray:
    """``values``, (n, ...), one item an image, the first of which has the number ``first``.

    Raises:
        NotFiniteError: of the first image with a value that is NaN or infinite.
    """
    finite = np.isfinite(values)
    if not finite.all():
        i = int(np.argmin(finite.reshape(len(values), -1).all(axis=1)))
        wrong, count = finite[i].size - np.count_nonzero(finite[i]), finite[i].size
        raise NotFiniteError(what, first + i, f"{wrong} of {count} values")
    return values


@contextlib.contextmanager
def naming(items: Sequence[int | str], network: str = "") -> Iterator[None]:
    """Inside, a value that isn't finite is said to be ``network``'s on one of ``items``.

    Args:
        items: a number or name for each image of the arrays that are checked.
        network: its name, where there is one to tell.
    """
    try:
        yield
    except NotFiniteError as error:
        what = f"{error.what} of {network}" if network else error.what
        # What is named already further inside stays as it is.
        item = items[error.item] if isinstance(error.item, int) else error.item
        raise NotFiniteError(what, item, error.received) from None
