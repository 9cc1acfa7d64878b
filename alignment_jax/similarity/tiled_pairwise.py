"""Sums of a pair's loss, tile by tile, with value and gradient from one sweep.

A pair's derivative needs only the cotangents of its two anchors. They are unknown when the value is computed, but a
mean over the batch gives every anchor the same one: the sweep computes the gradient for cotangents of 1, three large
products in all, and the backward pass scales it. Where cotangents differ (a weight per sample or per direction), the
backward pass sweeps again with the true ones. With statistics, which serve to weigh the directions, it always does.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from alignment_jax.core.varying import vary_over, varying_axes
from alignment_jax.similarity.accumulators import anchor_statistics
from alignment_jax.similarity.cotangents import cotangent_array, primal_values
from alignment_jax.similarity.duplicates import MASK, POSITIVE, Duplicates, mode_of
from alignment_jax.similarity.implementation import ResolvedImplementation
from alignment_jax.similarity.online_softmax import merge, softmax_constants, softmax_states, update_online_softmax
from alignment_jax.similarity.pair_functions import PairFunction
from alignment_jax.similarity.products import operand
from alignment_jax.similarity.sweep import sweep_devices, sweep_tiles
from alignment_jax.similarity.tiles import (
    State,
    Tile,
    add_gradients,
    join_gradients,
    join_states,
    split,
    tile_rows,
    zero_gradients,
)


def tiled_pairwise(
    function: PairFunction,
    implementation: ResolvedImplementation,
    x: jax.Array,
    y: jax.Array,
    scale: jax.Array,
    offset: jax.Array,
    where: jax.Array | None,
    inverse: jax.Array | None = None,
    duplicates: Duplicates | None = None,
) -> tuple[tuple[jax.Array, ...], dict[str, jax.Array], jax.Array | None]:
    """Sums over candidates (ab [n], and ba [n] if the loss has two directions).

    With an `inverse` temperature [n] the second result holds each anchor's variance, entropy and range
    (`anchor_statistics`), from the same sweep and without gradients; otherwise it is empty. Where a function of two
    directions masks duplicates, the third is the number of each anchor's candidates besides its own partner [n].
    """
    scale = vary_over(varying_axes(x), scale)
    return _losses(function, implementation, x, y, scale, offset, where, inverse, duplicates)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _losses(function, implementation, x, y, scale, offset, where, inverse, duplicates):
    results = _sweep(function, implementation, x, y, scale, offset, where, duplicates, inverse, value=True)
    return _outputs(function, implementation, results, where, inverse, duplicates)


def _outputs(function, implementation, results, where, inverse, duplicates):
    losses = (results["loss_ab"], results["loss_ba"]) if function.both else (results["loss_ab"],)
    statistics = {}
    if inverse is not None:
        statistics = anchor_statistics(results, inverse, where, implementation.axis_name, mode_of(duplicates))
    return losses, statistics, results.get("others_ab")


def _sweep(
    function, implementation, x, y, scale, offset, where, duplicates, inverse=None, *, value=False, g=None
) -> dict[str, jax.Array]:
    """One sweep. `value` adds losses per anchor; `g` (ab [n], ba [n]) the gradients dx, dy of Σ g · loss, unscaled, and
    the derivatives of the losses by their offset; `inverse` the accumulators of the statistics."""
    n, t = x.shape[0], tile_rows(x.shape[0], implementation.tile)
    mode, precision = mode_of(duplicates), implementation.precision
    x, y = operand(x, precision), operand(y, precision)
    rows, columns = {"z": split(x, t)}, {"z": split(y, t)}
    row_state, column_state = State({}, {}), State({}, {})
    if inverse is not None:
        rows, columns = softmax_constants(
            x, y, inverse, where, t, duplicates, means=True, axis_name=implementation.axis_name
        )
        row_state, column_state = softmax_states(rows, columns, mode, weighted_sum=True, statistics=True)
    elif duplicates is not None:
        ids = {side: split(one, t) for side, one in duplicates.ids.items()}
        rows, columns = rows | ids, columns | ids
    rows["offset"] = columns["offset"] = split(offset, t)
    padded = where is not None or n % t > 0
    if padded:
        counts = jnp.ones_like(offset) if where is None else jnp.where(where, jnp.ones_like(offset), 0.0)
        rows["counts"] = columns["counts"] = split(counts, t)
    zero = jnp.zeros_like(rows["offset"])
    anchor = ({"loss": zero} if value else {}) | ({} if g is None else {"slope": zero})
    row_state.added.update(anchor)
    column_state.added.update(anchor if function.both else {})
    if value and function.both and mode == MASK:
        row_state.added["others"] = zero
    if inverse is not None:
        row_state.added["positive"] = zero
    if g is not None:
        rows["g"], columns["g"] = split(g[0], t), split(g[1], t)
        row_state.added["dz"], column_state.added["dz"] = zero_gradients(rows, columns)

    def update(tile: Tile, row_state: State, column_state: State) -> tuple[State, State]:
        if inverse is not None:
            row_state = update_online_softmax(tile, row_state, 1, mode)
            column_state = update_online_softmax(tile, column_state, 0, mode)
        row_sums, column_sums = dict(row_state.added), dict(column_state.added)
        if inverse is not None:
            row_sums["positive"] += tile.positive()
        positive, s = tile.own_pairs(), scale * tile.s
        if mode == POSITIVE:
            positive = positive | tile.duplicates()
        weight = jnp.zeros_like(s)
        directions = [(row_sums, tile.row, tile.column, 1)]
        if function.both:
            directions.append((column_sums, tile.column, tile.row, 0))
        for sums, anchors, candidates, axis in directions:
            score = s + jnp.expand_dims(anchors["offset"], axis)
            counts = jnp.expand_dims(candidates["counts"], 1 - axis) if padded else 1.0
            if mode == MASK:
                counts = jnp.where(tile.duplicates(), 0.0, counts)
            if "others" in sums:
                sums["others"] += jnp.sum(jnp.where(positive, 0.0, counts), axis=axis)
            if value:
                sums["loss"] += jnp.sum(function.value(score, positive) * counts, axis=axis)
            if g is not None:
                slope = function.slope(score, positive) * counts
                sums["slope"] += jnp.sum(slope, axis=axis)
                weight = weight + slope * jnp.expand_dims(anchors["g"], axis)
        if g is not None:
            row_sums["dz"], column_sums["dz"] = add_gradients(
                tile, weight, row_sums["dz"], column_sums["dz"], precision
            )
        return row_state._replace(added=row_sums), column_state._replace(added=column_sums)

    tiles = functools.partial(sweep_tiles, update, precision)
    row_state, column_state = sweep_devices(tiles, rows, columns, row_state, column_state, implementation, merge)
    gradients = {}
    if g is not None:
        dz = row_state.added.pop("dz"), column_state.added.pop("dz")
        gradients["dx"], gradients["dy"] = join_gradients(*dz, n)
    return join_states(row_state, column_state, n) | gradients


def _forward(function, implementation, x, y, scale, offset, where, inverse, duplicates):
    arguments = primal_values((x, y, scale, offset, where, inverse, duplicates))
    x, y, scale, offset, where, inverse, duplicates = arguments
    ones = jnp.ones_like(offset)
    if where is not None:
        ones = jnp.where(where, ones, 0.0)
    # Where anchors differ in their number of candidates, the mean gives them different cotangents.
    early = None if inverse is not None or (function.both and duplicates is not None) else (ones, ones)
    results = _sweep(function, implementation, x, y, scale, offset, where, duplicates, inverse, value=True, g=early)
    saved = {name: results[name] for name in ("dx", "dy", "slope_ab", "slope_ba") if name in results}
    outputs = _outputs(function, implementation, results, where, inverse, duplicates)
    return outputs, ((x, y, scale, offset, where, duplicates), saved)


def _backward(function, implementation, saved, cotangents):
    (x, y, scale, offset, where, duplicates), results = saved
    g = tuple(cotangent_array(c, offset) for c in cotangents[0])
    if not results:
        results = _sweep(function, implementation, x, y, scale, offset, where, duplicates, g=(g[0], g[-1]))
        dx, dy = results["dx"], results["dy"]
    else:
        known = {name: results[name] for name in ("dx", "dy")}
        dx, dy = _for_cotangents(function, implementation, x, y, scale, offset, where, duplicates, known, g)
    d_offset = g[0] * results["slope_ab"] + (g[1] * results["slope_ba"] if function.both else 0.0)
    # Σ_ij W_ij S_ij = Σ_i x_i · (W y)_i: the scale's derivative needs no further pass.
    d_scale = jnp.sum(operand(x, implementation.precision).astype(jnp.float32) * dx)
    return (scale * dx).astype(x.dtype), (scale * dy).astype(y.dtype), d_scale, d_offset, None, None, None


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _for_cotangents(
    function, implementation, x, y, scale, offset, where, duplicates, results, g
) -> tuple[jax.Array, jax.Array]:
    """The gradient for cotangents `g`; where all are equal, a multiple of the known gradient for cotangents of 1."""
    every = jnp.stack(g)
    # Infinities rather than NaN where a cotangent is NaN: a reduction over devices need not keep a NaN, and unequal
    # cotangents select the sweep, which carries the NaN to the gradient.
    broken = jnp.isnan(every) if where is None else jnp.isnan(every) & where
    masked = broken if where is None else broken | ~where
    low = jnp.where(jnp.any(broken), -jnp.inf, jnp.min(jnp.where(masked, jnp.inf, every)))
    high = jnp.where(jnp.any(broken), jnp.inf, jnp.max(jnp.where(masked, -jnp.inf, every)))
    if implementation.axis_name is not None:
        # All devices must take the same branch, also those of other axes: the sweep in it is collective, and a
        # permutation synchronises every device of the mesh, not only those that exchange data.
        names = varying_axes(x, low) | {implementation.axis_name} | set(jax.sharding.get_abstract_mesh().manual_axes)
        if varying_axes(x):
            low, high = vary_over(names, (low, high))
        low, high = jax.lax.pmin(low, tuple(sorted(names))), jax.lax.pmax(high, tuple(sorted(names)))
    axes = varying_axes(x)

    def known() -> tuple[jax.Array, jax.Array]:
        return vary_over(axes, (high * results["dx"], high * results["dy"]))

    def computed() -> tuple[jax.Array, jax.Array]:
        return _sweep_again(function, implementation, x, y, scale, offset, where, duplicates, g)

    return jax.lax.cond(low == high, known, computed)


@_for_cotangents.defjvp
def _for_cotangents_jvp(function, implementation, primals, tangents):
    # The scaled gradient holds at equal cotangents only, not near them: differentiate the sweep, which is the same
    # function of all arguments.
    x, y, scale, offset, where, duplicates, _, g = primals
    *moved, _, _, _, moved_g = tangents

    def again(x, y, scale, offset, g):
        return _sweep_again(function, implementation, x, y, scale, offset, where, duplicates, g)

    _, tangent = jax.jvp(again, (x, y, scale, offset, g), (*moved, moved_g))
    return _for_cotangents(function, implementation, *primals), tangent


def _sweep_again(function, implementation, x, y, scale, offset, where, duplicates, g) -> tuple[jax.Array, jax.Array]:
    results = _sweep(function, implementation, x, y, scale, offset, where, duplicates, g=(g[0], g[-1]))
    return results["dx"], results["dy"]


_losses.defvjp(_forward, _backward, symbolic_zeros=True)
