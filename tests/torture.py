"""Kill a small study at random moments, let it continue, and compare it with an undisturbed one.

    python tests/torture.py --kills 50 --seed 0

Each attempt is ended by SIGKILL, with its children, and the next one continues from its files.
When one finishes, every file is compared with that of the undisturbed run, byte by byte. Then the
study starts again from nothing, until there were enough kills.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gradcam_adv.runs import records

STUDY = """
name = "tortured"
photos = "orl"
classes = 4
image_size = 48
networks = {networks}
source = "vgg16"
weights = "random"
epochs = 3
epsilons = [0.02, 0.1]
examples = 3
threads = 2
arms = {arms}
[layers]
vgg16 = ["block1_conv2", "block5_conv3"]
resnet50 = ["conv1_relu", "conv5_block3_out"]
"""
# The command, with slices so small that every stage of this study has several.
COMMAND = (
    "from gradcam_adv.app import cli; from gradcam_adv.runs import engines; "
    "engines.SLICE = 3; cli.main()"
)

# This share of the kills comes before any task has begun, while Python and TensorFlow are loading.
STARTING = 0.1

# What depends on the clock, as two undisturbed runs show: the report's table of seconds, in both
# formats, and in the manifests the seconds and the files' times.
TIMED = ("report.md", "report.html")
_SECONDS = {
    ".md": re.compile(r"(?<=^## Time\n).*?(?=^#)", re.DOTALL | re.MULTILINE),
    ".html": re.compile(r"(?<=>Time</h)\d>.*?(?=<h\d)", re.DOTALL),
}


@dataclass(frozen=True)
class Undisturbed:
    """An undisturbed run.

    Attributes:
        folder: of its results.
        starting: seconds until its first task began.
        seconds: of one task of each kind, such as "attack", in the order of the run.
        tasks: how many there are of each kind.
    """

    folder: Path
    starting: float
    seconds: dict[str, float]
    tasks: Counter[str]


@dataclass(frozen=True)
class Outcome:
    """What happened to a study that was killed.

    Attributes:
        kills: how many there were during tasks of each kind.
        passes: how often the study finished.
        differences: from the undisturbed run, a line each.
    """

    kills: Counter[str]
    passes: int
    differences: list[str]


def new_folder(folder: Path, networks: list[str], arms: list[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.toml").write_text(STUDY.format(networks=networks, arms=arms))
    return folder


def begin(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Start the command in ``folder``, in a process group of its own; its output is in log.txt."""
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-c", COMMAND, *arguments],
            cwd=folder,
            env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def check(folder: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait for its end; RuntimeError with its output if it failed."""
    if process.wait():
        said = (folder / "log.txt").read_text(errors="replace")[-3000:]
        raise RuntimeError(
            f"Expected the study to continue. Received: status {process.poll()}\n{said}"
        )


def undisturbed(folder: Path) -> Undisturbed:
    """Run the study once, and move its results elsewhere, so that the next run has its paths."""
    began = time.time()
    process = begin(folder, "reproduce", "study.toml")
    while process.poll() is None and not next(_tasks(folder, since=began), None):
        time.sleep(0.05)
    starting = time.time() - began
    check(folder, process)
    seconds, tasks = {}, Counter()
    for kind, record, _ in _tasks(folder):
        seconds.setdefault(kind, record.seconds)
        tasks[kind] += 1
    kept = folder / "undisturbed"
    kept.mkdir()
    for name in ("runs", "models"):
        (folder / name).rename(kept / name)
    return Undisturbed(kept, starting, seconds, tasks)


def _tasks(folder: Path, since: float = 0.0) -> Iterator[tuple[str, records.Record, str]]:
    """Of every task begun or done since: its kind, its record and the record's file name."""
    written = []
    for name in (records.JOURNAL, records.MANIFEST):
        for path in folder.glob(f"runs/*/*/**/{name}"):
            try:
                written.append((path.stat().st_mtime, path))
            except FileNotFoundError:  # a journal that has just become a manifest
                continue
    for when, path in sorted(written):
        read = records.journal if path.name == records.JOURNAL else records.manifest
        record = read(path.parent) if when >= since else None
        if record is not None and "task" in record.about:
            parts = record.about["task"].split("/")
            kind = parts[1] if len(parts) > 1 else parts[0]
            yield f"{kind} summary" if parts[-1] == "summary" else kind, record, path.name


def disturbed(folder: Path, expected: Undisturbed, chance: np.random.Generator) -> str | None:
    """One attempt, killed at a random moment: in which kind of task; None if it finished before."""
    done = Counter(kind for kind, _, name in _tasks(folder) if name == records.MANIFEST)
    left = [kind for kind, count in expected.tasks.items() if done[kind] < count]
    began = time.time()
    process = begin(folder, "reproduce", "study.toml")
    # Earlier tasks more often, or there would be few kills before the study has finished.
    aimed = left[chance.integers(0, len(left) + 1, 2).min() :]
    if chance.random() < STARTING:
        _sleep(process, chance.uniform(0, expected.starting))
    elif not aimed:
        process.wait()
    else:
        while process.poll() is None:
            if any(kind in aimed for kind, _, _ in _tasks(folder, since=began)):
                break
            time.sleep(0.02)
        _sleep(process, chance.uniform(0, expected.seconds[aimed[0]]))
    if process.poll() is not None:
        check(folder, process)
        return None
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    at_work = [(kind, name) for kind, _, name in _tasks(folder, since=began)]
    if not at_work:
        return "starting"
    kind, name = at_work[-1]
    return kind if name == records.JOURNAL else "between tasks"


def _sleep(process: subprocess.Popen[bytes], seconds: float) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)


