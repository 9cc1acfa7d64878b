"""The train state: all arrays that a training step reads and writes."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import optax

from alignment_jax.core.types import PyTree

FROZEN = "frozen"  # collection of the model's state: parameters that are not trained
Tree = TypeVar("Tree")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """The state of training. Checkpoints hold exactly this, so a resumed run has the same bits.

    step: int32, steps taken. key: the run's random key; step t uses fold_in(key, t).
    average: exponential moving average of `params`, or () without one.
    method_state: of the objective (the EMA of the direction weights, for example).
    bad_step: int32, the first step with a non-finite loss or gradient, -1 for none. From that step on no other field
      changes, so that the host finds the last good parameters.
    """

    step: jax.Array
    params: PyTree
    model_state: PyTree
    opt_state: PyTree
    average: PyTree
    method_state: PyTree
    key: jax.Array
    bad_step: jax.Array


def create_state(
    *,
    params: PyTree,
    model_state: PyTree,
    optimizer: optax.GradientTransformation,
    method_state: PyTree,
    key: jax.Array,
    averaged: bool,
) -> TrainState:
    """The state before the first step.

    Args:
      params: parameters, from the model's init.
      model_state: the model's other collections (BatchNorm statistics), {} for none.
      optimizer: its state is initialised here.
      method_state: `objective.init()`.
      key: a typed random key.
      averaged: keep a moving average of the parameters.
    """
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        model_state=model_state,
        opt_state=optimizer.init(params),
        # A copy: donated buffers must not be shared between two leaves of the state.
        average=jax.tree.map(jnp.copy, params) if averaged else (),
        method_state=method_state,
        key=key,
        bad_step=jnp.full((), -1, jnp.int32),
    )


def abstract(tree: PyTree, sharding: PyTree) -> PyTree:
    """Shapes, types and shardings of arrays. `sharding` is one for all of them, or a tree."""
    shardings = jax.tree.broadcast(sharding, tree)
    return jax.tree.map(lambda x, one: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=one), tree, shardings)


def evaluation_variables(state: TrainState) -> PyTree:
    """{"params", "model_state"} of the trained model: the parameters to evaluate and the model's other collections."""
    return {"params": evaluation_params(state), "model_state": state.model_state}


def evaluation_params(state: TrainState) -> PyTree:
    """The parameters to evaluate: the moving average where one is kept."""
    return state.average if jax.tree.leaves(state.average) else state.params


def without_frozen(tree: Tree) -> Tree:
    """A state, or evaluation variables, without the parameters that are not trained: what a checkpoint holds.

    >>> without_frozen({"params": {}, "model_state": {"frozen": {"words": 1}, "batch_stats": {}}})
    {'params': {}, 'model_state': {'batch_stats': {}}}
    """
    return _with_model_state(tree, {name: value for name, value in _model_state(tree).items() if name != FROZEN})


def with_frozen(tree: Tree, whole: PyTree) -> Tree:
    """The inverse: `tree` from a checkpoint with the frozen parameters of `whole`."""
    state = _model_state(whole)
    if FROZEN not in state:
        return tree
    return _with_model_state(tree, {**_model_state(tree), FROZEN: state[FROZEN]})


def _model_state(tree: Any) -> dict[str, Any]:
    return dict(tree.model_state if isinstance(tree, TrainState) else tree["model_state"])


def _with_model_state(tree: Any, model_state: dict[str, Any]) -> Any:
    if isinstance(tree, TrainState):
        return dataclasses.replace(tree, model_state=model_state)
    return {**tree, "model_state": model_state}
