"""The five networks: how Keras builds them, what they expect, how random ones are made useful."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from gradcam_adv.files import untrusted

if TYPE_CHECKING:
    import keras

    from gradcam_adv.models.weights import Weights

_KERAS_WEIGHTS = "https://storage.googleapis.com/tensorflow/keras-applications"


@dataclass(frozen=True)
class Backbone:
    """One network of ``keras.applications``, without its classification layers.

    Attributes:
        name: as studies name it.
        title: as the paper names it.
        application: its name in ``keras.applications``.
        minimum_size: smallest image side in pixels that it takes.
        last_activation: its last convolutional activation, the layer of Table 3.
        preprocessing: "caffe" (BGR, 0-255, mean subtracted) or "tf" (RGB, -1 to 1).
        weights_url: where Keras keeps its ImageNet weights without top.
        weights_md5: of that file.
        weights_mb: its size in megabytes; a saved classifier's is little more.
    """

    name: str
    title: str
    application: str
    minimum_size: int
    last_activation: str
    preprocessing: Literal["caffe", "tf"]
    weights_url: str
    weights_md5: str
    weights_mb: int


BACKBONES = {
    backbone.name: backbone
    for backbone in (
        Backbone(
            "vgg16",
            "VGG16",
            "VGG16",
            32,
            "block5_conv3",
            "caffe",
            f"{_KERAS_WEIGHTS}/vgg16/vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
            "6d6bbae143d832006294945121d1f1fc",
            59,
        ),
        Backbone(
            "resnet50",
            "ResNet50",
            "ResNet50",
            32,
            "conv5_block3_out",
            "caffe",
            f"{_KERAS_WEIGHTS}/resnet/resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
            "4d473c1dd8becc155b73f8504c6f6626",
            95,
        ),
        Backbone(
            "resnet101",
            "ResNet101",
            "ResNet101",
            32,
            "conv5_block3_out",
            "caffe",
            f"{_KERAS_WEIGHTS}/resnet/resnet101_weights_tf_dim_ordering_tf_kernels_notop.h5",
            "88cf7a10940856eca736dc7b7e228a21",
            171,
        ),
        Backbone(
            "inceptionv3",
            "InceptionNet v3",
            "InceptionV3",
            75,
            "mixed10",
            "tf",
            f"{_KERAS_WEIGHTS}/inception_v3/"
            "inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5",
            "bcbd6486424b2319ff4ef7d526e38f63",
            88,
        ),
        Backbone(
            "xception",
            "XceptionNet",
            "Xception",
            71,
            "block14_sepconv2_act",
            "tf",
            f"{_KERAS_WEIGHTS}/xception/xception_weights_tf_dim_ordering_tf_kernels_notop.h5",
            "b0042744bf5b25fce3cb969f33bebb97",
            84,
        ),
    )
}
"""The five networks, by the names that a study calls them."""


def find(name: str) -> Backbone:
    """The backbone called ``name``; ValueError with the nearest names when there is none."""
    if not isinstance(name, str) or name not in BACKBONES:
        near = difflib.get_close_matches(str(name).lower(), BACKBONES, n=2, cutoff=0.4)
        hint = f" Nearest: {', '.join(near)}." if near else ""
        raise ValueError(
            f"Expected a network out of {', '.join(BACKBONES)}. Received: {name!r}.{hint}"
        )
    return BACKBONES[name]


def build(
    name: str,
    image_size: int,
    weights: Weights,
    *,
    preprocessing: Literal["own", "unit"] = "own",
    seed: int = 0,
) -> keras.Model:
    """The network's convolutional base as one flat graph that takes pixels.

    Args:
        name: of the network.
        image_size: side of the square input in pixels.
        weights: from :func:`gradcam_adv.models.weights.resolve`.
        preprocessing: "own", the network's; "unit" feeds it the pixels in [0, 1] as they are.
        seed: of random weights.

    Returns:
        Model from pixels, float32 (N, image_size, image_size, 3) in [0, 1], to the base's last
        feature maps. Every layer is frozen, so batch norm stays in inference mode.

    Raises:
        ValueError: unknown network, image too small, or a weights file of something else.
    """
    import keras

    backbone = find(name)
    check_image_size(backbone, image_size)
    application = getattr(keras.applications, backbone.application)
    shape = (image_size, image_size, 3)
    if weights.origin == "random":
        keras.utils.set_random_seed(seed)  # the applications' initializers take no seed
    pixels = keras.Input(shape, name="pixels")
    base = application(
        include_top=False,
        weights=None,
        input_tensor=pixels if preprocessing == "unit" else _preprocess(backbone, pixels),
    )
    if weights.path is not None:
        untrusted.check_weights(weights.path, backbone.title)
        # Weights files are read by position in the graph, so into the plain application first.
        # It is built second: Keras numbers nameless layers by a counter of the process, and the
        # base shall have the first numbers.
        plain = application(include_top=False, weights=None, input_shape=shape)
        try:
            plain.load_weights(weights.path)
        except Exception as error:  # h5py and Keras raise many kinds for a wrong file
            raise ValueError(
                f"Expected weights of {backbone.title} without top. "
                f"Received: {weights.path}: {error}"
            ) from error
        base.set_weights(plain.get_weights())
    for layer in base.layers:
        layer.trainable = False
    return base


def check_image_size(backbone: Backbone, image_size: int) -> None:
    """ValueError when images are smaller than the network takes."""
    if image_size < backbone.minimum_size:
        raise ValueError(
            f"Expected image_size of at least {backbone.minimum_size} for {backbone.title}. "
            f"Received: {image_size}"
        )


# The mean of ImageNet's photos in RGB order, on 0-255, that caffe-style networks subtract.
_CAFFE_MEAN = (123.68, 116.779, 103.939)


def _preprocess(backbone: Backbone, pixels: keras.KerasTensor) -> keras.KerasTensor:
    """What ``keras.applications.*.preprocess_input`` does, for pixels in [0, 1], in the graph."""
    import keras

    if backbone.preprocessing == "tf":
        return keras.layers.Rescaling(2.0, offset=-1.0, name="preprocessing")(pixels)
    offset = [-mean for mean in _CAFFE_MEAN]
    rgb = keras.layers.Rescaling(255.0, offset=offset, name="preprocessing")(pixels)
    return keras.ops.flip(rgb, axis=-1)


def epsilon_unit(name: str, unit: str, preprocessing: str) -> float:
    """By what epsilon is multiplied to be a change of pixels in [0, 1].

    ``unit`` "pixel" is that change itself; "network" is a change of the network's own input
    after its preprocessing: 0-255 for caffe-style networks, -1 to 1 for tf-style ones.
    """
    if unit == "pixel" or preprocessing == "unit":
        return 1.0
    return {"caffe": 1 / 255, "tf": 1 / 2}[find(name).preprocessing]


# Random bases: weight of the past at each batch, and by what the variances are then multiplied.
_MOMENTUM = 0.8
_DAMPING = 1.6


def calibrate_batch_norm(
    base: keras.Model,
    photos: Iterable[object],
    *,
    done: int = 0,
    after_batch: Callable[[int], None] = lambda _: None,
) -> None:
    """Give the batch-norm layers of a random base the statistics of real photos.

    Without it a random deep network's features say nothing of its input. Each layer's moving
    mean and variance become the exponentially weighted mean over the batches, freed of the
    initial 0 and 1 (which would otherwise keep a share of ``momentum ** batches``). The variances
    are then enlarged: with residual branches at full strength a deep random network is chaotic
    and its features tell no two people apart, damped ones keep what they see (docs/decisions.md).

    Args:
        base: from :func:`build`; changed in place.
        photos: batches, each float32 (B, H, W, 3) in [0, 1]; some 64 photos a batch.
        done: how many batches ``base`` has seen already; its statistics are as after the last.
        after_batch: called after each with how many ``base`` has seen by then. The statistics of
            that moment are all that going on from there hangs on.
    """
    import keras

    layers = _batch_norms(base)
    if not layers:
        return

    class Observer(keras.Model):
        """Its training step is a forward pass in training mode, compiled by ``fit``'s machinery."""

        def train_step(self, *given: Any) -> Any:
            *state, data = given
            logs = {"loss": keras.ops.zeros(())}
            if not state:
                self(data[0], training=True)
                return logs
            # On JAX nothing is changed in place: Keras hands the values over, and takes them back.
            trainable, observed, *further = state[0]
            _, observed = self.stateless_call(trainable, observed, data[0], training=True)
            return logs, (trainable, observed, *further)

    usual = layers[0].momentum
    for layer in layers:
        layer.trainable = True
        layer.momentum = _MOMENTUM
    observer = Observer(base.inputs, base.outputs)
    observer.compile(jit_compile=False)
    for batch in photos:
        observer.train_on_batch(batch)
        done += 1
        after_batch(done)
    initial_share = _MOMENTUM**done
    for layer in layers:
        mean, variance = layer.moving_mean, layer.moving_variance
        mean.assign(keras.ops.divide(mean, 1 - initial_share))
        observed = keras.ops.divide(variance - initial_share, 1 - initial_share)
        variance.assign(observed * _DAMPING)
        layer.momentum = usual
        layer.trainable = False


def batch_norm_statistics(base: keras.Model) -> dict[str, np.ndarray]:
    """Moving mean and variance of the batch-norm layers, each (2, C), by the layer's name."""
    return {
        layer.name: np.stack([layer.moving_mean.numpy(), layer.moving_variance.numpy()])
        for layer in _batch_norms(base)
    }


def set_batch_norm_statistics(base: keras.Model, statistics: Mapping[str, np.ndarray]) -> None:
    """Give the batch-norm layers what :func:`batch_norm_statistics` found."""
    for layer in _batch_norms(base):
        mean, variance = statistics[layer.name]
        layer.moving_mean.assign(mean)
        layer.moving_variance.assign(variance)


def _batch_norms(base: keras.Model) -> list[keras.layers.BatchNormalization]:
    import keras

    return [layer for layer in base.layers if isinstance(layer, keras.layers.BatchNormalization)]
