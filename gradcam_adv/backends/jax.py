"""JAX: ``jax.vjp`` with taps, ``jax.jit``, threads, GPUs; functions as in ``backends.tensorflow``.

JAX differentiates a function by its arguments, not by values on the way. So each tensor on the way
gets an argument of its own that is added to it, a tap. At taps of zeros the gradient by the tap is
the gradient by the tensor.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import keras
import numpy as np
from jax import numpy as jnp

if TYPE_CHECKING:
    from gradcam_adv.backends import Forward

NEEDS_TAPS = True

_threads: int | None = None


def configure(threads: int) -> None:
    global _threads
    if _threads == threads:
        return
    if _threads is not None:
        raise ValueError(
            f"Expected JAX to run with {threads} threads. Received: it has already been told to "
            f"start with {_threads} threads in this process"
        )
    _threads = threads
    # JAX reads all of these when it computes for the first time.
    os.environ["NPROC"] = str(threads)
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} --xla_gpu_deterministic_ops=true".strip()
    settings: Any = jax.config
    settings.update("jax_default_matmul_precision", "highest")


def gpus() -> list[str]:
    return [device.device_kind for device in jax.devices() if device.platform == "gpu"]


def ask_for(size: int) -> None:
    """See whether the system would give ``size`` bytes; JAX keeps no pool of its own."""
    np.empty(size, np.uint8)


kept_random = contextlib.nullcontext  # JAX has no global generator


def compiled(
    function: Callable[..., Any], *takes: tuple[tuple[int | None, ...], str]
) -> Callable[..., Any]:
    """Compiled for each shape that the arrays have."""
    graph = jax.jit(_stateless(function))

    def run(*arrays: Any) -> Any:
        pairs = zip(arrays, takes, strict=True)
        given = graph(*(jnp.asarray(array, dtype) for array, (_, dtype) in pairs))
        return keras.tree.map_structure(np.array, given)  # copies: JAX's own are read-only

    return run


def _stateless(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, but what layers in it change of their own state is dropped.

    Dropout and batch normalization that are always in training mode do so; the new values would be
    tensors of the trace, which mean nothing outside it.
    """

    def run(*tensors: Any) -> Any:
        with keras.StatelessScope():
            return function(*tensors)

    return run


def differentiate(forward: Forward, images: Any) -> tuple[list[Any], list[list[Any]], Any]:
    forward = _stateless(forward)
    shapes = jax.eval_shape(lambda images: forward(images)[0], images)
    zeros = [jnp.zeros(tensor.shape, tensor.dtype) for tensor in shapes]

    def scores_of(taps: list[Any]) -> tuple[list[Any], tuple[list[Any], Any]]:
        tensors, scores, rest = forward(images, taps)
        return scores, (tensors, rest)

    scores, gradients_of, (tensors, rest) = jax.vjp(scores_of, zeros, has_aux=True)
    by_score = []
    for i, reached in enumerate(_reached(gradients_of, scores)):
        chosen = [jnp.full_like(score, i == j) for j, score in enumerate(scores)]
        (found,) = gradients_of(chosen)
        of_score = zip(found, reached, strict=True)
        by_score.append([gradient if on else None for gradient, on in of_score])
    return tensors, by_score, rest


def _reached(gradients_of: Callable[..., Any], scores: list[Any]) -> list[list[bool]]:
    """By score, which of the gradients depend on it; for the others JAX returns zeros."""
    jaxpr = jax.make_jaxpr(gradients_of)(scores).jaxpr
    by_score = []
    for score in jaxpr.invars:
        reached = {id(score)}
        for equation in jaxpr.eqns:
            if not reached.isdisjoint(map(id, equation.invars)):
                reached.update(map(id, equation.outvars))
        by_score.append([id(gradient) in reached for gradient in jaxpr.outvars])
    return by_score
