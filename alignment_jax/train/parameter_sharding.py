"""Parameters, optimizer state and moving average sharded over the devices: which array, along which dimension.

Every device keeps its shard of each large array, and gathers the parameters for the forward and backward pass: those of
a stack of layers layer by layer, all others at the start. The derivative of the gather is a reduce-scatter, so each
device gets the gradient of its own shards, summed over all devices. The optimizer updates them as whole arrays: its
norms over arrays need no change.

Source: Rajbhandari et al. 2020 (arXiv 1910.02054), ZeRO, stage 3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from jax.sharding import PartitionSpec as P

from alignment_jax.core.layer_transform import Transform, layer_transforms
from alignment_jax.core.types import PyTree
from alignment_jax.train.state import FROZEN, TrainState

Names = tuple[str, ...]
KeyPath = tuple[Any, ...]
Trees = tuple[PyTree, PyTree]  # parameters, and frozen parameters or ()

SHARDED = ("none", "parameters")  # of the setting `train.shard`
SMALLEST = 2**16  # numbers in the smallest array that is sharded; to gather small ones costs more time than memory


def sharded_dimension(shape: Sequence[int], devices: int, *, smallest: int = SMALLEST) -> int | None:
    """The dimension along which an array is sharded: the largest that `devices` divides, the first of equal ones.

    None: the array stays whole on every device. It holds fewer than `smallest` numbers, no dimension fits, or there is
    one device.

    >>> sharded_dimension((24, 1024, 4096), devices=8), sharded_dimension((30522, 384), devices=8)
    (2, 1)
    >>> sharded_dimension((24, 1024), devices=8), sharded_dimension((257, 1022), devices=8)
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

    The arrays of a stack of layers that reads `core.layer_transform` are gathered layer by layer, unless the axis of
    the layers is the sharded one. All others are gathered before `apply`.

    Args:
      apply: (params, model_state, ...) -> (outputs, model_state), see `step.make_step`.
      specs: from `state_specs`.
      axis_name: of the mesh.
    """

    def apply_to_shards(params: PyTree, model_state: PyTree, *inputs: Any, **options: Any) -> Any:
        def call(trees: Trees) -> Any:
            own, frozen = trees
            whole_state = {**model_state, FROZEN: frozen} if _has_frozen(model_state) else model_state
            return apply(own, whole_state, *inputs, **options)

        trees = params, model_state[FROZEN] if _has_frozen(model_state) else ()
        all_specs = specs.params, specs.model_state[FROZEN] if _has_frozen(model_state) else ()
        before, transforms = _gather_before(trees, all_specs, _stacks(call, trees, all_specs, axis_name), axis_name)
        with layer_transforms(transforms.get):
            outputs, changed = call(before)
        return outputs, {**changed, FROZEN: model_state[FROZEN]} if _has_frozen(model_state) else changed

    return apply_to_shards


def _stacks(call: Callable[[Trees], Any], trees: Trees, specs: Trees, axis_name: str) -> list[Names]:
    """The paths of the stacks that read `layer_transform` in a call."""

    def whole(x: jax.Array, spec: P) -> jax.ShapeDtypeStruct:
        shape, dimension = list(x.shape), _dimension(spec, axis_name)
        if dimension is not None:
            shape[dimension] *= jax.lax.axis_size(axis_name)
        return jax.ShapeDtypeStruct(tuple(shape), x.dtype)

    asked: dict[Names, None] = {}
    with layer_transforms(lambda path: asked.setdefault(path)):
        jax.eval_shape(call, jax.tree.map(whole, trees, specs))
    return list(asked)


def _gather_before(
    trees: Trees, specs: Trees, stacks: list[Names], axis_name: str
) -> tuple[Trees, dict[Names, Transform]]:
    """(the trees, with the shards of the stacks' layers alone; stack -> gathers the shards of a layer)."""
    shards: dict[Names, dict[Names, tuple[tuple[int, ...], int]]] = {path: {} for path in stacks}

    def gather(x: jax.Array, dimension: int) -> jax.Array:
        return jax.lax.all_gather(x, axis_name, axis=dimension, tiled=True)

    def before(path: KeyPath, x: jax.Array, spec: P) -> jax.Array:
        dimension, names = _dimension(spec, axis_name), _names(path)[1:]  # without the number of the tree
        if dimension is None:
            return x
        for stack in stacks:
            if dimension > 0 and names[: len(stack)] == stack:
                shards[stack][names[len(stack) :]] = x.shape[1:], dimension - 1
                return x
        return gather(x, dimension)

    def transform_of(stack: Names) -> Transform:
        def layer(path: KeyPath, x: jax.Array) -> jax.Array:
            shape, dimension = shards[stack].get(_names(path), (None, 0))
            # Another module may have a stack at the same path of its own parameters.
            return gather(x, dimension) if x.shape == shape else x

        return lambda tree: jax.tree.map_with_path(layer, tree)

    gathered = jax.tree.map_with_path(before, trees, specs)
    return gathered, {stack: transform_of(stack) for stack, found in shards.items() if found}


def _dimension(spec: P, axis_name: str) -> int | None:
    return tuple(spec).index(axis_name) if axis_name in tuple(spec) else None


def _names(path: KeyPath) -> Names:
    return tuple(jax.tree_util.keystr((entry,), simple=True) for entry in path)


def _has_frozen(model_state: PyTree) -> bool:
    return isinstance(model_state, Mapping) and FROZEN in model_state
