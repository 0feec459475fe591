"""What only the backend or a built network can tell of a study, looked at before any work."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gradcam_adv import machine
from gradcam_adv.graph import network as networks
from gradcam_adv.metrics import nissim as metrics
from gradcam_adv.models import backbones, classifiers, weights
from gradcam_adv.study.config import Study


def backend(tasks_to_do: Iterable[str]) -> None:
    """See whether MTCNN can run where it has to: it needs TensorFlow.

    Raises:
        ValueError: faces are to be found, and Keras is on another backend.
    """
    name = machine.backend()
    if name != "tensorflow" and "plain/faces" in tasks_to_do:
        raise ValueError(
            "Expected Keras on TensorFlow for the aligned arm, whose faces MTCNN finds. "
            f"Received: KERAS_BACKEND = {name!r}; arms = ['plain'] in the study does without, "
            "and faces found once serve any backend"
        )


def files(study: Study, chosen: Mapping[str, weights.Weights]) -> None:
    """Read the weights that come from files of the user's.

    Raises:
        ValueError: a file isn't its network's.
    """
    for network, own in chosen.items():
        if own.origin == "file":
            backbones.build(network, study.image_size, own)
            networks.forget()


def layers(study: Study) -> None:
    """Find the layers to explain, and the size of the heatmaps to compare.

    Raises:
        ValueError: a network doesn't have a layer, or its maps are too small.
    """
    native = study.readings.heatmap_size == "native"
    for network in study.networks:
        backbone = backbones.find(network)
        base = backbones.build(network, study.image_size, weights.Weights("random"))
        extractor = classifiers.features(base)
        head = classifiers.dense_head(extractor.output.shape[-1], 2, seed=0)
        model = classifiers.assemble(extractor, head)
        networks.flatten(model).find(study.layers_of(network))
        height, width = base.get_layer(backbone.last_activation).output.shape[1:3]
        if native and min(height, width) < metrics.WINDOW:
            raise ValueError(
                f"Expected heatmaps of at least {metrics.WINDOW} x {metrics.WINDOW} for "
                f"readings.heatmap_size = 'native'. Received: {height} x {width} at "
                f"{backbone.last_activation} of {backbone.title} with image_size = "
                f"{study.image_size}"
            )
        networks.forget()
