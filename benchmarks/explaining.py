"""Grad-CAM of all layers at once, against one input gradient and against tf-keras-vis."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks import processes, timing
from gradcam_adv import batching as batches
from gradcam_adv.explain import gradcam
from gradcam_adv.graph import network as networks
from gradcam_adv.models import backbones, classifiers, weights

if TYPE_CHECKING:
    import keras

IMAGE_SIZE = 224
CLASSES = 40
GRADIENT_RUNS = 15
PEER_RUNS = 3
# tf-keras-vis needs minutes for all layers: so many, evenly spread over the depth, stand for all.
SAMPLED_LAYERS = 6
# How far a map may be off tf-keras-vis', as a share of the map's largest absolute value.
TOLERANCE = 1e-4

# The environment that `make bench` makes for torch-cam, beside the one that runs this.
TORCH = Path(f"{sys.prefix}-torch") / "bin" / "python"

Explain = Callable[[], tuple[list[np.ndarray], np.ndarray]]


def classifier(network: str) -> keras.Model:
    """A network with a head, from pixels to logits; random weights, as they don't change speed."""
    base = backbones.build(network, IMAGE_SIZE, weights.Weights("random"))
    extractor = classifiers.features(base)
    head = classifiers.dense_head(extractor.output_shape[-1], CLASSES, seed=0)
    return classifiers.assemble(extractor, head)


def photos() -> np.ndarray:
    """One batch of noise, float32 (BATCH_SIZE, IMAGE_SIZE, IMAGE_SIZE, 3) in [0, 1]."""
    shape = (batches.BATCH_SIZE, IMAGE_SIZE, IMAGE_SIZE, 3)
    return np.random.default_rng(0).random(shape, np.float32)


def explain_all(model: keras.Model, names: list[str], images: np.ndarray) -> Explain:
    """What is timed: the weighted sums of the layers ``names``, and the logits, of one batch."""
    from gradcam_adv import backends as gradients

    network = networks.flatten(model)
    sums = gradients.gradcam_sums(network, network.find(names), len(images))
    predicted = np.full((len(images), 1), gradients.PREDICTED, np.int32)
    return functools.partial(sums, images, predicted)


def against_input_gradient(network: str) -> dict[str, str | int]:
    """All layers' weighted sums of one batch, against the gradient of the loss by its pixels.

    The input gradient is what FGSM needs of the same network and batch, and the least that any
    backward pass costs: a ratio of 1 says that the heatmaps themselves come for nothing.
    """
    from gradcam_adv import backends as gradients

    model, images = classifier(network), photos()
    names = gradcam.layer_names(model)
    explain = explain_all(model, names, images)
    gradient = functools.partial(
        gradients.loss_gradient(model, len(images)), images, np.zeros(len(images), np.int32)
    )
    first = timing.seconds(explain)
    gradient()
    ours, peer = timing.paired(explain, gradient, GRADIENT_RUNS)
    title = backbones.find(network).title
    what = f"explain all {len(names)} layers of {title} / one input gradient"
    row = timing.row(what, ours, peer, "1.1, at most 1.25", faster=False)
    return row | {"first call (s)": f"{first:.3g}"}


def against_tf_keras_vis(network: str) -> dict[str, str | int]:
    """All layers' weighted sums of one batch, against tf-keras-vis' Grad-CAM called layer by layer.

    tf-keras-vis is timed on a sample of the layers, and the mean of these is multiplied by the
    number of layers.

    Raises:
        ValueError: a sampled map differs from tf-keras-vis' by more than TOLERANCE of its scale.
    """
    from tf_keras_vis.gradcam import Gradcam
    from tf_keras_vis.utils.scores import CategoricalScore

    model, images = classifier(network), photos()
    names = gradcam.layer_names(model)
    explain = explain_all(model, names, images)
    first = timing.seconds(explain)
    sums, logits = explain()

    score = CategoricalScore(logits.argmax(axis=1).tolist())
    peer = Gradcam(model, clone=False)
    sampled = np.linspace(0, len(names) - 1, SAMPLED_LAYERS).round().astype(int)

    def maps_of_peer() -> list[np.ndarray]:
        return [
            peer(
                score,
                images,
                penultimate_layer=names[layer],
                seek_penultimate_conv_layer=False,
                activation_modifier=None,  # no ReLU, which would hide half of a difference
                expand_cam=False,
                normalize_cam=False,
            )
            for layer in sampled
        ]

    for layer, expected in zip(sampled, maps_of_peer(), strict=True):
        check_agreement(names[layer], sums[layer][:, 0], expected)
    ours, theirs = timing.paired(explain, maps_of_peer, PEER_RUNS)
    what = (
        f"explain all {len(names)} layers of {backbones.find(network).title} / tf-keras-vis "
        f"layer by layer (extrapolated from {len(sampled)} evenly spaced layers)"
    )
    all_layers = theirs * (len(names) / len(sampled))
    aim = {"resnet50": "at least 200", "resnet101": "at least 400"}[network]
    row = timing.row(what, ours, all_layers, aim, faster=True)
    return row | {"first call (s)": f"{first:.3g}"}


def against_torch_cam(layout: str) -> dict[str, str | int]:
    """Heatmaps of all layers of ResNet50, against torch-cam's with the list of its layers.

    Both sides end in maps divided by their maximum. The peer runs in a process and an environment
    of its own; ``layout`` is its tensors', PyTorch's default (contiguous_format) or ours.

    Raises:
        ValueError: the peer's environment is not there, or its process ended.
    """
    model, images = classifier("resnet50"), photos()
    explainer = gradcam.Explainer(networks.flatten(model), "all", len(images))
    predicted = np.full((len(images), 1), -1)

    def explain() -> None:
        explainer(images, predicted)

    numbers = (len(images), IMAGE_SIZE, CLASSES, batches.cores())
    with processes.Worker(TORCH, "benchmarks/torch_cam.py", *map(str, numbers), layout) as peer:
        layers = peer.answer()
        first = timing.seconds(explain)
        peer.ask()
        ours, theirs = timing.paired(explain, peer.ask, GRADIENT_RUNS)
    what = (
        f"heatmaps of all {len(explainer.layers)} layers of ResNet50 / of {layers} "
        f"(no Add, no padding) by torch-cam, {layout}"
    )
    row = timing.row(what, ours, theirs, "1.3, at least 1", faster=True)
    return row | {"first call (s)": f"{first:.3g}"}


def check_agreement(layer: str, ours: np.ndarray, expected: np.ndarray) -> None:
    """ValueError when sums (N, h, w) are off by more than TOLERANCE of each map's scale."""
    scale = np.abs(expected).max(axis=(1, 2))
    if not (scale > 0).all():
        raise ValueError(f"Expected maps of {layer} to compare with. Received: an empty one")
    difference = float((np.abs(ours - expected).max(axis=(1, 2)) / scale).max())
    if not difference <= TOLERANCE:  # NaN fails this, too
        raise ValueError(
            f"Expected tf-keras-vis' maps of {layer} within {TOLERANCE:g} of their scale. "
            f"Received: a difference of {difference:.1e}"
        )
