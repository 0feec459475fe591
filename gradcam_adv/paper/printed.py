"""The paper's tables, as printed: Chakraborty et al., Generalizing Adversarial Explanations."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from gradcam_adv import metrics
from gradcam_adv.study.settings import Arm

CITATION = (
    "Tanmay Chakraborty, Utkarsh Trehan, Khawla Mallat, Jean-Luc Dugelay: "
    "Generalizing Adversarial Explanations with Grad-CAM"
)
PLACE = (
    "IEEE/CVF Conference on Computer Vision and Pattern Recognition Workshops (CVPRW), 2022, "
    "pages 187-193, doi:10.1109/CVPRW56347.2022.00031, arXiv:2204.05427"
)
EPSILONS = (0.0, 0.01, 0.05, 0.075, 0.1)
# The network on which the paper made its black-box attack.
SOURCE = "resnet50"
# The networks that the abstract and section 4 call deep, and wide.
DEEP = ("vgg16", "resnet50", "resnet101")
WIDE = ("inceptionv3", "xception")

# Accuracy under the black-box attack made on ResNet50, photos as they are.
TABLE_1 = pd.DataFrame(
    {
        "vgg16": (0.9189, 0.9155, 0.9087, 0.8986, 0.8986),
        "resnet50": (0.9054, 0.9189, 0.8851, 0.7804, 0.7060),
        "resnet101": (0.9087, 0.9222, 0.8918, 0.7533, 0.6182),
        "inceptionv3": (0.8851, 0.8851, 0.5709, 0.3513, 0.2533),
        "xception": (0.9256, 0.9256, 0.8141, 0.6959, 0.5641),
    },
    index=pd.Index(EPSILONS, name="epsilon"),
)

# Accuracy under the black-box attack made on ResNet50, faces aligned and cropped.
TABLE_2 = pd.DataFrame(
    {
        "vgg16": (0.8754, 0.8560, 0.8521, 0.8482, 0.8443),
        "resnet50": (0.9416, 0.9455, 0.9066, 0.8521, 0.7509),
        "resnet101": (0.9338, 0.9338, 0.8715, 0.8482, 0.7743),
        "inceptionv3": (0.8521, 0.8482, 0.6692, 0.4785, 0.2996),
        "xception": (0.8949, 0.9027, 0.7120, 0.5914, 0.4513),
    },
    index=pd.Index(EPSILONS, name="epsilon"),
)


@dataclass(frozen=True)
class PrintedAccuracies:
    """A table of accuracies.

    Attributes:
        number: of the table in the paper.
        table: by epsilon (rows) and network (columns).
        photos: in its test set; every accuracy is a whole number of photos divided by that.
    """

    number: int
    table: pd.DataFrame
    photos: int


# By the arm of a study that repeats it.
ACCURACIES: dict[Arm, PrintedAccuracies] = {
    "plain": PrintedAccuracies(1, TABLE_1, 296),
    "aligned": PrintedAccuracies(2, TABLE_2, 257),
}

# MOD under the black-box attack made on ResNet50.
TABLE_3 = pd.DataFrame(
    {
        "vgg16": (0.0, 0.098875, 0.117416, 0.121993, 0.127394),
        "resnet50": (0.0, 0.127743, 0.241743, 0.269364, 0.292002),
        "resnet101": (0.0, 0.084589, 0.208446, 0.245334, 0.262114),
        "inceptionv3": (0.0, 0.160696, 0.275883, 0.296766, 0.295898),
        "xception": (0.0, 0.162345, 0.255316, 0.272804, 0.27981),
    },
    index=pd.Index(EPSILONS, name="epsilon"),
)

# The last row of Table 3 as printed; it is the mean of the rows above it.
TABLE_3_MEAN_SHIFT = pd.Series(
    (0.0, 0.12685, 0.219761, 0.241252, 0.251444), index=TABLE_3.index, name="mean shift"
)


def vid_of_mod() -> pd.Series:
    """By network, the standard deviation of Table 3's MOD over ε > 0: VID, as it may be read, too.

    The paper prints no VID.
    """
    attacked = TABLE_3[TABLE_3.index > 0]
    return pd.Series(metrics.deviations(attacked.to_numpy()), attacked.columns)


def value_of(table: pd.DataFrame, network: str, epsilon: float) -> float | None:
    """The paper's value; None if it prints none for this network and epsilon."""
    if network not in table.columns or epsilon not in table.index:
        return None
    return float(table[network].loc[epsilon])
