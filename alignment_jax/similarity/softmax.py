"""The softmax over candidates in both directions."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from alignment_jax.similarity.dense import dense_block, dense_softmax
from alignment_jax.similarity.form import Form, choose


def softmax_losses(
    za: jax.Array,
    zb: jax.Array,
    inverse_temperature: jax.Array,
    where: jax.Array | None,
    similarity: str | Form,
    axis_name: str | None,
) -> tuple[jax.Array, jax.Array]:
    choose(similarity, rows=za.shape[0], dim=za.shape[1], axis_name=axis_name)
    rows = jnp.broadcast_to(inverse_temperature, za.shape[:1])
    return dense_softmax(dense_block(za, zb, where, axis_name), rows)
