"""Parameters, optimizer state and moving average sharded over the devices: which array, along which dimension.

Every device keeps its shard of each large array, and gathers the parameters for the forward and backward pass. The
derivative of the gather is a reduce-scatter, so each device gets the gradient of its own shards, summed over all
devices. The optimizer updates them as whole arrays: its norms over arrays need no change.

Source: Rajbhandari et al. 2020 (arXiv 1910.02054), ZeRO, stage 3. We gather all parameters at the start of a step, not
layer by layer: a device holds them whole, and their gradient, for the time of a step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from jax.sharding import PartitionSpec as P

from alignment_jax.core.types import PyTree
from alignment_jax.train.state import FROZEN, TrainState

SHARDED = ("none", "parameters")  # of the setting `train.shard`
SMALLEST = 2**14  # numbers in the smallest array that is sharded


def sharded_dimension(shape: Sequence[int], devices: int, *, smallest: int = SMALLEST) -> int | None:
    """The dimension along which an array is sharded: the largest that `devices` divides, the first of equal ones.

    None: the array stays whole on every device. It holds fewer than `smallest` numbers, no dimension fits, or there is
    one device.

    >>> sharded_dimension((24, 1024, 4096), devices=8), sharded_dimension((30522, 384), devices=8)
    (2, 1)
    >>> sharded_dimension((1024,), devices=8), sharded_dimension((257, 1022), devices=8)
    (None, None)
    """
    size = 1
    for length in shape:
        size *= length
    fitting = [k for k, length in enumerate(shape) if length % devices == 0]
    if devices == 1 or size < smallest or not fitting:
        return None
    return max(fitting, key=lambda k: shape[k])


def array_spec(shape: Sequence[int], devices: int, axis_name: str) -> P:
    """`sharded_dimension` as a PartitionSpec.

    >>> array_spec((1024, 4096), 8, "batch"), array_spec((), 8, "batch")
    (P(None, 'batch'), P())
    """
    dimension = sharded_dimension(shape, devices)
    return P() if dimension is None else P(*(None,) * dimension, axis_name)


def state_specs(state: TrainState, devices: int, axis_name: str) -> TrainState:
    """A PartitionSpec for every array of a state.

    Parameters, optimizer state, average and frozen parameters follow `sharded_dimension`, so that arrays of one shape
    are sharded alike. Everything else is replicated.
    """

    def sharded(tree: PyTree) -> PyTree:
        return jax.tree.map(lambda x: array_spec(x.shape, devices, axis_name), tree)

    model_state = replicated_specs(state.model_state)
    if _has_frozen(state.model_state):
        model_state = {**model_state, FROZEN: sharded(state.model_state[FROZEN])}
    replicated: Any = P()
    return TrainState(
        step=replicated,
        params=sharded(state.params),
        model_state=model_state,
        opt_state=sharded(state.opt_state),
        average=sharded(state.average),
        method_state=replicated_specs(state.method_state),
        key=replicated,
        bad_step=replicated,
    )


def replicated_specs(tree: PyTree) -> PyTree:
    """P() for every array."""
    return jax.tree.map(lambda x: P(), tree)


def gathers_parameters(apply: Callable[..., Any], specs: TrainState, axis_name: str) -> Callable[..., Any]:
    """The same `apply` for the shards of parameters and frozen parameters; call it inside `jax.shard_map`.

    Args:
      apply: (params, model_state, ...) -> (outputs, model_state), see `step.make_step`.
      specs: from `state_specs`.
      axis_name: of the mesh.
    """

    def gathered(tree: PyTree, specs: PyTree) -> PyTree:
        return jax.tree.map(lambda x, spec: _gather(x, spec, axis_name), tree, specs)

    def apply_to_shards(params: PyTree, model_state: PyTree, *inputs: Any, **options: Any) -> Any:
        whole = gathered(model_state, specs.model_state)
        outputs, changed = apply(gathered(params, specs.params), whole, *inputs, **options)
        if _has_frozen(model_state):
            changed = {**changed, FROZEN: model_state[FROZEN]}
        return outputs, changed

    return apply_to_shards


def _gather(shard: jax.Array, spec: P, axis_name: str) -> jax.Array:
    if axis_name not in tuple(spec):
        return shard
    return jax.lax.all_gather(shard, axis_name, axis=tuple(spec).index(axis_name), tiled=True)


def _has_frozen(model_state: PyTree) -> bool:
    return isinstance(model_state, Mapping) and FROZEN in model_state
