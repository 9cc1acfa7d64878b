"""Opens items of one modality without pairs: images, texts, or latents."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from alignment_jax.core.errors import ConfigError, DataError
from alignment_jax.data.array_formats import read_named_arrays
from alignment_jax.data.bad_samples import BadSamples
from alignment_jax.data.column_roles import is_known
from alignment_jax.data.columns import ArrayColumn, ImageColumn, ImageFile, TextColumn
from alignment_jax.data.confined_folder import Folder
from alignment_jax.data.folder_files import files_below, is_image
from alignment_jax.data.manifest_rows import ManifestRow, read_manifest
from alignment_jax.data.npz_files import finite_rows, text_vector
from alignment_jax.data.shards import map_array
from alignment_jax.data.sources.pairs import row_captions
from alignment_jax.data.spec import path_and_options
from alignment_jax.data.split import Column
from alignment_jax.data.table_files import open_table
from alignment_jax.data.text_files import read_text_lines
from alignment_jax.data.unsupported_files import refuse_unsupported
from alignment_jax.data.validation import decoding_errors

ONE_SIDE = {
    "images": "images:DIR, images:FILE (names or a table)[,image=COL][,root=DIR]",
    "texts": "texts:FILE (lines or a table)[,text=COL]",
    "latents": "latents:FILE.npy, or FILE.npz, .safetensors or .parquet[,array=NAME][,side=a or b]",
}
_SIDES = {"a": "a", "b": "b", "image": "a", "text": "b"}
_FILE_OPTIONS = {"encoding": "", "sheet": ""}


class OneSide(NamedTuple):
    """Items of one kind.

    Attributes:
      spec: their SPEC.
      column: the k items.
      names: str [k], files, rows or lines.
      side: "a" or "b" if the data names it, else "".
      notes, problems: as in `PairSource`.
    """

    spec: str
    column: Column
    names: np.ndarray
    side: str
    notes: tuple[str, ...]
    problems: tuple[str, ...]


def is_one_side(spec: str) -> bool:
    """Whether a SPEC names items of one modality.

    >>> is_one_side("images:photos"), is_one_side("pairs:a.csv")
    (True, False)
    """
    return spec.partition(":")[0] in ONE_SIDE


def load_one_side(spec: str, *, on_bad_sample: str = "error") -> OneSide:
    """Opens items of one modality; `ONE_SIDE` lists the forms of a SPEC.

    Args:
      spec: `images:...`, `texts:...` or `latents:...`.
      on_bad_sample: "error" or "skip", see `data.load`; "skip" decodes every image once.

    Raises:
      ConfigError: the SPEC is malformed.
      DataError: a file is missing or unreadable, or, with "error", an item is bad.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = pathlib.Path(folder, "lines.txt").write_text("a dog\\na cat\\n")
    ...     found = load_one_side(f"texts:{folder}/lines.txt")
    >>> found.column.read(np.arange(2)), found.names.tolist()
    (['a dog', 'a cat'], ['line 1', 'line 2'])
    """
    name, _, argument = spec.partition(":")
    if name not in ONE_SIDE or not argument:
        raise ConfigError(f"{spec!r}: the form is {ONE_SIDE.get(name) or ' or '.join(ONE_SIDE.values())}")
    bad = BadSamples(on_bad_sample)
    items = _OPENERS[name](os.path.expanduser(argument), bad)
    column, names = items.column, np.asarray(items.names, np.str_)
    if bad.skip and (found := dict(decoding_errors(column))):
        for line in found.values():
            bad.add(line)
        good = np.array([i for i in range(len(column)) if i not in found], np.int64)
        column, names = column.take(good), names[good]
    problems = bad.finish()
    if not len(column):
        raise DataError(f"{spec}: no usable item{f'; first problem: {problems[0]}' if problems else ''}")
    return OneSide(spec, column, names, items.side, tuple(items.notes), problems)


class _Items(NamedTuple):
    column: Column
    names: Sequence[str] | np.ndarray
    side: str = ""
    notes: Sequence[str] = ()


def _images(argument: str, bad: BadSamples) -> _Items:
    name, options = path_and_options(argument, {"image": "", "root": "", **_FILE_OPTIONS}, what="images")
    path = pathlib.Path(name)
    notes: Sequence[str] = ()
    if path.is_dir():
        folder = Folder(path)
        wanted = [(each.as_posix(), str(path / each)) for each in files_below(path) if is_image(each)]
        if not wanted:
            raise DataError(f"{path}: no images (jpg, png, webp, ...); name the folder of the images")
        stored: dict[str, ImageFile] = {}
    elif is_image(path):
        folder, wanted, stored = Folder(path.parent), [(path.name, str(path))], {}
    else:
        root = pathlib.Path(options["root"]).expanduser() if options["root"] else path.parent
        folder, stored = Folder(root, option="root", table=path.parent), {}
        rows, notes = _rows(path, "image", options, bad)
        wanted = [(row.values["image"], row.where) for row in rows]
        stored = {row.values["image"]: row.files["image"] for row in rows if "image" in row.files}
    names, files, origins = [], [], []
    for each, where in wanted:
        try:
            files.append(stored.get(each) or folder.find(each, where=where))
        except DataError as error:
            bad.add(str(error))
            continue
        names.append(each)
        origins.append(where)
    return _Items(ImageColumn(tuple(files), None if path.is_dir() else tuple(origins)), names, notes=notes)


def _texts(argument: str, bad: BadSamples) -> _Items:
    name, options = path_and_options(argument, {"text": "", **_FILE_OPTIONS}, what="texts")
    path = pathlib.Path(name)
    if path.is_dir():
        raise DataError(f"{path}: a folder; name a file with one text per line, or a table")
    rows, notes = _rows(path, "text", options, bad)
    texts, names, origins = [], [], []
    for row in rows:
        as_caption = row._replace(values={"caption": row.values["text"]}, more={"caption": row.more.get("text", ())})
        for text in row_captions(as_caption):
            if not text:
                bad.add(f"{row.where}: empty text")
                continue
            texts.append(text)
            names.append(row.where.removeprefix(f"{path}, "))
            origins.append(row.where)
    return _Items(TextColumn(tuple(texts), tuple(origins)), names, notes=notes)


def _rows(
    path: pathlib.Path, role: str, options: Mapping[str, str], bad: BadSamples
) -> tuple[list[ManifestRow], Sequence[str]]:
    """The rows of a table, or the lines of a text file; a table of one column may have any column name."""
    if path.suffix.lower() == ".txt" and not any(options.values()):
        lines = [(" ".join(line.split()), number) for number, line in enumerate(read_text_lines(path), start=1)]
        return [ManifestRow({role: line}, f"{path}, line {number}") for line, number in lines if line], ()
    named = {role: options[role]} if options[role] else {}
    if not named:
        header = open_table(
            path, known=lambda name: is_known(name, [role], {}), encoding=options["encoding"], sheet=options["sheet"]
        ).header
        if len(header) == 1 and header[0]:
            named = {role: header[0]}
    read = read_manifest(
        path, required=(role,), bad=bad, named=named, encoding=options["encoding"], sheet=options["sheet"]
    )
    left = [f"{path}: unused columns: {', '.join(read.others)}"] if read.others else []
    return read.rows, [*read.notes, *left]


def _latents(argument: str, bad: BadSamples) -> _Items:
    name, options = path_and_options(argument, {"array": "", "side": ""}, what="latents")
    path = pathlib.Path(name)
    if options["side"] not in ("", *_SIDES):
        raise ConfigError(f"latents: side={options['side']}; it must be a or b (first or second modality)")
    ids, chosen = None, options["array"]
    suffix = path.suffix.lower()
    if path.is_file():
        refuse_unsupported(path)
    if suffix == ".npy":
        if chosen:
            raise ConfigError(f"{path}: array={chosen} is for files of several arrays; remove it")
        array = map_array(path)
    elif suffix in (".npz", ".safetensors", ".parquet", ".pq"):
        arrays = read_named_arrays(path)
        tables = [each for each, found in arrays.items() if found.ndim == 2 and found.dtype.kind == "f"]
        if chosen and chosen not in arrays:
            raise DataError(f"{path}: no array {chosen!r}; it has {', '.join(sorted(arrays)) or 'nothing'}")
        if not chosen and len(tables) != 1:
            write = " or ".join(f",array={each}" for each in sorted(tables)[:4])
            what = f"several arrays of latents; write {write}" if tables else "no array [rows, dimensions] of numbers"
            raise DataError(f"{path}: {what}")
        chosen = chosen or tables[0]
        array = arrays[chosen]
        ids = next((arrays[each] for each in (f"{chosen}_id", "id", "ids") if each in arrays), None)
    else:
        raise DataError(
            f"{path}: latents must be a .npy, .npz, .safetensors or .parquet file; save them with numpy.save"
        )
    if array.ndim != 2 or 0 in array.shape or not np.issubdtype(array.dtype, np.floating):
        raise DataError(f"{path}: expected floating point [rows, dimensions], found {array.dtype} {list(array.shape)}")
    if ids is not None and ids.shape != (len(array),):
        raise DataError(f"{path}: the names have shape {list(ids.shape)}, but the latents {len(array)} rows")
    names = np.arange(len(array)).astype(str) if ids is None else text_vector(path, "id", ids)
    good = np.flatnonzero(finite_rows(path, chosen or "array", array, bad))
    side = _SIDES.get(options["side"] or chosen, "")
    return _Items(ArrayColumn(array, name=str(path)).take(good), names[good], side)


_OPENERS: dict[str, Callable[[str, BadSamples], _Items]] = {"images": _images, "texts": _texts, "latents": _latents}
