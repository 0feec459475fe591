from .depth import depth_profile
from .flips import flips
from .overlays import overlay, sheet

__all__ = ["depth_profile", "flips", "overlay", "sheet"]
