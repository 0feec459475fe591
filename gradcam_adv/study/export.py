"""Perturbed sets out of the stored signs: as arrays, and as PNG files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from PIL import Image

from gradcam_adv.data import photos
from gradcam_adv.files import artifacts
from gradcam_adv.study.setting import bar, cut, signs_of

if TYPE_CHECKING:
    from gradcam_adv.study.setting import Setting


def perturbed_slices(
    setting: Setting, network: str, epsilon: float
) -> Iterator[tuple[pd.DataFrame, np.ndarray]]:
    """The test set as the attack on ``network`` perturbs it, slice by slice.

    Args:
        setting: of a pipeline that has run up to the stage attack.
        network: on which the attack was made, and in whose unit epsilon is where the study's
            readings say "network".
        epsilon: any level, 0 to 1.

    Yields:
        The rows of the table of photos, and float32 (n, H, W, 3) in [0, 1].
    """
    with bar(f"export {network}", setting.test) as moved:
        for name, rows in cut(setting.test):
            signs = signs_of(setting, "white-box", network, name, rows)
            yield rows, setting.perturb(network, setting.pixels(rows), signs, epsilon)
            moved.update(len(rows))


def perturbed_set(
    setting: Setting, network: str, epsilon: float
) -> tuple[pd.DataFrame, np.ndarray]:
    """All slices of :func:`perturbed_slices` at once, in memory."""
    rows, images = zip(*perturbed_slices(setting, network, epsilon), strict=True)
    return pd.concat(rows, ignore_index=True), np.concatenate(images)


def write_png(setting: Setting, network: str, epsilon: float, folder: Path) -> int:
    """Write the perturbed set as ``identity/photo.png``, 8 bits a channel; how many files.

    Rounding to 8 bits changes pixels by up to 1/510, so the network may answer otherwise than
    on the exact arrays; the study's reading "perturbed_set = png" evaluates such files.
    """
    # All of them before the first is written.
    paths = {p: artifacts.inside(folder, f"{p}.png") for p in setting.test["photo"]}
    for rows, images in perturbed_slices(setting, network, epsilon):
        for photo, pixels in zip(rows["photo"], photos.to_8bit(images), strict=True):
            with artifacts.whole_file(paths[photo]) as temporary:
                Image.fromarray(pixels).save(temporary)
    return len(paths)
