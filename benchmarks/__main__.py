"""Run every comparison and write ``docs/benchmarks.md``. This takes minutes on two cores."""

from __future__ import annotations

import datetime
import platform
from importlib.metadata import version
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from benchmarks import attacking, detecting, explaining, memory, processes, scoring, training
from gradcam_adv import batching, machine
from gradcam_adv.files import write
from gradcam_adv.models import backbones

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
    write.text(PAGE, text)
    print(text, end="")


def page(rows: pd.DataFrame) -> str:
    """The measured rows as a page of Markdown, with what they were measured on."""
    versions = machine.versions() | {"tf-keras-vis": version("tf-keras-vis")}
    system = f"{platform.system()} {platform.release()}"
    computer = f"{processes.processor()}, {machine.cores()} cores, {system}"
    return f"""\
# Benchmarks

Written by `make bench` (`python -m benchmarks`) on {datetime.date.today()}.

- Machine: {computer}.
- Versions: {", ".join(f"{name} {number}" for name, number in versions.items())}.
- Explaining: batches of {batching.BATCH_SIZE} photos of {explaining.IMAGE_SIZE} px, random weights.
- Every comparison has a process of its own. Its two sides run in turn, and the ratio is the median
  of the ratios of the runs, so that slow moments of the machine count for both sides.
- First call: compiling and the first run; for training, the first whole run. It is in no ratio.
- On the sampled layers the maps of tf-keras-vis and ours differ by at most
  {explaining.TOLERANCE:g} of each map's scale; otherwise this page is not written.
- SECURITY.md says what two scanners and our own check say of published attacks
  (`make bench-scanners`).

{rows.to_markdown(index=False, disable_numparse=True)}
"""


if __name__ == "__main__":
    main()
