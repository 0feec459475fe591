"""Multiply-adds of a forward pass of one photo, counted from the layers of a network."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from gradcam_adv.graph.call import Call
from gradcam_adv.graph.flat import flatten

if TYPE_CHECKING:
    import keras

# Floating-point operations of a multiply-add.
FLOPS = 2


def multiply_adds(model: keras.Model) -> int:
    """Multiply-adds of convolutions and dense layers for one photo; other layers have few.

    Args:
        model: any classifier that :func:`gradcam_adv.graph.flat.flatten` takes.

    Raises:
        ValueError: a layer with a kernel of an unknown kind.
    """
    return sum(map(_of_call, flatten(model).calls))


def _of_call(call: Call) -> int:
    import keras

    layer: Any = call.operation
    # Each number of a kernel is used once at each position of the output. That also holds for both
    # kernels of a separable convolution, since only the depthwise one has strides.
    positions = math.prod(side for side in call.shape[1:-1] if side is not None)
    kinds = keras.layers
    if isinstance(layer, kinds.SeparableConv2D):
        kernels = [layer.depthwise_kernel, layer.pointwise_kernel]
    elif isinstance(layer, kinds.Conv2D | kinds.DepthwiseConv2D | kinds.Dense):
        kernels = [layer.kernel]
    elif any(weight.name.endswith("kernel") for weight in getattr(layer, "weights", [])):
        raise ValueError(
            "Expected layers with a kernel to be convolutions, depthwise or separable ones, or "
            f"dense. Received: {call.path}, a {type(layer).__name__}"
        )
    else:
        return 0
    return positions * sum(math.prod(kernel.shape) for kernel in kernels)
