"""Tokens of vision transformers: which of a sequence are a grid of the image, found by trying.

NaN is put at some positions of a tensor, and shows what behind it depends on them, whatever the
layers are and whatever weights they have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from gradcam_adv.graph.call import Call


@dataclass(frozen=True)
class Grid:
    """Those tokens of a sequence (N, tokens, C) that are patches of the image, row by row.

    Attributes:
        first: how many other tokens, such as a class token, stand before them.
        size: height and width of the grid.

    Example:
        >>> import numpy as np
        >>> tuple(Grid(first=1, size=(2, 3)).of(np.zeros((5, 7, 16))).shape)
        (5, 2, 3, 16)
    """

    first: int
    size: tuple[int, int]

    @property
    def patches(self) -> slice:
        """Which tokens they are."""
        height, width = self.size
        return slice(self.first, self.first + height * width)

    def of(self, values: Any) -> Any:
        """Values (N, tokens, C) as (N, h, w, C), without the other tokens."""
        count, _, channels = keras.ops.shape(values)
        return keras.ops.reshape(values[:, self.patches], (count, *self.size, channels))


Grids = Mapping[int, Grid]
"""By the ids of sequences, their grids."""

# Layers and operations behind which the second axis is another one.
_TURNING = ("Permute", "Transpose", "Swapaxes", "Moveaxis")


def grid_of(
    call: Call, output: keras.KerasTensor, sources: Sequence[keras.KerasTensor], known: Grids
) -> Grid | None:
    """The grid of an output (N, tokens, C) of a call; None if it has none.

    Where the number of tokens stays, so does the grid. Else NaN in the first row of the source
    must reach the first row of a grid, NaN in its first column a column, and NaN everywhere
    nothing else.

    Args:
        sources: the inputs of the call with positions of the image.
        known: the grids of those that are sequences.
    """
    if type(call.operation).__name__ in _TURNING or None in output.shape[1:]:
        return None
    for source in sources:
        if (grid := known.get(id(source))) and source.shape[1] == output.shape[1]:
            return grid
    if len(sources) != 1:
        return None
    (source,) = sources
    whole: Any = np.s_[:, :]
    if len(source.shape) == 4:
        parts = [whole, np.s_[:, 0], np.s_[:, :, 0]]
    elif grid := known.get(id(source)):
        start, stop, width = grid.patches.start, grid.patches.stop, grid.size[1]
        parts = [
            np.s_[:, grid.patches],
            np.s_[:, start : start + width],
            np.s_[:, start:stop:width],
        ]
    else:
        return None
    everywhere, row, column = (
        np.flatnonzero(_reached([call], source, part, output).any(axis=(0, 2))) for part in parts
    )
    if len(row) < 2 or len(column) < 2:
        return None
    tokens = everywhere[0] + np.arange(len(row) * len(column)).reshape(len(column), len(row))
    expected = (tokens.ravel(), tokens[0], tokens[:, 0])
    if not all(map(np.array_equal, (everywhere, row, column), expected)):
        return None
    return Grid(int(everywhere[0]), (len(column), len(row)))


def with_read_patches(calls: Sequence[Call], output: keras.KerasTensor, grids: Grids) -> set[int]:
    """The ids of sequences on whose patches, and not only on other tokens, ``output`` depends.

    Behind the last attention a model with a class token reads that token alone.
    """
    needed, found = {id(output)}, set()
    for call in reversed(calls):
        outputs = [tensor for tensor in call.outputs if id(tensor) in needed]
        if outputs:
            needed.update(map(id, call.inputs))
        for tensor in call.inputs:
            if id(tensor) in grids and id(tensor) not in found:
                reaches = (
                    id(made) in found or _reaches_what_is_read(call, tensor, made, grids)
                    for made in outputs
                )
                if any(reaches):
                    found.add(id(tensor))
    return found


def _reaches_what_is_read(
    call: Call, tensor: keras.KerasTensor, made: keras.KerasTensor, grids: Grids
) -> bool:
    """Whether patches reach what is read of an output: all, or if that has a grid, the others."""
    reached = _reached([call], tensor, np.s_[:, grids[id(tensor)].patches], made)
    if (grid := grids.get(id(made))) is not None:
        reached = np.delete(reached, grid.patches, axis=1)
    return bool(reached.any())


def mixed(
    calls: Sequence[Call], before: keras.KerasTensor, after: keras.KerasTensor, grids: Grids
) -> bool:
    """Whether calls from one sequence to another bring anything from one patch to another."""
    last = grids[id(before)].patches.stop - 1
    reached = _reached(calls, before, np.s_[:, last], after)
    return int(reached[:, grids[id(after)].patches].any(axis=(0, 2)).sum()) > 1


def _reached(
    calls: Sequence[Call], tensor: keras.KerasTensor, where: Any, output: keras.KerasTensor
) -> np.ndarray:
    """Of which values of ``output`` NaN comes out of calls, if it is in ``tensor`` at ``where``.

    bool, of the shape of ``output``. If the calls do not run, NaN counts as come out everywhere.
    """
    made: dict[int, Any] = {}
    rng = np.random.default_rng(0)
    try:
        numbers = rng.random([size or 1 for size in tensor.shape], np.float32)
        numbers[where] = np.nan
        made[id(tensor)] = keras.ops.cast(numbers, tensor.dtype)

        def value(given: Any) -> Any:
            if isinstance(given, keras.KerasTensor) and id(given) not in made:
                other = rng.random([size or 1 for size in given.shape], np.float32)
                made[id(given)] = keras.ops.cast(other, given.dtype)
            return made.get(id(given), given)

        for call in calls:
            args, kwargs = keras.tree.map_structure(value, call.arguments)
            outputs = keras.tree.flatten(call.operation(*args, **kwargs))
            made.update(zip(map(id, call.outputs), outputs, strict=True))
        values = keras.ops.convert_to_numpy(keras.ops.cast(made[id(output)], "float32"))
    except Exception:  # whatever a user's layer may raise
        values = np.full(0, np.nan)
    shape = tuple(size or 1 for size in output.shape)
    return np.isnan(values) if values.shape == shape else np.ones(shape, bool)
