"""Multiply-adds of one photo's forward pass, counted from a network's own layers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from gradcam_adv.graph import network as networks

if TYPE_CHECKING:
    import keras

# Floating-point operations of a multiply-add.
FLOPS = 2


def multiply_adds(model: keras.Model) -> int:
    """Those of convolutions and dense layers for one photo; all else is left out as small.

    Args:
        model: any classifier that :func:`gradcam_adv.graph.network.flatten` takes.

    Raises:
        ValueError: a layer with a kernel that is not known how to count.
    """
    return sum(_of_step(step) for step in networks.flatten(model).steps)


def _of_step(step: networks.Step) -> int:
    import keras

    layer: Any = step.operation
    # Each kernel's numbers are used once at each position of the output: of a separable
    # convolution both, for its strides are the depthwise one's.
    positions = math.prod(side for side in step.shape[1:-1] if side is not None)
    kinds = keras.layers
    if isinstance(layer, kinds.SeparableConv2D):
        kernels = [layer.depthwise_kernel, layer.pointwise_kernel]
    elif isinstance(layer, kinds.Conv2D | kinds.DepthwiseConv2D | kinds.Dense):
        kernels = [layer.kernel]
    elif any(weight.name.endswith("kernel") for weight in getattr(layer, "weights", [])):
        raise ValueError(
            "Expected layers with a kernel to be convolutions, depthwise or separable ones, or "
            f"dense. Received: {step.path}, a {type(layer).__name__}"
        )
    else:
        return 0
    return positions * sum(math.prod(kernel.shape) for kernel in kernels)
