"""``report.html``: the report and a viewer of the heatmaps, in one file that needs no other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.colors import to_hex

from gradcam_adv.files import write
from gradcam_adv.plots.style import COLORMAP
from gradcam_adv.report import markup, viewer
from gradcam_adv.report.text import TEMPLATES

# In bytes: a browser opens it at once, and an e-mail can carry it.
LIMIT = 20_000_000

# The viewer's pictures: name and caption.
PANELS = (
    ("clean", "Photo"),
    ("attacked", "Perturbed photo"),
    ("heat-clean", "Heatmap of the photo"),
    ("heat-attacked", "Heatmap of the perturbed photo"),
    ("shift", "Difference of the heatmaps"),
)


def write_page(path: Path, parts: Sequence[str], arms: Sequence[viewer.Shown]) -> None:
    """Write the page beside the figures, with as many of the viewer's photos as fit.

    Raises:
        ValueError: more than LIMIT bytes, even with one photo per network.
    """
    sections = markup.sections_of(parts, path.parent)
    for photos in range(max(len(n.photos) for arm in arms for n in arm.networks), 0, -1):
        text = render(sections, arms, photos)
        size = len(text.encode())
        if size <= LIMIT:
            write.text(path, text)
            return
    raise ValueError(
        f"Expected a page of at most {LIMIT / 1e6:g} MB with one photo in its viewer. Received: "
        f"{size / 1e6:.1f} MB; a study of fewer networks, layers or epsilons makes a smaller one"
    )


def render(
    sections: Sequence[markup.Section],
    arms: Sequence[viewer.Shown],
    photos: int = viewer.PHOTOS,
) -> str:
    """The page as text, with so many photos of each network.

    The first section begins the page; the last one, about the run, follows the viewer.
    """
    first, *middle, last = sections
    picture, described = viewer.still(arms)
    return TEMPLATES.get_template("report.html.j2").render(
        first=first,
        middle=middle,
        last=last,
        viewer=viewer.pack(arms, photos),
        still={"picture": picture, "description": described},
        panels=PANELS,
        map_side=viewer.MAP_SIDE,
        scales={"heat": _gradient(COLORMAP), "shift": _gradient(viewer.SHIFT_COLORMAP)},
    )


def _gradient(colormap: str) -> str:
    """A colour map as a CSS gradient, with its low end on the left."""
    colours = matplotlib.colormaps[colormap](np.linspace(0, 1, 17))
    return f"linear-gradient(to right, {', '.join(map(to_hex, colours))})"
