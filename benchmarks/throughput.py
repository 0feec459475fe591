"""Photos per second on the device that Keras' backend finds, and the time of a whole study."""

from __future__ import annotations

import argparse
import datetime
import functools
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks import costs, explaining, processes, rates, timing
from gradcam_adv import machine
from gradcam_adv.batching import BATCH_SIZE
from gradcam_adv.files import write
from gradcam_adv.models import backbones
from gradcam_adv.runs.tasks import Task
from gradcam_adv.study import config
from gradcam_adv.study.settings import Study
from gradcam_adv.study.stages.network_task import SummaryTask

PAPER = Path(__file__).resolve().parents[1] / "studies" / "paper.toml"
PIECES = {
    "forward": "forward pass",
    "attack": "attack",
    "last": "last layer, 3 classes",
    "all": "all layers",
}


def main(arguments: list[str] | None = None) -> None:
    given = parsed(arguments)
    measured = measure(given.networks, given.batch_size, given.runs)
    print(page(measured))
    study = paper(given.networks, given.batch_size)
    size = costs.Size(given.people, given.people * given.each)
    if given.run:
        measured["run"], measured["rows"] = run(study, size)
    if given.save:
        write.json(given.save, measured)
    if given.study or given.run:
        print(estimate(measured, study, size))


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.throughput", description=__doc__)
    parser.add_argument("--networks", nargs="+", default=list(backbones.BACKBONES))
    parser.add_argument("--batch-size", type=int, default=BATCH_SIZE)
    parser.add_argument("--runs", type=int, default=5, help="the median of them counts")
    parser.add_argument("--study", action="store_true", help="estimate a study of one arm")
    parser.add_argument("--run", action="store_true", help="run it as well, on photos of noise")
    parser.add_argument("--people", type=int, default=50, help="in the study")
    parser.add_argument("--each", type=int, default=59, help="photos per person")
    parser.add_argument("--save", type=Path, help="write the measurements there, as JSON")
    return parser.parse_args(arguments)


def measure(networks: list[str], batch_size: int, runs: int) -> dict[str, Any]:
    """All rates, each in a process of its own, so that its peak memory can be measured."""

    def alone(call: Any, of: str = "", **more: int) -> dict[str, Any]:
        return processes.alone(functools.partial(call, runs=runs, **more), of)

    return {
        "date": str(datetime.date.today()),
        "versions": machine.versions(),
        "cores": machine.cores(),
        "batch_size": batch_size,
        "runs": runs,
        "device": alone(rates.of_device),
        "networks": {
            network: alone(rates.of_network, network, batch_size=batch_size) for network in networks
        },
        "processor": alone(rates.of_processor),
        "training": alone(rates.of_training),
    }


def page(measured: dict[str, Any]) -> str:
    """What was measured as Markdown."""
    return f"{about(measured)}\n\n{networks_table(measured)}\n\n{processor_table(measured)}\n"


def about(measured: dict[str, Any]) -> str:
    device = measured["device"]
    kind = "GPU" if device["gpu"] else "no GPU"
    versions = ", ".join(f"{name} {number}" for name, number in measured["versions"].items())
    return f"""\
- Device: {device["device"]} ({kind}), {measured["cores"]} cores, on {measured["date"]}.
- Versions: {versions}.
- Batches of {measured["batch_size"]} photos of {explaining.IMAGE_SIZE} px, float32, random weights;
  medians of {measured["runs"]} runs, after one that does not count.
- Peak: {device["peak_flops"] / 1e12:.2f} TFLOP/s, the best product of two
  {device["matmul_side"]} x {device["matmul_side"]} matrices."""


def networks_table(measured: dict[str, Any]) -> str:
    """Photos per second; in brackets, the share of the device's peak."""
    rows = []
    for network, found in measured["networks"].items():
        row = {
            "network": backbones.find(network).title,
            "layers": found["layers"],
            "G multiply-adds": f"{found['multiply_adds'] / 1e9:.2f}",
        }
        for kind, title in PIECES.items():
            row[title] = f"{found[kind]:.2f} ({share_of_peak(measured, network, kind):.0%})"
        row["peak memory (GB)"] = found[processes.PEAK]
        rows.append(row)
    return markdown(rows)


def share_of_peak(measured: dict[str, Any], network: str, kind: str) -> float:
    """Operations per second of one kind of pass, divided by the device's peak."""
    found = measured["networks"][network]
    return found[kind] * costs.flops_of(found, kind) / measured["device"]["peak_flops"]


