"""Checkpoints through orbax: the last few and the best one, each with a checksum of every array.

Orbax commits a step atomically, so a kill during a save is harmless. The checksums find bytes that change on disk
later: a damaged newest checkpoint is set aside with a message, and the one before it is used.

In a run of several processes process 0 alone reads and writes files and broadcasts the content, so the workdir need not
be shared. Checkpoints hold whole arrays, also of a sharded state: they fit any number of devices.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
import pathlib
import shutil
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from alignment_jax.core.deprecation import renamed_attributes
from alignment_jax.core.errors import RunError
from alignment_jax.core.types import PyTree
from alignment_jax.train import processes
from alignment_jax.train.background import BackgroundQueue
from alignment_jax.train.state import abstract as abstract  # the target of `restore`

LAST, BEST = "last", "best"
REMOVED = ".removed"  # folder of checkpoints that are being deleted


@dataclasses.dataclass(frozen=True)
class Restored:
    """A restored checkpoint. loop: JSON of the loop's position."""

    step: int
    state: PyTree
    loop: dict[str, Any]


@renamed_attributes({"forget_after": "delete_after"})
class Checkpoints:
    """The checkpoints of one workdir, in `last/` and `best/`. Every process must make the same calls.

    Args:
      folder: absolute path; created if missing.
      keep: how many of the last ones to keep, at least 1.
      message: called with one line when a damaged checkpoint is set aside.
    """

    def __init__(self, folder: pathlib.Path, *, keep: int = 2, message: Callable[[str], None] = lambda line: None):
        self._folder = folder
        self._message = message
        # Two of the best: the newest may be later than the state that a killed run resumes from.
        self._keep = {LAST: max(1, keep), BEST: 2}
        self._managers: dict[str, ocp.CheckpointManager] = {}
        self._writing = BackgroundQueue(max_pending=2)  # the best and the last of one evaluation
        self._on_primary(lambda: self._managers.update({kind: self._open(kind) for kind in (LAST, BEST)}))

    def _on_primary(self, do: Callable[[], object]) -> None:
        """Process 0 calls `do`; every process raises its error."""

        def done() -> dict[str, Any]:
            do()
            return {}

        processes.compute_on_primary(done)

    def _open(self, kind: str) -> ocp.CheckpointManager:
        alone = {0} if processes.several() else None  # otherwise orbax synchronizes all processes
        options = ocp.CheckpointManagerOptions(
            max_to_keep=self._keep[kind],
            create=False,
            # Renamed before deletion, so that a concurrent copy finds it whole or not at all.
            todelete_subdir=REMOVED,
            multiprocessing_options=ocp.options.MultiprocessingOptions(active_processes=alone),
        )
        with self._refusals("opened"):
            (self._folder / kind).mkdir(parents=True, exist_ok=True)
            return ocp.CheckpointManager(self._folder / kind, options=options)

    def _clear_removed(self, kind: str) -> None:
        """Not on opening: a reader may open the folder while a training writes."""
        shutil.rmtree(self._folder / kind / REMOVED, ignore_errors=True)

    def save(self, step: int, state: PyTree, loop: dict[str, Any], *, kind: str = LAST) -> None:
        """Starts to save; returns once the arrays are copied. An existing step is not overwritten.

        A background thread writes checkpoints in order, none after one that failed. The loop saves the best model
        before the state that refers to it, so a kill between the two leaves no state without its best model. A third
        save waits until one of two is written.

        Args:
          step: name of the checkpoint.
          state: a tree of arrays.
          loop: plain JSON, the loop's position.
          kind: "last" or "best".

        Raises:
          RunError: this or an earlier save failed (disk full, read-only); older checkpoints are intact.
        """

        gathers = processes.several() and any(map(_is_sharded, jax.tree.leaves(state)))
        if gathers:
            self._on_primary(self._writing.wait_for_slot)  # before there is another copy
        whole = _gathered_to_primary(state) if gathers else state

        def start() -> None:
            self._writing.wait_for_slot()
            arrays, described, position = _on_host(whole), _described(state), copy.deepcopy(loop)
            self._writing.add(lambda: self._write(kind, step, arrays, described, position))

        self._on_primary(start)

    def _write(self, kind: str, step: int, arrays: PyTree, described: dict[str, str], position: dict[str, Any]) -> None:
        """Blocks until the checkpoint is on disk."""
        record = _record(position, checksums(arrays), described)
        items = {"state": ocp.args.StandardSave(arrays), "loop": ocp.args.JsonSave(record)}
        manager = self._managers[kind]
        with self._refusals(f"written at step {step}"):
            manager.save(step, args=ocp.args.Composite(**items))
            manager.wait_until_finished()
        self._clear_removed(kind)

    def wait(self) -> None:
        """Blocks until every started save is on disk.

        Raises:
          RunError: a save failed; older checkpoints are intact.
        """
        self._on_primary(self._writing.wait)

    @contextlib.contextmanager
    def _refusals(self, what: str) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, jax.errors.JaxRuntimeError) as error:
            raise RunError(
                f"a checkpoint could not be {what} in {self._folder} ({_first_line(error)}); the earlier ones are "
                "intact. Free disk space or fix the permissions, and repeat the command"
            ) from error

    def close(self) -> None:
        """Closes this process's files; does not need the other processes."""
        try:
            self._writing.wait()
        finally:
            self._writing.close()
            for manager in self._managers.values():
                with self._refusals("finished"):
                    manager.close()

    def steps(self, kind: str = LAST) -> list[int]:
        """The saved steps, oldest first."""
        return processes.compute_on_primary(lambda: {"steps": self._steps(kind)})["steps"]

    def _steps(self, kind: str) -> list[int]:
        self._writing.wait()
        return sorted(self._managers[kind].all_steps())

    def delete_after(self, step: int, *, kind: str) -> None:
        """Deletes the checkpoints after `step`; the run resumed from there saves them again."""

        def forget() -> None:
            for later in [found for found in self._steps(kind) if found > step]:
                self._managers[kind].delete(later)
            self._clear_removed(kind)

        self._on_primary(forget)

    def restore(self, target: PyTree, *, kind: str = LAST) -> Restored | None:
        """The newest undamaged checkpoint; None without any checkpoint.

        Args:
          target: the expected state as a tree of `jax.ShapeDtypeStruct` with shardings.
          kind: "last" or "best".

        Raises:
          RunError: every checkpoint is damaged, or the newest undamaged one holds arrays of another name, shape or
            type than `target`.
        """
        steps = self.steps(kind)
        for step in reversed(steps):
            problem, restored = self.read(step, target, kind=kind)
            if restored is not None:
                return restored
            self.set_aside(step, kind=kind)
            self._message(f"checkpoint {kind}/{step} is damaged ({problem}); set aside as {kind}/damaged-{step}")
        if steps:
            raise RunError(
                f"no usable checkpoint in {self._folder / kind}: all of steps {steps} are damaged and were set aside; "
                "start again with another workdir, or restore the folder from a backup"
            )
        return None

    def read(self, step: int, target: PyTree, *, kind: str) -> tuple[str, Restored | None]:
        """The checkpoint of this step: ("", checkpoint), or (its damage, None). Nothing is set aside.

        Raises:
          RunError: the checkpoint holds arrays of another name, shape or type than `target`.
        """
        found: list[PyTree] = []

        def look() -> dict[str, Any]:
            if step not in self._steps(kind):
                return {"problem": "it is not there"}
            problem, loop, arrays = self._read(kind, step, target)
            found.append(arrays)
            return {"problem": problem, "loop": loop}

        answer = processes.compute_on_primary(look)
        if answer["problem"]:
            return answer["problem"], None
        arrays = found[0] if found else _blank(target)
        return "", Restored(step=step, state=_placed(arrays, target), loop=answer["loop"])

    def _read(self, kind: str, step: int, target: PyTree) -> tuple[str, dict[str, Any], PyTree]:
        """(damage or "", position, arrays on the host)."""
        try:
            record = self._restore(kind, step, loop=ocp.args.JsonRestore())["loop"]
            if problem := _record_problem(record):
                return problem, {}, None
            _check_fits(record["arrays"], target, self._folder / kind / str(step))
            arrays = self._restore(kind, step, state=ocp.args.StandardRestore(_blank(target)))["state"]
        except RunError:
            raise
        except Exception as error:  # orbax and tensorstore raise many types for a damaged file
            return f"unreadable: {_first_line(error)}", {}, None
        expected, actual = record["checksums"], checksums(arrays)
        if expected != actual:
            names = sorted(name for name in expected.keys() | actual.keys() if expected.get(name) != actual.get(name))
            problem = f"checksum of {names[0]} differs" + (f" and {len(names) - 1} more" if len(names) > 1 else "")
            return problem, {}, None
        return "", record["loop"], arrays

    def _restore(self, kind: str, step: int, **items: Any) -> Any:
        return self._managers[kind].restore(step, args=ocp.args.Composite(**items))

    def set_aside(self, step: int, *, kind: str) -> None:
        """Renames the folder of a damaged step to `damaged-STEP`, if it exists."""

        def move() -> None:
            self._writing.wait()
            self._managers[kind].close()
            source = self._folder / kind / str(step)
            if source.exists():
                aside, number = source.with_name(f"damaged-{step}"), 0
                while aside.exists():
                    number += 1
                    aside = source.with_name(f"damaged-{step}-{number}")
                with self._refusals("set aside"):
                    source.rename(aside)
            self._managers[kind] = self._open(kind)

        self._on_primary(move)


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _key_impl(leaf: jax.ShapeDtypeStruct) -> Any:
    """The implementation of random keys; JAX gives it for arrays only."""
    found: list[Any] = []
    jax.eval_shape(lambda keys: found.append(jax.random.key_impl(keys)), leaf)
    return found[0]


