"""Run every comparison and write ``docs/benchmarks.md``; some minutes on two cores."""

from __future__ import annotations

import datetime
import multiprocessing
import os
import platform
import resource
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from benchmarks import explaining, training
from gradcam_adv import artifacts, backbones, batches, stages

PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"

Comparison = Callable[[str], dict[str, str | int]]
COMPARISONS: list[tuple[Comparison, str]] = [
    *((explaining.against_input_gradient, network) for network in backbones.BACKBONES),
    (explaining.against_tf_keras_vis, "resnet50"),
    (training.cached_features, "resnet50"),
]


def main() -> None:
    rows = [
        alone(compare, network)
        for compare, network in tqdm(COMPARISONS, "bench", unit="comparison", disable=None)
    ]
    text = page(pd.DataFrame(rows))
    artifacts.write_text(PAGE, text)
    print(text, end="")


def alone(compare: Comparison, network: str) -> dict[str, str | int]:
    """``compare(network)`` in a process of its own, whose peak memory is then its own, too."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=spawn) as executor:
        return executor.submit(measured, compare, network).result()


def measured(compare: Comparison, network: str) -> dict[str, str | int]:
    """``compare(network)``, set up as a study sets itself up, with the process' peak memory."""
    from gradcam_adv import gradients

    gradients.configure(threads())
    result = compare(network)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak *= 1 if sys.platform == "darwin" else 1024  # bytes there, kilobytes elsewhere
    return result | {"peak RSS (GB)": f"{peak / 1e9:.1f}"}


def threads() -> int:
    return len(os.sched_getaffinity(0))


def page(rows: pd.DataFrame) -> str:
    """The measured rows as a page of Markdown, with what they were measured on."""
    versions = stages.versions() | {"tf-keras-vis": version("tf-keras-vis")}
    return f"""\
# Benchmarks

Written by `make bench` (`python -m benchmarks`) on {datetime.date.today()}.

- Machine: {processor()}, {threads()} cores, {platform.system()} {platform.release()}.
- Versions: {", ".join(f"{name} {number}" for name, number in versions.items())}.
- Explaining: batches of {batches.BATCH_SIZE} photos of {explaining.IMAGE_SIZE} px, random weights.
- Every comparison has a process of its own. Its two sides take turns, and the ratio is the median
  of the runs' own ratios, so a slow spell of the machine falls on both.
- First call: compiling and the first run, or for training the first whole run. Never in a ratio.
- tf-keras-vis' maps of the sampled layers equal ours to {explaining.TOLERANCE:g} of each map's
  scale, or this page would not have been written.

{rows.to_markdown(index=False, disable_numparse=True)}
"""


def processor() -> str:
    """The processor's own name where the system tells it."""
    facts = Path("/proc/cpuinfo")
    if facts.is_file():
        for line in facts.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
