"""Batches of one padded shape, halved when memory runs out."""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from gradcam_adv import machine

# A processor is no faster with more at a time.
BATCH_SIZE = 8
# For a GPU: the most that is chosen, and what an image may need per pixel. The latter is twice the
# outputs of all layers of ResNet101 (4.5 kB), the hungriest of the five networks, and a little.
_LARGEST_SIZE = 64
_BYTES_PER_PIXEL = 10_000


def batch_size_for(given: int | None, shape: Sequence[int | None]) -> int:
    """The batch size given; if it is None, one that suits the machine and images of (N, H, W, C).

    That is BATCH_SIZE. On a GPU it is the largest power of two up to 64 with which the five
    networks need at most half of its memory. A given size that is no whole number above 0 is a
    ValueError.
    """
    if given is not None:
        return check_batch_size(given)
    height, width = shape[1:3]
    needed = _BYTES_PER_PIXEL * (height or 0) * (width or 0)
    memory = machine.gpu_memory()
    size = BATCH_SIZE
    while needed and 2 * size <= _LARGEST_SIZE and 2 * size * needed <= memory / 2:
        size *= 2
    return size


def check_batch_size(batch_size: Any) -> int:
    """``batch_size``; ValueError if it is no whole number above 0."""
    whole = isinstance(batch_size, int | np.integer) and not isinstance(batch_size, bool)
    if not whole or int(batch_size) < 1:
        raise ValueError(f"Expected batch_size as a whole number above 0. Received: {batch_size!r}")
    return int(batch_size)


def progress_bar(what: str, count: int, batch_size: int, verbose: int | str) -> tqdm[Any]:
    """A bar over images, or none if they are a single batch.

    ``verbose`` is as in Keras: "auto" (a bar if there is a terminal), 0 (no bar) or 1 (a bar).
    """
    if verbose not in ("auto", 0, 1):
        raise ValueError(f"Expected verbose as 'auto', 0 or 1. Received: {verbose!r}")
    hidden = None if verbose == "auto" else not verbose
    if count <= batch_size:
        hidden = True
    return tqdm(total=count, desc=what, unit="image", disable=hidden)


class BatchHalved(UserWarning):
    """Memory ran out, so work goes on with batches half as large.

    Logits agree with those of whole batches to 1e-5 of their scale, but not to the bit. A few
    gradients and heatmaps differ by more: see docs/determinism.md.
    """


class PaddedBatches:
    """A function that is compiled for one batch size and called with batches of exactly that size.

    So a result does not depend on how the images were cut into batches. If memory runs out, the
    size is halved with a warning BatchHalved, and work goes on from that batch. Later calls keep
    the smaller size.

    :func:`out_of_memory` says which errors count. A system that promised more memory than it has
    may kill the process instead; see :func:`gradcam_adv.backends.reserve`.
    """

    def __init__(self, compile: Callable[[int], Callable[..., Any]], batch_size: int) -> None:
        """``compile`` takes a batch size and returns the function for arrays of that length."""
        self.size = check_batch_size(batch_size)
        self._compile = compile
        self._run: Callable[..., Any] | None = None

    def __call__(self, *arrays: np.ndarray) -> Iterator[tuple[slice, Any]]:
        """Run over items, (N, ...) in each array; the last batch repeats its last item.

        Yields:
            The slice of items that a batch holds (without the padding), and the function's result
            for the whole batch.

        Raises:
            MemoryError: not even one item fits into memory.
            ValueError: as of :func:`errors_of_models`.
        """
        start, total = 0, len(arrays[0])
        while start < total:
            rows = np.minimum(np.arange(start, start + self.size), total - 1)
            problem = None
            try:
                with errors_of_models():
                    self._run = self._run or self._compile(self.size)
                    result = self._run(*(array[rows] for array in arrays))
            except Exception as error:
                if not out_of_memory(error):
                    raise
                # Only its name: the error itself keeps what was in memory alive.
                problem = type(error).__name__
            if problem:
                self._halve(problem)
                continue
            part = slice(start, min(start + self.size, total))
            yield part, result
            start = part.stop

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


@contextlib.contextmanager
def errors_of_models(*further: type[Exception]) -> Iterator[None]:
    """Turn errors of a model that is being computed into a ValueError "Expected ... Received: ...".

    Those are TensorFlow's OpError, known by its name, RuntimeError (of PyTorch and JAX), ValueError
    (of Keras) and the ``further`` ones. Errors of memory stay what they are.
    """
    try:
        yield
    except Exception as error:
        names = {kind.__name__ for kind in type(error).__mro__}
        of_model = isinstance(error, (RuntimeError, ValueError, *further)) or "OpError" in names
        if not of_model or str(error).startswith("Expected ") or out_of_memory(error):
            raise
        raise ValueError(
            "Expected a model that can be computed. "
            f"Received: {type(error).__name__}: {_reason(str(error))}"
        ) from error


def _reason(said: str) -> str:
    """What is wrong, out of what TensorFlow or Keras say of it."""
    # First TensorFlow lists where the graph was made, then it says what is wrong, then which node.
    lines = said.partition("\n\t [[")[0].strip().splitlines()
    if lines and lines[0].startswith("Graph execution error"):
        return lines[-1]
    # Keras sets what is wrong in bold, and lists the arguments of the call.
    words = " ".join(lines).partition("Arguments received by")[0].split()
    return re.sub(r"\x1b\[\d*m", "", " ".join(words))


def out_of_memory(error: Exception) -> bool:
    """Whether an error of Python's, NumPy's or a backend's says that memory ran out.

    Errors are known by their class names, so no backend is imported. TensorFlow's AbortedError
    stands for any failure inside oneDNN, nearly always a lack of memory. PyTorch on a processor,
    and JAX anywhere, have no class of their own; their messages tell.
    """
    names = {kind.__name__ for kind in type(error).__mro__}
    known = {"MemoryError", "ResourceExhaustedError", "AbortedError", "OutOfMemoryError"}
    return bool(names & known) or any(
        words in str(error) for words in ("DefaultCPUAllocator", "RESOURCE_EXHAUSTED")
    )
