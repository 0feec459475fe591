"""Ratios against peers: all of them into ``docs/benchmarks.md``, or some that are printed alone."""

from __future__ import annotations

import argparse
import datetime
import importlib
import platform
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from gradcam_adv import batching, machine
from gradcam_adv.models import backbones

if TYPE_CHECKING:
    import pandas as pd

PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"

# By name: the function of a module here, and what each of its runs is of. Modules are imported when
# they are needed, so that help comes at once.
COMPARISONS = {
    "gradient": ("explaining.against_input_gradient", [*backbones.BACKBONES]),
    "tf-keras-vis": ("explaining.against_tf_keras_vis", ["resnet50", "resnet101"]),
    "torch-cam": ("explaining.against_torch_cam", ["contiguous_format", "channels_last"]),
    "foolbox": ("attacking.against_foolbox", ["resnet50"]),
    "pgd-step": ("attacking.step_against_gradient", ["resnet50"]),
    "pgd-foolbox": ("attacking.pgd_against_foolbox", ["resnet50"]),
    "pgd-art": ("attacking.pgd_against_art", ["resnet50"]),
    "explanation": ("attacking.explanation_against_pgd", ["xception", "vgg16"]),
    "nissim": ("scoring.against_scikit_image", ["7", "224"]),
    "nissim-enlarged": ("scoring.enlarged_against_scikit_image", ["7", "14", "28", "56"]),
    "memory": ("memory.of_many_photos", ["resnet101"]),
    "heads": ("training.cached_features", ["resnet50"]),
    "callback": ("training.callback_against_steps", ["small", "resnet50"]),
    "faces": ("detecting.against_naive_loop", ["112", "250"]),
}


def main(arguments: list[str] | None = None) -> None:
    wanted = parsed(arguments).only
    rows = measured(wanted or list(COMPARISONS))
    if wanted:
        print(rows.to_markdown(index=False, disable_numparse=True))
    else:
        from gradcam_adv.files import write

        write.text(PAGE, text := page(rows))
        print(text, end="")


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure ratios against peers. All of them take minutes on two cores, and then "
        "docs/benchmarks.md is written; some are printed alone.",
    )
    names = ", ".join(COMPARISONS)
    parser.add_argument("only", nargs="*", metavar="NAME", help=f"all if none is given; {names}")
    given = parser.parse_args(arguments)
    if unknown := sorted({*given.only} - {*COMPARISONS}):
        parser.error(f"Expected names out of {names}. Received: {', '.join(unknown)}")
    return given


def measured(names: list[str]) -> pd.DataFrame:
    """One row for each run of the comparisons of these names."""
    import pandas as pd
    from tqdm import tqdm

    from benchmarks import processes

    rows = []
    runs = [(COMPARISONS[name][0], of) for name in names for of in COMPARISONS[name][1]]
    for function, of in tqdm(runs, "bench", unit="comparison", disable=None):
        module, name = function.split(".")
        compare = getattr(importlib.import_module(f"benchmarks.{module}"), name)
        rows.append(processes.alone(compare, of))
    return pd.DataFrame(rows)


def page(rows: pd.DataFrame) -> str:
    """The measured rows as a page of Markdown, with what they were measured on."""
    from benchmarks import explaining, processes

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
