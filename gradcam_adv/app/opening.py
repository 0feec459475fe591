"""How a saved model is opened for a command: its pixels, size, output and classes; its layers."""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from gradcam_adv.graph.flat import FlatGraph, flatten
from gradcam_adv.graph.layers import group
from gradcam_adv.graph.pixels import Pixels
from gradcam_adv.graph.verifier import embedder
from gradcam_adv.models.classifiers import load_model


def opened(
    path: Path,
    *,
    size: tuple[int, int] | None = None,
    output_layer: str | None = None,
    one_logit: bool = False,
    module: Path | None = None,
    embeds: bool = False,
) -> Callable[..., FlatGraph]:
    """A saved model as a function from ``pixels``, as :func:`gradcam_adv.flatten` takes them.

    ``module`` is Python code to run before, which registers classes of the model with Keras. The
    model is a classifier, unless it ``embeds`` images.
    """
    if module is not None:
        _run_module(module)
    model = load_model(path)
    if embeds:
        return functools.partial(embedder, model, output_layer, size=size)
    return functools.partial(flatten, model, output_layer, size=size, one_logit=one_logit or None)


def _run_module(path: Path) -> None:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ValueError(f"Expected --module as a file of Python code. Received: {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # as in an import, for what looks for the module of a class
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # of any code
        raise ValueError(
            f"Expected --module as Python code that can be imported. Received: {path}: "
            f"{type(error).__name__}: {error}"
        ) from error


def layers_of(
    path: Path, *, pixels: str | None = None, **opening: Any
) -> tuple[pd.DataFrame, Pixels]:
    """The layers of a saved model that have a heatmap, one per row; and the pixels that it takes.

    Columns: index, layer (its path), kind, shape (of its output, "h x w x channels"), and groups,
    those of "conv", "blocks" and "last" that it belongs to. ValueError if there is none. Further
    arguments are those of :func:`opened`.
    """
    graph = opened(path, **opening)(pixels=pixels)
    if not graph.layers:
        raise ValueError(
            f"Expected a model with layers of output (N, H, W, C). Received: none in {path}"
        )
    groups = {name: group(graph, name) for name in ("conv", "blocks", "last")}
    table = pd.DataFrame(
        {
            "index": index,
            "layer": layer.path,
            "kind": type(layer.operation).__name__,
            "shape": " x ".join("?" if n is None else str(n) for n in graph.map_shape(layer)),
            "groups": " ".join(name for name, members in groups.items() if layer in members),
        }
        for index, layer in enumerate(graph.layers)
    )
    return table, graph.pixels
