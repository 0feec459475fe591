"""Photos a second of one Ray worker, of two, and of this process; and this process' memory.

    python -m benchmarks.engines

Prints a page of Markdown; some minutes on two cores.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pandas as pd

from benchmarks.processes import Row
from gradcam_adv.app import pipeline
from gradcam_adv.files import artifacts
from gradcam_adv.runs import engines, records
from gradcam_adv.study import config as study
from gradcam_adv.study import setting
from gradcam_adv.study.stages import networks as stages

STUDY = {
    "name": "engines",
    "photos": "orl",
    "image_size": 128,
    "networks": ["resnet50"],
    "weights": "random",
    "epochs": 1,
    "epsilons": [0.05],
    "split": [0.1, 0.1, 0.8],
    "attacks": ["white-box"],
    "arms": ["plain"],
    "threads": 1,
}
# Photos in a slice, and slices of the work whose memory is looked at.
SLICE = 8
SLICES = 10, 1000
ENGINES = ("local", "ray 1", "ray 2")


@contextlib.contextmanager
def engine(name: str) -> Iterator[engines.Engine]:
    """This process, or so many workers of one thread, on a cluster that has processors for them."""
    if name == "local":
        yield engines.LOCAL
        return
    from ray.cluster_utils import Cluster

    from gradcam_adv.runs.ray_engine import Ray

    os.environ |= {"RAY_worker_niceness": "0"}  # as this process has it
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": int(name[-1])})
    try:
        with contextlib.closing(Ray(1, cluster.address)) as workers:
            yield workers
    finally:
        cluster.shutdown()


def speed(folder: Path, name: str) -> Row:
    """Photos a second of attack and evaluate, in a study that is trained in ``folder``.

    Of the second half of the photos, by the times of their files: until then every worker has
    started and compiled its network.
    """
    made = pipeline.Pipeline(study.parse(STUDY), folder / "run", folder / "models")
    made.run("train")
    own = made.settings["plain"]
    row: Row = {"engine": name}
    setting.SLICE = SLICE
    with engine(name) as chosen:
        for stage in (stages.attack, stages.evaluate):
            key = f"{stage.__name__}/resnet50"
            own.folders[key] = folder / name / key
            began = time.time()
            files = stage(own, own.folders[key], "resnet50", chosen)
            last = [path for path in files if path.suffix != ".npz"]  # one a slice
            times = sorted(path.stat().st_mtime for path in last)
            half = len(times) // 2
            rate = SLICE * half / (times[-1] - times[-1 - half])
            row[f"{stage.__name__} (photos/s)"] = f"{rate:.2f}"
            row[f"{stage.__name__}, first slice after (s)"] = f"{times[0] - began:.1f}"
    return row


def memory(folder: Path, slices: int) -> Row:
    """The peak memory of this process while two workers do so many slices of nothing much."""
    count = slices * setting.SLICE
    table = pd.DataFrame({"photo": [f"person/{i:07d}.jpg" for i in range(count)], "label": 0})
    work = folder / str(slices)

    def begin() -> engines.Write:  # in here, or a worker would look for it in its own __main__
        return lambda name, rows: artifacts.write_table(work / f"{name}.csv", rows)

    sliced = engines.Sliced("memory", table, lambda name, _: [work / f"{name}.csv"], begin)
    about = {"task": "memory"}
    with engine("ray 2") as chosen, records.Journal(work, about, [folder]) as journal:
        with artifacts.observed(journal):
            files = chosen.run(sliced)
        journal.finish(files)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"slices": slices, "peak RSS of the driver (MB)": f"{peak / 1024:.0f}"}


def _alone(measure: Callable[..., Row], *given: object) -> Row:
    """In a process of its own, which is started with nothing in it."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=spawn) as executor:
        return executor.submit(measure, *given).result()


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="engines-") as place:
        folder = Path(place)
        speeds = [_alone(speed, folder, name) for name in ENGINES]
        peaks = [_alone(memory, folder, slices) for slices in SLICES]
    for rows in (speeds, peaks):
        print(pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True), end="\n\n")


if __name__ == "__main__":
    main()
