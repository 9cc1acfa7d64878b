"""Several processes that train one model: local rows, values from process 0, and errors of lost processes.

Every process runs the same loop, holds the same state (or its shards) and reads only the rows of its own devices.
Process 0 computes and broadcasts whatever may differ between machines: the initial state, statistics of the data, the
metrics that choose the best step. It alone writes files. In a run of one process all functions here are trivial.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import re
import signal
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec

from alignment_jax.core.deprecation import renamed_names
from alignment_jax.core.errors import AlignmentError, RunError
from alignment_jax.core.types import PyTree
from alignment_jax.train import broadcast

_LOST = (
    "this process has lost the others: one of them has ended or cannot be reached. Read its error; "
    "the same commands resume from the last checkpoint"
)
_KEPT: list[Any] = []  # a signal handler must stay referenced


def several() -> bool:
    """Whether this run has more than one process."""
    return jax.process_count() > 1


def is_primary() -> bool:
    """Whether this is process 0, which writes the files."""
    return jax.process_index() == 0


def local_columns(devices: Sequence[jax.Device], width: int) -> np.ndarray:
    """The rows of a batch that this process reads: those of its devices.

    Args:
      devices: all devices of the run, in the order of the mesh.
      width: rows of the whole batch, a multiple of the number of devices.

    Returns:
      int64 [k], positions in the batch, ascending.

    >>> local_columns(jax.devices()[:2], 6).tolist()
    [0, 1, 2, 3, 4, 5]
    """
    owner = np.array([device.process_index for device in devices])
    return np.flatnonzero(np.repeat(owner == jax.process_index(), width // len(devices)))


def put_local(tree: PyTree, sharding: jax.sharding.Sharding) -> PyTree:
    """Host arrays as global arrays; each process gives its part, or the whole where replicated."""
    if not several():
        return jax.device_put(tree, sharding)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), tree)


def put_from_primary(tree: PyTree, sharding: PyTree) -> PyTree:
    """Process 0's arrays as global arrays, with the same bits on every process.

    Two machines may compute other bits (another processor, another LAPACK), and JAX does not detect a replicated state
    that differs between processes. So process 0's values are broadcast.

    Args:
      tree: arrays and random keys, of the same shapes and types on every process; only process 0's values are used.
      sharding: one sharding, or a tree of them.
    """
    if not several():
        return jax.device_put(tree, sharding)
    numbers = jax.tree.map(lambda x: np.asarray(jax.random.key_data(x) if _is_key(x) else x), tree)

    def placed(array: np.ndarray, like: Any, sharding: jax.sharding.Sharding) -> jax.Array:
        if _is_key(like):
            # Computed by all processes: random keys cannot be copied to another host's devices.
            wrap = functools.partial(jax.random.wrap_key_data, impl=jax.random.key_impl(like))
            return jax.jit(wrap, out_shardings=sharding)(array)
        # Each device gets its own part alone.
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    return jax.tree.map(placed, broadcast_arrays(numbers), tree, jax.tree.broadcast(sharding, tree))


def replicate(tree: PyTree) -> PyTree:
    """The same arrays, sharded ones whole on every device of their mesh. Every process must make the same call."""

    def whole(x: Any) -> Any:
        if not isinstance(x, jax.Array) or x.is_fully_replicated:
            return x
        assert isinstance(x.sharding, NamedSharding)
        return jax.device_put(x, NamedSharding(x.sharding.mesh, PartitionSpec()))

    return jax.tree.map(whole, tree)


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def compute_on_primary(compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Calls `compute` on process 0 and returns its result on every process.

    Args:
      compute: () -> JSON values and NumPy arrays, nested freely. Floats and arrays keep their bits.

    Raises:
      AlignmentError: on every process, with its class, if `compute` raises an error of this package.
    """
    if not several():
        return compute()
    message, failed = _attempt(compute) if is_primary() else (b"", None)
    found = broadcast.unpack(broadcast.broadcast_bytes(message))
    if failed is not None:
        raise failed
    return _value(found)


