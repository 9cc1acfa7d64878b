"""Online-softmax update of one tile of S, for its rows and its columns, and the merge of two accumulators."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from alignment_jax.core.masked_reductions import masked_count, psum_if
from alignment_jax.similarity.accumulators import sign_and_magnitude
from alignment_jax.similarity.dense import MASKED
from alignment_jax.similarity.duplicates import MASK, Duplicates, Mode, mode_of
from alignment_jax.similarity.tiles import State, Tile, split

Values = dict[str, jax.Array]


def softmax_constants(
    x: jax.Array,
    y: jax.Array,
    inverse: jax.Array,
    where: jax.Array | None,
    t: int,
    duplicates: Duplicates | None = None,
    *,
    means: bool = False,
    axis_name: str | None = None,
) -> tuple[Values, Values]:
    """Constants of the rows and of the columns for a sweep in tiles of `t`: embeddings "z", "sign" and "magnitude" of
    the inverse temperatures, "mask" where some rows are no candidates, ids, and with `means` the "mean" similarity."""
    sign, magnitude = sign_and_magnitude(inverse)
    rows = {"z": split(x, t), "sign": split(sign, t, 1.0), "magnitude": split(magnitude, t, 1.0)}
    if duplicates is not None:
        rows |= {side: split(ids, t) for side, ids in duplicates.ids.items()}
    columns = rows | {"z": split(y, t)}
    if where is not None or x.shape[0] % t:
        counts = jnp.ones_like(inverse, bool) if where is None else where
        # A mask is added, not selected: 0 for a candidate, far below any logit otherwise.
        rows["mask"] = columns["mask"] = split(jnp.where(counts, 0.0, MASKED), t, MASKED)
    if means and mode_of(duplicates) != MASK:
        # The mean of S_i over candidates is x_i · mean(y). Computed before the sweep, so that squares are of centred
        # values: E[S²] - E[S]² would lose all digits when the similarities are nearly equal.
        rows["mean"] = split(sign * _mean_similarity(x, y, where, axis_name), t)
        columns["mean"] = split(sign * _mean_similarity(y, x, where, axis_name), t)
    return rows, columns


def _mean_similarity(anchors, candidates, where, axis_name) -> jax.Array:
    mean = psum_if(jnp.sum(candidates.astype(jnp.float32), axis=0), axis_name)
    mean = mean / jnp.maximum(masked_count(candidates, where, axis_name=axis_name), 1.0)
    return jnp.sum(anchors.astype(jnp.float32) * mean, axis=1)


def softmax_states(
    rows: Values, columns: Values, mode: Mode | None = None, *, weighted_sum: bool, statistics: bool
) -> tuple[State, State]:
    """Initial states of rows and columns. `weighted_sum` and `statistics` add their accumulators."""

    def neutral(anchors: Values) -> State:
        zero = jnp.zeros_like(anchors["magnitude"])
        merged = {"max": zero + MASKED, "sum_exp": zero, "magnitude": anchors["magnitude"]}
        merged |= {"weighted_sum": zero} if weighted_sum else {}
        merged |= {"min": zero - MASKED} if statistics else {}
        merged |= {} if mode is None else {"count": zero, "mean": zero}
        if statistics and mode == MASK:
            return State({}, merged | {"squares": zero})
        return State({"squares": zero} if statistics else {}, merged)

    return neutral(rows), neutral(columns)


def masked_similarities(tile: Tile, axis: int, mode: Mode | None = None) -> jax.Array:
    """S with the sign of the anchors whose candidates are along `axis`; far below any logit where masked."""
    anchors, candidates = (tile.row, tile.column) if axis == 1 else (tile.column, tile.row)
    s = tile.s * jnp.expand_dims(anchors["sign"], axis)
    s = jnp.where(tile.duplicates(), MASKED, s) if mode == MASK else s
    return s + jnp.expand_dims(candidates["mask"], 1 - axis) if "mask" in candidates else s


def group_members(tile: Tile, axis: int, mode: Mode) -> jax.Array:
    """[t, t] bool, true where a candidate along `axis` is in its anchor's group (see `accumulators`)."""
    candidates = tile.column if axis == 1 else tile.row
    members = ~tile.duplicates() if mode == MASK else tile.duplicates() | tile.own_pairs()
    return members & (jnp.expand_dims(candidates["mask"], 1 - axis) == 0) if "mask" in candidates else members


