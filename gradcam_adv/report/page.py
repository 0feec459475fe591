"""``report.html``: the report and a viewer of the heatmaps in one file that needs no other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import jinja2

from gradcam_adv.files import artifacts
from gradcam_adv.plots import overlays
from gradcam_adv.report import markup, viewer

# Of the file in bytes: what a browser opens at once and an e-mail carries.
LIMIT = 20_000_000

# The viewer's pictures: name and caption.
PANELS = (
    ("clean", "Photo"),
    ("attacked", "Perturbed photo"),
    ("heat-clean", "Heatmap of the photo"),
    ("heat-attacked", "Heatmap of the perturbed photo"),
    ("shift", "Difference of the heatmaps"),
)

TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("gradcam_adv.report"),
    autoescape=jinja2.select_autoescape(["html", "html.j2"]),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def write(path: Path, parts: Sequence[str], arms: Sequence[viewer.Shown]) -> None:
    """Write the page beside the figures, with as many of the viewer's photos as fit in.

    Args:
        path: of the page, in the run's folder.
        parts: of the report in Markdown, as :func:`.markup.sections_of` takes them.
        arms: for the viewer.

    Raises:
        ValueError: a page of more than LIMIT bytes, even with one photo a network.
    """
    sections = markup.sections_of(parts, path.parent)
    for photos in range(max(len(n.photos) for arm in arms for n in arm.networks), 0, -1):
        text = render(sections, arms, photos)
        size = len(text.encode())
        if size <= LIMIT:
            artifacts.write_text(path, text)
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
    """The page as text; arguments as of :func:`write`.

    The first section begins the page, the last one, on the run itself, follows the viewer.
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
        scales={
            "heat": viewer.gradient(overlays.COLORMAP),
            "shift": viewer.gradient(viewer.SHIFT_COLORMAP),
        },
    )
