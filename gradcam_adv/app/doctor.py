"""What this machine has for a study, and what will therefore happen; nothing is changed.

Modules that need NumPy or more are imported where they are used: an installation may be broken.
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
from typing import TYPE_CHECKING, TypeVar

from gradcam_adv import machine
from gradcam_adv.app import options

if TYPE_CHECKING:
    from gradcam_adv.models.weights import Weights
    from gradcam_adv.study.config import Study

Found = TypeVar("Found")

# Measured on the default study, studies/quick.toml: what its largest process held, and what it
# left in its run, of which a part grows with photos, pixels, networks and arms.
STUDY_MEMORY = 3.3e9
RUN_FIXED, RUN_GROWING = 100e6, 170e6
QUICK_PHOTOS, QUICK_SIZE, QUICK_NETWORKS, QUICK_ARMS = 400, 144, 5, 2

# In a process of its own: a backend that can't run here may end the process that imports it.
_BACKEND = """
import json
try:
    from gradcam_adv import backends as gradients
    found = {"gpus": gradients.gpus()}
except Exception as error:
    found = {"problem": f"{type(error).__name__}: {error}"}
print(json.dumps(found))
"""
_BACKEND_SECONDS = 120


@dataclass
class Checkup:
    """What was found.

    Attributes:
        command: that runs the study.
        found: by heading and label.
        will: sentences on what will happen.
        warnings: what may go otherwise than one would wish.
        problems: what keeps the study from running.
    """

    command: str
    found: dict[str, dict[str, str]] = field(default_factory=dict)
    will: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def can_run(self) -> bool:
        return not self.problems

    def heading(self, text: str) -> None:
        self.found[text] = {}

    def say(self, label: str, found: str) -> None:
        """Below the heading given last."""
        self.found[next(reversed(self.found))][label] = found

    def try_to(self, what: str, look: Callable[..., Found], *of: object) -> Found | None:
        """What ``look(*of)`` finds; where it can't, a problem that says so, and None."""
        try:
            return look(*of)
        except (ValueError, OSError, ImportError) as error:
            problem = f"{what}: {' '.join(str(error).split())}"
            if problem not in self.problems:  # as when no network's weights can be looked for
                self.problems.append(problem)
            return None

    def text(self) -> str:
        """For a terminal."""
        lines = []
        for heading, found in self.found.items():
            lines += [heading, *(f"  {label:<14}{value}" for label, value in found.items()), ""]
        will = [f"{self.command} can run.", *self.will]
        told = [
            *(will if self.can_run else [f"{self.command} can't run."]),
            *(f"problem: {problem}" for problem in self.problems),
            *(f"warning: {warning}" for warning in self.warnings),
        ]
        return "\n".join([*lines, "What will happen", *(f"  {line}" for line in told)])


def examine(
    path: Path, *, photos: str | None, weights: str | None, runs: Path, models: Path
) -> Checkup:
    """Look at everything that a study depends on; downloads nothing and changes nothing.

    Args:
        path: of the study.
        photos: in place of the study's.
        weights: in place of the study's.
        runs: where runs go.
        models: where models go.
    """
    given = {"photos": photos, "weights": weights}
    checkup = Checkup(
        options.reproducing(path, photos=photos, weights=weights, runs=runs, models=models)
    )
    _software(checkup)
    if checkup.problems:  # nearly everything else would fail for the same reason
        return checkup
    _gpu(checkup)
    _machine(checkup)
    checkup.heading("Study")
    study = checkup.try_to("study", _read, path, given)
    checkup.say("file", str(path) if study else f"{path}: can't be used")
    if study:
        _backend(checkup, study)
        count = _photos(checkup, study)
        _threads(checkup, study)
        _weights(checkup, study)
        _room(checkup, study, runs / study.name, models / study.name, count)
    return checkup


def _read(path: Path, given: dict[str, str | None]) -> Study:
    from gradcam_adv.study import config as study

    return study.read(path, **given)


def _software(checkup: Checkup) -> None:
    checkup.heading("Software")
    for name, number in (checkup.try_to("installation", _versions) or {}).items():
        checkup.say(name, number)
    checkup.warnings += checkup.try_to("installation", _out_of_range) or []


