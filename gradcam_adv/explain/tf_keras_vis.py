"""Other explanations to set beside Grad-CAM, by tf-keras-vis, layer by layer.

tf-keras-vis goes through the network again for every layer: Grad-CAM++ and LayerCAM once forward
and back, Score-CAM once forward per channel of the layer and image. It needs TensorFlow.
"""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from gradcam_adv import machine
from gradcam_adv.batching import PaddedBatches, errors_of_models
from gradcam_adv.explain.bound import BoundExplainer
from gradcam_adv.explain.explainer import PREDICTED, Score
from gradcam_adv.graph.call import Call
from gradcam_adv.graph.predictor import Predictor


class _TFKerasVis(BoundExplainer):
    """An explainer of tf-keras-vis, which takes one target."""

    def _prepare(self) -> None:
        if (backend := machine.backend()) != "tensorflow":
            raise ValueError(
                f"Expected Keras on TensorFlow for {self._title}, which is tf-keras-vis'. "
                f"Received: KERAS_BACKEND = {backend!r}; GradCAM runs on every backend"
            )
        for call in self._calls:
            if len(call.shape) != 4:
                raise ValueError(
                    f"Expected layers of output (N, H, W, C) for {self._title}, which is "
                    f"tf-keras-vis'. Received: tokens, {call.shape}, at {call.path!r}; GradCAM "
                    "explains them"
                )
            if call.output.dtype not in ("float16", "float32"):
                raise ValueError(
                    f"Expected a model in float32 or mixed_float16 for {self._title}, "
                    f"which is tf-keras-vis'. Received: {call.output.dtype} at {call.path!r}"
                )
        # One of its own, since ScoreCAM changes it, and the graph's is shared.
        self._model = keras.Model(self._graph.input, self._graph.logits)
        self._predict = Predictor(self._graph.classifier, self._size)
        self._peer = self._make()
        # tf-keras-vis compiles nothing, so any batch size will do.
        self._maps = PaddedBatches(lambda size: self._maps_of_batch, self._size)
        self._score: Score | None = None

    @abc.abstractmethod
    def _make(self) -> Callable[..., Any]:
        """tf-keras-vis' explainer of the model."""

    def _batches(
        self, images: np.ndarray, classes: np.ndarray, score: Score | None
    ) -> Iterator[tuple[slice, list[np.ndarray], np.ndarray]]:
        self._score = score
        logits = self._predict(images)
        explained = np.where(classes[:, 0] == PREDICTED, logits.argmax(axis=1), classes[:, 0])
        for rows, maps in self._maps(images, explained):
            yield rows, [values[:, None] for values in maps], logits[rows]

    def _maps_of_batch(self, pixels: np.ndarray, classes: np.ndarray) -> list[np.ndarray]:
        # It raises them where there is no gradient, too.
        with errors_of_models(AttributeError, TypeError):
            return [
                np.asarray(
                    self._peer(
                        functools.partial(self._scores, classes),
                        pixels,
                        penultimate_layer=_layer_with_output(call),
                        seek_penultimate_conv_layer=False,
                        expand_cam=False,
                        normalize_cam=False,
                    )
                )
                for call in self._calls
            ]

    def _scores(self, classes: np.ndarray, outputs: Any) -> Any:
        """What is explained of the logits, (N, classes); (N,)."""
        import tensorflow as tf

        if self._score is not None:
            return self._score(outputs)
        return tf.gather(outputs, classes, batch_dims=1)


def _layer_with_output(call: Call) -> keras.layers.Layer:
    """A layer whose ``output`` is that of this call.

    The call's own layer may be nested or shared. Then its ``output`` is of another graph or call.
    """

    class WithOutput(keras.layers.Layer):
        output = call.output

    return WithOutput()


class GradCAMPlusPlus(_TFKerasVis):
    """Grad-CAM++ (Chattopadhyay et al. 2018).

    Made and called like every :class:`gradcam_adv.explain.bound.BoundExplainer`. It is also a
    ValueError if Keras is not on TensorFlow, or if the model is not in float32 or mixed_float16.
    """

    _title = "GradCAMPlusPlus"

    def _make(self) -> Callable[..., Any]:
        from tf_keras_vis.gradcam_plus_plus import GradcamPlusPlus

        return GradcamPlusPlus(self._model, clone=False)

    def _scores(self, classes: np.ndarray, outputs: Any) -> Any:
        import tensorflow as tf

        # Grad-CAM++ takes the exponential of the score, which overflows above 88. The score less
        # itself is zero with the same gradient, and dividing by the maximum removes the factor.
        scores = super()._scores(classes, outputs)
        return scores - tf.stop_gradient(scores)


class LayerCAM(_TFKerasVis):
    """LayerCAM (Jiang et al. 2021); arguments and errors are those of :class:`GradCAMPlusPlus`."""

    _title = "LayerCAM"

    def _make(self) -> Callable[..., Any]:
        from tf_keras_vis.layercam import Layercam

        return Layercam(self._model, clone=False)


class ScoreCAM(_TFKerasVis):
    """Score-CAM (Wang et al. 2020) of the softmax of the logits.

    All masked copies of one image are in memory at once. Arguments and errors are those of
    :class:`GradCAMPlusPlus`.
    """

    _title = "ScoreCAM"

    def _make(self) -> Callable[..., Any]:
        from tf_keras_vis.scorecam import Scorecam

        if self._graph.independent:
            raise ValueError(
                "Expected a model of classes of which one is right for ScoreCAM, since it weighs "
                "their softmax. Received: labels that are independent of each other"
            )
        # It hands over the images in a list, and cannot tell Keras to draw no bar.
        predict = self._model.predict
        self._model.predict = lambda images, batch_size: predict(images[0], batch_size, verbose=0)
        peer = functools.partial(Scorecam(self._model, clone=False), batch_size=self._size)
        # It makes a copy of the image for each channel, so one image at a time.
        self._size = 1
        return peer
