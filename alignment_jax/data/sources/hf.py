"""`hf:DIR` or `hf:NAME`: a data set that Hugging Face's `datasets` saved (`save_to_disk`) or has in its cache.

  [,image=COL][,caption=COL][,label=COL]  the columns; default: the one of type Image, and the texts (one, a list, or
                                          caption_1, caption_2, ...) with common names, or the only text column
  [,split=S+T]                            only these splits
  [,config=NAME][,cache_dir=DIR]          for data sets in the cache
  [,root=DIR]                             folder of images that are not in the data set

For images with classes (ClassLabel) and no texts, the class names are the texts, as in `labelled`. The Arrow files are
memory-mapped, without the library and without downloads.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from alignment_jax.core.errors import ConfigError, DataError
from alignment_jax.core.optional import require
from alignment_jax.data.arrow_files import ArrowFiles, ArrowSplit, cache_folder, find_cached, saved_splits
from alignment_jax.data.bad_samples import BadSamples
from alignment_jax.data.columns import ImageFile
from alignment_jax.data.confined_folder import Folder
from alignment_jax.data.hf_columns import Columns, find_columns
from alignment_jax.data.record_fields import RecordField
from alignment_jax.data.sources.captioned import Caption, captioned_source
from alignment_jax.data.sources.labelled import labelled_image_source
from alignment_jax.data.spec import path_and_options
from alignment_jax.data.split import PairSource, canonical_split

OPTIONS = dict.fromkeys(("image", "caption", "label", "split", "config", "cache_dir", "root"), "")


def load(argument: str, *, seed: int = 0, on_bad_sample: str = "error") -> PairSource:
    """Opens a saved or cached data set; see the module docstring.

    Arguments and errors are those of `data.load`.
    """
    name, options = path_and_options(argument, OPTIONS, what="hf")
    folder = pathlib.Path(name)
    if not folder.is_dir():
        folder = find_cached(name, options["config"], cache_folder(options["cache_dir"]))
    splits, notes = _chosen(saved_splits(folder), options["split"], name)
    columns = find_columns(splits[0][1].features, folder, options)
    if any({column: each.features.get(column) for column in columns.used} != columns.used for _, each in splits):
        raise DataError(f"{folder}: its splits have different columns; choose one with ,split=NAME")
    bad = BadSamples(on_bad_sample)
    root = pathlib.Path(options["root"]).expanduser() if options["root"] else None
    rows = _Rows(splits, columns, root)
    captions = list(rows.captions())
    if not columns.captions:
        names = ", ".join(columns.label_names[:4])
        notes.append(f"no texts: the text of an image is its class name ({columns.label}: {names}, ...)")
        return labelled_image_source(captions, find=rows.find, name=str(folder), bad=bad, notes=notes)
    notes += columns.notes
    source = captioned_source(captions, find=rows.find, name=str(folder), bad=bad, notes=notes)
    return _with_labels(source, rows) if columns.label else source


class _Rows:
    """The rows of all splits, each with a unique name ("train/0")."""

    def __init__(
        self, splits: list[tuple[str | None, ArrowSplit]], columns: Columns, root: pathlib.Path | None
    ) -> None:
        self._splits = {each.name or "row": (split, each) for split, each in splits}
        self._columns = columns
        self._files = {name: ArrowFiles(each.table[columns.image]) for name, (_, each) in self._splits.items()}
        self._sizes = {name: _sizes(each.table[columns.image]) for name, (_, each) in self._splits.items()}
        self._folders = {name: Folder(root or each.folder, option="root") for name, (_, each) in self._splits.items()}

    def captions(self) -> Iterator[Caption]:
        for name, (split, each) in self._splits.items():
            chosen = self._columns.captions or [self._columns.label]
            cells = [each.table[column].to_pylist() for column in chosen]
            for row, values in enumerate(zip(*cells, strict=True)):
                where = f"{each.folder}, row {row}"
                for text in self._columns.texts(values) or [""]:
                    yield Caption(f"{name}/{row}", text, split, where)

    def find(self, item: str, *, where: str) -> ImageFile:
        name, _, number = item.rpartition("/")
        row, size = int(number), self._sizes[name][int(number)]
        each = self._splits[name][1]
        if size:
            return RecordField(self._files[name], row, "file", f"{each.folder}", int(size))
        value = each.table[self._columns.image][row].as_py()
        path = value.get("path") if isinstance(value, dict) else value
        if not path:
            raise DataError(f"{where}: no image")
        return self._folders[name].find(path, where=where)

    def label_of(self, item: str) -> int:
        name, _, number = item.rpartition("/")
        value = self._splits[name][1].table[self._columns.label][int(number)].as_py()
        return -1 if value is None else int(value)

    @property
    def label_names(self) -> tuple[str, ...]:
        return self._columns.label_names


def _with_labels(source: PairSource, rows: _Rows) -> PairSource:
    """Adds the classes, if every image has one."""
    found = {
        name: np.array([rows.label_of(str(item)) for item in split.ids], np.int32)
        for name, split in source.splits.items()
    }
    if any((each < 0).any() for each in found.values()):
        return dataclasses.replace(source, notes=(*source.notes, "unused classes: some images have none"))
    splits = {name: split.replace(label=found[name]) for name, split in source.splits.items()}
    return dataclasses.replace(source, splits=splits, label_names=rows.label_names)


def _chosen(found: list[ArrowSplit], wanted: str, name: str) -> tuple[list[tuple[str | None, ArrowSplit]], list[str]]:
    """The splits to read with their canonical names, and notes; a single split has no split information."""
    known = [each.name for each in found]
    names = wanted.split("+") if wanted else known
    if unknown := [each for each in names if each not in known]:
        raise ConfigError(f"hf:{name}: no split {unknown[0]!r}; it has {', '.join(filter(None, known)) or 'no splits'}")
    chosen = [each for each in found if each.name in names]
    if len(chosen) == 1:
        return [(None, chosen[0])], []
    targets = [(canonical_split(each.name), each) for each in chosen]
    used: list[tuple[str | None, ArrowSplit]] = [(target, each) for target, each in targets if target is not None]
    if not used:
        raise ConfigError(f"hf:{name}: none of its splits {', '.join(names)} is train, val or test; write ,split=NAME")
    left = [each.name for target, each in targets if target is None]
    return used, [f"unused split {each!r}; write ,split={each} to use it" for each in left]


def _sizes(column: Any) -> np.ndarray:
    """Bytes of the file in each row, 0 for none."""
    arrow = require("pyarrow", extra="datasets", purpose="read data sets of Hugging Face")
    compute = require("pyarrow.compute", extra="datasets", purpose="read data sets of Hugging Face")
    content = compute.struct_field(column, "bytes") if arrow.types.is_struct(column.type) else column
    if not (arrow.types.is_binary(content.type) or arrow.types.is_large_binary(content.type)):
        return np.zeros(len(content), np.int64)  # only file names
    return compute.fill_null(compute.binary_length(content), 0).to_numpy()
