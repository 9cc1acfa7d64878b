"""Opens what `search` searches: files of vectors, folders of pictures, data sets, and the run's own data."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from alignment_jax import data
from alignment_jax.core.errors import DataError, UserError, one_line
from alignment_jax.data.confined_folder import Folder
from alignment_jax.inference.aligner import Aligner
from alignment_jax.inference.embedding_record import check_record
from alignment_jax.inference.query_bank import RunHubness, asked_hubness
from alignment_jax.inference.search_index import SearchIndex
from alignment_jax.inference.trained_model import open_source

_ARRAYS = {"a": ("image", "a"), "b": ("text", "b")}  # side -> names of its vectors in a file
_CHUNK = 512  # items between two calls of on_progress
_LENGTH_ERROR = 1e-2  # of vectors of length one
PICTURE_SIDE = 320  # shorter side, pixels of a picture on the page
Reader = Callable[[Sequence[int]], Mapping[int, np.ndarray]]
OnCount = Callable[[int, int], None]  # (done, total)


def no_count(done: int, total: int) -> None:
    """The default `OnCount`: does nothing."""


@dataclasses.dataclass(frozen=True)
class Collection:
    """Items to search, before they are embedded.

    sides: of the items that there are.
    index: (side, on_count) -> the items of that side.
    notes: lines for the user.
    """

    sides: tuple[str, ...]
    index: Callable[[str, OnCount], SearchIndex]
    notes: tuple[str, ...] = ()


def open_collection(
    aligner: Aligner, where: str | None = None, *, pictures: str | None = None, on_bad_sample: str | None = None
) -> Collection:
    """Opens items to search.

    Args:
      aligner: the run.
      where: an .npz file or a folder that `embed` wrote; a folder of pictures; or a SPEC of data to embed, such as
        "images:DIR", "texts:FILE" or "pairs:FILE.csv". None for the data of the run.
      pictures: folder that the names of the items are relative to, to show them.
      on_bad_sample: "error" or "skip"; None for the setting of the run.

    Raises:
      UserError: there is nothing of this name, or the data of the run is not there.
      DataError: the files are damaged, or another run embedded them.
    """
    if where is None:
        try:
            _, source = open_source(aligner.folder, None, on_bad_sample=on_bad_sample)
        except UserError as error:
            raise type(error)(
                f"the data of the run cannot be opened ({error}); name what to search: --in=FILE.npz of alignment-jax "
                "embed, or --in=FOLDER of pictures"
            ) from error
        return _of_source(aligner, source, pictures)
    path = pathlib.Path(where).expanduser()
    if path.exists():
        if data.is_embedded(path):
            return _of_files(aligner, path, pictures)
        if path.is_dir():
            return _of_items(aligner, f"images:{path}", on_bad_sample)
        raise UserError(f"--in={where}: it must be an .npz file, a folder, or a SPEC such as images:DIR or texts:FILE")
    if data.is_one_side(where):
        return _of_items(aligner, where, on_bad_sample)
    if where.partition(":")[0] in data.SOURCES and ":" in where:
        _, source = open_source(aligner.folder, where, on_bad_sample=on_bad_sample)
        return _of_source(aligner, source, pictures)
    raise UserError(f"--in={where}: no such file or folder")


def open_index(
    aligner: Aligner,
    where: str | None = None,
    *,
    side: str = "a",
    hubness: bool | str = False,
    pictures: str | None = None,
    on_count: OnCount = no_count,
) -> SearchIndex:
    """The items of one side, embedded. Embed once and keep the index; a search in it takes milliseconds.

    Args:
      aligner: the run.
      where, pictures: see `open_collection`.
      side: "a" or "b".
      hubness: the correction of hubs, as for `Aligner`; False for that of the file, if it has one.
      on_count: called while items are embedded.

    Raises:
      UserError, DataError: see `open_collection`; or there are no items of this side.
    """
    collection = open_collection(aligner, where, pictures=pictures)
    if side not in collection.sides:
        raise UserError(f"there are no items of side {side} in {where}; it has side {' and '.join(collection.sides)}")
    found = asked_hubness(aligner.folder, hubness, step=aligner.step)
    return with_hubness(aligner, collection.index(side, on_count), found)


def with_hubness(aligner: Aligner, index: SearchIndex, hubness: RunHubness | None) -> SearchIndex:
    """The index with the bias of this correction; unchanged for None."""
    if not hubness or not hubness.correction:
        return index
    bank = aligner.trained.drop_unused(hubness.bank.b if index.side == "a" else hubness.bank.a)
    bias = np.asarray(hubness.correction.bias(index.vectors, bank))
    return dataclasses.replace(index, bias=bias, correction=str(hubness.correction))


def _of_files(aligner: Aligner, path: pathlib.Path, pictures: str | None) -> Collection:
    arrays, record = data.read_embedded(path)
    check_record(record, aligner.trained, path)
    names = {side: next((name for name in own if name in arrays), "") for side, own in _ARRAYS.items()}

    def index(side: str, on_count: OnCount) -> SearchIndex:
        name = names[side]
        vectors, bias = _unfolded(np.asarray(arrays[name], np.float32), side, aligner.dim, path, name)
        count = len(vectors)
        ids = np.asarray(arrays.get(f"{name}_id", np.arange(count))).astype(str)
        captions, owner = arrays.get("caption"), arrays.get("text_to_image")
        if side == "b" and captions is not None:
            found = SearchIndex(side, vectors, [str(text) for text in captions])
            if owner is not None and "image_id" in arrays:
                found = dataclasses.replace(found, captions=[f"of {arrays['image_id'][row]}" for row in owner])
        else:
            texts = None if captions is None or owner is None else _first_texts(captions, owner, count)
            reader = _pictures_by_name(ids, pathlib.Path(pictures).expanduser() if pictures else None, path)
            found = SearchIndex(side, vectors, ids.tolist(), texts, pictures=reader if side == "a" else None)
        return dataclasses.replace(
            found, bias=bias, correction=str(record.get("hubness", "")) if bias is not None else "", origin=str(path)
        )

    return Collection(tuple(side for side, name in names.items() if name), index)


def _unfolded(
    vectors: np.ndarray, side: str, dim: int, path: pathlib.Path, name: str
) -> tuple[np.ndarray, np.ndarray | None]:
    """(vectors of length one, bias of a correction or None) of what `embed` wrote."""
    if vectors.ndim != 2 or not len(vectors) or vectors.shape[1] not in (dim, dim + 2):
        raise DataError(
            f"{path}: {name} has shape {list(vectors.shape)}, but the run makes vectors of {dim} numbers; embed the "
            f"data with this run (alignment-jax embed), or search latents with --in=embeddings:{path}"
        )
    bias = None
    if vectors.shape[1] == dim + 2:  # evals.fold_side: [z, -bias, 1] for side a, [z, 1, -bias] for side b
        bias, vectors = -vectors[:, dim if side == "a" else dim + 1], vectors[:, :dim]
    length = np.linalg.norm(vectors, axis=1)
    off = np.flatnonzero(~(np.abs(length - 1) < _LENGTH_ERROR))
    if off.size:
        raise DataError(
            f"{path}: row {int(off[0])} of {name} has length {length[off[0]]:.3g}, not 1: it is no output of this run; "
            f"embed the data with alignment-jax embed, or search latents with --in=embeddings:{path}"
        )
    return np.ascontiguousarray(vectors), bias


def _of_items(aligner: Aligner, spec: str, on_bad_sample: str | None) -> Collection:
    """Pictures, texts or latents of one side, to embed."""
    how = on_bad_sample or str(aligner.config.input.on_bad_sample)
    items = data.load_one_side(spec, on_bad_sample=how)
    kind = items.column.kind
    side = items.side or (aligner.side_of(kind) if kind in ("image", "text") else "a")

    def index(side: str, on_count: OnCount) -> SearchIndex:
        names = [str(name) for name in items.names]
        if kind == "text":
            names = [str(text) for text in items.column.read(np.arange(len(items.column)))]
        found = SearchIndex(side, embed_in_chunks(aligner, side, items.column, on_count), names, origin=items.spec)
        return dataclasses.replace(found, pictures=data.small_images(items.column, side=PICTURE_SIDE))

    return Collection((side,), index, tuple(one_line(line) for line in (*items.notes, *items.problems)))


def _of_source(aligner: Aligner, source: data.PairSource, pictures: str | None) -> Collection:
    """Both sides of all splits of a data set, to embed."""
    splits = list(source.splits.values())

    def index(side: str, on_count: OnCount) -> SearchIndex:
        columns = [getattr(split, side) for split in splits]
        total, parts = sum(map(len, columns)), list[np.ndarray]()
        for column in columns:
            before = sum(map(len, parts))

            def count(done: int, of: int, before: int = before) -> None:
                on_count(before + done, total)

            parts.append(embed_in_chunks(aligner, side, column, count))
        vectors = np.concatenate(parts)
        texts = [text for split in splits for text in data.caption_texts(split)]
        ids = np.concatenate([split.ids for split in splits])
        starts = np.cumsum([0, *map(len, splits)])
        owner = np.concatenate([split.b_to_a + start for split, start in zip(splits, starts, strict=False)])
        if side == "b":
            named = [f"of {ids[row]}" for row in owner]
            return SearchIndex(side, vectors, texts, named, origin=source.spec)
        readers = [data.small_images(column, side=PICTURE_SIDE) for column in columns]
        reader: Reader | None = _joined_pictures(readers, starts)
        if reader is None and pictures:
            reader = _pictures_by_name(ids, pathlib.Path(pictures).expanduser(), aligner.folder)
        return SearchIndex(
            side, vectors, ids.tolist(), _first_texts(texts, owner, len(ids)), pictures=reader, origin=source.spec
        )

    return Collection(("a", "b"), index, tuple(one_line(line) for line in (*source.notes, *source.problems)))


def embed_in_chunks(aligner: Aligner, side: str, column: data.Column, on_count: OnCount = no_count) -> np.ndarray:
    """`Aligner.embed_column` that reports how many items are done."""
    column = aligner.with_pixel_range(side, column)
    count, parts = len(column), []
    on_count(0, count)
    for start in range(0, count, _CHUNK):
        rows = np.arange(start, min(start + _CHUNK, count))
        parts.append(aligner.embed_column(side, column.take(rows)))
        on_count(int(rows[-1]) + 1, count)
    return np.concatenate(parts)


def _first_texts(texts: Sequence[str] | np.ndarray, owner: np.ndarray, count: int) -> list[str]:
    """The first text of every item."""
    found = [""] * count
    for text, row in zip(reversed(list(texts)), reversed(np.asarray(owner).tolist()), strict=True):
        found[row] = str(text)
    return found


def _joined_pictures(readers: Sequence[Reader | None], starts: np.ndarray) -> Reader | None:
    if any(reader is None for reader in readers):
        return None

    def read(rows: Sequence[int]) -> dict[int, np.ndarray]:
        found = {}
        for row in rows:
            part = int(np.searchsorted(starts, row, side="right")) - 1
            reader, local = readers[part], row - int(starts[part])
            assert reader is not None
            found[row] = reader([local])[local]
        return found

    return read


def _pictures_by_name(names: Sequence[str] | np.ndarray, folder: pathlib.Path | None, path: pathlib.Path) -> Reader:
    """Reads the items whose names are files in a folder: that one, or the one where the vectors are.

    Raises:
      UserError: there is no such folder.
    """
    if folder is not None and not folder.is_dir():
        raise UserError(f"--images={folder}: no such folder")
    confined = Folder(folder if folder is not None else path.parent)

    def read(rows: Sequence[int]) -> dict[int, np.ndarray]:
        found = {}
        for row in rows:
            # An item without a readable picture is shown by its name.
            with contextlib.suppress(DataError):
                file = confined.find(str(names[row]), where=str(path))
                column = data.ImageColumn((file,)).prepared(PICTURE_SIDE, memory_limit=0, factor=1.0)
                found[row] = column.read(np.zeros(1, np.int64))[0]
        return found

    return read
