from .depth import depth_profile
from .overlays import overlay, sheet

__all__ = ["depth_profile", "overlay", "sheet"]
