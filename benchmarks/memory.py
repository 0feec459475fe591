"""Peak memory of scoring all layers, for many photos and for few."""

from __future__ import annotations

import functools

import numpy as np

from benchmarks import explaining, processes
from gradcam_adv import dissimilarity
from gradcam_adv.batching import BATCH_SIZE
from gradcam_adv.models import backbones

FEW, MANY = 100, 1000


class Noise:
    """Photos of noise, made when they are needed, as photos on a disk are read."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, rows: slice) -> np.ndarray:
        count = len(range(*rows.indices(self._count)))
        shape = (count, explaining.IMAGE_SIZE, explaining.IMAGE_SIZE, 3)
        return np.random.default_rng(rows.start).random(shape, np.float32)


def peak(count: int, network: str) -> processes.Row:
    """Attack ``count`` photos at one epsilon, explain them at all layers and score the maps.

    Maps are compared at the layers' own sizes, which takes half the time and as much memory.
    """
    model = explaining.classifier(network)
    dissimilarity(
        model,
        Noise(count),
        epsilons=[0.1],
        layers="all",
        size="native",
        controls=False,
        verbose=0,
    )
    return {}


def of_many_photos(network: str) -> processes.Row:
    few, many = (
        processes.alone(functools.partial(peak, count), network)[processes.PEAK]
        for count in (FEW, MANY)
    )
    what = (
        f"peak memory of MOD and VID of all layers of {backbones.find(network).title}, "
        f"{MANY} photos / {FEW} photos, in GB, batches of {BATCH_SIZE}"
    )
    return {
        "what": what,
        "ours (s)": f"{many} GB",
        "peer (s)": f"{few} GB",
        "ratio [quartiles]": f"{float(many) / float(few):.2f}",
        "ratio of": "ours / peer",
        "aim": "at most 1.1, and 3 GB",
        "runs": 1,
        "first call (s)": "",
        processes.PEAK: many,
    }
