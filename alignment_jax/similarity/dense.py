"""The dense implementation, differentiated by JAX: the reference for the others.

With an axis the rows are this device's `za` and the columns the gathered `zb` of all devices. Row sums are complete on
this device. Column sums are added over the devices, and each device keeps those of its own columns.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from alignment_jax.core.masked_reductions import masked_count
from alignment_jax.core.types import Array
from alignment_jax.similarity.accumulators import AnchorAccumulators, sign_and_magnitude
from alignment_jax.similarity.duplicates import MASK, Duplicates, Mode, equal_in_one, mode_of
from alignment_jax.similarity.products import matmul

# Far below any logit, yet finite: a row or tile without a single candidate must not become inf - inf.
MASKED = -1e30


@dataclasses.dataclass(frozen=True)
class DenseBlock:
    """Similarities of this device's rows with all columns.

    Args:
      s: [b, n] float32.
      positive: [b] similarity of each row with its own column.
      anchor: [b] bool, rows that count, or None for all.
      candidate: [n] bool, columns that count, or None for all.
      own_pair: [b, n] bool, true where the column is the row's own partner.
      duplicates: [b, n] bool, true where the column is a duplicate of that partner, or None without ids.
      mode: treatment of duplicates, or None without ids.
    """

    s: jax.Array
    positive: jax.Array
    anchor: jax.Array | None
    candidate: jax.Array | None
    own_pair: jax.Array
    axis_name: str | None
    duplicates: jax.Array | None = None
    mode: Mode | None = None

    def in_rows(self) -> jax.Array | None:
        """[b, n] or [1, n] bool, columns that are candidates of the row; None where all are."""
        return self._without_masked(None if self.candidate is None else self.candidate[None, :])

    def in_columns(self) -> jax.Array | None:
        """[b, n] or [b, 1] bool, rows that are candidates of the column; None where all are."""
        return self._without_masked(None if self.anchor is None else self.anchor[:, None])

    def _without_masked(self, counts: jax.Array | None) -> jax.Array | None:
        if self.duplicates is None or self.mode != MASK:
            return counts
        return ~self.duplicates if counts is None else counts & ~self.duplicates

    def group(self, candidates: jax.Array | None) -> jax.Array:
        """[b, n] bool, those of the candidates that are in their anchor's group (see `accumulators`); requires ids."""
        assert self.duplicates is not None
        members = ~self.duplicates if self.mode == MASK else self.duplicates | self.own_pair
        return members if candidates is None else members & candidates

    def all_columns(self, x: jax.Array) -> jax.Array:
        """One value a local sample [b] -> one value a column [n]."""
        return _gather(x, self.axis_name)

    def add_columns(self, terms: jax.Array) -> jax.Array:
        """Sums of terms [b, n] over the rows of all devices, for the columns of this device [b]."""
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
        largest = jax.lax.stop_gradient(jnp.max(x, axis=0))
        return largest if self.axis_name is None else jax.lax.pmax(largest, self.axis_name)


def dense_block(
    za: Array,
    zb: Array,
    where: Array | None,
    axis_name: str | None,
    duplicates: Duplicates | None = None,
    precision: str = "float32",
) -> DenseBlock:
    """Similarities of this device's rows with the columns of all devices; masked rows must be zero."""
    rows, columns = za.shape[0], _gather(zb, axis_name)
    offset = 0 if axis_name is None else jax.lax.axis_index(axis_name) * rows
    s = matmul(za, columns, precision)
    own = jnp.arange(rows) + offset
    where = None if where is None else jnp.asarray(where)
    own_pair, equal = own[:, None] == jnp.arange(columns.shape[0])[None, :], None
    if duplicates is not None:
        of_columns = {side: _gather(ids, axis_name) for side, ids in duplicates.ids.items()}
        equal = equal_in_one(duplicates.ids, of_columns) & ~own_pair
    return DenseBlock(
        s=s,
        positive=jnp.take_along_axis(s, own[:, None], axis=1)[:, 0],
        anchor=where,
        candidate=None if where is None else _gather(where, axis_name),
        own_pair=own_pair,
        axis_name=axis_name,
        duplicates=equal,
        mode=mode_of(duplicates),
    )


