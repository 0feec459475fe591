"""The table of photos: which are used, of which identity and in which split, and which are not."""

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
# Of the 64 bits of the perceptual hash. A copy of a photo that was compressed again, halved in
# size or made a little brighter differs in 0 to 4 bits. Of 39,450 pairs of different LFW photos of
# one person, 3 pairs differ in 4 bits or fewer.
NEAR_DUPLICATE_BITS = 4
# A study stops if it leaves out a larger share of its photos, unless the user allows it.
MAXIMUM_LEFT_OUT = 0.1

_ENOUGH = "three or more usable photos, near-duplicates counted once"


@dataclass(frozen=True)
class Table:
    """The photos of a study, and the photos that were left out.

    Attributes:
        kept: the photos in use, sorted by photo. Columns photo, identity, label (the number of the
            identity), split (one of SPLITS), sha256, group (the first of its near-duplicates, or
            empty) and note (what was ignored when the photo was read, mostly empty).
        excluded: the other photos, sorted by photo. Columns photo, identity (empty for a photo
            outside the folders of the identities), sha256, reason.
        identities: those of the listing, with the column usable: how many photos of a chosen
            identity could be read and are no exact duplicates, before max_photos applies. An
            identity with too few of them is no longer chosen, and has a reason.
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
    """Read every photo once, leave out unusable photos, and split the others.

    The photos of an identity are shuffled, depending only on the seed and the identity's name.
    Validation and test get their rounded shares and training the rest, each at least one photo.
    Near-duplicates of one identity stay in one split. Of files with equal bytes only the first is
    kept, so no two splits contain the same photo.

    Args:
        listing: from :func:`gradcam_adv.data.sources.list_photos`.
        min_photos: as given to ``list_photos``, for the error message. There, unusable photos
            count as well.
        max_photos: the most photos of one identity, chosen at random; None for all.
        classes: as given to ``list_photos``. If None, an identity with too few usable photos is
            left out; otherwise it is an error.
        split: the shares of train, validation and test.
        seed: of every random choice here.
        checked: from :func:`check_photos` for the files of the listing; None reads them here.

    Raises:
        ValueError: ``checked`` is about other files; the folder of photos has disappeared; fewer
            than two identities have three usable photos; or ``classes`` is given and an identity
            has fewer than three.

    Example:
        >>> from gradcam_adv.data.sources import list_photos
        >>> listing = list_photos("orl", classes=2, min_photos=3, seed=0)
        >>> table = make_table(
        ...     listing, min_photos=3, max_photos=None, classes=2, split=(0.8, 0.1, 0.1), seed=0
        ... )
        >>> table.kept["split"].value_counts().to_dict()
        {'train': 16, 'validation': 2, 'test': 2}
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
    positions = usable.groupby("identity").indices
    for name in names:
        rows = usable.iloc[positions.get(name, [])]
        order = np.random.default_rng([seed, *name.encode()]).permutation(len(rows))
        chosen = rows.iloc[order[:max_photos]]
        groups = near_duplicates(hashes[chosen.index])
        if shortage := _shortage(groups):
            too_few[name] = shortage
            identities.loc[name, ["chosen", "reason"]] = False, shortage
            files.loc[rows.index, "reason"] = f"its identity has {shortage}"
            continue
        firsts = chosen["photo"].groupby(groups)
        group = firsts.transform("min").where(firsts.transform("size") > 1, "")
        kept.append(chosen.assign(label=len(kept), split=assign(groups, split), group=group))
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

    stray = pd.DataFrame({"photo": listing.stray, "identity": "", "sha256": ""})
    stray["reason"] = "in no identity's folder"
    in_use = pd.concat(kept).sort_values("photo", ignore_index=True)
    excluded = pd.concat([files[files["reason"] != ""], stray])
    excluded = excluded.sort_values("photo", ignore_index=True)
    return Table(
        in_use[["photo", "identity", "label", "split", "sha256", "group", "note"]],
        excluded[["photo", "identity", "sha256", "reason"]],
        identities.astype({"usable": "Int64"}).reset_index(),
    )


