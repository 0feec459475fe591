"""A callback of ``model.fit``: how far heatmaps move under attack while the network learns."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pandas as pd

from gradcam_adv import backends, validation
from gradcam_adv.attacks.fgsm import FGSM
from gradcam_adv.attacks.perturbations import Attack
from gradcam_adv.graph.flat import FlatGraph, flatten
from gradcam_adv.graph.layers import find
from gradcam_adv.robustness import Dissimilarity, clean, dissimilarity, given
from gradcam_adv.robustness.measurement import NOISE_EPSILONS

logger = logging.getLogger(__name__)

# What is put into the logs, each behind the prefix.
NAMES = ("accuracy_attacked", "mod", "mod_noise", "gain", "half_shift")
# How many images are shown in TensorBoard.
SHOWN = 4


class AttentionUnderAttack(keras.callbacks.Callback):
    """Attacks and explains a few images while a model is trained, and puts the numbers into logs.

    At the end of an epoch these are in ``logs``, as the values of metrics are:

    - ``val_accuracy_attacked``: the share of the attacked images that are predicted right.
    - ``val_mod``: MOD (equation 2), and ``val_mod_noise``: that of random noise of the same size.
    - ``val_gain``: how many times larger noise must be to move the heatmaps as far as the attack.
    - ``val_half_shift``: the epsilon at which the heatmaps have moved half as far as those of
      unrelated images are apart.

    They are those of :func:`gradcam_adv.dissimilarity`, but without infinity, so that other
    callbacks can compare and draw them: a gain that no noise reaches is given as the largest noise
    by ``epsilon``, and a half-shift that the attack does not reach as its largest epsilon. Both are
    then bounds. Where all heatmaps are empty, and where values of the network are not finite, which
    the log says, there are no numbers but NaN. At the end of the training the log says if still
    hardly more of the images are predicted right than chance would.

    **It stands first in the list of callbacks**, since Keras calls them in their order:
    EarlyStopping, ModelCheckpoint, CSVLogger or TensorBoard in front of it see no such numbers.

    Training is not changed: weights, statistics of batch normalizations, the optimizer and the
    states of the layers' random generators are the same afterwards, and nothing draws from the
    global generators of Python, NumPy and Keras. All is compiled in the first measurement; on JAX
    in each, since there trained weights are new arrays.

    Args:
        images: as for :func:`gradcam_adv.dissimilarity`, values in [0, 1] whatever the model takes;
            a few dozen, of two classes or more, that the model is not trained on.
        labels: int, (N,), the classes of the images; None for those that come with batches.
        attack: makes an attack of the flat graph of the model: a class such as
            :class:`gradcam_adv.PGD`, or ``lambda model: PGD(model, steps=10)``.
        epsilon: size of the attack that all numbers but the half-shift are about.
        further_epsilons: sizes at which the attack is measured as well, to find the half-shift.
        noise_epsilons: sizes of noise, beside those of the attack, to find the gain.
        layer: as for :class:`gradcam_adv.GradCAM`, a single one.
        every: measure in epochs 1, 1 + every, 1 + 2 every and so on; in between the last numbers
            are repeated, since CSVLogger takes its columns from the first epoch.
        prefix: of the names in the logs. Several of these callbacks need prefixes of their own,
            such as "val_pgd_". TensorBoard draws what begins with "val_" as validation.
        log_dir: a folder of TensorBoard's. Each measurement adds a picture of the first four images
            with their heatmaps, clean and attacked, as the run "attention".
        model: what is measured, if it is not the model that is fitted but one inside it, as with
            :class:`gradcam_adv.training.AdversarialTraining`.
        flattening: further arguments of :func:`gradcam_adv.flatten`, such as ``pixels="0..255"``.

    Attributes:
        seconds: what each measurement took, list of float; the first one compiles.

    Raises:
        ImportError: ``log_dir`` is given, and there is no TensorBoard.
        ValueError: arguments that can't be used; when a training begins, a model that can't be
            explained, or images, labels, a layer or an attack that do not suit it; names that are
            in the logs already.

    Example:
        >>> import keras, numpy as np
        >>> random = np.random.default_rng(0)
        >>> images, labels = random.random((8, 8, 8, 3)), random.integers(0, 2, 8)
        >>> model = keras.Sequential(
        ...     [
        ...         keras.Input((8, 8, 3)),
        ...         keras.layers.Conv2D(4, 3, name="conv"),
        ...         keras.layers.Flatten(),
        ...         keras.layers.Dense(2, activation="softmax"),
        ...     ]
        ... )
        >>> model.compile("adam", "sparse_categorical_crossentropy")
        >>> attention = AttentionUnderAttack(images, labels, every=2)
        >>> stop = keras.callbacks.EarlyStopping("val_gain", mode="min", patience=3)
        >>> found = model.fit(images, labels, epochs=2, verbose=0, callbacks=[attention, stop])
        >>> [name for name in found.history if "mod" in name], len(attention.seconds)
        (['val_mod', 'val_mod_noise'], 1)
    """

    def __init__(
        self,
        images: npt.ArrayLike | Any,
        labels: npt.ArrayLike | None = None,
        *,
        attack: Callable[[FlatGraph], Attack] = FGSM,
        epsilon: float = 0.01,
        further_epsilons: Sequence[float] = (0.0025, 0.04),
        noise_epsilons: Sequence[float] = NOISE_EPSILONS,
        layer: str | int = "last",
        every: int = 1,
        prefix: str = "val_",
        log_dir: str | Path | None = None,
        model: keras.Model | None = None,
        **flattening: Any,
    ) -> None:
        super().__init__()
        pixels, classes = given.read(images, labels)
        if classes is None or len(np.unique(classes)) < 2:
            received = "none" if classes is None else "those of one class"
            raise ValueError(
                f"Expected labels of the images, of two classes or more. Received: {received}"
            )
        self._images = validation.check_pixels(np.asarray(pixels))
        self._labels = np.asarray(classes)
        if not isinstance(every, int) or isinstance(every, bool) or every < 1:
            raise ValueError(f"Expected every as a whole number above 0. Received: {every!r}")
        self._attack = attack
        self._epsilon = float(epsilon)
        self._epsilons = validation.check_epsilons([epsilon, *further_epsilons])
        self._noise_epsilons = validation.check_epsilons([*self._epsilons, *noise_epsilons])
        self._layer = layer
        self._every = every
        self._prefix = prefix
        self._inner = model
        self._flattening = flattening
        self._pictures = None
        if log_dir is not None:  # Matplotlib is imported for pictures only
            from gradcam_adv.training.pictures import Pictures

            self._pictures = Pictures(Path(log_dir), self._images[:SHOWN], self._labels[:SHOWN])
        self._last: dict[str, float] = {}
        self._answers: pd.DataFrame | None = None  # of the last measurement
        self.seconds: list[float] = []

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Check that the images, the layer and the attack suit the model."""
        self._last, self._answers, self.seconds = {}, None, []
        with _unchanged(self._measured_model):
            graph = self._graph()
            validation.check_images(graph.input.shape, self._images)
            validation.check_labels(self._labels, len(self._images), graph.classes, "labels")
            if len(layers := find(graph, self._layer)) > 1:
                raise ValueError(
                    "Expected a single layer; for others add callbacks with a prefix of their own. "
                    f"Received: {self._layer!r}, {len(layers)} layers"
                )
            if getattr(self._attack_on(graph), "targeted", False):
                raise ValueError(
                    "Expected an attack that is not targeted. Received: a targeted one"
                )

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Measure, if it is the turn of this epoch, and put the numbers into ``logs``."""
        if not self._last or epoch % self._every == 0:
            began = time.perf_counter()
            with _unchanged(self._measured_model):
                self._last = self._measured(epoch)
            self.seconds.append(time.perf_counter() - began)
        if logs is None:
            return
        if taken := sorted(self._last.keys() & logs.keys()):
            raise ValueError(
                "Expected a prefix whose names are not in the logs yet. "
                f"Received: {self._prefix!r}, and {', '.join(taken)} in the logs"
            )
        logs.update(self._last)

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Log it if the model is still near chance."""
        if self._pictures is not None:
            self._pictures.close()
        if self._answers is not None and not (graph := self._graph()).independent:
            predicted, labels = (self._answers[c].to_numpy() for c in ("predicted_clean", "label"))
            clean.accuracy(graph, predicted, labels)

    @property
    def _measured_model(self) -> keras.Model:
        return self.model if self._inner is None else self._inner

    def _graph(self) -> FlatGraph:
        """The graph of the model with its weights as they are now; see :func:`flatten`."""
        return flatten(self._measured_model, **self._flattening)

    def _attack_on(self, graph: FlatGraph) -> Attack:
        made = self._attack(graph)
        if not callable(made):
            raise ValueError(
                "Expected attack as a function that makes an attack of a model, such as PGD or "
                f"lambda model: PGD(model, steps=10). Received: one that gives {made!r}"
            )
        return made

    def _measured(self, epoch: int) -> dict[str, float]:
        """The numbers by their names in the logs."""
        graph = self._graph()
        attack = self._attack_on(graph)
        try:
            with _disabled(clean.logger):  # near chance is where a training begins
                found = dissimilarity(
                    graph,
                    self._images,
                    self._labels,
                    epsilons=self._epsilons,
                    layers=self._layer,
                    attack=attack,
                    noise_epsilons=self._noise_epsilons,
                    verbose=0,
                )
            if self._pictures is not None:
                self._pictures.add(epoch, graph, self._layer, attack, self._epsilon)
        except validation.NotFiniteError as error:
            logger.warning("Warning: attention under attack in epoch %d: %s", epoch + 1, error)
            numbers = dict.fromkeys(NAMES, np.nan)
        else:
            numbers = _numbers(found, self._epsilon)
            self._answers = found.images.drop_duplicates("image")
        return {f"{self._prefix}{name}": value for name, value in numbers.items()}


