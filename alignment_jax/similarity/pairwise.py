"""Sums over pairs in which every pair stands for itself: the hinge of max-margin and the logistic loss of SigLIP."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from alignment_jax.similarity.anchors import anchor_statistics
from alignment_jax.similarity.dense import DenseBlock, dense_block, dense_softmax
from alignment_jax.similarity.duplicates import MASK, POSITIVE, Duplicates, mode_of
from alignment_jax.similarity.implementation import Implementation, choose
from alignment_jax.similarity.statistics import DirectionStatistics, mean_statistics
from alignment_jax.similarity.tiled_pairwise import tiled_pairwise


@dataclasses.dataclass(frozen=True)
class Pairwise:
    """A function of one pair's score t_ij = s S_ij + u.

    Args:
      value: (t, same) -> the pair's loss; `same` is true for a sample with its own partner, or with another positive.
      slope: (t, same) -> its derivative with respect to t.
      both: columns are anchors too, with their own u.
    """

    value: Callable[[jax.Array, jax.Array], jax.Array]
    slope: Callable[[jax.Array, jax.Array], jax.Array]
    both: bool


HINGE = Pairwise(
    value=lambda t, same: jnp.where(same, 0.0, jax.nn.relu(t)),
    # Cast, because jnp.where of two Python numbers is float64 under jax_enable_x64.
    slope=lambda t, same: ((t > 0) & ~same).astype(t.dtype),
    both=True,
)
LOGISTIC = Pairwise(
    value=lambda t, same: jax.nn.softplus(jnp.where(same, -t, t)),
    slope=lambda t, same: jnp.where(same, -jax.nn.sigmoid(-t), jax.nn.sigmoid(t)),
    both=False,
)


def pairwise_losses(
    pairwise: Pairwise,
    za: jax.Array,
    zb: jax.Array,
    scale: jax.Array,
    offset: jax.Array,
    where: jax.Array | None,
    similarity: str | Implementation,
    axis_name: str | None,
    duplicates: Duplicates | None = None,
    *,
    inverse_temperature: jax.Array | None = None,
) -> tuple[tuple[jax.Array, ...], DirectionStatistics | None, jax.Array | None]:
    """Sums over candidates (ab [n], and ba [n] if the loss has two directions); `offset` [n] is the anchor's u.

    With an `inverse_temperature` [n] also the statistics of both directions, from the same sweep over S. Where a loss
    of two directions masks duplicates, the third result is how many candidates each anchor has beside its own partner,
    in either direction, [n].
    """
    layout = choose(similarity, rows=za.shape[0], dim=za.shape[1], axis_name=axis_name)
    if layout.tile is not None:
        sums, anchors, others = tiled_pairwise(
            pairwise, layout, za, zb, scale, offset, where, inverse_temperature, duplicates
        )
    else:
        block, anchors, others = dense_block(za, zb, where, axis_name, duplicates), {}, None
        sums = _dense_pairwise(pairwise, block, scale, offset)
        if pairwise.both and block.mode == MASK:
            others = jnp.sum((block.group(block.in_rows()) & ~block.same).astype(jnp.float32), axis=1)
        if inverse_temperature is not None:
            found = dense_softmax(block, inverse_temperature, spread=True)
            anchors = anchor_statistics(found, inverse_temperature, where, axis_name, mode_of(duplicates))
    return sums, mean_statistics(anchors, where, axis_name) if inverse_temperature is not None else None, others


def _dense_pairwise(
    pairwise: Pairwise, block: DenseBlock, scale: jax.Array, offset: jax.Array
) -> tuple[jax.Array, ...]:
    def candidates(terms: jax.Array, counts: jax.Array | None) -> jax.Array:
        return terms if counts is None else jnp.where(counts, terms, 0.0)

    same = block.same | block.twins if block.twins is not None and block.mode == POSITIVE else block.same
    t = scale * block.s + offset[:, None]
    rows = jnp.sum(candidates(pairwise.value(t, same), block.in_rows()), axis=1)
    if not pairwise.both:
        return (rows,)
    t = scale * block.s + block.all_columns(offset)[None, :]
    return rows, block.add_columns(candidates(pairwise.value(t, same), block.in_columns()))
