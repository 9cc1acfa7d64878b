"""`embeddings:FILE`: latents of both sides, with the pairs as an index.

Arrays: `image` [N, Da] and `text` [M, Db], or `a` and `b` for other modalities; `text_to_image` (`b_to_a`) int [M],
optional if N = M (row i belongs to row i); optional `image_id` [N], `caption` [M], `split` [N], `label`
[N] (whole numbers or text), `cluster_size` [M], and further views of the image [N, Da]: `image_flip`, `image_crop_1`,
`image_crop_2`, ...; their generic names are `a_id`, `b_text`, `b_cluster_size`, `a_flip`, `a_crop_1`. Latents without
partners, for methods that use them: `image_unpaired` [K, Da] and `text_unpaired` [L, Db] (`a_unpaired`, `b_unpaired`).
A side may be an array of texts, for an encoder that reads them beside latents: `embeddings:FILE,text=caption`.
`modalities` [2] names the two sides; `encoders` [] holds the records of the models (see `data.encoder_records`).
Arrays of Python objects (pickles) are refused. `text` may be [N, K, Db]: K texts per image. `array_names` lists the
array names of other tools, `embeddings_files` the other file formats. `embeddings:DIR` opens a folder of shards, see
`embeddings_folder`.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from alignment_jax.core.errors import ConfigError, DataError
from alignment_jax.core.storage import write_npz_atomic
from alignment_jax.data.array_names import OPTIONS as OPTIONS
from alignment_jax.data.array_names import VIEW, NamedArrays, match_arrays
from alignment_jax.data.bad_samples import BadSamples
from alignment_jax.data.class_labels import number_classes
from alignment_jax.data.columns import ArrayColumn, TextColumn
from alignment_jax.data.distinct_ids import all_distinct, row_ids
from alignment_jax.data.encoder_records import Records, by_side, from_array, to_array
from alignment_jax.data.npz_files import (
    check_unique,
    finite_rows,
    modality_names,
    optional_vector,
    split_names,
    text_vector,
)
from alignment_jax.data.sources.embeddings_files import holds_arrays, open_files, unused_notes
from alignment_jax.data.sources.embeddings_folder import load_folder
from alignment_jax.data.split import PairSource, PairSplit, split_by_name


def load(argument: str, *, seed: int = 0, on_bad_sample: str = "error") -> PairSource:
    """Opens an embeddings file; see the module docstring for the format.

    Args:
      argument: the path of the file or folder, or a file for each array, see `embeddings_files.open_files`.
      seed: not used.
      on_bad_sample: "skip" removes rows with NaN or infinity, and a-items without a remaining pair.

    Returns:
      The source. `extra_b["caption"]` holds the captions if the file does.

    Raises:
      DataError: the file is missing, damaged, holds pickles, or its arrays do not match.
    """
    path = pathlib.Path(argument)
    if path.is_dir() and not holds_arrays(path):
        return load_folder(path, spec=f"embeddings:{argument}", on_bad_sample=on_bad_sample)
    read, path = open_files(argument)
    return _source(read, path, spec=f"embeddings:{argument}", on_bad_sample=on_bad_sample)


def _source(read: NamedArrays, path: pathlib.Path, *, spec: str, on_bad_sample: str) -> PairSource:
    """The source of arrays that were read from `path`; raises what `load` raises."""
    arrays, modalities = _one_vector_a_row(path, read.arrays), read.modalities
    image, text = _items(path, arrays, "image"), _items(path, arrays, "text")
    n, m = len(image), len(text)
    owner = _owners(path, arrays, n, m)
    ids = optional_vector(path, arrays, "image_id", n)
    notes = unused_notes(read, path)
    ids = None if ids is None else text_vector(path, "image_id", ids)
    if ids is None or (
        "image_id" not in read.exact and not all_distinct(ids)
    ):  # image paths that occur in several rows
        ids = row_ids(n)
    else:
        check_unique(path, "image_id", ids)
    caption = optional_vector(path, arrays, "caption", m)
    cluster = optional_vector(path, arrays, "cluster_size", m)
    if cluster is not None and not (np.issubdtype(cluster.dtype, np.number) and (cluster >= 1).all()):
        raise DataError(f"{path}: cluster_size must hold numbers of at least 1")
    label = optional_vector(path, arrays, "label", n)
    if label is not None and label.dtype.kind not in "iuSU":
        raise DataError(f"{path}: label must hold whole numbers or text, got {label.dtype}")
    # Sorted, because views are sampled by number.
    views = {name: _embedding(path, arrays, name) for name in sorted(arrays) if VIEW.fullmatch(name)}
    for name, view in views.items():
        if view.shape != image.shape:
            raise DataError(f"{path}: {name} has shape {list(view.shape)}, image {list(image.shape)}")

    bad = BadSamples(on_bad_sample)
    good_a = _usable(path, "image", image, bad)
    for name, view in views.items():
        good_a &= finite_rows(path, name, view, bad)
    good_b = _usable(path, "text", text, bad)
    unpaired = _unpaired(path, arrays, {"image": image, "text": text}, bad)
    names = split_names(path, arrays, n, bad)
    if names is not None:
        good_a &= names != ""
    for row in np.flatnonzero(np.bincount(owner, minlength=n) == 0):
        bad.add(f"{path}: image row {row} has no text")
    problems = bad.finish()

    good_b &= good_a[owner]
    good_a &= np.bincount(owner[good_b], minlength=n) > 0
    good_b &= good_a[owner]
    rows_a, rows_b = np.flatnonzero(good_a), np.flatnonzero(good_b)
    if not len(rows_a):
        raise DataError(f"{path}: no usable pair")
    whole = PairSplit(
        a=_column(path, "image", image, views=tuple(views.values())).take(rows_a),
        b=_column(path, "text", text).take(rows_b),
        b_to_a=(np.cumsum(good_a) - 1)[owner[rows_b]],
        ids=ids if len(rows_a) == n else ids[rows_a],
        cluster_size_b=None if cluster is None else cluster[rows_b],
        extra_b={} if caption is None else {"caption": text_vector(path, "caption", caption)[rows_b]},
    )
    classes = None
    if label is not None:
        number, classes = number_classes(text_vector(path, "label", label)[rows_a].tolist())
        whole = whole.replace(label=number)
    splits, has_splits = split_by_name(whole, None if names is None else names[rows_a].tolist())
    sides = modality_names(path, arrays, modalities)
    found = PairSource(
        "embeddings",
        spec,
        splits,
        has_splits,
        problems,
        notes=tuple(notes),
        modalities=sides,
        encoders=by_side(from_array(path, arrays.get("encoders")), sides),
    )
    return dataclasses.replace(found, label_names=classes, unpaired=unpaired)


def save(
    path: str | pathlib.Path,
    *,
    image: np.ndarray,
    text: np.ndarray,
    text_to_image: np.ndarray,
    image_id: Sequence[str] | np.ndarray | None = None,
    caption: Sequence[str] | np.ndarray | None = None,
    split: Sequence[str] | np.ndarray | None = None,
    label: Sequence[str] | np.ndarray | None = None,
    cluster_size: np.ndarray | None = None,
    views: Mapping[str, np.ndarray] | None = None,
    encoders: Records | None = None,
    embedded_by: np.ndarray | None = None,
) -> None:
    """Writes an embeddings file for `load`, atomically.

    Args:
      path: output file, ending in .npz.
      image, text: [N, Da] and [M, Db], floating point, stored in their own dtype.
      text_to_image: int [M].
      image_id, caption, split: names [N], texts [M] (truncated to 1000 characters, because the file stores a fixed
        width), splits [N].
      label: class names or numbers [N].
      cluster_size: [M].
      views: further views of the images, each [N, Da]: "image_flip", "image_crop_1", ...
      encoders: "image", "text" -> JSON values of the encoder (`extract.Encoder.identity`).
      embedded_by: the model that made the vectors, see `data.embedding_record`.

    Raises:
      ConfigError: the path does not end in .npz, or its folder does not exist.
      DataError: the arrays do not match.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(f"{folder}/e.npz", image=np.eye(2), text=np.ones((3, 4)), text_to_image=np.array([0, 0, 1]))
    ...     source = load(f"{folder}/e.npz")
    >>> len(source.splits["all"].a), len(source.splits["all"].b)
    (2, 3)
    """
    path = pathlib.Path(path)
    if path.suffix != ".npz" or not path.parent.is_dir():
        raise ConfigError(f"{path}: give an .npz file in an existing folder")
    arrays = {"image": image, "text": text, "text_to_image": text_to_image}
    short = None if caption is None else [str(text)[:1000] for text in caption]
    names = {"image_id": image_id, "split": split, "caption": short}
    arrays |= {key: np.asarray(value, np.str_) for key, value in names.items() if value is not None}
    record = to_array(encoders) if encoders else None
    further = {"encoders": record, "label": label, "cluster_size": cluster_size, **(views or {})}
    further["embedded_by"] = embedded_by
    arrays |= {key: np.asarray(value) for key, value in further.items() if value is not None}
    arrays = {key: np.asarray(value) for key, value in arrays.items()}
    not_written = pathlib.Path(f"{path} (not written)")
    read = match_arrays(arrays, {}, where=str(not_written))
    _source(read, not_written, spec=f"embeddings:{path}", on_bad_sample="error")
    write_npz_atomic(path, arrays)


def _one_vector_a_row(path: pathlib.Path, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Reshapes `text` [N, K, D] to N * K rows and adds the index; removes axes of size one."""
    out = dict(arrays)
    for name in ("image", "text", *(name for name in arrays if VIEW.fullmatch(name))):
        if isinstance(out[name], np.ndarray) and out[name].ndim == 3 and out[name].shape[1] == 1:
            out[name] = out[name][:, 0]
    text = out["text"]
    if text.ndim != 3 or not isinstance(text, np.ndarray):
        return out
    count, each = text.shape[:2]
    if "text_to_image" in arrays:
        raise DataError(f"{path}: text has {each} vectors per row, so text_to_image is ambiguous; remove it")
    for name in ("text", "caption", "cluster_size"):
        if name in out and out[name].shape[:2] == (count, each):
            out[name] = out[name].reshape(count * each, *out[name].shape[2:])
    return {**out, "text_to_image": np.repeat(np.arange(count), each)}


