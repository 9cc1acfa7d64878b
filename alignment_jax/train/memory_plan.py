"""Memory of a run before it starts: the sizes of its state, and of the compiled training step on one device.

All of it follows from shapes. No parameter is made, nothing is put on a device, no program is executed.

Not counted: evaluation and score passes, which run between the steps, what the runtime itself takes, and scratch memory
that a library allocates inside an operation (convolutions on CPUs).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import jax
import numpy as np

from alignment_jax.core.errors import ConfigError, RunError
from alignment_jax.core.types import UNPAIRED_KEYS, Batch, PyTree
from alignment_jax.train.batching import batch_rows
from alignment_jax.train.device_data_set import lower_steps
from alignment_jax.train.experiment import Experiment
from alignment_jax.train.gradient_cache import in_micro_batches, refuse_batch_statistics
from alignment_jax.train.parameter_sharding import FROZEN
from alignment_jax.train.start import initial_state, placement_of
from alignment_jax.train.state import abstract


@dataclasses.dataclass(frozen=True)
class StateMemory:
    """The sizes of what stays on a device from step to step.

    trained, frozen: parameters, as numbers of the whole model.
    trained_bytes, frozen_bytes: of these parameters on one device, like all bytes here.
    average_bytes: of the moving average of the trained parameters.
    optimizer_bytes: of the optimizer's state, accumulated gradients included.
    other_bytes: batch statistics, the objective's state, counters.
    table_bytes: of a training set that lives on the device.
    """

    trained: int
    frozen: int
    trained_bytes: int
    frozen_bytes: int
    average_bytes: int
    optimizer_bytes: int
    other_bytes: int
    table_bytes: int

    @property
    def total(self) -> int:
        """All bytes, without those of a step."""
        return sum(value for name, value in vars(self).items() if name.endswith("_bytes"))


@dataclasses.dataclass(frozen=True)
class StepMemory:
    """What a compiled training step needs on one device, in bytes.

    micro_batch: rows that it encodes at a time; 0 for the whole batch.
    arguments: state, tables and batch.
    outputs: the new state and the metrics.
    aliased: outputs that take the place of arguments, which are donated.
    temporaries: activations, gradients and other intermediate results.

    >>> StepMemory(micro_batch=0, arguments=100, outputs=90, aliased=80, temporaries=50).total
    160
    """

    micro_batch: int
    arguments: int
    outputs: int
    aliased: int
    temporaries: int

    @property
    def total(self) -> int:
        """What the device must have free, apart from the program itself."""
        return self.arguments + self.outputs - self.aliased + self.temporaries


class MemoryPlan:
    """Sizes of an experiment, from its shapes.

    Args:
      experiment: the run, built with or without micro-batches.

    Attributes:
      rows: of a batch on one device, padding included.
      obstacle: why `optimizer.micro_batch` cannot be used; "" where it can.

    Raises:
      DataError: the first training sample cannot be read.

    >>> from alignment_jax import config
    >>> from alignment_jax.assembly.build import build
    >>> settings = config.load("configs/quickstart.py:runlocal,data=synthetic:train=8,val=4,test=4,size=16")
    >>> settings.input.batch_size, settings.train.devices = 8, 1
    >>> plan = MemoryPlan(build(settings).experiment)
    >>> state = plan.state()
    >>> plan.rows, state.trained_bytes == 4 * state.trained > 0  # float32
    (8, True)
    """

    def __init__(self, experiment: Experiment):
        self._experiment = experiment
        self._whole_apply = experiment.model.whole_apply or experiment.model.apply
        self._shapes = jax.eval_shape(lambda: initial_state(experiment))
        self._batch, width = _global_batch(experiment)
        self._compiled: dict[int, StepMemory | None] = {}
        self.rows = width // len(experiment.devices)
        self.obstacle = self._obstacle()

    def state(self) -> StateMemory:
        """The sizes of the state and of the tables."""
        placement = placement_of(self._experiment)
        state = placement.abstract_state(self._shapes)
        tables = abstract(_shapes_of(self._experiment.tables or {}), placement.replicated)
        frozen = state.model_state.get(FROZEN, ())
        own = {
            "trained_bytes": _device_bytes(state.params),
            "frozen_bytes": _device_bytes(frozen),
            "average_bytes": _device_bytes(state.average),
            "optimizer_bytes": _device_bytes(state.opt_state),
        }
        return StateMemory(
            trained=_numbers(state.params),
            frozen=_numbers(frozen),
            other_bytes=_device_bytes(state) - sum(own.values()),
            table_bytes=_device_bytes(tables),
            **own,
        )

    def step(self, micro_batch: int) -> StepMemory | None:
        """The memory of the step that `train.loop.fit` runs, compiled once for each size.

        Args:
          micro_batch: `optimizer.micro_batch`, rows a device; 0 for the whole batch.

        Returns:
          The sizes; None where the compiler itself ends with "out of memory", as that of TPUs does.

        Raises:
          ConfigError: the model cannot be trained with micro-batches.
          RunError: the device's compiler does not report memory.
        """
        if micro_batch and self.obstacle:
            raise ConfigError(self.obstacle)
        size = micro_batch if micro_batch < self.rows else 0
        if size not in self._compiled:
            self._compiled[size] = self._compile(size)
        found = self._compiled[size]
        return None if found is None else dataclasses.replace(found, micro_batch=micro_batch)

    @property
    def compiled(self) -> tuple[int, ...]:
        """The micro-batches that `step` has compiled."""
        return tuple(self._compiled)

    def fits(self, micro_batch: int, limit: int) -> bool:
        """Whether the step with this `optimizer.micro_batch` needs at most `limit` bytes."""
        found = self.step(micro_batch)
        return found is not None and found.total <= limit

    def largest_micro_batch(self, limit: int) -> int | None:
        """The largest `optimizer.micro_batch` whose step needs at most `limit` bytes.

        Returns:
          0 where the whole batch fits, else a power of two; None where nothing fits.
        """
        if self.fits(0, limit):
            return 0
        if self.obstacle or self.state().total > limit:
            return None
        return largest_power_of_two(lambda size: self.fits(size, limit), below=self.rows)

    def _obstacle(self) -> str:
        if self._experiment.model.encode_a is None:
            return "optimizer.micro_batch applies to contrastive alignment only, and this model is a classifier"
        try:
            refuse_batch_statistics(self._shapes.model_state)
        except ConfigError as error:
            return str(error)
        return ""

    def lowered(self, micro_batch: int) -> jax.stages.Lowered:
        """The program of `step`, for the compiler."""
        apply = in_micro_batches(self._whole_apply, micro_batch=micro_batch) if micro_batch else self._whole_apply
        model = dataclasses.replace(self._experiment.model, apply=apply)
        placement = placement_of(dataclasses.replace(self._experiment, model=model))
        tables = self._experiment.tables
        if tables is None:
            return placement.lower(self._shapes, self._batch)
        return lower_steps(placement, self._shapes, _shapes_of(tables), self._batch)

    def _compile(self, micro_batch: int) -> StepMemory | None:
        try:
            found = self.lowered(micro_batch).compile().memory_analysis()
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" in str(error):
                return None
            raise
        if found is None:
            platform = self._experiment.devices[0].platform
            raise RunError(f"JAX's compiler for {platform} does not report the memory of a program")
        return StepMemory(
            micro_batch=micro_batch,
            arguments=found.argument_size_in_bytes,
            outputs=found.output_size_in_bytes,
            aliased=found.alias_size_in_bytes,
            temporaries=found.temp_size_in_bytes,
        )


def largest_power_of_two(fits: Callable[[int], bool], *, below: int) -> int | None:
    """The largest power of two below a number that fits, by bisection; None where none is found.

    Args:
      fits: whether a size fits; sizes below one that fits are taken to fit, too.
      below: the first size that does not fit.

    >>> largest_power_of_two(lambda size: size <= 20, below=64), largest_power_of_two(lambda size: False, below=64)
    (16, None)
    """
    fitting, failing = -1, max(0, below - 1).bit_length()  # exponents
    while failing - fitting > 1:
        middle = (fitting + failing) // 2
        fitting, failing = (middle, failing) if fits(2**middle) else (fitting, middle)
    return None if fitting < 0 else 2**fitting


def device_memory_limit(device: jax.Device) -> int | None:
    """Bytes that JAX may allocate on a device; None where its backend sets no limit (CPU)."""
    statistics = device.memory_stats()
    return None if statistics is None else statistics.get("bytes_limit")


def _global_batch(experiment: Experiment) -> tuple[Batch, int]:
    """The shapes of a batch over all processes, and its rows; one sample is read."""
    order = np.arange(experiment.batch_size)
    devices = experiment.devices
    rows = batch_rows(order, batch_size=experiment.batch_size, devices=len(devices), halves=experiment.halves)
    width = rows.shape[1]
    sample = _shapes_of(dict(next(iter(experiment.batches(np.zeros((1, 1), np.int64), 0, 0)))))
    local = sum(device.process_index == jax.process_index() for device in devices)

    def shape(name: str, leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        count = leaf.shape[0] * len(devices) // local if name in UNPAIRED_KEYS else width
        return jax.ShapeDtypeStruct((count, *leaf.shape[1:]), leaf.dtype)

    return {name: shape(name, leaf) for name, leaf in sample.items()}, width


def _shapes_of(tree: PyTree) -> PyTree:
    """Shapes and the types that arrays have on a device."""
    return jax.eval_shape(lambda same: same, tree)


def _numbers(tree: PyTree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def _device_bytes(tree: PyTree) -> int:
    return sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
