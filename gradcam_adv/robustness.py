"""The whole measurement of a model: how far its heatmaps move under an attack, as tidy tables."""

from __future__ import annotations

import hashlib
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
# Further sizes of noise. An attack moves heatmaps as far as noise that is several times larger.
NOISE_EPSILONS = (0.02, 0.2, 0.3)
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
            layer's position in the network).
        mod: one row per layer and epsilon: layer, depth, epsilon, images (their count), mod
            (equation 2). With controls also mod_noise, mod_mirrored, unrelated and
            unrelated_attacked, the means of these controls, and unrelated_images, the number of
            images that have an unrelated one.
        vid: one row per layer: layer, depth, images, levels (number of epsilons), vid (equations 3
            and 4). With controls also vid_noise.
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
            :func:`gradcam_adv.metrics.gain`. No rows without controls.
        half_shift: the epsilon at which MOD is half of unrelated, one row per layer: layer, depth,
            images (that have an unrelated one), unrelated, attack, noise and ratio (noise by
            attack), each with its 95 % interval, attack_low, attack_high and so on. See
            :func:`gradcam_adv.metrics.half_shift`. No rows without unrelated images.
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
        controls: also measure random noise, the mirrored perturbation and unrelated images, beside
            which a MOD is to be read, and the gain. Takes two to three times as long.
        noise_epsilons: further sizes of noise, beside ``epsilons``, to find the gain.
        groups: what each image belongs to, such as the person, (N,), for the intervals of the gain.
            None: each image is a group.
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
        >>> result.mod[["layer", "epsilon", "images"]].values.tolist()
        [['conv', 0.1, 4]]
        >>> list(result.gain.columns)
        ['layer', 'depth', 'control', 'epsilon', 'images', 'equivalent', 'gain', 'low', 'high']
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
            shown.append(images_of(batch))
            scores.append(nissim_of(batch, size))
            of_controls.append(controls_of(batch, size))
            bar.update(len(batch.numbers))
    nissim, measured = (pd.concat(parts, ignore_index=True) for parts in (scores, of_controls))
    # A name that the model does not have gets its place among the explainer's layers.
    depths = {name: order for order, name in enumerate(nissim["layer"].unique())}
    depths |= {layer.path: depth for depth, layer in enumerate(graph.layers)}
    for table in (nissim, measured):
        table["depth"] = table["layer"].map(depths)
    mod = _mod(nissim, measured)
    return Dissimilarity(
        pd.concat(shown, ignore_index=True),
        nissim,
        mod,
        _vid(nissim, measured),
        measured,
        _gain(nissim, measured, groups),
        _half_shift(nissim, measured, groups),
    )


@dataclass(frozen=True)
class Explained:
    """Some images at one epsilon, which is 0 for clean images."""

    epsilon: float
    pixels: np.ndarray  # float32 (n, H, W, C) in [0, 1]
    predicted: np.ndarray  # int (n,)
    heatmaps: dict[str, np.ndarray]  # by layer, float32 (n, h, w) in [0, 1]


