"""Reads the named arrays of a file: .npz, .safetensors, or the columns of a Parquet file. Writes .safetensors."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from alignment_jax.core.errors import DataError
from alignment_jax.core.optional import require
from alignment_jax.core.storage import open_atomic
from alignment_jax.data.npz_files import read_archive

_DTYPES = {
    **{f"F{bits}": f"<f{bits // 8}" for bits in (16, 32, 64)},
    **{f"I{bits}": f"<i{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"U{bits}": f"<u{bits // 8}" for bits in (8, 16, 32, 64)},
    "BOOL": "?",
    "BF16": "<u2",
}


def read_named_arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads all arrays of a file by name; each column of a Parquet file is one array.

    Raises:
      DataError: the file is missing, damaged, or of another kind.
      MissingPackageError: a Parquet file without pyarrow.
    """
    if path.suffix.lower() in (".parquet", ".pq"):
        return read_parquet_arrays(path)
    return read_safetensors(path) if path.suffix.lower() == ".safetensors" else read_archive(path)


def read_safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads the tensors of a .safetensors file; bfloat16 becomes float32.

    The format: the length of the header in eight bytes, a JSON header (dtype, shape, offsets), the data.

    Raises:
      DataError: the file is missing or damaged.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    content = np.memmap(path, np.uint8, "r") if path.stat().st_size else np.zeros(0, np.uint8)
    arrays = {}
    try:
        start = 8 + int.from_bytes(content[:8].tobytes(), "little")
        header = json.loads(content[8:start].tobytes())
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            first, last = entry["data_offsets"]
            flat = content[start + first : start + last].view(_DTYPES[entry["dtype"]])
            if entry["dtype"] == "BF16":  # the upper half of a float32
                flat = (flat.astype(np.uint32) << 16).view(np.float32)
            arrays[str(name)] = np.array(flat.reshape(entry["shape"]))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path}: not a complete .safetensors file; copy it again, or write it with safetensors.numpy.save_file"
        ) from error
    return arrays


def write_safetensors(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays of numbers to a .safetensors file, atomically; the same arrays give the same bytes.

    Args:
      path: the file.
      arrays: by name; bfloat16 is stored as such.

    Raises:
      ValueError: an array has a dtype that the format lacks; the message names it.
      RunError: the file cannot be written.

    >>> import tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "w.safetensors"
    >>> write_safetensors(path, {"kernel": np.eye(2, dtype=np.float32)})
    >>> read_safetensors(path)["kernel"].tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    known = {np.dtype(kind).str: name for name, kind in _DTYPES.items() if name != "BF16"}
    header: dict[str, Any] = {}
    start = 0
    ready = {name: np.asarray(array) for name, array in sorted(arrays.items())}
    for name, array in ready.items():
        kind = "BF16" if array.dtype.name == "bfloat16" else known.get(array.dtype.newbyteorder("<").str)
        if kind is None:
            raise ValueError(f"array {name!r} for {path} has dtype {array.dtype}; give it a number dtype")
        end = start + array.nbytes
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the data begins at a multiple of 8
    with open_atomic(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array in ready.values():
            file.write(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())


def read_parquet_arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads the columns of a Parquet file that hold numbers, texts, or lists of one length of them.

    Returns:
      Column -> [N], [N, D], or [N, K, D] for lists of lists; columns of other types are left out.

    Raises:
      DataError: the file is missing or damaged, or lists of a column differ in length.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    parquet = require("pyarrow.parquet", extra="tables", purpose="read Parquet files")
    try:
        table = parquet.read_table(path)
    except Exception as error:  # pyarrow's errors have no common base class
        raise DataError(f"{path}: not a complete Parquet file; copy it or write it again") from error
    arrays = {name: _parquet_column(path, name, table.column(name)) for name in table.column_names}
    return {name: array for name, array in arrays.items() if array is not None}


def _parquet_column(path: pathlib.Path, name: str, column: Any) -> np.ndarray | None:
    types = require("pyarrow.types", extra="tables", purpose="read Parquet files")
    kind, depth = column.type, 0
    while types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        kind, depth = kind.value_type, depth + 1
    text = types.is_string(kind) or types.is_large_string(kind)
    if not (text or types.is_integer(kind) or types.is_floating(kind)):
        return None
    values, shape = column.combine_chunks(), [len(column)]
    for _ in range(depth):
        found = values.value_lengths().to_numpy(zero_copy_only=False)
        empty, first = values.null_count, found[0] if len(found) else 0
        other = np.flatnonzero(~(found == first))  # a missing list has no length
        if empty or other.size:
            row = int(other[0]) if other.size else 0
            row = row if len(shape) == 1 else row // int(np.prod(shape[1:]))
            raise DataError(
                f"{path}: the lists in column {name!r} have different lengths, first in row {row}; use one length, or "
                "one row per element"
            )
        shape.append(int(first))
        values = values.flatten()
    if text:
        return np.array([value or "" for value in values.to_pylist()], np.str_).reshape(shape)
    return values.to_numpy(zero_copy_only=False).reshape(shape)
