"""What an evaluation on the way measures, as a function to compile and map over seeds."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from alignment_jax import metrics
from alignment_jax.core.types import Array
from alignment_jax.evals.collapse import participation
from alignment_jax.evals.retrieval_results import recall_of_ranks


def measure(
    za: Array, zb: Array, b_to_a: Array, same_a: Array | None = None, same_b: Array | None = None
) -> dict[str, Any]:
    """Ranks and variability of the embeddings of a split, and whether all of them are finite.

    Args:
      za: [n, d]. zb: [m, d].
      b_to_a: int [m], the a-item of every b-item.
      same_a, same_b: int [n] and [m], equal where rows have the same content; None where all differ.

    Returns:
      Arrays for `watched_values`; those of several seeds are stacked, leaves [seeds, ...].
    """
    sides = {"a": za, "b": zb}
    return {
        "ranks": metrics.retrieval_ranks(za, zb, b_to_a, ids_a=same_a, ids_b=same_b),
        "participation": {side: participation(z) for side, z in sides.items()},
        "finite": {side: jnp.isfinite(z).all() for side, z in sides.items()},
    }


def watched_values(measured: dict[str, Any]) -> list[dict[str, float]]:
    """`recall` and `variability` of every seed, from what `measure` gave for them.

    >>> eye = jnp.eye(3)
    >>> both = jax.vmap(lambda b: measure(eye, b, jnp.arange(3)))(jnp.stack([eye, eye[jnp.array([1, 0, 2])]]))
    >>> [round(one["b2a_R@1"], 1) for one in watched_values(both)]
    [100.0, 33.3]
    """
    measured = jax.device_get(measured)
    found = []
    for k, (rank_ab, rank_ba) in enumerate(zip(*measured["ranks"], strict=True)):
        values = recall_of_ranks(rank_ab, rank_ba)
        for side, (variance, ratio) in measured["participation"].items():
            values |= {f"variance_{side}": float(variance[k]), f"participation_{side}": float(ratio[k])}
        found.append(values)
    return found
