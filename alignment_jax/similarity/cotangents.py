"""Arguments and cotangents of `jax.custom_vjp` functions with `symbolic_zeros=True`."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def cotangent_array(cotangent: jax.Array | jax.custom_derivatives.SymbolicZero, like: jax.Array) -> jax.Array:
    """A cotangent as an array; zeros like `like` for a symbolic zero."""
    return jnp.zeros_like(like) if isinstance(cotangent, jax.custom_derivatives.SymbolicZero) else cotangent


def primal_values(primals: Any) -> Any:
    """The arrays in a tree of `CustomVJPPrimal`s; None stays None."""
    return jax.tree.map(lambda p: p.value, primals, is_leaf=lambda p: hasattr(p, "perturbed"))