def _versions() -> dict[str, str]:
    from gradcam_adv.study import setting

    return setting.versions()


def _out_of_range() -> list[str]:
    """The packages in other versions than this one asks for; ImportError for a missing one."""
    from packaging.requirements import Requirement

    wrong = []
    for requirement in map(Requirement, metadata.requires("gradcam-adv") or []):
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            found = metadata.version(requirement.name)
            if not requirement.specifier.contains(found, prereleases=True):
                wrong.append(f"{requirement.name} is {found}, outside of {requirement.specifier}")
    return wrong


def _gpu(checkup: Checkup) -> None:
    checkup.heading("GPU")
    backend = machine.backend()
    title = machine.TITLES[backend]
    gpus = checkup.try_to(title, _gpus)
    if gpus is None:
        checkup.say(title, "can't be used")
    elif gpus:
        checkup.say(title, f"runs networks on {', '.join(gpus)}")
    else:
        checkup.say(title, "sees no GPU: networks run on the processor")
    if gpus == [] and _nvidia_seems_there():
        hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
        lacking = {
            "tensorflow": 'pip install ".[gpu]" brings what it lacks',
            "torch": "it needs a build of PyTorch for CUDA",
            "jax": 'pip install "jax[cuda12]" brings what it lacks',
        }
        checkup.warnings.append(
            f"an NVIDIA GPU seems to be there that {title} does not use: "
            + (lacking[backend] if hidden is None else f"CUDA_VISIBLE_DEVICES is {hidden!r}")
        )


def _nvidia_seems_there() -> bool:
    return shutil.which("nvidia-smi") is not None or Path("/dev/nvidia0").exists()


def _gpus() -> list[str]:
    """What Keras' backend finds; ValueError where it or Keras can't be started."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _BACKEND],
            capture_output=True,
            text=True,
            check=False,
            timeout=_BACKEND_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise ValueError(f"it did not start within {_BACKEND_SECONDS} s") from None
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        raise ValueError(f"its process was ended by {name}, as by a build for other processors")
    lines = done.stdout.splitlines() or ['{"problem": "it says nothing"}']
    found = json.loads(lines[-1])
    if "problem" in found:
        raise ValueError(found["problem"])
    return list(found["gpus"])


def _machine(checkup: Checkup) -> None:
    from gradcam_adv import batching as batches

    checkup.heading("Machine")
    checkup.say("system", f"{platform.system()} {platform.release()}, {platform.machine()}")
    checkup.say("cores", f"{batches.cores()} for this process")
    total, available = checkup.try_to("memory", machine.memory) or (math.nan, math.nan)
    checkup.say("memory", f"{_gb(total)}, {_gb(available)} of it available")
    if available < STUDY_MEMORY:
        checkup.warnings.append(
            f"{_gb(available)} of memory may not do: the default study's largest process held "
            f"{_gb(STUDY_MEMORY)}; close other programs, or give the study a smaller batch_size"
        )


def _photos(checkup: Checkup, study: Study) -> int | None:
    """Says which photos there are; how many will be used, None where that can't be known yet."""
    found = checkup.try_to("photos", _chosen_photos, study)
    text, count = found or (f"{study.photos}: can't be used", None)
    checkup.say("photos", text)
    return count


def _backend(checkup: Checkup, study: Study) -> None:
    backend = machine.backend()
    if backend != "tensorflow" and "aligned" in study.arms:
        checkup.problems.append(
            f"KERAS_BACKEND is {backend!r}, and MTCNN, which finds the faces of the aligned arm, "
            "needs TensorFlow; arms = ['plain'] in the study does without"
        )


def _chosen_photos(study: Study) -> tuple[str, int | None]:
    from gradcam_adv.data import sources

    listing = sources.look(
        study.photos, classes=study.classes, min_photos=study.min_photos, seed=study.seed
    )
    if listing is None:
        return "Labeled Faces in the Wild: will be downloaded by scikit-learn, some 230 MB", None
    counts = listing.files.groupby("identity").size().clip(upper=study.max_photos)
    count = int(counts.sum())
    return f"{listing.title}: {count} photos of {len(counts)} people in {listing.root}", count


