"""The perturbed test set at an epsilon, out of the stored attack: as arrays, and as PNG files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from gradcam_adv.attacks.names import TITLES
from gradcam_adv.data.photos import to_8bit
from gradcam_adv.files import read, write
from gradcam_adv.runs.engines import cut
from gradcam_adv.runs.progress import Bar
from gradcam_adv.study.plan import ArmPlan
from gradcam_adv.study.stages.attack import ScaledAttack


def perturbed_slices(
    arm: ArmPlan, network: str, epsilon: float
) -> Iterator[tuple[pd.DataFrame, np.ndarray]]:
    """The test set under the attack made on a network, slice by slice.

    Args:
        arm: of a plan that is done up to the stage "attack".
        network: on which the attack was made. If the study's readings say so, epsilon is in the
            unit of this network's input.
        epsilon: from 0 to 1; see :func:`check_epsilon`.

    Yields:
        Rows of the table of photos, and float32 (n, H, W, 3) in [0, 1].

    Raises:
        ValueError: an attack that was not made at this epsilon.
    """
    check_epsilon(arm, network, epsilon)
    test, evaluate, attack = arm.photos.test, arm.evaluate[network], arm.attack[network]
    with Bar(f"export {network}", test) as bar:
        for name, rows in cut(test):
            places = range(int(name), int(name) + len(rows))
            exact = arm.photos.pixels(rows)
            if epsilon:
                added = attack.perturbations(places, [evaluate.size(epsilon)])
                yield rows, evaluate.attacked(exact, added, epsilon)
            else:
                yield rows, evaluate.images(rows, int(name), exact, "clean", 0.0)
            bar.update(len(rows))


def check_epsilon(arm: ArmPlan, network: str, epsilon: float) -> None:
    """ValueError for an epsilon at which the study's attack is not made; FGSM has all of them."""
    attack = arm.attack[network]
    if isinstance(attack, ScaledAttack) and epsilon not in (0, *attack.epsilons):
        raise ValueError(
            f"Expected an epsilon at which {TITLES[attack.attack]} is made, out of "
            f"{', '.join(f'{e:g}' for e in attack.epsilons)}. Received: {epsilon:g}"
        )


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
