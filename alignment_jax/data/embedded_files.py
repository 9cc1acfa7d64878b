"""Reads what `embed` wrote: an .npz file, or a folder of .npy or Parquet files."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from alignment_jax.core.errors import DataError
from alignment_jax.data.array_formats import read_named_arrays, read_parquet_arrays
from alignment_jax.data.array_names import EMBEDDED_BY
from alignment_jax.data.shards import map_array
from alignment_jax.data.vector_files import VECTOR, read_parquet_record

_SIDES = ("image", "text", "a", "b")
_OF_TEXTS = (VECTOR, "image_row", "caption")


def embedding_record(values: Mapping[str, Any]) -> np.ndarray:
    """The array `embedded_by` of a file of vectors: one JSON text.

    >>> embedding_record({"step": 3}).tolist()
    ['{"step": 3}']
    """
    return np.array([json.dumps(values, sort_keys=True)])


def is_embedded(path: pathlib.Path) -> bool:
    """Whether a path names files of vectors: an .npz or .parquet file, or a folder that `embed` wrote."""
    if path.is_dir():
        return any((path / f"{side}{end}").is_file() for side in _SIDES for end in (".npy", ".parquet"))
    return path.suffix.lower() in (".npz", ".parquet")


def read_embedded(path: pathlib.Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays, by the names of an embeddings file, and the record of the model ({} for none).

    Raises:
      DataError: a file is missing or damaged, or holds no vectors.

    >>> import tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "e.npz")
    >>> np.savez(path, image=np.eye(2), embedded_by=embedding_record({"step": 3}))
    >>> arrays, record = read_embedded(path)
    >>> sorted(arrays), record
    (['image'], {'step': 3})
    """
    arrays: dict[str, np.ndarray] = {}
    tables = sorted(path.glob("*.parquet")) if path.is_dir() else [path] if path.suffix.lower() == ".parquet" else []
    if tables:
        text = ""
        for table in tables:
            side, columns = table.stem, read_parquet_arrays(table)
            named = {VECTOR: side, "image_row": "text_to_image"}
            # The table of texts repeats names of images.
            arrays |= {
                named.get(name, name): column for name, column in columns.items() if side != "text" or name in _OF_TEXTS
            }
            text = text or read_parquet_record(table)
    else:
        arrays = (
            {file.stem: map_array(file) for file in path.glob("*.npy")} if path.is_dir() else read_named_arrays(path)
        )
        found = arrays.pop(EMBEDDED_BY, None)
        text = "" if found is None or not found.size else str(np.ravel(found)[0])
    if not any(arrays[side].ndim == 2 for side in _SIDES if side in arrays):
        raise DataError(f"{path}: no vectors (arrays {', '.join(_SIDES)}); write them with alignment-jax embed")
    try:
        record = json.loads(text) if text else {}
    except ValueError as error:
        raise DataError(f"{path}: {EMBEDDED_BY} is damaged ({error}); embed again with alignment-jax embed") from error
    return arrays, record if isinstance(record, dict) else {}
