"""Training the head from cached features, against training it through the frozen base."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks import timing
from benchmarks.processes import Row
from gradcam_adv.batching import BATCH_SIZE
from gradcam_adv.graph.predictor import Predictor
from gradcam_adv.models import backbones, bases, classifiers, training, weights

IMAGE_SIZE = 160
CLASSES = 8
PHOTOS = 64
VALIDATION_PHOTOS = 16
EPOCHS = 60
RUNS = 3


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
