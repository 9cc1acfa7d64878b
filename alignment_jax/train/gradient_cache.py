"""Gradient caching: a contrastive batch larger than what the encoders' activations leave room for.

The loss of a contrastive batch needs all its embeddings at once, but an embedding needs no other row's activations.
So the batch is encoded in micro-batches that keep nothing but their embeddings; the loss and its gradient with
respect to them are taken over the whole batch; then each micro-batch is encoded once more, now with its activations,
and its share of the parameters' gradient is added up. The gradients are exact, for one more forward pass.

Source: Gao et al. 2021 (arXiv 2101.06983), GradCache. There the second pass is a loop of the caller's; here it is the
derivative of `jax.checkpoint` inside `jax.lax.map`, so that a loss sees an ordinary model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from alignment_jax.core.errors import ConfigError
from alignment_jax.core.types import PyTree
from alignment_jax.core.varying import vary_over, varying_axes


def refuse_batch_statistics(model_state: PyTree) -> None:
    """Raises ConfigError when a model carries statistics of whole batches: those of a micro-batch are others.

    >>> refuse_batch_statistics({})
    """
    if jax.tree.leaves(model_state):
        raise ConfigError(
            f"optimizer.micro_batch cannot train a model that carries {', '.join(sorted(model_state))} (batch norm): "
            "its statistics are those of the whole batch; use norm=group in the encoders, or micro_batch=0"
        )


def in_micro_batches(apply: Callable[..., Any], *, micro_batch: int) -> Callable[..., Any]:
    """The same `apply`, whose memory for activations is that of one micro-batch.

    Dropout stays what it is without micro-batches, in both passes, as long as it belongs to (key, row).

    Args:
      apply: (params, model_state, a, b, *, train, rows, where, key) -> (outputs, model_state). Outputs are arrays
        [n, ...] of rows, or scalars that do not depend on the rows.
      micro_batch: rows of a micro-batch, on each device, at least 1. A last one that is not full is padded with rows
        whose `where` is false.

    Returns:
      A function like `apply`.

    Raises:
      ConfigError: on the call, when the model carries batch statistics; here, when micro_batch is less than 1.

    >>> def apply(params, model_state, a, b, *, train, rows, where, key):
    ...     return {"a": a * params, "b": b * params, "temperature": params}, model_state
    >>> a = jnp.arange(5.0)[:, None]
    >>> options = dict(train=True, rows=jnp.arange(5), where=jnp.ones(5, bool), key=jax.random.key(0))
    >>> outputs, _ = in_micro_batches(apply, micro_batch=2)(jnp.float32(3.0), {}, a, a, **options)
    >>> outputs["a"].ravel().tolist(), float(outputs["temperature"])
    ([0.0, 3.0, 6.0, 9.0, 12.0], 3.0)
    """
    if micro_batch < 1:
        raise ConfigError(f"optimizer.micro_batch must be at least 1 to cut batches, got {micro_batch}")

    def cached(params: PyTree, model_state: PyTree, a, b, *, train: bool, rows, where, key):
        refuse_batch_statistics(model_state)
        n = where.shape[0]
        if n <= micro_batch:
            return apply(params, model_state, a, b, train=train, rows=rows, where=where, key=key)
        # Where JAX tracks what differs between devices it would add up the parameters' gradient over all devices in
        # every micro-batch; as a varying copy, it is added up once.
        axes = varying_axes(a, b)
        own_params = vary_over(axes, params)

        def encode(piece):
            a, b, rows, where = piece
            outputs, _ = apply(own_params, model_state, a, b, train=train, rows=rows, where=where, key=key)
            return outputs

        def joined(x: jax.Array) -> jax.Array:
            if x.ndim > 1:
                return x.reshape(-1, *x.shape[2:])[:n]
            return jax.lax.pmean(x[0], tuple(sorted(axes))) if axes else x[0]

        pieces = jax.tree.map(lambda x: _cut(jnp.asarray(x), micro_batch), (a, b, rows, where))
        # Nothing but the inputs is kept; a loop's body is never merged with its recomputation.
        outputs = jax.lax.map(jax.checkpoint(encode, prevent_cse=False), pieces)
        return jax.tree.map(joined, outputs), model_state

    return cached


def _cut(x: jax.Array, size: int) -> jax.Array:
    """[n, ...] -> [pieces, size, ...], with zeros (false, row 0) after the end."""
    x = jnp.pad(x, [(0, -x.shape[0] % size)] + [(0, 0)] * (x.ndim - 1))
    return x.reshape(-1, size, *x.shape[1:])
