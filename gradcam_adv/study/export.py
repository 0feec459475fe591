"""The perturbed test set at any epsilon, out of the stored signs: as arrays, and as PNG files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from gradcam_adv.data.photos import to_8bit
from gradcam_adv.files import read, write
from gradcam_adv.runs.engines import cut
from gradcam_adv.runs.progress import Bar
from gradcam_adv.study.plan import ArmPlan


def perturbed_slices(
    arm: ArmPlan, network: str, epsilon: float
) -> Iterator[tuple[pd.DataFrame, np.ndarray]]:
    """The test set under the attack made on a network, slice by slice.

    Args:
        arm: of a plan that is done up to the stage "attack".
        network: on which the attack was made. If the study's readings say so, epsilon is in the
            unit of this network's input.
        epsilon: any, from 0 to 1.

    Yields:
        Rows of the table of photos, and float32 (n, H, W, 3) in [0, 1].
    """
    test, evaluate = arm.photos.test, arm.evaluate[network]
    with Bar(f"export {network}", test) as bar:
        for name, rows in cut(test):
            signs = arm.attack[network].signs(int(name), len(rows))
            yield rows, evaluate.attacked(arm.photos.pixels(rows), signs, epsilon)
            bar.update(len(rows))


def perturbed_set(arm: ArmPlan, network: str, epsilon: float) -> tuple[pd.DataFrame, np.ndarray]:
    """The whole perturbed test set in memory: what :func:`perturbed_slices` gives, in one piece."""
    rows, images = zip(*perturbed_slices(arm, network, epsilon), strict=True)
    return pd.concat(rows, ignore_index=True), np.concatenate(images)


def write_png(arm: ArmPlan, network: str, epsilon: float, folder: Path) -> int:
    """Write the perturbed set as ``identity/photo.png``, 8 bits per channel; the number of files.

    Rounding to 8 bits changes pixels by up to 1/510, so the network may predict another class than
    for the exact arrays. The reading "perturbed_set = png" evaluates such files.
    """
    # All names are checked before the first file is written.
    paths = {p: read.inside(folder, f"{p}.png") for p in arm.photos.test["photo"]}
    for rows, images in perturbed_slices(arm, network, epsilon):
        for photo, pixels in zip(rows["photo"], to_8bit(images), strict=True):
            with write.whole_file(paths[photo]) as temporary:
                Image.fromarray(pixels).save(temporary)
    return len(paths)
