"""Hashes: of files, to see whether they changed; of inputs, to name what was made from them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

BLOCK = 2**18  # bytes that are read at a time

# Of one file: size, mtime_ns and sha256.
Facts = Mapping[str, Any]


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of(file: BinaryIO, size: int) -> str:
    """The hash of the first ``size`` bytes of an opened file."""
    digest = hashlib.sha256()
    while size > 0 and (block := file.read(min(size, BLOCK))):
        digest.update(block)
        size -= len(block)
    return digest.hexdigest()


def fingerprint(inputs: Mapping[str, Any]) -> str:
    """Hash of everything that a result depends on; equal for equal JSON values."""
    text = json.dumps(inputs, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def facts(path: Path) -> Facts:
    found = path.stat()
    return {"size": found.st_size, "mtime_ns": found.st_mtime_ns, "sha256": sha256(path)}


def are_facts(value: object) -> bool:
    match value:
        case {"size": int(), "mtime_ns": int(), "sha256": str()}:
            return True
    return False


def is_unchanged(path: Path, before: Facts | None) -> bool:
    """Whether a file is still as :func:`facts` found it; False without facts.

    A file of the same size and time counts as unchanged; at another time its hash decides.
    """
    # A record may come from anybody. isfile is also False for what can't be a path.
    if before is None or not are_facts(before) or not os.path.isfile(path):
        return False
    found = path.stat()
    if found.st_size != before["size"]:
        return False
    return found.st_mtime_ns == before["mtime_ns"] or sha256(path) == before["sha256"]
