"""The explanation attack on true networks, beside noise, FGSM, PGD and random search.

``python -m benchmarks.explanation_attack PHOTOS WEIGHTS OUT [NETWORK...]`` trains heads for the
people in PHOTOS, a folder or "orl" as in a study, on the ImageNet bases in WEIGHTS. It attacks one
photo of each person that was not trained on, and prints the tables in docs/results.md. OUT gets the
networks and their tables; what is there already is not made again.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from gradcam_adv import (
    FGSM,
    PGD,
    ExplanationAttack,
    GradCAM,
    RandomSigns,
    backends,
    machine,
    metrics,
    perturb,
    predict_logits,
    statistics,
)
from gradcam_adv.attacks.perturbations import Perturbations
from gradcam_adv.data import photos, sources
from gradcam_adv.explain import resize
from gradcam_adv.explain.heatmaps import is_empty
from gradcam_adv.files import write
from gradcam_adv.graph.flat import flatten
from gradcam_adv.graph.layers import block_ends
from gradcam_adv.models import bases, classifiers, training, weights

NETWORKS = ("xception", "vgg16")
SIDE = 224
# Photos of each person: to train at most, to choose the epoch, to attack.
TRAINED, VALIDATED, ATTACKED = 10, 2, 1
# People with fewer photos are left out.
MIN_PHOTOS = 10
EPOCHS = 60
EPSILONS = (1 / 255, 4 / 255)
STEPS = 12
LAYERS = ("last", "middle")
PGD_STEPS = 10


def listed(source: str, train: int = TRAINED, validate: int = VALIDATED) -> pd.DataFrame:
    """Columns path, name, person (a number) and purpose: "train", "validate" or "attack"."""
    listing = sources.list_photos(source, classes=None, min_photos=MIN_PHOTOS, seed=0)
    parts = []
    for person, (name, own) in enumerate(listing.files.groupby("identity")):
        drawn = np.random.default_rng(person).permutation(own["photo"])
        drawn = drawn[: train + validate + ATTACKED]
        counts = (len(drawn) - validate - ATTACKED, validate, ATTACKED)
        purposes = np.repeat(["train", "validate", "attack"], counts)
        paths = [listing.root / photo for photo in drawn]
        columns = {"path": paths, "name": name, "person": person, "purpose": purposes}
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def trained(network: str, people: pd.DataFrame, own: Path, out: Path) -> keras.Model:
    path = out / f"{network}.keras"
    if not path.exists():
        base = bases.build(network, SIDE, weights.resolve(own, [network])[network])
        train, validation = (
            np.flatnonzero(people["purpose"] == purpose) for purpose in ("train", "validate")
        )
        model, _ = training.train(
            base,
            photos.decode_all(people["path"], SIDE),
            people["person"].to_numpy(),
            train=train,
            validation=validation,
            epochs=EPOCHS,
            seed=0,
        )
        classifiers.save_model(model, path, {})
    return classifiers.load_model(path)


def measured(network: str, model: keras.Model, images: np.ndarray, out: Path) -> pd.DataFrame:
    """One row per layer, attack, epsilon and photo; also NISSIM of unrelated clean maps."""
    graph = flatten(model)
    ends = block_ends(graph)
    layers = [GradCAM(graph).layers[0], ends[len(ends) // 2].path]
    explain = GradCAM(graph, layers)
    clean = {name: resize(maps, SIDE) for name, maps in explain(images).items()}
    classes = predict_logits(graph, images).argmax(axis=1)

    def rows(attack: str, perturbations: Perturbations, *names: str) -> Iterator[pd.DataFrame]:
        for epsilon, added in perturbations.items():
            attacked = perturb(images, added)
            kept = predict_logits(graph, attacked).argmax(axis=1) == classes
            maps = explain(attacked)
            for name in names:
                columns = {
                    "layer": name,
                    "attack": attack,
                    "epsilon": epsilon,
                    "photo": np.arange(len(images)),
                    "nissim": metrics.nissim(clean[name], resize(maps[name], SIDE)),
                    "kept": kept,
                    "empty": is_empty(maps[name]),
                }
                yield pd.DataFrame(columns)

    def unrelated(name: str) -> Iterator[pd.DataFrame]:
        pairs = metrics.UnrelatedPairs(classes, seed=0)
        for photo, predicted in enumerate(classes):
            others = clean[name][pairs.draw(predicted)]
            level = metrics.nissim(np.broadcast_to(clean[name][photo], others.shape), others).mean()
            row = {"layer": name, "attack": "unrelated", "epsilon": 0.0, "photo": photo}
            yield pd.DataFrame([row | {"nissim": level, "kept": True, "empty": False}])

    def others() -> Iterator[pd.DataFrame]:
        yield from rows("noise", RandomSigns()(images, None, EPSILONS), *layers)
        yield from rows("FGSM", FGSM(graph)(images, classes, EPSILONS), *layers)
        pgd = PGD(graph, steps=PGD_STEPS)
        yield from rows("PGD", pgd(images, classes, EPSILONS), *layers)
        for name in layers:
            yield from unrelated(name)

    def random_search() -> Iterator[pd.DataFrame]:
        """Random signs, as often as the explanation attack asks the network; the best are kept."""
        draws = pd.concat(
            [
                of_draw
                for seed in range(STEPS + 1)
                for of_draw in rows(
                    "random search", RandomSigns(seed)(images, None, EPSILONS), *layers
                )
            ],
            ignore_index=True,
        )
        # If no draw is as asked, the photo stays as it is.
        refused = ~draws["kept"] | draws["empty"]
        draws.loc[refused, ["nissim", "kept", "empty"]] = [0.0, True, False]
        best = draws.groupby(["layer", "epsilon", "photo"], sort=False)["nissim"].idxmax()
        yield draws.loc[best]

    def explanation(name: str) -> Iterator[pd.DataFrame]:
        attack = ExplanationAttack(graph, name, steps=STEPS)
        perturbations = attack(images, classes, EPSILONS)
        reached = attack.success(images, perturbations)
        print(network, name, reached.groupby("epsilon").mean().round(3), sep="\n", flush=True)
        yield from rows("explanation attack", perturbations, name)

    def stored(what: str, make: Iterator[pd.DataFrame]) -> pd.DataFrame:
        path = out / f"{network}_{what}.csv"
        if not path.exists():
            write.table(path, pd.concat(make, ignore_index=True))
        return pd.read_csv(path)

    parts = [stored("others", others()), stored("random", random_search())]
    parts += [stored(what, explanation(name)) for what, name in zip(LAYERS, layers, strict=True)]
    return pd.concat(parts, ignore_index=True)


def summary(tables: dict[str, pd.DataFrame], value: str) -> pd.DataFrame:
    """Means of a column by network, layer, epsilon and attack, with their 95 % intervals.

    These are over people, of whom each has one photo.
    """
    lines = []
    for network, table in tables.items():
        for layer, of_layer in table.groupby("layer", sort=False):
            unrelated = of_layer[of_layer["attack"] == "unrelated"]
            for epsilon in EPSILONS:
                line = {"network": network, "layer": layer, "ε": f"{255 * epsilon:.0f}/255"}
                of_epsilon = of_layer[np.isclose(of_layer["epsilon"], epsilon)]
                for attack, rows in of_epsilon.groupby("attack", sort=False):
                    line[attack] = shown(rows, value)
                if value == "nissim":
                    line["unrelated"] = shown(unrelated, value)
                lines.append(line)
    return pd.DataFrame(lines)


def shown(rows: pd.DataFrame, value: str) -> str:
    found = statistics.mean(rows[value], rows["photo"])
    if value == "nissim":
        low, high = found.interval(0, 1)
        return f"{found.value:.3f} [{low:.3f}, {high:.3f}]"
    low, high = statistics.share_interval(found)
    return f"{found.value:.0%} [{100 * low:.0f}, {100 * high:.0f}]"


def main() -> None:
    source, own, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    backends.configure(machine.cores())
    out.mkdir(parents=True, exist_ok=True)
    people = listed(source)
    attacked = people[people["purpose"] == "attack"]
    images = photos.decode_all(attacked["path"], SIDE)
    tables: dict[str, pd.DataFrame] = {}
    for network in sys.argv[4:] or NETWORKS:
        model = trained(network, people, own, out)
        right = predict_logits(model, images).argmax(axis=1) == np.arange(len(images))
        answers = pd.DataFrame({"right": right, "photo": np.arange(len(images))})
        print(f"{network}: {shown(answers, 'right')} of the photos are answered rightly")
        tables[network] = measured(network, model, images, out)
        for value in ("nissim", "kept", "empty"):
            print(value, summary(tables, value).to_markdown(index=False), sep="\n", flush=True)


if __name__ == "__main__":
    main()
