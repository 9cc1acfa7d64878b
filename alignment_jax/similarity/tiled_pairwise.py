"""Sums of a loss per pair, tile by tile, with the gradient made in the same sweep as the value.

A pair's derivative needs no statistic of its row or column, only the cotangents of its two anchors. They are not known
yet when the value is computed, but a mean over the batch gives every anchor the same one: the sweep makes the gradient
for cotangents of 1, three large products in all, and the backward pass scales it. Where the cotangents do differ (a
weight per sample or per direction), the backward pass sweeps once more with the true ones. Statistics are asked for to
weigh the directions: beside them the gradient is left to the backward pass from the start.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from alignment_jax.core.varying import vary_over, varying_axes
from alignment_jax.similarity.anchors import Found, anchor_statistics
from alignment_jax.similarity.duplicates import MASK, POSITIVE, Duplicates, mode_of
from alignment_jax.similarity.implementation import ResolvedImplementation
from alignment_jax.similarity.online_softmax import combine, see, softmax_constants, softmax_states
from alignment_jax.similarity.ring import sweep_all
from alignment_jax.similarity.tiled import (
    State,
    Tile,
    accumulate,
    instantiate,
    join_gradients,
    join_states,
    split,
    sweep,
    tile_rows,
    values,
    zero_gradients,
)

if TYPE_CHECKING:
    from alignment_jax.similarity.pairwise import Pairwise


def tiled_pairwise(
    pairwise: Pairwise,
    layout: ResolvedImplementation,
    x: jax.Array,
    y: jax.Array,
    scale: jax.Array,
    offset: jax.Array,
    where: jax.Array | None,
    inverse: jax.Array | None = None,
    duplicates: Duplicates | None = None,
) -> tuple[tuple[jax.Array, ...], Found, jax.Array | None]:
    """Sums over candidates (ab [n], and ba [n] if the loss has two directions).

    With an `inverse` temperature [n] also each anchor's variance, entropy and range (`anchor_statistics`), found in the
    same sweep and without gradients; otherwise the second result is empty. The third is how many candidates each anchor
    has beside its own partner [n], where a loss of two directions masks duplicates.
    """
    scale = vary_over(varying_axes(x), scale)
    return _losses(pairwise, layout, x, y, scale, offset, where, inverse, duplicates)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _losses(pairwise, layout, x, y, scale, offset, where, inverse, duplicates):
    found = _sweep(pairwise, layout, x, y, scale, offset, where, duplicates, inverse, value=True)
    return _outputs(pairwise, layout, found, where, inverse, duplicates)


def _outputs(pairwise, layout, found, where, inverse, duplicates):
    losses = (found["loss_ab"], found["loss_ba"]) if pairwise.both else (found["loss_ab"],)
    statistics = {}
    if inverse is not None:
        statistics = anchor_statistics(found, inverse, where, layout.axis_name, mode_of(duplicates))
    return losses, statistics, found.get("others_ab")


def _sweep(pairwise, layout, x, y, scale, offset, where, duplicates, inverse=None, *, value=False, g=None) -> Found:
    """One sweep. `value`: losses per anchor. `g` (ab [n], ba [n]): gradients dx, dy of Σ g · loss, unscaled, and the
    anchors' own slopes, the derivatives of the losses by their offset. `inverse`: what statistics are made of."""
    n, t = x.shape[0], tile_rows(x.shape[0], layout.tile)
    mode = mode_of(duplicates)
    rows, columns = {"z": split(x, t)}, {"z": split(y, t)}
    row_state, column_state = State({}, {}), State({}, {})
    if inverse is not None:
        rows, columns = softmax_constants(x, y, inverse, where, t, duplicates, means=True, axis_name=layout.axis_name)
        row_state, column_state = softmax_states(rows, columns, mode, tilt=True, spread=True)
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
    column_state.added.update(anchor if pairwise.both else {})
    if value and pairwise.both and mode == MASK:
        row_state.added["others"] = zero
    if inverse is not None:
        row_state.added["positive"] = zero
    if g is not None:
        rows["g"], columns["g"] = split(g[0], t), split(g[1], t)
        row_state.added["dz"], column_state.added["dz"] = zero_gradients(rows, columns)

    def update(tile: Tile, row_state: State, column_state: State) -> tuple[State, State]:
        if inverse is not None:
            row_state, column_state = see(tile, row_state, 1, mode), see(tile, column_state, 0, mode)
        row_sums, column_sums = dict(row_state.added), dict(column_state.added)
        if inverse is not None:
            row_sums["positive"] += tile.positive()
        same, s = tile.same(), scale * tile.s
        if mode == POSITIVE:
            same = same | tile.twins()
        weight = jnp.zeros_like(s)
        directions = [(row_sums, tile.row, tile.column, 1)]
        if pairwise.both:
            directions.append((column_sums, tile.column, tile.row, 0))
        for sums, anchors, candidates, axis in directions:
            score = s + jnp.expand_dims(anchors["offset"], axis)
            counts = jnp.expand_dims(candidates["counts"], 1 - axis) if padded else 1.0
            if mode == MASK:
                counts = jnp.where(tile.twins(), 0.0, counts)
            if "others" in sums:
                sums["others"] += jnp.sum(jnp.where(same, 0.0, counts), axis=axis)
            if value:
                sums["loss"] += jnp.sum(pairwise.value(score, same) * counts, axis=axis)
            if g is not None:
                slope = pairwise.slope(score, same) * counts
                sums["slope"] += jnp.sum(slope, axis=axis)
                weight = weight + slope * jnp.expand_dims(anchors["g"], axis)
        if g is not None:
            row_sums["dz"], column_sums["dz"] = accumulate(tile, weight, row_sums["dz"], column_sums["dz"])
        return row_state._replace(added=row_sums), column_state._replace(added=column_sums)

    tiles = functools.partial(sweep, update)
    row_state, column_state = sweep_all(tiles, rows, columns, row_state, column_state, layout, combine)
    gradients = {}
    if g is not None:
        dz = row_state.added.pop("dz"), column_state.added.pop("dz")
        gradients["dx"], gradients["dy"] = join_gradients(*dz, n)
    return join_states(row_state, column_state, n) | gradients


