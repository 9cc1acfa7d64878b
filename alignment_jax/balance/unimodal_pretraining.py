"""Unimodal pretraining: every encoder with its own head first, then the fusion. A plain control."""

from __future__ import annotations

import jax.numpy as jnp

from alignment_jax.balance.method import FUSED, BalanceMethod
from alignment_jax.core.checks import check_number


def unimodal_pretraining(*, steps: int) -> BalanceMethod:
    """Trains the heads of the modalities alone for `steps` steps, then all heads with their own weights.

    In the first steps the fused head has weight 0, and a modality's head its own weight, or 1 where that is 0.

    Args:
      steps: of the first part, at least 0.

    >>> method = unimodal_pretraining(steps=10)
    >>> weights = {"a": 0.5, "b": 0.0, "fused": 1.0}
    >>> {h: float(w) for h, w in method.head_weights(weights, jnp.int32(9), ()).items()}
    {'a': 0.5, 'b': 1.0, 'fused': 0.0}
    >>> {h: float(w) for h, w in method.head_weights(weights, jnp.int32(10), ()).items()}
    {'a': 0.5, 'b': 0.0, 'fused': 1.0}
    """
    check_number("steps", steps, lambda x: x >= 0, "at least 0")

    def head_weights(weights, step, state):
        del state
        first = {head: 0.0 if head == FUSED else weight or 1.0 for head, weight in weights.items()}
        return {h: jnp.where(step < steps, jnp.float32(first[h]), jnp.float32(w)) for h, w in weights.items()}

    return BalanceMethod(head_weights=head_weights)
