"""Run every comparison and write ``docs/benchmarks.md``; some minutes on two cores."""

from __future__ import annotations

import datetime
import platform
from importlib.metadata import version
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from benchmarks import attacking, detecting, explaining, memory, processes, scoring, training
from gradcam_adv import batching as batches
from gradcam_adv.files import artifacts
from gradcam_adv.models import backbones
from gradcam_adv.study import setting

PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"

COMPARISONS: list[tuple[processes.Comparison, str]] = [
    *((explaining.against_input_gradient, network) for network in backbones.BACKBONES),
    (explaining.against_tf_keras_vis, "resnet50"),
    (explaining.against_tf_keras_vis, "resnet101"),
    (explaining.against_torch_cam, "contiguous_format"),
    (explaining.against_torch_cam, "channels_last"),
    (attacking.against_foolbox, "resnet50"),
    (scoring.against_scikit_image, "7"),
    (scoring.against_scikit_image, "224"),
    (memory.of_many_photos, "resnet101"),
    (training.cached_features, "resnet50"),
    (detecting.against_naive_loop, "112"),
    (detecting.against_naive_loop, "250"),
]


def main() -> None:
    rows = [
        processes.alone(compare, of)
        for compare, of in tqdm(COMPARISONS, "bench", unit="comparison", disable=None)
    ]
    text = page(pd.DataFrame(rows))
    artifacts.write_text(PAGE, text)
    print(text, end="")


def page(rows: pd.DataFrame) -> str:
    """The measured rows as a page of Markdown, with what they were measured on."""
    versions = setting.versions() | {"tf-keras-vis": version("tf-keras-vis")}
    system = f"{platform.system()} {platform.release()}"
    machine = f"{processes.processor()}, {batches.cores()} cores, {system}"
    return f"""\
# Benchmarks

Written by `make bench` (`python -m benchmarks`) on {datetime.date.today()}.

- Machine: {machine}.
- Versions: {", ".join(f"{name} {number}" for name, number in versions.items())}.
- Explaining: batches of {batches.BATCH_SIZE} photos of {explaining.IMAGE_SIZE} px, random weights.
- Every comparison has a process of its own. Its two sides take turns, and the ratio is the median
  of the runs' own ratios, so a slow spell of the machine falls on both.
- First call: compiling and the first run, or for training the first whole run. Never in a ratio.
- tf-keras-vis' maps of the sampled layers equal ours to {explaining.TOLERANCE:g} of each map's
  scale, or this page would not have been written.

{rows.to_markdown(index=False, disable_numparse=True)}
"""


if __name__ == "__main__":
    main()
