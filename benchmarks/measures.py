"""Which measure tells an attack from noise: the comparison of docs/measures.md, on true networks.

``python -m benchmarks.measures PHOTOS WEIGHTS OUT`` trains heads for the people in PHOTOS, one
folder each, on the ImageNet bases in WEIGHTS, makes all heatmaps of one photo of each person, and
prints the tables in docs/results.md. OUT gets the networks and the heatmaps; what is there already
is not made again.
"""

from __future__ import annotations

import sys
from pathlib import Path

import keras
import numpy as np

from benchmarks.explanation_attack import SIDE, listed, trained
from gradcam_adv import FGSM, GradCAM, RandomSigns, backends, machine, perturb, predict_logits
from gradcam_adv.data import photos
from gradcam_adv.explain.explainer import PREDICTED
from gradcam_adv.files import write
from gradcam_adv.graph.flat import flatten
from gradcam_adv.models import classifiers

NETWORKS = ("vgg16", "xception")
# Photos of each person: to train, to choose the epoch, to attack.
SPLIT = (5, 1, 1)
EPSILONS = (0.002, 0.01, 0.05)
# Seeds of the noise; the first is compared with the attack, both with each other.
DRAWS = (0, 1)
# The share of the layers with a kernel, from the last one down, whose weights are shuffled.
CASCADE = {"head": 0.0, "quarter": 0.25, "half": 0.5, "all": 1.0}
# Of the two classes explained on each photo.
FIXED, FREE = 0, 1


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


def main() -> None:
    folder, own, out = (Path(argument) for argument in sys.argv[1:4])
    backends.configure(machine.cores())
    out.mkdir(parents=True, exist_ok=True)
    paths, _, purposes = listed(folder, SPLIT)
    images = photos.decode_all([paths[i] for i in np.flatnonzero(purposes == 2)], SIDE)
    for network in NETWORKS:
        model = trained(network, folder, own, out, SPLIT)
        make_maps(model, out / f"{network}.keras", images, out / network)


if __name__ == "__main__":
    main()
