"""The whole measurement of a model: how far its heatmaps move under an attack, as tidy tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np
import numpy.typing as npt
import pandas as pd

from gradcam_adv import metrics, validation
from gradcam_adv.attacks.fgsm import FGSM
from gradcam_adv.attacks.noise import RandomSigns
from gradcam_adv.attacks.perturbations import Attack, perturb
from gradcam_adv.batching import batch_size_for, progress_bar
from gradcam_adv.explain.explainer import (
    PREDICTED,
    Explainer,
    ExplainsWithLogits,
    Targets,
    classes_and_score,
)
from gradcam_adv.explain.gradcam import GradCAM
from gradcam_adv.explain.heatmaps import resize
from gradcam_adv.graph import Layers
from gradcam_adv.graph.flat import FlatGraph, flatten
from gradcam_adv.graph.predictor import Predictor
from gradcam_adv.metrics.nissim import WINDOW

# The paper's levels of attack.
EPSILONS = (0.01, 0.05, 0.075, 0.1)
# How many images of the whole set are candidates for the control "unrelated"; their clean heatmaps
# are kept.
CANDIDATES = 64


@dataclass(frozen=True)
class Dissimilarity:
    """What :func:`dissimilarity` measured.

    Attributes:
        images: one row per image and epsilon: image (its number), epsilon, label (attacked),
            predicted_clean, predicted, psnr (dB).
        nissim: one row per image, layer and epsilon: image, layer, epsilon, nissim, depth (the
            layer's position in the network). With controls also noise (NISSIM under random signs
            of that epsilon) and unrelated (mean NISSIM between the clean heatmaps of this image
            and of up to five images of other classes; NaN if there are none).
        mod: one row per layer and epsilon: layer, depth, epsilon, images (their count), mod
            (equation 2). With controls also mod_noise and unrelated, the means of those.
        vid: one row per layer: layer, depth, images, levels (number of epsilons), vid (equations 3
            and 4). With controls also vid_noise.
    """

    images: pd.DataFrame
    nissim: pd.DataFrame
    mod: pd.DataFrame
    vid: pd.DataFrame


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
    size: Literal["input", "native"] = "input",
    controls: bool = True,
    batch_size: int | None = None,
    verbose: int | str = "auto",
) -> Dissimilarity:
    """Attack every image at every epsilon, explain both, and measure how far the heatmaps moved.

    Images are read batch by batch, so memory does not grow with their number, if they are an array
    on disk (``numpy.load(..., mmap_mode="r")``).

    Args:
        model: any classifier that :func:`gradcam_adv.flatten` takes.
        images: float, (N, H, W, 3), values in [0, 1]; or an object that gives such arrays for
            slices.
        labels: int, (N,), the classes to move away from; None for the predicted ones.
        epsilons: sizes of the attack above 0, as fractions of the range of pixels.
        layers: as for :class:`gradcam_adv.GradCAM`; None for "last". Not with ``explainer``.
        attack: None for ``FGSM(model)``. An attack made with another model is a transfer attack.
        explainer: None for ``GradCAM(model, layers)``.
        targets: what is explained on an attacked image: as for :class:`gradcam_adv.GradCAM`, or
            "clean" for the class predicted for the clean image.
        size: at which heatmaps are compared: the "input"'s, or each layer's own ("native"), at
            least 7 x 7.
        controls: also measure noise of the same size and unrelated images, between which a MOD is
            to be read. Nearly doubles the time.
        batch_size: as for :class:`gradcam_adv.GradCAM`.
        verbose: "auto" (a bar where there is a terminal), 0 or 1, as in Keras.

    Raises:
        ValueError: a model, images, labels, layers or epsilons that can't be used, or layers
            smaller than SSIM's window at their native size.

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
        >>> list(result.mod.columns)
        ['layer', 'depth', 'epsilon', 'images', 'mod', 'mod_noise', 'unrelated']
    """
    graph = flatten(model)
    pixels: Any = images if hasattr(images, "__getitem__") else np.asarray(images)
    validation.check_choice("size", size, ("input", "native"))
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
    shown, scores = [], []
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
            batch_size=batch_size,
        ):
            shown.append(images_of(batch))
            scores.append(nissim_of(batch, size))
            bar.update(len(batch.numbers))
    nissim = pd.concat(scores, ignore_index=True)
    # A name that the model does not have gets its place among the explainer's layers.
    depths = {name: order for order, name in enumerate(nissim["layer"].unique())}
    depths |= {layer.path: depth for depth, layer in enumerate(graph.layers)}
    nissim["depth"] = nissim["layer"].map(depths)
    return Dissimilarity(pd.concat(shown, ignore_index=True), nissim, _mod(nissim), _vid(nissim))


@dataclass(frozen=True)
class Explained:
    """Some images at one epsilon, which is 0 for clean images."""

    epsilon: float
    pixels: np.ndarray  # float32 (n, H, W, C) in [0, 1]
    predicted: np.ndarray  # int (n,)
    heatmaps: dict[str, np.ndarray]  # by layer, float32 (n, h, w) in [0, 1]


@dataclass(frozen=True)
class Batch:
    """Some images, clean and attacked at every epsilon; without controls the last two are empty."""

    numbers: np.ndarray  # of the images in the set, int (n,)
    labels: np.ndarray  # the classes attacked, int (n,)
    clean: Explained
    attacked: list[Explained]
    noise: list[Explained]  # under random signs at the same epsilons
    # For each image the clean heatmaps, by layer (pairs, h, w), of images of other classes.
    unrelated: list[dict[str, np.ndarray]]


def attacked_batches(
    model: keras.Model | FlatGraph,
    images: Any,
    labels: npt.ArrayLike | None,
    *,
    epsilons: Sequence[float],
    attack: Attack,
    explainer: Explainer,
    targets: Targets | Literal["clean"],
    controls: bool,
    batch_size: int,
) -> Iterator[Batch]:
    """Attack and explain images batch by batch; for the arguments see :func:`dissimilarity`."""
    graph = flatten(model)
    count = len(images)
    if count == 0:
        raise ValueError("Expected at least one image. Received: none")
    given = None
    if labels is not None:
        given = validation.check_labels(labels, count, graph.classes, "labels").astype(np.int64)
    rising = validation.check_epsilons(epsilons)
    of_clean = isinstance(targets, str) and targets == "clean"
    wanted, score = classes_and_score(None if of_clean else targets, count, graph.classes)
    predict = Predictor(graph.classifier(), batch_size)

    def explain(epsilon: float, pixels: np.ndarray, classes: np.ndarray) -> Explained:
        if isinstance(explainer, ExplainsWithLogits):
            maps, logits = explainer.maps_and_logits(pixels, classes[:, None], score)
            predicted = logits.argmax(axis=1)
            heatmaps = {name: values[:, 0] for name, values in maps.items()}
        else:
            predicted = predict(pixels).argmax(axis=1)
            explained = np.where(classes == PREDICTED, predicted, classes)
            heatmaps = explainer(pixels, score or explained)
        return Explained(epsilon, pixels, predicted, _checked(heatmaps, len(pixels)))

    def explain_clean(numbers: np.ndarray) -> Explained:
        first, stop = numbers[0], numbers[-1] + 1
        if len(numbers) == stop - first:
            read = images[first:stop]
        else:
            read = np.concatenate([images[number : number + 1] for number in numbers])
        pixels = validation.check_images(graph.input.shape, np.asarray(read))
        with validation.naming(numbers.tolist()):
            return explain(0.0, pixels, wanted[numbers, 0])

    if controls:
        chosen = np.sort(np.random.default_rng(0).permutation(count)[:CANDIDATES])
        candidates = explain_clean(chosen)
        classes_of_candidates = candidates.predicted if given is None else given[chosen]
        pairs = metrics.UnrelatedPairs(classes_of_candidates, seed=0)
    for start in range(0, count, batch_size):
        numbers = np.arange(start, min(start + batch_size, count))
        clean = explain_clean(numbers)
        attacked_labels = clean.predicted if given is None else given[numbers]
        classes = clean.predicted if of_clean else wanted[numbers, 0]
        pixels = clean.pixels
        noise: list[Explained] = []
        unrelated: list[dict[str, np.ndarray]] = []
        with validation.naming(numbers.tolist()):
            added = attack(pixels, attacked_labels, rising)
            attacked = [explain(e, perturb(pixels, added[e]), classes) for e in rising]
            if controls:
                random = RandomSigns()(pixels, None, rising)
                noise = [explain(e, perturb(pixels, random[e]), classes) for e in rising]
                for others in map(pairs.draw, attacked_labels):
                    of_others = {name: maps[others] for name, maps in candidates.heatmaps.items()}
                    unrelated.append(of_others)
            yield Batch(numbers, attacked_labels, clean, attacked, noise, unrelated)


def _checked(heatmaps: Any, count: int) -> dict[str, np.ndarray]:
    """What an explainer gave, as arrays; ValueError unless it is heatmaps by layer."""
    if not isinstance(heatmaps, dict) or not heatmaps:
        raise ValueError(
            "Expected an explainer to give a dict of heatmaps by layer. "
            f"Received: {type(heatmaps).__name__}"
        )
    arrays = {name: np.asarray(maps) for name, maps in heatmaps.items()}
    for name, maps in arrays.items():
        if maps.ndim != 3 or len(maps) != count:
            raise ValueError(
                f"Expected an explainer to give {count} heatmaps (N, h, w) for {count} images. "
                f"Received: shape {maps.shape} of layer {name!r}"
            )
        validation.check_range(maps, f"heatmaps of layer {name!r}")
    return arrays


def images_of(batch: Batch) -> pd.DataFrame:
    """The rows of :attr:`Dissimilarity.images` for a batch."""
    rows = []
    for attacked in batch.attacked:
        columns = {"image": batch.numbers, "epsilon": attacked.epsilon, "label": batch.labels}
        columns["predicted_clean"] = batch.clean.predicted
        columns["predicted"] = attacked.predicted
        columns["psnr"] = metrics.psnr(batch.clean.pixels, attacked.pixels)
        rows.append(pd.DataFrame(columns))
    return pd.concat(rows)


def nissim_of(batch: Batch, size: str) -> pd.DataFrame:
    """The rows of :attr:`Dissimilarity.nissim` for a batch, without depth."""

    def at_size(maps: np.ndarray) -> np.ndarray:
        return maps if size == "native" else resize(maps, batch.clean.pixels.shape[1:3])

    rows = []
    for name, maps in batch.clean.heatmaps.items():
        clean = at_size(maps)
        unrelated = np.full(len(clean), np.nan)
        for i, others in enumerate(batch.unrelated):
            if len(others[name]):
                compared = at_size(others[name])
                repeated = np.broadcast_to(clean[i], compared.shape)
                unrelated[i] = metrics.nissim(repeated, compared).mean()
        for i, attacked in enumerate(batch.attacked):
            scores = {"image": batch.numbers, "layer": name, "epsilon": attacked.epsilon}
            scores["nissim"] = metrics.nissim(clean, at_size(attacked.heatmaps[name]))
            if batch.noise:
                scores["noise"] = metrics.nissim(clean, at_size(batch.noise[i].heatmaps[name]))
                scores["unrelated"] = unrelated
            rows.append(pd.DataFrame(scores))
    return pd.concat(rows)


def _check_native(graph: FlatGraph, layers: Sequence[str]) -> None:
    small = [
        f"{layer.path} with {layer.shape[1]} x {layer.shape[2]}"
        for layer in graph.layers
        if layer.path in layers
        and any(side is not None and side < WINDOW for side in layer.shape[1:3])
    ]
    if small:
        raise ValueError(
            f"Expected layers of {WINDOW} x {WINDOW} or more for size 'native' "
            f"(SSIM's window). Received: {', '.join(small)}"
        )


def _mod(nissim: pd.DataFrame) -> pd.DataFrame:
    grouped = nissim.groupby(["layer", "depth", "epsilon"], sort=False)
    table = grouped["nissim"].agg(images="size", mod=metrics.mod)
    if "noise" in nissim:
        table["mod_noise"] = grouped["noise"].mean()
        table["unrelated"] = grouped["unrelated"].mean()
    return table.reset_index()


def _vid(nissim: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for (layer, depth), group in nissim.groupby(["layer", "depth"], sort=False):
        row = {"layer": layer, "depth": depth, "images": group["image"].nunique()}
        row["levels"] = group["epsilon"].nunique()
        for name, column in (("vid", "nissim"), ("vid_noise", "noise")):
            if column in group:
                values = group.pivot(index="epsilon", columns="image", values=column)
                row[name] = metrics.vid(values.to_numpy())
        rows.append(row)
    return pd.DataFrame(rows)