def _shortage(groups: np.ndarray) -> str:
    """Why an identity has too few photos for one in each split; empty if it has enough."""
    count, different = len(groups), len(np.unique(groups))
    if count < len(SPLITS):
        return f"only {count} usable photo" + "s" * (count != 1)
    if different < len(SPLITS):
        return f"only {different} photo{'s' * (different != 1)}, near-duplicates counted once"
    return ""


def check_photos(root: Path, files: pd.DataFrame, *, progress: bool = False) -> pd.DataFrame:
    """Read each photo of a table below the folder ``root``, to see whether it can be used.

    One row per photo, in the order of ``files``: photo; reason to leave the photo out, or empty;
    hash, the perceptual hash as 16 hexadecimal digits; and note. hash and note are empty if there
    is a reason. It is a ValueError if the folder of photos disappears.
    """

    def check(photo: str) -> tuple[str, str, str, str]:
        try:
            with photos.opened(root / photo) as (image, note):
                bits = photos.perceptual_hash(image)
        except ValueError as error:
            return photo, str(error), "", ""
        return photo, "", np.packbits(bits).tobytes().hex(), note

    rows = []
    hidden = None if progress else True
    found = threads.map_in_threads(check, files["photo"])
    with photos.quiet():
        for row in tqdm(found, "reading photos", len(files), unit="photo", disable=hidden):
            if row[1] and not root.is_dir():
                raise ValueError(
                    f"Expected the folder of photos, {root}, to stay while they are "
                    "read. Received: it is gone"
                )
            rows.append(row)
    return pd.DataFrame(rows, columns=["photo", "reason", "hash", "note"])


def may_pass(checked: pd.DataFrame) -> bool:
    """Whether a photo failed because of the disk or the memory, so that it may be read later."""
    return bool(checked["reason"].str.match("unreadable|not enough memory").any())


