"""What one tile of S tells the softmax of its rows and of its columns, and how two such findings become one."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from alignment_jax.core.masked_reductions import masked_count, psum_if
from alignment_jax.similarity.anchors import sign_and_size
from alignment_jax.similarity.dense import MASKED
from alignment_jax.similarity.duplicates import MASK, Duplicates, Mode, mode_of
from alignment_jax.similarity.tiled import State, Tile, split

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
    """Constants of the rows and of the columns for a sweep in tiles of `t`: embeddings "z", "sign" and "size" of their
    inverse temperatures, "mask" where some are no candidates, their ids, and with `means` their "mean" similarity."""
    sign, size = sign_and_size(inverse)
    rows = {"z": split(x, t), "sign": split(sign, t, 1.0), "size": split(size, t, 1.0)}
    if duplicates is not None:
        rows |= {side: split(ids, t) for side, ids in duplicates.ids.items()}
    columns = rows | {"z": split(y, t)}
    if where is not None or x.shape[0] % t:
        counts = jnp.ones_like(inverse, bool) if where is None else where
        # A mask is added, not selected: 0 for a candidate, and far below any logit for what is none.
        rows["mask"] = columns["mask"] = split(jnp.where(counts, 0.0, MASKED), t, MASKED)
    if means and mode_of(duplicates) != MASK:
        # The mean of S_i over candidates is x_i · mean(y): known before the sweep, so that squares are of centred
        # values. E[S²] - E[S]² would lose all digits when the similarities are nearly equal.
        rows["mean"] = split(sign * _mean_similarity(x, y, where, axis_name), t)
        columns["mean"] = split(sign * _mean_similarity(y, x, where, axis_name), t)
    return rows, columns


def _mean_similarity(anchors, candidates, where, axis_name) -> jax.Array:
    mean = psum_if(jnp.sum(candidates.astype(jnp.float32), axis=0), axis_name)
    mean = mean / jnp.maximum(masked_count(candidates, where, axis_name=axis_name), 1.0)
    return jnp.sum(anchors.astype(jnp.float32) * mean, axis=1)


def softmax_states(
    rows: Values, columns: Values, mode: Mode | None = None, *, tilt: bool, spread: bool
) -> tuple[State, State]:
    """States of rows and columns that have seen nothing."""

    def neutral(anchors: Values) -> State:
        zero = jnp.zeros_like(anchors["size"])
        merged = {"top": zero + MASKED, "total": zero, "size": anchors["size"]}
        merged |= {"tilt": zero} if tilt else {}
        merged |= {"low": zero - MASKED} if spread else {}
        merged |= {} if mode is None else {"count": zero, "mean": zero}
        if spread and mode == MASK:
            return State({}, merged | {"square": zero})
        return State({"square": zero} if spread else {}, merged)

    return neutral(rows), neutral(columns)


def masked(tile: Tile, axis: int, mode: Mode | None = None) -> jax.Array:
    """S as the anchors see it whose candidates lie along `axis`: with their sign, and far below for no candidate."""
    anchors, candidates = (tile.row, tile.column) if axis == 1 else (tile.column, tile.row)
    s = tile.s * jnp.expand_dims(anchors["sign"], axis)
    s = jnp.where(tile.twins(), MASKED, s) if mode == MASK else s
    return s + jnp.expand_dims(candidates["mask"], 1 - axis) if "mask" in candidates else s


def group(tile: Tile, axis: int, mode: Mode) -> jax.Array:
    """[t, t] bool, true where a candidate along `axis` is in its anchor's group (see `anchors`)."""
    candidates = tile.column if axis == 1 else tile.row
    members = ~tile.twins() if mode == MASK else tile.twins() | tile.same()
    return members & (jnp.expand_dims(candidates["mask"], 1 - axis) == 0) if "mask" in candidates else members


def see(tile: Tile, state: State, axis: int, mode: Mode | None = None) -> State:
    """The state of the anchors whose candidates lie along `axis`, after this tile."""
    anchors, candidates = (tile.row, tile.column) if axis == 1 else (tile.column, tile.row)
    s = masked(tile, axis, mode)
    top = jnp.max(s, axis=axis)
    below = s - jnp.expand_dims(top, axis)
    power = jnp.exp(below * jnp.expand_dims(anchors["size"], axis))
    added, seen = dict(state.added), {"top": top, "total": jnp.sum(power, axis=axis), "size": anchors["size"]}
    if "tilt" in state.merged:
        seen["tilt"] = jnp.sum(power * below, axis=axis)
    if mode is not None:
        members = group(tile, axis, mode)
        count = jnp.sum(members.astype(tile.s.dtype), axis=axis)
        mean = jnp.sum(jnp.where(members, tile.s, 0.0), axis=axis) / jnp.maximum(count, 1.0)
        seen["count"], seen["mean"] = count, mean
    if "low" in state.merged and mode == MASK:
        low = jnp.where(members, tile.s * jnp.expand_dims(anchors["sign"], axis), -MASKED)
        seen["low"] = jnp.min(low, axis=axis)
        centred = jnp.where(members, tile.s - jnp.expand_dims(mean, axis), 0.0)
        seen["square"] = jnp.sum(jnp.square(centred), axis=axis)
    elif "low" in state.merged:
        low = tile.s * jnp.expand_dims(anchors["sign"], axis)
        centred = low - jnp.expand_dims(anchors["mean"], axis)
        if "mask" in candidates:
            counts = jnp.expand_dims(candidates["mask"], 1 - axis) == 0
            centred, low = jnp.where(counts, centred, 0.0), jnp.where(counts, low, -MASKED)
        seen["low"] = jnp.min(low, axis=axis)
        added["square"] = added["square"] + jnp.sum(jnp.square(centred), axis=axis)
    return State(added, combine(jax.tree.map(lambda a, b: jnp.stack([a, b]), state.merged, seen)))


def combine(states: Values) -> Values:
    """What all the candidates together would have given; leaves [k, ...] -> [...]. Nothing stays nothing."""
    if not states:
        return {}
    top = jnp.max(states["top"], axis=0)
    size = states["size"][-1]
    down = states["top"] - top
    share = jnp.exp(down * size)
    combined = {"top": top, "total": jnp.sum(states["total"] * share, axis=0), "size": size}
    if "tilt" in states:
        combined["tilt"] = jnp.sum(share * (states["tilt"] + states["total"] * down), axis=0)
    if "low" in states:
        combined["low"] = jnp.min(states["low"], axis=0)
    if "mean" in states:
        # Means are merged by their counts, squares about the common mean: sums of squares would lose their digits.
        count = jnp.sum(states["count"], axis=0)
        mean = jnp.sum(states["count"] * states["mean"], axis=0) / jnp.maximum(count, 1.0)
        combined |= {"count": count, "mean": mean}
        if "square" in states:
            moved = states["count"] * jnp.square(states["mean"] - mean)
            combined["square"] = jnp.sum(states["square"] + moved, axis=0)
    return combined
