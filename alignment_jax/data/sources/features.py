"""`features:FILE.npz`: feature arrays of two or three modalities with class labels.

Arrays: `a` [N, ...], `b` [N, ...], optional `c` [N, ...] (floating point; row i of each belongs to sample i), `label`
[N] (whole numbers or text), optional `split` [N], `id` [N] and `modalities` (names of a, b and c). Arrays of Python
objects (pickles) are refused.
"""

from __future__ import annotations

import pathlib

import numpy as np

from alignment_jax.core.errors import DataError
from alignment_jax.data.bad_samples import BadSamples
from alignment_jax.data.class_labels import number_classes
from alignment_jax.data.columns import ArrayColumn
from alignment_jax.data.npz_files import (
    check_unique,
    finite_rows,
    modality_names,
    optional_vector,
    read_archive,
    split_names,
    text_vector,
)
from alignment_jax.data.split import PairSource, PairSplit, split_by_name

_MODALITIES = ("a", "b", "c")


def load(argument: str, *, seed: int = 0, on_bad_sample: str = "error") -> PairSource:
    """Opens a features file; see the module docstring for the format.

    Args:
      argument: the path.
      seed: not used.
      on_bad_sample: "skip" removes rows with NaN or infinity.

    Returns:
      The source; b-item i belongs to a-item i, and `split.c` is the third modality or None.

    Raises:
      DataError: the file is missing, damaged, holds pickles, or its arrays do not match.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(f"{folder}/f.npz", a=np.ones((4, 3)), b=np.ones((4, 2)), c=np.ones((4, 5)), label=[0, 1, 1, 0])
    ...     split = load(f"{folder}/f.npz").splits["all"]
    >>> split.label.tolist(), split.c.read(np.array([1])).shape
    ([0, 1, 1, 0], (1, 5))
    """
    path = pathlib.Path(argument)
    arrays = read_archive(path)
    for name in ("a", "b", "label"):
        if name not in arrays:
            hint = f"; to align two sides without labels write embeddings:{path}" if name == "label" else ""
            raise DataError(f"{path}: no array {name!r}; it has {', '.join(sorted(arrays)) or 'nothing'}{hint}")
    found = {name: _features(path, name, arrays[name]) for name in _MODALITIES if name in arrays}
    n = len(found["a"])
    for name, array in found.items():
        if len(array) != n:
            raise DataError(f"{path}: {name} has {len(array)} rows, a has {n}; row i of each belongs to sample i")
    label = optional_vector(path, arrays, "label", n)
    assert label is not None
    if not (np.issubdtype(label.dtype, np.integer) or label.dtype.kind in "SU"):
        raise DataError(f"{path}: label must hold whole numbers or text, got {label.dtype}")
    ids = optional_vector(path, arrays, "id", n)
    ids = np.arange(n).astype(str) if ids is None else text_vector(path, "id", ids)
    check_unique(path, "id", ids)

    bad = BadSamples(on_bad_sample)
    good = np.ones(n, bool)
    for name, array in found.items():
        good &= finite_rows(path, name, array, bad, zeros=True)
    names = split_names(path, arrays, n, bad)
    if names is not None:
        good &= names != ""
    problems = bad.finish()
    rows = np.flatnonzero(good)
    if not len(rows):
        raise DataError(f"{path}: no usable sample")
    columns = {name: ArrayColumn(array, name=f"{path}: {name}").take(rows) for name, array in found.items()}
    number, classes = number_classes(text_vector(path, "label", label)[rows].tolist())
    whole = PairSplit(
        a=columns["a"],
        b=columns["b"],
        c=columns.get("c"),
        b_to_a=np.arange(len(rows), dtype=np.int32),
        ids=ids[rows],
        label=number,
    )
    splits, has_splits = split_by_name(whole, None if names is None else names[rows].tolist())
    return PairSource(
        "features",
        f"features:{argument}",
        splits,
        has_splits,
        problems,
        label_names=classes,
        modalities=modality_names(path, arrays, tuple(found)),
    )


def _features(path: pathlib.Path, name: str, array: np.ndarray) -> np.ndarray:
    if array.ndim < 2 or 0 in array.shape:
        raise DataError(f"{path}: {name} must have shape [rows, dimensions, ...], got {list(array.shape)}")
    if not np.issubdtype(array.dtype, np.floating):
        raise DataError(f"{path}: {name} must be floating point, got {array.dtype}")
    return array