def compute_on_all(compute: Callable[[], Any]) -> list[Any]:
    """The results of all processes, in their order, on every process.

    Args:
      compute: () -> as for `compute_on_primary`, without collectives; another result on every process.

    Raises:
      AlignmentError: on every process, if `compute` raises one on any.
    """
    if not several():
        return [compute()]
    message, failed = _attempt(compute)
    each = [broadcast.unpack(one) for one in broadcast.gather_bytes(message)]
    if failed is not None:
        raise failed
    return [_value(found) for found in each]


def _attempt(compute: Callable[[], Any]) -> tuple[bytes, AlignmentError | None]:
    """The message with the result or the error, and the error."""
    try:
        return broadcast.pack({"value": compute()}), None
    except AlignmentError as error:
        classes = [kind.__name__ for kind in type(error).__mro__]
        return broadcast.pack({"error": str(error), "classes": classes}), error


def _value(found: dict[str, Any]) -> Any:
    if "error" in found:
        raise broadcast.error_class(found["classes"])(found["error"])
    return found["value"]


def broadcast_arrays(tree: PyTree) -> PyTree:
    """Process 0's arrays on every process, with the same bits.

    Args:
      tree: NumPy arrays, of the same shapes and types on every process; only process 0's values are used.
    """
    if not several():
        return tree
    leaves, structure = jax.tree.flatten(tree)
    own = [broadcast.bytes_of(leaf) for leaf in leaves]
    found = broadcast.broadcast_array(np.concatenate(own) if own else np.zeros(0, np.uint8))
    parts = np.split(found, np.cumsum([part.size for part in own])[:-1]) if own else []
    copies = [
        np.frombuffer(part.tobytes(), leaf.dtype).reshape(leaf.shape) for part, leaf in zip(parts, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, copies)


def check_equal(what: str, value: str) -> None:
    """Checks that all processes have the same value.

    Raises:
      RunError: another process has another value.
    """
    if not several():
        return
    found = multihost_utils.process_allgather(np.uint32(zlib.crc32(value.encode())))
    different = np.flatnonzero(found != found[0])
    if different.size:
        raise RunError(
            f"process {different[0]} has another {what} than process 0; start all processes with the same command and "
            "the same data"
        )


def barrier(name: str) -> None:
    """Blocks until every process has reached this call."""
    if several():
        multihost_utils.sync_global_devices(name)


@contextlib.contextmanager
def convert_jax_errors() -> Iterator[None]:
    """Turns an error of JAX into one line; in a run of several processes, most likely another process has ended.

    Raises:
      RunError: in place of JAX's own error.
    """
    try:
        yield
    except AlignmentError:  # some are ValueErrors as well
        raise
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        # JAX raises many types for a broken connection; all texts start with a status.
        of_jax = isinstance(error, jax.errors.JaxRuntimeError) or (several() and re.match(r"[A-Z_]+: ", reason))
        if not of_jax:
            raise
        if several():
            raise RunError(f"{_LOST} ({reason})") from error
        raise RunError(
            f"the device failed: {reason}. If its memory is full, lower input.batch_size or set optimizer.micro_batch; "
            "alignment-jax train --plan prints what a step needs"
        ) from error


def initialize_devices() -> None:
    """Initializes JAX's devices, which needs all processes of the run.

    Raises:
      RunError: another process ended before.
    """
    try:
        jax.devices()
    except RuntimeError as error:
        raise RunError(f"{_LOST} ({' '.join(str(error).split())[:200]})") from error


def exit_when_aborted() -> None:
    """Prints one line and exits with status 1 when JAX aborts this process.

    If process 0 ends, or any process stops responding, a thread of JAX calls `abort` in the others, past any `except`.
    Python's signal handlers run only in the main thread, which is blocked; a handler made by ctypes runs in the thread
    that raises the signal.
    """

    def leave(number: int) -> None:
        os.write(2, f"alignment-jax: error: {_LOST}\n".encode())
        os._exit(RunError.exit_status)

    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(leave)
    _KEPT.append(handler)
    ctypes.CDLL(None).signal(int(signal.SIGABRT), handler)


__getattr__ = renamed_names(
    __name__,
    {
        "from_primary": "compute_on_primary",
        "arrays_from_primary": "broadcast_arrays",
        "place_own": "put_local",
        "place_same": "put_from_primary",
        "own_columns": "local_columns",
        "check_same": "check_equal",
        "wait_for_all": "barrier",
        "losing_others": "convert_jax_errors",
        "meet_devices": "initialize_devices",
    },
)
