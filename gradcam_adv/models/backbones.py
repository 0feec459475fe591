"""The networks: their names, input, last layers, and the addresses of Keras' weights."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from gradcam_adv.models.small_resnet import small_resnet


@dataclass(frozen=True)
class Backbone:
    """One network, without its classification layers."""

    name: str  # in studies
    title: str  # in the paper and in tables
    # The name in keras.applications, or a function that is called like those.
    application: str | Callable[..., Any]
    minimum_size: int  # the smallest side of an image in pixels that the network accepts
    last_activation: str  # the last convolutional activation, the layer of Table 3
    preprocessing: Literal["caffe", "tf"]  # BGR, 0-255, mean subtracted; or RGB, -1 to 1
    weights_url: str  # of Keras' ImageNet weights without top; "" if there are none
    weights_md5: str
    weights_mb: int  # in megabytes; a saved classifier is slightly larger
    multiply_adds: float  # of one photo of 224 pixels, in 1e9
    version_of: str = ""  # the network of the paper that it is a later version of


_SERVER = "https://storage.googleapis.com/tensorflow/keras-applications"
_NOTOP = "weights_tf_dim_ordering_tf_kernels_notop.h5"

BACKBONES = {
    backbone.name: backbone
    for backbone in (
        Backbone(
            name="vgg16",
            title="VGG16",
            application="VGG16",
            minimum_size=32,
            last_activation="block5_conv3",
            preprocessing="caffe",
            weights_url=f"{_SERVER}/vgg16/vgg16_{_NOTOP}",
            weights_md5="6d6bbae143d832006294945121d1f1fc",
            weights_mb=59,
            multiply_adds=15.3,
        ),
        Backbone(
            name="resnet50",
            title="ResNet50",
            application="ResNet50",
            minimum_size=32,
            last_activation="conv5_block3_out",
            preprocessing="caffe",
            weights_url=f"{_SERVER}/resnet/resnet50_{_NOTOP}",
            weights_md5="4d473c1dd8becc155b73f8504c6f6626",
            weights_mb=95,
            multiply_adds=3.86,
        ),
        Backbone(
            name="resnet101",
            title="ResNet101",
            application="ResNet101",
            minimum_size=32,
            last_activation="conv5_block3_out",
            preprocessing="caffe",
            weights_url=f"{_SERVER}/resnet/resnet101_{_NOTOP}",
            weights_md5="88cf7a10940856eca736dc7b7e228a21",
            weights_mb=171,
            multiply_adds=7.57,
        ),
        Backbone(
            name="resnet50v2",
            title="ResNet50 V2",
            application="ResNet50V2",
            minimum_size=32,
            last_activation="post_relu",
            preprocessing="tf",
            weights_url=f"{_SERVER}/resnet/resnet50v2_{_NOTOP}",
            weights_md5="fac2f116257151a9d068a22e544a4917",
            weights_mb=95,
            multiply_adds=3.48,
            version_of="resnet50",
        ),
        Backbone(
            name="resnet101v2",
            title="ResNet101 V2",
            application="ResNet101V2",
            minimum_size=32,
            last_activation="post_relu",
            preprocessing="tf",
            weights_url=f"{_SERVER}/resnet/resnet101v2_{_NOTOP}",
            weights_md5="c0ed64b8031c3730f411d2eb4eea35b5",
            weights_mb=171,
            multiply_adds=7.19,
            version_of="resnet101",
        ),
        Backbone(
            name="inceptionv3",
            title="InceptionNet v3",
            application="InceptionV3",
            minimum_size=75,
            last_activation="mixed10",
            preprocessing="tf",
            weights_url=f"{_SERVER}/inception_v3/inception_v3_{_NOTOP}",
            weights_md5="bcbd6486424b2319ff4ef7d526e38f63",
            weights_mb=88,
            multiply_adds=2.84,
        ),
        Backbone(
            name="xception",
            title="XceptionNet",
            application="Xception",
            minimum_size=71,
            last_activation="block14_sepconv2_act",
            preprocessing="tf",
            weights_url=f"{_SERVER}/xception/xception_{_NOTOP}",
            weights_md5="b0042744bf5b25fce3cb969f33bebb97",
            weights_mb=84,
            multiply_adds=4.55,
        ),
        Backbone(
            name="smallresnet",
            title="Small ResNet",
            application=small_resnet,
            minimum_size=32,
            last_activation="block2_out",
            preprocessing="tf",
            weights_url="",
            weights_md5="",
            weights_mb=1,
            multiply_adds=0.063,
        ),
    )
}
"""The networks by name."""

PAPERS = ("vgg16", "resnet50", "resnet101", "inceptionv3", "xception")
"""The names of the paper's five."""


def of_paper(network: str) -> str:
    """The network of the paper that it stands for: itself, or the one it is a version of."""
    return find(network).version_of or network


def backbone_of(network: str) -> str:
    """The backbone's name in "backbone@training", a network that is trained in another way."""
    return network.partition("@")[0]


def training_of(network: str) -> str:
    """How it is trained, by the name in "backbone@training"; "" for a backbone's own name."""
    return network.partition("@")[2]


def title(network: str) -> str:
    """The name of a network in tables and figures."""
    of_backbone, training = BACKBONES[backbone_of(network)].title, training_of(network)
    return f"{of_backbone} ({training})" if training else of_backbone


def titles(networks: Iterable[str]) -> str:
    """The titles of several networks, such as "VGG16, XceptionNet"."""
    return ", ".join(map(title, networks))


def find(name: str) -> Backbone:
    """The backbone of a network; ValueError with the nearest names if there is none."""
    found = BACKBONES.get(backbone_of(name)) if isinstance(name, str) else None
    if found is None:
        near = difflib.get_close_matches(str(name).lower(), BACKBONES, n=2, cutoff=0.4)
        hint = f" Nearest: {', '.join(near)}." if near else ""
        raise ValueError(
            f"Expected a network out of {', '.join(BACKBONES)}. Received: {name!r}.{hint}"
        )
    return found


def check_image_size(backbone: Backbone, image_size: int) -> None:
    """ValueError if images of this side are too small for a network."""
    if image_size < backbone.minimum_size:
        raise ValueError(
            f"Expected image_size of at least {backbone.minimum_size} for {backbone.title}. "
            f"Received: {image_size}"
        )


def epsilon_unit(name: str, unit: str, preprocessing: str) -> float:
    """The factor from epsilon to a change of pixels in [0, 1].

    Args:
        name: of the network.
        unit: "pixel", if epsilon is a change of pixels; or "network", if it is a change of the
            network's input after preprocessing: 0-255 for caffe-style networks, -1 to 1 for
            tf-style networks.
        preprocessing: as for :func:`gradcam_adv.models.build`.

    Raises:
        ValueError: unknown network.

    Example:
        >>> epsilon_unit("xception", "network", "own")
        0.5
    """
    if unit == "pixel" or preprocessing == "unit":
        return 1.0
    style = find(name).preprocessing if preprocessing == "own" else preprocessing
    return {"caffe": 1 / 255, "tf": 1 / 2}[style]
