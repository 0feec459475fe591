"""Photos per second of this process, of one Ray worker and of two, and memory of this process.

``python -m benchmarks.engines`` prints two tables. It takes minutes on two cores.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from benchmarks.processes import Row, in_new_process
from gradcam_adv.app.pipeline import Pipeline
from gradcam_adv.files import write
from gradcam_adv.runs import engines, records
from gradcam_adv.study import config

STUDY = {
    "name": "engines",
    "photos": "orl",
    "image_size": 128,
    "networks": ["resnet50"],
    "weights": "random",
    "epochs": 1,
    "epsilons": [0.05],
    "split": [0.1, 0.1, 0.8],
    "threat_models": ["white-box"],
    "arms": ["plain"],
    "threads": 1,
}
# Photos per slice, and how many slices there are where memory is measured.
SLICE = 8
SLICES = 10, 1000
ENGINES = ("local", "ray 1", "ray 2")


@contextlib.contextmanager
def engine(name: str) -> Iterator[engines.Engine]:
    """This process, or one or two workers with one thread each."""
    if name == "local":
        yield engines.Local()
        return
    from ray.cluster_utils import Cluster

    from gradcam_adv.runs.ray_engine import Ray

    os.environ |= {"RAY_worker_niceness": "0"}  # as this process
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": int(name[-1])})
    try:
        with contextlib.closing(Ray(1, cluster.address)) as workers:
            yield workers
    finally:
        cluster.shutdown()


def speed(folder: Path, name: str) -> Row:
    """Photos per second of attack and evaluate, in a study whose models are in ``folder``.

    The times of the files of the second half of the photos are used. Before that, workers start
    and compile their networks.
    """
    made = Pipeline(config.parse(STUDY), folder / "run", folder / "models")
    made.run("train")
    arm = made.plan.arms["plain"]
    row: Row = {"engine": name}
    engines.SLICE = SLICE
    with engine(name) as chosen:
        for task in (arm.attack["resnet50"], arm.evaluate["resnet50"]):
            shutil.rmtree(task.folder, ignore_errors=True)  # of the engine before
            began = time.time()
            files = task.make(chosen)
            last = [path for path in files if path.suffix != ".npz"]  # one per slice
            times = sorted(path.stat().st_mtime for path in last)
            half = len(times) // 2
            rate = SLICE * half / (times[-1] - times[-1 - half])
            row[f"{task.kind} (photos/s)"] = f"{rate:.2f}"
            row[f"{task.kind}, first slice after (s)"] = f"{times[0] - began:.1f}"
    return row


def memory(folder: Path, slices: int) -> Row:
    """The peak memory of this process while two workers do many small slices."""
    count = slices * engines.SLICE
    table = pd.DataFrame({"photo": [f"person/{i:07d}.jpg" for i in range(count)], "label": 0})
    work = folder / str(slices)

    def begin() -> engines.WriteSlice:  # local, since workers do not have this __main__
        return lambda name, rows: write.table(work / f"{name}.csv", rows)

    sliced = engines.Sliced("memory", table, lambda name, _: [work / f"{name}.csv"], begin)
    about = {"task": "memory"}
    with engine("ray 2") as chosen, records.Journal(work, about, (folder, folder)) as journal:
        with write.observed(journal):
            files = chosen.run(sliced)
        journal.finish(files)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"slices": slices, "peak RSS of the driver (MB)": f"{peak / 1024:.0f}"}


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="engines-") as place:
        folder = Path(place)
        speeds = [in_new_process(speed, folder, name) for name in ENGINES]
        peaks = [in_new_process(memory, folder, slices) for slices in SLICES]
    for rows in (speeds, peaks):
        print(pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True), end="\n\n")


if __name__ == "__main__":
    main()
