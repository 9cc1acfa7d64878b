"""Evaluation during training as one function to compile and map over seeds."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from alignment_jax import metrics
from alignment_jax.core.deprecation import renamed_keywords
from alignment_jax.core.types import Array
from alignment_jax.evals.collapse import named_by_side, variance_and_participation


@renamed_keywords(same_a="ids_a", same_b="ids_b")
def evaluate_on_device(
    za: Array, zb: Array, b_to_a: Array, ids_a: Array | None = None, ids_b: Array | None = None
) -> dict[str, Any]:
    """Ranks, variance and participation ratio of the embeddings of a split, and whether they are finite.

    Args:
      za: [n, d]. zb: [m, d].
      b_to_a: int [m], the a-item of every b-item.
      ids_a, ids_b: int [n] and [m], equal for rows of the same content; None: all rows differ.

    Returns:
      Arrays for `metrics_of_seeds`; those of several seeds are stacked, leaves [seeds, ...].
    """
    sides = {"a": za, "b": zb}
    return {
        "ranks": metrics.retrieval_ranks(za, zb, b_to_a, ids_a=ids_a, ids_b=ids_b),
        "participation": {side: variance_and_participation(z) for side, z in sides.items()},
        "finite": {side: jnp.isfinite(z).all() for side, z in sides.items()},
    }


def metrics_of_seeds(measured: dict[str, Any]) -> list[dict[str, float]]:
    """`recall_metrics` and `collapse_metrics` of every seed, from the stacked result of `evaluate_on_device`.

    >>> eye = jnp.eye(3)
    >>> both = jax.vmap(lambda b: evaluate_on_device(eye, b, jnp.arange(3)))(
    ...     jnp.stack([eye, eye[jnp.array([1, 0, 2])]])
    ... )
    >>> [round(one["b2a_R@1"], 1) for one in metrics_of_seeds(both)]
    [100.0, 33.3]
    """
    measured = jax.device_get(measured)
    found = []
    for k, (rank_ab, rank_ba) in enumerate(zip(*measured["ranks"], strict=True)):
        sides = {side: (variance[k], ratio[k]) for side, (variance, ratio) in measured["participation"].items()}
        recalls = {key: float(value) for key, value in metrics.recall_from_ranks(rank_ab, rank_ba).items()}
        found.append(recalls | named_by_side(sides))
    return found
