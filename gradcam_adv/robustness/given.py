"""Images as a user gives them: an array, an object that gives slices, or batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt


def read(images: Any, labels: npt.ArrayLike | None) -> tuple[Any, npt.ArrayLike | None]:
    """Images that have a length and give slices, and their labels.

    Batches are read once, into memory, since another time they may come in another order. They are
    arrays (n, H, W, C), or tuples of such an array and its labels: a ``tf.data.Dataset``, a
    ``keras.utils.PyDataset``, a ``torch.utils.data.DataLoader`` or a generator. All else stays as
    it is.

    Raises:
        ValueError: batches of another kind, none, or without an end; labels given twice.
    """
    if hasattr(images, "num_batches"):  # a PyDataset, which gives batches by their number
        batches: Iterator[Any] = (images[number] for number in range(len(images)))
    elif hasattr(images, "__getitem__") or hasattr(images, "__array__"):
        return (images if hasattr(images, "__getitem__") else np.asarray(images)), labels
    elif not hasattr(images, "__iter__"):
        raise ValueError(
            "Expected images as an array (N, H, W, C) or as batches of them. "
            f"Received: {type(images).__name__}"
        )
    elif hasattr(images, "cardinality") and int(images.cardinality()) == -1:
        raise ValueError(
            "Expected images that end; take(n) ends a tf.data.Dataset after n batches. "
            "Received: one without an end, as repeat() makes them"
        )
    else:
        batches = iter(images)
    parts = [_of_batch(batch) for batch in batches]
    if not parts:
        raise ValueError("Expected at least one image. Received: none")
    pixels, given = zip(*parts, strict=True)
    if any(one is None for one in given):
        return np.concatenate(pixels), labels
    if labels is not None:
        raise ValueError(
            "Expected labels once. Received: labels in the batches of images, and labels as well"
        )
    return np.concatenate(pixels), np.concatenate(given)


def _of_batch(batch: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """The images of a batch, and its labels if it has some; Keras' third part is weights."""
    images, labels, *_ = (*batch, None) if isinstance(batch, tuple | list) else (batch, None)
    array = np.asarray(images)
    if array.ndim != 4:
        came = f"shape {array.shape}" if array.ndim else type(images).__name__
        raise ValueError(
            "Expected batches of images (n, H, W, C), or of (images, labels); batch(8) makes them "
            f"of a tf.data.Dataset of single images. Received: {came}"
        )
    return array, None if labels is None else np.asarray(labels)
