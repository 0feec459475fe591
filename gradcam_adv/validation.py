"""Checks of a user's images, labels and epsilons, and of values that must be finite."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


def check_images(shape: Sequence[int | None], images: npt.ArrayLike) -> np.ndarray:
    """Images as float32 (N, H, W, C) with values in [0, 1]; ValueError if they are not.

    ``shape`` is that of the model's input, in which None stands for any size.
    """
    array = np.asarray(images)
    _check_is_array(array, "images")
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
    """``array`` as float32; ValueError unless it holds floats in [0, 1]."""
    _check_is_array(array, name)
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(
            f"Expected {name} as floats in [0, 1] (divide 8-bit pixels by 255). "
            f"Received: dtype {array.dtype}"
        )
    check_range(array, name)
    return array.astype(np.float32, copy=False)


def _check_is_array(array: np.ndarray, name: str) -> None:
    """ValueError for what NumPy takes for a single object: a data set, or a generator."""
    if array.dtype == object and array.ndim == 0:
        raise ValueError(
            f"Expected {name} as an array. Received: {type(array.item()).__name__}; "
            "dissimilarity() reads batches, and np.concatenate([x for x, y in batches]) makes an "
            "array of batches with labels, np.concatenate(list(batches)) of those without"
        )


def check_range(array: np.ndarray, name: str) -> None:
    """ValueError for values outside [0, 1]."""
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
            f"Expected {name} as {count} integers, one per image. "
            f"Received: shape {array.shape}, dtype {array.dtype}"
        )
    if array.min() < 0 or array.max() >= classes:
        raise ValueError(
            f"Expected {name} from 0 to {classes - 1}, the model's classes. "
            f"Received: from {array.min()} to {array.max()}"
        )
    return array.astype(np.int32)


def check_epsilons(epsilons: Sequence[float]) -> list[float]:
    """``epsilons`` in rising order, each once; ValueError unless they are above 0 and at most 1."""
    if isinstance(epsilons, str) or not hasattr(epsilons, "__iter__"):
        raise ValueError(f"Expected epsilons as a list of numbers. Received: {epsilons!r}")
    rising = sorted({float(epsilon) for epsilon in epsilons})
    if not rising or not all(0 < epsilon <= 1 for epsilon in rising):  # NaN fails this, too
        raise ValueError(f"Expected epsilons above 0, at most 1. Received: {list(epsilons)}")
    return rising


def check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    """ValueError unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise ValueError(f"Expected {name} as one of {', '.join(choices)}. Received: {value!r}")


class NotFiniteError(ValueError):
    """Values that are NaN or infinite.

    Attributes:
        what: the kind of values, such as "logits".
        item: the image that they belong to, by its number or its name.
        received: how many of how many values.
    """

    def __init__(self, what: str, item: int | str, received: str) -> None:
        image = f"image {item}" if isinstance(item, int) else item
        super().__init__(f"Expected finite {what} on {image}. Received: {received} NaN or infinite")
        self.what = what
        self.item = item
        self.received = received

    def __reduce__(self) -> tuple[type[NotFiniteError], tuple[str, int | str, str]]:
        return type(self), (self.what, self.item, self.received)  # a worker's error is pickled


def check_finite(values: np.ndarray, what: str, first: int = 0) -> np.ndarray:
    """``values``, (n, ...), one item per image, if all are finite.

    Otherwise a NotFiniteError says ``what`` they are and names the first such image; ``first`` is
    the number of the first image of all.
    """
    finite = np.isfinite(values)
    if not finite.all():
        i = int(np.argmin(finite.reshape(len(values), -1).all(axis=1)))
        wrong, count = finite[i].size - np.count_nonzero(finite[i]), finite[i].size
        raise NotFiniteError(what, first + i, f"{wrong} of {count} values")
    return values


@contextlib.contextmanager
def naming(items: Sequence[int | str], network: str = "") -> Iterator[None]:
    """Within this context a NotFiniteError names the image, out of ``items``, and the network."""
    try:
        yield
    except NotFiniteError as error:
        what = f"{error.what} of {network}" if network else error.what
        # An inner context may have named it already.
        item = items[error.item] if isinstance(error.item, int) else error.item
        raise NotFiniteError(what, item, error.received) from None
