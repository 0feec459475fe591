"""``report.html``: the whole report and its viewer of heatmaps in one file that needs no other."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.colors import to_hex

from gradcam_adv.files import write
from gradcam_adv.plots import style
from gradcam_adv.report import embedding, viewer
from gradcam_adv.report.text import TEMPLATES

Embed = Callable[[str], embedding.Figure | None]

# In bytes: a browser opens it at once, and an e-mail can carry it.
LIMIT = 10_000_000

# The pictures of the viewer by row: name and caption. The strip has the first row's two and the
# second row's two.
PANELS = (
    ("clean", "Photo"),
    ("attacked", "Attacked photo"),
    ("noise", "Photo with noise of that size"),
    ("heat-clean", "Heatmap before"),
    ("heat-attacked", "Heatmap after"),
    ("heat-noise", "Heatmap with noise"),
    ("shift", "Change by the attack"),
    ("shift-noise", "Change by noise"),
)


def write_page(
    path: Path, values: Mapping[str, Any], arms: Sequence[viewer.Shown], figures: Path
) -> None:
    """Write the page, with the figures that there are and as many photos as fit.

    Args:
        path: of the page.
        values: what it says, as of :func:`gradcam_adv.report.contents.of_run`.
        arms: what its viewer shows; may be empty.
        figures: their folder.

    Raises:
        ValueError: more than LIMIT bytes, even with one photo per network.
    """
    embed = figures_in(figures)
    most = max((len(n.photos) for arm in arms for n in arm.networks), default=1)
    for photos in range(most, 0, -1):
        text = render(embed, values, arms, photos)
        size = len(text.encode())
        if size <= LIMIT:
            write.text(path, text)
            return
    raise ValueError(
        f"Expected a page of at most {LIMIT / 1e6:g} MB with one photo in its viewer. Received: "
        f"{size / 1e6:.1f} MB; a study of fewer networks, layers or epsilons makes a smaller one"
    )


def figures_in(folder: Path) -> Embed:
    """Finds the figures of a folder by their path in it, without ".png"; each is read once."""
    return functools.cache(lambda name: embedding.figure(folder / f"{name}.png"))


def render(
    embed: Embed,
    values: Mapping[str, Any],
    arms: Sequence[viewer.Shown],
    photos: int = viewer.PHOTOS,
) -> str:
    """The page as text, with so many photos of each network."""
    picture, described = viewer.still(arms, values["epsilon"]) if arms else ("", "")
    return TEMPLATES.get_template("page.html.j2").render(
        dict(values),
        embed=embed,
        viewer=viewer.pack(arms, photos) | {"epsilon": values["epsilon"]} if arms else None,
        still={"picture": picture, "description": described},
        panels=PANELS,
        map_side=viewer.MAP_SIDE,
        style=style,
        scales={"heat": _gradient(style.COLORMAP), "shift": _gradient(style.SHIFT_COLORMAP)},
    )


def _gradient(colormap: str) -> str:
    """A colour map as a CSS gradient, with its low end on the left."""
    colours = matplotlib.colormaps[colormap](np.linspace(0, 1, 17))
    return f"linear-gradient(to right, {', '.join(map(to_hex, colours))})"
