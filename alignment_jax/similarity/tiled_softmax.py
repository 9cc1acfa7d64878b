"""The softmax over candidates in both directions, tile by tile, with a gradient written by hand.

Forward, each tile gives its rows and its columns a largest logit and a sum of exponentials. Backward, the tile is made
once more and both directions' probabilities become one weight matrix W, so that dx += W y and dy += Wᵀ x are all that
follows: one large product forward, three backward.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from alignment_jax.similarity.anchors import Found, anchor_statistics, sign_and_size, softmax_losses_of, targets_of
from alignment_jax.similarity.duplicates import POSITIVE, Duplicates, mode_of
from alignment_jax.similarity.implementation import ResolvedImplementation
from alignment_jax.similarity.online_softmax import combine, group, masked, see, softmax_constants, softmax_states
from alignment_jax.similarity.ring import Sweep, sweep_all
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


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def tiled_softmax(
    layout: ResolvedImplementation,
    spread: bool,
    x: jax.Array,
    y: jax.Array,
    inverse: jax.Array,
    where: jax.Array | None,
    duplicates: Duplicates | None = None,
) -> tuple[jax.Array, jax.Array, Found, tuple[jax.Array, ...]]:
    """Cross-entropies (ab [n], ba [n]) of each sample's own pair; `inverse` [n] is the anchors' inverse temperature.

    With `spread` the third output holds each anchor's variance, entropy and range (`anchor_statistics`), found in the
    same sweep and without gradients; otherwise it is empty. With `duplicates` the fourth is the mean similarity of each
    anchor's group (ab [n], ba [n]; see `anchors`); otherwise it is empty.
    """
    found = sweep_softmax(layout, x, y, inverse, where, duplicates, tilt=spread, spread=spread)
    return _outputs(found, inverse, where, duplicates, spread, layout)


def _outputs(found, inverse, where, duplicates, spread, layout):
    mode = mode_of(duplicates)
    statistics = anchor_statistics(found, inverse, where, layout.axis_name, mode) if spread else {}
    means = () if mode is None else (found["mean_ab"], found["mean_ba"])
    return *softmax_losses_of(found, inverse, mode), statistics, means


def sweep_softmax(
    layout: ResolvedImplementation,
    x: jax.Array,
    y: jax.Array,
    inverse: jax.Array,
    where: jax.Array | None,
    duplicates: Duplicates | None = None,
    *,
    tilt: bool = False,
    spread: bool = False,
) -> Found:
    """What the softmax of each sample is made of (see `anchors`), in one sweep."""
    n, t = x.shape[0], tile_rows(x.shape[0], layout.tile or x.shape[0])
    mode = mode_of(duplicates)
    rows, columns = softmax_constants(x, y, inverse, where, t, duplicates, means=spread, axis_name=layout.axis_name)
    row_state, column_state = softmax_states(rows, columns, mode, tilt=tilt, spread=spread)
    row_state.added["positive"] = jnp.zeros_like(rows["size"])

    def update(tile: Tile, row_state: State, column_state: State) -> tuple[State, State]:
        positive = row_state.added["positive"] + tile.positive()
        row_state = see(tile, row_state, 1, mode)
        return row_state._replace(added=row_state.added | {"positive": positive}), see(tile, column_state, 0, mode)

    tiles: Sweep = functools.partial(sweep, update)
    if layout.kernel and not spread and duplicates is None:
        from alignment_jax.similarity.pallas_softmax import pallas_statistics

        tiles = pallas_statistics
    return join_states(*sweep_all(tiles, rows, columns, row_state, column_state, layout, combine), n)


def _forward(layout, spread, x, y, inverse, where, duplicates):
    of_temperature = inverse.perturbed
    x, y, inverse, where, duplicates = values((x, y, inverse, where, duplicates))
    # The tilt is a reduction more per tile and direction; it is made only for a temperature that is differentiated.
    found = sweep_softmax(layout, x, y, inverse, where, duplicates, tilt=spread or of_temperature, spread=spread)
    kept = ("top", "total", "count", "mean", *(("tilt",) if of_temperature else ()))
    saved = {name: value for name, value in found.items() if name == "positive" or name[:-3] in kept}
    outputs = _outputs(found, inverse, where, duplicates, spread, layout)
    return outputs, (x, y, inverse, where, duplicates, saved)


def _backward(layout, spread, saved, cotangents):
    x, y, inverse, where, duplicates, found = saved
    mode = mode_of(duplicates)
    g_ab, g_ba = (instantiate(g, inverse) for g in cotangents[:2])
    n, t = x.shape[0], tile_rows(x.shape[0], layout.tile or x.shape[0])
    rows, columns = softmax_constants(x, y, inverse, where, t, duplicates)
    rows["top"] = split(found["top_ab"], t)
    rows["weight"] = split(g_ab * inverse / found["total_ab"], t)
    rows["pair"] = split((g_ab + g_ba) * inverse, t)
    columns["top"] = split(found["top_ba"], t)
    columns["weight"] = split(g_ba * inverse / found["total_ba"], t)
    if mode is not None:
        # The weight of one member of the group: its share of the target, and of what the group's mean is used for.
        h_ab, h_ba = (instantiate(h, inverse) for h in cotangents[3])
        if mode == POSITIVE:
            h_ab, h_ba = h_ab - g_ab * inverse, h_ba - g_ba * inverse
        rows["member"] = split(h_ab / jnp.maximum(found["count_ab"], 1.0), t)
        columns["member"] = split(h_ba / jnp.maximum(found["count_ba"], 1.0), t)

    def share(tile: Tile, anchors: dict[str, jax.Array], axis: int) -> jax.Array:
        below = masked(tile, axis, mode) - jnp.expand_dims(anchors["top"], axis)
        return jnp.exp(below * jnp.expand_dims(anchors["size"], axis)) * jnp.expand_dims(anchors["weight"], axis)

    def update(tile: Tile, row_state: State, column_state: State) -> tuple[State, State]:
        weight = share(tile, tile.row, 1) + share(tile, tile.column, 0)
        if mode != POSITIVE:
            # The pair's own -1 inside the tile, before the product: a pair that wins leaves a small difference, and
            # subtracting its embedding afterwards would leave rounding in its place.
            weight = weight - jnp.where(tile.same(), tile.row["pair"][:, None], 0.0)
        if mode is not None:
            for anchors, axis in ((tile.row, 1), (tile.column, 0)):
                weight += jnp.where(group(tile, axis, mode), jnp.expand_dims(anchors["member"], axis), 0.0)
        dx, dy = accumulate(tile, weight, row_state.added["dz"], column_state.added["dz"])
        return State({"dz": dx}, {}), State({"dz": dy}, {})

    zero_x, zero_y = (State({"dz": zero}, {}) for zero in zero_gradients(rows, columns))
    tiles: Sweep = functools.partial(sweep, update)
    if layout.kernel and duplicates is None:
        from alignment_jax.similarity.pallas_softmax import pallas_gradient

        tiles = pallas_gradient
    row_state, column_state = sweep_all(tiles, rows, columns, zero_x, zero_y, layout)
    d_inverse = None
    if "tilt_ab" in found:
        # Of log Σ exp(S_ij / τ) - S_ii / τ by 1/τ: the expected similarity less the pair's own.
        sign, _ = sign_and_size(inverse)
        own_ab, own_ba = (sign * target for target in targets_of(found, mode))
        gap_ab = found["tilt_ab"] / found["total_ab"] + (found["top_ab"] - own_ab)
        gap_ba = found["tilt_ba"] / found["total_ba"] + (found["top_ba"] - own_ba)
        d_inverse = sign * (g_ab * gap_ab + g_ba * gap_ba)
    dx, dy = join_gradients(row_state.added["dz"], column_state.added["dz"], n)
    return dx.astype(x.dtype), dy.astype(y.dtype), d_inverse, None, None


tiled_softmax.defvjp(_forward, _backward, symbolic_zeros=True)