def _judge(files: pd.DataFrame, checked: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    """Add columns reason (to leave the photo out, or empty) and note; and give bool hashes (N, 64).

    The hash of a photo with a reason is all False.
    """
    if checked["photo"].tolist() != files["photo"].tolist():
        raise ValueError(
            f"Expected checked with one row for each of the listing's {len(files):,} photos, in "
            f"their order. Received: {len(checked):,} photos"
        )
    reason = checked["reason"].set_axis(files.index)
    # If the disk fails now and then, the photo may be readable although its hash is missing.
    not_hashed = files["sha256"] == ""
    reason = reason.mask((reason == "") & not_hashed, "unreadable: its SHA-256 is missing")
    read = files[reason == ""]
    first = read.groupby("sha256")["photo"].transform("first")
    copies = first[first != read["photo"]]
    reason[copies.index] = "exact duplicate of " + copies

    usable = (reason == "").to_numpy()
    hashes = np.zeros((len(files), 64), bool)
    codes = "".join(checked["hash"][usable])
    hashes[usable] = np.unpackbits(np.frombuffer(bytes.fromhex(codes), np.uint8)).reshape(-1, 64)
    note = checked["note"].set_axis(files.index).where(usable, "")
    return files.assign(reason=reason, note=note), hashes


def near_duplicates(hashes: np.ndarray) -> np.ndarray:
    """Group photos that are linked by pairs of hashes that differ in at most NEAR_DUPLICATE_BITS.

    From bool (N, 64) to int (N,), the number of each photo's group.
    """
    count = len(hashes)
    if count == 0:
        return np.zeros(0, int)
    tree = KDTree(hashes.astype(float))
    one, other = tree.query_pairs(NEAR_DUPLICATE_BITS, p=1, output_type="ndarray").T
    links = coo_array((np.ones(len(one), bool), (one, other)), shape=(count, count))
    return connected_components(links, directed=False)[1]


def assign(groups: np.ndarray, shares: tuple[float, float, float]) -> list[str]:
    """One of SPLITS per photo, near the shares, with whole groups and no empty split.

    Groups, of which there are at least three, are placed from the largest to the smallest, and
    groups of equal size in their order. A group goes to the first split that lacks as many photos
    as it has, or else to the split that lacks most. So if no photo has a near-duplicate, train is
    filled first, then validation, then test.

    Example:
        >>> assign(np.array([0, 1, 2, 2, 3]), (0.6, 0.2, 0.2))
        ['train', 'validation', 'train', 'train', 'test']
    """
    lacking = dict(zip(SPLITS, _counts(len(groups), shares), strict=True))
    numbers, first, sizes = np.unique(groups, return_index=True, return_counts=True)
    split_of = {}
    empty = list(SPLITS)
    for placed, i in enumerate(np.lexsort((first, -sizes))):
        # If as many groups are left as splits are empty, each of them goes to an empty split.
        open_to = empty if len(sizes) - placed == len(empty) else SPLITS
        most = max(open_to, key=lacking.__getitem__)
        chosen = next((name for name in open_to if lacking[name] >= sizes[i]), most)
        split_of[numbers[i]] = chosen
        lacking[chosen] -= sizes[i]
        empty = [name for name in empty if name != chosen]
    return [split_of[group] for group in groups]


def deal(table: pd.DataFrame, folds: int) -> np.ndarray:
    """The fold of each photo of a table of photos, int (N,): 0 to ``folds`` - 1.

    Photos of an identity are dealt out evenly, near-duplicates together and first. Among equal
    folds the one with the fewest photos is next. So an identity with three photos that differ is in
    three folds.

    Raises:
        ValueError: too few photos, or near-duplicates among them, for a photo in each fold.

    Example:
        >>> photos = {"photo": list("abcdefg"), "identity": list("xxxxyyy"), "group": ""}
        >>> deal(pd.DataFrame(photos), 3)
        array([0, 1, 2, 0, 1, 2, 0])
    """
    fold = np.zeros(len(table), int)
    in_all = np.zeros(folds, int)
    together = table["group"].where(table["group"] != "", table["photo"])
    for _, rows in together.groupby(table["identity"]):
        of_identity = np.zeros(folds, int)
        groups = list(rows.groupby(rows).indices.values())
        for group in sorted(groups, key=len, reverse=True):
            next_fold = np.lexsort((in_all, of_identity))[0]
            fold[rows.index[group]] = next_fold
            of_identity[next_fold] += len(group)
            in_all[next_fold] += len(group)
    if not in_all.all():
        raise ValueError(
            f"Expected photos for each of {folds} folds. Received: {len(table)} photos, "
            "near-duplicates counted with them"
        )
    return fold


def _counts(count: int, shares: tuple[float, float, float]) -> tuple[int, int, int]:
    """How many of ``count`` photos, at least three, train, validation and test get."""
    _, validation, test = shares
    tests = max(1, round(count * test))
    validations = max(1, round(count * validation))
    if tests + validations >= count:  # training needs a photo as well
        tests, validations = (count - 1) // 2, count - 1 - (count - 1) // 2
    return count - tests - validations, validations, tests


def summary(table: Table) -> str:
    """One line of text: how many photos are kept, how many are left out and why, and notes."""
    kept, excluded = table.kept, table.excluded
    # The kind of a reason is its beginning, without names of photos and details of the damage.
    kinds = excluded["reason"].str.replace(r"(exact duplicate).*|:.*", r"\1", regex=True)
    text = f"{len(kept):,} photos of {kept['label'].nunique():,} people; "
    text += f"{len(excluded):,} left out{_tally(kinds)}"
    grouped = kept["group"][kept["group"] != ""]
    if groups := grouped.nunique():
        text += (
            f"; {groups:,} group{'s' * (groups > 1)} of near-duplicates ({len(grouped):,} photos)"
        )
        text += ", each in one split"
    noted = kept["note"][kept["note"] != ""]
    if len(noted):
        kinds = noted.str.replace(r"\d+ frames", "several frames", regex=True)
        text += f"; {len(noted):,} with a note{_tally(kinds)}"
    return text


def _tally(kinds: pd.Series[str]) -> str:
    """The number of each kind, such as " (3 truncated, 2 empty file)"; empty for no kinds."""
    listed = ", ".join(f"{count:,} {kind}" for kind, count in kinds.value_counts().items())
    return f" ({listed})" if listed else ""


def share_left_out(table: Table) -> float:
    """The share of unusable photos, 0 to 1; photos beyond max_photos count as usable."""
    usable = table.identities["usable"][table.identities["chosen"]].sum()
    return len(table.excluded) / (len(table.excluded) + int(usable))
