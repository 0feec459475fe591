"""The command ``doctor``: what this machine has for a study, and what the study will do.

Modules that need NumPy or more are imported inside functions, since an installation may be broken.
"""

from __future__ import annotations

import json
import math
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from gradcam_adv import machine
from gradcam_adv.app import options

if TYPE_CHECKING:
    from gradcam_adv.study.settings import Study

Found = TypeVar("Found")

# Measured on the default study, studies/quick.toml: memory of its largest process; and the size of
# its run, a fixed part and a part that grows with photos, pixels, networks and arms.
STUDY_MEMORY = 3.3e9
RUN_FIXED, RUN_GROWING = 100e6, 170e6
QUICK_PHOTOS, QUICK_SIZE, QUICK_NETWORKS, QUICK_ARMS = 400, 144, 5, 2

# By backend, how it gets to use an NVIDIA GPU.
REMEDIES = {
    "tensorflow": 'pip install ".[gpu]" installs what is missing',
    "torch": "it needs a build of PyTorch for CUDA",
    "jax": 'pip install "jax[cuda12]" installs what is missing',
}

# A letter of each of the larger scripts.
SCRIPTS = {
    **{"Chinese": "中", "Japanese": "あ", "Korean": "한", "Arabic": "ع", "Hebrew": "א"},
    **{"Hindi": "ह", "Bengali": "ব", "Thai": "ก", "Cyrillic": "ж", "Greek": "ε"},
}

# Run in a process of its own, since a backend that can't run here may end the process.
_BACKEND = """
import json
try:
    from gradcam_adv import backends
    found = {"gpus": backends.gpus()}
except Exception as error:
    found = {"problem": f"{type(error).__name__}: {error}"}
print(json.dumps(found))
"""
_BACKEND_SECONDS = 120


@dataclass
class Checkup:
    """What was found."""

    command: str  # that runs the study
    found: dict[str, dict[str, str]] = field(default_factory=dict)  # by heading and label
    will: list[str] = field(default_factory=list)  # sentences on what will happen
    warnings: list[str] = field(default_factory=list)  # what may go wrong
    problems: list[str] = field(default_factory=list)  # why the study can't run

    @property
    def can_run(self) -> bool:
        return not self.problems

    def try_to(self, what: str, look: Callable[..., Found], *of: Any, **how: Any) -> Found | None:
        """What ``look(*of, **how)`` finds; None if it raises an error, which becomes a problem."""
        try:
            return look(*of, **how)
        except (ValueError, OSError, ImportError) as error:
            problem = f"{what}: {' '.join(str(error).split())}"
            if problem not in self.problems:  # the same one for every network
                self.problems.append(problem)
            return None

    def lines(self) -> list[str]:
        """For a terminal."""
        lines = []
        for heading, found in self.found.items():
            lines += [heading, *(f"  {label:<14}{value}" for label, value in found.items()), ""]
        lines.append("What will happen")
        if self.can_run:
            lines += [f"  {sentence}" for sentence in (f"{self.command} can run.", *self.will)]
        else:
            lines.append(f"  {self.command} can't run.")
        lines += [f"  problem: {problem}" for problem in self.problems]
        return lines + [f"  warning: {warning}" for warning in self.warnings]


def examine(
    path: Path, *, photos: str | None, weights: str | None, runs: Path, models: Path
) -> Checkup:
    """Check everything that a study depends on; download and change nothing.

    The arguments are the options of the command line.
    """
    command = options.reproducing(path, photos=photos, weights=weights, runs=runs, models=models)
    checkup = Checkup(command)
    checkup.found["Software"] = checkup.try_to("installation", machine.versions) or {}
    checkup.warnings += checkup.try_to("installation", _out_of_range) or []
    if checkup.problems:  # almost everything else would fail for the same reason
        return checkup
    _gpu(checkup)
    _machine(checkup)
    _surroundings(checkup)
    checkup.try_to("folders", options.check_apart, runs, models)
    checkup.found["Study"] = {"file": f"{path}: can't be used"}
    study = checkup.try_to("study", _read, path, photos, weights)
    if study:
        checkup.found["Study"]["file"] = str(path)
        count = _photos(checkup, study)
        _threads(checkup, study)
        _weights(checkup, study)
        _room(checkup, study, runs / study.name, models / study.name, count)
    return checkup


def _read(path: Path, photos: str | None, weights: str | None) -> Study:
    from gradcam_adv.study import config

    return config.read(path, photos=photos, weights=weights)


def _out_of_range() -> list[str]:
    """Packages in versions outside the required ranges; ImportError for a missing one."""
    from packaging.requirements import Requirement

    wrong = []
    for requirement in map(Requirement, metadata.requires("gradcam-adv") or []):
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            found = metadata.version(requirement.name)
            if not requirement.specifier.contains(found, prereleases=True):
                wrong.append(f"{requirement.name} is {found}, outside of {requirement.specifier}")
    return wrong


