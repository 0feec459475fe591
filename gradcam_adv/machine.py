"""What this process may use: Keras' backend, cores, memory, a GPU; as far as a container allows."""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

# Linux describes here the control groups that limit a container.
CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")
MEMORY_FACTS = Path("/proc/meminfo")

# Keras' backends that this package supports: name in Keras (and of the Python package), and title.
TITLES = {"tensorflow": "TensorFlow", "torch": "PyTorch", "jax": "JAX"}


def backend() -> str:
    """The backend that Keras will start, found without importing Keras, which takes seconds.

    Raises:
        ValueError: this package does not support it.
    """
    name, place = os.environ.get("KERAS_BACKEND") or "", "KERAS_BACKEND"
    if not name:
        home = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras"))
        place = str(home / "keras.json")
        try:
            name = str(json.loads(Path(place).read_text(encoding="utf-8"))["backend"])
        except (OSError, ValueError, LookupError, TypeError):  # Keras takes its default, too
            name = "tensorflow"
    if name not in TITLES:
        raise ValueError(
            f"Expected {place} to name a backend of Keras out of {', '.join(TITLES)}. "
            f"Received: {name!r}"
        )
    return name


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that make numbers, Keras' backend among them."""
    packages = (
        *("gradcam-adv", "keras", backend(), "numpy", "scipy", "scikit-image", "pillow"),
        *("imagehash", "mtcnn"),
    )
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


def cores() -> int:
    """How many cores this process may use: the default number of threads."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def gpu_memory() -> float:
    """Bytes of memory of the smallest NVIDIA GPU that this process may use; 0 without a GPU.

    Asks the driver's tool, since starting a backend takes seconds. The backend may not use it.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    chosen = [] if visible is None else [f"--id={visible}"]
    if visible in ("", "-1"):
        return 0.0
    command = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits", *chosen]
    try:
        told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
        return min(float(line) for line in told.stdout.split()) * 2**20
    except (OSError, subprocess.SubprocessError, ValueError):  # no tool, no driver, no number
        return 0.0


def memory() -> tuple[float, float]:
    """Bytes of memory that this process may use at most, and bytes free; NaN if unknown."""
    total = available = math.nan
    if hasattr(os, "sysconf"):
        total = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    if MEMORY_FACTS.is_file():
        facts = dict(line.split(":", 1) for line in MEMORY_FACTS.read_text().splitlines())
        available = 1024 * float(facts.get("MemAvailable", "nan").split()[0])
    for folder in _cgroups("memory"):
        limit = _number(folder, "memory.max", "memory.limit_in_bytes")
        used = _number(folder, "memory.current", "memory.usage_in_bytes") - _file_cache(folder)
        total, available = min(total, limit), min(available, limit - used)
    return total, available


def processor_quota() -> float:
    """How many processors a container may use; infinite without a limit."""
    quota = math.inf
    for folder in _cgroups("cpu"):
        words = _text(folder, "cpu.max").split() or [
            _text(folder, "cpu.cfs_quota_us"),
            _text(folder, "cpu.cfs_period_us"),
        ]
        if all(word.isdigit() for word in words):  # else "max" or -1
            quota = min(quota, int(words[0]) / int(words[1]))
    return quota


def _cgroups(controller: str) -> Iterator[Path]:
    """The control groups of this process, innermost first; of version 2 or 1."""
    if not OWN_CGROUPS.is_file():
        return
    for line in OWN_CGROUPS.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers or controller in controllers.split(","):
            root = CGROUPS / controller if controllers else CGROUPS
            inmost = root / path.lstrip("/")
            yield from (place for place in (inmost, *inmost.parents) if place.is_relative_to(root))


def _text(folder: Path, name: str) -> str:
    # Inside a container the path may be one that exists only outside.
    path = folder / name
    return path.read_text().strip() if path.is_file() else ""


def _number(folder: Path, *names: str) -> float:
    """The number in the first of these files that exists; infinite for "max" or without a file."""
    found = next((text for name in names if (text := _text(folder, name))), "max")
    return math.inf if found == "max" else float(found)


def _file_cache(folder: Path) -> float:
    """Memory that counts as used but is freed as soon as a program needs it."""
    facts = dict(line.split() for line in _text(folder, "memory.stat").splitlines())
    return float(facts.get("total_inactive_file", facts.get("inactive_file", 0)))
