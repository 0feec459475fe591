"""How far a model's heatmaps move under FGSM: any model, any layers, as tidy tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from tqdm import tqdm

from gradcam_adv import batching as batches
from gradcam_adv.attacks import fgsm
from gradcam_adv.explain import gradcam
from gradcam_adv.explain import tf_keras_vis as explainers
from gradcam_adv.explain.gradcam import Targets
from gradcam_adv.graph import network as networks
from gradcam_adv.graph.network import Layers
from gradcam_adv.metrics import nissim as metrics

if TYPE_CHECKING:
    import keras

EPSILONS = (0.01, 0.05, 0.075, 0.1)


@dataclass(frozen=True)
class Dissimilarity:
    """What :func:`dissimilarity` measured.

    Attributes:
        images: one row an image and epsilon: image (its number), epsilon, label, predicted_clean,
            predicted, psnr (dB).
        nissim: one row an image, layer and epsilon: image, layer, epsilon, nissim, depth (the
            layer's place among the network's); with controls noise, NISSIM under random signs of
            that epsilon, and ceiling, NISSIM between clean maps of this image and of another one
            of another class (NaN where its batch holds none).
        mod: one row a layer and epsilon: layer, depth, epsilon, images, mod (equation 2); with
            controls mod_noise and ceiling, the means of those.
        vid: one row a layer: layer, depth, images, levels, vid (equations 3 and 4); with controls
            vid_noise.
    """

    images: pd.DataFrame
    nissim: pd.DataFrame
    mod: pd.DataFrame
    vid: pd.DataFrame


def dissimilarity(
    model: keras.Model,
    images: npt.ArrayLike | Any,
    labels: npt.ArrayLike | None = None,
    epsilons: Sequence[float] = EPSILONS,
    layers: Layers = "last",
    *,
    targets: Targets | Literal["clean"] = "predicted",
    size: Literal["input", "native"] = "input",
    explainer: str = "gradcam",
    controls: bool = True,
    batch_size: int | None = None,
    progress: bool = True,
) -> Dissimilarity:
    """Attack every image at every epsilon, explain both, and measure how far the maps moved.

    The images go through batch by batch and no map is kept, so the memory does not hang on how
    many they are; an array on disk (``numpy.load(..., mmap_mode="r")``) is read as it is needed.

    Args:
        model: any classifier that :func:`gradcam_adv.flatten` takes, from pixels in [0, 1].
        images: float, (N, H, W, 3), values in [0, 1]; or what gives such arrays for slices.
        labels: int, (N,), the classes to move away from; None for the predicted ones.
        epsilons: levels of attack above 0, as fractions of the range of pixels.
        layers: as for :func:`gradcam_adv.heatmaps`.
        targets: what is explained on an attacked image: the class "predicted" for it, or the one
            predicted for the "clean" image; int (N,), a class for each image; or a function of the
            logits as for :func:`gradcam_adv.heatmaps`.
        size: at which maps are compared: the "input"'s, or each layer's own ("native"), which has
            to be 7 x 7 or larger.
        explainer: what makes the maps: "gradcam", or for comparison "gradcam++", "layercam" or
            "scorecam" by tf-keras-vis, see :mod:`gradcam_adv.explain.tf_keras_vis`.
        controls: measure also what a MOD is to be read between: noise of the same size with random
            signs, and unrelated images. Nearly doubles the time.
        batch_size: how many images at a time; None as for :func:`gradcam_adv.heatmaps`.
        progress: draw a bar, where there is a terminal.

    Raises:
        ValueError: a model, images, labels or layers that can't be used; no epsilon above 0;
            layers smaller than SSIM's window at their native size.
    """
    network = networks.flatten(model)
    pixels: Any = images if hasattr(images, "__getitem__") else np.asarray(images)
    _check_choice("size", size, ("input", "native"))
    places = network.find(layers)
    if size == "native":
        _check_native(places)
    depths = {place.path: depth for depth, place in enumerate(network.places)}
    shown: list[pd.DataFrame] = []
    scores: list[pd.DataFrame] = []
    off = None if progress else True
    with tqdm(total=len(pixels), desc="dissimilarity", unit="image", disable=off) as bar:
        for batch in attacked_batches(
            network,
            pixels,
            labels,
            epsilons,
            layers,
            targets=targets,
            explainer=explainer,
            controls=controls,
            batch_size=batch_size,
        ):
            shown.append(images_of(batch))
            scores.append(nissim_of(batch, size).assign(depth=lambda t: t["layer"].map(depths)))
            bar.update(len(batch.images))
    nissim = pd.concat(scores, ignore_index=True)
    return Dissimilarity(pd.concat(shown, ignore_index=True), nissim, _mod(nissim), _vid(nissim))


@dataclass(frozen=True)
class Level:
    """Some images at one epsilon.

    Attributes:
        epsilon: 0 for the clean images.
        pixels: float32 (n, H, W, C) in [0, 1].
        predicted: int (n,).
        heatmaps: by layer, float32 (n, h, w) in [0, 1].
    """

    epsilon: float
    pixels: np.ndarray
    predicted: np.ndarray
    heatmaps: dict[str, np.ndarray]


@dataclass(frozen=True)
class Batch:
    """Some images, clean and attacked.

    Attributes:
        images: their numbers, int (n,).
        labels: the classes attacked, int (n,).
        clean: at epsilon 0.
        attacked: at every epsilon above.
        noise: under random signs at the same epsilons; none without controls.
    """

    images: np.ndarray
    labels: np.ndarray
    clean: Level
    attacked: list[Level]
    noise: list[Level]


def attacked_batches(
    network: networks.Network,
    images: Any,
    labels: npt.ArrayLike | None,
    epsilons: Sequence[float],
    layers: Layers,
    *,
    targets: Targets | Literal["clean"],
    explainer: str,
    controls: bool,
    batch_size: int | None,
) -> Iterator[Batch]:
    """Attack and explain images batch by batch; the arguments are those of :func:`dissimilarity`.

    Raises:
        ValueError: at the first batch, for what can't be used.
    """
    count = len(images)
    if count == 0:
        raise ValueError("Expected at least one image. Received: none")
    given = None
    if labels is not None:
        given = batches.check_labels(labels, count, network.classes, "labels")
    levels = _levels(epsilons)
    of_clean = isinstance(targets, str) and targets == "clean"
    wanted = gradcam.classes_of(network, "predicted" if of_clean else targets, count)[:, 0]
    size = batches.size_for(batch_size, network.input.shape)
    attack = fgsm.compiled_sign(network, size)
    score = targets if callable(targets) else None
    explain = explainers.compiled(explainer, network, layers, size, score)

    def level(epsilon: float, pixels: np.ndarray, classes: np.ndarray) -> Level:
        maps, logits = explain(pixels, classes[:, None])
        heatmaps = {name: values[:, 0] for name, values in maps.items()}
        return Level(epsilon, pixels, logits.argmax(axis=1), heatmaps)

    for start in range(0, count, size):
        own = slice(start, min(start + size, count))
        numbers = range(own.start, own.stop)
        pixels = batches.check_images(network.input.shape, np.asarray(images[own]))
        noise: list[Level] = []
        with batches.naming(numbers):
            clean = level(0.0, pixels, wanted[own])
            labelled = clean.predicted if given is None else given[own].astype(np.int64)
            signs = attack(pixels, labelled)
            classes = clean.predicted if of_clean else wanted[own]
            if controls:
                coins = np.stack([_coin_signs(pixels.shape[1:], n) for n in numbers])
                noise = [level(e, fgsm.perturb(pixels, coins, e), classes) for e in levels]
            attacked = [level(e, fgsm.perturb(pixels, signs, e), classes) for e in levels]
        yield Batch(np.array(numbers), labelled, clean, attacked, noise)


def _coin_signs(shape: tuple[int, ...], number: int) -> np.ndarray:
    """The same signs for an image however the images are cut into batches."""
    return fgsm.random_sign(shape, 0, f"{number:016x}")


def images_of(batch: Batch) -> pd.DataFrame:
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "image": batch.images,
                    "epsilon": level.epsilon,
                    "label": batch.labels,
                    "predicted_clean": batch.clean.predicted,
                    "predicted": level.predicted,
                    "psnr": metrics.psnr(batch.clean.pixels, level.pixels),
                }
            )
            for level in batch.attacked
        ]
    )


def nissim_of(batch: Batch, size: str) -> pd.DataFrame:
    """Columns image, layer, epsilon, nissim of a batch's heatmaps against its clean ones.

    Where the batch has its controls also noise and ceiling, see :class:`Dissimilarity`.
    """
    shape = batch.clean.pixels.shape[1:3]
    own, other = _unrelated(batch.labels)
    rows = []
    for name, maps in batch.clean.heatmaps.items():
        clean = _at_size(maps, shape, size)
        ceiling = np.full(len(clean), np.nan)
        if batch.noise:
            ceiling[own] = metrics.nissim(clean[own], clean[other])
        for i, level in enumerate(batch.attacked):
            values = metrics.nissim(clean, _at_size(level.heatmaps[name], shape, size))
            scores = {"image": batch.images, "layer": name, "epsilon": level.epsilon}
            scores |= {"nissim": values}
            if batch.noise:
                noisy = _at_size(batch.noise[i].heatmaps[name], shape, size)
                scores |= {"noise": metrics.nissim(clean, noisy), "ceiling": ceiling}
            rows.append(pd.DataFrame(scores))
    return pd.concat(rows)


def _unrelated(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Images and for each the next one, around the batch, of another class; where there is one."""
    count = len(labels)
    following = (np.arange(count)[:, None] + np.arange(1, count + 1)) % count
    differs = labels[following] != labels[:, None]
    own = np.flatnonzero(differs.any(axis=1))
    return own, following[own, differs[own].argmax(axis=1)]


