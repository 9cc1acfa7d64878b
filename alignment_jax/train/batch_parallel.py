"""A function of one batch, on several devices with one batch each."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from alignment_jax.core.types import PyTree
from alignment_jax.train.step import AXIS, batch_mesh


class BatchParallel:
    """Runs (params, model_state, batch) -> tree of [k, ...] on one batch, or on several at once.

    Every device runs the program of one batch, so the results have the same bits on any number of devices.

    Args:
      function: as above; compiled once for one device, and once for each number of devices used.
      devices: of this process.
    """

    def __init__(self, function: Callable[[PyTree, PyTree, PyTree], PyTree], devices: Sequence[jax.Device]):
        self._function, self._devices = function, list(devices)
        self._compiled: dict[int, Callable[..., PyTree]] = {}

    def start(
        self, variables: PyTree, batches: Iterable[PyTree]
    ) -> tuple[Callable[[PyTree], PyTree], int, Iterator[PyTree]]:
        """The function of a group of batches, see `core.batch_groups`.

        Args:
          variables: {"params", "model_state"}, on any devices of this process, or replicated over all processes.
          batches: trees of host arrays [k, ...]. As many as there are devices are read here: fewer need fewer devices.

        Returns:
          (group [width * k, ...] -> result), width, and the batches.
        """
        batches = iter(batches)
        first = list(itertools.islice(batches, len(self._devices)))
        width = max(1, len(first))
        run = self._compile(width)
        if width == 1:
            own = jax.tree.map(local_copy, variables)
            return lambda batch: run(own["params"], own["model_state"], batch), width, itertools.chain(first, batches)
        mesh = batch_mesh(self._devices[:width])
        own = jax.tree.map(lambda x: _replicated(x, mesh), variables)
        rows = NamedSharding(mesh, P(AXIS))

        def of_group(group: PyTree) -> PyTree:
            return run(own["params"], own["model_state"], jax.device_put(group, rows))

        return of_group, width, itertools.chain(first, batches)

    def _compile(self, width: int) -> Callable[..., PyTree]:
        if width not in self._compiled:
            function: Any = self._function
            if width > 1:
                mesh = batch_mesh(self._devices[:width])
                # Without replication checks: an encoder needs no casts for them.
                function = jax.shard_map(
                    function, mesh=mesh, in_specs=(P(), P(), P(AXIS)), out_specs=P(AXIS), check_vma=False
                )
            self._compiled[width] = jax.jit(function)
        return self._compiled[width]


def local_copy(x: Any) -> Any:
    """A replicated array on the first device of this process that holds it; a host array as it is."""
    return x.addressable_data(0) if isinstance(x, jax.Array) else x


def _replicated(x: Any, mesh: Mesh) -> jax.Array:
    """An array on every device of a mesh; copies that are already there are used."""
    sharding = NamedSharding(mesh, P())
    if isinstance(x, jax.Array) and len(x.sharding.device_set) > 1:
        copies = {shard.device: shard.data for shard in x.addressable_shards}
        return jax.make_array_from_single_device_arrays(x.shape, sharding, [copies[device] for device in mesh.devices])
    return jax.device_put(x, sharding)
