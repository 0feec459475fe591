"""Photos a second of one Ray worker, of two, and of this process; and this process' memory.

    python -m benchmarks.engines

Prints a page of Markdown; some minutes on two cores.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import multiprocessing
import resource
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pandas as pd

from benchmarks import timing
from benchmarks.processes import Row
from gradcam_adv.files import artifacts, records
from gradcam_adv.studies import engines, pipeline, setting, stages, study

STUDY = {
    "name": "engines",
    "photos": "orl",
    "image_size": 96,
    "networks": ["resnet50"],
    "weights": "random",
    "epochs": 1,
    "epsilons": [0.05],
    "split": [0.5, 0.1, 0.4],
    "attacks": ["white-box"],
    "arms": ["plain"],
    "threads": 1,
}
# Photos of a stage's run; its speed is that of the photos that the second has more than the first.
FEW, MANY = 32, 160
# Slices of them, and of the work whose memory is looked at.
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

    from gradcam_adv.studies.ray_engine import Ray

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": int(name[-1])})
    try:
        with contextlib.closing(Ray(1, cluster.address)) as workers:
            yield workers
    finally:
        cluster.shutdown()


def speed(folder: Path, name: str) -> Row:
    """Photos a second of attack and evaluate, in a study that is trained in ``folder``."""
    made = pipeline.Pipeline(study.parse(STUDY), folder / "run", folder / "models")
    made.run("train")
    row: Row = {"engine": name}
    setting.SLICE = SLICE
    with engine(name) as chosen:
        for stage in (stages.attack, stages.evaluate):
            seconds = {}
            for photos in (FEW, MANY):
                own = _with_test_photos(made.settings["plain"], photos)
                key = f"{stage.__name__}/resnet50"
                own.folders[key] = folder / name / key / str(photos)
                run = functools.partial(stage, own, own.folders[key], "resnet50", chosen)
                seconds[photos] = timing.seconds(run)
            more = seconds[MANY] - seconds[FEW]
            row[f"{stage.__name__} (photos/s)"] = f"{(MANY - FEW) / more:.2f}"
            row[f"{stage.__name__}, {FEW} photos (s)"] = f"{seconds[FEW]:.1f}"
    return row


def _with_test_photos(whole: setting.Setting, photos: int) -> setting.Setting:
    """The setting with so many test photos; where its tasks lie is said in one place for all."""
    own = dataclasses.replace(whole)
    own.__dict__["test"] = whole.test.iloc[:photos].reset_index(drop=True)  # as if it was read
    return own


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
