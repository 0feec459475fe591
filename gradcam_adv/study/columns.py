"""Which columns of a study's tables are text, and how the tables are read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from gradcam_adv.files import read

TEXT = frozenset(
    {
        *("photo", "identity", "name", "sha256", "group", "note", "reason", "crops", "detector"),
        *("network", "attack", "layer", "target", "size", "arm", "reading", "claim", "says"),
        *("place", "on", "verdict", "effect", "detail", "rule", "accuracy_order", "mod_order"),
        *("accuracy_order_paper", "mod_order_paper", "quantity", "hash"),
    }
)


def read_table(path: Path) -> pd.DataFrame:
    """A table of a study, from its CSV file; ValueError if it is damaged."""
    return read.table(path, TEXT)


def read_parts(paths: Iterable[Path]) -> pd.DataFrame:
    """The tables in several files, one below the other."""
    return pd.concat(map(read_table, paths), ignore_index=True)


def read_tables(folder: Path) -> dict[str, pd.DataFrame]:
    """All tables in a folder, by name."""
    return {path.stem: read_table(path) for path in sorted(folder.glob("*.csv"))}