def processor_table(measured: dict[str, Any]) -> str:
    side = explaining.IMAGE_SIZE
    titles = {
        "data": f"photos of {rates.PHOTO_SIDE} px read, hashed and checked",
        "read": f"photos read again, at {side} px",
        "perturb": "photos perturbed, with PSNR",
        "nissim": f"pairs of {side} x {side} heatmaps: NISSIM",
        "score": "pairs of heatmaps: enlarged, NISSIM, shift",
    }
    rows = [
        {"on the processor": title, "per second": f"{measured['processor'][name]:.0f}"}
        for name, title in titles.items()
    ]
    for classes, seconds in measured["training"]["train"].items():
        what = f"photos in one epoch of a head of {int(classes):,} classes (on the device)"
        rows.append({"on the processor": what, "per second": f"{1 / seconds:.0f}"})
    return markdown(rows)


def paper(networks: list[str], batch_size: int) -> Study:
    """The paper's study on photos as they are, with some of its networks."""
    whole = config.read(PAPER, arms=["plain"], batch_size=batch_size)
    source = whole.source if whole.source in networks else networks[0]
    return replace(whole, networks=tuple(networks), source=source)


def estimate(measured: dict[str, Any], study: Study, size: costs.Size) -> str:
    """The estimated time of each stage and, if the study was run, the real one."""
    took = measured.get("run", {}).get("seconds", {})
    by_stage = costs.times(measured, study, size)
    rows = [
        {"stage": stage, "estimated (s)": f"{time.total:.0f}"} for stage, time in by_stage.items()
    ]
    total = sum(time.total for time in by_stage.values())
    rows.append({"stage": "all of these", "estimated (s)": f"{total:.0f}"})
    if took:
        of_stages = sum(took[stage] for stage in by_stage)
        rows += [{"stage": stage, "estimated (s)": "none"} for stage in ("summaries", "report")]
        for row in rows:
            row["took (s)"] = f"{took.get(row['stage'], of_stages):.0f}"
    head = f"{size.photos:,} photos of {size.people:,} people, {', '.join(study.networks)}:"
    return f"{head}\n\n{markdown(rows)}\n"


def run(study: Study, size: costs.Size) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run the study on photos of noise with random weights: its costs, and the bytes per row.

    The batch-norm statistics of random bases count as features.
    """
    from gradcam_adv.app.pipeline import Pipeline

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        rates.write_photos(place / "photos", size.people, size.photos // size.people)
        noise = replace(
            study,
            photos=str(place / "photos"),
            weights="random",
            classes=size.people,
            min_photos=3,
            max_photos=None,
        )
        pipeline = Pipeline(noise, place / "run", place / "models")
        pipeline.run("score")
        report = timing.seconds(pipeline.run)
        arm = pipeline.plan.arms["plain"]
        by_stage: dict[str, float] = {}
        for task in pipeline.plan.tasks:
            stage = stage_of(task)
            by_stage[stage] = by_stage.get(stage, 0.0) + task.record().seconds
        found = {
            "people": size.people,
            "photos": size.photos,
            "networks": list(study.networks),
            "seconds": by_stage | {"report": report},
            "bytes": {
                stage: sum(
                    path.stat().st_size
                    for task in getattr(arm, stage).values()
                    for path in task.folder.glob("*")
                    if path.name not in ("manifest.json", "batch-norm.npz", "unrelated.csv")
                )
                for stage in ("features", "attack", "evaluate", "explain", "score")
            },
        }
        network = study.networks[-1]
        evaluate, score = arm.evaluate[network], arm.score[network]
        kept = {
            "evaluate": (evaluate.predictions(), evaluate.folder.glob("[0-9]*.csv")),
            "score": (score.nissim(), score.folder.glob("nissim-*.csv")),
        }
        rows = {
            stage: {
                "disk": sum(path.stat().st_size for path in paths) / len(table),
                "memory": int(table.memory_usage(deep=True).sum()) / len(table),
            }
            for stage, (table, paths) in kept.items()
        }
    return found, rows


def stage_of(task: Task) -> str:
    """The stage of :func:`benchmarks.costs.times` that a task belongs to."""
    if isinstance(task, SummaryTask):
        return "summaries"
    of = {"layers": "score", "transfer": "evaluate", "transfer_score": "score"}
    return of.get(task.kind, task.kind)


def markdown(rows: list[dict[str, Any]]) -> str:
    return pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True)


if __name__ == "__main__":
    main()
