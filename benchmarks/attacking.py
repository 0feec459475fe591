"""Attacks: FGSM and PGD against Foolbox and ART, and what their steps and others' cost."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks import explaining, timing
from benchmarks.processes import Row
from gradcam_adv.attacks import FGSM, PGD, ExplanationAttack, perturb
from gradcam_adv.attacks.gradients import MarginGradient
from gradcam_adv.graph.flat import flatten
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


STEPS = 10


def step_against_gradient(network: str) -> Row:
    """PGD of ten steps at one epsilon, against ten gradients of the margin by the pixels."""
    model, images = explaining.classifier(network), explaining.photos()
    labels = np.arange(len(images))
    pgd = PGD(model, steps=STEPS, batch_size=len(images))
    fgsm = FGSM(model, batch_size=len(images))

    def ours() -> None:
        pgd(images, labels, [EPSILONS[0]])

    def gradients() -> None:
        for _ in range(STEPS):
            fgsm.signs(images, labels)

    first = timing.seconds(ours)
    what = f"PGD of {STEPS} steps on {backbones.find(network).title} / {STEPS} input gradients"
    return timing.compare(what, ours, gradients, RUNS, "at most 1.1", first=first, faster=False)


def explanation_against_pgd(network: str) -> Row:
    """Ten steps of the explanation attack on the last layer, against ten of PGD."""
    model, images = explaining.classifier(network), explaining.photos()
    labels = np.arange(len(images))
    moving = ExplanationAttack(model, steps=STEPS, batch_size=len(images))
    pgd = PGD(model, steps=STEPS, batch_size=len(images))

    def ours() -> None:
        moving(images, labels, [EPSILONS[0]])

    def peer() -> None:
        pgd(images, labels, [EPSILONS[0]])

    first = timing.seconds(ours)
    what = f"explanation attack of {STEPS} steps on {backbones.find(network).title} / PGD"
    return timing.compare(what, ours, peer, RUNS, "at most 1.3", first=first, faster=False)


def pgd_against_foolbox(network: str) -> Row:
    """PGD of ten steps at four epsilons, no random start; the last images of Foolbox.

    Raises:
        ValueError: our margin is lower by over 1 %.
    """
    import foolbox
    import tensorflow as tf

    model, images = explaining.classifier(network), explaining.photos()
    labels = np.arange(len(images))
    pgd = PGD(model, steps=STEPS, random_start=False, batch_size=len(images))
    wrapped = foolbox.TensorFlowModel(model, bounds=(0, 1))
    attack = foolbox.attacks.LinfPGD(steps=STEPS, rel_stepsize=pgd.step_size, random_start=False)
    pixels, criterion = tf.constant(images), foolbox.criteria.Misclassification(tf.constant(labels))

    def peer() -> list[np.ndarray]:
        return [
            attack.run(wrapped, pixels, criterion, epsilon=epsilon).numpy() for epsilon in EPSILONS
        ]

    return _compared(network, "Foolbox", pgd, images, labels, peer)


def pgd_against_art(network: str) -> Row:
    """The same against ART."""
    import keras
    from art.attacks.evasion import ProjectedGradientDescentNumpy
    from art.estimators.classification import TensorFlowV2Classifier

    model, images = explaining.classifier(network), explaining.photos()
    labels = np.arange(len(images))
    pgd = PGD(model, steps=STEPS, random_start=False, batch_size=len(images))
    wrapped = TensorFlowV2Classifier(
        model=model,
        nb_classes=model.output_shape[-1],
        input_shape=model.input_shape[1:],
        loss_object=keras.losses.CategoricalCrossentropy(from_logits=True),
        clip_values=(0, 1),
    )
    one_hot = np.eye(model.output_shape[-1])[labels]

    def peer() -> list[np.ndarray]:
        return [
            ProjectedGradientDescentNumpy(
                wrapped,
                eps=epsilon,
                eps_step=pgd.step_size * epsilon,
                max_iter=STEPS,
                batch_size=len(images),
                verbose=False,
            ).generate(images, one_hot)
            for epsilon in EPSILONS
        ]

    return _compared(network, "ART", pgd, images, labels, peer)


def _compared(
    network: str,
    title: str,
    pgd: PGD,
    images: np.ndarray,
    labels: np.ndarray,
    peer: Callable[[], list[np.ndarray]],
) -> Row:
    """The row, after a check that our attack raises the margin as far as theirs."""

    def ours() -> list[np.ndarray]:
        added = pgd(images, labels, EPSILONS)
        return [perturb(images, added[epsilon]) for epsilon in EPSILONS]

    first = timing.seconds(ours)
    margin = MarginGradient(flatten(explaining.classifier(network)), len(images))
    for perturbed, expected in zip(ours(), peer(), strict=True):
        mine, theirs = (float(margin(x, labels)[1].mean()) for x in (perturbed, expected))
        if mine < theirs - 0.01 * abs(theirs):
            raise ValueError(
                f"Expected a margin as high as that of {title}, {theirs:g}. Received: {mine:g}"
            )
    what = f"PGD of {STEPS} steps at four epsilons on {backbones.find(network).title} / {title}"
    return timing.compare(what, ours, peer, 3, "above 1", first=first)
