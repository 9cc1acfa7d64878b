"""Atomic writes of bytes, text, JSON, npz and folders: to a temporary name, flushed to disk, then renamed."""

from __future__ import annotations

import contextlib
import json
import math
import os
import pathlib
import secrets
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from typing import IO, Any

import numpy as np

from alignment_jax.core.errors import RunError, UserError

# A fixed date, the oldest of the zip format: the same arrays give the same bytes.
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)


@contextlib.contextmanager
def open_atomic(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Opens a file for writing; it replaces `path` only if the block ends without an error.

    The bytes go to a hidden file in the same folder, are flushed to disk, and the file is renamed to `path`. Readers
    get the old file or the new one; an interrupted write leaves the old one. Missing folders are created. Symbolic
    links are followed.

    Args:
      path: the file to write.

    Yields:
      A binary file object.

    Raises:
      RunError: the file cannot be written; the message names it and gives the system's reason.

    >>> import pathlib, tempfile
    >>> target = pathlib.Path(tempfile.mkdtemp()) / "new" / "a.bin"
    >>> with open_atomic(target) as file:
    ...     _ = file.write(b"whole")
    >>> target.read_bytes()
    b'whole'
    """
    target = pathlib.Path(os.path.realpath(path))
    temporary = _hidden_beside(target)
    try:
        with _named_errors(path):
            target.parent.mkdir(parents=True, exist_ok=True)
            # Not tempfile.mkstemp: only the owner could read its files, but reports are shared.
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            _put_in_place(temporary, target)
    finally:
        # It exists here only after an error.
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            temporary.unlink()


def check_new_folder(path: str | os.PathLike[str], *, setting: str = "") -> pathlib.Path:
    """The absolute path of a folder that `new_folder` can make.

    Args:
      path: it must not exist, or be an empty folder.
      setting: start of the message, as in "--out".

    Raises:
      UserError: `path` exists and is no empty folder, or its parent does not exist.
    """
    target, name = pathlib.Path(os.path.realpath(path)), f"{setting}={path}" if setting else os.fspath(path)
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise UserError(f"{name}: it exists and nothing is overwritten; name a new folder, or remove it first")
    if not target.parent.is_dir():
        raise UserError(f"{name}: {target.parent} does not exist; make it, or name another folder")
    return target


@contextlib.contextmanager
def new_folder(path: str | os.PathLike[str], *, setting: str = "") -> Iterator[pathlib.Path]:
    """A folder to fill; it gets the name `path` only if the block ends without an error.

    Args:
      path, setting: as for `check_new_folder`.

    Yields:
      A hidden folder beside `path`.

    Raises:
      UserError: as `check_new_folder`.
      RunError: the folder cannot be written.

    >>> import pathlib, tempfile
    >>> target = pathlib.Path(tempfile.mkdtemp()) / "new"
    >>> with new_folder(target) as folder:
    ...     _ = (folder / "a.txt").write_text("whole")
    >>> (target / "a.txt").read_text()
    'whole'
    """
    target = check_new_folder(path, setting=setting)
    temporary = _hidden_beside(target)
    try:
        with _named_errors(path):
            temporary.mkdir()
            yield temporary
            _put_in_place(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # it exists here only after an error


def _hidden_beside(target: pathlib.Path) -> pathlib.Path:
    """A new hidden name in the same folder."""
    return target.with_name(f".{target.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")


@contextlib.contextmanager
def _named_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Errors of the system become a RunError that names the path."""
    try:
        yield
    except OSError as error:
        raise RunError(
            f"cannot write {path}: {error.strerror or error}; check the folder and the free space"
        ) from error


def _put_in_place(temporary: pathlib.Path, target: pathlib.Path) -> None:
    """Gives a complete file or folder its name."""
    os.replace(temporary, target)
    _sync_folder(target.parent)


def _sync_folder(folder: pathlib.Path) -> None:
    """Makes the rename survive a power cut, where the system can open folders."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes_atomic(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes `data` to `path` atomically; see `open_atomic`."""
    with open_atomic(path) as file:
        file.write(data)


def write_text_atomic(path: str | os.PathLike[str], text: str) -> None:
    """Writes `text` to `path` in UTF-8, atomically; see `open_atomic`.

    Lone surrogates, as in file names of another encoding, become "?", so that such a name cannot fail a report.
    """
    write_bytes_atomic(path, text.encode("utf-8", "replace"))


def json_ready(value: Any) -> Any:
    """Converts NumPy values, tuples and paths to JSON types; non-finite numbers become null.

    JSON has no NaN and no Infinity; other readers reject Python's spelling of them.

    Args:
      value: None, bool, int, float, str, a path, a NumPy scalar or array (or anything `numpy.asarray` turns into one,
        such as a JAX array), or mappings, lists, tuples and sets of these.

    Returns:
      The same in dicts, lists, strings, numbers, booleans and None.

    Raises:
      ValueError: a value is of another type; the message names it.

    >>> json_ready({"loss": np.float32(0.5), "shape": (2, 3), "gap": float("nan")})
    {'loss': 0.5, 'shape': [2, 3], 'gap': None}
    """
    if value is None or isinstance(value, bool | str | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {str(key): json_ready(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_ready(item) for item in value]
    if isinstance(value, set | frozenset):
        return [json_ready(item) for item in sorted(value, key=str)]
    if hasattr(value, "dtype"):
        array = np.asarray(value)
        if array.dtype.kind in "biufU":
            return json_ready(array.tolist())
        # bfloat16 and the other formats from outside NumPy are of kind "V", and all of them are small floats.
        if array.dtype.kind == "V" and array.dtype.names is None:
            return json_ready(array.astype(np.float32).tolist())
    raise ValueError(f"a value of type {type(value).__name__} cannot be written as JSON: {value!r:.80}")


def write_json_atomic(path: str | os.PathLike[str], value: Any) -> None:
    """Writes `value` as indented, valid JSON, atomically; see `json_ready` and `open_atomic`."""
    write_text_atomic(path, json.dumps(json_ready(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_npz_atomic(path: str | os.PathLike[str], arrays: Mapping[str, Any], *, compressed: bool = False) -> None:
    """Writes arrays to an .npz file without pickles, atomically; the same arrays give the same bytes.

    Args:
      path: the file; no ".npz" is appended.
      arrays: name to array, of any shape and any dtype but `object`.
      compressed: deflate the arrays; slower to write and to read.

    Raises:
      ValueError: an array of Python objects, which would need a pickle; the message names it.
      RunError: the file cannot be written.

    >>> import pathlib, tempfile
    >>> target = pathlib.Path(tempfile.mkdtemp()) / "latents.npz"
    >>> write_npz_atomic(target, {"image": np.zeros((2, 3), np.float16), "image_id": np.array(["x", "y"])})
    >>> with np.load(target, allow_pickle=False) as stored:
    ...     sorted(stored.files), stored["image"].dtype
    (['image', 'image_id'], dtype('float16'))
    """
    ready = {name: np.asanyarray(array) for name, array in arrays.items()}
    for name, array in ready.items():
        if array.dtype.hasobject:
            raise ValueError(f"array {name!r} for {path} holds Python objects: give it a number or string dtype")
    method = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with open_atomic(path) as file, zipfile.ZipFile(file, "w") as archive:
        for name, array in ready.items():
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=_ZIP_DATE)
            entry.compress_type = method
            entry.external_attr = 0o644 << 16
            with archive.open(entry, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