def dense_softmax(block: DenseBlock, inverse_temperature: jax.Array, *, statistics: bool = False) -> AnchorAccumulators:
    """Accumulators of each anchor (see `accumulators`), differentiable; `inverse_temperature` [b].

    `statistics` adds those of the statistics, as constants for differentiation.
    """
    # Similarities are subtracted before they are divided by the temperature: logit - max would be compiled to one fused
    # multiply-add, whose product is not rounded as `max` was, and exp overflows where logits are beyond 1e9.
    sign, magnitude = sign_and_magnitude(inverse_temperature)
    rows = block.s * sign[:, None]
    columns = block.s * block.all_columns(sign)[None, :]
    in_rows, in_columns = block.in_rows(), block.in_columns()
    if in_rows is not None and in_columns is not None:
        rows = jnp.where(in_rows, rows, MASKED)
        columns = jnp.where(in_columns, columns, MASKED)
    # The largest drops out of the derivative.
    max_ab = jax.lax.stop_gradient(jnp.max(rows, axis=1))
    max_ba = block.max_columns(columns)
    below_ab, below_ba = rows - max_ab[:, None], columns - max_ba[None, :]
    power_ab = jnp.exp(below_ab * magnitude[:, None])
    power_ba = jnp.exp(below_ba * block.all_columns(magnitude)[None, :])
    accumulators = {
        "positive": block.positive,
        "max_ab": max_ab,
        "sum_exp_ab": jnp.sum(power_ab, axis=1),
        "max_ba": block.own_columns(max_ba),
        "sum_exp_ba": block.add_columns(power_ba),
    }
    if block.mode is not None:
        accumulators |= _group_means(block, in_rows, in_columns)
    if statistics:
        rows, columns, weighted_ab, weighted_ba = jax.lax.stop_gradient(
            (rows, columns, power_ab * below_ab, power_ba * below_ba)
        )
        accumulators["weighted_sum_ab"] = jnp.sum(weighted_ab, axis=1)
        accumulators["weighted_sum_ba"] = block.add_columns(weighted_ba)
        accumulators |= _extremes_and_squares(block, rows, columns)
    return accumulators


def _group_means(block: DenseBlock, in_rows: jax.Array | None, in_columns: jax.Array | None) -> AnchorAccumulators:
    """`count` and `mean` of both directions."""
    of_rows, of_columns = block.group(in_rows), block.group(in_columns)
    count_ab = jnp.sum(of_rows.astype(jnp.float32), axis=1)
    count_ba = block.add_columns(of_columns.astype(jnp.float32))
    sum_ab = jnp.sum(jnp.where(of_rows, block.s, 0.0), axis=1)
    sum_ba = block.add_columns(jnp.where(of_columns, block.s, 0.0))
    return {
        "count_ab": count_ab,
        "count_ba": count_ba,
        "mean_ab": sum_ab / jnp.maximum(count_ab, 1.0),
        "mean_ba": sum_ba / jnp.maximum(count_ba, 1.0),
    }


def _extremes_and_squares(block: DenseBlock, rows: jax.Array, columns: jax.Array) -> AnchorAccumulators:
    """`min` and `squares` of both directions; `rows` and `columns` are S times the sign of their anchors."""

    def candidates(s: jax.Array, counts: jax.Array | None, other: float) -> jax.Array:
        return s if counts is None else jnp.where(counts, s, other)

    in_rows, in_columns = block.in_rows(), block.in_columns()
    count = jnp.maximum(masked_count(block.positive, block.anchor, axis_name=block.axis_name), 1.0)
    count_ba = count
    if block.mode == MASK:
        count = jnp.maximum(jnp.sum(block.group(in_rows).astype(jnp.float32), axis=1), 1.0)
        count_ba = jnp.maximum(block.add_columns(block.group(in_columns).astype(jnp.float32)), 1.0)
    # Centred before they are squared: E[S²] - E[S]² loses all digits when the similarities are nearly equal.
    mean = jnp.sum(candidates(rows, in_rows, 0.0), axis=1) / count
    centred = candidates(rows - mean[:, None], in_rows, 0.0)
    mean = block.add_columns(candidates(columns, in_columns, 0.0)) / count_ba
    centred_columns = candidates(columns - block.all_columns(mean)[None, :], in_columns, 0.0)
    return {
        "min_ab": jnp.min(candidates(rows, in_rows, -MASKED), axis=1),
        "min_ba": -block.own_columns(block.max_columns(-candidates(columns, in_columns, -MASKED))),
        "squares_ab": jnp.sum(jnp.square(centred), axis=1),
        "squares_ba": block.add_columns(jnp.square(centred_columns)),
    }


def _gather(x: Array, axis_name: str | None) -> jax.Array:
    return jnp.asarray(x) if axis_name is None else jax.lax.all_gather(x, axis_name, tiled=True)
