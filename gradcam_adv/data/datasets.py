"""From a listing to one table: which photos are used, of whom, in which split, and which not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree
from tqdm import tqdm

from gradcam_adv import threads
from gradcam_adv.data import photos
from gradcam_adv.data.sources import Listing

SPLITS = ("train", "validation", "test")
# Of the 64 bits of the perceptual hash. Photos saved anew, at half the size or a little brighter
# differ by 0 to 4; of 39,450 pairs of different LFW photos of one person, 3 did.
NEAR_DUPLICATE_BITS = 4
# A study that leaves out a larger share of its photos is to be asked for.
MAXIMUM_LEFT_OUT = 0.1

_ENOUGH = "three or more usable photos, near-duplicates counted once"


@dataclass(frozen=True)
class Table:
    """The photos of a study and those that were left out.

    Attributes:
        kept: columns photo, identity, label, split, sha256, group, note; sorted by photo. label
            counts the identities in sorted order, split is one of SPLITS, group names the first of
            a group of near-duplicates (empty for a photo without), note says what was passed over
            in reading it (mostly empty).
        excluded: columns photo, identity (empty for a photo in nobody's folder), sha256, reason;
            sorted by photo.
        identities: the listing's, with column usable: how many photos of a chosen identity could
            be read and are no copies, before max_photos; missing for one that was not chosen.
            Identities left out for too few of them are no longer chosen and have a reason.
    """

    kept: pd.DataFrame
    excluded: pd.DataFrame
    identities: pd.DataFrame


def make_table(
    listing: Listing,
    *,
    min_photos: int,
    max_photos: int | None,
    classes: int | None,
    split: tuple[float, float, float],
    seed: int,
    checked: pd.DataFrame | None = None,
) -> Table:
    """Read every photo once, leave out what can't be used, and split the rest.

    Each identity's photos are put in an order of chance that follows from the seed and its name,
    and then go to the splits: test and validation get their rounded shares, training the rest,
    each at least one photo. Near-duplicates of one identity stay in one split, and of files with
    equal bytes only the first is kept, so no copy straddles two splits.

    Args:
        listing: from :func:`gradcam_adv.data.sources.list_photos`.
        min_photos: as given there, for the message; what can't be used counts there, too.
        max_photos: at most so many of an identity, chosen at random; None for all.
        classes: as given there. If None, an identity with too few usable photos is left out;
            otherwise it is an error.
        split: shares of train, validation and test.
        seed: of every choice here.
        checked: what :func:`check_photos` found of all the listing's files; None reads them here.

    Raises:
        ValueError: ``checked`` is of other files; the folder of photos is gone; fewer than two
            identities have three usable photos or, with ``classes``, one of them has not.
    """
    if checked is None:
        checked = check_photos(listing.root, listing.files, progress=True)
    files, hashes = _judge(listing.files, checked)
    usable = files[files["reason"] == ""]
    identities = listing.identities.set_index("identity")
    names = identities.index[identities["chosen"]]
    identities["usable"] = usable["identity"].value_counts().reindex(names, fill_value=0)

    kept: list[pd.DataFrame] = []
    too_few: dict[str, str] = {}
    rows_of = usable.groupby("identity").indices
    for name in names:
        own = usable.iloc[rows_of.get(name, [])]
        order = np.random.default_rng([seed, *name.encode()]).permutation(len(own))
        own = own.iloc[order[:max_photos]]
        groups = near_duplicates(hashes[own.index])
        if shortage := _shortage(groups):
            too_few[name] = shortage
            continue
        firsts = own["photo"].groupby(groups)
        group = firsts.transform("min").where(firsts.transform("size") > 1, "")
        kept.append(own.assign(label=len(kept), split=assign(groups, split), group=group))
    if too_few and classes is not None:
        short = ", ".join(f"{name!r} with {shortage}" for name, shortage in too_few.items())
        raise ValueError(
            f"Expected {classes} identities with {_ENOUGH}; fewer classes, or min_photos above "
            f"{min_photos}, choose others. Received: {short}"
        )
    if len(kept) < 2:
        left = [name for name in names if name not in too_few]
        raise ValueError(
            f"Expected at least two identities with {_ENOUGH}, in {listing.root}. "
            f"Received: {len(left)} ({', '.join(left)})"
        )

    for name, shortage in too_few.items():
        identities.loc[name, "chosen"] = False
        identities.loc[name, "reason"] = shortage
        own = usable.iloc[rows_of.get(name, [])]
        files.loc[own.index, "reason"] = f"its identity has {shortage}"
    stray = pd.DataFrame({"photo": listing.stray, "identity": "", "sha256": ""}).assign(
        reason="in no identity's folder"
    )
    excluded = pd.concat([files[files["reason"] != ""], stray])
    return Table(
        pd.concat(kept).sort_values("photo", ignore_index=True)[
            ["photo", "identity", "label", "split", "sha256", "group", "note"]
        ],
        excluded.sort_values("photo", ignore_index=True)[["photo", "identity", "sha256", "reason"]],
        identities.astype({"usable": "Int64"}).reset_index(),
    )


def _shortage(groups: np.ndarray) -> str:
    """What an identity has too few of to have a photo in each split; empty when it has enough."""
    count, different = len(groups), len(np.unique(groups))
    if count < len(SPLITS):
        return f"only {count} usable photo" + "s" * (count != 1)
    if different < len(SPLITS):
        return f"only {different} photo{'s' * (different != 1)} besides near-duplicates"
    return ""


def check_photos(root: Path, files: pd.DataFrame, *, progress: bool = False) -> pd.DataFrame:
    """What each photo alone says of its use.

    Args:
        root: of the photos.
        files: with the column photo.
        progress: draw a bar.

    Returns:
        A row a photo in their order: photo; reason to leave it out, or empty; hash, the perceptual
        one as 16 hexadecimal digits, and note, both empty where there is a reason.

    Raises:
        ValueError: the folder of photos is gone.
    """
    rows = []
    with photos.quiet():
        results = threads.ordered(_read, (root / photo for photo in files["photo"]))
        bar = tqdm(
            zip(files["photo"], results, strict=True),
            "reading photos",
            total=len(files),
            unit="photo",
            disable=None if progress else True,
        )
        for photo, result in bar:
            if isinstance(result, str):
                if not root.is_dir():
                    raise ValueError(
                        f"Expected the folder of photos, {root}, to stay while they are "
                        "read. Received: it is gone"
                    )
                rows.append((photo, result, "", ""))
            else:
                bits, note = result
                rows.append((photo, "", np.packbits(bits).tobytes().hex(), note))
    return pd.DataFrame(rows, columns=["photo", "reason", "hash", "note"])


def may_pass(checked: pd.DataFrame) -> bool:
    """Whether a photo was left out for what the disk or the memory did, not for what it holds."""
    return bool(checked["reason"].str.match("unreadable|not enough memory").any())


def _judge(files: pd.DataFrame, checked: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    """The files with columns reason (to leave a photo out, or empty) and note, and their hashes."""
    if checked["photo"].tolist() != files["photo"].tolist():
        raise ValueError(
            f"Expected checked to be of the listing's {len(files):,} photos, in their order. "
            f"Received: {len(checked):,} photos"
        )
    hashes = np.zeros((len(files), 64), bool)
    reasons, notes = [], []
    first_of: dict[str, str] = {}
    cells = (
        files["photo"],
        files["sha256"],
        *(checked[name] for name in ("reason", "hash", "note")),
    )
    for row, (photo, sha256, reason, code, note) in enumerate(zip(*cells, strict=True)):
        if reason:
            pass
        elif not sha256:  # a disk that fails now and then: what the file holds is not known
            reason = "unreadable: at first, when its hash was taken"
        elif first_of.setdefault(sha256, photo) != photo:
            reason = f"exact duplicate of {first_of[sha256]}"
        else:
            hashes[row] = np.unpackbits(np.frombuffer(bytes.fromhex(code), np.uint8))
        reasons.append(reason)
        notes.append("" if reason else note)
    return files.assign(reason=reasons, note=notes), hashes


def _read(path: Path) -> tuple[np.ndarray, str] | str:
    """Perceptual hash and note of a photo, or the reason why it can't be used."""
    try:
        image, note = photos.read(path)
    except ValueError as error:
        return str(error)
    return photos.perceptual_hash(image), note


def near_duplicates(hashes: np.ndarray) -> np.ndarray:
    """By photo, the number of its group: photos linked by pairs that differ in few bits.

    Args:
        hashes: bool (N, 64), of :func:`gradcam_adv.data.photos.perceptual_hash`.

    Returns:
        int (N,); a number that occurs once is a photo without near-duplicates.
    """
    count = len(hashes)
    if count == 0:
        return np.zeros(0, int)
    tree = KDTree(hashes.astype(float))
    one, other = tree.query_pairs(NEAR_DUPLICATE_BITS, p=1, output_type="ndarray").T
    links = coo_array((np.ones(len(one), bool), (one, other)), shape=(count, count))
    return connected_components(links, directed=False)[1]


def assign(groups: np.ndarray, shares: tuple[float, float, float]) -> list[str]:
    """A split for each photo, whole groups to one split, no split empty, near the shares.

    The largest group first, and of equals the first: it goes to the first split that still lacks
    as many photos, or else to the one that lacks most. So photos that are all groups of one fill
    train, validation and test in this order.

    Args:
        groups: int (N,), by photo the number of its group; at least three of them.
        shares: of train, validation and test.
    """
    lacking = dict(zip(SPLITS, _counts(len(groups), shares), strict=True))
    numbers, first, sizes = np.unique(groups, return_index=True, return_counts=True)
    split_of = {}
    empty = list(SPLITS)
    for placed, i in enumerate(np.lexsort((first, -sizes))):
        # The last groups are for the splits that have none.
        open_to = empty if len(sizes) - placed == len(empty) else SPLITS
        most = max(open_to, key=lacking.__getitem__)
        chosen = next((name for name in open_to if lacking[name] >= sizes[i]), most)
        split_of[numbers[i]] = chosen
        lacking[chosen] -= sizes[i]
        empty = [name for name in empty if name != chosen]
    return [split_of[group] for group in groups]


def _counts(count: int, shares: tuple[float, float, float]) -> tuple[int, int, int]:
    """Photos for train, validation and test, of three or more: each gets one."""
    _, validation, test = shares
    tests = max(1, round(count * test))
    validations = max(1, round(count * validation))
    if tests + validations >= count:  # training keeps one photo of three or more, too
        tests, validations = (count - 1) // 2, count - 1 - (count - 1) // 2
    return count - tests - validations, validations, tests


def summary(table: Table) -> str:
    """One line for the terminal: what is kept, what is left out and why, what else to know."""
    kept, excluded = table.kept, table.excluded
    parts = [f"{len(kept):,} photos of {kept['label'].nunique():,} people"]
    # A reason's kind is its beginning, without names of photos and details of the damage.
    kinds = excluded["reason"].str.replace(r"(exact duplicate).*|:.*", r"\1", regex=True)
    parts.append(f"{len(excluded):,} left out" + _tally(kinds))
    grouped = kept["group"][kept["group"] != ""]
    if groups := grouped.nunique():
        parts.append(
            f"{groups:,} group{'s' * (groups > 1)} of near-duplicates ({len(grouped):,} photos), "
            "each in one split"
        )
    noted = kept["note"][kept["note"] != ""]
    if len(noted):
        kinds = noted.str.replace(r"\d+ frames", "several frames", regex=True)
        parts.append(f"{len(noted):,} with a note{_tally(kinds)}")
    return "; ".join(parts)


def _tally(kinds: pd.Series[str]) -> str:
    """ " (3 of this, 2 of that)", or empty when there are none."""
    listed = ", ".join(f"{count:,} {kind}" for kind, count in kinds.value_counts().items())
    return f" ({listed})" if listed else ""


def share_left_out(table: Table) -> float:
    """The share of the photos looked at, 0 to 1, that can't be used; max_photos aside."""
    usable = table.identities["usable"][table.identities["chosen"]].sum()
    return len(table.excluded) / (len(table.excluded) + int(usable))
