"""PyTorch: ``torch.autograd``, threads and GPUs; functions as in ``backends.tensorflow``."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import keras
import torch

if TYPE_CHECKING:
    from gradcam_adv.backends import Forward

NEEDS_TAPS = False


def configure(threads: int) -> None:
    torch.set_num_threads(threads)
    # Read when CUDA starts. Without it cuBLAS may add in another order each time.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # On GPUs only a warning: the backward pass of max pooling has no deterministic form there.
    torch.use_deterministic_algorithms(True, warn_only=torch.cuda.is_available())
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def gpus() -> list[str]:
    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]


def ask_for(size: int) -> None:
    """See whether the system would give ``size`` bytes; PyTorch keeps no pool of its own."""
    torch.empty(size, dtype=torch.uint8, device="cpu")


def kept_random() -> contextlib.AbstractContextManager[None]:
    return torch.random.fork_rng()


def compiled(
    function: Callable[..., Any], *takes: tuple[tuple[int | None, ...], str]
) -> Callable[..., Any]:
    """Not compiled in truth, so any shape will do."""

    def run(*arrays: Any) -> Any:
        pairs = zip(arrays, takes, strict=True)
        given = function(*(keras.ops.convert_to_tensor(a, dtype) for a, (_, dtype) in pairs))
        return keras.tree.map_structure(keras.ops.convert_to_numpy, given)

    return run


def differentiate(forward: Forward, images: Any) -> tuple[list[Any], list[list[Any]], Any]:
    with torch.enable_grad():
        tensors, scores, rest = forward(images.detach().requires_grad_())
    last = len(scores) - 1
    by_score = [_gradients(score, tensors, retain_graph=i < last) for i, score in enumerate(scores)]
    # Detached, since nothing more is differentiated.
    tensors, rest = keras.tree.map_structure(lambda tensor: tensor.detach(), (tensors, rest))
    return tensors, by_score, rest


def _gradients(score: Any, tensors: list[Any], *, retain_graph: bool) -> list[Any]:
    if not score.requires_grad:  # a constant
        return [None] * len(tensors)
    # Asking for the gradient by a tensor that does not depend on the images is an error.
    asked = [tensor for tensor in tensors if tensor.requires_grad]
    found = iter(
        torch.autograd.grad(score.sum(), asked, retain_graph=retain_graph, allow_unused=True)
    )
    return [next(found) if tensor.requires_grad else None for tensor in tensors]
