"""FGSM at four epsilons from one gradient, against Foolbox' attack called for each epsilon."""

from __future__ import annotations

import numpy as np

from benchmarks import explaining, timing
from benchmarks.processes import Row
from gradcam_adv.attacks import FGSM, perturb
from gradcam_adv.models import backbones
from gradcam_adv.robustness import EPSILONS

RUNS = 5


def against_foolbox(network: str) -> Row:
    """One batch, perturbed at four epsilons; neither side tests whether the network is fooled.

    Raises:
        ValueError: the perturbed images of the two sides differ in over 0.1 % of the values.
    """
    import foolbox
    import tensorflow as tf

    model, images = explaining.classifier(network), explaining.photos()
    labels = np.arange(len(images))
    fgsm = FGSM(model, batch_size=len(images))
    wrapped = foolbox.TensorFlowModel(model, bounds=(0, 1))
    attack = foolbox.attacks.LinfFastGradientAttack()
    pixels, criterion = tf.constant(images), foolbox.criteria.Misclassification(tf.constant(labels))

    def ours() -> list[np.ndarray]:
        added = fgsm(images, labels, EPSILONS)
        return [perturb(images, added[epsilon]) for epsilon in EPSILONS]

    def peer() -> list[np.ndarray]:
        return [
            attack.run(wrapped, pixels, criterion, epsilon=epsilon).numpy() for epsilon in EPSILONS
        ]

    first = timing.seconds(ours)
    for perturbed, expected in zip(ours(), peer(), strict=True):
        equal = (np.abs(perturbed - expected) <= 1e-6).mean()  # NaN is not equal
        if equal < 0.999:
            raise ValueError(
                f"Expected 99.9 % of the values equal to those of Foolbox. Received: {equal:.3%}"
            )
    what = f"FGSM at four epsilons on {backbones.find(network).title} / Foolbox' attack for each"
    return timing.compare(what, ours, peer, RUNS, "at least 3", first=first)
