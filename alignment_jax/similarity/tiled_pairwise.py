"""Sums of a loss per pair, tile by tile, with the gradient made in the same sweep as the value.

A pair's derivative needs no statistic of its row or column, only the cotangents of its two anchors. They are not known
yet when the value is computed, but a mean over the batch gives every anchor the same one: the sweep makes the gradient
for cotangents of 1, three large products in all, and the backward pass scales it. Where the cotangents do differ (a
weight per sample or per direction), the backward pass sweeps once more with the true ones.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from alignment_jax.similarity.form import Layout
from alignment_jax.similarity.ring import add, sweep_all
from alignment_jax.similarity.tiled import Tile, accumulate, instantiate, join, join_gradients, split, tile_rows, values
from alignment_jax.similarity.tiled import zero_gradients as zeros
from alignment_jax.similarity.varying import vary_over, varying_axes

if TYPE_CHECKING:
    from alignment_jax.similarity.pairwise import Pairwise

State = dict[str, jax.Array]


def tiled_pairwise(
    pairwise: Pairwise,
    layout: Layout,
    x: jax.Array,
    y: jax.Array,
    scale: jax.Array,
    offset: jax.Array,
    where: jax.Array | None,
) -> tuple[jax.Array, ...]:
    """Sums over candidates (ab [n], and ba [n] if the loss has two directions)."""
    return _losses(pairwise, layout, x, y, vary_over(varying_axes(x), scale), offset, where)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _losses(pairwise, layout, x, y, scale, offset, where):
    found = _sweep(pairwise, layout, x, y, scale, offset, where, value=True)
    return _both(pairwise, found)


def _both(pairwise: Pairwise, found: State) -> tuple[jax.Array, ...]:
    return (found["loss_ab"], found["loss_ba"]) if pairwise.both else (found["loss_ab"],)


def _sweep(pairwise, layout, x, y, scale, offset, where, *, value=False, g=None) -> State:
    """One sweep. `value`: losses per anchor. `g` (ab [n], ba [n]): gradients dx, dy of Σ g · loss, unscaled, and the
    anchors' own slopes, the derivatives of the losses by their offset."""
    n, t = x.shape[0], tile_rows(x.shape[0], layout.tile)
    padded = where is not None or n % t > 0
    rows = {"z": split(x, t), "offset": split(offset, t)}
    columns = {"z": split(y, t), "offset": rows["offset"]}
    if padded:
        counts = jnp.ones_like(offset) if where is None else jnp.where(where, jnp.ones_like(offset), 0.0)
        rows["counts"] = columns["counts"] = split(counts, t)
    zero = jnp.zeros_like(rows["offset"])
    anchor = ({"loss": zero} if value else {}) | ({} if g is None else {"slope": zero})
    row_state, column_state = dict(anchor), dict(anchor) if pairwise.both else {}
    if g is not None:
        rows["g"], columns["g"] = split(g[0], t), split(g[1], t)
        row_state["dz"], column_state["dz"] = zeros(rows, columns)

    def update(tile: Tile, row_state: State, column_state: State) -> tuple[State, State]:
        same, s = tile.same(), scale * tile.s
        row_state, column_state = dict(row_state), dict(column_state)
        weight = jnp.zeros_like(s)
        directions = [(row_state, tile.row, tile.column, 1)]
        if pairwise.both:
            directions.append((column_state, tile.column, tile.row, 0))
        for state, anchors, candidates, axis in directions:
            score = s + jnp.expand_dims(anchors["offset"], axis)
            counts = jnp.expand_dims(candidates["counts"], 1 - axis) if padded else 1.0
            if value:
                state["loss"] += jnp.sum(pairwise.value(score, same) * counts, axis=axis)
            if g is not None:
                slope = pairwise.slope(score, same) * counts
                state["slope"] += jnp.sum(slope, axis=axis)
                weight = weight + slope * jnp.expand_dims(anchors["g"], axis)
        if g is not None:
            row_state["dz"], column_state["dz"] = accumulate(tile, weight, row_state["dz"], column_state["dz"])
        return row_state, column_state

    found_ab, found_ba = sweep_all(update, rows, columns, row_state, column_state, add, layout)
    found = {f"{name}_ab": join(found_ab[name], n) for name in anchor}
    found |= {f"{name}_ba": join(found_ba[name], n) for name in anchor if pairwise.both}
    if g is not None:
        found["dx"], found["dy"] = join_gradients(found_ab["dz"], found_ba["dz"], n)
    return found


def _forward(pairwise, layout, x, y, scale, offset, where):
    arguments = values((x, y, scale, offset, where))
    ones = jnp.ones_like(offset.value)
    if where is not None:
        ones = jnp.where(where.value, ones, 0.0)
    found = _sweep(pairwise, layout, *arguments, value=True, g=(ones, ones))
    return _both(pairwise, found), (arguments, found)


def _backward(pairwise, layout, saved, cotangents):
    (x, y, scale, offset, where), found = saved
    g = tuple(instantiate(c, offset) for c in cotangents)
    every = jnp.stack(g) if where is None else jnp.where(where, jnp.stack(g), jnp.nan)
    low, high = jnp.nanmin(every), jnp.nanmax(every)
    if layout.axis_name is not None:
        # All devices must take the same branch: the sweep in it talks to the others.
        low, high = jax.lax.pmin(low, layout.axis_name), jax.lax.pmax(high, layout.axis_name)
    axes = varying_axes(x)

    def known() -> tuple[jax.Array, jax.Array]:
        return vary_over(axes, (high * found["dx"], high * found["dy"]))

    def anew() -> tuple[jax.Array, jax.Array]:
        again = _sweep(pairwise, layout, x, y, scale, offset, where, g=(g[0], g[-1]))
        return again["dx"], again["dy"]

    dx, dy = jax.lax.cond(low == high, known, anew)
    d_offset = g[0] * found["slope_ab"] + (g[1] * found["slope_ba"] if pairwise.both else 0.0)
    # Σ_ij W_ij S_ij = Σ_i x_i · (W y)_i: the scale's derivative takes no pass of its own.
    d_scale = jnp.sum(x.astype(jnp.float32) * dx)
    return (scale * dx).astype(x.dtype), (scale * dy).astype(y.dtype), d_scale, d_offset, None


_losses.defvjp(_forward, _backward, symbolic_zeros=True)
