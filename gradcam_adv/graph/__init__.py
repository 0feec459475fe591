"""Any Keras classifier as one flat graph, from the pixels to the logits."""

from collections.abc import Sequence

# Which layers are meant: a group, a path, an index, or several of these.
Layers = str | int | Sequence[str | int]
GROUPS = ("all", "conv", "blocks", "last")
