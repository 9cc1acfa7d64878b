"""Rows of matrices in equal blocks on the devices of a mesh axis, each of whole tiles."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from alignment_jax.core.types import Array, PyTree

AXIS = "rows"


@dataclasses.dataclass(frozen=True)
class RowShards:
    """The functions of one device, under `jax.shard_map` over AXIS; with `count` 1 the device holds all rows.

    count: devices of the axis.
    tile: rows of a tile.
    """

    count: int
    tile: int

    def padded(self, rows: int) -> int:
        """Rows of all blocks."""
        whole = self.count * self.tile
        return -(-rows // whole) * whole

    def own(self, x: jax.Array, *, fill: float | int = 0) -> jax.Array:
        """The block of this device of a whole array [rows, ...], the tail filled up."""
        size = self.padded(x.shape[0])
        x = jnp.pad(x, [(0, size - x.shape[0])] + [(0, 0)] * (x.ndim - 1), constant_values=fill)
        if self.count == 1:
            return x
        block = size // self.count
        return jax.lax.dynamic_slice_in_dim(x, jax.lax.axis_index(AXIS) * block, block)

    def whole(self, block: jax.Array, rows: int) -> jax.Array:
        """The first `rows` rows of an array, from its blocks."""
        return (block if self.count == 1 else jax.lax.all_gather(block, AXIS, tiled=True))[:rows]

    def take(self, block: jax.Array, index: jax.Array) -> jax.Array:
        """Rows of the whole array: those of `index` [k], which differs between devices."""
        if self.count == 1:
            return block[index]
        wanted = jax.lax.all_gather(index, AXIS, tiled=True) - jax.lax.axis_index(AXIS) * block.shape[0]
        here = (wanted >= 0) & (wanted < block.shape[0])
        rows = jnp.where(here[:, None], block[jnp.where(here, wanted, 0)], 0)
        # One device has the row and the others zeros, so that the sum has its bits.
        return jax.lax.psum_scatter(rows, AXIS, tiled=True)

    def shift(self, tree: PyTree) -> PyTree:
        """The blocks of the previous device."""
        neighbours = [(device, (device + 1) % self.count) for device in range(self.count)]
        return jax.tree.map(lambda x: jax.lax.ppermute(x, AXIS, neighbours), tree)


def row_mesh(devices: Sequence[jax.Device]) -> Mesh:
    """A mesh of one axis, AXIS."""
    return Mesh(np.asarray(devices), (AXIS,))


def put_blocks(z: Array, mesh: Mesh, shards: RowShards) -> jax.Array:
    """float32 [padded rows, d] over the devices of a mesh; of a host array each device gets its own block alone."""
    sharding, size = NamedSharding(mesh, PartitionSpec(AXIS)), shards.padded(z.shape[0])
    if isinstance(z, jax.Array):
        return jax.device_put(jnp.pad(z.astype(jnp.float32), ((0, size - z.shape[0]), (0, 0))), sharding)

    def block(index: Any) -> np.ndarray:
        start, stop, _ = index[0].indices(size)
        rows = np.asarray(z[start:stop], np.float32)
        return np.pad(rows, ((0, stop - start - len(rows)), (0, 0)))

    return jax.make_array_from_callback((size, z.shape[1]), sharding, block)
