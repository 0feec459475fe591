"""Lists of pairs of images: LFW's pairs.txt, or a CSV with the columns image, other and same."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gradcam_adv.data.image_files import SUFFIXES
from gradcam_adv.files import read

_COLUMNS = ("image", "other", "same")
_ANSWERS = dict.fromkeys(("1", "yes", "true", "same"), True) | dict.fromkeys(
    ("0", "no", "false", "different"), False
)


@dataclass(frozen=True)
class PairList:
    """Pairs of image files.

    Attributes:
        images: the first of each pair.
        others: the second.
        same: bool (N,), whether both show the same.
    """

    images: list[Path]
    others: list[Path]
    same: np.ndarray


def read_pairs(file: Path, folder: Path | None = None) -> PairList:
    """The pairs that a list names.

    A CSV has the columns image and other, paths below the folder, and same: 1 or 0, yes or no, true
    or false. LFW's list has rows ``name n1 n2`` and ``name1 n1 name2 n2`` with tabs (or commas)
    between, for ``name/name_0001.jpg``; its first line says how many there are.

    Args:
        file: the list.
        folder: of the images; None for the list's own.

    Raises:
        ValueError: no such file, no pairs, a row that is none, or an image that is missing.
    """
    if not file.is_file():
        raise ValueError(f"Expected a list of pairs. Received: {file}, which is no file")
    folder = file.parent if folder is None else folder
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"Expected a list of pairs in UTF-8. Received: {file}") from None
    is_table = {"image", "other"} <= set("".join(lines[:1]).split(","))
    rows = list(_of_table(file, folder) if is_table else _of_lfw(file, lines, folder))
    if not rows:
        raise ValueError(f"Expected a list of pairs. Received: {file}, which has none")
    images, others, same = (list(column) for column in zip(*rows, strict=True))
    if missing := [path for path in (*images, *others) if not path.is_file()]:
        raise ValueError(
            f"Expected the images of all pairs in {folder}. Received: {len(missing)} of "
            f"{2 * len(rows)} missing, the first: {missing[0]}"
        )
    return PairList(images, others, np.array(same, bool))


Row = tuple[Path, Path, bool]


def _of_table(file: Path, folder: Path) -> Iterator[Row]:
    table = read.table(file, text=_COLUMNS)
    if "same" not in table:
        raise ValueError(
            "Expected a column same, which says whether both images of a pair show the same. "
            f"Received: {file} with {', '.join(map(str, table))}"
        )
    for number, (image, other, same) in enumerate(table[[*_COLUMNS]].to_numpy(), 2):
        answer = _ANSWERS.get(same.strip().lower())
        if answer is None or not image or not other:
            raise _no_pair(file, number, f"{image},{other},{same}")
        yield folder / image, folder / other, answer


def _of_lfw(file: Path, lines: list[str], folder: Path) -> Iterator[Row]:
    def path(name: str, number: str) -> Path:
        start = folder / name / f"{name}_{int(number):04d}"
        paths = [start.with_name(start.name + suffix) for suffix in SUFFIXES]
        return next((path for path in paths if path.is_file()), paths[0])

    for number, line in enumerate(lines, 1):
        match re.split(r"[\t,]", line.strip().rstrip(",")):
            case [name, one, two] if one.isdecimal() and two.isdecimal():
                yield path(name, one), path(name, two), True
            case [name, one, other, two] if one.isdecimal() and two.isdecimal():
                yield path(name, one), path(other, two), False
            case _ if number > 1 and line.strip():
                raise _no_pair(file, number, line)


def _no_pair(file: Path, number: int, line: str) -> ValueError:
    return ValueError(
        "Expected pairs as a CSV with the columns image, other, same (1 or 0), or as LFW's list, "
        "name n1 n2 and name1 n1 name2 n2 with tabs. "
        f"Received: {file}, line {number}: {line[:80]!r}"
    )
