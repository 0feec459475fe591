"""How far a model's heatmaps move under FGSM: any model, any layers, as tidy tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from tqdm import tqdm

from gradcam_adv import batches, fgsm, gradcam, metrics, networks
from gradcam_adv.networks import Layers

if TYPE_CHECKING:
    import keras

EPSILONS = (0.01, 0.05, 0.075, 0.1)


@dataclass(frozen=True)
class Dissimilarity:
    """What :func:`dissimilarity` measured.

    Attributes:
        images: one row an image and epsilon: image (its number), epsilon, label, predicted_clean,
            predicted, psnr (dB).
        nissim: one row an image, layer and epsilon: image, layer, depth (the layer's place among
            the network's), epsilon, nissim.
        mod: one row a layer and epsilon: layer, depth, epsilon, images, mod (equation 2).
        vid: one row a layer: layer, depth, images, levels, vid (equations 3 and 4).
    """

    images: pd.DataFrame
    nissim: pd.DataFrame
    mod: pd.DataFrame
    vid: pd.DataFrame


def dissimilarity(
    model: keras.Model,
    images: npt.ArrayLike,
    labels: npt.ArrayLike | None = None,
    epsilons: Sequence[float] = EPSILONS,
    layers: Layers = "last",
    *,
    targets: Literal["predicted", "clean"] = "predicted",
    size: Literal["input", "native"] = "input",
    batch_size: int = batches.BATCH_SIZE,
    progress: bool = True,
) -> Dissimilarity:
    """Attack every image at every epsilon, explain both, and measure how far the maps moved.

    The images go through batch by batch and no map is kept, so the memory does not hang on how
    many they are; an array on disk (``numpy.load(..., mmap_mode="r")``) is read as it is needed.

    Args:
        model: any classifier that :func:`gradcam_adv.flatten` takes, from pixels in [0, 1].
        images: float, (N, H, W, 3), values in [0, 1].
        labels: int, (N,), the classes to move away from; None for the predicted ones.
        epsilons: levels of attack above 0, as fractions of the range of pixels.
        layers: as for :func:`gradcam_adv.heatmaps`.
        targets: the class explained on an attacked image: "predicted" for it, or the one predicted
            for the "clean" image.
        size: at which maps are compared: the "input"'s, or each layer's own ("native"), which has
            to be 7 x 7 or larger.
        batch_size: how many images at a time.
        progress: draw a bar.

    Raises:
        ValueError: a model, images, labels or layers that can't be used; no epsilon above 0;
            layers smaller than SSIM's window at their native size.
    """
    from gradcam_adv.gradients import PREDICTED

    network = networks.flatten(model)
    pixels: Any = images if hasattr(images, "__getitem__") else np.asarray(images)
    count = len(pixels)
    given = None
    if labels is not None:
        given = batches.check_labels(labels, count, network.classes, "labels")
    levels = _levels(epsilons)
    _check_choice("targets", targets, ("predicted", "clean"))
    _check_choice("size", size, ("input", "native"))
    places = network.find(layers)
    if size == "native":
        _check_native(places)
    depths = {place.path: depth for depth, place in enumerate(network.places)}
    attack = fgsm.compiled_sign(network, batch_size)
    explain = gradcam.Explainer(network, [place.path for place in places], batch_size)

    rows: list[pd.DataFrame] = []
    scores: list[pd.DataFrame] = []
    with tqdm(total=count, desc="dissimilarity", unit="image", disable=not progress) as bar:
        for start in range(0, count, batch_size):
            own = slice(start, min(start + batch_size, count))
            number = np.arange(own.start, own.stop)
            clean = batches.check_images(network.input.shape, np.asarray(pixels[own]))
            predicted = np.full((len(clean), 1), PREDICTED)
            maps, logits = explain(clean, predicted)
            classes = logits.argmax(axis=1)
            attacked = classes if given is None else given[own]
            signs = attack(clean, attacked)
            compared = {name: _at_size(m[:, 0], clean, size) for name, m in maps.items()}
            for epsilon in levels:
                perturbed = fgsm.perturb(clean, signs, epsilon)
                wanted = predicted if targets == "predicted" else classes[:, None]
                moved, answers = explain(perturbed, wanted)
                rows.append(
                    pd.DataFrame(
                        {
                            "image": number,
                            "epsilon": epsilon,
                            "label": attacked.astype(np.int64),
                            "predicted_clean": classes,
                            "predicted": answers.argmax(axis=1),
                            "psnr": metrics.psnr(clean, perturbed),
                        }
                    )
                )
                for name, maps_then in moved.items():
                    then = _at_size(maps_then[:, 0], clean, size)
                    values = metrics.nissim(compared[name], then)
                    scores.append(
                        pd.DataFrame(
                            {
                                "image": number,
                                "layer": name,
                                "depth": depths[name],
                                "epsilon": epsilon,
                                "nissim": values,
                            }
                        )
                    )
            bar.update(len(clean))
    if not rows:
        raise ValueError("Expected at least one image. Received: none")
    nissim = pd.concat(scores, ignore_index=True)
    return Dissimilarity(pd.concat(rows, ignore_index=True), nissim, _mod(nissim), _vid(nissim))


def _levels(epsilons: Sequence[float]) -> list[float]:
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


def _at_size(maps: np.ndarray, images: np.ndarray, size: str) -> np.ndarray:
    return maps if size == "native" else gradcam.resize(maps, images.shape[1:3])


def _mod(nissim: pd.DataFrame) -> pd.DataFrame:
    grouped = nissim.groupby(["layer", "depth", "epsilon"], sort=False)["nissim"]
    return grouped.agg(images="size", mod=metrics.mod).reset_index()


def _vid(nissim: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for (layer, depth), group in nissim.groupby(["layer", "depth"], sort=False):
        values = group.pivot(index="epsilon", columns="image", values="nissim").to_numpy()
        rows.append((layer, depth, values.shape[1], len(values), metrics.vid(values)))
    return pd.DataFrame(rows, columns=["layer", "depth", "images", "levels", "vid"])
