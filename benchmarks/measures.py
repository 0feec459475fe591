"""Which measure tells an attack from noise: the comparison of docs/measures.md, on true networks.

``python -m benchmarks.measures PHOTOS WEIGHTS OUT`` trains heads for the people in PHOTOS, a folder
or "orl" as in a study, on the ImageNet bases in WEIGHTS, makes all heatmaps of one photo of each
person, and prints the tables in docs/results.md. OUT gets the networks and the heatmaps; what is
there already is not made again.
"""

from __future__ import annotations

import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import scipy.stats

from benchmarks.explanation_attack import SIDE, listed, trained
from gradcam_adv import (
    FGSM,
    GradCAM,
    RandomSigns,
    backends,
    machine,
    perturb,
    predict_logits,
    statistics,
)
from gradcam_adv.data import photos
from gradcam_adv.explain.explainer import PREDICTED
from gradcam_adv.explain.heatmaps import is_empty
from gradcam_adv.files import write
from gradcam_adv.graph.flat import flatten
from gradcam_adv.metrics import MEASURES
from gradcam_adv.models import classifiers
from gradcam_adv.robustness.comparison import comparison
from gradcam_adv.study.tables import select

NETWORKS = ("vgg16", "xception")
# Photos of each person: to train, to choose the epoch; one more is attacked.
TRAINED, VALIDATED = 5, 1
EPSILONS = (0.002, 0.01, 0.05)
# Seeds of the noise; the first is compared with the attack, both with each other.
DRAWS = (0, 1)
# The share of the layers with a kernel, from the last one down, whose weights are shuffled.
CASCADE = {"head": 0.0, "quarter": 0.25, "half": 0.5, "all": 1.0}
# The two classes explained on each photo.
CLASSES = ("fixed", "predicted")
# Each photo's map is compared with those of photos so many people on.
UNRELATED = (3, 11, 19, 27, 35)


def shuffled(model: keras.Model, share: float) -> keras.Model:
    """The model with the values of each kernel shuffled: in the head, and in so many layers."""
    kernels = [
        [weight for weight in layer.weights if "kernel" in weight.name] for layer in model.layers
    ]
    layers = [of_layer for of_layer in reversed(kernels) if of_layer]
    head = sum(isinstance(layer, keras.layers.Dense) for layer in model.layers)
    chance = np.random.default_rng(0)
    for of_layer in layers[: max(head, round(share * len(layers)))]:
        for kernel in of_layer:
            values = keras.ops.convert_to_numpy(kernel)
            kernel.assign(chance.permutation(values.ravel()).reshape(values.shape))
    return model


def make_maps(model: keras.Model, path: Path, images: np.ndarray, folder: Path) -> None:
    """Heatmaps of the last layer by condition, (N, 2, h, w): the clean class, and the predicted."""
    folder.mkdir(parents=True, exist_ok=True)
    graph = flatten(model)
    classes = predict_logits(graph, images).argmax(axis=1)
    targets = np.stack([classes, np.full_like(classes, PREDICTED)], axis=1)

    def store(name: str, explain: GradCAM, pixels: np.ndarray) -> None:
        by_layer, _ = explain.maps_and_logits(pixels, targets)
        (maps,) = by_layer.values()
        write.array(folder / f"{name}.npy", maps)

    def missing(*names: str) -> bool:
        return not all((folder / f"{name}.npy").exists() for name in names)

    explain = GradCAM(graph)
    if missing("clean", "moved"):
        store("clean", explain, images)
        store("moved", explain, images[:, :, [0, *range(SIDE - 1)]])
    made = {f"noise {seed}": RandomSigns(seed) for seed in DRAWS} | {"attack": FGSM(graph)}
    for name, attack in made.items():
        if missing(*(f"{name} {epsilon}" for epsilon in EPSILONS)):
            for epsilon, added in attack(images, classes, EPSILONS).items():
                store(f"{name} {epsilon}", explain, perturb(images, added))
    for name, share in CASCADE.items():
        if missing(f"shuffled {name}"):
            model = shuffled(classifiers.load_model(path), share)
            store(f"shuffled {name}", GradCAM(model), images)


def scores(folder: Path) -> pd.DataFrame:
    """One row per measure, condition, class, epsilon and photo: measure, condition, ..., value."""
    maps = {path.stem: np.load(path) for path in sorted(folder.glob("*.npy"))}
    clean = maps.pop("clean")
    rows = []
    for name in MEASURES:
        compare = comparison(name)
        for condition, others in maps.items():
            kind, _, epsilon = condition.rpartition(" ")
            known = kind and not kind.startswith("shuffled")
            about = (name, kind, float(epsilon)) if known else (name, condition, 0.0)
            values = compare(clean, others, SIDE)
            for i, explained in enumerate(CLASSES):
                rows += [(*about, explained, photo, x) for photo, x in enumerate(values[:, i])]
        unrelated = [compare(clean[:, 0], np.roll(clean[:, 0], n, axis=0), SIDE) for n in UNRELATED]
        means = np.mean(unrelated, axis=0)
        rows += [(name, "unrelated", 0.0, "fixed", photo, x) for photo, x in enumerate(means)]
    columns = ["measure", "condition", "epsilon", "explained", "photo", "value"]
    return pd.DataFrame(rows, columns=columns)