@dataclass(frozen=True)
class Batch:
    """Some images, clean and attacked; the last three are empty without controls."""

    numbers: np.ndarray  # of the images in the set, int (n,)
    labels: np.ndarray  # the classes attacked, int (n,)
    clean: Explained
    attacked: list[Explained]
    noise: list[Explained]  # under random signs at these and further epsilons
    mirrored: list[Explained]  # under the attack's perturbation, mirrored left to right
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
    noise_epsilons: Sequence[float] = (),
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
        if (np.diff(numbers) == 1).all():
            read = images[numbers[0] : numbers[-1] + 1]
        else:
            read = np.concatenate([images[number : number + 1] for number in numbers])
        pixels = validation.check_images(graph.input.shape, np.asarray(read))
        with validation.naming(numbers.tolist()):
            return explain(0.0, pixels, wanted[numbers, 0])

    if controls:
        noise_levels = validation.check_epsilons([*rising, *noise_epsilons])
        # Chosen by their content, so that the order of the images does not matter.
        starts = range(0, count, batch_size)
        read = (np.asarray(images[start : start + batch_size]) for start in starts)
        keys = [_key(image) for batch in read for image in batch]
        chosen = np.argsort(keys, kind="stable")[:CANDIDATES]
        candidates = explain_clean(chosen)
        classes_of_candidates = candidates.predicted if given is None else given[chosen]
    for start in range(0, count, batch_size):
        numbers = np.arange(start, min(start + batch_size, count))
        clean = explain_clean(numbers)
        attacked_labels = clean.predicted if given is None else given[numbers]
        classes = clean.predicted if of_clean else wanted[numbers, 0]
        pixels = clean.pixels
        noise: list[Explained] = []
        mirrored: list[Explained] = []
        unrelated: list[dict[str, np.ndarray]] = []
        with validation.naming(numbers.tolist()):
            added = attack(pixels, attacked_labels, rising)
            attacked = [explain(e, perturb(pixels, added[e]), classes) for e in rising]
            if controls:
                random = RandomSigns()(pixels, None, noise_levels)
                noise = [explain(e, perturb(pixels, random[e]), classes) for e in noise_levels]
                for e in rising:
                    turned = np.asarray(added[e])[:, :, ::-1]
                    mirrored.append(explain(e, perturb(pixels, turned), classes))
                for number, label in zip(numbers, attacked_labels, strict=True):
                    pairs = metrics.UnrelatedPairs(classes_of_candidates, seed=keys[number])
                    others = pairs.draw(label)
                    of_others = {name: maps[others] for name, maps in candidates.heatmaps.items()}
                    unrelated.append(of_others)
            yield Batch(numbers, attacked_labels, clean, attacked, noise, mirrored, unrelated)


def _key(image: np.ndarray) -> int:
    """A number that depends on an image's content alone."""
    return int(hashlib.sha256(image.tobytes()).hexdigest()[:16], 16)


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
    return pd.concat(
        _rows(batch, name, size, explained)
        for name in batch.clean.heatmaps
        for explained in batch.attacked
    )


def controls_of(batch: Batch, size: str) -> pd.DataFrame:
    """The rows of :attr:`Dissimilarity.controls` for a batch, without depth."""
    rows = [pd.DataFrame(columns=["image", "layer", "control", "epsilon", "nissim"])]
    for name in batch.clean.heatmaps:
        for control, explained in (("noise", batch.noise), ("mirrored", batch.mirrored)):
            rows += [_rows(batch, name, size, one).assign(control=control) for one in explained]
        rows += _unrelated(batch, name, size)
    return pd.concat(rows[1:] or rows)[rows[0].columns]


def _rows(batch: Batch, name: str, size: str, explained: Explained) -> pd.DataFrame:
    """NISSIM of one layer's heatmaps with the clean ones."""
    clean, moved = (_at_size(e.heatmaps[name], batch, size) for e in (batch.clean, explained))
    values = {"image": batch.numbers, "layer": name, "epsilon": explained.epsilon}
    return pd.DataFrame(values | {"nissim": metrics.nissim(clean, moved)})


def _unrelated(batch: Batch, name: str, size: str) -> list[pd.DataFrame]:
    """Both unrelated controls of one layer: images without an unrelated one have no row."""
    others = [_at_size(unrelated[name], batch, size) for unrelated in batch.unrelated]
    has = [i for i, maps in enumerate(others) if len(maps)]
    if not has:
        return []
    clean = _at_size(batch.clean.heatmaps[name], batch, size)
    between = [
        metrics.nissim(np.broadcast_to(clean[i], others[i].shape), others[i]).mean() for i in has
    ]
    common = {"image": batch.numbers[has], "layer": name}
    rows = [pd.DataFrame(common | {"control": "unrelated", "epsilon": 0.0, "nissim": between})]
    firsts = np.stack([others[i][0] for i in has])
    for attacked in batch.attacked:
        of_attacked = _at_size(attacked.heatmaps[name], batch, size)[has]
        values = {"epsilon": attacked.epsilon, "nissim": metrics.nissim(firsts, of_attacked)}
        rows.append(pd.DataFrame(common | {"control": "unrelated_attacked"} | values))
    return rows


def _at_size(maps: np.ndarray, batch: Batch, size: str) -> np.ndarray:
    return maps if size == "native" else resize(maps, batch.clean.pixels.shape[1:3])


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


