"""The whole measurement of an embedder on pairs of images: do two show the same?"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pandas as pd

from gradcam_adv import metrics
from gradcam_adv.graph.flat import FlatGraph
from gradcam_adv.graph.verifier import embed, embedder, of_embeddings
from gradcam_adv.robustness.measurement import Dissimilarity, dissimilarity


@dataclass(frozen=True)
class Verification(Dissimilarity):
    """What :func:`verification` measured: the tables of :class:`Dissimilarity`, and two more.

    Attributes:
        pairs: one row per pair and epsilon (0 for the clean image): pair (its number), same,
            epsilon, similarity (cosine), accepted (taken for the same), psnr (dB).
        rates: one row per epsilon, 0 first: epsilon, pairs, threshold, and false_rejects,
            false_accepts, accuracy, auc and equal_error, as of
            :func:`gradcam_adv.metrics.verification_rates`.
    """

    pairs: pd.DataFrame
    rates: pd.DataFrame


@dataclass(frozen=True)
class Pairs:
    """Pairs of images as a classifier, its labels and its targets.

    Attributes:
        graph: of :func:`gradcam_adv.verifier`.
        labels: int (N,), the right answers, which the attack moves away from.
        targets: int (N,), the answers "the same", whose logits are explained.
        threshold: of the similarity.
    """

    graph: FlatGraph
    labels: np.ndarray
    targets: np.ndarray
    threshold: float


def as_classifier(
    model: keras.Model | FlatGraph,
    images: Any,
    others: Any,
    same: npt.ArrayLike,
    threshold: float | None,
    batch_size: int | None,
) -> Pairs:
    """Embed all images, and make a classifier; arguments as of :func:`verification`."""
    truth = np.asarray(same)
    counts = {len(images), len(others)}
    if truth.shape != (len(images),) or truth.dtype != bool or len(counts) > 1:
        raise ValueError(
            "Expected as many others as images, and for each pair whether both show the same, "
            f"True or False. Received: {len(images)} images, {len(others)} others, shape "
            f"{truth.shape} and dtype {truth.dtype}"
        )
    if threshold is not None and not -1 <= threshold <= 1:  # NaN fails this, too
        raise ValueError(f"Expected a threshold from -1 to 1. Received: {threshold}")
    graph = embedder(model)
    of_images, of_others = (
        embed(graph, given, batch_size=batch_size) for given in (images, others)
    )
    if threshold is None:
        similarity = (of_images * of_others).sum(axis=1)
        threshold = metrics.equal_error_threshold(similarity, truth)
    first = 2 * np.arange(len(truth))
    verifier = of_embeddings(graph, of_others, threshold)
    return Pairs(verifier, first + truth, first + 1, threshold)


def verification(
    model: keras.Model | FlatGraph,
    images: Any,
    others: Any,
    same: npt.ArrayLike,
    *,
    threshold: float | None = None,
    batch_size: int | None = None,
    **measuring: Any,
) -> Verification:
    """Attack one image of every pair, explain its similarity to the other, and measure both.

    The attack moves away from the right answer: it lowers the similarity of images that show the
    same, and raises that of others. The heatmaps are those of the similarity, clean and attacked.

    Args:
        model: an embedder, as of :func:`gradcam_adv.verifier`.
        images: float, (N, H, W, C), values in [0, 1], those that are attacked and explained; or an
            object that gives such arrays for slices.
        others: as ``images``: the other image of each pair, whose embedding is fixed.
        same: bool, (N,), whether both images of a pair show the same, such as one person.
        threshold: the least similarity that is taken for the same. None for that of equal errors
            on these pairs, clean.
        batch_size: as for :class:`gradcam_adv.GradCAM`.
        measuring: further arguments of :func:`gradcam_adv.dissimilarity`, but labels and targets.
            Images of other pairs are the "unrelated" ones.

    Raises:
        ValueError: as of :func:`gradcam_adv.dissimilarity`; a model that is no embedder; pairs
            that can't be used, or are of one kind without a threshold.

    Example:
        >>> import keras, numpy as np
        >>> layers = [
        ...     keras.Input((8, 8, 3)),
        ...     keras.layers.Conv2D(4, 3, name="conv"),
        ...     keras.layers.Flatten(),
        ...     keras.layers.Dense(16),
        ... ]
        >>> images, others = np.random.default_rng(0).random((2, 4, 8, 8, 3))
        >>> same = np.array([True, True, False, False])
        >>> found = verification(keras.Sequential(layers), images, others, same, epsilons=[0.1])
        >>> found.rates[["epsilon", "pairs"]].values.tolist()
        [[0.0, 4.0], [0.1, 4.0]]
    """
    pairs = as_classifier(model, images, others, same, threshold, batch_size)
    result = dissimilarity(
        pairs.graph,
        images,
        pairs.labels,
        targets=pairs.targets,
        batch_size=batch_size,
        **measuring,
    )
    table, rates = similarity_tables(pairs, result.images)
    return Verification(**vars(result), pairs=table, rates=rates)


def similarity_tables(pairs: Pairs, images: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables pairs and rates of :class:`Verification`, out of the table of images."""
    clean = images.drop_duplicates("image")
    clean = clean.assign(epsilon=0.0, logit=clean["logit_clean"], psnr=np.inf)
    rows = pd.concat([clean, images], ignore_index=True)
    same = rows["label"] % 2 == 1
    similarity = pairs.threshold + rows["logit"].where(same, -rows["logit"])
    accepted = similarity >= pairs.threshold
    columns = {"pair": rows["image"], "same": same, "epsilon": rows["epsilon"]}
    columns |= {"similarity": similarity, "accepted": accepted, "psnr": rows["psnr"]}
    table = pd.DataFrame(columns)
    rates = [
        {"epsilon": epsilon, "pairs": len(group), "threshold": pairs.threshold}
        | asdict(metrics.verification_rates(group["similarity"], group["same"], pairs.threshold))
        for epsilon, group in table.groupby("epsilon")
    ]
    return table, pd.DataFrame(rates)
