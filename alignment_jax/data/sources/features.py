"""`features:FILE.npz`: feature arrays of two or three modalities with class labels.

Arrays: `a` [N, ...], `b` [N, ...], optional `c` [N, ...] (floating point; row i of each belongs to sample i), `label`
[N] (whole numbers or text), optional `split` [N], `id` [N], `modalities` (names of a, b and c) and `has_a`, `has_b`,
`has_c` bool [N] (whether a sample has that modality; the numbers of a missing one are not used, NaN included). Arrays
of Python objects (pickles) are refused.
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

    present = _present(path, arrays, found, n)
    found |= {name: _without_missing(found[name], has) for name, has in present.items()}
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
        present={name: has[rows] for name, has in present.items() if not has[rows].all()},
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


def _present(
    path: pathlib.Path, arrays: dict[str, np.ndarray], features: dict[str, np.ndarray], n: int
) -> dict[str, np.ndarray]:
    """Side -> bool [n], whether a sample has it, for the sides with an array `has_a` etc.

    Raises:
      DataError: such an array is not bool [n], belongs to no modality, or leaves a sample or a modality empty.
    """
    present = {}
    for name in _MODALITIES:
        has = optional_vector(path, arrays, f"has_{name}", n)
        if has is None:
            continue
        if name not in features:
            raise DataError(f"{path}: has_{name} belongs to no array {name}; add it, or leave has_{name} out")
        if has.dtype != bool:
            raise DataError(f"{path}: has_{name} must be bool, got {has.dtype}; save it with .astype(bool)")
        if not has.any():
            raise DataError(f"{path}: no sample has {name}; a classifier needs two modalities")
        present[name] = has
    empty = ~np.any([present.get(name, np.ones(n, bool)) for name in features], axis=0)
    if empty.any():
        raise DataError(
            f"{path}: row {int(empty.argmax())} has no modality ({int(empty.sum())} such rows); remove these rows"
        )
    return present


def _without_missing(array: np.ndarray, has: np.ndarray) -> np.ndarray:
    """The array with zeros in the rows of samples that lack it."""
    return np.where(has.reshape(-1, *[1] * (array.ndim - 1)), array, array.dtype.type(0))
