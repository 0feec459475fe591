"""Attacks of Foolbox and ART on a model of Keras, to compare ours with."""

from typing import Any

import keras
import numpy as np


def foolbox_attack(
    name: str,
    model: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    epsilon: float,
    *,
    targeted: bool = False,
    normalized_by: int | None = None,
    **arguments: Any,
) -> np.ndarray:
    """The images attacked by a class of ``foolbox.attacks``, on whatever backend Keras runs.

    With ``normalized_by`` its gradients are divided by this norm, whatever the class does.
    """
    import foolbox

    if keras.backend.backend() == "torch":
        import torch

        tensors = torch.tensor(images), torch.tensor(labels)
        wrapped = foolbox.PyTorchModel(model.eval(), bounds=(0, 1), device="cpu")
    elif keras.backend.backend() == "jax":
        import jax

        tensors = jax.numpy.asarray(images), jax.numpy.asarray(labels)
        wrapped = foolbox.JAXModel(lambda x: model(x, training=False), bounds=(0, 1))
    else:
        import tensorflow as tf

        tensors = tf.constant(images), tf.constant(labels, tf.int64)
        wrapped = foolbox.TensorFlowModel(model, bounds=(0, 1))
    kind = (
        foolbox.criteria.TargetedMisclassification
        if targeted
        else foolbox.criteria.Misclassification
    )
    attack = getattr(foolbox.attacks, name)(**arguments)
    if normalized_by:
        from foolbox.attacks.gradient_descent_base import normalize_lp_norms

        attack.normalize = lambda gradients, **_: normalize_lp_norms(gradients, p=normalized_by)
    raw, _, _ = attack(wrapped, tensors[0], kind(tensors[1]), epsilons=epsilon)
    return np.asarray(raw if keras.backend.backend() == "jax" else raw.numpy())


def art_classifier(model: keras.Model) -> Any:
    """A model of logits as a classifier of ART."""
    import art.estimators.classification

    return art.estimators.classification.TensorFlowV2Classifier(
        model=model,
        nb_classes=model.output_shape[-1],
        input_shape=model.input_shape[1:],
        loss_object=keras.losses.CategoricalCrossentropy(from_logits=True),
        clip_values=(0, 1),
    )
