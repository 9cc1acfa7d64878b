"""Turns a flax module into the pure functions that training calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np


def pure_functions(module: nn.Module) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """`init` and `apply` of a module, as `train.experiment.Model` describes them."""

    compiled = jax.jit(module.init)  # compiled once for all seeds

    def init(key: jax.Array, *inputs: np.ndarray):
        variables = dict(compiled(key, *(jnp.asarray(x) for x in inputs)))
        return variables.pop("params"), variables

    def apply(params, model_state, *inputs, train, rows, where, key, **masks):
        outputs, changed = module.apply(
            {"params": params, **model_state},
            *inputs,
            train=train,
            rows=rows,
            where=where,
            **masks,
            rngs={} if key is None else {"dropout": key},
            mutable=list(model_state),
        )
        return outputs, {**model_state, **changed}

    return init, apply
