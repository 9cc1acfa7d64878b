"""Exponential moving average of a tree of arrays, bias-corrected, as a pure (init, update) pair."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from alignment_jax.core.errors import ConfigError
from alignment_jax.core.types import PyTree


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class EmaState:
    """`mean`: the uncorrected average, a tree like the values; `weight`: scalar, the weight of all values so far."""

    mean: PyTree
    weight: jax.Array


def ema(decay: float) -> tuple[Callable[[PyTree], EmaState], Callable[[PyTree, EmaState], tuple[PyTree, EmaState]]]:
    """m <- decay m + (1 - decay) x, divided by 1 - decay^t, which removes the bias of the first values towards zero.

    The divisor is the moving average of 1, which is exact from the first step; 1 - decay^t itself loses half its digits
    in float32 when decay is near 1.

    Args:
      decay: in [0, 1); 0 follows the last value.

    Returns:
      `init(like) -> state` and `update(value, state) -> (corrected mean, state)`.

    Raises:
      ConfigError: decay outside [0, 1).

    >>> init, update = ema(0.9)
    >>> mean, state = update(jnp.float32(2.0), init(jnp.float32(0.0)))
    >>> float(mean)  # the first value itself, not a tenth of it
    2.0
    """
    if not 0.0 <= decay < 1.0:
        raise ConfigError(f"decay must be in [0, 1), got {decay}")

    def init(like: PyTree) -> EmaState:
        zeros = jax.tree.map(lambda x: jnp.zeros(jnp.shape(x), jnp.float32), like)
        return EmaState(mean=zeros, weight=jnp.zeros((), jnp.float32))

    def update(value: PyTree, state: EmaState) -> tuple[PyTree, EmaState]:
        def blend(m, x):
            return decay * m + (1.0 - decay) * jnp.asarray(x, jnp.float32)

        mean = jax.tree.map(blend, state.mean, value)
        weight = blend(state.weight, 1.0)
        return jax.tree.map(lambda m: m / weight, mean), EmaState(mean=mean, weight=weight)

    return init, update
