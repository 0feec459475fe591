"""One call for the whole measurement of a model, and what it gives: tidy tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np
import numpy.typing as npt
import pandas as pd

from gradcam_adv import validation
from gradcam_adv.attacks.fgsm import FGSM
from gradcam_adv.attacks.perturbations import Attack
from gradcam_adv.batching import batch_size_for, progress_bar
from gradcam_adv.explain.explainer import Explainer, Targets
from gradcam_adv.explain.gradcam import GradCAM
from gradcam_adv.graph import Layers
from gradcam_adv.graph.flat import FlatGraph, flatten
from gradcam_adv.metrics.measures import Measure
from gradcam_adv.metrics.nissim import WINDOW
from gradcam_adv.robustness import given, tables
from gradcam_adv.robustness.batches import attacked_batches
from gradcam_adv.robustness.clean import accuracy
from gradcam_adv.robustness.comparison import comparison

# The paper's levels of attack.
EPSILONS = (0.01, 0.05, 0.075, 0.1)
# Further sizes of noise. An attack moves heatmaps as far as noise that is several times larger.
NOISE_EPSILONS = (0.02, 0.2, 0.3)


@dataclass(frozen=True)
class Dissimilarity:
    """What :func:`dissimilarity` measured.

    Attributes:
        images: one row per image and epsilon: image (its number), epsilon, label (attacked),
            predicted_clean, predicted, logit_clean and logit (those of the label), psnr (dB).
        nissim: one row per image, layer and epsilon: image, layer, epsilon, nissim, empty_clean and
            empty_perturbed (whether these heatmaps are zero everywhere), depth (the layer's
            position in the network).
        mod: one row per layer and epsilon: layer, depth, epsilon, images (their count), mod
            (equation 2; NaN if all heatmaps are empty). With controls also mod_noise, mod_mirrored,
            unrelated and unrelated_attacked, the means of these controls, and unrelated_images, the
            number of images that have an unrelated one. Then empty_clean, empty_perturbed and
            both_empty, how many heatmaps, and pairs of them, are empty.
        vid: one row per layer: layer, depth, images, levels (number of epsilons), vid (equations 3
            and 4; NaN as for mod). With controls also vid_noise.
        controls: one row per image, layer, control and epsilon: image, layer, control, epsilon,
            nissim, depth. The controls are "noise" (NISSIM under random signs, also of further
            sizes), "mirrored" (under the attack's own perturbation, mirrored left to right),
            "unrelated" (the mean between the clean heatmaps of this image and of up to five images
            of other classes; epsilon is 0) and "unrelated_attacked" (between this image's attacked
            heatmap and the clean one of an image of another class). No rows without controls.
        gain: what the attack is worth in a control, one row per layer, control ("noise" or
            "mirrored") and epsilon: layer, depth, control, epsilon, images, equivalent (the epsilon
            of the control with the same MOD), gain (that by epsilon), low, high (its 95 %
            interval). Infinite: more than any size of the control that was tried. See
            :func:`gradcam_adv.metrics.gain`. NaN as for mod. No rows without controls.
        half_shift: the epsilon at which MOD is half of unrelated, one row per layer: layer, depth,
            images (that have an unrelated one), unrelated, attack, noise and ratio (noise by
            attack), each with its 95 % interval, attack_low, attack_high and so on. See
            :func:`gradcam_adv.metrics.half_shift`. No rows without unrelated images, or for a layer
            of which all heatmaps are empty.
    """

    images: pd.DataFrame
    nissim: pd.DataFrame
    mod: pd.DataFrame
    vid: pd.DataFrame
    controls: pd.DataFrame
    gain: pd.DataFrame
    half_shift: pd.DataFrame


def dissimilarity(
    model: keras.Model | FlatGraph,
    images: npt.ArrayLike | Any,
    labels: npt.ArrayLike | None = None,
    *,
    epsilons: Sequence[float] = EPSILONS,
    layers: Layers | None = None,
    attack: Attack | None = None,
    explainer: Explainer | None = None,
    targets: Targets | Literal["clean"] = None,
    measure: str | Measure = "nissim",
    size: Literal["input", "native"] = "input",
    controls: bool = True,
    noise_epsilons: Sequence[float] = NOISE_EPSILONS,
    groups: npt.ArrayLike | None = None,
    batch_size: int | None = None,
    verbose: int | str = "auto",
) -> Dissimilarity:
    """Attack every image at every epsilon, explain both, and measure how far the heatmaps moved.

    Images are read batch by batch, so memory does not grow with their number, if they are an array
    on disk (``numpy.load(..., mmap_mode="r")``).

    Args:
        model: any classifier that :func:`gradcam_adv.flatten` takes.
        images: float, (N, H, W, 3), values in [0, 1]; or an object that gives such arrays for
            slices; or batches of them, with or without labels, such as a ``tf.data.Dataset`` or a
            generator, which are read into memory, once.
        labels: int, (N,), the classes to move away from; None for those that come with batches of
            images, or else the predicted ones. If the model predicts hardly more of them than
            chance would, the log says so.
        epsilons: sizes of the attack above 0, as fractions of the range of pixels.
        layers: as for :class:`gradcam_adv.GradCAM`; None for "last". Not with ``explainer``.
        attack: such as ``PGD(model, steps=10)``; None for ``FGSM(model)``. An attack made with
            another model is a transfer attack. A targeted one needs labels, the classes to move to.
        explainer: None for ``GradCAM(model, layers)``.
        targets: what is explained on an attacked image: as for :class:`gradcam_adv.GradCAM`, or
            "clean" for the class predicted for the clean image.
        measure: of how unlike two heatmaps are: "nissim", another one out of
            ``gradcam_adv.metrics.MEASURES``, or a function of two batches of heatmaps, (N, h, w),
            that gives (N,), in [0, 1]. Its values stand where the results say NISSIM and MOD.
        size: at which heatmaps are compared: the "input"'s, or each layer's own ("native"), at
            least 7 x 7.
        controls: also measure random noise, the mirrored perturbation and unrelated images, beside
            which a MOD is to be read, and the gain. Takes two to three times as long.
        noise_epsilons: further sizes of noise, beside ``epsilons``, to find the gain.
        groups: what each image belongs to, such as the person, (N,), for the intervals of the gain.
            None: each image is a group.
        batch_size: as for :class:`gradcam_adv.GradCAM`.
        verbose: "auto" (a bar where there is a terminal), 0 or 1, as in Keras.

    Raises:
        ValueError: a model, images, labels, layers, epsilons or a measure that can't be used, or
            layers smaller than SSIM's window at their native size.

    Example:
        >>> import keras, numpy as np
        >>> parts = [
        ...     keras.Input((8, 8, 3)),
        ...     keras.layers.Conv2D(4, 3, name="conv"),
        ...     keras.layers.Flatten(),
        ...     keras.layers.Dense(2),
        ... ]
        >>> images = np.random.default_rng(0).random((4, 8, 8, 3))
        >>> result = dissimilarity(keras.Sequential(parts), images, epsilons=[0.1])
        >>> result.mod[["layer", "epsilon", "images"]].values.tolist()
        [['conv', 0.1, 4]]
        >>> list(result.gain.columns)
        ['layer', 'depth', 'control', 'epsilon', 'images', 'equivalent', 'gain', 'low', 'high']
    """
    graph = flatten(model)
    validation.check_choice("size", size, ("input", "native"))
    compare = comparison(measure)
    if explainer is not None and layers is not None:
        raise ValueError(
            f"Expected layers with the default explainer only. Received: layers = {layers!r} and "
            "an explainer, which has layers of its own"
        )
    batch_size = batch_size_for(batch_size, graph.input.shape)
    if explainer is None:
        explainer = GradCAM(graph, "last" if layers is None else layers, batch_size=batch_size)
    if size == "native":
        _check_native(graph, getattr(explainer, "layers", []))
    pixels, labels = given.read(images, labels)
    if groups is not None:
        groups = np.asarray(groups)
        if groups.shape != (len(pixels),):
            raise ValueError(
                f"Expected groups of shape ({len(pixels)},), one per image. "
                f"Received: shape {groups.shape}"
            )
    shown, scores, of_controls = [], [], []
    with progress_bar("dissimilarity", len(pixels), batch_size, verbose) as bar:
        for batch in attacked_batches(
            graph,
            pixels,
            labels,
            epsilons=epsilons,
            attack=FGSM(graph, batch_size=batch_size) if attack is None else attack,
            explainer=explainer,
            targets=targets,
            controls=controls,
            noise_epsilons=noise_epsilons,
            batch_size=batch_size,
        ):
            shown.append(tables.images_of(batch))
            scores.append(tables.nissim_of(batch, size, compare))
            of_controls.append(tables.controls_of(batch, size, compare))
            bar.update(len(batch.numbers))
    nissim, measured = (pd.concat(parts, ignore_index=True) for parts in (scores, of_controls))
    # A name that the model does not have gets its place among the explainer's layers.
    depths = {name: order for order, name in enumerate(nissim["layer"].unique())}
    depths |= {layer.path: depth for depth, layer in enumerate(graph.layers)}
    for table in (nissim, measured):
        table["depth"] = table["layer"].map(depths)
    of_images = pd.concat(shown, ignore_index=True)
    if labels is not None and not graph.independent:
        once = of_images.drop_duplicates("image")
        accuracy(graph, once["predicted_clean"].to_numpy(), once["label"].to_numpy())
    mod = tables.mod_of(nissim, measured)
    return Dissimilarity(
        of_images,
        nissim,
        mod,
        tables.vid_of(nissim, measured),
        measured,
        tables.gain_of(nissim, measured, groups),
        tables.half_shift_of(nissim, measured, groups),
    )


def _check_native(graph: FlatGraph, layers: Sequence[str]) -> None:
    small = [
        f"{layer.path} with {height} x {width}"
        for layer in graph.layers
        if layer.path in layers
        for height, width, _ in [graph.map_shape(layer)]
        if any(side is not None and side < WINDOW for side in (height, width))
    ]
    if small:
        raise ValueError(
            f"Expected layers of {WINDOW} x {WINDOW} or more for size 'native' "
            f"(SSIM's window). Received: {', '.join(small)}"
        )
