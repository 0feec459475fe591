"""The tables of ``docs/scale.md``, from measurements and assumptions about a GPU."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import costs, processes, rates, throughput
from gradcam_adv.files import read, write
from gradcam_adv.models import backbones

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "scale.md"
# Written by the two commands on the page.
MEASURED, SMALL_RUN = HERE / "measured.json", HERE / "small_run.json"
SIZES = {
    "50 people, 59 photos each": costs.Size(50, 50 * 59),
    "9,131 people, 59 photos each": costs.Size(9131, 9131 * 59),
    "9,131 people, all 3.31 million photos": costs.Size(9131, 3_310_000),
}
GPUS = (1, 8, 64)
_BLOCK = re.compile(r"(<!-- made: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


@dataclass(frozen=True)
class Assumed:
    """What was not measured, since there was no GPU.

    Attributes:
        tflops: operations per second, in units of 1e12, that a GPU reaches on the networks.
        price: per hour, of a GPU and its processor cores.
        cores: per GPU.
    """

    tflops: float = 10.0
    price: float = 2.0
    cores: int = 8


def main(arguments: list[str] | None = None) -> None:
    usual = Assumed()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--effective-tflops", type=float, default=usual.tflops)
    parser.add_argument("--price-per-hour", type=float, default=usual.price)
    parser.add_argument("--cores-per-gpu", type=int, default=usual.cores)
    parser.add_argument("--write", action="store_true", help="write them into docs/scale.md")
    given = parser.parse_args(arguments)
    assumed = Assumed(given.effective_tflops, given.price_per_hour, given.cores_per_gpu)
    found = {name: make(measurements(), assumed) for name, make in TABLES.items()}
    if given.write:
        write.text(PAGE, filled(PAGE.read_text(encoding="utf-8"), found))
    print("\n\n".join(found.values()))


def measurements() -> dict[str, Any]:
    """Both measurements in one; rows and the small study are from the second."""
    small = read.json(SMALL_RUN)
    return read.json(MEASURED) | {name: small[name] for name in ("rows", "run")}


def filled(page: str, tables: dict[str, str]) -> str:
    """The page with every table between its two comments."""
    return _BLOCK.sub(lambda block: f"{block[1]}\n{tables[block[2]]}\n\n{block[3]}", page)


def hours(time: costs.Time, measured: costs.Measured, gpus: int, assumed: Assumed) -> float:
    """Hours of a study on several GPUs.

    Passes through networks run at the assumed rate on all GPUs. Work on the processor runs on all
    cores, at the measured speed of a core. A head is trained by one process, as fast as measured.
    """
    passes = time.flops / (assumed.tflops * 1e12 * gpus)
    processor = time.processor * measured["cores"] / (assumed.cores * gpus)
    return (passes + processor + time.serial) / 3600


def total(measured: costs.Measured, size: costs.Size) -> costs.Time:
    by_stage = costs.times(measured, _study(measured), size)
    return sum(by_stage.values(), costs.Time())


def _study(measured: costs.Measured) -> Any:
    return throughput.paper(list(measured["networks"]), measured["batch_size"])


def stages(measured: dict[str, Any], assumed: Assumed) -> str:
    """Cost of each stage, for all networks together."""
    study, size = _study(measured), SIZES["50 people, 59 photos each"]
    train, tests = size.split(study)
    works_on = {
        "data": ("all", size.photos),
        "features": ("all", size.photos),
        "train": ("training", train),
        "explain": ("example", min(study.examples, tests)),
    }
    kept = costs.disk(measured, study, size)
    rows = []
    for stage, time in costs.times(measured, study, size).items():
        photos, count = works_on.get(stage, ("test", tests))
        on_disk = kept.get(stage)
        rows.append(
            {
                "stage": stage,
                "photos": photos,
                "number": f"{count:,}",
                "seconds": f"{time.total:,.0f}",
                "seconds per photo": f"{time.total / count:.3f}",
                "bytes per photo": f"{on_disk / count:,.0f}" if on_disk else "",
            }
        )
    return throughput.markdown(rows)


def layers(measured: dict[str, Any], assumed: Assumed) -> str:
    """Cost of the heatmaps of all layers beside that of one gradient."""
    rows = [
        {
            "network": backbones.find(network).title,
            "layers": found["layers"],
            "all layers (s per photo)": f"{1 / found['all']:.3f}",
            "one gradient (s per photo)": f"{1 / found['attack']:.3f}",
            "all layers (ms per photo and layer)": f"{1000 / found['all'] / found['layers']:.2f}",
            "heatmaps of all layers (bytes)": f"{found['positions'] * costs.FLOAT:,}",
        }
        for network, found in measured["networks"].items()
    ]
    return throughput.markdown(rows)


def run(measured: dict[str, Any], assumed: Assumed) -> str:
    """The estimated and the real time of the small study."""
    small = read.json(SMALL_RUN)
    study = throughput.paper(small["run"]["networks"], small["batch_size"])
    size = costs.Size(small["run"]["people"], small["run"]["photos"])
    return throughput.estimate(small, study, size).rstrip()


def check(measured: dict[str, Any], assumed: Assumed) -> str:
    """The estimated bytes of the small study, and those that it wrote."""
    run = measured["run"]
    study = throughput.paper(run["networks"], measured["batch_size"])
    estimated = costs.disk(measured, study, costs.Size(run["people"], run["photos"]))
    rows = [
        {"stage": stage, "estimated (bytes)": f"{size:,.0f}", "found": f"{run['bytes'][stage]:,}"}
        for stage, size in estimated.items()
    ]
    return throughput.markdown(rows)


def time(measured: dict[str, Any], assumed: Assumed) -> str:
    """Hours and price of each size on the measured machine, and on the assumed GPUs."""
    rows = []
    for name, size in SIZES.items():
        whole = total(measured, size)
        row = {"study": name, "measured machine (h)": f"{whole.total / 3600:,.2f}"}
        for gpus in GPUS:
            took = hours(whole, measured, gpus, assumed)
            row[f"{gpus} GPU{'s' * (gpus > 1)} (h; price)"] = (
                f"{took:,.2f}; {took * gpus * assumed.price:,.2f}"
            )
        rows.append(row | {"of this, in one process (h)": f"{whole.serial / 3600:,.2f}"})
    head = (
        f"Assumed: each GPU reaches {assumed.tflops:g} TFLOP/s and has {assumed.cores} processor "
        f"cores. Together they cost {assumed.price:g} per hour."
    )
    return f"{head}\n\n{throughput.markdown(rows)}"


def room(measured: dict[str, Any], assumed: Assumed) -> str:
    """Disk, files and rows of each size, for one arm."""
    study = _study(measured)
    rows = []
    for name, size in SIZES.items():
        _, tests = size.split(study)
        kept = costs.disk(measured, study, size)
        by_network = [tests * costs.scored_rows(measured, study, n) for n in study.networks]
        in_memory = max(by_network) * measured["rows"]["score"]["memory"]
        row = {"study": name, "test photos": f"{tests:,}"}
        row |= {f"{stage} (GB)": f"{kept[stage] / 1e9:,.2f}" for stage in kept}
        row |= {"all (GB)": f"{sum(kept.values()) / 1e9:,.1f}"}
        row |= {"files": f"{costs.files(study, size):,}", "rows of scores": f"{sum(by_network):,}"}
        row |= {"rows of one network in memory (GB)": f"{in_memory / 1e9:,.2f}"}
        rows.append(row | {"AUC of one network in memory (GB)": f"{auc(size) / 1e9:,.2f}"})
    return throughput.markdown(rows)


def auc(size: costs.Size) -> float:
    """Bytes of four tables of people by people: how often they are compared, and who is above."""
    return 4 * 8 * size.people**2


def memory(measured: dict[str, Any], assumed: Assumed) -> str:
    peaks = [float(found[processes.PEAK]) for found in measured["networks"].values()]
    head = float(measured["training"][processes.PEAK])
    return (
        f"Measured peak memory of a process: {min(peaks):.2f} to {max(peaks):.2f} GB with one "
        f"network, {head:.2f} GB in training a head of up to {rates.CLASSES[-1]:,} classes."
    )


TABLES: dict[str, Callable[[dict[str, Any], Assumed], str]] = {
    "about": lambda measured, _: throughput.about(measured),
    "networks": lambda measured, _: throughput.networks_table(measured),
    "processor": lambda measured, _: throughput.processor_table(measured),
    "stages": stages,
    "layers": layers,
    "run": run,
    "check": check,
    "time": time,
    "room": room,
    "memory": memory,
}


if __name__ == "__main__":
    main()
