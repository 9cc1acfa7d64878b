"""Writes embeddings for vector indexes: an .npy file for each array, or a Parquet file for each side."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping

import numpy as np

from alignment_jax.core.optional import require
from alignment_jax.core.storage import open_atomic
from alignment_jax.data.array_names import EMBEDDED_BY

VECTOR = "vector"  # the column that vector databases look for


def write_npy_files(folder: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes NAME.npy for every array; `embeddings:DIR` reads the folder.

    Args:
      folder: it exists.
      arrays: by the names of an embeddings file; of both sides, or of one.

    Raises:
      RunError: a file cannot be written.

    >>> import tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> write_npy_files(folder, {"image": np.eye(2, dtype=np.float32)})
    >>> np.load(folder / "image.npy").shape
    (2, 2)
    """
    for name, array in arrays.items():
        with open_atomic(folder / f"{name}.npy") as file:
            np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)  # indexes map rows


def write_parquet_files(folder: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes SIDE.parquet for every side, one row an item, its embedding in the column `vector`.

    Columns beside `vector` (a list of fixed length), as far as the arrays hold them: `image_id` and `split` of images;
    `caption`, `image_row` (the row of its image in image.parquet), `image_id` and `split` of texts. `embedded_by`
    becomes metadata of the schema.

    Args:
      folder: it exists.
      arrays: by the names of an embeddings file; of both sides, or of one.

    Raises:
      MissingPackageError: pyarrow is not installed.
      RunError: a file cannot be written.

    >>> import tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> write_parquet_files(folder, {"text": np.eye(2, 3), "caption": np.array(["a dog", "a cat"])})
    >>> [path.name for path in folder.iterdir()]
    ['text.parquet']
    """
    pyarrow = require("pyarrow", extra="tables", purpose="write Parquet files")
    parquet = require("pyarrow.parquet", extra="tables", purpose="write Parquet files")
    owner, record = arrays.get("text_to_image"), arrays.get(EMBEDDED_BY)
    metadata = None if record is None else {EMBEDDED_BY: str(record[0])}
    columns = {
        side: {name: arrays[name] for name in (f"{side}_id", *further) if name in arrays}
        for side, further in {"image": ("split",), "text": ("caption",), "a": (), "b": ()}.items()
    }
    if owner is not None:
        columns["text"] |= {"image_row": owner, **{name: array[owner] for name, array in columns["image"].items()}}
    for side, others in columns.items():
        if side not in arrays:
            continue
        vectors = np.ascontiguousarray(arrays[side])
        fixed = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(vectors.ravel()), vectors.shape[1])
        table = {name: pyarrow.array(array.tolist()) for name, array in others.items()}
        with open_atomic(folder / f"{side}.parquet") as file:
            parquet.write_table(pyarrow.table({**table, VECTOR: fixed}, metadata=metadata), file)


def read_parquet_record(path: pathlib.Path) -> str:
    """The record of the model in a file of `write_parquet_files`; "" for none.

    Raises:
      MissingPackageError: pyarrow is not installed.
    """
    parquet = require("pyarrow.parquet", extra="tables", purpose="read Parquet files")
    metadata = parquet.read_schema(path).metadata or {}
    return metadata.get(EMBEDDED_BY.encode(), b"").decode("utf-8", "replace")