def of(table: pd.DataFrame, **values: object) -> np.ndarray:
    """The values of one condition, by photo."""
    return select(table, **values).sort_values("photo")["value"].to_numpy()


def auc_draws(attack: np.ndarray, noise: np.ndarray, times: np.ndarray) -> np.ndarray:
    """The AUC, and then that of each draw, which has each photo so many times, (draws, photos)."""
    larger = (attack[:, None] > noise) + 0.5 * (attack[:, None] == noise)
    every = np.vstack([np.ones(len(attack)), times])
    return np.einsum("di,ij,dj->d", every, larger, every) / every.sum(axis=1) ** 2


def shown(value: float, draws: np.ndarray, people: int) -> str:
    low, high = statistics.percentile_interval(draws[:, None], people)
    return f"{value:.3f} [{low[0]:.3f}, {high[0]:.3f}]"


def deciding(table: pd.DataFrame) -> pd.DataFrame:
    """The deciding number of each measure, and its difference from NISSIM's."""
    people = table["photo"].nunique()
    chance = np.random.default_rng(0)
    times = chance.multinomial(people, np.full(people, 1 / people), statistics.RESAMPLES)
    found = {}
    for measure, own in select(table, explained="fixed").groupby("measure", sort=False):
        aucs = [
            auc_draws(
                of(rows, condition="attack", epsilon=epsilon),
                of(rows, condition="noise 0", epsilon=epsilon),
                times,
            )
            for _, rows in own.groupby("network")
            for epsilon in EPSILONS
        ]
        found[str(measure)] = np.mean(aucs, axis=0)
    rows = []
    for measure, (value, *drawn) in found.items():
        difference = found[measure] - found["nissim"]
        above, below = (np.mean(part) for part in (difference[1:] <= 0, difference[1:] >= 0))
        p = max(2 * min(above, below), 1 / statistics.RESAMPLES) if difference.any() else np.nan
        shown_difference = shown(difference[0], difference[1:], people)
        rows.append((measure, shown(value, np.array(drawn), people), shown_difference, min(p, 1)))
    result = pd.DataFrame(rows, columns=["measure", "mean AUC", "less NISSIM's", "p"])
    result["p"] = statistics.holm(list(result["p"]))
    return result


def against_noise(table: pd.DataFrame) -> pd.DataFrame:
    """AUC and paired win of attack against noise, by measure, network, class and epsilon."""
    rows = []
    for (network, explained, measure), own in table.groupby(
        ["network", "explained", "measure"], sort=False
    ):
        row = {"network": network, "class": explained, "measure": measure}
        for epsilon in EPSILONS:
            attack, noise = (
                of(own, condition=name, epsilon=epsilon) for name in ("attack", "noise 0")
            )
            (auc,) = auc_draws(attack, noise, np.empty((0, len(attack))))
            row[f"ε = {epsilon}"] = f"{auc:.3f}, {(attack > noise).mean():.0%}"
        rows.append(row)
    return pd.DataFrame(rows)


def controls(table: pd.DataFrame) -> pd.DataFrame:
    """Repeatability, and the other controls as shares of the level of unrelated photos."""
    rows = []
    for (network, measure), own in select(table, explained="fixed").groupby(
        ["network", "measure"], sort=False
    ):
        draws = [
            [of(own, condition=f"noise {seed}", epsilon=epsilon) for seed in DRAWS]
            for epsilon in EPSILONS
        ]
        ranks = [scipy.stats.spearmanr(*pair).statistic for pair in draws]
        level = of(own, condition="unrelated").mean()
        row = {"network": network, "measure": measure, "unrelated": f"{level:.3f}"}
        row["repeatability"] = ", ".join(f"{rank:.2f}" for rank in ranks)
        for name in ("moved", *(f"shuffled {share}" for share in CASCADE)):
            row[name] = f"{of(own, condition=name).mean() / level:.2f}"
        rows.append(row)
    return pd.DataFrame(rows)


def empty(folder: Path) -> dict[str, str]:
    """How many heatmaps of each shuffled network are empty, with the class held fixed."""
    maps = {name: np.load(folder / f"shuffled {name}.npy")[:, 0] for name in CASCADE}
    return {name: f"{is_empty(of).sum()} of {len(of)}" for name, of in maps.items()}


def main() -> None:
    own, out = (Path(argument) for argument in sys.argv[2:4])
    backends.configure(machine.cores())
    out.mkdir(parents=True, exist_ok=True)
    people = listed(sys.argv[1], TRAINED, VALIDATED)
    attacked = people[people["purpose"] == "attack"]
    images = photos.decode_all(attacked["path"], SIDE)
    for network in NETWORKS:
        model = trained(network, people, own, out)
        make_maps(model, out / f"{network}.keras", images, out / network)
    every = [scores(out / network).assign(network=network) for network in NETWORKS]
    table = pd.concat(every, ignore_index=True)
    write.table(out / "measures.csv", table)
    without = pd.DataFrame([{"network": name} | empty(out / name) for name in NETWORKS])
    for made in (deciding(table), against_noise(table), controls(table), without):
        print(made.to_markdown(index=False, disable_numparse=True), end="\n\n")


if __name__ == "__main__":
    main()
