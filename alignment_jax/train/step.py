"""The training step of one device, and its compiled forms for one or several devices.

The differentiated function returns the *global* loss, and the gradients are averaged over the axis. Of the four ways to
place these two reductions, only this one is exact under `jax.shard_map` (with and without replication checks), under
`jax.pmap` and without an axis.

With a sharded state (`make_sharded_step`) loss and gradients are computed per device in the same way, and the update is
written for whole arrays: XLA divides it, and adds the reductions of norms. So every optimizer of optax is exact.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from alignment_jax.core.deprecation import renamed_attributes
from alignment_jax.core.types import Batch, PyTree
from alignment_jax.core.varying import varying_axes
from alignment_jax.train import processes
from alignment_jax.train.objective import Aux, Metrics, Objective, after_gradients, loss_terms
from alignment_jax.train.parameter_sharding import gathers_parameters, replicated_specs, state_specs
from alignment_jax.train.state import TrainState, abstract

AXIS = "batch"
_BATCHES_ON_DEVICE = 2  # one that is used, and one that arrives
_AFTER_GRADIENTS = 2  # folded into the key of a step for `Objective.after_gradients`
Step = Callable[[TrainState, Batch], tuple[TrainState, Metrics, Metrics]]


def make_step(
    objective: Objective,
    apply: Callable[..., Any],
    optimizer: optax.GradientTransformation,
    *,
    axis_name: str | None = None,
    average_decay: float = 0.0,
    accumulate: int = 1,
    project: Callable[[PyTree], PyTree] = lambda params: params,
) -> Step:
    """The per-device training step.

    Args:
      objective: see `objective.Contrastive`.
      apply: (params, model_state, a, b, *, train, rows, where, key) -> (outputs, model_state).
      optimizer: an optax transformation; for accumulation wrap it in `optax.MultiSteps` with the same `accumulate`.
      axis_name: mesh or pmap axis; the batch is sharded and the state replicated over it. None for one device.
      average_decay: decay of the moving average of the parameters, 0 for none. It starts low and rises, so that the
        average forgets the initial parameters in short runs, too.
      accumulate: steps per update.
      project: projects updated parameters onto their bounds (of a temperature, for example).

    Returns:
      (state, batch) -> (state, metrics, per_sample). `metrics` are global scalars; `per_sample` belongs to the local
      rows. After a non-finite loss or gradient only `bad_step` changes, to the number of that step.
    """

    return _step_of(
        _gradients(objective, apply, axis_name),
        objective,
        optimizer,
        average_decay=average_decay,
        accumulate=accumulate,
        project=project,
    )


def make_sharded_step(
    objective: Objective,
    apply: Callable[..., Any],
    optimizer: optax.GradientTransformation,
    *,
    mesh: Mesh,
    average_decay: float = 0.0,
    accumulate: int = 1,
    project: Callable[[PyTree], PyTree] = lambda params: params,
) -> Step:
    """The step of a state that is sharded over a mesh, see `parameter_sharding`.

    Args:
      objective, apply, optimizer, average_decay, accumulate, project: as for `make_step`; optimizer and project take
        whole arrays.
      mesh: of one axis, `batch_mesh(devices)`.

    Returns:
      As `make_step`, but for whole arrays and the whole batch: compile it by `jax.jit` alone.
    """

    def gradients(state: TrainState, batch: Batch) -> tuple[jax.Array, Aux, tuple[PyTree, ...]]:
        specs = state_specs(state, mesh.size, AXIS)
        whole, rows = cast(Any, P()), cast(Any, P(AXIS))
        outcome = Aux(
            model_state=specs.model_state, method_state=whole, metrics=whole, per_sample=rows, modulation=whole
        )
        mapped = jax.shard_map(
            _gradients(objective, gathers_parameters(apply, specs, AXIS), AXIS),
            mesh=mesh,
            in_specs=(_without_optimizer(specs), rows),
            out_specs=(whole, outcome, (specs.params,) * loss_terms(objective)),
        )
        return mapped(_without_optimizer(state), batch)

    step = _step_of(
        gradients, objective, optimizer, average_decay=average_decay, accumulate=accumulate, project=project
    )

    def placed(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics, Metrics]:
        specs = state_specs(state, mesh.size, AXIS)
        after, metrics, per_sample = step(state, batch)
        # Without it XLA chooses, and the next step would be compiled again.
        shardings = jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs)
        return jax.lax.with_sharding_constraint(after, shardings), metrics, per_sample

    return placed


def _gradients(
    objective: Objective, apply: Callable[..., Any], axis_name: str | None
) -> Callable[[TrainState, Batch], tuple[jax.Array, Aux, tuple[PyTree, ...]]]:
    """(state, batch) -> (loss of the global batch, auxiliary output, each term's gradients of the local parameters)."""
    terms = loss_terms(objective)

    def gradients_of(state: TrainState, batch: Batch) -> tuple[jax.Array, Aux, tuple[PyTree, ...]]:
        key = jax.random.fold_in(state.key, state.step)

        def loss_of(params: PyTree):
            return objective(
                apply,
                params,
                state.model_state,
                state.method_state,
                batch,
                step=state.step,
                key=key,
                axis_name=axis_name,
            )

        gradients: tuple[PyTree, ...]
        if terms == 1:
            (loss, outcome), only = jax.value_and_grad(loss_of, has_aux=True)(state.params)
            gradients = (only,)
        else:
            losses, pull_back, outcome = jax.vjp(loss_of, state.params, has_aux=True)
            gradients = tuple(pull_back(one)[0] for one in jnp.eye(terms, dtype=losses.dtype))
            loss = jnp.sum(losses)
        # With `check_vma` JAX has already summed the gradients over the devices.
        if axis_name is not None and not varying_axes(batch):
            gradients = jax.lax.pmean(gradients, axis_name)
        return loss, outcome, gradients

    return gradients_of


def _step_of(
    gradients_of: Callable[[TrainState, Batch], tuple[jax.Array, Aux, tuple[PyTree, ...]]],
    objective: Objective,
    optimizer: optax.GradientTransformation,
    *,
    average_decay: float,
    accumulate: int,
    project: Callable[[PyTree], PyTree],
) -> Step:
    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics, Metrics]:
        loss, outcome, by_term = gradients_of(state, batch)
        key = jax.random.fold_in(jax.random.fold_in(state.key, state.step), _AFTER_GRADIENTS)
        gradients, changes = after_gradients(objective, by_term, outcome.modulation, key)
        gradient_norm = optax.tree.norm(gradients)
        finite = jnp.isfinite(loss) & jnp.isfinite(gradient_norm)

        def updated() -> TrainState:
            updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
            params = project(optax.apply_updates(state.params, updates))
            average = state.average
            if average_decay > 0.0:
                average = _average(state.average, params, state.step, average_decay, accumulate)
            return TrainState(
                step=state.step + 1,
                params=params,
                model_state=outcome.model_state,
                opt_state=opt_state,
                average=average,
                method_state=outcome.method_state,
                key=state.key,
                bad_step=state.bad_step,
            )

        # `cond`, not `where`: writing and reading both versions took three times as long as the update.
        kept = jax.lax.cond(finite & (state.bad_step < 0), updated, lambda: state)
        first_bad = jnp.where((state.bad_step < 0) & ~finite, state.step, state.bad_step)
        metrics = {**outcome.metrics, **changes, "gradient_norm": gradient_norm}
        return _with_bad_step(kept, first_bad), metrics, outcome.per_sample

    return step