def _is_sharded(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and not leaf.is_fully_replicated


def _own_copy(leaf: jax.Array) -> jax.Array:
    """The whole array, from this process's devices; random keys as integers."""
    numbers = jax.random.key_data(leaf) if _is_key(leaf) else leaf
    # A sharded array is put together on the host.
    return numbers if _is_sharded(numbers) else numbers.addressable_data(0)


def _gathered_to_primary(tree: PyTree) -> PyTree:
    """Sharded arrays as arrays on the host of process 0; every process must call it."""

    def gathered(leaf: jax.Array) -> Any:
        if not _is_sharded(leaf):
            return leaf
        whole = processes.replicate(leaf)  # one array at a time: a device cannot hold all
        return np.array(whole.addressable_data(0)) if processes.is_primary() else None

    return jax.tree.map(gathered, tree)


def _on_host(tree: PyTree) -> PyTree:
    """Copies of all arrays; random keys as integers."""

    def copied(leaf: Any) -> np.ndarray:
        leaf = _own_copy(leaf) if isinstance(leaf, jax.Array) else leaf
        return np.array(leaf)  # a view would change with the next step, which reuses the buffer

    return jax.tree.map(copied, tree)


def _blank(target: PyTree) -> PyTree:
    """Zeros on the host in the shapes of the target."""

    def blank(leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        if _is_key(leaf):
            leaf = jax.eval_shape(jax.random.key_data, jax.ShapeDtypeStruct(leaf.shape, leaf.dtype))
        return np.zeros(leaf.shape, leaf.dtype)

    return jax.tree.map(blank, target)


def _placed(arrays: PyTree, target: PyTree) -> PyTree:
    """Process 0's arrays with the shardings of the target, on every process."""

    def typed(array: np.ndarray, leaf: jax.ShapeDtypeStruct) -> Any:
        return jax.random.wrap_key_data(jnp.asarray(array), impl=_key_impl(leaf)) if _is_key(leaf) else array

    shardings = jax.tree.map(lambda leaf: leaf.sharding, target)
    return processes.put_from_primary(jax.tree.map(typed, arrays, target), shardings)


def _record(loop: dict[str, Any], crcs: dict[str, str], described: dict[str, str]) -> dict[str, Any]:
    """The JSON that is saved beside the arrays, with its own checksum."""
    record = {"loop": loop, "checksums": crcs, "arrays": described}
    return {**record, "crc": _crc_of_json(record)}


def _record_problem(record: Any) -> str:
    if not isinstance(record, dict) or record.keys() != {"loop", "checksums", "arrays", "crc"}:
        return "its record has missing or unknown fields"
    if record["crc"] != _crc_of_json({name: value for name, value in record.items() if name != "crc"}):
        return "checksum of its record differs"
    return ""


def _crc_of_json(value: Any) -> str:
    return f"{zlib.crc32(json.dumps(value, sort_keys=True).encode()):08x}"


def _described(tree: PyTree) -> dict[str, str]:
    """Type and shape of every array, by its path in the tree."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path): f"{leaf.dtype}{list(leaf.shape)}" for path, leaf in leaves}


def _check_fits(found: dict[str, str], target: PyTree, where: pathlib.Path) -> None:
    """Raises RunError if an undamaged checkpoint holds other arrays than `target`."""
    wanted = _described(target)
    different = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    if different:
        name, more = different[0], f" (and {len(different) - 1} more)" if len(different) > 1 else ""
        raise RunError(
            f"checkpoint {where} does not fit this configuration: {name} is {found.get(name, 'absent')} in the "
            f"checkpoint and {wanted.get(name, 'absent')} in this run{more}. "
            "Use the versions and settings that made it, or another --workdir"
        )


def checksums(tree: PyTree) -> dict[str, str]:
    """CRC-32 of shape, type and bytes of every array, by its path in the tree.

    >>> checksums({"w": np.zeros(2, np.float32)})
    {"['w']": '...'}
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path): _checksum(leaf) for path, leaf in leaves}


def _checksum(leaf: Any) -> str:
    leaf = _own_copy(leaf) if isinstance(leaf, jax.Array) else leaf
    array = np.ascontiguousarray(leaf)
    header = f"{array.dtype.str}{array.shape}".encode()
    return f"{zlib.crc32(array.reshape(-1).view(np.uint8).data, zlib.crc32(header)):08x}"


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
