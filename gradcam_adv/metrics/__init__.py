"""What is measured on heatmaps and images: NISSIM, MOD, VID, PSNR, and the shift of a region."""

from gradcam_adv.metrics.mod_vid import deviations, mod, vid
from gradcam_adv.metrics.nissim import nissim
from gradcam_adv.metrics.psnr import psnr
from gradcam_adv.metrics.regions import RegionShift, centroid, region, region_shift
from gradcam_adv.metrics.unrelated import UnrelatedPairs

__all__ = [
    "RegionShift",
    "UnrelatedPairs",
    "centroid",
    "deviations",
    "mod",
    "nissim",
    "psnr",
    "region",
    "region_shift",
    "vid",
]
