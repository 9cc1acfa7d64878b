"""`init.similarity=weighted_cosine`: a model whose embeddings are compared by CSA's weighted cosine."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from alignment_jax import baselines
from alignment_jax.core.types import PyTree
from alignment_jax.train.experiment import Model

# Its parameter beside those of the towers: weights [dim], which training does not change.
WEIGHTS = "cosine_weights"


def with_weighted_cosine(model: Model, *, dim: int) -> Model:
    """The model with embeddings [n, dim + 2], weighted after their normalization; the weights are 1 until a start.

    Args:
      model: two towers.
      dim: of their embeddings.
    """

    def init(key: jax.Array, *inputs: Any) -> tuple[PyTree, PyTree]:
        params, model_state = model.init(key, *inputs)
        return {**params, WEIGHTS: jnp.ones(dim, jnp.float32)}, model_state

    def apply(params: PyTree, model_state: PyTree, a: Any, b: Any, **options: Any) -> Any:
        outputs, model_state = model.apply(_towers(params), model_state, a, b, **options)
        weighted = {
            side: baselines.weighted_unit_vectors(outputs[side], params[WEIGHTS], side=side) for side in ("a", "b")
        }
        return {**outputs, **weighted}, model_state

    def encoder(side: str, encode: Callable[..., jax.Array] | None) -> Callable[..., jax.Array]:
        assert encode is not None

        def weighted(params: PyTree, model_state: PyTree, items: Any) -> jax.Array:
            z = encode(_towers(params), model_state, items)
            return baselines.weighted_unit_vectors(z, params[WEIGHTS], side=side)

        return weighted

    return dataclasses.replace(
        model,
        init=init,
        apply=apply,
        encode_a=encoder("a", model.encode_a),
        encode_b=encoder("b", model.encode_b),
    )


def _towers(params: PyTree) -> PyTree:
    return {name: value for name, value in params.items() if name != WEIGHTS}
