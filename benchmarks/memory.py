"""Peak memory of scoring all layers, for many photos against for few."""

from __future__ import annotations

import functools

import numpy as np

from benchmarks import explaining, processes
from gradcam_adv import batching as batches
from gradcam_adv import robustness as whole_model
from gradcam_adv.models import backbones

FEW, MANY = 100, 1000


class Noise:
    """Photos that are made when they are asked for, as a set on disk is read."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, rows: slice) -> np.ndarray:
        count = len(range(*rows.indices(self._count)))
        shape = (count, explaining.IMAGE_SIZE, explaining.IMAGE_SIZE, 3)
        return np.random.default_rng(rows.start).random(shape, np.float32)


def peak(count: int, network: str) -> dict[str, str | int]:
    """Attack ``count`` photos at one epsilon, explain them at all layers and score the maps.

    Maps are compared at the layers' own sizes, which takes half the time and as much memory.
    """
    model = explaining.classifier(network)
    whole_model.dissimilarity(
        model, Noise(count), None, [0.1], "all", size="native", controls=False, progress=False
    )
    return {}


def of_many_photos(network: str) -> dict[str, str | int]:
    few, many = (
        processes.alone(functools.partial(peak, count), network)[processes.PEAK]
        for count in (FEW, MANY)
    )
    what = (
        f"peak memory of MOD and VID of all layers of {backbones.find(network).title}, "
        f"{MANY} photos / {FEW} photos, in GB, batches of {batches.BATCH_SIZE}"
    )
    return {
        "what": what,
        "ours (s)": f"{many} GB",
        "peer (s)": f"{few} GB",
        "ratio [quartiles]": f"{float(many) / float(few):.2f}",
        "of": "ours / peer",
        "aim": "at most 1.1, and 3 GB",
        "runs": 1,
        "first call (s)": "",
        processes.PEAK: many,
    }