def _threads(checkup: Checkup, study: Study) -> None:
    from gradcam_adv import batching as batches

    threads = study.threads or batches.cores()
    origin = "the study's" if study.threads else "one a core"
    checkup.say("threads", f"{threads}, {origin}")
    quota = checkup.try_to("processor quota", machine.processor_quota) or math.inf
    if quota < threads:
        checkup.warnings.append(
            f"{threads} threads share the time of {quota:g} cores, this container's quota; "
            f"threads = {max(1, int(quota))} in the study keeps them from waiting for each other"
        )


def _weights(checkup: Checkup, study: Study) -> None:
    from gradcam_adv.models import backbones

    checkup.heading("Weights")
    # "imagenet" ends at the first network whose weights can't be had, and here all are to be said.
    wanted = "auto" if study.weights == "imagenet" else study.weights
    random: list[str] = []
    missing: dict[str, list[str]] = {}
    megabytes = 0
    for network in study.networks:
        found = checkup.try_to("weights", _look_for, wanted, network)
        if found is None:
            text = "not to be had"
        elif found.note:
            text = "not to be had" + ": a random base" * (study.weights == "auto")
            missing.setdefault(found.note, []).append(network)
            random.append(network)
        elif found.origin == "random":
            text = "a random base, as asked for"
            random.append(network)
        elif found.path is None:
            size = backbones.find(network).weights_mb
            text = f"server answers: will be downloaded, about {size} MB"
            megabytes += size
        else:
            origin = found.path.name if found.origin == "file" else "Keras' cache"
            text = f"at hand ({origin})"
        checkup.say(network, text)
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


def _look_for(wanted: str, network: str) -> Weights:
    from gradcam_adv.models import weights

    return weights.resolve(wanted, [network], download=False)[network]


def _room(checkup: Checkup, study: Study, run: Path, models: Path, photos: int | None) -> None:
    """Says how much there is to store and what for; a run that is there will be gone on with."""
    from gradcam_adv.models import backbones

    classifiers = sum(backbones.find(network).weights_mb for network in study.networks)
    needs = {models: 1e6 * classifiers * len(study.arms) * len(study.seeds)}
    if photos is not None:
        share = photos / QUICK_PHOTOS * (study.image_size / QUICK_SIZE) ** 2
        share *= len(study.networks) / QUICK_NETWORKS * len(study.arms) / QUICK_ARMS
        needs[run] = RUN_FIXED + RUN_GROWING * share
    checkup.heading("Room")
    for label, place in (("run", run), ("models", models)):
        free = checkup.try_to("room", _free, place)
        needed = f"roughly {_gb(needs[place])} needed" if place in needs else "need not known yet"
        room = "can't be written" if free is None else f"{_gb(free)} free, {needed}"
        checkup.say(label, f"{place}: {room}")
        if free is not None and free < needs.get(place, 0):
            checkup.warnings.append(f"{place}: {room}; that may not do")
    checkup.will.append(
        f"Memory: the default study's largest process held {_gb(STUDY_MEMORY)} when measured "
        "(README, 144 pixels, batches of 8); larger ones need more."
    )
    if checkup.try_to("room", (run / "manifest.json").is_file):
        checkup.will.append(f"It goes on with {run}; gradcam-adv status {run} tells how far it is.")


def _free(folder: Path) -> int:
    """Bytes free where ``folder`` is or would be made; ValueError where nobody may write."""
    folder = folder.absolute()
    place = next(place for place in (folder, *folder.parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=place):  # which has no name, or loses it at once
            return shutil.disk_usage(place).free
    except OSError as error:
        raise ValueError(
            f"Expected a folder that files can be written into. Received: {place}: {error.strerror}"
        ) from None


def _gb(count: float) -> str:
    return f"{count / 1e9:.{1 if count >= 1e10 else 2}f} GB" if math.isfinite(count) else "unknown"
