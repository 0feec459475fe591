"""Grad-CAM, or another explanation to set beside it, by tf-keras-vis, layer by layer."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcam_adv import batching as batches
from gradcam_adv import machine
from gradcam_adv.explain import gradcam
from gradcam_adv.graph.network import Layers, Network, Step

if TYPE_CHECKING:
    import keras

    from gradcam_adv.backends import Score

# From images (n, H, W, C) and classes (n, 1) to maps by layer, (n, 1, h, w), and logits.
Explain = Callable[[np.ndarray, np.ndarray], tuple[dict[str, np.ndarray], np.ndarray]]

EXPLAINERS = ("gradcam", "gradcam++", "layercam", "scorecam")


def compiled(
    explainer: str, network: Network, layers: Layers, batch_size: int, score: Score | None = None
) -> Explain:
    """What explains images at ``layers``, one of EXPLAINERS.

    Explained are classes, or with ``score`` a function of the logits, (n, classes) to (n,);
    Score-CAM asks for scores of their softmax.

    "gradcam" is :class:`gradcam_adv.explain.gradcam.Explainer`, all layers in one pass. The others
    are those of tf-keras-vis, brought to [0, 1] as Grad-CAM's maps are; it goes through the network
    anew for every layer: "gradcam++" (Chattopadhyay et al. 2018) and "layercam" (Jiang et al. 2021)
    once forth and back, "scorecam" (Wang et al. 2020) once forth for every channel of the layer
    and photo, with all masked photos of one photo in memory.

    Raises:
        ValueError: no such explainer, or one of tf-keras-vis' where Keras is on another backend
            than TensorFlow; layers that the network doesn't have.
    """
    if explainer == "gradcam":
        return gradcam.Explainer(network, layers, batch_size, score or 1)
    if explainer in EXPLAINERS:
        backend = machine.backend()
        if backend != "tensorflow":
            raise ValueError(
                f"Expected Keras on TensorFlow for explainer {explainer!r}, which is "
                f"tf-keras-vis'. Received: KERAS_BACKEND = {backend!r}; 'gradcam' goes on either"
            )
        return _Peer(explainer, network, layers, batch_size, score)
    raise ValueError(
        f"Expected explainer as one of {', '.join(EXPLAINERS)}. Received: {explainer!r}"
    )


class _Peer:
    """An explanation of tf-keras-vis with the interface of :class:`gradcam.Explainer`."""

    def __init__(
        self,
        explainer: str,
        network: Network,
        layers: Layers,
        batch_size: int,
        score: Score | None,
    ) -> None:
        from tf_keras_vis.gradcam_plus_plus import GradcamPlusPlus
        from tf_keras_vis.layercam import Layercam
        from tf_keras_vis.scorecam import Scorecam

        self._places = network.find(layers)
        for place in self._places:
            if place.output.dtype not in ("float16", "float32"):
                raise ValueError(
                    f"Expected a model in float32 or mixed_float16 for explainer {explainer!r}, "
                    f"which is tf-keras-vis'. Received: {place.output.dtype} at {place.path!r}"
                )
        self._model = network.classifier()
        self._predict = gradcam.Predictor(self._model, batch_size)
        self._less_itself = explainer != "scorecam"
        self._of_logits = score
        if explainer == "scorecam":
            # It masks a copy of the photo for each channel: one photo at a time fits into memory.
            at_a_time = 1
            self._peer = functools.partial(
                Scorecam(self._model, clone=False), batch_size=batch_size
            )
            # It hands the photos over in a list, and has no way of telling Keras to draw no bar.
            predict = self._model.predict
            self._model.predict = lambda photos, batch_size: predict(
                photos[0], batch_size, verbose=0
            )
        else:
            at_a_time = batch_size
            kind = {"gradcam++": GradcamPlusPlus, "layercam": Layercam}[explainer]
            self._peer = kind(self._model, clone=False)
        # Nothing is compiled here for one batch size.
        self._maps = batches.Batches(lambda size: self._maps_of_batch, at_a_time)

    def __call__(
        self, images: np.ndarray, classes: np.ndarray
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        from gradcam_adv.backends import PREDICTED

        logits = self._predict(images)
        predicted = logits.argmax(axis=1)
        explained = np.where(classes[:, 0] == PREDICTED, predicted, classes[:, 0])
        parts: dict[str, list[np.ndarray]] = {place.path: [] for place in self._places}
        for own, by_place in self._maps(images, explained):
            for place, values in zip(self._places, by_place, strict=True):
                maps = values[: own.stop - own.start, None]
                batches.check_finite(maps, f"maps of layer {place.path!r}", own.start)
                parts[place.path].append(gradcam.normalize(maps))
        return {path: np.concatenate(maps) for path, maps in parts.items()}, logits

    def _maps_of_batch(self, pixels: np.ndarray, classes: np.ndarray) -> list[np.ndarray]:
        return [
            np.asarray(
                self._peer(
                    functools.partial(self._scores, classes),
                    pixels,
                    penultimate_layer=_layer_at(place),
                    seek_penultimate_conv_layer=False,
                    expand_cam=False,
                    normalize_cam=False,
                )
            )
            for place in self._places
        ]

    def _scores(self, classes: np.ndarray, outputs: Any) -> Any:
        """What is explained of the logits, or for Score-CAM of their softmax; (n,)."""
        import tensorflow as tf

        if self._of_logits is not None:
            scores = self._of_logits(outputs)
        else:
            scores = tf.gather(outputs, classes, batch_dims=1)
        # Grad-CAM++ takes e to the power of the score, which overflows above 88. Less itself the
        # score is zero with the same gradient, and the factor falls out of a map over its maximum.
        return scores - tf.stop_gradient(scores) if self._less_itself else scores


def _layer_at(place: Step) -> keras.layers.Layer:
    """What tf-keras-vis asks a layer for: its output, here the one of this very call.

    A layer of its own would give the output of its first call, which is in another graph where the
    layer belongs to a nested model, and is one of several where it is shared.
    """
    import keras

    class Call(keras.layers.Layer):
        output = place.output

    return Call()