def _of(controls: pd.DataFrame, control: str) -> pd.DataFrame:
    return controls[controls["control"] == control]


def _mod(nissim: pd.DataFrame, controls: pd.DataFrame) -> pd.DataFrame:
    keys = ["layer", "depth", "epsilon"]
    table = nissim.groupby(keys, sort=False)["nissim"].agg(images="size", mod=metrics.mod)
    if len(controls):
        for control, column in (("noise", "mod_noise"), ("mirrored", "mod_mirrored")):
            table[column] = _of(controls, control).groupby(keys)["nissim"].mean()
        of_layer = _of(controls, "unrelated").groupby("layer")["nissim"]
        layers = table.index.get_level_values("layer")
        table["unrelated"] = of_layer.mean().reindex(layers).to_numpy()
        by_level = _of(controls, "unrelated_attacked").groupby(keys)["nissim"]
        table["unrelated_attacked"] = by_level.mean().reindex(table.index)
        counts = of_layer.size().reindex(layers, fill_value=0)
        table["unrelated_images"] = counts.to_numpy()
    return table.reset_index()


def _vid(nissim: pd.DataFrame, controls: pd.DataFrame) -> pd.DataFrame:
    rows = []
    same_levels = controls[controls["epsilon"].isin(nissim["epsilon"].unique())]
    for (layer, depth), group in nissim.groupby(["layer", "depth"], sort=False):
        row = {"layer": layer, "depth": depth, "images": group["image"].nunique()}
        row["levels"] = group["epsilon"].nunique()
        row["vid"] = metrics.vid(_by_epsilon(group))
        if len(controls):
            noise = _of(same_levels, "noise")
            row["vid_noise"] = metrics.vid(_by_epsilon(noise[noise["layer"] == layer]))
        rows.append(row)
    return pd.DataFrame(rows)


def _by_epsilon(nissim: pd.DataFrame) -> pd.DataFrame:
    """NISSIM of one layer: one row per epsilon, rising, and one column per image."""
    return nissim.pivot(index="epsilon", columns="image", values="nissim")


def _gain(nissim: pd.DataFrame, controls: pd.DataFrame, groups: np.ndarray | None) -> pd.DataFrame:
    keys = ["layer", "depth", "control", "epsilon", "images"]
    columns = [*keys, "equivalent", "gain", "low", "high"]
    tables = [pd.DataFrame(columns=columns)]
    for (layer, depth), group in nissim.groupby(["layer", "depth"], sort=False):
        attack = _by_epsilon(group)
        of_layer = controls[controls["layer"] == layer]
        for control in ("noise", "mirrored") if len(controls) else ():
            curve = _by_epsilon(_of(of_layer, control))
            found = metrics.gain(attack, attack.index, curve, curve.index, groups)
            about = {"layer": layer, "depth": depth, "control": control}
            numbers = {name: getattr(found, name) for name in columns[len(keys) :]}
            table = pd.DataFrame(numbers | about)
            tables.append(table.assign(epsilon=attack.index, images=attack.shape[1]))
    return pd.concat(tables[1:] or tables, ignore_index=True)[columns]


def _half_shift(
    nissim: pd.DataFrame, controls: pd.DataFrame, groups: np.ndarray | None
) -> pd.DataFrame:
    names = ("attack", "noise", "ratio")
    ends = [f"{name}{end}" for name in names for end in ("", "_low", "_high")]
    rows = []
    for (layer, depth), group in nissim.groupby(["layer", "depth"], sort=False):
        of_layer = controls[controls["layer"] == layer]
        unrelated = _of(of_layer, "unrelated").set_index("image")["nissim"]
        if unrelated.empty:
            continue
        images = unrelated.index
        attack, noise = (_by_epsilon(table)[images] for table in (group, _of(of_layer, "noise")))
        found = metrics.half_shift(
            attack,
            attack.index,
            noise,
            noise.index,
            unrelated,
            None if groups is None else groups[images],
        )
        numbers = [*found.attack, *found.noise, *found.ratio]
        rows.append((layer, depth, len(images), unrelated.mean(), *numbers))
    return pd.DataFrame(rows, columns=["layer", "depth", "images", "unrelated", *ends])
