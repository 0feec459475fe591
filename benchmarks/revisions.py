"""The same study by an older revision of this repository and by this one, in turn.

Prints the seconds of both, of processors and of the clock, and which files differ: the results of a
change that only makes things faster are equal byte for byte.
"""

from __future__ import annotations

import argparse
import compileall
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd

from benchmarks import timing
from gradcam_adv.files import hashes
from gradcam_adv.study.plan import STAGES

HERE = Path(__file__).resolve().parents[1]
# These say when and in how many seconds a result was made.
TIMED = {"manifest.json", "report.html"}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.revisions", description=__doc__)
    parser.add_argument("old", help="a revision of git")
    parser.add_argument("study", type=Path, help="a small study's file")
    parser.add_argument("--stage", choices=STAGES, default="report", help="up to which it is run")
    parser.add_argument("--runs", type=int, default=1, help="of each revision")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        old, folder = Path(name, "checkout"), Path(name)
        git = ["git", "-C", str(HERE), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", old, given.old], check=True)
        try:
            rows = []
            for run in range(given.runs):
                sides = {"old": old, "new": HERE}
                for side in sides if run % 2 == 0 else reversed(sides):
                    taken = study(sides[side], folder / side / str(run), given.study, given.stage)
                    rows.append({"revision": side} | taken)
        finally:
            subprocess.run([*git, "remove", "--force", old], check=True)
        differing = differences(folder / "old" / "0", folder / "new" / "0")
        count = len(files(folder / "new" / "0"))
    print(pd.DataFrame(rows).to_markdown(index=False, floatfmt=".1f"))
    print(f"\nOf {count} files {len(differing)} differ.", *differing, sep="\n")


def study(checkout: Path, folder: Path, file: Path, stage: str) -> dict[str, float]:
    """Run a study up to a stage in a folder, with the code of a checkout: its seconds."""
    folder.mkdir(parents=True)
    compileall.compile_dir(checkout / "gradcam_adv", quiet=1)  # a new checkout has no bytecode
    code = "from gradcam_adv.app.cli import main; main()"
    command = [sys.executable, "-c", code, stage, str(file.resolve())]
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    wall = timing.seconds(lambda: subprocess.run(command, cwd=folder, env=environment, check=True))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"processor seconds": used, "seconds": wall}


def files(folder: Path) -> dict[str, str]:
    """The hash of each file below a folder that says nothing of times, by its path."""
    found = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in TIMED)
    return {str(path.relative_to(folder)): hashes.sha256(path) for path in found}


def differences(old: Path, new: Path) -> list[str]:
    """The files that are not the same below both folders.

    A stage of another version, or with other inputs, writes into a folder of another name.
    """
    before, after = files(old), files(new)
    paths = sorted({*before, *after})
    return [path for path in paths if before.get(path) != after.get(path)]


if __name__ == "__main__":
    main()
