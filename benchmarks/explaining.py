"""Grad-CAM of all layers at once, against one input gradient and against tf-keras-vis."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks import processes, timing
from benchmarks.processes import Row
from gradcam_adv import machine
from gradcam_adv.attacks import FGSM
from gradcam_adv.batching import BATCH_SIZE
from gradcam_adv.explain import GradCAM
from gradcam_adv.explain.explainer import PREDICTED
from gradcam_adv.explain.gradcam import compile_sums
from gradcam_adv.graph.flat import flatten
from gradcam_adv.graph.layers import find, layer_names
from gradcam_adv.models import backbones, bases, classifiers, weights

if TYPE_CHECKING:
    import keras

IMAGE_SIZE = 224
CLASSES = 40
GRADIENT_RUNS = 15
PEER_RUNS = 3
# tf-keras-vis needs minutes for all layers, so it gets this many, spread evenly over the depth.
SAMPLED_LAYERS = 6
# How far a map may differ from that of tf-keras-vis, as a share of its largest absolute value.
TOLERANCE = 1e-4

# The environment that `make bench` makes for torch-cam.
TORCH = Path(f"{sys.prefix}-torch") / "bin" / "python"

Explain = Callable[[], tuple[list[np.ndarray], np.ndarray]]


def classifier(network: str) -> keras.Model:
    """A network with a head, from pixels to logits. Its weights are random; speed is the same."""
    base = bases.build(network, IMAGE_SIZE, weights.Weights("random"))
    extractor = classifiers.features(base)
    head = classifiers.dense_head(extractor.output_shape[-1], CLASSES, seed=0)
    return classifiers.assemble(extractor, head)


def photos() -> np.ndarray:
    """One batch of noise, float32 (BATCH_SIZE, IMAGE_SIZE, IMAGE_SIZE, 3) in [0, 1]."""
    shape = (BATCH_SIZE, IMAGE_SIZE, IMAGE_SIZE, 3)
    return np.random.default_rng(0).random(shape, np.float32)


def explain_all(model: keras.Model, names: list[str], images: np.ndarray) -> Explain:
    """What is timed: the weighted sums of the layers ``names``, and the logits, of one batch."""
    graph = flatten(model)
    sums = compile_sums(graph, find(graph, names), len(images), 1)
    predicted = np.full((len(images), 1), PREDICTED, np.int32)
    return functools.partial(sums, images, predicted)


def against_input_gradient(network: str) -> Row:
    """All layers' weighted sums of one batch, against the signs of FGSM on it.

    FGSM needs one gradient with respect to the pixels: one backward pass. If the ratio is 1, the
    heatmaps themselves cost nothing.
    """
    model, images = classifier(network), photos()
    names = layer_names(model)
    explain = explain_all(model, names, images)
    fgsm = FGSM(model, batch_size=len(images))
    gradient = functools.partial(fgsm.signs, images, np.zeros(len(images), np.int32))
    first = timing.seconds(explain)
    gradient()
    title, aim = backbones.find(network).title, "1.1, at most 1.25"
    what = f"explain all {len(names)} layers of {title} / one input gradient"
    return timing.compare(what, explain, gradient, GRADIENT_RUNS, aim, first=first, faster=False)


def against_tf_keras_vis(network: str) -> Row:
    """All layers' weighted sums of one batch, against Grad-CAM of tf-keras-vis layer by layer.

    tf-keras-vis is timed on a sample of the layers; its time is scaled up to all layers.

    Raises:
        ValueError: a sampled map differs from tf-keras-vis' by more than TOLERANCE of its scale.
    """
    from tf_keras_vis.gradcam import Gradcam
    from tf_keras_vis.utils.scores import CategoricalScore

    model, images = classifier(network), photos()
    names = layer_names(model)
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
    what = (
        f"explain all {len(names)} layers of {backbones.find(network).title} / tf-keras-vis "
        f"layer by layer (extrapolated from {len(sampled)} evenly spaced layers)"
    )
    aim = {"resnet50": "at least 200", "resnet101": "at least 400"}[network]
    times = len(names) / len(sampled)
    return timing.compare(what, explain, maps_of_peer, PEER_RUNS, aim, first=first, times=times)


def against_torch_cam(layout: str) -> Row:
    """Heatmaps of all layers of ResNet50, against torch-cam's with the list of its layers.

    Both sides divide the maps by their maximum. The peer runs in a process and an environment of
    its own; ``layout`` of its tensors is PyTorch's default (contiguous_format) or ours.

    Raises:
        ValueError: the peer's environment is missing, or its process ended.
    """
    model, images = classifier("resnet50"), photos()
    explainer = GradCAM(model, "all", batch_size=len(images))
    predicted = np.full((len(images), 1), PREDICTED)

    def explain() -> None:
        explainer.maps_and_logits(images, predicted)

    numbers = (len(images), IMAGE_SIZE, CLASSES, machine.cores())
    with processes.Worker(TORCH, "benchmarks/torch_cam.py", *map(str, numbers), layout) as peer:
        layers = peer.answer()
        what = (
            f"heatmaps of all {len(explainer.layers)} layers of ResNet50 / of {layers} "
            f"(no Add, no padding) by torch-cam, {layout}"
        )
        first = timing.seconds(explain)
        peer.ask()
        aim = "1.3, at least 1"
        return timing.compare(what, explain, peer.ask, GRADIENT_RUNS, aim, first=first)


def check_agreement(layer: str, ours: np.ndarray, expected: np.ndarray) -> None:
    """ValueError if sums (N, h, w) differ by more than TOLERANCE of each map's scale."""
    scale = np.abs(expected).max(axis=(1, 2))
    if not (scale > 0).all():
        raise ValueError(f"Expected maps of {layer} to compare with. Received: a map of zeros")
    difference = float((np.abs(ours - expected).max(axis=(1, 2)) / scale).max())
    if not difference <= TOLERANCE:  # NaN fails this, too
        raise ValueError(
            f"Expected the maps of {layer} of tf-keras-vis, to {TOLERANCE:g} of their scale. "
            f"Received: a difference of {difference:.1e}"
        )
