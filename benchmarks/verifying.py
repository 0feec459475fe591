"""Pairs of faces under attack: VGG16's ImageNet base as an embedder, on pairs in LFW's format.

``python -m benchmarks.verifying PHOTOS WEIGHTS OUT`` draws 100 pairs of one person and 100 of two,
writes the list and the embedder to OUT, and scores them as ``gradcam-adv score --pairs`` does. It
prints the tables in docs/results.md and draws the ROC. PHOTOS has one folder per person, as LFW.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import roc_curve

from gradcam_adv import backends, machine
from gradcam_adv.app.folder import FolderWork, by_layer, gain_by_layer
from gradcam_adv.files import write
from gradcam_adv.models import bases, classifiers, weights

SIDE = 224
PAIRS = 100  # of each kind
EPSILONS = (0.001, 0.01, 0.05)


def draw(photos: Path, seed: int = 0) -> str:
    """Pairs in LFW's format; no photo is attacked twice."""
    chance = np.random.default_rng(seed)
    people = sorted(path.name for path in photos.iterdir() if path.is_dir())
    numbers = {
        name: chance.permutation([int(p.stem[-4:]) for p in sorted((photos / name).iterdir())])
        for name in people
    }
    lines = [f"1\t{PAIRS}"]
    for kind in ("same", "different"):
        for i in range(PAIRS):
            name, turn = people[i % len(people)], i // len(people)
            first = numbers[name][turn + (5 if kind == "different" else 0)]
            if kind == "same":
                lines.append(f"{name}\t{first}\t{numbers[name][turn + 2]}")
            else:
                other = chance.choice([person for person in people if person != name])
                lines.append(f"{name}\t{first}\t{other}\t{chance.choice(numbers[other])}")
    return "\n".join(lines) + "\n"


def save_embedder(folder: str, path: Path) -> None:
    found = weights.resolve(folder, ["vgg16"])["vgg16"]
    base = bases.build("vgg16", SIDE, found)
    classifiers.save_model(classifiers.features(base), path, {})


def draw_roc(pairs: pd.DataFrame, path: Path) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(4.5, 4.5))
    for epsilon, group in pairs.groupby("epsilon"):
        accepts, detections, _ = roc_curve(group["same"], group["similarity"])
        axes.plot(accepts, detections, label=f"ε = {epsilon:g}" if epsilon else "clean")
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.5)
    axes.set(xlabel="false accepts", ylabel="true accepts", aspect="equal")
    axes.legend()
    figure.savefig(path, dpi=110, bbox_inches="tight")


def roc_table(pairs: pd.DataFrame) -> pd.DataFrame:
    """True accepts at some false accepts, one row per epsilon."""
    rows = []
    for epsilon, group in pairs.groupby("epsilon"):
        accepts, detections, _ = roc_curve(group["same"], group["similarity"])
        at = {f"at {share:.0%}": detections[accepts <= share].max() for share in (0.01, 0.1, 0.3)}
        rows.append({"ε": epsilon} | at)
    return pd.DataFrame(rows)


def main() -> None:
    photos, weights_folder, out = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    backends.configure(machine.cores())
    out.mkdir(parents=True, exist_ok=True)
    write.text(out / "pairs.txt", draw(photos))
    save_embedder(weights_folder, out / "embedder.keras")
    work = FolderWork(
        out / "embedder.keras",
        photos,
        out / "score",
        layers=["block3_conv3", "block4_conv3", "block5_conv3"],
        epsilons=EPSILONS,
        explainer="gradcam",
        batch_size=None,
        pairs=out / "pairs.txt",
    )
    result, said = work.score()
    print(said, end="\n\n")
    pairs, rates = (pd.read_csv(out / "score" / f"{name}.csv") for name in ("pairs", "rates"))
    draw_roc(pairs, out / "roc.png")
    means = pairs.groupby(["epsilon", "same"])["similarity"].mean().unstack().round(3)
    for table in (
        rates.round(3),
        roc_table(pairs).round(2),
        means.reset_index(),
        by_layer(result),
        gain_by_layer(result),
    ):
        print(table.to_markdown(index=False), end="\n\n")


if __name__ == "__main__":
    main()
