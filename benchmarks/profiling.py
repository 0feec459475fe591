"""Where the time of a small study goes, by stage, and how far each stage is from its bound.

The bound of a stage: the multiply-adds of its passes through networks, divided by the peak of the
device, measured in the same run as the best product of two large matrices.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import pandas as pd

from benchmarks import costs, flops, rates
from gradcam_adv import machine
from gradcam_adv.models import backbones
from gradcam_adv.study import config
from gradcam_adv.study.plan import STAGES
from gradcam_adv.study.settings import Study

QUICK = Path(__file__).resolve().parents[1] / "studies" / "quick.toml"
# What a file of Python code does. Of the functions that are running, the innermost of these counts.
WORK = {
    "tensorflow/python/eager/execute.py": "passes",
    "keras/src/backend/tensorflow/trainer.py": "passes",
    "tensorflow/python/eager/polymorphic_function/": "compiling",
    "keras/src/saving/": "models",
    "gradcam_adv/models/": "models",
    "gradcam_adv/graph/": "models",
    "gradcam_adv/data/photos.py": "reading",
    "gradcam_adv/files/read.py": "reading",
    "gradcam_adv/files/hashes.py": "reading",
    "gradcam_adv/files/write.py": "writing",
    "gradcam_adv/metrics/": "scoring",
}
KINDS = [*dict.fromkeys(WORK.values()), "rest"]
# Seconds between two looks at what is running.
_EVERY = 0.005


class Sampler:
    """Within its context, looks at what the thread that made it is doing, and counts seconds.

    Unlike a profiler that is told of every call, it does not slow down what has many calls.

    Attributes:
        seconds: by kind of work.
    """

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._watched = threading.get_ident()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        last = time.perf_counter()
        while not self._ended.wait(_EVERY):
            kind = work_of(sys._current_frames()[self._watched])
            now = time.perf_counter()
            self.seconds[kind] += now - last
            last = now


def work_of(frame: FrameType | None) -> str:
    """The kind of work of the innermost frame that has one."""
    while frame is not None:
        file = frame.f_code.co_filename
        for part, kind in WORK.items():
            if part in file:
                return kind
        frame = frame.f_back
    return "rest"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profiling", description=__doc__)
    parser.add_argument("--networks", nargs="+", default=["resnet50", "xception"])
    parser.add_argument("--classes", type=int, default=10, help="people of the ORL faces")
    parser.add_argument("--image-size", type=int, default=144)
    given = parser.parse_args(arguments)
    study = replace(
        config.read(QUICK, arms=["plain"], weights="random"),
        networks=tuple(given.networks),
        source=given.networks[0],
        classes=given.classes,
        image_size=given.image_size,
    )
    print(page(study, *profile(study)))


def profile(study: Study) -> tuple[pd.DataFrame, float]:
    """One row for each stage of a study, in seconds, and the peak in operations per second."""
    from gradcam_adv.app.pipeline import Pipeline

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        pipeline = Pipeline(study, Path(folder, "run"), Path(folder, "models"))
        for stage in STAGES:
            began, used = time.perf_counter(), time.process_time()
            with Sampler() as sampler:
                pipeline.run(stage)
            wall = time.perf_counter() - began
            cores = (time.process_time() - used) / wall
            row = {"stage": stage, "wall": wall} | {kind: sampler.seconds[kind] for kind in KINDS}
            rows.append(row | {"idle": 1 - cores / machine.cores()})
        peak = rates.of_device("", runs=5)["peak_flops"]
        bound = operations(study, pipeline)
    table = pd.DataFrame(rows)
    table.insert(2, "bound", table["stage"].map(bound).fillna(0) / peak)
    return table, peak


def operations(study: Study, pipeline: Any) -> dict[str, float]:
    """Floating-point operations of the passes of each stage.

    Without those that calibrate random bases, and without the heads, which are small.
    """
    arm = pipeline.plan.arms["plain"]
    photos = arm.photos
    count, people = len(photos.table), photos.table["identity"].nunique()
    one = dict.fromkeys(("forward", "attack", "last", "all"), 1.0)
    networks = {}
    for network, task in arm.train.items():
        counted = flops.multiply_adds(task.model())
        networks[network] = one | {"layers": 0, "multiply_adds": counted}
    measured = {
        "networks": networks,
        "processor": dict.fromkeys(("data", "read", "perturb", "score", "nissim"), 1.0),
        "training": {"train": {str(number): 0.0 for number in rates.CLASSES}},
    }
    found = costs.times(measured, study, costs.Size(people, count))
    of_stage = {stage: time.flops for stage, time in found.items()}
    of_stage["train"] = of_stage.pop("features")
    return of_stage


def page(study: Study, table: pd.DataFrame, peak: float) -> str:
    total = table.drop(columns=["stage", "idle"]).sum()
    idle = (table["idle"] * table["wall"]).sum() / total["wall"]
    whole = pd.DataFrame([{"stage": "all", **total, "idle": idle}])
    rows = pd.concat([table, whole], ignore_index=True)
    ratios = zip(rows["wall"], rows["bound"], strict=True)
    rows.insert(
        3, "wall / bound", [f"{wall / bound:.1f}" if bound else "" for wall, bound in ratios]
    )
    rows["idle"] = rows["idle"].map("{:.0%}".format)
    titles = ", ".join(backbones.find(network).title for network in study.networks)
    text = rows.to_markdown(index=False, floatfmt=".1f")
    return f"""\
{titles}; {study.classes} people of ORL, {study.image_size} px, {machine.cores()} cores.
Peak {peak / 1e9:.0f} GFLOP/s. Numbers are seconds. Idle is the share of the cores' time that this
process did not use, so other work beside it counts as idle.
A first pass, in which kernels are prepared, counts as a pass.

{text}
"""


if __name__ == "__main__":
    main()
