"""The block of similarities held whole, differentiated by JAX: the reference that the other forms must equal.

With an axis the rows are this device's `za` and the columns everybody's `zb`, gathered once. Row sums are then complete
here; column sums are added up over the devices and every device keeps those of its own columns, so that one block
serves both directions.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from alignment_jax.core.types import Array

# Far below any logit, yet finite: a row or tile without a single candidate must not become inf - inf.
MASKED = -1e30


def matmul(x: jax.Array, y: jax.Array) -> jax.Array:
    """x yᵀ in float32. Float32 inputs are multiplied at full precision: at a temperature of 0.01 the bfloat16 or TF32
    passes that accelerators use by default would put errors of a tenth into the logits."""
    exact = jax.lax.Precision.HIGHEST if x.dtype == jnp.float32 else None
    return jnp.einsum("id,jd->ij", x, y, precision=exact, preferred_element_type=jnp.float32)


@dataclasses.dataclass(frozen=True)
class DenseBlock:
    """Similarities of this device's rows with all columns.

    Args:
      s: [b, n] float32.
      positive: [b] similarity of each row with its own column.
      candidate: [n] bool, columns that count, or None for all.
      anchor: [b] bool, rows that count, or None for all.
      same: [b, n] bool, true where the column is the row's own.
    """

    s: jax.Array
    positive: jax.Array
    anchor: jax.Array | None
    candidate: jax.Array | None
    same: jax.Array
    axis_name: str | None

    def all_columns(self, x: jax.Array) -> jax.Array:
        """One value a local sample [b] -> one value a column [n]."""
        return _gather(x, self.axis_name)

    def add_columns(self, terms: jax.Array) -> jax.Array:
        """Sums [b, n] over the rows of all devices; the columns of this device are kept."""
        total = jnp.sum(terms, axis=0)
        if self.axis_name is None:
            return total
        return jax.lax.psum_scatter(total, self.axis_name, tiled=True)

    def own_columns(self, x: jax.Array) -> jax.Array:
        """One value a column [n] -> those of this device's columns [b]."""
        if self.axis_name is None:
            return x
        b = self.s.shape[0]
        return jax.lax.dynamic_slice_in_dim(x, jax.lax.axis_index(self.axis_name) * b, b)

    def max_columns(self, x: jax.Array) -> jax.Array:
        """Largest entry of every column [n] over the rows of all devices, as a constant for differentiation."""
        # Stopped before the reduction over devices, which has no derivative.
        top = jax.lax.stop_gradient(jnp.max(x, axis=0))
        return top if self.axis_name is None else jax.lax.pmax(top, self.axis_name)


def dense_block(za: Array, zb: Array, where: Array | None, axis_name: str | None) -> DenseBlock:
    """Similarities of this device's rows with everybody's columns; masked rows are zero and no candidates."""
    rows, columns = za.shape[0], _gather(zb, axis_name)
    offset = 0 if axis_name is None else jax.lax.axis_index(axis_name) * rows
    s = matmul(jnp.asarray(za), columns)
    own = jnp.arange(rows) + offset
    where = None if where is None else jnp.asarray(where)
    return DenseBlock(
        s=s,
        positive=jnp.take_along_axis(s, own[:, None], axis=1)[:, 0],
        anchor=where,
        candidate=None if where is None else _gather(where, axis_name),
        same=own[:, None] == jnp.arange(columns.shape[0])[None, :],
        axis_name=axis_name,
    )


def dense_softmax(block: DenseBlock, inverse_temperature: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Cross-entropies (ab [b], ba [b]) of each sample's own pair against all candidates; `inverse_temperature` [b]."""
    # Similarities are subtracted before they are divided by the temperature: logit - top would be compiled to one fused
    # multiply-add, whose product is not rounded as `top` was, and exp overflows where logits are beyond 1e9. The sign
    # keeps a negative temperature's largest logit largest.
    sign, inverse = jnp.where(inverse_temperature < 0, -1.0, 1.0), jnp.abs(inverse_temperature)
    rows = block.s * sign[:, None]
    columns = block.s * block.all_columns(sign)[None, :]
    if block.anchor is not None and block.candidate is not None:
        rows = jnp.where(block.candidate[None, :], rows, MASKED)
        columns = jnp.where(block.anchor[:, None], columns, MASKED)
    own = block.positive * sign
    # The largest drops out of the derivative.
    top = jax.lax.stop_gradient(jnp.max(rows, axis=1))
    total = jnp.sum(jnp.exp((rows - top[:, None]) * inverse[:, None]), axis=1)
    loss_ab = jnp.log(total) + (top - own) * inverse
    top = block.max_columns(columns)
    total = block.add_columns(jnp.exp((columns - top[None, :]) * block.all_columns(inverse)[None, :]))
    loss_ba = jnp.log(total) + (block.own_columns(top) - own) * inverse
    return loss_ab, loss_ba


def _gather(x: Array, axis_name: str | None) -> jax.Array:
    return jnp.asarray(x) if axis_name is None else jax.lax.all_gather(x, axis_name, tiled=True)
