"""``report.html``: the report and a viewer of the heatmaps in one file that needs no other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from gradcam_adv import artifacts, markup, overlays, viewer

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
    loader=jinja2.PackageLoader("gradcam_adv"),
    autoescape=jinja2.select_autoescape(["html", "html.j2"]),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def write(
    path: Path,
    parts: Sequence[str],
    arms: Sequence[viewer.Shown],
    *,
    summary: Sequence[str] = (),
    verdicts: pd.DataFrame | None = None,
) -> None:
    """Write the page beside the figures, with as many of the viewer's photos as fit in.

    Args:
        path: of the page, in the run's folder.
        parts: of the report in Markdown, as :func:`gradcam_adv.markup.sections_of` takes them.
        arms: for the viewer.
        summary: sentences to begin with.
        verdicts: one row a claim of the paper, as they are to be read.

    Raises:
        ValueError: a page of more than LIMIT bytes, even with one photo a network.
    """
    sections = markup.sections_of(parts, path.parent)
    for photos in range(max(len(n.photos) for arm in arms for n in arm.networks), 0, -1):
        text = render(sections, arms, photos, summary=summary, verdicts=verdicts)
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
    *,
    summary: Sequence[str] = (),
    verdicts: pd.DataFrame | None = None,
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
        summary=summary,
        verdicts=None if verdicts is None else _table(verdicts),
        viewer=viewer.pack(arms, photos),
        still={"picture": picture, "description": described},
        panels=PANELS,
        map_side=viewer.MAP_SIDE,
        scales={
            "heat": viewer.gradient(overlays.COLORMAP),
            "shift": viewer.gradient(viewer.SHIFT_COLORMAP),
        },
    )


def _table(table: pd.DataFrame) -> dict[str, Any]:
    """Column names and cells as they are shown."""
    return {
        "columns": [str(column).replace("_", " ") for column in table.columns],
        "rows": [[_cell(value) for value in row] for row in table.itertuples(index=False)],
    }


def _cell(value: object) -> str:
    if value is None or value is pd.NA or value != value:  # NaN is the one not equal to itself
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
