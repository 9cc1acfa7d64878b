"""What an evaluation measures of several seeds at once, in one compiled program."""

from __future__ import annotations

import jax
import numpy as np

from alignment_jax import metrics
from alignment_jax.core.types import Array
from alignment_jax.evals.collapse import participation
from alignment_jax.evals.retrieval import recall_of_ranks


def watch_seeds(za: Array, zb: Array, b_to_a: np.ndarray) -> list[dict[str, float]]:
    """`recall` and `variability` of the embeddings of every seed.

    Args:
      za: [seeds, n, d]. zb: [seeds, m, d].
      b_to_a: [m], the a-item of every b-item.

    >>> eye = np.eye(3, dtype=np.float32)
    >>> found = watch_seeds(np.stack([eye, eye]), np.stack([eye, eye[[1, 0, 2]]]), np.arange(3))
    >>> [round(one["b2a_R@1"], 1) for one in found], round(found[0]["participation_a"], 1)
    ([100.0, 33.3], 2.0)
    """
    (rank_ab, rank_ba), sides = jax.device_get(_measured(za, zb, np.asarray(b_to_a, np.int32)))
    found = []
    for k in range(len(rank_ab)):
        values = recall_of_ranks(rank_ab[k], rank_ba[k])
        for side, (variance, ratio) in sides.items():
            values |= {f"variance_{side}": float(variance[k]), f"participation_{side}": float(ratio[k])}
        found.append(values)
    return found


@jax.jit
def _measured(za: jax.Array, zb: jax.Array, b_to_a: jax.Array):
    def one(both: tuple[jax.Array, jax.Array]):
        a, b = both
        return metrics.retrieval_ranks(a, b, b_to_a), {"a": participation(a), "b": participation(b)}

    return jax.lax.map(one, (za, zb))
