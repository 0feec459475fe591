"""A residual network small enough to be trained on two processor cores (He et al. 2016).

One convolution of stride 2, then four blocks of two convolutions each, with 24, 24, 48 and 96
channels; the last two have stride 2. Of 64 x 64 pixels the last maps are 8 x 8, and a pass costs 21
million multiply-adds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras

# Channels and stride of each block.
_BLOCKS = ((16, 1), (16, 1), (32, 2), (64, 2))


def small_resnet(
    include_top: bool = False,
    weights: None = None,
    input_tensor: Any = None,
    input_shape: tuple[int, int, int] | None = None,
) -> keras.Model:
    """From pixels to feature maps, called like a network of ``keras.applications``.

    There are no weights of it, and no classification layers (``include_top``).
    """
    import keras

    layers = keras.layers

    def convolved(x: Any, channels: int, stride: int, name: str, size: int = 3) -> Any:
        x = layers.Conv2D(channels, size, stride, "same", use_bias=False, name=f"{name}_conv")(x)
        return layers.BatchNormalization(name=f"{name}_bn")(x)

    inputs = layers.Input(input_shape) if input_tensor is None else input_tensor
    x = layers.ReLU(name="stem_out")(convolved(inputs, _BLOCKS[0][0], 2, "stem"))
    for number, (channels, stride) in enumerate(_BLOCKS, 1):
        name = f"block{number}"
        short = x
        if stride > 1:
            short = convolved(x, channels, stride, f"{name}_short", size=1)
        x = layers.ReLU(name=f"{name}_relu")(convolved(x, channels, stride, f"{name}_a"))
        x = layers.Add(name=f"{name}_add")([short, convolved(x, channels, 1, f"{name}_b")])
        x = layers.ReLU(name=f"{name}_out")(x)
    return keras.Model(keras.utils.get_source_inputs(inputs), x, name="small_resnet")
