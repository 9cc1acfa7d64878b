"""Checkpoints through orbax: the last few and the best one, each with a checksum of every array.

Orbax commits a step as a whole or not at all, so a kill in the middle of a save costs nothing. What it does not notice
is a byte that changed on disk afterwards: the checksums do. A damaged newest checkpoint is named, set aside and the one
before it is used.
"""

from __future__ import annotations

import dataclasses
import logging
import pathlib
import zlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from alignment_jax.core.errors import RunError
from alignment_jax.core.types import PyTree
from alignment_jax.train import processes

LAST, BEST = "last", "best"


@dataclasses.dataclass(frozen=True)
class Restored:
    """A checkpoint as it was saved: the state, the loop's own position, and the step it belongs to."""

    step: int
    state: PyTree
    loop: dict[str, Any]


class Checkpoints:
    """The checkpoints of one workdir, in `last/` and `best/`.

    Args:
      folder: absolute path of the folder, made when it is missing.
      keep: how many of the last ones are kept, at least 1.
      message: called with one line when a damaged checkpoint is set aside.
    """

    def __init__(self, folder: pathlib.Path, *, keep: int = 2, message: Callable[[str], None] = lambda line: None):
        self._folder = folder
        self._message = message
        self._keep = {LAST: max(1, keep), BEST: 1}
        # Orbax reports every step of its work at level INFO; a user's terminal is for the training's own lines.
        logging.getLogger("absl").setLevel(logging.WARNING)
        self._managers = {kind: self._open(kind) for kind in (LAST, BEST)}

    def _open(self, kind: str) -> ocp.CheckpointManager:
        options = ocp.CheckpointManagerOptions(max_to_keep=self._keep[kind], create=True)
        return ocp.CheckpointManager(self._folder / kind, options=options)

    def save(self, step: int, state: PyTree, loop: dict[str, Any], *, kind: str = LAST) -> None:
        """Starts to save; returns as soon as the arrays are copied. A step that is already there stays as it is.

        Args:
          step: names the checkpoint.
          state: a tree of arrays.
          loop: plain JSON: the position in the data, the best metric so far.
          kind: "last" or "best".

        Raises:
          RunError: the disk refuses (full, read-only); earlier checkpoints are intact.
        """
        if processes.several():
            self.wait()  # processes meet by name while they save: two saves under way would take each other's meetings
        try:
            self._managers[kind].save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state),
                    loop=ocp.args.JsonSave({"loop": loop, "checksums": checksums(state)}),
                ),
            )
        except OSError as error:
            raise RunError(f"checkpoint of step {step} could not be written to {self._folder}: {error}") from error

    def wait(self) -> None:
        """Returns when everything that was started is on disk."""
        for manager in self._managers.values():
            try:
                manager.wait_until_finished()
            except (OSError, ValueError) as error:
                raise RunError(f"a checkpoint could not be written to {self._folder}: {error}") from error

    def close(self) -> None:
        self.wait()
        for manager in self._managers.values():
            manager.close()

    def steps(self, kind: str = LAST) -> list[int]:
        """The steps that are there, oldest first."""
        return sorted(self._managers[kind].all_steps())

    def restore(self, target: PyTree, *, kind: str = LAST) -> Restored | None:
        """The newest undamaged checkpoint, or None when there is none at all.

        Args:
          target: a tree of `jax.ShapeDtypeStruct` with shardings, as the state should be.
          kind: "last" or "best".

        Raises:
          RunError: every checkpoint is damaged, or does not fit `target`.
        """
        steps = self.steps(kind)
        for step in reversed(steps):
            problem, restored = self._read(kind, step, target)
            if processes.on_all(restored is not None):
                return restored
            problem = problem or "another process cannot read it"
            self._set_aside(kind, step)
            self._message(f"checkpoint {kind}/{step} is damaged ({problem}); set aside as {kind}/damaged-{step}")
        if steps:
            raise RunError(
                f"no usable checkpoint in {self._folder / kind}: all of steps {steps} are damaged and were set aside; "
                "start again with another workdir, or restore the folder from a backup"
            )
        return None

    def _read(self, kind: str, step: int, target: PyTree) -> tuple[str, Restored | None]:
        try:
            found = self._managers[kind].restore(
                step, args=ocp.args.Composite(state=ocp.args.StandardRestore(target), loop=ocp.args.JsonRestore())
            )
        except Exception as error:  # orbax and tensorstore raise many types for a file that is not what it should be
            return f"unreadable: {_first_line(error)}", None
        expected = found["loop"]["checksums"]
        actual = checksums(found["state"])
        if expected != actual:
            names = sorted(name for name in expected.keys() | actual.keys() if expected.get(name) != actual.get(name))
            return f"checksum of {names[0]} differs" + (f" and {len(names) - 1} more" if len(names) > 1 else ""), None
        return "", Restored(step=step, state=found["state"], loop=found["loop"]["loop"])

    def _set_aside(self, kind: str, step: int) -> None:
        self._managers[kind].close()
        if processes.is_primary():
            self._rename(kind, step)
        processes.wait_for_all("set aside")
        self._managers[kind] = self._open(kind)

    def _rename(self, kind: str, step: int) -> None:
        source = self._folder / kind / str(step)
        aside = self._folder / kind / f"damaged-{step}"
        number = 0
        while aside.exists():
            number += 1
            aside = self._folder / kind / f"damaged-{step}-{number}"
        source.rename(aside)


def checksums(tree: PyTree) -> dict[str, str]:
    """CRC-32 of shape, type and bytes of every array, by its path in the tree.

    >>> checksums({"w": np.zeros(2, np.float32)})
    {"['w']": '...'}
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path): _checksum(leaf) for path, leaf in leaves}


def _checksum(leaf: Any) -> str:
    if isinstance(leaf, jax.Array):
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        # State is replicated: any one device's copy is the whole array, also where other processes hold the rest.
        leaf = leaf.addressable_data(0)
    array = np.ascontiguousarray(leaf)
    header = f"{array.dtype.str}{array.shape}".encode()
    return f"{zlib.crc32(array.tobytes(), zlib.crc32(header)):08x}"


def abstract(state: PyTree, sharding: jax.sharding.Sharding) -> PyTree:
    """What `restore` needs to know: shapes, types and where the arrays go."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), state)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
