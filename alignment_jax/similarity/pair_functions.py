"""Losses of one pair: the hinge of max-margin and the logistic loss of SigLIP."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class PairFunction:
    """A function of one pair's score t_ij = s S_ij + u.

    Args:
      value: (t, positive) -> the pair's loss; `positive` is true for a sample with its own partner or a duplicate that
        counts as one.
      slope: (t, positive) -> its derivative with respect to t.
      both: columns are anchors too, with their own u.
    """

    value: Callable[[jax.Array, jax.Array], jax.Array]
    slope: Callable[[jax.Array, jax.Array], jax.Array]
    both: bool


HINGE = PairFunction(
    value=lambda t, positive: jnp.where(positive, 0.0, jax.nn.relu(t)),
    # Cast, because jnp.where of two Python numbers is float64 under jax_enable_x64.
    slope=lambda t, positive: ((t > 0) & ~positive).astype(t.dtype),
    both=True,
)
LOGISTIC = PairFunction(
    value=lambda t, positive: jax.nn.softplus(jnp.where(positive, -t, t)),
    slope=lambda t, positive: jnp.where(positive, -jax.nn.sigmoid(-t), jax.nn.sigmoid(t)),
    both=False,
)
