"""Checks of a study that need the backend or a built network; they come before any work."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from gradcam_adv import backends, machine
from gradcam_adv.metrics.ssim_variants import WINDOWS
from gradcam_adv.models import backbones, bases, classifiers, weights
from gradcam_adv.runs.tasks import Task
from gradcam_adv.study.attacks import settings_of
from gradcam_adv.study.settings import Study
from gradcam_adv.study.stages.data import FindFaces

if TYPE_CHECKING:
    import keras


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
    for network, base in _bases(study):
        backbone = backbones.find(network)
        extractor = classifiers.features(base)
        head = classifiers.dense_head(extractor.output.shape[-1], 2, seed=0)
        graph = flatten(classifiers.assemble(extractor, head))
        find(graph, study.layers_of(network))
        find(graph, backbone.last_activation)
        height, width = _last_map(network, base)
        window = WINDOWS[study.readings.ssim]
        if native and min(height, width) < window:
            raise ValueError(
                f"Expected heatmaps of at least {window} x {window} for "
                f"readings.heatmap_size = 'native'. Received: {height} x {width} at "
                f"{backbone.last_activation} of {backbone.title} with image_size = "
                f"{study.image_size}"
            )


def native_fits(study: Study) -> bool:
    """Whether SSIM's window fits into the last heatmaps of every network."""
    window = WINDOWS[study.readings.ssim]
    return all(min(_last_map(network, base)) >= window for network, base in _bases(study))


def _bases(study: Study) -> Iterator[tuple[str, keras.Model]]:
    """Each network with its base, which has random weights."""
    for network in study.networks:
        yield network, bases.build(network, study.image_size, weights.Weights("random"))
        backends.clear_session()


def _last_map(network: str, base: keras.Model) -> tuple[int, int]:
    """Height and width of a network's last heatmap."""
    last = base.get_layer(backbones.find(network).last_activation)
    height, width = last.output.shape[1:3]
    return height, width
