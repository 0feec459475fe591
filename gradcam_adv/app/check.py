"""The command ``check``: what model and weights files hold, and whether they would be opened."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gradcam_adv import untrusted
from gradcam_adv.models.classifiers import load_model


@dataclass(frozen=True)
class Checked:
    """One file.

    Attributes:
        file: its path.
        kind: "weights" for an HDF5 file by its suffix, else "model".
        refused: why it would not be opened; None if it would.
        contents: what it holds; None if the check does not get that far.
    """

    file: Path
    kind: Literal["model", "weights"]
    refused: str | None
    contents: untrusted.Contents | None

    def text(self) -> str:
        """One line for a reader."""
        if self.refused is not None or self.contents is None:
            return f"{self.file}: refused: {self.refused}"
        held = self.contents
        said = f"{held.arrays:,} arrays of weights, {held.bytes:,} bytes"
        if self.kind == "model":
            common = sorted(held.layers.items(), key=lambda item: -item[1])[:5]
            kinds = ", ".join(f"{count} {name}" for name, count in common)
            more = ", ..." if len(held.layers) > len(common) else ""
            said = f"a model of {sum(held.layers.values())} layers ({kinds}{more}), {said}"
        return f"{self.file}: opens: {said}"


def check(path: Path) -> Checked:
    """Look at a file, and open it if nothing speaks against it."""
    kind: Literal["model", "weights"] = "model"
    if path.suffix.lower() in (".h5", ".hdf5"):
        kind = "weights"
    contents = None
    try:
        with untrusted.checked(path, kind) as (_, contents):
            pass
        if kind == "model":
            load_model(path)
    except (OSError, ValueError) as error:
        return Checked(path, kind, getattr(error, "strerror", None) or str(error), contents)
    return Checked(path, kind, None, contents)
