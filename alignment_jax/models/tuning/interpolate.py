"""Averages of the weights before and after fine-tuning."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from alignment_jax.core.nested import flatten, unflatten
from alignment_jax.core.types import PyTree
from alignment_jax.models.tuning.names import LORA_A, LORA_B


def interpolate(start: PyTree, tuned: PyTree, *, alpha: float) -> PyTree:
    """(1 - alpha) start + alpha tuned, for every parameter: WiSE-FT.

    Between both ends a model often keeps what it could do before and most of what it has learned. Choose alpha on val.

    Source: Wortsman et al. 2022, Robust fine-tuning of zero-shot models, section 3.

    Args:
      start: parameters before fine-tuning.
      tuned: after it; the same tree.
      alpha: 0 gives `start`, 1 gives `tuned`, both to the bit.

    Returns:
      A tree in the dtypes of `start`; computed in float32.

    Raises:
      ValueError: an alpha outside [0, 1], trees that differ, or adapters: an average of A and B is not one of A B;
        apply `merge_parameters` first.

    >>> interpolate({"bias": jnp.array([0.0, 2.0])}, {"bias": jnp.array([4.0, 2.0])}, alpha=0.25)["bias"].tolist()
    [1.0, 2.0]
    """
    if not 0.0 <= alpha <= 1.0:
        raise ValueError(f"alpha must be in [0, 1], got {alpha}")
    leaves, others = dict(flatten(start)), dict(flatten(tuned))
    adapters = [path for path in leaves | others if path.endswith(LORA_A)]
    if adapters:
        raise ValueError(f"{adapters[0]}: apply merge_parameters before the interpolation")
    differ = [path for path in sorted(leaves.keys() & others.keys()) if leaves[path].shape != others[path].shape]
    differ += sorted(leaves.keys() ^ others.keys())
    if differ:
        raise ValueError(f"{differ[0]} differs between start and tuned")

    def mixed(a: Any, b: Any) -> jax.Array:
        value = (1.0 - alpha) * a.astype(jnp.float32) + alpha * b.astype(jnp.float32)
        return value.astype(a.dtype)

    return jax.tree.map(mixed, start, tuned)


def interpolate_trained(start: PyTree, tuned: PyTree, *, alpha: float) -> PyTree:
    """`interpolate` of trainable parameters, adapters included: their updates A B are scaled by alpha.

    An adapter starts with B = 0, so W + alpha A B is the average of both kernels.

    >>> start = {"lora_a": jnp.ones((2, 1)), "lora_b": jnp.zeros((1, 2))}
    >>> tuned = {"lora_a": jnp.full((2, 1), 3.0), "lora_b": jnp.ones((1, 2))}
    >>> half = interpolate_trained(start, tuned, alpha=0.5)
    >>> (half["lora_a"] @ half["lora_b"]).tolist()
    [[1.5, 1.5], [1.5, 1.5]]
    """
    before, after = dict(flatten(start)), dict(flatten(tuned))
    adapters = {path for path in after if path.endswith((LORA_A, LORA_B))}
    rest = [{path: leaf for path, leaf in tree.items() if path not in adapters} for tree in (before, after)]
    mixed = interpolate(*rest, alpha=alpha)
    for path in adapters:
        mixed[path] = alpha * after[path] if path.endswith(LORA_B) else after[path]
    return unflatten(mixed)
