"""The explanation attack: move the heatmap while the class stays, or flip the class while it stays.

With the Grad-CAM map H of a layer, a map T, the distance D = NISSIM(H, T) and m, the largest other
logit less that of the class predicted for the clean image, the value that steps with momentum raise
is, for a class that stays, ::

    V = D - w max(0, m - limit)        T the clean map: push it away
    V = -D - w max(0, m - limit)       T a map that is given: pull it there

and for a class that flips ``-D - w max(0, -m)``, with T the clean map, which stays, or one that is
given. Of all the perturbations on the way, the one of the best D is kept among those whose
class is as asked. The idea is Ghorbani et al.'s and Dombrowski et al.'s (both 2019); the distance
is this project's.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pandas as pd

from gradcam_adv import metrics, validation
from gradcam_adv.attacks.iterative import Objective
from gradcam_adv.attacks.map_gradient import Aim, MapGradient, lead_of_others
from gradcam_adv.attacks.momentum import MIFGSM
from gradcam_adv.attacks.perturbations import Perturbations, perturb
from gradcam_adv.explain.explainer import PREDICTED
from gradcam_adv.explain.gradcam import GradCAM
from gradcam_adv.explain.heatmaps import is_empty, resize
from gradcam_adv.graph.flat import FlatGraph, flatten
from gradcam_adv.metrics.nissim import WINDOW


class ExplanationAttack(MIFGSM):
    """An attack on the heatmap of one layer, in steps with momentum.

    The class that stays, or flips, is the one that the model predicts for the clean image; so the
    labels that an attack is called with do not matter here. If no perturbation on the way is as
    asked, the image stays as it is. Needs Keras on TensorFlow.

    Args:
        model: any classifier with one class an image that :func:`gradcam_adv.flatten` takes.
        layer: whose map is moved, as for :class:`gradcam_adv.GradCAM`; one layer.
        towards: float or bool (h, w), values in [0, 1]: the map, or the region, to pull the map to.
            None to push it away from the clean map; with ``flip`` to leave it there.
        flip: whether the class is to change. A map then explains the class predicted.
        keep_margin: how much of the clean image's lead of the class, ``-m``, must be left: 0 for
            none, so the class may just stay, 1 for all of it, so the model is as sure as before.
        weight: w, in units of NISSIM for a logit.
        sharpness: of the surrogate for ReLU's second derivative, see
            :func:`gradcam_adv.backends.differentiate_twice`; None for none.
        decay: how much of the direction so far a step keeps.
        settings: as of :class:`gradcam_adv.attacks.iterative.Iterative`. A step has
            2.5 epsilon / steps if no other length is given, and starts are random, for at the clean
            map D has no slope.

    Raises:
        ValueError: a model or layer that can't be attacked, or a setting that makes no sense.

    Example:
        >>> import keras, numpy as np
        >>> layers = [
        ...     keras.Input((8, 8, 3)),
        ...     keras.layers.Conv2D(4, 3, activation="relu", name="conv"),
        ...     keras.layers.Flatten(),
        ...     keras.layers.Dense(2),
        ... ]
        >>> attack = ExplanationAttack(keras.Sequential(layers), steps=5)
        >>> images = np.random.default_rng(0).random((4, 8, 8, 3), np.float32)
        >>> perturbations = attack(images, [0, 0, 0, 0], epsilons=[0.05])
        >>> attack.success(images, perturbations)["class_kept"].tolist()
        [True, True, True, True]
    """

    _title = "explanation attack"

    def __init__(
        self,
        model: keras.Model | FlatGraph,
        layer: str | int = "last",
        *,
        towards: npt.ArrayLike | None = None,
        flip: bool = False,
        keep_margin: float = 0.0,
        weight: float = 0.2,
        sharpness: float | None = 10.0,
        steps: int = 25,
        decay: float = 0.75,
        random_start: bool | None = None,
        **settings: Any,
    ) -> None:
        graph = flatten(model)
        if graph.independent:
            raise ValueError(
                "Expected a model with one class an image. Received: classes that are labels of "
                "their own, or pairs of images"
            )
        size_of_images = graph.input.shape[1:3]
        if None in size_of_images or min(size_of_images) < WINDOW:
            raise ValueError(
                f"Expected a model of images of one size, {WINDOW} x {WINDOW} or more "
                "(flatten(model, size=...) chooses one of several). "
                f"Received: {size_of_images}"
            )
        if not 0 <= keep_margin < np.inf or (flip and keep_margin):
            raise ValueError(
                "Expected keep_margin as a number of 0 or more, 0 with flip. "
                f"Received: {keep_margin!r}"
            )
        if settings.get("targeted"):
            raise ValueError(
                "Expected flip or towards, which say what the attack aims at. Received: targeted"
            )
        if not 0 <= weight < np.inf:
            raise ValueError(f"Expected weight as a number of 0 or more. Received: {weight!r}")
        if sharpness is not None and not 0 < sharpness < np.inf:
            raise ValueError(f"Expected sharpness as a number above 0. Received: {sharpness!r}")
        self.flip, self.keep_margin = flip, keep_margin
        self.weight, self.sharpness = weight, sharpness
        self.towards = None if towards is None else _checked(towards)
        away = towards is None and not flip
        start = away if random_start is None else random_start
        super().__init__(graph, steps=steps, decay=decay, random_start=start, **settings)
        size = self._gradient.batch_size
        self._explain = GradCAM(graph, layer, batch_size=size)
        if len(self._explain.layers) != 1:
            raise ValueError(f"Expected one layer. Received: {', '.join(self._explain.layers)}")
        (self.layer,) = self._explain.layers
        (call,) = (call for call in graph.layers if call.path == self.layer)
        self._aim = Aim(away, flip, weight)
        self._movement = MapGradient(graph, call, self._aim, size, sharpness)

    def _usual_step(self) -> float:
        return 2.5 / self.steps

    def _objective(self, images: np.ndarray, labels: np.ndarray) -> Objective:
        return _Movement(self, images)

    def maps_and_logits(
        self, images: np.ndarray, classes: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Grad-CAM of the layer, (n, h, w), and the logits, by the network as it is."""
        maps, logits = self._explain.maps_and_logits(images, classes[:, None])
        return maps[self.layer][:, 0], logits

    def success(self, images: npt.ArrayLike, perturbations: Perturbations) -> pd.DataFrame:
        """What perturbations reached, of this attack or of any other; means are shares of images.

        The network itself is asked, without a surrogate.

        Args:
            images: float, (N, H, W, C), values in [0, 1].
            perturbations: by epsilon, as an attack gives them.

        Returns:
            One row per epsilon and image: epsilon, image (its number), class_kept, nissim (from the
            clean map, or from the one given) and as_asked: the class stayed, or flipped, as asked,
            and the heatmap's highest value is outside of the region of the clean map, or with
            ``towards`` or ``flip`` inside that of the map to pull to. A region is where a map is at
            least half its maximum (:func:`gradcam_adv.metrics.region`).

        Raises:
            ValueError: images that the model does not take, or perturbations of another shape.
        """
        pixels = validation.check_images(self._graph.input.shape, images)
        asked = _Movement(self, pixels)
        rows = []
        for epsilon, added in perturbations.items():
            maps, logits = asked.explained(perturb(pixels, added))
            region = metrics.region(asked.given)
            large = resize(maps, pixels.shape[1:3])
            peak = large.reshape(len(large), -1).argmax(axis=1)[:, None]
            inside = np.take_along_axis(region.reshape(len(region), -1), peak, axis=1)[:, 0]
            placed = (inside != self._aim.away) & ~is_empty(maps)
            same = logits.argmax(axis=1) == asked.classes
            columns = {
                "epsilon": epsilon,
                "image": np.arange(len(pixels)),
                "class_kept": same,
                "nissim": metrics.nissim(large, asked.given),
                "as_asked": placed & (same != self.flip),
            }
            rows.append(pd.DataFrame(columns))
        return pd.concat(rows, ignore_index=True)


