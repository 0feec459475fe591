"""Pictures of heatmaps, clean and attacked, one per epoch, where TensorBoard finds them."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np

from gradcam_adv.attacks.perturbations import Attack, perturb
from gradcam_adv.explain.explainer import PREDICTED
from gradcam_adv.explain.gradcam import GradCAM
from gradcam_adv.graph.flat import FlatGraph
from gradcam_adv.plots.overlays import overlay, sheet

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The run of TensorBoard's that the pictures belong to; Keras' runs are "train" and "validation".
RUN = "attention"


class Pictures:
    """A file of TensorBoard's, begun with the first picture.

    Args:
        log_dir: the folder that TensorBoard shows.
        images: float32 (N, H, W, 3 or 1), values in [0, 1].
        labels: int (N,), the classes that are attacked.

    Raises:
        ImportError: no TensorBoard.
    """

    def __init__(self, log_dir: Path, images: np.ndarray, labels: np.ndarray) -> None:
        # Its own writer needs no TensorFlow, and is there for every backend of Keras.
        try:
            from tensorboard.compat.proto import event_pb2, summary_pb2
            from tensorboard.summary.writer import event_file_writer
        except ModuleNotFoundError as error:
            raise ImportError(
                "Expected TensorBoard for a log_dir; pip install tensorboard installs it. "
                f"Received: no module named {error.name}"
            ) from None
        self._folder = log_dir / RUN
        self._images, self._labels = images, labels
        self._begin = event_file_writer.EventFileWriter
        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        self._writer: Any = None

    def add(
        self, epoch: int, graph: FlatGraph, layer: str | int, attack: Attack, epsilon: float
    ) -> None:
        """Attack and explain the images, and write a picture of that as the step ``epoch``."""
        figure = drawn(graph, layer, attack, epsilon, self._images, self._labels)
        png = io.BytesIO()
        figure.savefig(png, dpi=110)
        plt.close(figure)
        image = self._summary.Image(encoded_image_string=png.getvalue())
        summary = self._summary(value=[self._summary.Value(tag=RUN, image=image)])
        if self._writer is None:
            self._writer = self._begin(str(self._folder))
        self._writer.add_event(self._event(step=epoch, wall_time=time.time(), summary=summary))
        self._writer.flush()

    def close(self) -> None:
        """End the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def drawn(
    graph: FlatGraph,
    layer: str | int,
    attack: Attack,
    epsilon: float,
    images: np.ndarray,
    labels: np.ndarray,
) -> Figure:
    """A row for each image: it, its heatmap, and that of the attacked image, with predictions."""
    explain = GradCAM(graph, layer)
    (path,) = explain.layers
    predicted = np.full((len(images), 1), PREDICTED)
    added = attack(images, labels, [epsilon])[epsilon]
    tiles = [np.broadcast_to(images, (*images.shape[:3], 3))]
    captions = [[""] * len(images)]
    for pixels in (images, perturb(images, added)):
        maps, logits = explain.maps_and_logits(pixels, predicted)
        tiles.append(overlay(pixels, maps[path][:, 0]))
        captions.append([graph.title(one) for one in graph.predicted(logits, predicted[:, 0])])
    return sheet(
        np.stack(tiles, axis=1),
        [graph.title(label) for label in labels],
        ["image", "clean", f"ε = {epsilon:g}"],
        f"{path}, and the classes predicted",
        [list(of_image) for of_image in zip(*captions, strict=True)],
    )