def _items(path: pathlib.Path, arrays: dict[str, np.ndarray], name: str) -> np.ndarray:
    """A side: latents, or texts where the array holds them (`text=caption`)."""
    array = arrays[name]
    if array.ndim == 1 and array.dtype.kind in "SU":
        return text_vector(path, name, array)
    return _embedding(path, arrays, name)


def _usable(path: pathlib.Path, name: str, items: np.ndarray, bad: BadSamples) -> np.ndarray:
    return np.ones(len(items), bool) if items.dtype.kind == "U" else finite_rows(path, name, items, bad)


def _column(path: pathlib.Path, name: str, items: np.ndarray, *, views: tuple[np.ndarray, ...] = ()) -> Any:
    if items.dtype.kind != "U":
        return ArrayColumn(items, name=f"{path}: {name}", views=views)
    if views:
        raise DataError(f"{path}: {name} holds texts, which have no further views; remove the arrays of views")
    return TextColumn(tuple(items.tolist()))


def _embedding(path: pathlib.Path, arrays: dict[str, np.ndarray], name: str) -> np.ndarray:
    array = arrays[name]
    if array.ndim != 2 or 0 in array.shape:
        hint = f"; keep one vector per row: {name}.mean(axis=1)" if array.ndim > 2 and 0 not in array.shape else ""
        raise DataError(f"{path}: {name} must have shape [rows, dimensions], got {list(array.shape)}{hint}")
    if not np.issubdtype(array.dtype, np.floating):
        raise DataError(f"{path}: {name} must be floating point, got {array.dtype}; save {name}.astype('float32')")
    return array


