"""A finished run as one small file: its tables, manifests and hashes; no photos, maps or models."""

from __future__ import annotations

import contextlib
import re
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from gradcam_adv.files import write
from gradcam_adv.runs.records import MANIFEST

# What an archive holds, by its path in the run: the manifests of the run and of its report, and
# the tables of the report.
_NAMES = re.compile(rf"{MANIFEST}|report/\w+/{MANIFEST}|tables/(\w+/)?\w+\.csv")
# More than this, unpacked, is no run's: 1,905 photos of five networks take some 0.5e9 bytes.
MOST_BYTES = 4 * 10**9
# The first date that an archive can hold, so that a run always gives the same bytes.
_NO_DATE = (1980, 1, 1, 0, 0, 0)


def write_archive(run: Path, report: Path, archive: Path) -> int:
    """Write the results of a run into a zip file that :func:`unpacked` opens; the number of files.

    Args:
        run: folder of a run whose report is finished.
        report: folder of the report's manifest, in ``run``.
        archive: the file to write.
    """
    files = [run / MANIFEST, report / MANIFEST, *sorted((run / "tables").rglob("*.csv"))]
    with write.whole_file(archive) as temporary, zipfile.ZipFile(temporary, "w") as content:
        for path in files:
            member = zipfile.ZipInfo(path.relative_to(run).as_posix(), _NO_DATE)
            content.writestr(member, path.read_bytes(), zipfile.ZIP_DEFLATED)
    return len(files)


@contextlib.contextmanager
def unpacked(archive: Path) -> Iterator[Path]:
    """The folder of a run out of an archive, for as long as the context lasts.

    ValueError if it holds anything but results of a run, or is damaged.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            with zipfile.ZipFile(archive) as content:
                _check(content)
                content.extractall(folder)
        except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError) as error:
            raise ValueError(
                f"Expected a whole archive of a run. Received: {archive}: {error}"
            ) from None
        except ValueError as error:
            raise ValueError(f"{error}, in {archive}") from None
        yield Path(folder)


def _check(content: zipfile.ZipFile) -> None:
    """ValueError for a name that no run has, or for too much."""
    members = content.infolist()
    for member in members:
        if not _NAMES.fullmatch(member.filename):
            raise ValueError(
                "Expected an archive of a run's manifests and tables alone. "
                f"Received: {member.filename!r}"
            )
    total = sum(member.file_size for member in members)
    if total > MOST_BYTES:
        raise ValueError(
            f"Expected an archive of at most {MOST_BYTES:,} bytes of tables. Received: {total:,}"
        )
