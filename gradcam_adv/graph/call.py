"""One call of a layer or an operation in a flat graph."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import keras


@dataclass(frozen=True)
class Call:
    """One call of a layer or an operation.

    Attributes:
        path: the layer's name, as of :func:`gradcam_adv.layer_names`.
        operation: the layer, or an operation of ``keras.ops``.
        arguments: by position and by name.
        outputs: of the call.
    """

    path: str
    operation: Any
    arguments: tuple[tuple[Any, ...], dict[str, Any]]
    outputs: tuple[keras.KerasTensor, ...]

    @functools.cached_property
    def inputs(self) -> tuple[keras.KerasTensor, ...]:
        """The tensors among its arguments."""
        given = keras.tree.flatten(self.arguments)
        return tuple(tensor for tensor in given if isinstance(tensor, keras.KerasTensor))

    @property
    def output(self) -> keras.KerasTensor:
        """Its output; the last of several."""
        return self.outputs[-1]

    @property
    def shape(self) -> tuple[int | None, ...]:
        return tuple(self.output.shape)
