"""Writes a folder of embeddings shard by shard; a killed writer leaves only complete shards and can resume."""

from __future__ import annotations

import json
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

import numpy as np

from alignment_jax.core.errors import ConfigError, DataError
from alignment_jax.core.storage import open_atomic, write_json_atomic
from alignment_jax.data.array_names import with_own_names
from alignment_jax.data.shards import FORMAT, MANIFEST, VERSION, digest_of

_PLAN, _SHARD = "plan.json", "shard.json"


class ShardWriter:
    """Writes the shards of a folder in any order; `finish` makes the folder readable.

    Args:
      folder: created if it does not exist.
      plan: JSON values that determine the content of the arrays. A folder of another plan is refused, because its
        shards would not match.

    Raises:
      ConfigError: the folder has other content, or another plan; the message names the first difference.

    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> writer = ShardWriter(pathlib.Path(folder, "e"), {"encoder": "mine"})
    >>> writer.write(0, {"image": np.ones((2, 3)), "text": np.ones((2, 4)), "text_to_image": np.arange(2)})
    >>> writer.has(0), writer.has(1)
    (True, False)
    >>> writer.finish(1)
    """

    def __init__(self, folder: pathlib.Path, plan: Mapping[str, Any]):
        self.folder = folder
        # Through JSON, so that the plan equals itself when it is read back.
        self._plan = json.loads(json.dumps(dict(plan)))
        self.finished = self.is_finished(folder)
        if folder.exists() and not folder.is_dir():
            raise ConfigError(f"{folder}: it is a file; give another --out")
        before = _read_json(folder / (MANIFEST if self.finished else _PLAN))
        if before is None:
            if folder.is_dir() and any(folder.iterdir()):
                raise ConfigError(f"{folder}: not an embeddings folder; give another --out")
            folder.mkdir(parents=True, exist_ok=True)
            write_json_atomic(folder / _PLAN, self._plan)
            return
        old = before.get("plan", {}) if self.finished else before
        for key in {**old, **self._plan}:
            if old.get(key) != self._plan.get(key):
                raise ConfigError(
                    f"{folder}: was written with {key} = {old.get(key)!r}, now it is {self._plan.get(key)!r}; "
                    "give another --out, or remove the folder to start again"
                )

    @staticmethod
    def is_started(folder: pathlib.Path) -> bool:
        """Whether a writer has written its plan there."""
        return (folder / _PLAN).is_file() or ShardWriter.is_finished(folder)

    @staticmethod
    def is_finished(folder: pathlib.Path) -> bool:
        """Whether the folder can be read."""
        return (folder / MANIFEST).is_file()

    def has(self, number: int) -> bool:
        """Whether this shard is complete."""
        return self.finished or (self.folder / _name(number) / _SHARD).is_file()

    def write(self, number: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Writes one shard, whole or not at all.

        Args:
          number: of the shard, from 0.
          arrays: as in `embeddings:FILE.npz`, generic names (`a`, `b`, `b_to_a`) included; `text_to_image` indexes
            the rows of this shard. Text is stored as UTF-8.

        Raises:
          DataError: an array is missing or occurs under both of its names, or an embedding is not finite in its dtype.
        """
        name = _name(number)
        arrays = with_own_names(arrays, where=f"{self.folder}, shard {name}")
        if "text_to_image" not in arrays:
            raise DataError(f"{self.folder}, shard {name}: no array 'text_to_image' (or 'b_to_a')")
        partial = self.folder / f".{name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        files = {}
        for key, value in arrays.items():
            array = np.asarray(value)
            if array.dtype.kind == "U":
                array = np.char.encode(array, "utf-8")
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                row = int(np.flatnonzero(~np.isfinite(array).reshape(len(array), -1).all(axis=1))[0])
                raise DataError(f"{self.folder}: {key} row {row} of shard {name} is not finite in {array.dtype}")
            path = partial / f"{key}.npy"
            with open_atomic(path) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)
            files[key] = {"path": f"{name}/{key}.npy", "bytes": path.stat().st_size, "blake2b": digest_of(path)}
        entry = {"name": name, "rows_a": len(arrays["image"]), "rows_b": len(arrays["text"]), "files": files}
        write_json_atomic(partial / _SHARD, entry)
        shutil.rmtree(self.folder / name, ignore_errors=True)
        partial.replace(self.folder / name)

    def finish(self, count: int) -> None:
        """Writes the manifest of shards 0 to count - 1; then the folder can be read.

        Raises:
          DataError: a shard is missing.
        """
        if self.finished:
            return
        entries = [_read_json(self.folder / _name(number) / _SHARD) for number in range(count)]
        for number, entry in enumerate(entries):
            if entry is None:
                raise DataError(f"{self.folder}: shard {_name(number)} is missing")
        manifest = {"format": FORMAT, "version": VERSION, "plan": self._plan, "shards": entries}
        write_json_atomic(self.folder / MANIFEST, manifest)
        (self.folder / _PLAN).unlink(missing_ok=True)
        self.finished = True


def _name(number: int) -> str:
    return f"{number:05d}"


def _read_json(path: pathlib.Path) -> Any:
    """The value, or None if the file does not exist."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
