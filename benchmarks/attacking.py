"""The FGSM sign once and a set for every epsilon, against Foolbox' attack called for each."""

from __future__ import annotations

import numpy as np

from benchmarks import explaining, timing
from gradcam_adv import robustness as whole_model
from gradcam_adv.attacks import fgsm
from gradcam_adv.graph import network as networks
from gradcam_adv.models import backbones

RUNS = 5


def against_foolbox(network: str) -> dict[str, str | int]:
    """The perturbed sets of one batch at four epsilons; neither side asks whether they fool.

    Raises:
        ValueError: the two sides' sets differ in more than one pixel in a thousand.
    """
    import foolbox
    import tensorflow as tf

    model, images = explaining.classifier(network), explaining.photos()
    labels = np.arange(len(images))
    compiled = fgsm.compiled_sign(networks.flatten(model), len(images))
    wrapped = foolbox.TensorFlowModel(model, bounds=(0, 1))
    attack = foolbox.attacks.LinfFastGradientAttack()
    pixels, criterion = tf.constant(images), foolbox.criteria.Misclassification(tf.constant(labels))

    def ours() -> list[np.ndarray]:
        signs = compiled(images, labels)
        return [fgsm.perturb(images, signs, epsilon) for epsilon in whole_model.EPSILONS]

    def peer() -> list[np.ndarray]:
        return [
            attack.run(wrapped, pixels, criterion, epsilon=epsilon).numpy()
            for epsilon in whole_model.EPSILONS
        ]

    first = timing.seconds(ours)
    for own, theirs in zip(ours(), peer(), strict=True):
        if not (np.abs(own - theirs) > 1e-6).mean() < 1e-3:  # NaN fails this, too
            raise ValueError("Expected the sets of Foolbox. Received: others")
    seconds, theirs = timing.paired(ours, peer, RUNS)
    what = f"FGSM at four epsilons on {backbones.find(network).title} / Foolbox' attack for each"
    row = timing.row(what, seconds, theirs, "at least 3", faster=True)
    return row | {"first call (s)": f"{first:.3g}"}
