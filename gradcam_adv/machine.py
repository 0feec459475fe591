"""What this process may use: Keras' backend, cores, memory, a GPU; as far as a container allows."""

from __future__ import annotations

import functools
import importlib.util
import json
import math
import os
import platform
import subprocess
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

# Linux describes here the control groups that limit a container.
CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")
MEMORY_FACTS = Path("/proc/meminfo")

# Keras' backends that this package supports: name in Keras (and of the Python package), and title.
TITLES = {"tensorflow": "TensorFlow", "torch": "PyTorch", "jax": "JAX"}


# Variables that change numbers, by the last digits or more: of TensorFlow, oneDNN, XLA, CUDA,
# PyTorch, JAX, and of Keras those that can't be set once it has been imported.
_NUMERIC = (
    *("TF_ENABLE_ONEDNN_OPTS", "TF_SET_ONEDNN_FPMATH_MODE"),
    *("ONEDNN_MAX_CPU_ISA", "ONEDNN_DEFAULT_FPMATH_MODE", "TF_CONV2D_USE_FP16_ACCUMULATE"),
    *("DNNL_MAX_CPU_ISA", "DNNL_DEFAULT_FPMATH_MODE"),
    *("TF_XLA_FLAGS", "XLA_FLAGS", "TF_USE_CUBLASLT", "NVIDIA_TF32_OVERRIDE"),
    *("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "JAX_ENABLE_X64", "JAX_DISABLE_JIT", "MKL_CBWR"),
    *("KERAS_TORCH_DEVICE", "KERAS_NNX_ENABLED"),
)


@functools.cache
def numeric_environment() -> dict[str, str]:
    """Environment variables that change numbers, those that are set; usually none.

    As they are at the first call: a backend reads them only once, and ours may add to them.
    """
    return {name: os.environ[name] for name in _NUMERIC if os.environ.get(name)}


def keras_home() -> Path:
    """Keras' folder, with its settings and its cache of weights, as Keras itself chooses it."""
    if "KERAS_HOME" in os.environ:
        return Path(os.path.expanduser(os.environ["KERAS_HOME"]))
    home = os.path.expanduser("~")  # unlike Path.home(), no error where nobody has a home
    return Path(home if os.access(home, os.W_OK) else "/tmp", ".keras")


def check_system() -> None:
    """OSError on Windows, where no folder can be locked and no child process limited as needed.

    There the library works on models in memory: attacks, explanations and the whole measurement.
    """
    if importlib.util.find_spec("fcntl") is None:
        raise OSError(
            "Expected Linux or macOS for studies, and for model and weights files, since folders "
            "are locked and what looks at files is limited; on Windows, WSL is a Linux "
            f"(wsl --install). Received: {platform.system()}, without fcntl"
        )


def backend() -> str:
    """The backend that Keras will start, found without importing Keras, which takes seconds.

    Raises:
        ValueError: this package does not support it, or Keras can't start with its settings.
    """
    _check_limits()
    settings, place = keras_settings(), "KERAS_BACKEND"
    name = os.environ.get("KERAS_BACKEND")
    if not name:
        name, place = settings.get("backend", "tensorflow"), str(keras_home() / "keras.json")
    if name not in list(TITLES):
        raise ValueError(
            f"Expected {place} to name a backend of Keras out of {', '.join(TITLES)}. "
            f"Received: {name!r}"
        )
    return name


def _check_limits() -> None:
    """ValueError for a limit on epochs or steps that is no number: Keras would not start."""
    for name in ("KERAS_MAX_EPOCHS", "KERAS_MAX_STEPS_PER_EPOCH"):
        if not os.environ.get(name, "0").strip().isdecimal():
            raise ValueError(
                f"Expected {name} as a whole number, or not set. Received: {os.environ[name]!r}"
            )


# What Keras accepts in keras.json, the usual value last; with another value it does not start.
_CHOICES = {
    "floatx": ("float16", "float64", "float32"),
    "image_data_format": ("channels_first", "channels_last"),
}


def keras_settings() -> dict[str, Any]:
    """What keras.json holds; ValueError as of :func:`backend`."""
    path = keras_home() / "keras.json"
    if not os.path.exists(path):
        return {}
    content, received = None, "no regular file"
    if os.path.isfile(path):  # opening a pipe would wait forever
        try:
            content = json.loads(path.read_bytes())
        except ValueError:  # Keras ignores it, too
            return {}
        except RecursionError:
            received = "nested too deep"
        else:
            received = type(content).__name__
    if not isinstance(content, dict):
        raise ValueError(f"Expected a JSON object in {path}, Keras' settings. Received: {received}")
    for key, choices in _CHOICES.items():
        if content.get(key, choices[0]) not in choices:
            raise ValueError(
                f"Expected {key} in {path} as one of {', '.join(choices)}. "
                f"Received: {content[key]!r}"
            )
    if not isinstance(content.get("epsilon", 0.0), float):
        raise ValueError(
            f"Expected epsilon in {path} as a number such as 1e-07. "
            f"Received: {content['epsilon']!r}"
        )
    return content


def unusual_settings() -> list[str]:
    """Settings of Keras that differ from the usual ones, with where they are set."""
    settings = keras_settings()
    usual = {key: choices[-1] for key, choices in _CHOICES.items()} | {"epsilon": 1e-7}
    return [
        *(
            f"{key} = {settings[key]} in {keras_home() / 'keras.json'}"
            for key, value in usual.items()
            if settings.get(key, value) != value
        ),
        *(
            f"{name} = {os.environ[name]}"
            for name in ("KERAS_MAX_EPOCHS", "KERAS_MAX_STEPS_PER_EPOCH", "TF_USE_LEGACY_KERAS")
            if os.environ.get(name)
        ),
    ]


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
