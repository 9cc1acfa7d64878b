"""Casts of arrays between replicated and varying over a mesh axis.

Under `shard_map(check_vma=True)` JAX tracks which mesh axes a value varies over. A scan carry and a hand-written
gradient must have exactly the type of their primal value, so a replicated temperature or a constant zero must be cast
before it is combined with a sharded embedding. Under `check_vma=False`, `pmap` and `vmap` JAX tracks nothing, and
these functions do nothing. The transpose of the cast of a replicated value is a sum over the axis, its gradient.

JAX has renamed this attribute before (`vma` became `manual_axis_type`), so only this module reads it. If it is renamed
again, AttributeError is raised here; a default would make gradients wrong.
"""

from __future__ import annotations

from typing import TypeVar

import jax
import jax.numpy as jnp

Tree = TypeVar("Tree")


def varying_axes(*trees: object) -> frozenset[str]:
    """Mesh axes that some array in the trees varies over; empty where JAX does not track them."""
    axes: frozenset[str] = frozenset()
    for leaf in jax.tree.leaves(trees):
        axes |= jax.typeof(leaf).manual_axis_type.varying
    return axes


def result_like(array: jax.Array, shape: tuple[int, ...]) -> jax.ShapeDtypeStruct:
    """The float32 result of a kernel, of `shape`, that varies over the mesh axes that `array` varies over."""
    return jax.ShapeDtypeStruct(shape, jnp.float32, manual_axis_type=jax.typeof(array).manual_axis_type)


def vary_over(axes: frozenset[str], tree: Tree) -> Tree:
    """The same arrays, cast so that they vary over `axes` too."""

    def cast(leaf: jax.Array) -> jax.Array:
        missing = tuple(sorted(axes - varying_axes(leaf)))
        return jax.lax.pcast(leaf, missing, to="varying") if missing else leaf

    return jax.tree.map(cast, tree)


def vary_together(tree: Tree, axis_name: str | None = None) -> Tree:
    """Casts all arrays of `tree` to vary over every axis that one of them, or `axis_name` itself, varies over."""
    position = () if axis_name is None else jax.lax.axis_index(axis_name)
    return vary_over(varying_axes(tree, position), tree)
