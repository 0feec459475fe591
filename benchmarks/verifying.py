"""Pairs of faces under attack: VGG16's ImageNet base as an embedder, on pairs in LFW's format.

``python -m benchmarks.verifying PHOTOS WEIGHTS OUT`` draws 100 pairs of one person and 100 of two,
writes the list, the embedder and the ROC to OUT, and prints the tables in docs/results.md. PHOTOS
has one folder per person, as LFW. Afterwards ``gradcam-adv explain --model OUT/embedder.keras
--pairs OUT/pairs.txt --images PHOTOS`` makes pictures of the same pairs.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import roc_curve

from gradcam_adv import RandomSigns, backends, machine, perturb, verification
from gradcam_adv.app.folder import by_layer, gain_by_layer
from gradcam_adv.data import photos
from gradcam_adv.data.pairs import read_pairs
from gradcam_adv.files import write
from gradcam_adv.graph.verifier import embed
from gradcam_adv.metrics import verification_rates
from gradcam_adv.models import bases, classifiers, weights

SIDE = 224
PAIRS = 100  # of each kind
EPSILONS = (0.001, 0.01, 0.05)
NOISE_EPSILONS = (0.1, 0.3)


def draw(folder: Path, seed: int = 0) -> str:
    """Pairs in LFW's format; the first photo of each, which is attacked, occurs once."""
    chance = np.random.default_rng(seed)
    people = {
        path.name: chance.permutation([int(photo.stem[-4:]) for photo in sorted(path.iterdir())])
        for path in sorted(folder.iterdir())
        if path.is_dir()
    }
    names = list(people)
    lines = [f"1\t{PAIRS}"]
    for i in range(PAIRS):
        name, turn = names[i % len(names)], i // len(names)
        lines.append(f"{name}\t{people[name][turn]}\t{people[name][turn + 4]}")
    for i in range(PAIRS):
        name, turn = names[i % len(names)], i // len(names)
        other = chance.choice([person for person in names if person != name])
        lines.append(f"{name}\t{people[name][turn + 2]}\t{other}\t{people[other][turn + 4]}")
    return "\n".join(lines) + "\n"


def save_embedder(folder: str, path: Path) -> None:
    base = bases.build("vgg16", SIDE, weights.resolve(folder, ["vgg16"])["vgg16"])
    classifiers.save_model(classifiers.features(base), path, {})


def draw_roc(pairs: pd.DataFrame, path: Path) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(4.5, 4.5))
    for epsilon, group in pairs.groupby("epsilon"):
        wrong, right, _ = roc_curve(group["same"], group["similarity"])
        axes.plot(wrong, right, label=f"ε = {epsilon:g}" if epsilon else "clean")
    axes.set(xlabel="false accepts", ylabel="true accepts", aspect="equal")
    axes.legend()
    figure.savefig(path, dpi=110, bbox_inches="tight")


def roc_table(pairs: pd.DataFrame) -> pd.DataFrame:
    """True accepts at some shares of false accepts, and mean similarities, by epsilon."""
    rows = []
    for epsilon, group in pairs.groupby("epsilon"):
        wrong, right, _ = roc_curve(group["same"], group["similarity"])
        row = {"epsilon": epsilon}
        row |= {f"true accepts at {x:.0%} false": right[wrong <= x].max() for x in (0.01, 0.1, 0.3)}
        means = group.groupby("same")["similarity"].mean()
        rows.append(row | {"similarity, same": means[True], "similarity, other": means[False]})
    return pd.DataFrame(rows).round(3)


def main() -> None:
    folder, out = Path(sys.argv[1]), Path(sys.argv[3])
    backends.configure(machine.cores())
    out.mkdir(parents=True, exist_ok=True)
    write.text(out / "pairs.txt", draw(folder))
    save_embedder(sys.argv[2], out / "embedder.keras")
    model = classifiers.load_model(out / "embedder.keras")
    listed = read_pairs(out / "pairs.txt", folder)
    images, others = (photos.decode_all(paths, SIDE) for paths in (listed.images, listed.others))
    start = time.perf_counter()
    result = verification(
        model,
        images,
        others,
        listed.same,
        epsilons=EPSILONS,
        noise_epsilons=NOISE_EPSILONS,
        groups=[path.parent.name for path in listed.images],
    )
    minutes = (time.perf_counter() - start) / 60
    draw_roc(result.pairs, out / "roc.png")
    strongest = EPSILONS[-1]
    noisy = perturb(images, RandomSigns()(images, None, [strongest])[strongest])
    similarity = (embed(model, noisy) * embed(model, others)).sum(axis=1)
    threshold = result.rates["threshold"][0]
    print(f"{len(images)} pairs, {minutes:.1f} minutes. Random signs of {strongest}:")
    print(verification_rates(similarity, listed.same, threshold), end="\n\n")
    tables = (result.rates.round(3), roc_table(result.pairs), by_layer(result))
    for table in (*tables, gain_by_layer(result)):
        print(table.to_markdown(index=False), end="\n\n")
    mod = ["epsilon", "mod", "mod_noise", "mod_mirrored", "unrelated", "empty_clean"]
    print(result.mod[mod].round(4).to_markdown(index=False))


if __name__ == "__main__":
    main()
