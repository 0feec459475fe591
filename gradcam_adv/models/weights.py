"""Where a network's weights come from: Keras' cache or server, the user's files, or chance."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gradcam_adv.files import artifacts, untrusted
from gradcam_adv.models.backbones import Backbone, find

# Seconds for one look at whether the weights' server answers, name resolution included.
PROBE_SECONDS = 3.0
# Seconds without a byte after which a download is given up.
STALL_SECONDS = 20.0


@dataclass(frozen=True)
class Weights:
    """Where a network's weights come from, decided before any work.

    Attributes:
        origin: "imagenet" (Keras' own file), "file" (given by the user) or "random".
        path: the weights file; None for random weights, and for those still to be downloaded.
        sha256: of that file; None where there is no path.
        note: why weights are random though ImageNet's were wished for; else empty.
    """

    origin: Literal["imagenet", "file", "random"]
    path: Path | None = None
    sha256: str | None = None
    note: str = ""


def resolve(wanted: str, names: Iterable[str], *, download: bool = True) -> dict[str, Weights]:
    """Find the weights of each network.

    Args:
        wanted: "imagenet", "random", "auto" (imagenet, else random) or a directory.
        names: of networks.
        download: what Keras' server has; False only looks whether it answers.

    Raises:
        ValueError: ImageNet weights can't be had, or the directory lacks a network's file or has
            one that is no weights file, see :func:`gradcam_adv.files.untrusted.check_weights`.
    """
    names = list(names)
    if wanted == "random":
        return {name: Weights("random") for name in names}
    if wanted in ("imagenet", "auto"):
        or_random = wanted == "auto"
        return {name: _imagenet(find(name), or_random, download) for name in names}
    directory = Path(wanted)
    if not os.path.isdir(directory):  # False as well for what can be no path
        raise ValueError(
            "Expected weights 'imagenet', 'random', 'auto' or an existing directory. "
            f"Received: {wanted!r}"
        )
    files = {name: _file_in(directory, find(name)) for name in names}
    for name, path in files.items():
        untrusted.check_weights(path, find(name).title)
    return {name: Weights("file", path, artifacts.sha256(path)) for name, path in files.items()}


def _file_in(directory: Path, backbone: Backbone) -> Path:
    # "inception_v3_weights.h5" and "InceptionV3.weights.h5" are InceptionV3's;
    # "resnet50v2.h5" and "resnet50_v2.h5" are not ResNet50's.
    letters, number = re.split(r"(?=v?\d|$)", backbone.name, maxsplit=1)
    own = re.compile(rf"{letters}[-_]?{number}(?!\d|[-_]?v\d)", re.IGNORECASE)
    found = [
        path for path in sorted(directory.glob("*.h5")) if own.match(path.name) and path.is_file()
    ]
    if len(found) > 1:
        found = [path for path in found if "notop" in path.name.lower()] or found
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise ValueError(
            f"Expected one file {backbone.name}*.h5 (weights without top) in {directory}. "
            f"Received: {names}"
        )
    return found[0]


def _imagenet(backbone: Backbone, or_random: bool, download: bool) -> Weights:
    path, problem = _imagenet_file(backbone, download)
    if path is not None:
        return Weights("imagenet", path, artifacts.sha256(path))
    if not problem:
        return Weights("imagenet")
    if or_random:
        return Weights("random", note=problem)
    raise ValueError(
        f"Expected ImageNet weights of {backbone.title}. Received: none, {problem}. "
        "Give a directory of weights files (--weights DIR) or take --weights random."
    )


def _imagenet_file(backbone: Backbone, download: bool) -> tuple[Path | None, str]:
    """Keras' weights file out of its cache or its server, or None and why it can't be had.

    None without a reason is a file that the server would give, had it been asked to.
    """
    home = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras"))
    name = backbone.weights_url.rsplit("/", 1)[1]
    cached = home / "models" / name
    if cached.is_file() and _md5(cached) == backbone.weights_md5:
        return cached, ""
    not_cached = f"not whole in Keras' cache ({home / 'models'})"
    problem = _unreachable(backbone.weights_url)
    if problem:
        return None, f"{not_cached}, and {problem}"
    if not download:
        return None, ""
    import keras

    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(STALL_SECONDS)
    try:
        path = keras.utils.get_file(
            name,
            origin=backbone.weights_url,
            file_hash=backbone.weights_md5,
            cache_dir=str(home),
            cache_subdir="models",
        )
    except Exception as error:  # get_file raises bare Exception for a failed transfer
        if not isinstance(error, ValueError):  # which says that the file is not the right one
            _problems[_address(backbone.weights_url)] = str(error)
        return None, f"{not_cached}, and the download failed: {error}"
    finally:
        socket.setdefaulttimeout(timeout)
    return Path(path), ""


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _unreachable(url: str) -> str:
    """Why the server of ``url`` doesn't answer, or an empty string when it does."""
    if _address(url) not in _problems:
        _problems[_address(url)] = _probe(_address(url))
    return _problems[_address(url)]


def _address(url: str) -> str:
    return "/".join(url.split("/", 3)[:3])


# What was wrong with a server, once found: being offline costs one look for all networks.
_problems: dict[str, str] = {}


def _probe(address: str) -> str:
    # urllib, so that a proxy counts; a thread, since name resolution knows no time limit.
    problem = f"no answer from {address} within {PROBE_SECONDS:g} s"

    def look() -> None:
        nonlocal problem
        try:
            urllib.request.urlopen(
                urllib.request.Request(address, method="HEAD"), timeout=PROBE_SECONDS
            ).close()
        except urllib.error.HTTPError:
            problem = ""  # an answer, if not a friendly one: the server is there
        except (OSError, http.client.HTTPException) as error:
            problem = f"{address}: {getattr(error, 'reason', error)}"
        else:
            problem = ""

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    return problem