def _unpaired(
    path: pathlib.Path, arrays: dict[str, np.ndarray], paired: dict[str, np.ndarray], bad: BadSamples
) -> dict[str, ArrayColumn]:
    """Side (a, b) -> its latents without partners, where the file has them."""
    found = {}
    for side, name in (("a", "image"), ("b", "text")):
        own = f"{name}_unpaired"
        if own not in arrays:
            continue
        if paired[name].ndim == 1:
            raise DataError(f"{path}: {own} holds latents, but {name} is an array of texts; leave one of them out")
        width = paired[name].shape[1]
        array = _embedding(path, arrays, own)
        if array.shape[1] != width:
            raise DataError(f"{path}: {own} has {array.shape[1]} dimensions, but {name} has {width}")
        good = np.flatnonzero(finite_rows(path, own, array, bad))
        if not len(good):
            raise DataError(f"{path}: {own} has no usable row")
        found[side] = ArrayColumn(array, name=f"{path}: {own}").take(good)
    return found


def _owners(path: pathlib.Path, arrays: dict[str, np.ndarray], n: int, m: int) -> np.ndarray:
    owner = optional_vector(path, arrays, "text_to_image", m)
    if owner is None:
        if n != m:
            each = (
                ""
                if m % n
                else f"; if {m // n} consecutive texts belong to each image, save text.reshape({n}, {m // n}, -1)"
            )
            raise DataError(
                f"{path}: no text_to_image, but image has {n} rows, text {m}; only one-to-one pairs may omit it{each}"
            )
        return np.arange(n)
    if not np.issubdtype(owner.dtype, np.integer):
        raise DataError(f"{path}: text_to_image must hold integers, got {owner.dtype}")
    outside = np.flatnonzero((owner < 0) | (owner >= n))
    if outside.size:
        row = int(outside[0])
        raise DataError(
            f"{path}: text_to_image row {row} is {int(owner[row])}, but image has rows 0 to {n - 1} "
            f"({outside.size} such rows)"
        )
    return owner.astype(np.int64)
