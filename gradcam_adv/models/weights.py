"""The sources of a network's weights: Keras' cache or server, the user's files, or random."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import re
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gradcam_adv import machine, untrusted
from gradcam_adv.files import hashes
from gradcam_adv.models.backbones import Backbone, find

# How long to wait for an answer from the server of the weights, with name resolution.
PROBE_SECONDS = 3.0
# A download stops with an error after this many seconds without data.
STALL_SECONDS = 20.0
# What a study's key ``weights`` may be; anything else is a directory.
KINDS = ("imagenet", "random", "auto")


@dataclass(frozen=True)
class Weights:
    """The source of a network's weights, chosen before any work starts.

    Attributes:
        origin: "imagenet" (Keras' file), "file" (from the user) or "random".
        path: the weights file; None for random weights, and for weights that are not downloaded
            yet.
        sha256: of that file; None if there is no path.
        note: why the weights are random although ImageNet weights were preferred; otherwise empty.
    """

    origin: Literal["imagenet", "file", "random"]
    path: Path | None = None
    sha256: str | None = None
    note: str = ""


def resolve(wanted: str, names: Iterable[str], *, download: bool = True) -> dict[str, Weights]:
    """Find the weights of each network.

    Args:
        wanted: "imagenet", "random", "auto" (ImageNet weights if possible, else random) or a
            directory with one weights file per network.
        names: of the networks.
        download: whether to download missing ImageNet weights; False only checks that Keras'
            server answers.

    Returns:
        The weights by the name of the network.

    Raises:
        ValueError: unknown network; ImageNet weights are not available; or the directory has no
            file for a network, several files, or a file that
            :func:`opened` refuses.

    Example:
        >>> resolve("random", ["vgg16"])["vgg16"].origin
        'random'
    """
    names = list(names)
    if wanted == "random":
        return {name: Weights("random") for name in names}
    if wanted in ("imagenet", "auto"):
        return {name: _imagenet(find(name), wanted == "auto", download) for name in names}
    directory = Path(wanted)
    if not os.path.isdir(directory):  # unlike Path.is_dir, never an error
        raise ValueError(
            "Expected weights 'imagenet', 'random', 'auto' or an existing directory. "
            f"Received: {wanted!r}"
        )
    files = {name: _file_in(directory, find(name)) for name in names}
    for name, path in files.items():
        with opened(path, find(name).title):
            pass
    return {name: Weights("file", path, hashes.sha256(path)) for name, path in files.items()}


@contextlib.contextmanager
def opened(path: Path, title: str) -> Iterator[Path]:
    """A checked copy of a file of weights, for as long as the context lasts.

    ValueError, with the ``title`` of the network, if it does not exist or holds anything but
    weights. Whether the weights fit the network is not checked.
    """
    with contextlib.ExitStack() as stack:
        try:
            copy, _ = stack.enter_context(untrusted.checked(path, "weights"))
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise ValueError(
                f"Expected weights of {title} without top. Received: {path}: {why}"
            ) from error
        yield copy


def moved(wanted: str, move: Callable[[str], str]) -> str:
    """The key ``weights`` of a study with its directory moved, if it names one."""
    if wanted in KINDS:
        return wanted
    path = move(wanted)
    return os.path.join(".", path) if path in KINDS else path


def _file_in(directory: Path, backbone: Backbone) -> Path:
    """The one weights file of a network in a directory."""
    # "inception_v3_weights.h5" and "InceptionV3.weights.h5" are InceptionV3's;
    # "resnet50v2.h5" and "resnet50_v2.h5" are not ResNet50's.
    letters, number = re.split(r"(?=v?\d|$)", backbone.name, maxsplit=1)
    name = re.compile(rf"{letters}[-_]?{number}(?!\d|[-_]?v\d)", re.IGNORECASE)
    files = (path for path in sorted(directory.glob("*.h5")) if path.is_file())
    found = [path for path in files if name.match(path.name)]
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
    """Keras' file from its cache or its server; if there is none, random weights or ValueError.

    With ``download`` False, a file on the server stays there.
    """
    if not backbone.weights_url:
        if or_random:
            return Weights("random", note=f"not made for {backbone.title}")
        raise ValueError(
            f"Expected a network with ImageNet weights, or weights 'auto' or 'random'. "
            f"Received: {backbone.name}, which has none"
        )
    home = machine.keras_home()
    path = home / "models" / backbone.weights_url.rsplit("/", 1)[1]
    if path.is_file():
        with path.open("rb") as file:
            if hashlib.file_digest(file, "md5").hexdigest() == backbone.weights_md5:
                return Weights("imagenet", path, hashes.sha256(path))
    server = "/".join(backbone.weights_url.split("/", 3)[:3])
    problem = _unreachable(server)
    if not problem and not download:
        return Weights("imagenet")
    if not problem:
        import keras

        timeout = socket.getdefaulttimeout()
        socket.setdefaulttimeout(STALL_SECONDS)
        try:
            downloaded = keras.utils.get_file(
                path.name,
                origin=backbone.weights_url,
                file_hash=backbone.weights_md5,
                cache_dir=str(home),
                cache_subdir="models",
            )
        except Exception as error:  # get_file raises bare Exception for a failed transfer
            if not isinstance(error, ValueError):  # a ValueError says that the hash is wrong
                _problems[server] = str(error)
            problem = f"the download failed: {error}"
        else:
            return Weights("imagenet", Path(downloaded), hashes.sha256(Path(downloaded)))
        finally:
            socket.setdefaulttimeout(timeout)
    problem = f"missing or incomplete in Keras' cache ({home / 'models'}), and {problem}"
    if or_random:
        return Weights("random", note=problem)
    raise ValueError(
        f"Expected ImageNet weights of {backbone.title}. Received: none, {problem}. "
        "Give a directory of weights files (--weights DIR) or take --weights random."
    )


# Why each server that was asked does not answer, or "". So without a network, one wait is enough.
_problems: dict[str, str] = {}


def _unreachable(server: str) -> str:
    """Why a server does not answer, or an empty string; each server is asked once."""
    if server in _problems:
        return _problems[server]
    # With urllib, because it uses proxies. In a thread, because name resolution has no time limit.
    problem = f"no answer from {server} within {PROBE_SECONDS:g} s"

    def look() -> None:
        nonlocal problem
        request = urllib.request.Request(server, method="HEAD")
        try:
            urllib.request.urlopen(request, timeout=PROBE_SECONDS).close()
        except urllib.error.HTTPError:
            problem = ""  # an error status is an answer as well
        except (OSError, http.client.HTTPException) as error:
            problem = f"{server}: {getattr(error, 'reason', error)}"
        else:
            problem = ""

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    _problems[server] = problem
    return problem
