"""Attacks of the Adversarial Robustness Toolbox (ART): AutoPGD and Square.

They need Keras on TensorFlow and the extra ``gradcam-adv[attacks]``. They say which images can be
misclassified, and that is all they are for: an image that is misclassified already stays as it is,
and one that they don't get there has a perturbation without meaning. So measure accuracy with
them, and the movement of heatmaps with PGD.
"""

from __future__ import annotations

import abc
import contextlib
import logging
from collections.abc import Iterator, Sequence
from typing import Any, Literal, get_args

import keras
import numpy as np
import numpy.typing as npt

from gradcam_adv import validation
from gradcam_adv.batching import batch_size_for
from gradcam_adv.graph.flat import FlatGraph, flatten

Loss = Literal["cross_entropy", "difference_logits_ratio"]


class _OfART(abc.ABC):
    """An attack of ART on one model.

    ART gets a classifier of logits, since its AutoPGD takes no other loss on probabilities. What it
    gives is cut to the epsilon, and to [0, 1].

    Raises:
        ImportError: no ART, or Keras on another backend than TensorFlow.
        ValueError: a model that can't be attacked, or classes that are labels of their own.
    """

    def __init__(self, model: keras.Model | FlatGraph, seed: int, batch_size: int | None) -> None:
        self.seed = seed
        self._graph = flatten(model)
        if self._graph.independent:
            raise ValueError(
                "Expected a model of one class per image for an attack of ART. "
                "Received: one whose classes are labels of their own"
            )
        self._batch_size = batch_size_for(batch_size, self._graph.input.shape)
        if keras.backend.backend() != "tensorflow":
            raise ImportError(
                "Expected Keras on TensorFlow for an attack of ART. "
                f"Received: {keras.backend.backend()}"
            )
        try:
            from art.estimators.classification import TensorFlowV2Classifier
        except ModuleNotFoundError as error:
            raise ImportError(
                'Expected ART; pip install "gradcam-adv[attacks]" installs it. '
                f"Received: no module named {error.name}"
            ) from None
        logging.getLogger("art").setLevel(logging.WARNING)
        self._classifier = TensorFlowV2Classifier(
            model=self._graph.classifier,
            nb_classes=self._graph.classes,
            input_shape=tuple(self._graph.input.shape[1:]),
            loss_object=keras.losses.CategoricalCrossentropy(from_logits=True),
            clip_values=(0, 1),
        )

    @abc.abstractmethod
    def _attack(self, epsilon: float) -> Any:
        """ART's attack object."""

    def __call__(
        self,
        images: npt.ArrayLike,
        labels: npt.ArrayLike,
        epsilons: Sequence[float],
        *,
        verbose: int | str = 0,
    ) -> dict[float, np.ndarray]:
        """As :class:`gradcam_adv.attacks.iterative.Iterative`; the epsilons are above 0.

        There is no progress bar.
        """
        pixels = validation.check_images(self._graph.input.shape, images)
        classes = validation.check_labels(labels, len(pixels), self._graph.classes, "labels")
        one_hot = np.eye(self._graph.classes, dtype=np.float32)[classes]
        found = {}
        for epsilon in validation.check_epsilons(epsilons):
            with _seeded(self.seed):
                attacked = self._attack(epsilon).generate(pixels, one_hot)
            validation.check_finite(attacked, "attacked images")
            found[epsilon] = np.clip(attacked - pixels, -np.float32(epsilon), np.float32(epsilon))
        return found


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed NumPy's global generator, which ART takes, and give it back as it was."""
    before = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002


class AutoPGD(_OfART):
    """AutoPGD (Croce and Hein 2020) in L-infinity, untargeted: PGD that chooses its own step sizes.

    Args:
        model: any classifier that :func:`gradcam_adv.flatten` takes.
        steps: how many, each of one gradient.
        loss: "cross_entropy", or "difference_logits_ratio", which needs 3 classes or more.
        restarts: how many times to start at a random point.
        seed: of these; the same images get the same perturbations.
        batch_size: how many images at a time; None for 8, on a GPU for what suits its memory.

    Raises:
        ValueError: no such loss for the model, beside what is wrong with a model.
    """

    def __init__(
        self,
        model: keras.Model | FlatGraph,
        *,
        steps: int = 100,
        loss: Loss = "cross_entropy",
        restarts: int = 1,
        seed: int = 0,
        batch_size: int | None = None,
    ) -> None:
        validation.check_choice("loss", loss, get_args(Loss))
        super().__init__(model, seed, batch_size)
        if loss == "difference_logits_ratio" and self._graph.classes < 3:
            raise ValueError(
                "Expected 3 classes or more for the loss difference_logits_ratio, which needs the "
                f"third largest logit. Received: {self._graph.classes}"
            )
        self.steps = steps
        self.loss = loss
        self.restarts = restarts

    def _attack(self, epsilon: float) -> Any:
        from art.attacks.evasion import AutoProjectedGradientDescent

        return AutoProjectedGradientDescent(
            self._classifier,
            eps=epsilon,
            eps_step=2 * epsilon,  # the first one, as in the paper
            max_iter=self.steps,
            nb_random_init=self.restarts,
            batch_size=self._batch_size,
            loss_type=self.loss,
            verbose=False,
        )


class Square(_OfART):
    """The Square attack (Andriushchenko et al. 2020) in L-infinity: random search, no gradient.

    Args:
        model: any classifier that :func:`gradcam_adv.flatten` takes.
        queries: how many times the model is asked at most.
        seed: of its random choices; the same images get the same perturbations.
        batch_size: how many images at a time; None for 8, on a GPU for what suits its memory.
    """

    def __init__(
        self,
        model: keras.Model | FlatGraph,
        *,
        queries: int = 1000,
        seed: int = 0,
        batch_size: int | None = None,
    ) -> None:
        super().__init__(model, seed, batch_size)
        self.queries = queries

    def _attack(self, epsilon: float) -> Any:
        from art.attacks.evasion import SquareAttack

        return SquareAttack(
            self._classifier,
            eps=epsilon,
            max_iter=self.queries,
            batch_size=self._batch_size,
            verbose=False,
        )
