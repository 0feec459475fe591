"""Adversarial training: each step of a training attacks its images first.

With images x, labels y, logits z, the cross-entropy J and the softmax p, a step lowers the mean
of ::

    "fgsm-rs", "pgd"    J(z(x*), y)
    "trades"            J(z(x), y) + beta KL( p(x) || p(x*) )

and, with a map_weight w, adds ``w D``: the squared distance of the Grad-CAM maps H of class y at
one layer, a mean over its positions (i, j) ::

    D = mean_ij ( H_ij(x*) - H_ij(x) )^2

x* is made anew in each step, from the network as it then is: in the ball
``max |x* - x| <= epsilon``, within [0, 1], by steps along the sign of the gradient of V::

    "fgsm-rs"   one step of 1.25 epsilon on the margin, from a random point (Wong et al. 2020)
    "pgd"       7 steps on the margin, from a random point (Madry et al. 2018)
    "trades"    10 steps on the KL term, from x and a little noise (Zhang et al. 2019)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from gradcam_adv import backends, validation
from gradcam_adv.attacks.gradients import margin
from gradcam_adv.attacks.map_gradient import heatmap
from gradcam_adv.graph.flat import flatten
from gradcam_adv.graph.layers import find
from gradcam_adv.training.methods import DEFAULTS, METHODS, Method, checked

# TRADES' start: the standard deviation of the noise, without which the gradient of KL is zero.
_NOISE = 0.001
# From images to V of each, (n,).
_Value = Callable[[Any], Any]


class AdversarialTraining(keras.Model):
    """Train a classifier against attacks: ``compile`` and ``fit`` as of any Keras model.

    The weights are those of ``model``, which is trained in place. It stays the plain model that it
    is: :meth:`save` saves it, and plain Keras opens the file.

    Attacks and maps are computed in inference mode, as the network will be attacked: without
    dropout, and with the statistics of batch normalization as they stand. Only the passes for J and
    KL are in training mode.

    In ``fit`` and ``evaluate`` the metrics of validation are those under PGD of 7 steps, whatever
    the method, so ``val_accuracy`` chooses the epoch that withstands attacks best. For clean images
    evaluate ``model``.

    Args:
        model: any classifier that :func:`gradcam_adv.flatten` takes, whose logits are the output of
            a layer: the last dense layer has no activation, or the softmax is a layer of its own.
        method: "fgsm-rs", "pgd" or "trades".
        epsilon: size of the perturbation, as a fraction of the range of pixels; 8/255.
        steps: of the attack; None for the method's own.
        beta: weight of the KL term; for "trades" alone. 6.
        map_weight: weight of the distance of the maps; 0, the default, leaves it out. It needs
            second derivatives of the layers behind the explained one; PGD training of the small
            network in studies/robust.toml took 1.1 to 1.6 times as long with it.
        layer: whose map is kept: a path, an index, or "last".
        seed: of the attacks' random starts.

    Raises:
        ValueError: Keras is not on TensorFlow, a model that can't be attacked, or a setting that
            makes no sense.

    Example:
        >>> import keras, numpy as np
        >>> layers = [
        ...     keras.Input((8, 8, 3)),
        ...     keras.layers.Conv2D(4, 3, activation="relu", name="conv"),
        ...     keras.layers.GlobalAveragePooling2D(),
        ...     keras.layers.Dense(2),
        ... ]
        >>> model = keras.Sequential(layers)
        >>> robust = AdversarialTraining(model, method="fgsm-rs", epsilon=0.03)
        >>> robust.compile("adam", metrics=["accuracy"])
        >>> images = np.random.default_rng(0).random((6, 8, 8, 3), np.float32)
        >>> history = robust.fit(images, np.array([0, 1, 0, 1, 0, 1]), epochs=2, verbose=0)
        >>> sorted(history.history)
        ['accuracy', 'loss']
    """

    def __init__(
        self,
        model: keras.Model,
        method: str = "pgd",
        *,
        epsilon: float = DEFAULTS["epsilon"],
        steps: int | None = DEFAULTS["steps"],
        beta: float = DEFAULTS["beta"],
        map_weight: float = DEFAULTS["map_weight"],
        layer: str | int = "last",
        seed: int = 0,
    ) -> None:
        super().__init__(name="adversarial_training")
        if keras.backend.backend() != "tensorflow":
            raise ValueError(
                "Expected Keras on TensorFlow for adversarial training (KERAS_BACKEND=tensorflow). "
                f"Received: {keras.backend.backend()}"
            )
        self._method = checked(
            method, epsilon=epsilon, steps=steps, beta=beta, map_weight=map_weight
        )
        graph = flatten(model)
        if graph.copies:
            raise ValueError(
                "Expected a model whose logits are the output of a layer: a last dense layer "
                f"without activation. Received: {graph.copies[0][0].name!r} with one"
            )
        self.model = model
        self._graph = graph
        self._epsilon, self._beta, self._map_weight = epsilon, beta, map_weight
        (self._layer,) = find(graph, layer)[-1:]
        self._starts = keras.random.SeedGenerator(seed)
        self.built = True

    def compile(self, optimizer: Any = "adam", **settings: Any) -> None:
        """As of any Keras model, without ``loss``, which the method says."""
        if settings.pop("loss", None) is not None:
            raise ValueError("Expected no loss, since the method has its own. Received: a loss")
        own = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        super().compile(optimizer, loss=own, **{"jit_compile": False, **settings})

    def fit(self, x: Any = None, *given: Any, **settings: Any) -> Any:
        """As of any Keras model: images float (N, H, W, C), values in [0, 1]; labels int (N,).

        ``x`` may be arrays or a ``tf.data.Dataset`` of batches, of which the first is checked.

        Raises:
            ValueError: images or labels that the model does not take.
        """
        if isinstance(x, np.ndarray):
            x = validation.check_images(self._graph.input.shape, x)
        elif hasattr(x, "take"):
            for images, *_ in x.take(1):
                validation.check_images(self._graph.input.shape, images)
        return super().fit(x, *given, **settings)

    def call(self, images: Any, training: bool | None = None) -> Any:
        """The logits, (n, classes). In training ``images`` are x and x*: of those J is about."""
        if isinstance(images, tuple):
            clean, attacked = images
            images = clean if self._method.of_clean else attacked
        return keras.ops.cast(self._graph.classifier(images, training=training), "float32")

    def train_step(self, data: Any) -> Any:
        images, labels, weights = self._unpacked(data)
        if self._method.of_clean:
            noise = _NOISE * keras.random.normal(keras.ops.shape(images), seed=self._starts)
            logits = self(images, training=False)
            attacked = self._climb(images, noise, lambda x: kl(logits, self(x, training=False)))
        else:
            attacked = self._attacked(images, labels, self._method)
        return super().train_step(((images, attacked), labels, weights))

    def test_step(self, data: Any) -> Any:
        images, labels, weights = self._unpacked(data)
        return super().test_step((self._attacked(images, labels, METHODS["pgd"]), labels, weights))

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """J, and in training what the method and the maps add to it."""
        loss = super().compute_loss(x, y, y_pred, sample_weight)
        if not training:
            return loss
        clean, attacked = x
        added = keras.ops.zeros(keras.ops.shape(y))
        if self._method.of_clean:
            other = keras.ops.cast(self._graph.classifier(attacked, training=True), "float32")
            added = added + self._beta * kl(y_pred, other)
        if self._map_weight:
            apart = self._map(attacked, y) - keras.ops.stop_gradient(self._map(clean, y))
            added = added + self._map_weight * keras.ops.mean(apart**2, axis=(1, 2))
        if sample_weight is not None:
            added = added * keras.ops.cast(sample_weight, added.dtype)
        return loss + keras.ops.mean(added)

    def save(self, filepath: Any, *given: Any, **settings: Any) -> None:
        """Save the model that is trained, as ``model.save`` does."""
        self.model.save(filepath, *given, **settings)

    def _unpacked(self, data: Any) -> tuple[Any, Any, Any]:
        images, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
        shape = getattr(labels, "shape", None)
        if shape is None or len(shape) != 1 or not keras.backend.is_int_dtype(labels.dtype):
            raise ValueError(
                "Expected labels as integers (N,), the class of each image. Received: "
                + ("none" if shape is None else f"shape {tuple(shape)}, dtype {labels.dtype.name}")
            )
        return images, keras.ops.cast(labels, "int32"), weights

    def _attacked(self, images: Any, labels: Any, method: Method) -> Any:
        """Images x* of a large margin, from a random point of the ball."""
        limit = self._epsilon
        start = keras.random.uniform(keras.ops.shape(images), -limit, limit, seed=self._starts)

        def value(x: Any) -> Any:
            logits = self(x, training=False)
            return margin(logits, labels, independent=self._graph.independent)

        return self._climb(images, start, value, method)

    def _climb(self, images: Any, start: Any, value: _Value, method: Method | None = None) -> Any:
        """Steps from ``x + start`` along the sign of dV/dx, each back into the ball and [0, 1]."""
        steps, size, _ = method or self._method
        length = self._epsilon * (2.5 / steps if size is None else size)

        def forward(x: Any) -> tuple[list[Any], list[Any], None]:
            return [x], [value(x)], None

        def step(_: Any, x: Any) -> Any:
            _, [[gradient]], _ = backends.differentiate(forward, x)
            if gradient is None:
                raise ValueError(
                    "Expected logits with a gradient by the pixels. Received: none; an operation "
                    "without a gradient, such as a cast to integers, comes between"
                )
            return self._inside(images, x + length * keras.ops.sign(gradient))

        return keras.ops.fori_loop(0, steps, step, self._inside(images, images + start))

    def _inside(self, images: Any, attacked: Any) -> Any:
        near = keras.ops.clip(attacked - images, -self._epsilon, self._epsilon)
        return keras.ops.clip(images + near, 0.0, 1.0)

    def _map(self, images: Any, labels: Any) -> Any:
        """The heatmap of the classes ``labels``, (n, h, w), values in [0, 1]."""
        model = keras.Model(self._graph.input, [self._layer.output, self._graph.logits])

        def forward(x: Any) -> tuple[list[Any], list[Any], None]:
            activations, logits = model(x, training=False)
            logits = keras.ops.cast(logits, "float32")
            score = keras.ops.take_along_axis(logits, labels[:, None], axis=1)
            return [activations], [score], None

        [activations], [[gradients]], _ = backends.differentiate(forward, images)
        return heatmap(self._graph, self._layer, activations, gradients)[0]


def kl(logits: Any, others: Any) -> Any:
    """``KL(p || q) = sum_c p_c (log p_c - log q_c)`` of the softmaxes of two logits, (n,)."""
    log_p, log_q = keras.ops.log_softmax(logits), keras.ops.log_softmax(others)
    return keras.ops.sum(keras.ops.exp(log_p) * (log_p - log_q), axis=-1)
