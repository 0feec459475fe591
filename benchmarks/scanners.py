"""What ``gradcam-adv check``, modelscan and modelaudit say of files of published attacks.

``python -m benchmarks.scanners`` prints the table of SECURITY.md. It takes five minutes on
two cores. ``make bench-scanners`` makes the scanners' environment first.
"""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from benchmarks import checking

sys.path.insert(0, str(checking.ROOT / "tests"))
from bad_files import PUBLISHED

SCANNERS = checking.ROOT / ".venv-scanners" / "bin"
# The scanners' names for how bad a finding is, from the worst.
SEVERITIES = ("critical", "high", "medium", "low", "warning", "info")


def written(folder: Path) -> list[tuple[str, Path]]:
    """A file of each published attack, and good files as Keras writes them."""
    import keras

    cases = []
    for number, (name, suffix, content, _) in enumerate(PUBLISHED):
        path = folder / f"{number}{suffix}"
        path.write_bytes(content)
        cases.append((name, path))
    network = keras.applications.MobileNetV2(weights=None)
    inputs = keras.Input((8, 8, 3))
    for name, model in (
        ("good: MobileNetV2", network),
        ("good: operations", keras.Model(inputs, keras.ops.relu(inputs * 2))),
    ):
        cases.append((name, folder / f"{len(cases)}.keras"))
        model.save(cases[-1][1])
    cases.append(("good: MobileNetV2", folder / "good.weights.h5"))
    network.save_weights(cases[-1][1])
    return cases


def _run(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
    """Run a scanner, without the notes that modelaudit sends to its maker."""
    own = {"PROMPTFOO_DISABLE_TELEMETRY": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.run(
        [SCANNERS / name, *arguments], env=os.environ | own, capture_output=True, timeout=300
    )


def modelscan(path: Path) -> str:
    report = path.with_suffix(".json")
    _run("modelscan", "scan", "--path", path, "--reporting-format", "json", "-o", report)
    if not report.is_file():
        return "failed"
    said = json.loads(report.read_text())
    if not said["issues"] and said["errors"]:
        return "failed"
    if not said["issues"] and not said["summary"]["scanned"]["total_scanned"]:
        return "skipped"
    return _worst(said["issues"])


def modelaudit(path: Path) -> str:
    done = _run("modelaudit", "scan", "--format", "json", "--no-cache", path)
    if done.returncode not in (0, 1):
        return "failed"
    return _worst(json.loads(done.stdout)["issues"])


def _worst(issues: list[dict[str, str]]) -> str:
    if not issues:
        return "nothing found"
    return "found: " + min((i["severity"].lower() for i in issues), key=SEVERITIES.index)


def versions() -> str:
    """The versions of the scanners, and of our Keras."""
    import keras

    asked = "import importlib.metadata as m; print(m.version('{0}'), end='')"
    found = {name: _run("python", "-c", asked.format(name)) for name in ("modelscan", "modelaudit")}
    scanners = [f"{name} {done.stdout.decode()}" for name, done in found.items()]
    return ", ".join([*scanners, f"Keras {keras.__version__}"])


def main() -> None:
    if not SCANNERS.is_dir():
        raise ValueError(f"Expected {SCANNERS}, made by `make bench-scanners`. Received: no folder")
    with tempfile.TemporaryDirectory(prefix="scanners-") as place:
        cases = written(Path(place))
        ours = checking.checked(path for _, path in cases)
        rows = [
            {
                "file": f"{name} (`{''.join(path.suffixes)}`)",
                "gradcam-adv check": "accepted" if check.refused is None else "refused",
                "memory (MB)": f"{check.memory:.0f}",
                "time (s)": f"{check.seconds:.2f}",
                "modelscan": modelscan(path),
                "modelaudit": modelaudit(path),
            }
            for (name, path), check in zip(tqdm(cases, disable=None), ours, strict=True)
        ]
    print(pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True))
    print(f"\n{versions()}, {datetime.date.today()}")


if __name__ == "__main__":
    main()
