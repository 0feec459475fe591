"""The paper's tables and claims as data: Chakraborty et al., Generalizing Adversarial Explanations.

The tables are as printed; the claims are in this project's words, with their place in the text.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

CITATION = (
    "Tanmay Chakraborty, Utkarsh Trehan, Khawla Mallat, Jean-Luc Dugelay: "
    "Generalizing Adversarial Explanations with Grad-CAM"
)
PLACE = (
    "IEEE/CVF Conference on Computer Vision and Pattern Recognition Workshops (CVPRW), 2022, "
    "pages 187-193, doi:10.1109/CVPRW56347.2022.00031, arXiv:2204.05427"
)
EPSILONS = (0.0, 0.01, 0.05, 0.075, 0.1)
# On which the paper made its black-box attack.
SOURCE = "resnet50"
# Which networks the abstract and section 4 call deep, and which wide.
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

# Photos of the test sets of Tables 1 and 2: every accuracy is a whole number of so many.
TABLE_1_PHOTOS = 296
TABLE_2_PHOTOS = 257

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

# Table 3's last row as printed, to be held against the mean of the rows above it.
TABLE_3_MEAN_SHIFT = pd.Series(
    (0.0, 0.12685, 0.219761, 0.241252, 0.251444), index=TABLE_3.index, name="mean shift"
)


def printed(table: pd.DataFrame, network: str, epsilon: float) -> float | None:
    """The paper's value, or None where it prints none for this network and epsilon."""
    if network not in table.columns or epsilon not in table.index:
        return None
    return float(table[network].loc[epsilon])


@dataclass(frozen=True)
class Claim:
    """Something that the paper says of its results.

    Attributes:
        name: by which it is called here.
        says: what it says, in this project's words.
        place: where the paper says it.
        compares: whether it holds networks against each other.
    """

    name: str
    says: str
    place: str
    compares: bool = False


CLAIMS = (
    Claim(
        "accuracy_falls",
        "The accuracy of every network falls as ε grows.",
        "section 4.2, Tables 1 and 2",
    ),
    Claim(
        "transfer",
        "The attack made on one network fools the others, too.",
        "sections 4.1 and 4.2, Tables 1 and 2",
    ),
    Claim(
        "white_box",
        "The attack made on a network itself fools every network.",
        "sections 4.2 and 4.3.1",
    ),
    Claim(
        "wide_fail_more",
        "Wide networks fail more than deep ones as ε grows.",
        "sections 4.2 and 5, Tables 1 and 2",
        compares=True,
    ),
    Claim(
        "preprocessing_helps",
        "Aligning and cropping the faces gives every network some benefit.",
        "section 4.2, Tables 1 and 2",
    ),
    Claim(
        "preprocessing_keeps_trend",
        "With the faces aligned and cropped the networks fail in the same way.",
        "section 4.2, Tables 1 and 2",
        compares=True,
    ),
    Claim(
        "focus_shifts",
        "The focus of every network shifts under attack.",
        "abstract, sections 4.3.2 and 5, Table 3",
    ),
    Claim(
        "mod_rises",
        "MOD rises as ε grows.",
        "section 4.4, Table 3",
    ),
    Claim(
        "wide_shift_more",
        "The focus of wide networks shifts more than that of deep ones.",
        "sections 4.5 and 5, Table 3",
        compares=True,
    ),
    Claim(
        "vgg16_shifts_least",
        "VGG16's focus shifts least.",
        "section 4.4, Table 3",
        compares=True,
    ),
    Claim(
        "vgg16_most_stable",
        "VGG16 is the most stable network: it has the lowest VID.",
        "sections 4.4 and 5, Figure 4",
        compares=True,
    ),
    Claim(
        "shift_goes_with_failure",
        "The more the heatmaps of a photo differ, the more likely the network fails on it.",
        "sections 4.4 and 5",
    ),
    Claim(
        "deep_better_at_similar_shift",
        "For a similar shift deep networks do better than wide ones.",
        "sections 4.4 and 4.5",
        compares=True,
    ),
    Claim(
        "focus_unpredictable",
        "Where the focus moves cannot be predicted.",
        "sections 1 and 4.5",
    ),
)