def _without_optimizer(state: TrainState) -> TrainState:
    return TrainState(**{**vars(state), "opt_state": (), "average": ()})


def _with_bad_step(state: TrainState, bad_step: jax.Array) -> TrainState:
    return TrainState(**{**vars(state), "bad_step": bad_step})


def _average(average: PyTree, params: PyTree, step: jax.Array, decay: float, accumulate: int) -> PyTree:
    updates = ((step + 1) // accumulate).astype(jnp.float32)
    rate = 1.0 - jnp.minimum(decay, (1.0 + updates) / (10.0 + updates))
    # Parameters change only with every update, and so does their average.
    rate = jnp.where((step + 1) % accumulate == 0, rate, 0.0)
    return jax.tree.map(lambda old, new: old + rate * (new - old), average, params)


def batch_mesh(devices: list[jax.Device]) -> Mesh:
    """A mesh of one axis over which the batch is sharded."""
    return Mesh(np.asarray(devices), (AXIS,))


def shard_step(step: Step, mesh: Mesh, *, check_vma: bool = True) -> Step:
    """Jits the per-device step over a mesh: state replicated and donated, batch and per-sample results sharded."""
    mapped = jax.shard_map(step, mesh=mesh, in_specs=(P(), P(AXIS)), out_specs=(P(), P(), P(AXIS)), check_vma=check_vma)
    return jax.jit(mapped, donate_argnums=0)


def pmap_step(step: Step, devices: list[jax.Device] | None = None) -> Step:
    """The step under `jax.pmap`: batch [devices, n, ...], state replicated."""
    return jax.pmap(step, axis_name=AXIS, devices=devices, donate_argnums=0)


@renamed_attributes({"keep_up": "sync_cpu_devices", "columns": "local_columns"})
class Placement:
    """The shardings of state and batches, and the compiled step, for one device or a mesh of several.

    Args:
      devices: all devices of the run, over all processes.
      step_of: axis_name -> per-device step.
      sharded_step_of: mesh -> step of a sharded state, see `make_sharded_step`; None for a replicated state. Not called
        for one device.

    Attributes:
      sharded: whether the state is sharded.
    """

    def __init__(
        self,
        devices: list[jax.Device],
        step_of: Callable[[str | None], Step],
        sharded_step_of: Callable[[Mesh], Step] | None = None,
    ):
        self.devices = devices
        self.several = len(devices) > 1
        self.sharded = self.several and sharded_step_of is not None
        self.mesh = batch_mesh(devices)
        self.replicated = NamedSharding(self.mesh, P())
        self._sharded = NamedSharding(self.mesh, P(AXIS))
        if sharded_step_of is not None and self.several:
            self.step = sharded_step_of(self.mesh)
            self.run: Step = jax.jit(self.step, donate_argnums=0)
        else:
            self.step = step_of(AXIS if self.several else None)
            self.run = shard_step(self.step, self.mesh) if self.several else jax.jit(self.step, donate_argnums=0)

    def specs(self, state: TrainState) -> TrainState:
        """A PartitionSpec for every array of the state."""
        return state_specs(state, len(self.devices), AXIS) if self.sharded else replicated_specs(state)

    def shardings(self, state: TrainState) -> TrainState:
        """The sharding of every array of the state."""
        return jax.tree.map(lambda spec: NamedSharding(self.mesh, spec), self.specs(state))

    def local_columns(self, width: int) -> np.ndarray:
        """The rows of a batch of `width` rows that this process reads and gives to `put_batch`."""
        return processes.local_columns(self.devices, width)

    def sync_cpu_devices(self, result: PyTree) -> None:
        """Blocks until `result` is computed, on several devices of one CPU; returns at once elsewhere.

        These devices share threads: with several steps in flight, the collectives of one can hold threads that another
        needs.
        """
        if self.several and self.devices[0].platform == "cpu":
            jax.block_until_ready(result)

    def put_state(self, state: TrainState) -> TrainState:
        """The state on its devices."""
        return processes.put_from_primary(state, self.shardings(state) if self.sharded else self.replicated)

    def put_batch(self, batch: Batch) -> Batch:
        """A batch on its devices; with several processes, `batch` holds the local rows."""
        return processes.put_local(dict(batch), self._sharded)

    def abstract_state(self, state: PyTree) -> PyTree:
        """The shapes of a state, with the sharding that it has on the devices."""
        return abstract(state, self.shardings(state))

    def lower(self, state: TrainState, batch: Batch) -> jax.stages.Lowered:
        """The step, lowered for the shapes of a state and of a batch over all processes; nothing is allocated."""
        jitted: Any = self.run
        return jitted.lower(self.abstract_state(state), abstract(dict(batch), self._sharded))


class SingleSteps:
    """Takes one step per call, on a batch that the host has read; see `DeviceDataSet` for several.

    A batch is copied to the devices while they compute the step before. They hold two batches at most: JAX alone would
    start dozens of steps, each with its batch in device memory.
    """

    max_steps = 1

    def __init__(self, placement: Placement):
        self._placement = placement
        self._started: collections.deque[Metrics] = collections.deque()

    def __call__(self, state: TrainState, batches: Sequence[Batch]) -> tuple[TrainState, Metrics]:
        """The state after the one batch, and its metrics."""
        (batch,) = batches
        if len(self._started) == _BATCHES_ON_DEVICE:
            jax.block_until_ready(self._started.popleft())
        state, metrics, _ = self._placement.run(state, self._placement.put_batch(batch))
        self._started.append(metrics)
        return state, metrics
