"""Training on a data set in device memory: one compiled loop gathers the rows of several steps.

The host's loader still chooses the rows of each batch, so the results equal those of batches copied from the host.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from alignment_jax.core.deprecation import renamed_names
from alignment_jax.core.types import UNPAIRED_KEYS, Array, Batch, PyTree
from alignment_jax.train import processes
from alignment_jax.train.objective import Metrics
from alignment_jax.train.state import TrainState, abstract
from alignment_jax.train.step import AXIS, Placement, Step

MAX_STEPS = 32  # of a call


def look_up(tables: Mapping[str, Array], batch: Batch) -> Batch:
    """Gathers items: row numbers become rows of the table, for every name in `tables`.

    Args:
      tables: name -> [rows, ...]; floats become float32.
      batch: name -> int [n] row numbers for those names; others are unchanged. `where` bool [n]: other rows are zero,
        but for unpaired items, which have no padding.

    >>> tables = {"a": jnp.array([[1.0], [2.0]], jnp.bfloat16)}
    >>> batch = {"a": jnp.array([1, 0, 0]), "where": jnp.array([True, True, False])}
    >>> look_up(tables, batch)["a"].ravel().tolist()
    [2.0, 1.0, 0.0]
    """

    def items(name: str, table: Array, numbers: Array) -> jax.Array:
        found = jnp.take(table, numbers, axis=0, mode="clip")
        found = found.astype(jnp.float32) if jnp.issubdtype(found.dtype, jnp.floating) else found
        if name in UNPAIRED_KEYS:
            return found
        return jnp.where(jnp.reshape(batch["where"], (-1,) + (1,) * (found.ndim - 1)), found, 0)

    return {**batch, **{name: items(name, table, batch[name]) for name, table in tables.items()}}


def step_loop(step: Step) -> Callable[[TrainState, Mapping[str, Array], Batch, Array], tuple[TrainState, Metrics]]:
    """Several steps as one device function.

    Args:
      step: the per-device step, see `step.make_step`, or that of a sharded state.

    Returns:
      (state, tables, batches, count) -> (state, metrics): takes the first `count` of the batches [steps, n]. `count` is
      traced, so that every count shares one compiled program. The metrics are those of the last step, or of the first
      that is not finite.
    """
    step = jax.jit(step)  # traced once, for the shapes of its metrics and for the loop

    def run(state: TrainState, tables: Mapping[str, Array], batches: Batch, count: Array):
        def rows(k: Array) -> Batch:
            return {name: jax.lax.dynamic_index_in_dim(x, k, keepdims=False) for name, x in batches.items()}

        # The loop carries the rows of its next step. Sliced within the step, XLA for CPU would put the slice into every
        # elementwise loop that uses a row, and not vectorize it: 1.2 times the CPU time of a step with 600 pairs.
        def body(k: Array, carry: tuple[TrainState, Metrics, Batch]) -> tuple[TrainState, Metrics, Batch]:
            state, before, here = carry
            after, metrics, _ = step(state, look_up(tables, here))
            good = state.bad_step < 0
            return after, jax.tree.map(lambda new, old: jnp.where(good, new, old), metrics, before), rows(k + 1)

        first = rows(jnp.int32(0))
        shapes = jax.eval_shape(lambda: step(state, look_up(tables, first))[1])
        nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        return jax.lax.fori_loop(0, count, body, (state, nothing, first))[:2]

    return run


@functools.lru_cache(maxsize=4)  # runs that share a placement share its compiled loop
def _compiled(placement: Placement) -> Any:
    run = step_loop(placement.step)
    if placement.several and not placement.sharded:
        specs = (P(), P(), P(None, AXIS), P())
        run = jax.shard_map(run, mesh=placement.mesh, in_specs=specs, out_specs=P())
    return jax.jit(run, donate_argnums=0)


def lower_steps(
    placement: Placement, state: TrainState, tables: PyTree, batch: Batch, *, max_steps: int = MAX_STEPS
) -> jax.stages.Lowered:
    """A call of `DeviceDataSet`, lowered from shapes; nothing is allocated.

    Args:
      placement: the devices.
      state, tables: their shapes.
      batch: the shapes of one batch of row numbers, over all processes.
      max_steps: steps per call.
    """
    stacked = {name: jax.ShapeDtypeStruct((max_steps, *x.shape), x.dtype) for name, x in batch.items()}
    return _compiled(placement).lower(
        placement.abstract_state(state),
        abstract(tables, placement.replicated),
        abstract(stacked, NamedSharding(placement.mesh, P(None, AXIS))),
        jax.ShapeDtypeStruct((), np.int32, sharding=placement.replicated),
    )


class DeviceDataSet:
    """Runs up to `max_steps` steps per call on tables that live on every device.

    Args:
      placement: the devices.
      tables: name -> array [rows, ...].
      max_steps: steps per call. More than a few dozen gain little, and SIGTERM waits for the end of the call.
    """

    def __init__(self, placement: Placement, tables: Mapping[str, np.ndarray], *, max_steps: int = MAX_STEPS):
        self.max_steps = max_steps
        self._tables: PyTree = processes.put_local(dict(tables), placement.replicated)
        self._replicated = placement.replicated
        self._batches = NamedSharding(placement.mesh, P(None, AXIS))
        self._run = _compiled(placement)

    def __call__(self, state: TrainState, batches: Sequence[Batch]) -> tuple[TrainState, Metrics]:
        """The state after these batches of row numbers, and the metrics of the last or first non-finite step."""
        return self._run(*self._arguments(state, batches))

    def lower(self, state: TrainState, batches: Sequence[Batch]) -> jax.stages.Lowered:
        """The call, lowered for inspection."""
        return self._run.lower(*self._arguments(state, batches))

    def _arguments(self, state: TrainState, batches: Sequence[Batch]):
        unused = [batches[0]] * (self.max_steps - len(batches))  # one shape for any number of batches
        stacked = {name: np.stack([batch[name] for batch in (*batches, *unused)]) for name in batches[0]}
        count = processes.put_local(np.int32(len(batches)), self._replicated)
        return state, self._tables, processes.put_local(stacked, self._batches), count


__getattr__ = renamed_names(__name__, {"Resident": "DeviceDataSet", "loop_of": "step_loop"})
