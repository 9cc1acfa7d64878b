"""Initialises adapters with a linear solution."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from alignment_jax.core import Array, ConfigError


def init_projection(params: Any, side: str, matrix: Array, bias: Array) -> Any:
    """The parameters of `Adapters` with one side's last map replaced by x @ matrix + bias.

    A map to fewer dimensions than the adapter is padded with zeros. Cosines are those of the map, also in training: a
    dimension that is zero on both sides has no gradient.

    Args:
      params: from `Adapters(...).init(...)["params"]`.
      side: "a" or "b".
      matrix: [width, k].
      bias: [k].

    Returns:
      A tree like `params`.

    Raises:
      ConfigError: the map does not fit into the adapter.

    >>> import jax
    >>> from alignment_jax.models import Adapters
    >>> model = Adapters(dim=3, blocks_a=0, blocks_b=0, final_norm=False)
    >>> params = model.init(jax.random.key(0), jnp.ones((1, 2)), jnp.ones((1, 2)))["params"]
    >>> init_projection(params, "a", jnp.eye(2), jnp.ones(2))["a"]["project"]["bias"].tolist()
    [1.0, 1.0, 0.0]
    """
    project = params[side]["project"]
    return {**params, side: {**params[side], "project": {**project, **_filled(project, matrix, bias)}}}


def init_tower_projection(params: Any, side: str, matrix: Array, bias: Array) -> Any:
    """`init_projection` for `TwoTower` with affine projections: `project_a` or `project_b` becomes x @ matrix + bias.

    >>> params = {"project_a": {"kernel": jnp.zeros((2, 3)), "bias": jnp.zeros(3)}}
    >>> init_tower_projection(params, "a", jnp.eye(2), jnp.ones(2))["project_a"]["bias"].tolist()
    [1.0, 1.0, 0.0]
    """
    name = f"project_{side}"
    return {**params, name: _filled(params[name], matrix, bias)}


def _filled(project: Any, matrix: Array, bias: Array) -> dict[str, Array]:
    """Kernel and bias of a map in the shape of `project`, padded with zeros."""
    width, dim = project["kernel"].shape
    matrix, bias = jnp.asarray(matrix, jnp.float32), jnp.asarray(bias, jnp.float32)
    if matrix.shape[0] != width or matrix.shape[1] > dim:
        raise ConfigError(f"a map {list(matrix.shape)} does not fit into an adapter [{width}, {dim}]; raise model.dim")
    missing = dim - matrix.shape[1]
    return {"kernel": jnp.pad(matrix, ((0, 0), (0, missing))), "bias": jnp.pad(bias, (0, missing))}


def used_dimensions(params: Any) -> np.ndarray | None:
    """bool [dim]: which output dimensions of `Adapters` some input reaches; None for other models.

    The rest is 0 on both sides for every input, as after `init_projection` with a map to fewer dimensions. Without it
    cosines and inner products are the same.

    >>> zeros = {"project": {"kernel": jnp.zeros((2, 3)), "bias": jnp.zeros(3)}}
    >>> some = {"project": {"kernel": jnp.eye(2, 3), "bias": jnp.zeros(3)}}
    >>> used_dimensions({"a": some, "b": zeros}).tolist()
    [True, True, False]
    """
    if any("project" not in params.get(side, {}) for side in ("a", "b")):
        return None
    maps = [np.asarray(leaf) for side in ("a", "b") for leaf in params[side]["project"].values()]
    return np.any([np.any(leaf.reshape(-1, leaf.shape[-1]) != 0, axis=0) for leaf in maps], axis=0)