class _Movement:
    """What is raised on some images; the clean ones decide which class and which map are meant.

    Attributes:
        classes: predicted for the clean images, int (n,).
        given: the maps to move away from or towards, at the size of the images, (n, H, W).
    """

    def __init__(self, attack: ExplanationAttack, images: np.ndarray) -> None:
        self._attack, self._aim = attack, attack._aim
        anything = np.full(len(images), PREDICTED, np.int32)
        maps, logits = attack.maps_and_logits(images, anything)
        self.classes = logits.argmax(axis=1)
        count, height, width, _ = images.shape
        if attack.towards is not None:
            maps = np.broadcast_to(attack.towards, (count, *attack.towards.shape))
        self.given = resize(maps, (height, width))
        self._limits = np.float32(attack.keep_margin) * self._lead_of_others(logits)

    def ascent(self, attacked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = self._attack._movement(attacked, self.classes, self._limits, self.given)
        return found.gradient, self._of_allowed(found.distance, found.empty, found.logits)

    def values(self, attacked: np.ndarray) -> np.ndarray:
        maps, logits = self.explained(attacked)
        distance = metrics.nissim(resize(maps, attacked.shape[1:3]), self.given)
        return self._of_allowed(distance, is_empty(maps), logits)

    def explained(self, attacked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Maps and logits of attacked images, by the network as it is."""
        explained = np.full(len(attacked), PREDICTED) if self._attack.flip else self.classes
        return self._attack.maps_and_logits(attacked, explained)

    def _of_allowed(
        self, distance: np.ndarray, empty: np.ndarray, logits: np.ndarray
    ) -> np.ndarray:
        """D, or -D for a pull; -inf where the class is not as asked, or the map says nothing."""
        lead = self._lead_of_others(logits)
        allowed = (lead > 0 if self._aim.flip else (lead < 0) & (lead <= self._limits)) & ~empty
        return np.where(allowed, distance if self._aim.away else -distance, -np.inf)

    def _lead_of_others(self, logits: np.ndarray) -> np.ndarray:
        """m, float32 (n,)."""
        found: np.ndarray = keras.ops.convert_to_numpy(lead_of_others(logits, self.classes))
        return found


def _checked(towards: npt.ArrayLike) -> np.ndarray:
    array = np.asarray(towards, np.float32)
    if array.ndim != 2 or 0 in array.shape or not array.any():
        raise ValueError(
            "Expected towards as one map (h, w) with some heat. Received: "
            + (f"shape {array.shape}" if array.any() or array.ndim != 2 else "zeros")
        )
    validation.check_range(array, "towards")
    return array
