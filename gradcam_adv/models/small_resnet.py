"""A residual network small enough to be trained against attacks on two processor cores.

Average pooling, a convolution of stride 2, and two residual blocks (He et al. 2016) of 24 and 48
channels, the second of stride 2. Of 64 x 64 pixels the last maps are 8 x 8, and a pass costs 5
million multiply-adds. There is no batch normalization, so that what is attacked and what is trained
are one network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras

# Channels and stride of each block.
_BLOCKS = ((24, 1), (48, 2))


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

    def convolved(x: Any, channels: int, size: int, stride: int, name: str) -> Any:
        return layers.Conv2D(channels, size, stride, padding="same", name=f"{name}_conv")(x)

    inputs = layers.Input(input_shape) if input_tensor is None else input_tensor
    x = layers.AveragePooling2D(2, name="stem_pool")(inputs)
    x = layers.ReLU(name="stem_out")(convolved(x, _BLOCKS[0][0], 5, 2, "stem"))
    for number, (channels, stride) in enumerate(_BLOCKS, 1):
        name = f"block{number}"
        short = x if stride == 1 else convolved(x, channels, 1, stride, f"{name}_short")
        x = layers.ReLU(name=f"{name}_a_out")(convolved(x, channels, 3, stride, f"{name}_a"))
        x = layers.Add(name=f"{name}_add")([short, convolved(x, channels, 3, 1, f"{name}_b")])
        x = layers.ReLU(name=f"{name}_out")(x)
    return keras.Model(keras.utils.get_source_inputs(inputs), x, name="small_resnet")
