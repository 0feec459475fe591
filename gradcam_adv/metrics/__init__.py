"""NISSIM and other measures, MOD, VID, gain; insertion, PSNR, spectrum, region, face; pairs."""

from gradcam_adv.metrics.correlation import correlation
from gradcam_adv.metrics.face_heat import face_heat
from gradcam_adv.metrics.gain import Gain, HalfShift, gain, half_shift, size_reaching
from gradcam_adv.metrics.insertion import deletion, insertion
from gradcam_adv.metrics.measures import (
    MEASURES,
    earth_mover,
    hog,
    jensen_shannon,
    region_distance,
    spearman,
    top,
)
from gradcam_adv.metrics.mod_vid import deviations, mod, vid
from gradcam_adv.metrics.nissim import nissim
from gradcam_adv.metrics.psnr import psnr
from gradcam_adv.metrics.regions import RegionShift, centroid, region, region_shift
from gradcam_adv.metrics.spectrum import low_frequency_share
from gradcam_adv.metrics.ssim_variants import nissim_variant
from gradcam_adv.metrics.unrelated import UnrelatedPairs
from gradcam_adv.metrics.verification import Rates, equal_error_threshold, verification_rates

__all__ = [
    "MEASURES",
    "Gain",
    "HalfShift",
    "Rates",
    "RegionShift",
    "UnrelatedPairs",
    "centroid",
    "correlation",
    "deletion",
    "deviations",
    "earth_mover",
    "equal_error_threshold",
    "face_heat",
    "gain",
    "half_shift",
    "hog",
    "insertion",
    "jensen_shannon",
    "low_frequency_share",
    "mod",
    "nissim",
    "nissim_variant",
    "psnr",
    "region",
    "region_distance",
    "region_shift",
    "size_reaching",
    "spearman",
    "top",
    "verification_rates",
    "vid",
]
