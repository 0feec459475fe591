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
        *("accuracy_order_paper", "mod_order_paper", "quantity", "hash", "control"),
        *("measure", "order"),
        *("threat", "lower", "upper", "check", "than", "why"),
        *("other", "other_identity", "other_network"),
    }
)


def read_table(path: Path, needed: Iterable[str] = ()) -> pd.DataFrame:
    """A table of a study, from its CSV file.

    ValueError if it is damaged, lacks a column that is ``needed``, or has no numbers in one.
    """
    table = read.table(path, TEXT)
    for column in needed:
        if column not in table:
            shown = ", ".join(table.columns[:10])
            raise ValueError(f"Expected a column {column} in {path}. Received: {shown}")
        if column not in TEXT and table[column].dtype.kind not in "if":
            raise ValueError(
                f"Expected numbers in column {column} of {path}. Received: {table[column].dtype}"
            )
    return table


def read_parts(paths: Iterable[Path]) -> pd.DataFrame:
    """The tables in several files, one below the other."""
    return pd.concat(map(read_table, paths), ignore_index=True)


def read_tables(folder: Path) -> dict[str, pd.DataFrame]:
    """All tables in a folder, by name."""
    return {path.stem: read_table(path) for path in sorted(folder.glob("*.csv"))}
