"""Gradient caching: contrastive batches whose encoder activations do not fit into memory.

1. Encode the batch in micro-batches, keeping only the embeddings.
2. Take the loss and its gradient with respect to all embeddings.
3. Encode each micro-batch again, with activations, and add up its share of the parameters' gradient.

The gradients are exact. The cost is one more forward pass.

Source: Gao et al. 2021 (arXiv 2101.06983), GradCache. There the caller writes the second pass as a loop; here it is the
derivative of `jax.checkpoint` inside `jax.lax.map`, so that any loss can use the result like an ordinary model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from alignment_jax.core.errors import ConfigError
from alignment_jax.core.types import PyTree
from alignment_jax.core.varying import vary_over, varying_axes
from alignment_jax.train.state import FROZEN


def refuse_batch_statistics(model_state: PyTree) -> None:
    """Raises ConfigError for a model with batch statistics: those of a micro-batch differ.

    >>> refuse_batch_statistics({})
    """
    statistics = {name: value for name, value in model_state.items() if name != FROZEN}
    if jax.tree.leaves(statistics):
        raise ConfigError(
            f"optimizer.micro_batch cannot train a model with {', '.join(sorted(statistics))} (batch norm): its "
            "statistics need the whole batch; use norm=group in the encoders, or micro_batch=0"
        )


def in_micro_batches(apply: Callable[..., Any], *, micro_batch: int) -> Callable[..., Any]:
    """The same `apply` with the activation memory of one micro-batch.

    Dropout is the same as without micro-batches if it is a function of (key, row).

    Args:
      apply: (params, model_state, a, b, *, train, rows, where, key) -> (outputs, model_state). Outputs are arrays
        [n, ...] of rows, or scalars that do not depend on the rows.
      micro_batch: rows of a micro-batch per device, at least 1. An incomplete last one is padded with rows where
        `where` is false.

    Returns:
      A function like `apply`.

    Raises:
      ConfigError: micro_batch is less than 1; on the call, for a model with batch statistics.

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
        # With check_vma, JAX would sum the parameters' gradient over the devices in every micro-batch; of a varying
        # copy it is summed once.
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
        # prevent_cse=False: XLA never merges a loop's body with its recomputation.
        outputs = jax.lax.map(jax.checkpoint(encode, prevent_cse=False), pieces)
        return jax.tree.map(joined, outputs), model_state

    return cached


def _cut(x: jax.Array, size: int) -> jax.Array:
    """[n, ...] -> [pieces, size, ...], with zeros (false, row 0) after the end."""
    x = jnp.pad(x, [(0, -x.shape[0] % size)] + [(0, 0)] * (x.ndim - 1))
    return x.reshape(-1, size, *x.shape[1:])
