"""What only the backend or a built network can tell about a study, checked before any work."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gradcam_adv import backends, machine
from gradcam_adv.metrics.nissim import WINDOW
from gradcam_adv.models import backbones, bases, classifiers, weights
from gradcam_adv.runs.tasks import Task
from gradcam_adv.study.attacks import settings_of
from gradcam_adv.study.config import Study
from gradcam_adv.study.stages.data import FindFaces


def check_backend(to_do: Iterable[Task]) -> None:
    """ValueError if faces are to be found and Keras is not on TensorFlow, which MTCNN needs."""
    name = machine.backend()
    if name != "tensorflow" and any(isinstance(task, FindFaces) for task in to_do):
        raise ValueError(
            "Expected Keras on TensorFlow for the aligned arm, whose faces MTCNN finds. "
            f"Received: KERAS_BACKEND = {name!r}; arms = ['plain'] in the study does without, "
            "and faces found once serve any backend"
        )


def check_weights_files(study: Study, chosen: Mapping[str, weights.Weights]) -> None:
    """Read the weights that come from the user's files; ValueError if one is another network's."""
    for network, of_network in chosen.items():
        if of_network.origin == "file":
            bases.build(network, study.image_size, of_network)
            backends.clear_session()


def check_attacks(study: Study) -> None:
    """Make each attack on a tiny network, to see whether its settings can be used.

    Raises:
        ImportError: what an attack needs is not installed.
        ValueError: impossible settings; it names the attack.
    """
    import keras

    from gradcam_adv.attacks import names

    layers = keras.layers
    tiny = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(2, 3, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(study.classes or 3),
        ]
    )
    for name in study.attack:
        try:
            names.make(name, tiny, batch_size=1, **settings_of(study, name))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{error}, in attack.{name}") from None
    backends.clear_session()


def check_layers(study: Study) -> None:
    """Find the layers to explain, and the size of the heatmaps to compare.

    Raises:
        ValueError: a network does not have a layer, or it has no heatmap at this image size, or its
            maps are too small for SSIM's window.
    """
    from gradcam_adv.graph.flat import flatten
    from gradcam_adv.graph.layers import find

    native = study.readings.heatmap_size == "native"
    for network in study.networks:
        backbone = backbones.find(network)
        base = bases.build(network, study.image_size, weights.Weights("random"))
        extractor = classifiers.features(base)
        head = classifiers.dense_head(extractor.output.shape[-1], 2, seed=0)
        graph = flatten(classifiers.assemble(extractor, head))
        find(graph, study.layers_of(network))
        find(graph, backbone.last_activation)
        height, width = base.get_layer(backbone.last_activation).output.shape[1:3]
        if native and min(height, width) < WINDOW:
            raise ValueError(
                f"Expected heatmaps of at least {WINDOW} x {WINDOW} for "
                f"readings.heatmap_size = 'native'. Received: {height} x {width} at "
                f"{backbone.last_activation} of {backbone.title} with image_size = "
                f"{study.image_size}"
            )
        backends.clear_session()
