"""Which pixels a model takes: 0..1, 0..255 or -1..1, as its first layers tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np

from gradcam_adv.graph.call import Call
from gradcam_adv.graph.places import pixels_among

# Name: what 0 and 1 become.
RANGES = {"0..1": (0.0, 1.0), "0..255": (0.0, 255.0), "-1..1": (-1.0, 1.0)}


@dataclass(frozen=True)
class Pixels:
    """The pixels that a model takes.

    Attributes:
        range: a key of RANGES.
        why: how this is known, as the rest of a sentence.
        known: False if it is only assumed.
    """

    range: str
    why: str
    known: bool = True

    def __str__(self) -> str:
        return f"pixels {self.range}, {self.why}"


GIVEN = "as was asked for"
ASSUMED = Pixels("0..1", "assumed, since the first layers do not tell", known=False)


def told(image: keras.KerasTensor, calls: Sequence[Call]) -> Pixels:
    """What the layers tell that prepare the pixels, such as a Rescaling; else ASSUMED.

    They multiply pixels by a factor and move them. A small factor is for pixels up to 255, and so
    is a large mean that is subtracted; a factor of 2 or more is for pixels up to 1. If -1 becomes
    0, or a negative mean is subtracted, pixels begin at -1.
    """
    still = pixels_among(image, calls)
    read = [
        tensor
        for call in calls
        if id(call.output) not in still
        for tensor in call.inputs
        if id(tensor) in still and tensor is not image
    ]
    if not read:
        return ASSUMED
    prepare = keras.Model(image, read[0])
    shape = [image.shape[0] or 1, *(64 if size is None else size for size in image.shape[1:])]
    prepared = []
    for value in (0, 1, 255):
        of_value = prepare(np.full(shape, value, np.float32), training=False)
        values = keras.ops.convert_to_numpy(of_value)[0].astype(np.float64)
        # By channel, without a border that a layer may have changed.
        prepared.append(np.median(values.reshape(-1, values.shape[-1]), axis=0))
    zero, one, most = prepared
    slope, offset = abs((one - zero).mean()), zero
    straight = np.allclose(most, zero + 255 * (one - zero), rtol=1e-2, atol=1e-3)
    if not straight or slope == 0 or (slope == 1 and not offset.any()):
        return ASSUMED
    mean = -offset.sum() / (one - zero).sum()  # the value that becomes 0
    if slope < 0.1 or mean > 1.5:
        found, last = "0..255", most
    elif mean < -0.01:
        found, last = "-1..1", one
    elif slope >= 2:
        found, last = "0..1", one
    else:
        return ASSUMED
    made_by = next(call.path for call in calls if any(t is read[0] for t in call.outputs))
    low, high = RANGES[found]
    first = zero if low == 0 else 2 * zero - one
    why = f"since {made_by!r} gives {_rounded(first)} to {_rounded(last)} for {low:g} to {high:g}"
    return Pixels(found, why)


def _rounded(by_channel: np.ndarray) -> str:
    return f"{by_channel.mean() + 0:.3g}"


def from_unit(image: keras.KerasTensor, pixels: str) -> Call:
    """The call that makes the model's pixels out of those in [0, 1]."""
    low, high = RANGES[pixels]
    # A name of its own: Keras' may be the name of a layer of the model.
    layer = keras.layers.Rescaling(high - low, low, dtype="float32", name="pixels_from_0_to_1")
    return Call(layer.name, layer, ((image,), {}), (layer(image),))