def update_online_softmax(tile: Tile, state: State, axis: int, mode: Mode | None = None) -> State:
    """The state of the anchors whose candidates are along `axis`, after this tile."""
    anchors, candidates = (tile.row, tile.column) if axis == 1 else (tile.column, tile.row)
    s = masked_similarities(tile, axis, mode)
    largest = jnp.max(s, axis=axis)
    below = s - jnp.expand_dims(largest, axis)
    power = jnp.exp(below * jnp.expand_dims(anchors["magnitude"], axis))
    added = dict(state.added)
    of_tile = {"max": largest, "sum_exp": jnp.sum(power, axis=axis), "magnitude": anchors["magnitude"]}
    if "weighted_sum" in state.merged:
        of_tile["weighted_sum"] = jnp.sum(power * below, axis=axis)
    if mode is not None:
        members = group_members(tile, axis, mode)
        count = jnp.sum(members.astype(tile.s.dtype), axis=axis)
        mean = jnp.sum(jnp.where(members, tile.s, 0.0), axis=axis) / jnp.maximum(count, 1.0)
        of_tile["count"], of_tile["mean"] = count, mean
    if "min" in state.merged and mode == MASK:
        low = jnp.where(members, tile.s * jnp.expand_dims(anchors["sign"], axis), -MASKED)
        of_tile["min"] = jnp.min(low, axis=axis)
        centred = jnp.where(members, tile.s - jnp.expand_dims(mean, axis), 0.0)
        of_tile["squares"] = jnp.sum(jnp.square(centred), axis=axis)
    elif "min" in state.merged:
        low = tile.s * jnp.expand_dims(anchors["sign"], axis)
        centred = low - jnp.expand_dims(anchors["mean"], axis)
        if "mask" in candidates:
            counts = jnp.expand_dims(candidates["mask"], 1 - axis) == 0
            centred, low = jnp.where(counts, centred, 0.0), jnp.where(counts, low, -MASKED)
        of_tile["min"] = jnp.min(low, axis=axis)
        added["squares"] = added["squares"] + jnp.sum(jnp.square(centred), axis=axis)
    return State(added, merge(jax.tree.map(lambda a, b: jnp.stack([a, b]), state.merged, of_tile)))


def merge(states: Values) -> Values:
    """Accumulators over the union of candidates; leaves [k, ...] -> [...]. An empty dict stays empty."""
    if not states:
        return {}
    largest = jnp.max(states["max"], axis=0)
    magnitude = states["magnitude"][-1]
    down = states["max"] - largest
    share = jnp.exp(down * magnitude)
    merged = {"max": largest, "sum_exp": jnp.sum(states["sum_exp"] * share, axis=0), "magnitude": magnitude}
    if "weighted_sum" in states:
        merged["weighted_sum"] = jnp.sum(share * (states["weighted_sum"] + states["sum_exp"] * down), axis=0)
    if "min" in states:
        merged["min"] = jnp.min(states["min"], axis=0)
    if "mean" in states:
        # Means are merged by their counts, squares about the common mean: sums of squares would lose their digits.
        count = jnp.sum(states["count"], axis=0)
        mean = jnp.sum(states["count"] * states["mean"], axis=0) / jnp.maximum(count, 1.0)
        merged |= {"count": count, "mean": mean}
        if "squares" in states:
            moved = states["count"] * jnp.square(states["mean"] - mean)
            merged["squares"] = jnp.sum(states["squares"] + moved, axis=0)
    return merged