def _forward(pairwise, layout, x, y, scale, offset, where, inverse, duplicates):
    arguments = values((x, y, scale, offset, where, inverse, duplicates))
    x, y, scale, offset, where, inverse, duplicates = arguments
    ones = jnp.ones_like(offset)
    if where is not None:
        ones = jnp.where(where, ones, 0.0)
    # A mean over candidates of which each anchor has its own number gives every anchor another cotangent.
    early = None if inverse is not None or (pairwise.both and duplicates is not None) else (ones, ones)
    found = _sweep(pairwise, layout, x, y, scale, offset, where, duplicates, inverse, value=True, g=early)
    saved = {name: found[name] for name in ("dx", "dy", "slope_ab", "slope_ba") if name in found}
    outputs = _outputs(pairwise, layout, found, where, inverse, duplicates)
    return outputs, ((x, y, scale, offset, where, duplicates), saved)


def _backward(pairwise, layout, saved, cotangents):
    (x, y, scale, offset, where, duplicates), found = saved
    g = tuple(instantiate(c, offset) for c in cotangents[0])
    if not found:
        found = _sweep(pairwise, layout, x, y, scale, offset, where, duplicates, g=(g[0], g[-1]))
        dx, dy = found["dx"], found["dy"]
    else:
        known = {name: found[name] for name in ("dx", "dy")}
        dx, dy = _for_cotangents(pairwise, layout, x, y, scale, offset, where, duplicates, known, g)
    d_offset = g[0] * found["slope_ab"] + (g[1] * found["slope_ba"] if pairwise.both else 0.0)
    # Σ_ij W_ij S_ij = Σ_i x_i · (W y)_i: the scale's derivative takes no pass of its own.
    d_scale = jnp.sum(x.astype(jnp.float32) * dx)
    return (scale * dx).astype(x.dtype), (scale * dy).astype(y.dtype), d_scale, d_offset, None, None, None


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _for_cotangents(pairwise, layout, x, y, scale, offset, where, duplicates, found, g) -> tuple[jax.Array, jax.Array]:
    """The gradient for cotangents `g`, from the one for cotangents of 1 where they are all the same."""
    every = jnp.stack(g)
    # Infinities rather than NaN where a cotangent is NaN: a reduction over devices need not keep a NaN, and cotangents
    # that are not equal lead to the sweep, which brings the NaN to the gradient.
    broken = jnp.isnan(every) if where is None else jnp.isnan(every) & where
    masked = broken if where is None else broken | ~where
    low = jnp.where(jnp.any(broken), -jnp.inf, jnp.min(jnp.where(masked, jnp.inf, every)))
    high = jnp.where(jnp.any(broken), jnp.inf, jnp.max(jnp.where(masked, -jnp.inf, every)))
    if layout.axis_name is not None:
        # All devices must take the same branch, also those of other axes: the sweep in it talks to the others, and a
        # permutation waits for every device of the mesh, not only for those that it exchanges with.
        names = varying_axes(x, low) | {layout.axis_name} | set(jax.sharding.get_abstract_mesh().manual_axes)
        if varying_axes(x):
            low, high = vary_over(names, (low, high))
        low, high = jax.lax.pmin(low, tuple(sorted(names))), jax.lax.pmax(high, tuple(sorted(names)))
    axes = varying_axes(x)

    def known() -> tuple[jax.Array, jax.Array]:
        return vary_over(axes, (high * found["dx"], high * found["dy"]))

    def anew() -> tuple[jax.Array, jax.Array]:
        return _sweep_again(pairwise, layout, x, y, scale, offset, where, duplicates, g)

    return jax.lax.cond(low == high, known, anew)


@_for_cotangents.defjvp
def _for_cotangents_jvp(pairwise, layout, primals, tangents):
    # The short way holds at equal cotangents only and knows nothing of their neighbours: what is differentiated is the
    # sweep, which is the same function of all its arguments.
    x, y, scale, offset, where, duplicates, _, g = primals
    *moved, _, _, _, moved_g = tangents

    def again(x, y, scale, offset, g):
        return _sweep_again(pairwise, layout, x, y, scale, offset, where, duplicates, g)

    _, tangent = jax.jvp(again, (x, y, scale, offset, g), (*moved, moved_g))
    return _for_cotangents(pairwise, layout, *primals), tangent


def _sweep_again(pairwise, layout, x, y, scale, offset, where, duplicates, g) -> tuple[jax.Array, jax.Array]:
    found = _sweep(pairwise, layout, x, y, scale, offset, where, duplicates, g=(g[0], g[-1]))
    return found["dx"], found["dy"]


_losses.defvjp(_forward, _backward, symbolic_zeros=True)