def _gpu(checkup: Checkup) -> None:
    backend = machine.backend()
    title = machine.TITLES[backend]
    gpus = checkup.try_to(title, _gpus)
    if gpus is None:
        said = "can't be used"
    elif gpus:
        said = f"runs networks on {', '.join(gpus)}"
    else:
        said = "sees no GPU: networks run on the processor"
        if _nvidia_seems_there():
            hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
            why = REMEDIES[backend] if hidden is None else f"CUDA_VISIBLE_DEVICES is {hidden!r}"
            checkup.warnings.append(
                f"there seems to be an NVIDIA GPU that {title} does not use: {why}"
            )
    checkup.found["GPU"] = {title: said}


def _nvidia_seems_there() -> bool:
    return shutil.which("nvidia-smi") is not None or Path("/dev/nvidia0").exists()


def _gpus() -> list[str]:
    """GPUs that Keras' backend finds; ValueError if it can't be started."""
    command = [sys.executable, "-c", _BACKEND]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_BACKEND_SECONDS)
    except subprocess.TimeoutExpired:
        raise ValueError(f"it did not start within {_BACKEND_SECONDS} s") from None
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        raise ValueError(f"{name} ended its process; perhaps it was built for other processors")
    lines = done.stdout.splitlines() or ['{"problem": "it says nothing"}']
    found = json.loads(lines[-1])
    if "problem" in found:
        raise ValueError(found["problem"])
    return list(found["gpus"])


def _machine(checkup: Checkup) -> None:
    total, available = checkup.try_to("memory", machine.memory) or (math.nan, math.nan)
    checkup.found["Machine"] = {
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "cores": f"{machine.cores()} for this process",
        "memory": f"{_gb(total)}, {_gb(available)} of it available",
    }
    checkup.try_to("system", machine.check_system)
    if available < STUDY_MEMORY:
        checkup.warnings.append(
            f"{_gb(available)} of memory may be too little: the default study's largest process "
            f"needed {_gb(STUDY_MEMORY)}; close other programs, or give the study a smaller "
            "batch_size"
        )


def _surroundings(checkup: Checkup) -> None:
    """Keras' settings, its folder, the encoding of what is printed, and fonts."""
    from gradcam_adv.plots import fonts

    unusual = ", ".join(checkup.try_to("settings", machine.unusual_settings) or ())
    home = machine.keras_home()
    written = "can be written"
    try:
        _free(home)
    except ValueError:
        written = "can't be written: no weights are downloaded; KERAS_HOME names another folder"
    encoding = sys.stdout.encoding or "unknown"
    families = fonts.families_of(SCRIPTS.values())
    lacking = ", ".join(name for name, letter in SCRIPTS.items() if families[letter] is None)
    checkup.found["Surroundings"] = {
        "Keras": f"{unusual}; commands set these aside" if unusual else "usual settings",
        "home": f"{home} {written}",
        "terminal": encoding if _prints_all(encoding) else f"{encoding}: other letters as codes",
        "fonts": f"none for {lacking}: pictures show codes" if lacking else "for every script",
    }


def _prints_all(encoding: str) -> bool:
    try:
        "ε中".encode(encoding)
    except (LookupError, UnicodeEncodeError):
        return False
    return True


def _photos(checkup: Checkup, study: Study) -> int | None:
    """How many photos will be used; None if that is not known yet."""
    from gradcam_adv.data import sources

    if machine.backend() != "tensorflow" and "aligned" in study.arms:
        checkup.problems.append(
            f"KERAS_BACKEND is {machine.backend()!r}, and MTCNN, which finds the faces of the "
            "aligned arm, needs TensorFlow; arms = ['plain'] in the study does without"
        )

    def look() -> tuple[str, int | None]:
        listing = sources.look(
            study.photos, classes=study.classes, min_photos=study.min_photos, seed=study.seed
        )
        if listing is None:
            will = "will be downloaded by scikit-learn, some 230 MB"
            return f"Labeled Faces in the Wild: {will}", None
        counts = listing.files.groupby("identity").size().clip(upper=study.max_photos)
        count = int(counts.sum())
        return f"{listing.title}: {count} photos of {len(counts)} people in {listing.root}", count

    said, count = checkup.try_to("photos", look) or (f"{study.photos}: can't be used", None)
    checkup.found["Study"]["photos"] = said
    return count