def _numbers(found: Dissimilarity, epsilon: float) -> dict[str, float]:
    """The numbers of NAMES; those that have no end are replaced by their bounds."""
    images, mod, gain = (
        table[table["epsilon"] == epsilon] for table in (found.images, found.mod, found.gain)
    )
    noise = found.controls.loc[found.controls["control"] == "noise", "epsilon"]
    of_noise = gain.loc[gain["control"] == "noise", "gain"].item()
    half_shift = found.half_shift["attack"].item() if len(found.half_shift) else np.nan
    values = (
        (images["predicted"] == images["label"]).mean(),
        mod["mod"].item(),
        mod["mod_noise"].item(),
        np.minimum(of_noise, noise.max() / epsilon),
        np.minimum(half_shift, found.mod["epsilon"].max()),
    )
    return dict(zip(NAMES, map(float, values), strict=True))


@contextlib.contextmanager
def _disabled(messages: logging.Logger) -> Iterator[None]:
    before, messages.disabled = messages.disabled, True
    try:
        yield
    finally:
        messages.disabled = before


@contextlib.contextmanager
def _unchanged(model: keras.Model) -> Iterator[None]:
    """Give back variables that are not trained as they were.

    Layers of a user's own that are always in training mode, as Monte Carlo dropout is, change their
    generator or their statistics in every forward pass, as they do in Keras' own ``predict``.
    """
    variables = [variable for variable in model.variables if not variable.trainable]
    before = [_values(variable) for variable in variables]
    try:
        with backends.kept_random():
            yield
    finally:
        for variable, value in zip(variables, before, strict=True):
            if not np.array_equal(_values(variable), value, equal_nan=True):
                variable.assign(value)


def _values(variable: keras.Variable) -> np.ndarray:
    """A copy; PyTorch's own arrays share memory with the variable."""
    return np.array(keras.ops.convert_to_numpy(variable))
