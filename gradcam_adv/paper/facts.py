"""Four facts that the paper prints, and whether each reading of it shows them.

They are printed of photos as they are (Table 1); with faces aligned two of them are not so. Three
are of numbers with a limit, which lies between what the paper prints of the networks that the fact
is about and of the others. The answer is "unclear" if more than 5 in 100 draws of people give the
other one. The fourth is a property of the reading.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from gradcam_adv import statistics
from gradcam_adv.models.backbones import title
from gradcam_adv.paper import roles
from gradcam_adv.paper.draws import Cells, Draws
from gradcam_adv.paper.evidence import NotJudged
from gradcam_adv.study.settings import Arm
from gradcam_adv.study.tables import select

YES, NO, UNCLEAR, NOT_JUDGED = "yes", "no", "unclear", "not judged"
ARM: Arm = "plain"
STABLE = "vgg16"
SMALLEST, LARGEST = 0.01, 0.1
# The paper's VGG16 keeps 0.996 of its clean accuracy at the smallest epsilon.
KEPT = 0.98
# Half of the paper's 0.099.
FLOOR = 0.049
# From the smallest epsilon to the largest MOD of VGG16 rises to 1.29 times, of the others to 1.72
# times or more.
FLAT = 1.5


@dataclass(frozen=True)
class Fact:
    """A printed fact.

    Attributes:
        name: in tables.
        says: what is checked.
        find: from the draws of an arm, its curves and the source to whether it is so in each row of
            the draws, bool (1 + draws,), and the numbers as measured in words.
    """

    name: str
    says: str
    find: Callable[[Draws, pd.DataFrame, str], tuple[np.ndarray, str]]


def _floor(draws: Draws, curves: pd.DataFrame, source: str) -> tuple[np.ndarray, str]:
    ratio, mod = (_of_stable(table, source, SMALLEST) for table in (draws.ratio, draws.mod))
    return (ratio >= KEPT) & (mod >= FLOOR), f"ratio {ratio[0]:.3f}, MOD {mod[0]:.3f}"


def _flat(draws: Draws, curves: pd.DataFrame, source: str) -> tuple[np.ndarray, str]:
    small, large = (_of_stable(draws.mod, source, epsilon) for epsilon in (SMALLEST, LARGEST))
    return (small > 0) & (large <= FLAT * small), f"MOD {small[0]:.3f} to {large[0]:.3f}"


def _of_stable(cells: Cells, source: str, epsilon: float) -> np.ndarray:
    if source == STABLE:
        raise NotJudged(f"{title(STABLE)} is the source here; the paper's attack is transferred")
    return _cell(cells, STABLE, epsilon)


def _source(draws: Draws, curves: pd.DataFrame, source: str) -> tuple[np.ndarray, str]:
    networks = dict.fromkeys(network for network, _ in draws.ratio)
    siblings = [name for name in networks if roles.role(name, source) == roles.SIBLING]
    if not siblings:
        raise NotJudged(f"the run has no other network of the family of {title(source)}")
    own, other = (_cell(draws.ratio, name, LARGEST) for name in (source, siblings[0]))
    return own >= other, f"ratio {own[0]:.3f}, {title(siblings[0])} {other[0]:.3f}"


def _cell(cells: Cells, network: str, epsilon: float) -> np.ndarray:
    if (network, epsilon) not in cells:
        raise NotJudged(f"the run has no {title(network)} at ε = {epsilon}")
    values = cells[network, epsilon]
    if not np.isfinite(values[0]):
        raise NotJudged(f"{title(network)} is right on no clean photo")
    return values


def _one_set(draws: Draws, curves: pd.DataFrame, source: str) -> tuple[np.ndarray, str]:
    if curves["network"].nunique() < 2:
        raise NotJudged("the run has one network")
    attacked = curves[curves["epsilon"] > 0].assign(psnr=curves["psnr"].round(9))
    differing = attacked.groupby("epsilon")[["psnr", "unchanged"]].nunique()
    psnr = select(attacked, epsilon=attacked["epsilon"].max())["psnr"]
    same = (differing == 1).all(axis=None)
    return np.array([same]), f"PSNR {psnr.min():.1f} to {psnr.max():.1f} dB"


FACTS = (
    Fact(
        "floor",
        f"At ε = {SMALLEST} VGG16 keeps at least {KEPT:.0%} of its clean accuracy, and MOD is at "
        f"least {FLOOR}, half of the paper's.",
        _floor,
    ),
    Fact(
        "flat",
        f"MOD of VGG16 at ε = {LARGEST} is at most {FLAT} times that at ε = {SMALLEST}.",
        _flat,
    ),
    Fact(
        "source",
        f"At ε = {LARGEST} the source keeps at least the share of its clean accuracy that the "
        "other network of its family keeps.",
        _source,
    ),
    Fact(
        "one_set",
        "All networks are given one perturbed set: at each ε its PSNR is the same for all.",
        _one_set,
    ),
)


def judge(
    drawn: Mapping[str, Mapping[Arm, Draws]], curves: pd.DataFrame, source: str
) -> pd.DataFrame:
    """Every fact under every reading.

    Args:
        drawn: of :func:`gradcam_adv.paper.draws.draw`.
        curves: of :func:`gradcam_adv.paper.readings.curves`.
        source: the network on which the black-box attack was made.

    Returns:
        Columns reading, fact, verdict ("yes", "no", "unclear" or "not judged") and detail: the
        numbers, or why there is no verdict.
    """
    rows = []
    for reading, arms in drawn.items():
        own = select(curves, reading=reading, arm=ARM)
        for fact in FACTS:
            try:
                if ARM not in arms:
                    raise NotJudged("the run has no photos as they are")
                is_so, detail = fact.find(arms[ARM], own, source)
                verdict = _verdict(is_so)
            except NotJudged as reason:
                verdict, detail = NOT_JUDGED, str(reason)
            rows.append((reading, fact.name, verdict, detail))
    return pd.DataFrame(rows, columns=["reading", "fact", "verdict", "detail"])


def _verdict(is_so: np.ndarray) -> str:
    measured, drawn = is_so[0], is_so[1:]
    if len(drawn) and (drawn != measured).mean() > statistics.SIGNIFICANCE:
        return UNCLEAR
    return YES if measured else NO