def torture(folder: Path, expected: Undisturbed, kills: int, seed: int) -> Outcome:
    """Kill the study in ``folder`` so many times; compare it each time that it finishes."""
    chance = np.random.default_rng(seed)
    fell: Counter[str] = Counter()
    differences: list[str] = []
    passes = 0
    while True:
        while fell.total() < kills:
            place = disturbed(folder, expected, chance)
            if place is None:
                break
            fell[place] += 1
            print(f"kill {fell.total()}: {place}", flush=True)
        else:
            check(folder, begin(folder, "reproduce", "study.toml"))
        passes += 1
        found = differing(expected.folder, folder)
        check(folder, begin(folder, "clean", "study.toml"))
        found += [f"left by clean: {path}" for path in _left(folder)]
        print(f"pass {passes}: {len(found)} differences", flush=True)
        differences += found
        if fell.total() >= kills:
            return Outcome(fell, passes, differences)
        for name in ("runs", "models"):
            shutil.rmtree(folder / name, ignore_errors=True)


def _left(folder: Path) -> list[str]:
    return [
        str(path.relative_to(folder))
        for name in ("runs", "models")
        for path in sorted((folder / name).rglob("*"))
    ]


def differing(expected: Path, received: Path) -> list[str]:
    """What is not the same in two finished runs, temporary files, journals and locks included.

    Files are compared byte by byte, except for times.
    """
    files = [
        {path.relative_to(root): path for name in ("runs", "models")
         for path in (root / name).rglob("*") if not path.is_dir()}
        for root in (expected, received)
    ]  # fmt: skip
    first, second = files
    lines = [f"missing: {path}" for path in sorted(first.keys() - second.keys())]
    lines += [f"too many: {path}" for path in sorted(second.keys() - first.keys())]
    for name in sorted(first.keys() & second.keys()):
        if _content(first[name]) != _content(second[name]):
            lines.append(f"other content: {name}")
    return lines


def _content(path: Path) -> Any:
    """What must be the same in a file of two runs of the same study."""
    if path.name in TIMED:
        return _SECONDS[path.suffix].subn("", path.read_text(encoding="utf-8"))
    if path.name == records.MANIFEST:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        manifest.pop("seconds", None)
        for name, facts in manifest.get("files", {}).items():
            del facts["mtime_ns"]
            if Path(name).name in TIMED:
                del facts["size"], facts["sha256"]
        return manifest
    return path.read_bytes()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="new or empty; where to work (a temporary one)")
    given = parser.parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="torture-") as temporary:
        place = (given.folder or Path(temporary)).absolute()
        folder = new_folder(place, ["vgg16", "resnet50"], ["plain", "aligned"])
        expected = undisturbed(folder)
        seconds = time.perf_counter() - began
        print(f"undisturbed: {seconds:.0f} s, {expected.starting:.0f} of them to start", flush=True)
        outcome = torture(folder, expected, given.kills, given.seed)
    print("\nkills  stage")
    for stage, count in outcome.kills.most_common():
        print(f"{count:5d}  {stage}")
    print(f"{outcome.kills.total():5d}  in all; the study finished {outcome.passes} times")
    print(f"{len(outcome.differences)} differences from the undisturbed run")
    print("\n".join(outcome.differences))
    print(f"{time.perf_counter() - began:.0f} s")
    return 1 if outcome.differences else 0


if __name__ == "__main__":
    sys.exit(main())
