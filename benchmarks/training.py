"""Training the head from cached features, and what the callback costs beside training steps."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks import timing
from benchmarks.processes import Row
from gradcam_adv.batching import BATCH_SIZE
from gradcam_adv.graph.predictor import Predictor
from gradcam_adv.models import backbones, bases, classifiers, training, weights
from gradcam_adv.training import AttentionUnderAttack

IMAGE_SIZE = 160
CLASSES = 8
PHOTOS = 64
VALIDATION_PHOTOS = 16
EPOCHS = 60
RUNS = 3

# Of the callback: as many images as there are in a step, and the steps that it may cost.
STEP_IMAGES = 32
STEPS = 20
STEP_SIZES = {"small": 32, "resnet50": 64}


def cached_features(network: str) -> Row:
    """One feature pass and all epochs of the head, against all epochs through the frozen base.

    Both validate after each epoch. Ours compiles its head in each run, as in a study. The peer is
    compiled before and timed for one epoch, and that is multiplied by the number of epochs.
    """
    import keras

    base = bases.build(network, IMAGE_SIZE, weights.Weights("random"))
    extractor = classifiers.features(base)
    random = np.random.default_rng(0)
    count = PHOTOS + VALIDATION_PHOTOS
    pixels = random.random((count, IMAGE_SIZE, IMAGE_SIZE, 3), np.float32)
    labels = random.integers(0, CLASSES, count)
    train, validation = np.split(np.arange(count), [PHOTOS])

    def head() -> keras.Model:
        return classifiers.dense_head(extractor.output_shape[-1], CLASSES, seed=0)

    def from_features() -> None:
        features = Predictor(extractor, BATCH_SIZE)(pixels)
        training.train_head(head(), [features], labels, train, validation, epochs=EPOCHS, seed=0)

    model: Any = classifiers.assemble(extractor, head())
    model.compile(
        optimizer=keras.optimizers.Adam(training.LEARNING_RATE),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=False,
    )

    def epoch_through_base() -> None:
        model.fit(
            pixels[train],
            labels[train],
            validation_data=(pixels[validation], labels[validation]),
            batch_size=training.BATCH,
            verbose=0,
        )

    first = timing.seconds(from_features)
    epoch_through_base()
    what = (
        f"train the head of {backbones.find(network).title} for {EPOCHS} epochs, "
        f"{PHOTOS} photos of {IMAGE_SIZE} px, from cached features / through the frozen base "
        f"(one epoch, times {EPOCHS})"
    )
    return timing.compare(
        what, from_features, epoch_through_base, RUNS, "none", first=first, times=EPOCHS
    )


def callback_against_steps(network: str) -> Row:
    """One measurement of the callback at its defaults, against training steps of the network.

    "small" is a CNN of six convolutions; ResNet50 is trained as a whole.
    """
    import keras

    side = STEP_SIZES[network]
    keras.utils.set_random_seed(0)
    if network == "small":
        parts: list[Any] = [keras.Input((side, side, 3))]
        for filters in (32, 64, 128):
            for _ in range(2):
                parts.append(keras.layers.Conv2D(filters, 3, padding="same", use_bias=False))
                parts += [keras.layers.BatchNormalization(), keras.layers.ReLU()]
            parts.append(keras.layers.MaxPooling2D())
        parts += [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(CLASSES)]
        model: Any = keras.Sequential(parts)
    else:
        shape = (side, side, 3)
        model = keras.applications.ResNet50(
            weights=None, input_shape=shape, classes=CLASSES, classifier_activation=None
        )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(1e-3), loss, jit_compile=False)
    random = np.random.default_rng(0)
    images = random.random((STEP_IMAGES, side, side, 3), np.float32)
    labels = random.integers(0, CLASSES, STEP_IMAGES)
    attention = AttentionUnderAttack(images, labels)
    attention.set_model(model)

    def steps() -> None:
        for _ in range(STEPS):
            model.train_on_batch(images, labels)

    steps()
    first = timing.seconds(lambda: attention.on_epoch_end(0))
    what = (
        f"measure attention under attack on {STEP_IMAGES} images / {STEPS} training steps of "
        f"{STEP_IMAGES} images of {side} px, {network}"
    )
    return timing.compare(
        what, lambda: attention.on_epoch_end(0), steps, RUNS, "at most 1", first=first, faster=False
    )