def _levels(epsilons: Sequence[float]) -> list[float]:
    if isinstance(epsilons, str) or not hasattr(epsilons, "__iter__"):
        raise ValueError(f"Expected epsilons as a list of numbers. Received: {epsilons!r}")
    levels = sorted({float(epsilon) for epsilon in epsilons})
    if not levels or not all(0 < epsilon <= 1 for epsilon in levels):  # NaN fails this, too
        raise ValueError(f"Expected epsilons above 0, at most 1. Received: {list(epsilons)}")
    return levels


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"Expected {name} as one of {', '.join(choices)}. Received: {value!r}")


def _check_native(places: list[networks.Step]) -> None:
    small = [
        f"{place.path} with {place.shape[1]} x {place.shape[2]}"
        for place in places
        if any(side is not None and side < metrics.WINDOW for side in place.shape[1:3])
    ]
    if small:
        raise ValueError(
            f"Expected layers of {metrics.WINDOW} x {metrics.WINDOW} or more for size 'native' "
            f"(SSIM's window). Received: {', '.join(small)}"
        )


def _at_size(maps: np.ndarray, shape: Sequence[int], size: str) -> np.ndarray:
    return maps if size == "native" else gradcam.resize(maps, shape)


def _mod(nissim: pd.DataFrame) -> pd.DataFrame:
    grouped = nissim.groupby(["layer", "depth", "epsilon"], sort=False)
    table = grouped["nissim"].agg(images="size", mod=metrics.mod)
    if "noise" in nissim:
        table = table.assign(mod_noise=grouped["noise"].mean(), ceiling=grouped["ceiling"].mean())
    return table.reset_index()


def _vid(nissim: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for (layer, depth), group in nissim.groupby(["layer", "depth"], sort=False):
        values = group.pivot(index="epsilon", columns="image", values="nissim").to_numpy()
        row = {"layer": layer, "depth": depth, "images": values.shape[1], "levels": len(values)}
        row["vid"] = metrics.vid(values)
        if "noise" in nissim:
            noise = group.pivot(index="epsilon", columns="image", values="noise").to_numpy()
            row["vid_noise"] = metrics.vid(noise)
        rows.append(row)
    return pd.DataFrame(rows)
