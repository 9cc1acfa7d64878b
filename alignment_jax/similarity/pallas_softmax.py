"""The tiled softmax as Pallas kernels for TPU: a tile of S stays in VMEM and never goes to HBM.

The kernels replace `sweep.sweep_tiles` and take the same constants and states. Their grid visits the tiles of S row by
row, in order. Accumulators of a row tile stay in its output block from one column tile to the next; those of the
columns, two or three numbers each, stay in VMEM for the whole grid. A gradient as large as the embeddings would not fit
there, so the backward pass computes S twice, once for each side: five large products in all where the loop of XLA needs
four, but no tile is written to memory.

On CPU the kernels are interpreted: that tests their results, not their speed.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from alignment_jax.core.varying import result_like
from alignment_jax.similarity.dense import MASKED
from alignment_jax.similarity.products import matmul, weighted_einsum
from alignment_jax.similarity.tiles import State

Values = dict[str, Any]
# Constants of an anchor that the kernels read, in this order.
_ANCHOR = ("sign", "magnitude", "mask")
_WEIGHED = (*_ANCHOR, "max", "weight", "pair")


def pallas_statistics(
    rows: Values, columns: Values, row_state: State, column_state: State, offset: jax.Array | int
) -> tuple[State, State]:
    """`sweep_tiles` of the softmax's accumulators; the states must be the initial ones."""
    count = 3 if "weighted_sum" in row_state.merged else 2
    (tiles, t), column_shape = rows["magnitude"].shape, columns["magnitude"].shape
    row_block = pl.BlockSpec((None, t, 1), lambda i, j: (i, 0, 0))
    row_result, column_result = result_like(rows["z"], (tiles, t, 1)), result_like(columns["z"], column_shape)
    # The whole array is one block, in VMEM from the first tile to the last.
    whole = pl.BlockSpec(column_shape, lambda i, j: (0, 0))
    outputs = _call(
        functools.partial(_statistics_kernel, count),
        rows,
        columns,
        _ANCHOR,
        offset,
        out_shape=[row_result] * (count + 1) + [column_result] * count,
        out_specs=[row_block] * (count + 1) + [whole] * count,
    )
    *row_outputs, positive = (x[..., 0] for x in outputs[: count + 1])
    row_merged, column_merged = (
        {"magnitude": anchors["magnitude"], **dict(zip(("max", "sum_exp", "weighted_sum"), values, strict=False))}
        for anchors, values in ((rows, row_outputs), (columns, outputs[count + 1 :]))
    )
    return State({"positive": positive}, row_merged), State({}, column_merged)


def pallas_gradient(
    rows: Values, columns: Values, row_state: State, column_state: State, offset: jax.Array | int
) -> tuple[State, State]:
    """`sweep_tiles` of the gradient; the states must be zero."""
    del row_state, column_state
    # "pair" is a constant of the row: on the diagonal it is subtracted once, for either side.
    pairless = jnp.zeros_like(columns["weight"])
    dx = _gradient(rows, columns | {"pair": pairless}, offset)
    dy = _gradient(columns | {"pair": pairless}, rows, -jnp.asarray(offset))
    return State({"dz": dx}, {}), State({"dz": dy.swapaxes(1, 2)}, {})


def _gradient(rows: Values, columns: Values, offset: jax.Array | int) -> jax.Array:
    shape = rows["z"].shape
    block = pl.BlockSpec((None, *shape[1:]), lambda i, j: (i, 0, 0))
    out = [result_like(rows["z"], shape)]
    return _call(_gradient_kernel, rows, columns, _WEIGHED, offset, out_shape=out, out_specs=[block])[0]


