"""Photos a second on whatever device Keras' backend finds, and the time of a whole study."""

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
from gradcam_adv import batching as batches
from gradcam_adv.files import artifacts
from gradcam_adv.models import backbones
from gradcam_adv.study import config as study
from gradcam_adv.study import setting
from gradcam_adv.study.config import Study

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
    own = paper(given.networks, given.batch_size)
    size = costs.Size(given.people, given.people * given.each)
    if given.run:
        measured["run"], measured["rows"] = run(own, size)
    if given.save:
        artifacts.write_json(given.save, measured)
    if given.study or given.run:
        print(estimate(measured, own, size))


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.throughput", description=__doc__)
    parser.add_argument("--networks", nargs="+", default=list(backbones.BACKBONES))
    parser.add_argument("--batch-size", type=int, default=batches.BATCH_SIZE)
    parser.add_argument("--runs", type=int, default=5, help="of which medians are taken")
    parser.add_argument("--study", action="store_true", help="estimate a study, one arm")
    parser.add_argument("--run", action="store_true", help="run it as well, on made-up photos")
    parser.add_argument("--people", type=int, default=50, help="of the study")
    parser.add_argument("--each", type=int, default=59, help="photos of each of them")
    parser.add_argument("--save", type=Path, help="what was measured, as JSON")
    return parser.parse_args(arguments)


def measure(networks: list[str], batch_size: int, runs: int) -> dict[str, Any]:
    """All rates, each piece in a process of its own, so that its peak memory is its own."""

    def alone(call: Any, of: str = "", **more: int) -> dict[str, Any]:
        return processes.alone(functools.partial(call, runs=runs, **more), of)

    return {
        "date": str(datetime.date.today()),
        "versions": setting.versions(),
        "cores": batches.cores(),
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
  medians of {measured["runs"]} runs after one that does not count.
- Peak: {device["peak_flops"] / 1e12:.2f} TFLOP/s, the best product of two
  {device["matmul_side"]} x {device["matmul_side"]} matrices."""


def networks_table(measured: dict[str, Any]) -> str:
    """Photos a second, and in brackets what share of the device's peak that is."""
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
    """Operations a second of a piece of work over the device's most."""
    found = measured["networks"][network]
    return found[kind] * flops_of(found, kind) / measured["device"]["peak_flops"]


def flops_of(found: dict[str, Any], kind: str) -> float:
    return costs.flops.FLOPS * found["multiply_adds"] * rates.PASSES[kind]


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
        {"on the processor": title, "a second": f"{measured['processor'][name]:.0f}"}
        for name, title in titles.items()
    ]
    for classes, seconds in measured["training"]["train"].items():
        what = f"photos in one epoch of a head of {int(classes):,} classes (on the device)"
        rows.append({"on the processor": what, "a second": f"{1 / seconds:.0f}"})
    return markdown(rows)


def paper(networks: list[str], batch_size: int) -> Study:
    """The paper's study on photos as they are, with some of its networks."""
    whole = study.read(PAPER, arms=["plain"], batch_size=batch_size)
    source = whole.source if whole.source in networks else networks[0]
    return replace(whole, networks=tuple(networks), source=source)


def estimate(measured: dict[str, Any], own: Study, size: costs.Size) -> str:
    """Each stage's estimated time and, where the study was run, what it took."""
    took = measured.get("run", {}).get("seconds", {})
    by_stage = costs.times(measured, own, size)
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
    head = f"{size.photos:,} photos of {size.people:,} people, {', '.join(own.networks)}:"
    return f"{head}\n\n{markdown(rows)}\n"


def run(own: Study, size: costs.Size) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run the study on photos of noise and random weights: what it took, and what a row takes.

    Statistics of random bases, which a study with true weights does without, count as features.
    """
    from gradcam_adv.app import pipeline
    from gradcam_adv.study.stages import score as scoring

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        rates.write_photos(place / "photos", size.people, size.photos // size.people)
        changed = replace(own, photos=str(place / "photos"), weights="random")
        counts = {"classes": size.people, "min_photos": 3, "max_photos": None}
        tried = pipeline.Pipeline(replace(changed, **counts), place / "run", place / "models")
        tried.run("score")
        report = timing.seconds(tried.run)
        plain = tried.settings["plain"]
        seconds = tried.seconds()
        by_stage = seconds.groupby(seconds["task"].map(stage_of))["seconds"].sum().to_dict()
        found = {
            "people": size.people,
            "photos": size.photos,
            "networks": list(own.networks),
            "seconds": by_stage | {"report": report},
            "bytes": {
                stage: sum(
                    path.stat().st_size
                    for network in own.networks
                    for path in plain.folders[f"{stage}/{network}"].glob("*")
                    if path.name not in ("manifest.json", "batch-norm.npz", "ceiling.csv")
                )
                for stage in ("features", "attack", "evaluate", "explain", "score")
            },
        }
        network = own.networks[-1]
        answers = setting.predictions(plain, network)
        scores = scoring.scores(plain, network)
        kept = {
            "evaluate": (answers, plain.folders[f"evaluate/{network}"].glob("[0-9]*.csv")),
            "score": (scores, plain.folders[f"score/{network}"].glob("nissim-*.csv")),
        }
        rows = {
            stage: {
                "disk": sum(path.stat().st_size for path in paths) / len(table),
                "memory": int(table.memory_usage(deep=True).sum()) / len(table),
            }
            for stage, (table, paths) in kept.items()
        }
    return found, rows


def stage_of(task: str) -> str:
    """The stage of :func:`benchmarks.costs.times` that a task such as "layers/vgg16" is part of."""
    kind, _, of = task.partition("/")
    if of == "summary":
        return "summaries"
    return "score" if kind == "layers" else kind


def markdown(rows: list[dict[str, Any]]) -> str:
    return pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True)


if __name__ == "__main__":
    main()
