"""Convolutional bases: building them, and calibrating the batch norm of random ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from gradcam_adv.models.backbones import check_image_size, find
from gradcam_adv.models.weights import opened

if TYPE_CHECKING:
    import keras

    from gradcam_adv.models.weights import Weights


def build(
    name: str,
    image_size: int,
    weights: Weights,
    *,
    preprocessing: Literal["own", "unit", "tf"] = "own",
    seed: int = 0,
) -> keras.Model:
    """Build a network's convolutional base, one flat graph from pixels to feature maps.

    Args:
        name: of the network.
        image_size: side of the square input in pixels.
        weights: from :func:`gradcam_adv.models.weights.resolve`.
        preprocessing: "own", the network's; "unit", none: the network gets pixels in [0, 1]; or
            "tf", that of tf-style networks: it gets pixels in [-1, 1].
        seed: of random weights.

    Returns:
        Model from pixels, float32 (N, image_size, image_size, 3) in [0, 1], to the last feature
        maps, float32 (N, h, w, C). Every layer is frozen, so batch norm stays in inference mode.

    Raises:
        ValueError: unknown network, ``image_size`` too small, or a weights file that does not fit
            the network.

    Example:
        >>> from gradcam_adv.models.weights import Weights
        >>> build("vgg16", 64, Weights("random")).output_shape
        (None, 2, 2, 512)
    """
    import keras

    backbone = find(name)
    check_image_size(backbone, image_size)
    application = backbone.application
    if isinstance(application, str):
        application = getattr(keras.applications, application)
    shape = (image_size, image_size, 3)
    if weights.origin == "random":
        keras.utils.set_random_seed(seed)  # the applications' initializers take no seed
    pixels = keras.Input(shape, name="pixels")
    style = backbone.preprocessing if preprocessing == "own" else preprocessing
    inputs = pixels if style == "unit" else _preprocess(style, pixels)
    base = application(include_top=False, weights=None, input_tensor=inputs)
    if weights.path is not None:
        # Keras reads a weights file by position in the graph, so first into the application
        # without preprocessing. It is built after the base: Keras numbers layers with a counter
        # of the process, and the base has to get the first numbers.
        plain = application(include_top=False, weights=None, input_shape=shape)
        try:
            with opened(weights.path, backbone.title) as copy:
                plain.load_weights(copy)
        except Exception as error:  # h5py and Keras raise errors of many types for a wrong file
            raise ValueError(
                f"Expected weights of {backbone.title} without top. "
                f"Received: {weights.path}: {error}"
            ) from error
        base.set_weights(plain.get_weights())
    for layer in base.layers:
        layer.trainable = False
    return base


# The mean pixel of ImageNet, RGB, 0-255. Caffe-style networks subtract it.
_CAFFE_MEAN = (123.68, 116.779, 103.939)


def _preprocess(style: Literal["caffe", "tf"], pixels: keras.KerasTensor) -> keras.KerasTensor:
    """``keras.applications.*.preprocess_input`` for pixels in [0, 1], as part of the graph."""
    import keras

    if style == "tf":
        return keras.layers.Rescaling(2.0, offset=-1.0, name="preprocessing")(pixels)
    offset = [-mean for mean in _CAFFE_MEAN]
    rgb = keras.layers.Rescaling(255.0, offset=offset, name="preprocessing")(pixels)
    return keras.ops.flip(rgb, axis=-1)


# For random bases: the weight of earlier batches in the moving statistics, and the factor that
# enlarges the variances.
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

    Without this, the features of a deep random network say nothing about its input. The moving
    mean and variance of each layer become an exponentially weighted mean over the batches. It is
    corrected for the initial values 0 and 1, which would keep a share of ``momentum ** batches``.
    Then the variances are enlarged, which weakens the residual branches. At full strength they make
    a deep random network chaotic, and its features do not distinguish people (docs/decisions.md).

    Args:
        base: from :func:`build`; changed in place.
        photos: batches, each float32 (B, H, W, 3) in [0, 1], of about 64 photos.
        done: the number of batches that ``base`` has seen before.
        after_batch: called with the number of batches seen so far, to save the statistics.
    """
    import keras

    layers = _batch_norms(base)
    if not layers:
        return

    class Observer(keras.Model):
        """A model whose training step is a forward pass in training mode, compiled by Keras."""

        def train_step(self, *given: Any) -> Any:
            *state, data = given
            logs = {"loss": keras.ops.zeros(())}
            if not state:
                self(data[0], training=True)
                return logs
            # On JAX, Keras passes in the values of the variables and takes the new values back.
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
    """The moving mean and variance of the batch-norm layers, by name, each float32 (2, C)."""
    return {
        layer.name: np.stack([layer.moving_mean.numpy(), layer.moving_variance.numpy()])
        for layer in _batch_norms(base)
    }


def set_batch_norm_statistics(base: keras.Model, statistics: Mapping[str, np.ndarray]) -> None:
    """Put the result of :func:`batch_norm_statistics` into a base."""
    for layer in _batch_norms(base):
        mean, variance = statistics[layer.name]
        layer.moving_mean.assign(mean)
        layer.moving_variance.assign(variance)


def _batch_norms(base: keras.Model) -> list[keras.layers.BatchNormalization]:
    import keras

    return [layer for layer in base.layers if isinstance(layer, keras.layers.BatchNormalization)]