def _call(kernel, rows: Values, columns: Values, names: tuple[str, ...], offset, **outputs) -> list[jax.Array]:
    """A kernel over all tiles of S; it takes the offset, both embeddings and the named constants of both sides."""
    blank = {"mask": jnp.zeros_like(rows["magnitude"])}, {"mask": jnp.zeros_like(columns["magnitude"])}
    rows, columns = blank[0] | rows, blank[1] | columns
    tiles, t, d = rows["z"].shape
    column_tiles, column_t, _ = columns["z"].shape
    row_value = pl.BlockSpec((None, t, 1), lambda i, j: (i, 0, 0))
    column_value = pl.BlockSpec((None, 1, column_t), lambda i, j: (j, 0, 0))
    in_specs = [
        pl.BlockSpec(memory_space=pltpu.SMEM),
        pl.BlockSpec((None, t, d), lambda i, j: (i, 0, 0)),
        pl.BlockSpec((None, column_t, d), lambda i, j: (j, 0, 0)),
        *[row_value] * len(names),
        *[column_value] * len(names),
    ]
    arguments = [
        jnp.asarray(offset, jnp.int32).reshape(1),
        rows["z"],
        columns["z"],
        *(rows[name][..., None] for name in names),
        *(columns[name][:, None, :] for name in names),
    ]
    return pl.pallas_call(
        kernel,
        grid=(tiles, column_tiles),
        in_specs=in_specs,
        interpret=jax.default_backend() != "tpu",
        compiler_params=pltpu.CompilerParams(dimension_semantics=("arbitrary", "arbitrary")),
        **outputs,
    )(*arguments)


def _own(offset, shape: tuple[int, ...]) -> jax.Array:
    """[t, t] bool, true where the tile holds a sample with its own partner."""
    row, column = (jax.lax.broadcasted_iota(jnp.int32, shape, axis) for axis in (0, 1))
    return (row == column) & (pl.program_id(0) + offset[0] == pl.program_id(1))


def _statistics_kernel(count: int, offset, x, y, *refs) -> None:
    row_sign, row_magnitude, row_mask, column_sign, column_magnitude, column_mask = (ref[...] for ref in refs[:6])
    row_out, positive, column_out = refs[6 : 6 + count], refs[6 + count], refs[7 + count :]
    i, j = pl.program_id(0), pl.program_id(1)
    s = matmul(x[...], y[...])

    def updated(s: jax.Array, magnitude: jax.Array, axis: int, old: list[jax.Array]) -> list[jax.Array]:
        largest = jnp.maximum(old[0], jnp.max(s, axis=axis, keepdims=True))
        down = old[0] - largest
        share, below = jnp.exp(down * magnitude), s - largest
        power = jnp.exp(below * magnitude)
        new = [largest, share * old[1] + jnp.sum(power, axis=axis, keepdims=True)]
        if count > 2:
            weighted = share * (old[2] + old[1] * down)
            new.append(weighted + jnp.sum(power * below, axis=axis, keepdims=True))
        return new

    @pl.when(j == 0)
    def _() -> None:
        positive[...] = jnp.zeros_like(positive)
        for ref in row_out:
            ref[...] = jnp.full_like(ref, MASKED if ref is row_out[0] else 0.0)

    @pl.when(i == 0)
    def _() -> None:
        for ref in column_out:
            ref[pl.ds(j, 1), :] = jnp.full_like(column_magnitude, MASKED if ref is column_out[0] else 0.0)

    new = updated(s * row_sign + column_mask, row_magnitude, 1, [ref[...] for ref in row_out])
    for ref, value in zip(row_out, new, strict=True):
        ref[...] = value
    new = updated(s * column_sign + row_mask, column_magnitude, 0, [ref[pl.ds(j, 1), :] for ref in column_out])
    for ref, value in zip(column_out, new, strict=True):
        ref[pl.ds(j, 1), :] = value
    positive[...] += jnp.sum(jnp.where(_own(offset, s.shape), s, 0.0), axis=1, keepdims=True)


def _gradient_kernel(offset, x, y, *refs) -> None:
    row = dict(zip(_WEIGHED, (ref[...] for ref in refs[:6]), strict=True))
    column = dict(zip(_WEIGHED, (ref[...] for ref in refs[6:12]), strict=True))
    dx = refs[12]
    s = matmul(x[...], y[...])
    row_share = jnp.exp((s * row["sign"] + column["mask"] - row["max"]) * row["magnitude"]) * row["weight"]
    column_share = jnp.exp((s * column["sign"] + row["mask"] - column["max"]) * column["magnitude"]) * column["weight"]
    weight = row_share + column_share - jnp.where(_own(offset, s.shape), row["pair"] + column["pair"], 0.0)

    @pl.when(pl.program_id(1) == 0)
    def _() -> None:
        dx[...] = jnp.zeros_like(dx)

    dx[...] += weighted_einsum("ij,jd->id", weight, y[...])
