"""The softmax over candidates in both directions, tile by tile, with a hand-written gradient.

Forward, each tile updates the online softmax of its rows and its columns. Backward, each tile is computed again, both
directions' probabilities become one weight matrix W, and dx += W y, dy += Wᵀ x: one large product forward, three
backward.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from alignment_jax.similarity.accumulators import (
    AnchorAccumulators,
    anchor_statistics,
    cross_entropies,
    sign_and_magnitude,
    target_similarities,
)
from alignment_jax.similarity.cotangents import cotangent_array, primal_values
from alignment_jax.similarity.duplicates import POSITIVE, Duplicates, mode_of
from alignment_jax.similarity.implementation import ResolvedImplementation
from alignment_jax.similarity.online_softmax import (
    group_members,
    masked_similarities,
    merge,
    softmax_constants,
    softmax_states,
    update_online_softmax,
)
from alignment_jax.similarity.products import operand
from alignment_jax.similarity.sweep import Sweep, sweep_devices, sweep_tiles
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


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def tiled_softmax(
    implementation: ResolvedImplementation,
    statistics: bool,
    x: jax.Array,
    y: jax.Array,
    inverse: jax.Array,
    where: jax.Array | None,
    duplicates: Duplicates | None = None,
) -> tuple[jax.Array, jax.Array, dict[str, jax.Array], tuple[jax.Array, ...]]:
    """Cross-entropies (ab [n], ba [n]) of each sample's own pair; `inverse` [n] is the anchors' inverse temperature.

    With `statistics` the third output holds each anchor's variance, entropy and range (`anchor_statistics`), from the
    same sweep and without gradients; otherwise it is empty. With `duplicates` the fourth is the mean similarity of each
    anchor's group (ab [n], ba [n]; see `accumulators`); otherwise it is empty.
    """
    accumulators = sweep_softmax(
        implementation, x, y, inverse, where, duplicates, weighted_sum=statistics, statistics=statistics
    )
    return _outputs(accumulators, inverse, where, duplicates, statistics, implementation)


def _outputs(accumulators, inverse, where, duplicates, statistics, implementation):
    mode = mode_of(duplicates)
    statistics = anchor_statistics(accumulators, inverse, where, implementation.axis_name, mode) if statistics else {}
    means = () if mode is None else (accumulators["mean_ab"], accumulators["mean_ba"])
    return *cross_entropies(accumulators, inverse, mode), statistics, means


def sweep_softmax(
    implementation: ResolvedImplementation,
    x: jax.Array,
    y: jax.Array,
    inverse: jax.Array,
    where: jax.Array | None,
    duplicates: Duplicates | None = None,
    *,
    weighted_sum: bool = False,
    statistics: bool = False,
) -> AnchorAccumulators:
    """Accumulators of each sample (see `accumulators`), in one sweep."""
    n, t = x.shape[0], tile_rows(x.shape[0], implementation.tile or x.shape[0])
    mode, precision = mode_of(duplicates), implementation.precision
    x, y = operand(x, precision), operand(y, precision)
    rows, columns = softmax_constants(
        x, y, inverse, where, t, duplicates, means=statistics, axis_name=implementation.axis_name
    )
    row_state, column_state = softmax_states(rows, columns, mode, weighted_sum=weighted_sum, statistics=statistics)
    row_state.added["positive"] = jnp.zeros_like(rows["magnitude"])

    def update(tile: Tile, row_state: State, column_state: State) -> tuple[State, State]:
        positive = row_state.added["positive"] + tile.positive()
        row_state = update_online_softmax(tile, row_state, 1, mode)
        column_state = update_online_softmax(tile, column_state, 0, mode)
        return row_state._replace(added=row_state.added | {"positive": positive}), column_state

    tiles: Sweep = functools.partial(sweep_tiles, update, precision)
    if implementation.kernel and not statistics and duplicates is None:
        from alignment_jax.similarity.pallas_softmax import pallas_statistics

        tiles = pallas_statistics
    return join_states(*sweep_devices(tiles, rows, columns, row_state, column_state, implementation, merge), n)


def _forward(implementation, statistics, x, y, inverse, where, duplicates):
    of_temperature = inverse.perturbed
    x, y, inverse, where, duplicates = primal_values((x, y, inverse, where, duplicates))
    # One more reduction per tile and direction: only for a differentiated temperature.
    accumulators = sweep_softmax(
        implementation,
        x,
        y,
        inverse,
        where,
        duplicates,
        weighted_sum=statistics or of_temperature,
        statistics=statistics,
    )
    kept = ("max", "sum_exp", "count", "mean", *(("weighted_sum",) if of_temperature else ()))
    saved = {name: value for name, value in accumulators.items() if name == "positive" or name[:-3] in kept}
    outputs = _outputs(accumulators, inverse, where, duplicates, statistics, implementation)
    return outputs, (x, y, inverse, where, duplicates, saved)


def _backward(implementation, statistics, saved, cotangents):
    x, y, inverse, where, duplicates, accumulators = saved
    mode, precision = mode_of(duplicates), implementation.precision
    g_ab, g_ba = (cotangent_array(g, inverse) for g in cotangents[:2])
    n, t = x.shape[0], tile_rows(x.shape[0], implementation.tile or x.shape[0])
    narrow = operand(x, precision), operand(y, precision)
    rows, columns = softmax_constants(*narrow, inverse, where, t, duplicates)
    rows["max"] = split(accumulators["max_ab"], t)
    rows["weight"] = split(g_ab * inverse / accumulators["sum_exp_ab"], t)
    rows["pair"] = split((g_ab + g_ba) * inverse, t)
    columns["max"] = split(accumulators["max_ba"], t)
    columns["weight"] = split(g_ba * inverse / accumulators["sum_exp_ba"], t)
    if mode is not None:
        # The weight of one member of the group: its share of the target and of the cotangent of the group's mean.
        h_ab, h_ba = (cotangent_array(h, inverse) for h in cotangents[3])
        if mode == POSITIVE:
            h_ab, h_ba = h_ab - g_ab * inverse, h_ba - g_ba * inverse
        rows["member"] = split(h_ab / jnp.maximum(accumulators["count_ab"], 1.0), t)
        columns["member"] = split(h_ba / jnp.maximum(accumulators["count_ba"], 1.0), t)

    def share(tile: Tile, anchors: dict[str, jax.Array], axis: int) -> jax.Array:
        below = masked_similarities(tile, axis, mode) - jnp.expand_dims(anchors["max"], axis)
        return jnp.exp(below * jnp.expand_dims(anchors["magnitude"], axis)) * jnp.expand_dims(anchors["weight"], axis)

    def update(tile: Tile, row_state: State, column_state: State) -> tuple[State, State]:
        weight = share(tile, tile.row, 1) + share(tile, tile.column, 0)
        if mode != POSITIVE:
            # The pair's own -1 inside the tile, before the product: for a confident pair the difference is small, and
            # subtracting its embedding afterwards would replace it by rounding.
            weight = weight - jnp.where(tile.own_pairs(), tile.row["pair"][:, None], 0.0)
        if mode is not None:
            for anchors, axis in ((tile.row, 1), (tile.column, 0)):
                weight += jnp.where(group_members(tile, axis, mode), jnp.expand_dims(anchors["member"], axis), 0.0)
        dx, dy = add_gradients(tile, weight, row_state.added["dz"], column_state.added["dz"], precision)
        return State({"dz": dx}, {}), State({"dz": dy}, {})

    zero_x, zero_y = (State({"dz": zero}, {}) for zero in zero_gradients(rows, columns))
    tiles: Sweep = functools.partial(sweep_tiles, update, precision)
    if implementation.kernel and duplicates is None:
        from alignment_jax.similarity.pallas_softmax import pallas_gradient

        tiles = pallas_gradient
    row_state, column_state = sweep_devices(tiles, rows, columns, zero_x, zero_y, implementation)
    d_inverse = None
    if "weighted_sum_ab" in accumulators:
        # Of log Σ exp(S_ij / τ) - S_ii / τ by 1/τ: the expected similarity less the pair's own.
        sign, _ = sign_and_magnitude(inverse)
        own_ab, own_ba = (sign * target for target in target_similarities(accumulators, mode))
        gap_ab = accumulators["weighted_sum_ab"] / accumulators["sum_exp_ab"] + (accumulators["max_ab"] - own_ab)
        gap_ba = accumulators["weighted_sum_ba"] / accumulators["sum_exp_ba"] + (accumulators["max_ba"] - own_ba)
        d_inverse = sign * (g_ab * gap_ab + g_ba * gap_ba)
    dx, dy = join_gradients(row_state.added["dz"], column_state.added["dz"], n)
    return dx.astype(x.dtype), dy.astype(y.dtype), d_inverse, None, None


tiled_softmax.defvjp(_forward, _backward, symbolic_zeros=True)
