"""The softmax over candidates in both directions, tile by tile, with a gradient written by hand.

Forward, each tile gives its rows and its columns a largest logit and a sum of exponentials. Backward, the tile is made
once more and both directions' probabilities become one weight matrix W, so that dx += W y and dy += Wᵀ x are all that
follows: one large product forward, three backward.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

from alignment_jax.core.reduce import masked_count, psum_if
from alignment_jax.similarity.dense import MASKED
from alignment_jax.similarity.form import Layout
from alignment_jax.similarity.ring import add, sweep_all
from alignment_jax.similarity.tiled import (
    Tile,
    accumulate,
    instantiate,
    join,
    join_gradients,
    split,
    tile_rows,
    values,
    zero_gradients,
)

State = dict[str, jax.Array]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def tiled_softmax(
    layout: Layout, spread: bool, x: jax.Array, y: jax.Array, inverse: jax.Array, where: jax.Array | None
) -> tuple[jax.Array, jax.Array, State]:
    """Cross-entropies (ab [n], ba [n]) of each sample's own pair; `inverse` [n] is the anchors' inverse temperature.

    With `spread` the third output holds each anchor's variance, entropy and range (`anchor_statistics`), found in the
    same sweep and without gradients; otherwise it is empty.
    """
    found = sweep_softmax(layout, x, y, inverse, where, tilt=spread, spread=spread)
    return _outputs(found, inverse, where, spread, layout)


def _outputs(found, inverse, where, spread, layout):
    # Similarities are subtracted before they are divided by the temperature, here and in the tiles: the difference of
    # two close ones is exact, while that of two logits near 1/τ has the rounding of a number as large as 1/τ.
    loss_ab = jnp.log(found["total_ab"]) + (found["top_ab"] - found["positive"]) * inverse
    loss_ba = jnp.log(found["total_ba"]) + (found["top_ba"] - found["positive"]) * inverse
    return loss_ab, loss_ba, anchor_statistics(found, where, layout.axis_name) if spread else {}


def sweep_softmax(
    layout: Layout,
    x: jax.Array,
    y: jax.Array,
    inverse: jax.Array,
    where: jax.Array | None,
    *,
    tilt: bool = False,
    spread: bool = False,
) -> State:
    """What the softmax of each sample [n] is made of, in one sweep.

    `positive`, S_ii, and in each direction (_ab, _ba) `top`, the largest S, and `total`, Σ exp((S - top) / τ).
    `tilt` adds Σ exp((S - top) / τ)(S - top), of which the temperature's gradient and the entropy are made.
    `spread` adds `low`, the smallest S, and `square`, the sum of squares of S about its mean.
    """
    n, t = x.shape[0], tile_rows(x.shape[0], layout.tile or x.shape[0])
    rows, columns = _constants(x, y, inverse, where, t)
    zero = jnp.zeros_like(rows["inverse"])
    neutral = {"top": zero + MASKED, "total": zero, "inverse": rows["inverse"]}
    if tilt:
        neutral["tilt"] = zero
    if spread:
        neutral |= {"low": zero - MASKED, "square": zero}
        # The mean of S_i over candidates is x_i · mean(y): known before the sweep, so that squares are of centred
        # values. E[S²] - E[S]² would lose all digits when the similarities are nearly equal.
        rows["mean"] = split(_mean_similarity(x, y, where, layout.axis_name), t)
        columns["mean"] = split(_mean_similarity(y, x, where, layout.axis_name), t)

    def tile_state(tile: Tile, anchors: dict, candidates: dict, axis: int) -> State:
        s = masked(tile, candidates, axis)
        top = jnp.max(s, axis=axis)
        below = s - jnp.expand_dims(top, axis)
        power = jnp.exp(below * jnp.expand_dims(anchors["inverse"], axis))
        state = {"top": top, "total": jnp.sum(power, axis=axis), "inverse": anchors["inverse"]}
        if tilt:
            state["tilt"] = jnp.sum(power * below, axis=axis)
        if spread:
            centred = tile.s - jnp.expand_dims(anchors["mean"], axis)
            low = tile.s
            if "mask" in candidates:
                counts = jnp.expand_dims(candidates["mask"], 1 - axis) == 0
                centred, low = jnp.where(counts, centred, 0.0), jnp.where(counts, low, -MASKED)
            state["low"] = jnp.min(low, axis=axis)
            state["square"] = jnp.sum(jnp.square(centred), axis=axis)
        return state

    def update(tile: Tile, row_state: State, column_state: State) -> tuple[State, State]:
        positive = row_state["positive"] + tile.positive()
        before = {name: row_state[name] for name in neutral}
        row_state = combine(_stack(before, tile_state(tile, tile.row, tile.column, 1)))
        column_state = combine(_stack(column_state, tile_state(tile, tile.column, tile.row, 0)))
        return row_state | {"positive": positive}, column_state

    found_ab, found_ba = sweep_all(update, rows, columns, neutral | {"positive": zero}, neutral, combine, layout)
    named = {"positive": found_ab["positive"]}
    for name in neutral:
        named |= {f"{name}_ab": found_ab[name], f"{name}_ba": found_ba[name]}
    return {name: join(value, n) for name, value in named.items()}


def anchor_statistics(found: State, where: jax.Array | None, axis_name: str | None) -> State:
    """Population variance and entropy (nats) over candidates, and largest minus smallest S, of each anchor [n]."""
    count = jnp.maximum(masked_count(found["positive"], where, axis_name=axis_name), 1.0)
    statistics = {}
    for direction in ("ab", "ba"):
        total = found[f"total_{direction}"]
        statistics[f"variance_{direction}"] = found[f"square_{direction}"] / count
        # -Σ p log p with log p = (S - top) / τ - log total.
        scaled = found[f"tilt_{direction}"] * found[f"inverse_{direction}"]
        statistics[f"entropy_{direction}"] = jnp.log(total) - scaled / total
        statistics[f"spread_{direction}"] = found[f"top_{direction}"] - found[f"low_{direction}"]
    return statistics


def _mean_similarity(anchors, candidates, where, axis_name) -> jax.Array:
    mean = psum_if(jnp.sum(candidates.astype(jnp.float32), axis=0), axis_name)
    mean = mean / jnp.maximum(masked_count(candidates, where, axis_name=axis_name), 1.0)
    return jnp.sum(anchors.astype(jnp.float32) * mean, axis=1)


def _constants(x, y, inverse, where, t: int) -> tuple[dict[str, Any], dict[str, Any]]:
    rows = {"z": split(x, t), "inverse": split(inverse, t, 1.0)}
    columns = {"z": split(y, t), "inverse": rows["inverse"]}
    if where is not None or x.shape[0] % t:
        counts = jnp.ones_like(inverse, bool) if where is None else where
        # A mask is added, not selected: 0 for a candidate, and far below any logit for what is none.
        rows["mask"] = columns["mask"] = split(jnp.where(counts, 0.0, MASKED), t, MASKED)
    return rows, columns


def masked(tile: Tile, candidates: dict[str, jax.Array], axis: int) -> jax.Array:
    """S with everything that is no candidate far below; candidates lie along `axis`."""
    return tile.s + jnp.expand_dims(candidates["mask"], 1 - axis) if "mask" in candidates else tile.s


def combine(states: State) -> State:
    """The state that all the candidates together would have given; leaves [k, ...] -> [...]."""
    top = jnp.max(states["top"], axis=0)
    inverse = states["inverse"][-1]
    down = states["top"] - top
    share = jnp.exp(down * inverse)
    combined = {"top": top, "total": jnp.sum(states["total"] * share, axis=0), "inverse": inverse}
    if "tilt" in states:
        combined["tilt"] = jnp.sum(share * (states["tilt"] + states["total"] * down), axis=0)
    if "square" in states:
        combined["low"] = jnp.min(states["low"], axis=0)
        combined["square"] = jnp.sum(states["square"], axis=0)
    return combined


def _stack(first: State, second: State) -> State:
    return jax.tree.map(lambda a, b: jnp.stack([a, b]), first, second)


def _forward(layout, spread, x, y, inverse, where):
    arguments = values((x, y, inverse, where))
    # The tilt is a reduction more per tile and direction; it is made only for a temperature that is differentiated.
    found = sweep_softmax(layout, *arguments, tilt=spread or inverse.perturbed, spread=spread)
    kept = ("top", "total", "tilt") if inverse.perturbed else ("top", "total")
    saved = {name: value for name, value in found.items() if name == "positive" or name[:-3] in kept}
    return _outputs(found, arguments[2], arguments[3], spread, layout), (*arguments, saved)


def _backward(layout, spread, saved, cotangents):
    x, y, inverse, where, found = saved
    g_ab, g_ba = (instantiate(g, inverse) for g in cotangents[:2])
    n, t = x.shape[0], tile_rows(x.shape[0], layout.tile or x.shape[0])
    rows, columns = _constants(x, y, inverse, where, t)
    rows["top"] = split(found["top_ab"], t)
    rows["weight"] = split(g_ab * inverse / found["total_ab"], t)
    rows["pair"] = split((g_ab + g_ba) * inverse, t)
    columns["top"] = split(found["top_ba"], t)
    columns["weight"] = split(g_ba * inverse / found["total_ba"], t)

    def update(tile: Tile, dx: jax.Array, dy: jax.Array) -> tuple[jax.Array, jax.Array]:
        row_share = jnp.exp((masked(tile, tile.column, 1) - tile.row["top"][:, None]) * tile.row["inverse"][:, None])
        column_share = jnp.exp((masked(tile, tile.row, 0) - tile.column["top"]) * tile.column["inverse"])
        weight = row_share * tile.row["weight"][:, None] + column_share * tile.column["weight"][None, :]
        # The pair's own -1 inside the tile, before the product: a pair that wins leaves a small difference, and
        # subtracting its embedding afterwards would leave rounding in its place.
        weight = weight - jnp.where(tile.same(), tile.row["pair"][:, None], 0.0)
        return accumulate(tile, weight, dx, dy)

    dx, dy = sweep_all(update, rows, columns, *zero_gradients(rows, columns), add, layout)
    d_inverse = None
    if "tilt_ab" in found:
        # Of log Σ exp(S_ij / τ) - S_ii / τ by 1/τ: the expected similarity less the pair's own.
        gap_ab = found["tilt_ab"] / found["total_ab"] + (found["top_ab"] - found["positive"])
        gap_ba = found["tilt_ba"] / found["total_ba"] + (found["top_ba"] - found["positive"])
        d_inverse = g_ab * gap_ab + g_ba * gap_ba
    dx, dy = join_gradients(dx, dy, n)
    return dx.astype(x.dtype), dy.astype(y.dtype), d_inverse, None


tiled_softmax.defvjp(_forward, _backward, symbolic_zeros=True)
