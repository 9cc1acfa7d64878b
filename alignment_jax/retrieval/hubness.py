"""How much of a hub each candidate is: in how many queries' nearest neighbours it is."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from alignment_jax.core.types import Array
from alignment_jax.metrics._row_shards import AXIS, RowShards, put_blocks, row_mesh
from alignment_jax.metrics._square_tiles import TILE, fit_tile
from alignment_jax.metrics._value_checks import check_finite_rows
from alignment_jax.metrics.top_k import top_k
from alignment_jax.retrieval.fold import fold_bias, with_one


def k_occurrence(
    queries: Array,
    candidates: Array,
    *,
    k: int = 10,
    bias: Array | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> jax.Array:
    """Of each candidate, the number of queries that have it among their k most similar candidates.

    Args:
      queries: [n, d] embeddings.
      candidates: [m, d] embeddings.
      k: neighbours of a query; all candidates where there are fewer.
      bias: [m], subtracted from a candidate's similarities, or None.
      devices: that share the queries; each holds all candidates. With several processes every process makes the same
        call with the same host arrays. The counts are those of one device. None: the device of the arrays.

    Returns:
      int32 [m]; its sum is n · min(k, m).

    Raises:
      ValueError: a shape does not fit or k is below 1.

    >>> k_occurrence(jnp.eye(3), jnp.array([[1.0, 1.0, 1.0], [0.5, 0.0, 0.0]]), k=1).tolist()
    [3, 0]

    Source: Radovanović et al. 2010, "Hubs in Space", section 2.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if bias is not None:
        queries, candidates = with_one(queries), fold_bias(candidates, bias)
    n, m = jnp.shape(queries)[0], jnp.shape(candidates)[0]
    tile = fit_tile(TILE, n, m)
    if devices is None or len(devices) == 1 or n <= tile:
        return _counts(queries, candidates, jnp.ones(n, jnp.int32), min(k, m), tile)
    for name, z in (("queries", queries), ("candidates", candidates)):
        check_finite_rows(name, z)
    # Whole tiles of queries, so that similarities round as on one device.
    mesh, shards = row_mesh(devices), RowShards(len(devices), tile)
    everywhere = NamedSharding(mesh, P())
    host = np.asarray(candidates, np.float32)
    whole = jax.make_array_from_callback(host.shape, everywhere, lambda index: host[index])
    return _sharded_counts(put_blocks(queries, mesh, shards), whole, n=n, k=min(k, m), shards=shards, mesh=mesh)


def _counts(queries: Array, candidates: Array, counted: jax.Array, k: int, tile: int) -> jax.Array:
    """int32 [m]: of the queries that are `counted`, 1 or 0 each."""
    _, index = top_k(queries, candidates, k, tile=tile)
    added = jnp.broadcast_to(counted[:, None], index.shape)
    return jnp.zeros(jnp.shape(candidates)[0], jnp.int32).at[index].add(added)


@functools.partial(jax.jit, static_argnames=("n", "k", "shards", "mesh"))
def _sharded_counts(
    queries: jax.Array, candidates: jax.Array, *, n: int, k: int, shards: RowShards, mesh: Mesh
) -> jax.Array:
    def of_block(block: jax.Array, candidates: jax.Array) -> jax.Array:
        counted = shards.own(jnp.ones(n, jnp.int32))
        return jax.lax.psum(_counts(block, candidates, counted, k, shards.tile), AXIS)

    return jax.shard_map(of_block, mesh=mesh, in_specs=(P(AXIS), P()), out_specs=P())(queries, candidates)


def skewness(counts: Array) -> jax.Array:
    """Third standardised moment of `k_occurrence`: near 0 without hubs, large where a few candidates take most queries.

    Args:
      counts: [m].

    Returns:
      A float32 scalar; 0 where all counts are equal.

    >>> float(skewness(jnp.array([3, 0, 0, 0])))
    1.15...

    Source: Radovanović et al. 2010, equation 1.
    """
    x = jnp.asarray(counts, jnp.float32)
    centred = x - jnp.mean(x)
    variance = jnp.mean(jnp.square(centred))
    return jnp.where(variance > 0, jnp.mean(centred**3) / jnp.where(variance > 0, variance, 1.0) ** 1.5, 0.0)
