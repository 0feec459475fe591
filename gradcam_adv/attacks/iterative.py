"""Attacks of several steps: start, climb, stay in the ball, keep the best.

With images x, a value V to raise, and the ball of perturbations that epsilon allows::

    d_0     = 0, or drawn from the ball
    d_(t+1) = project( update(d_t, dV/dx at clip(x + d_t, 0, 1)) )

The attacks differ in V, which is the margin for most, and in the update. Of all the perturbations
d_t of an image the one of the largest V is kept.
"""

from __future__ import annotations

import abc
import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, Protocol

import keras
import numpy as np
import numpy.typing as npt

from gradcam_adv import validation
from gradcam_adv.attacks.balls import BALLS
from gradcam_adv.attacks.gradients import MarginGradient, margin
from gradcam_adv.attacks.perturbations import perturb
from gradcam_adv.batching import batch_size_for, progress_bar
from gradcam_adv.graph.flat import FlatGraph, flatten
from gradcam_adv.graph.predictor import Predictor

# From perturbations and the gradient there to the next perturbations, before these are projected.
Update = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Objective(Protocol):
    """What an attack raises on the images of one batch: V, of attacked images (n, H, W, C)."""

    def ascent(self, attacked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The direction in which to go, float32 (n, H, W, C), such as the gradient; and V, (n,)."""
        ...

    def values(self, attacked: np.ndarray) -> np.ndarray:
        """V alone, (n,), for the last perturbations; -inf for one that must not be kept."""
        ...


class Iterative(abc.ABC):
    """An attack of several steps on one model. This class has what all of them share.

    Args:
        model: any classifier that :func:`gradcam_adv.flatten` takes.
        norm: of the perturbation, "linf" or "l2"; see ``attacks.balls``.
        steps: how many, each of one gradient.
        step_size: length of a step, in units of epsilon; None for the attack's own.
        random_start: whether to start at a random point of the ball. An image always gets the same
            one, whatever images come with it.
        restarts: how many times to start. The best perturbation of all is kept.
        targeted: whether labels are classes to move to, and not classes to move away from.
        seed: of the random starts.
        batch_size: how many images at a time. It is halved when memory runs out. None for 8, on a
            GPU for what suits its memory.

    Raises:
        ValueError: a model that can't be attacked, or a setting that makes no sense.
    """

    # For the progress bar.
    _title: str

    def __init__(
        self,
        model: keras.Model | FlatGraph,
        *,
        norm: Literal["linf", "l2"] = "linf",
        steps: int = 10,
        step_size: float | None = None,
        random_start: bool = False,
        restarts: int = 1,
        targeted: bool = False,
        seed: int = 0,
        batch_size: int | None = None,
    ) -> None:
        validation.check_choice("norm", norm, list(BALLS))
        for name, count in (("steps", steps), ("restarts", restarts)):
            if not isinstance(count, int) or count < 1:
                raise ValueError(f"Expected {name} as a whole number above 0. Received: {count!r}")
        if step_size is not None and not 0 < step_size < np.inf:
            raise ValueError(f"Expected step_size as a number above 0. Received: {step_size!r}")
        if restarts > 1 and not random_start:
            raise ValueError(
                "Expected random_start with several restarts, which else are all the same. "
                f"Received: restarts = {restarts}, no random_start"
            )
        self.norm = norm
        self.steps = steps
        self.step_size = self._usual_step() if step_size is None else step_size
        self.random_start = random_start
        self.restarts = restarts
        self.targeted = targeted
        self.seed = seed
        self._ball = BALLS[norm]
        self._graph = flatten(model)
        size = batch_size_for(batch_size, self._graph.input.shape)
        self._gradient = MarginGradient(self._graph, size)
        self._logits = Predictor(self._graph.classifier, size)

    def _usual_step(self) -> float:
        """The length of a step if none is given, in units of epsilon."""
        return 1 / self.steps

    @abc.abstractmethod
    def _update(self, epsilon: float) -> Update:
        """How a step goes, for one batch from one start; it may remember the steps before."""

    def __call__(
        self,
        images: npt.ArrayLike,
        labels: npt.ArrayLike,
        epsilons: Sequence[float],
        *,
        verbose: int | str = "auto",
    ) -> dict[float, np.ndarray]:
        """The perturbation of each image for each epsilon.

        Args:
            images: float, (N, H, W, C), values in [0, 1].
            labels: int, (N,), the classes to move away from; with ``targeted`` those to move to.
            epsilons: sizes of the perturbation, as fractions of the range of pixels.
            verbose: "auto" (a bar where there is a terminal), 0 or 1, as in Keras.

        Returns:
            By epsilon, float32 of the shape of the images; :func:`gradcam_adv.perturb` adds it.

        Raises:
            MemoryError: not even one image fits into memory.
            ValueError: images or labels that the model does not take, epsilons outside [0, 1], or
                logits or a gradient that are not finite.
        """
        pixels = validation.check_images(self._graph.input.shape, images)
        classes = validation.check_labels(labels, len(pixels), self._graph.classes, "labels")
        if not all(0 <= epsilon <= 1 for epsilon in epsilons):  # NaN fails this, too
            raise ValueError(f"Expected epsilons from 0 to 1. Received: {list(epsilons)}")
        found = {float(epsilon): np.zeros(pixels.shape, np.float32) for epsilon in epsilons}
        size = self._gradient.batch_size
        total = len(pixels) * sum(epsilon > 0 for epsilon in found)
        # A single batch has no bar, however many epsilons.
        shown = verbose if len(pixels) > size else 0
        with progress_bar(self._title, total, size, shown) as bar:
            for start in range(0, len(pixels), size):
                rows = slice(start, start + size)
                numbers = list(range(len(pixels)))[rows]
                for epsilon in filter(None, found):
                    with validation.naming(numbers):
                        found[epsilon][rows] = self._best(pixels[rows], classes[rows], epsilon)
                    bar.update(len(numbers))
        return found

    def _best(self, images: np.ndarray, labels: np.ndarray, epsilon: float) -> np.ndarray:
        """Of all perturbations on the way, for each image the one of the largest value."""
        best = np.zeros(images.shape, np.float32)
        highest = np.full(len(images), -np.inf)
        for restart in range(self.restarts):
            for perturbations, values in self._climb(images, labels, epsilon, restart):
                better = values > highest
                best[better], highest[better] = perturbations[better], values[better]
        return best

    def _climb(
        self, images: np.ndarray, labels: np.ndarray, epsilon: float, restart: int = 0
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The perturbations at the start and after each step, with the values there, (n,)."""
        update = self._update(epsilon)
        objective = self._objective(images, labels)
        perturbations = self._ball.project(self._start(images, epsilon, restart), epsilon)
        for _ in range(self.steps):
            attacked = perturb(images, perturbations)
            gradient, values = objective.ascent(attacked)
            yield perturbations, values
            # What clipping took away is no part of the perturbation.
            perturbations = self._ball.project(update(attacked - images, gradient), epsilon)
        yield perturbations, objective.values(perturb(images, perturbations))

    def _start(self, images: np.ndarray, epsilon: float, restart: int) -> np.ndarray:
        if not self.random_start:
            return np.zeros(images.shape, np.float32)
        starts = []
        for image in images:
            key = int(hashlib.sha256(image.tobytes()).hexdigest()[:16], 16)
            generator = np.random.default_rng([self.seed, restart, key])
            starts.append(self._ball.sample(generator, image.shape, epsilon))
        return np.stack(starts)

    def _objective(self, images: np.ndarray, labels: np.ndarray) -> Objective:
        """What to raise on these clean images: the margin of the labels."""
        return _Margin(self._gradient, self._logits, self._graph, labels, self.targeted)


class _Margin:
    """The margin of the labels; -1 times it if these are classes to move to."""

    def __init__(
        self,
        gradient: MarginGradient,
        logits: Predictor,
        graph: FlatGraph,
        labels: np.ndarray,
        targeted: bool,
    ) -> None:
        self._gradient, self._logits, self._graph = gradient, logits, graph
        self._labels = labels
        self._sign = np.float32(-1 if targeted else 1)

    def ascent(self, attacked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        gradient, m = self._gradient(attacked, self._labels)
        return self._sign * gradient, self._sign * m

    def values(self, attacked: np.ndarray) -> np.ndarray:
        logits = self._logits(attacked)
        labels = self._labels.astype(np.int32)
        m = margin(logits, labels, independent=self._graph.independent)
        found: np.ndarray = keras.ops.convert_to_numpy(m)
        return self._sign * found