def _threads(checkup: Checkup, study: Study) -> None:
    threads = study.threads or machine.cores()
    origin = "as the study says" if study.threads else "one per core"
    checkup.found["Study"]["threads"] = f"{threads}, {origin}"
    quota = checkup.try_to("processor quota", machine.processor_quota) or math.inf
    if quota < threads:
        checkup.warnings.append(
            f"{threads} threads share {quota:g} cores, this container's quota; threads = "
            f"{max(1, int(quota))} in the study keeps them from waiting for each other"
        )


def _weights(checkup: Checkup, study: Study) -> None:
    from gradcam_adv.models import backbones, weights

    # "imagenet" stops at the first network without weights; here all are reported.
    wanted = "auto" if study.weights == "imagenet" else study.weights
    said = checkup.found["Weights"] = {}
    random: list[str] = []
    missing: dict[str, list[str]] = {}
    megabytes = 0
    for network in study.networks:
        resolved = checkup.try_to("weights", weights.resolve, wanted, [network], download=False)
        found = resolved[network] if resolved else None
        if found is None:
            said[network] = "not available"
        elif found.note:
            said[network] = "not available" + ": a random base" * (study.weights == "auto")
            missing.setdefault(found.note, []).append(network)
            random.append(network)
        elif found.origin == "random":
            said[network] = "a random base, as asked for"
            random.append(network)
        elif found.path is None:
            size = backbones.find(network).weights_mb
            said[network] = f"server answers: will be downloaded, about {size} MB"
            megabytes += size
        else:
            origin = found.path.name if found.origin == "file" else "Keras' cache"
            said[network] = f"available ({origin})"
    if megabytes:
        checkup.will.append(f"About {megabytes} MB of weights will be downloaded first.")
    if random:
        checkup.will.append(
            f"Heads will be trained on RANDOM bases for {', '.join(random)}: their numbers say "
            "nothing about the paper's networks."
        )
    for note, networks in missing.items():
        lack = f"ImageNet's weights for {', '.join(networks)} are {note}"
        if study.weights == "imagenet":
            checkup.problems.append(f"{lack}; give a directory of weights files by --weights DIR")
        else:
            checkup.will.append(f"{lack}. Give a directory of weights files by --weights DIR.")


def _room(checkup: Checkup, study: Study, run: Path, models: Path, photos: int | None) -> None:
    """Add the free space and the space needed, and whether a run will be continued."""
    from gradcam_adv.models import backbones

    classifiers = sum(backbones.find(network).weights_mb for network in study.networks)
    needs = {"run": math.nan, "models": 1e6 * classifiers * len(study.arms) * len(study.seeds)}
    if photos is not None:
        share = photos / QUICK_PHOTOS * (study.image_size / QUICK_SIZE) ** 2
        share *= len(study.networks) / QUICK_NETWORKS * len(study.arms) / QUICK_ARMS
        needs["run"] = RUN_FIXED + RUN_GROWING * share + _attacks_stored(study, photos)
    said = checkup.found["Disk space"] = {}
    for label, place in (("run", run), ("models", models)):
        need = needs[label]
        needed = "need not known yet" if math.isnan(need) else f"about {_gb(need)} needed"
        free = checkup.try_to("disk space", _free, place)
        space = "can't be written" if free is None else f"{_gb(free)} free, {needed}"
        said[label] = f"{place}: {space}"
        if free is not None and free < need:
            checkup.warnings.append(f"{said[label]}; that may be too little")
    checkup.will.append(
        f"Memory: the default study's largest process needed {_gb(STUDY_MEMORY)} when measured "
        "(144 pixels, batches of 8); larger studies need more."
    )
    if checkup.try_to("disk space", (run / "manifest.json").is_file):
        checkup.will.append(f"It continues {run}; gradcam-adv status {run} says how far it is.")


def _attacks_stored(study: Study, photos: int) -> float:
    """Bytes of all attacks but FGSM: one for each pixel value, size and network."""
    from gradcam_adv.study.attacks import made_at, unit_of

    attacks = [name for name in study.attack if name != "fgsm"]
    sizes = sum(
        len(made_at(study, attack, network, unit_of(study, network)))
        for attack in attacks
        for network in study.networks
    )
    tested = photos * (1.0 if study.folds else study.split[2])
    return tested * len(study.arms) * sizes * 3 * study.image_size**2


def _free(folder: Path) -> int:
    """Bytes free where ``folder`` is or would be made; ValueError if it can't be written."""
    folder = folder.absolute()
    place = next(place for place in (folder, *folder.parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=place):  # a file without a name
            return shutil.disk_usage(place).free
    except OSError as error:
        raise ValueError(
            f"Expected a folder that files can be written into. Received: {place}: {error.strerror}"
        ) from None


def _gb(count: float) -> str:
    return f"{count / 1e9:.{1 if count >= 1e10 else 2}f} GB" if math.isfinite(count) else "unknown"
